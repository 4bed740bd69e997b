//! The program under test, as a process of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use tempfile::TempDir;

use super::client::Client;
use super::setup::{Setup, Site};
use super::wire::Wire;
use super::{eventually, pki, tools};

/// The name of the site that [`Proxy::to`] makes.
pub const HOST: &str = "app.test";

/// A running proxy with a folder of its own. Dropping it stops it and fails the test when it does
/// not stop well or has panicked.
pub struct Proxy {
    child: Option<Child>,
    folder: TempDir,
    stderr: Collected,
    stdout: Collected,
    setup: Setup,
}

/// Words as they come.
pub type Collected = Arc<Mutex<String>>;

impl Proxy {
    /// One site, `app.test`, in front of this application.
    pub fn to(target: &impl ToString) -> Setup {
        Setup::new().site(Site::named(HOST).to(target))
    }

    /// The same, answering on plain HTTP too.
    pub fn plain_to(target: &impl ToString) -> Setup {
        Setup::new().site(Site::named(HOST).to(target).on_plain_http())
    }

    /// Starts it and waits until it listens everywhere.
    #[track_caller]
    pub fn start(setup: Setup) -> Self {
        let listeners = setup.listeners();
        Self::launch(setup).once_listening(listeners)
    }

    #[track_caller]
    fn once_listening(mut self, listeners: usize) -> Self {
        eventually("the proxy to listen", || {
            let ended = self.child().try_wait().unwrap();
            assert!(ended.is_none(), "{} at start; it said:\n{}", ended.unwrap(), self.words());
            self.listening("http").len() + self.listening("https").len() >= listeners
        });
        self
    }

    /// Starts it without waiting for anything.
    pub fn launch(setup: Setup) -> Self {
        Self::launch_after(setup, |_| {})
    }

    /// The same, after `mend` has changed the files in its folder.
    pub fn launch_after(setup: Setup, mend: impl FnOnce(&Path)) -> Self {
        let folder = folder();
        setup.write(folder.path());
        mend(folder.path());
        let file = folder.path().join("portcullis.toml");
        let mut command = Command::new(tools::PORTCULLIS);
        command.arg("run").arg("-c").arg(file).current_dir(folder.path());
        command.envs(setup.variables().iter().cloned());
        Self::spawn(command, folder, setup)
    }

    /// Starts the program with another verb, in a folder of its own, and never as root.
    pub fn launch_verb(arguments: &[&str]) -> Self {
        let folder = folder();
        let mut command = unprivileged(folder.path());
        command.args(arguments).current_dir(folder.path());
        command.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path().join("data"));
        command.env("XDG_RUNTIME_DIR", folder.path()).env("XDG_STATE_HOME", folder.path());
        Self::spawn(command, folder, Setup::new())
    }

    /// Starts a copy of the program that lies in its folder as `program`, where a test may replace
    /// it, and waits until it listens everywhere. The copy's successors are children of the test's
    /// own process.
    #[track_caller]
    pub fn start_copy(setup: Setup) -> Self {
        Self::start_copy_after(setup, |_| {})
    }

    /// The same, after `mend` has changed the files in its folder.
    #[track_caller]
    pub fn start_copy_after(setup: Setup, mend: impl FnOnce(&Path)) -> Self {
        let folder = folder();
        setup.write(folder.path());
        mend(folder.path());
        let program = folder.path().join("program");
        copy_program(&program);
        let mut command = Command::new(program);
        command.arg("run").arg("-c").arg("portcullis.toml").current_dir(folder.path());
        command.envs(setup.variables().iter().cloned());
        let listeners = setup.listeners();
        Self::spawn(command, folder, setup).once_listening(listeners)
    }

    fn spawn(mut command: Command, folder: TempDir, setup: Setup) -> Self {
        // Successors are waited for, too.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let stderr = collect(child.stderr.take().unwrap());
        let stdout = collect(child.stdout.take().unwrap());
        Self { child: Some(child), folder, stderr, stdout, setup }
    }

    /// Where it listens for plain HTTP (the first such place).
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        *self.listening("http").first().expect("a plain HTTP listener")
    }

    /// Where it listens for HTTPS (the first such place).
    #[track_caller]
    pub fn https(&self) -> SocketAddr {
        *self.listening("https").first().expect("an HTTPS listener")
    }

    /// Where Prometheus may scrape.
    #[track_caller]
    pub fn metrics(&self) -> SocketAddr {
        let mut found = None;
        eventually("the place of the metrics in the log", || {
            let words = self.words();
            let mut lines = words.lines().filter(|line| line.contains("metrics"));
            found = lines.find_map(|line| {
                let mut words = line.split(|c: char| c.is_whitespace() || c == '/');
                words.find_map(|word| word.parse().ok())
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// The root certificate of the local authority that a verb has made in its folder.
    #[track_caller]
    pub fn local_root(&self) -> String {
        let mut found = None;
        eventually("the root of the local authority", || {
            found = file_below(self.folder.path(), "root.pem");
            found.is_some()
        });
        std::fs::read_to_string(found.unwrap()).unwrap()
    }

    /// Waits until a listener of each kind is there.
    #[track_caller]
    pub fn expect_listening(&self) {
        eventually("the listeners", || {
            !self.listening("http").is_empty() && !self.listening("https").is_empty()
        });
    }

    /// All addresses that were logged as `listening SCHEME://ADDRESS`, in that order.
    pub fn listening(&self, scheme: &str) -> Vec<SocketAddr> {
        let mark = format!("listening {scheme}://");
        let words = self.words();
        words
            .split(&mark)
            .skip(1)
            .filter_map(|rest| rest.split(char::is_whitespace).next()?.parse().ok())
            .collect()
    }

    /// An HTTPS client for `app.test`, HTTP/1.1.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.client_for(HOST)
    }

    /// An HTTPS client for another name.
    #[track_caller]
    pub fn client_for(&self, host: &str) -> Client {
        Client::secure(self.https(), host)
    }

    /// A plain HTTP client for `app.test`.
    #[track_caller]
    pub fn plain_client(&self) -> Client {
        Client::plain(self.http(), HOST)
    }

    /// A raw connection in the clear.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::connect(self.http())
    }

    /// A raw connection over TLS to `app.test` that speaks HTTP/1.1.
    #[track_caller]
    pub fn tls_wire(&self) -> Wire {
        let settings = pki::trusting(&["http/1.1"]);
        Wire::try_tls(self.https(), settings, HOST).unwrap()
    }

    /// What it wrote to standard error so far.
    pub fn words(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Waits until standard error contains `text`.
    #[track_caller]
    pub fn expect_words(&self, text: &str) {
        let what = format!("{text:?} in the log");
        eventually(&what, || self.words().contains(text));
    }

    /// The lines of the access log so far.
    pub fn access_log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for the first line of the access log that `wanted` likes.
    #[track_caller]
    pub fn access_line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        eventually("a line in the access log", || {
            found = self.access_log().into_iter().find(|line| wanted(line));
            found.is_some()
        });
        found.unwrap()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its process: the newest one, where one has taken another's place.
    pub fn pid(&self) -> u32 {
        self.successors().pop().unwrap_or_else(|| self.child.as_ref().unwrap().id())
    }

    /// The processes that have taken the place of the first, in their order.
    pub fn successors(&self) -> Vec<u32> {
        self.processes("upgraded: process ")
    }

    /// Has a new process take its place, waits until it serves, and returns its pid.
    #[track_caller]
    pub fn upgrade(&self) -> u32 {
        let before = self.successors().len();
        self.signal(Signal::USR2);
        eventually("a successor", || self.successors().len() > before);
        self.pid()
    }

    /// The pids that follow `mark` in the log.
    fn processes(&self, mark: &str) -> Vec<u32> {
        let words = self.words();
        let rests = words.split(mark).skip(1);
        rests.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
    }

    /// A line of `/proc/PID/status`, in KiB: `VmHWM`, `VmRSS`.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|text| text.strip_prefix(line)).expect("a memory line");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    /// Processor time that it has used, in ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Connections of clients that are open, as it tells over its control socket.
    #[track_caller]
    pub fn connections_open(&self) -> u64 {
        let mut socket = UnixStream::connect(self.path("control.sock")).unwrap();
        socket.write_all(b"{\"command\":\"status\"}\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["status"]["connections"].as_u64().unwrap()
    }

    /// Changes the file; nothing happens until [`reload`](Self::reload) or a HUP.
    pub fn rewrite(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
        self.setup.write(self.folder.path());
    }

    /// Changes the file to this text.
    pub fn rewrite_raw(&self, text: &str) {
        super::setup::write_file(&self.path("portcullis.toml"), text, 0o644);
    }

    /// `portcullis reload -c FILE` and further arguments.
    #[track_caller]
    pub fn reload(&self, arguments: &[&str]) -> Output {
        let file = self.path("portcullis.toml");
        let mut all = vec!["reload", "-c", file.to_str().unwrap()];
        all.extend(arguments);
        tools::portcullis(&all)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid_of(self.pid()), signal).unwrap();
    }

    /// Waits until it has ended, and what it ended with.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the proxy to end", || {
            status = self.child().try_wait().unwrap();
            status.is_some()
        });
        for pid in self.successors() {
            assert_eq!(status.unwrap().code(), Some(0), "a predecessor of {pid}");
            status = Some(wait_for(pid));
        }
        // Only now is it known by another pid than the first.
        drop(self.child.take());
        // Whoever collects its words lets go of them when it has them all.
        let collected = [&self.stdout, &self.stderr];
        eventually("its last words", || collected.iter().all(|c| Arc::strong_count(c) == 1));
        status.unwrap()
    }

    /// Asks it to stop and waits until it has done so, with exit code 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_for_exit();
        assert_eq!(status.code(), Some(0), "{status}; it said:\n{}", self.words());
    }

    /// Ends it at once (SIGKILL), as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the proxy has ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("the proxy has ended")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for pid in self.processes("upgrading: process ") {
                let of_ours = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
                if of_ours.is_ok_and(|line| line.contains("portcullis.toml")) {
                    let _ = kill_process(pid_of(pid), Signal::KILL);
                }
            }
            if let Some(mut child) = self.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            eprintln!("the proxy said:\n{}", self.words());
            return;
        }
        if self.child.is_some() {
            self.stop();
        }
        let words = self.words();
        assert!(!words.contains("panicked at"), "the proxy has panicked:\n{words}");
    }
}

/// A new folder that the proxy may use, whoever it becomes.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("portcullis-").tempdir().unwrap();
    open_to_proxy(folder.path(), 0o755);
    folder
}

/// Gives `path` this mode, and to the user that the proxy becomes when the tests run as root.
pub fn open_to_proxy(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOGROUP)).unwrap();
    }
}

const NOBODY: u32 = 65534;
const NOGROUP: u32 = 65534;

/// Starts `command`. A program that was just written may be open for writing in a process that
/// another test has forked and that has not become its own program yet: that passes.
fn spawn(command: &mut Command) -> Child {
    let mut started = None;
    eventually("the program not to be busy", || match command.spawn() {
        Ok(child) => {
            started = Some(child);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ExecutableFileBusy, "{error}");
            false
        }
    });
    started.unwrap()
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

/// Waits for a successor, which becomes a child of this process when its predecessor has ended.
#[track_caller]
fn wait_for(pid: u32) -> ExitStatus {
    let mut ended = None;
    eventually(&format!("process {pid} to end"), || {
        ended = rustix::process::waitpid(Some(pid_of(pid)), WaitOptions::NOHANG).ok().flatten();
        ended.is_some()
    });
    ExitStatus::from_raw(ended.unwrap().1.as_raw())
}

/// Puts a copy of the program at `path`, in one step.
pub fn copy_program(path: &Path) {
    let draft = path.with_extension("draft");
    // By another process: a fork elsewhere in this one would hold the copy open for writing, and it
    // could not be run (ETXTBSY).
    let copied = Command::new("cp").arg(tools::PORTCULLIS).arg(&draft).status();
    assert!(copied.unwrap().success());
    open_to_proxy(&draft, 0o755);
    std::fs::rename(&draft, path).unwrap();
}

/// The program as a user who owns nothing but `folder`.
pub fn unprivileged(folder: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(tools::PORTCULLIS);
    }
    let program = folder.join("program");
    copy_program(&program);
    // Not nobody: who has run the demo as root has left that user a storage of its own.
    std::os::unix::fs::chown(folder, Some(STRANGER), Some(STRANGER)).unwrap();
    let mut command = Command::new(program);
    command.uid(STRANGER).gid(STRANGER);
    command
}

/// A user and a group that own nothing on this host.
const STRANGER: u32 = 65_533;

fn file_below(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let found = files.into_iter().find(|path| path.ends_with(name));
    found.or_else(|| folders.iter().find_map(|folder| file_below(folder, name)))
}

/// Reads everything that comes, on a thread of its own.
pub fn collect(mut from: impl Read + Send + 'static) -> Collected {
    let text = Collected::default();
    let into = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    text
}
