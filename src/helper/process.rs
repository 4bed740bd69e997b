//! The helper's own process: one question after the other, until the server is gone.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketType;
use socket2::{Domain, Protocol, Socket, Type};

use super::allowed::{Allowed, listener};
use super::hook::{self, Action};
use super::launch::{self, Launch};
use super::{Answered, Asked, Granted, Question, Refused, packet};
use crate::control::files;
use crate::downstream::bind::{ListenerKind, bind_one, bind_shared};
use crate::exit;
use crate::privilege::explain::When;

/// How long a new program that is not wanted any more may take to end before it is killed.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long one that has said its last word may take to end by itself.
const MOMENT: Duration = Duration::from_millis(200);

/// How often to look whether it has.
const GLANCE: Duration = Duration::from_millis(10);

/// How often to look for a new program that has ended by itself.
const REAP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The longest text of an answer, in bytes: it has to fit into a packet.
const TEXT: usize = 16 * 1024;

/// The hidden verb: serves on standard input, which is the one end of a pair.
pub(super) fn run(arguments: Vec<OsString>) -> u8 {
    let pair = rustix::stdio::stdin();
    if !rustix::net::sockopt::socket_type(pair).is_ok_and(|kind| kind == SocketType::SEQPACKET) {
        eprintln!("portcullis: this is what `portcullis run` starts beside itself");
        return exit::USAGE;
    }
    let Some(mut helper) = Helper::from_arguments(arguments) else { return exit::USAGE };
    if let Err(error) = withdraw() {
        eprintln!("portcullis: the helper cannot give up what it does not need: {error}");
        return exit::NOT_PERMITTED;
    }
    match pair.try_clone_to_owned() {
        Ok(pair) => {
            // What the file names now may be opened later, whatever becomes of the file.
            let _ = helper.allowed.config();
            helper.serve(&pair);
            // A server that is gone without a word waits for nobody, and who is not ready holds its
            // sockets without serving on them.
            helper.abandon();
        }
        Err(_) => return exit::FAILED,
    }
    exit::OK
}

/// What this process neither needs nor should be reached by.
fn withdraw() -> io::Result<()> {
    let _ = rustix::thread::set_name(c"portcullis-help");
    // The server's end is ours; whoever stops the service tells the server.
    SigSet::all().thread_block()?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// What it works on, and the new program while there is one.
pub(super) struct Helper {
    allowed: Allowed,
    program: PathBuf,
    arguments: Vec<OsString>,
    successor: Option<Child>,
    /// Those who run hooks. Each ends by itself, and outlives this process where it must.
    hooks: Vec<Child>,
}

/// An answer and what goes with it.
type Answer = Result<(Granted, Option<OwnedFd>), Refused>;

impl Helper {
    pub(super) fn new(file: Option<PathBuf>, program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { allowed: Allowed::by(file), program, arguments, successor: None, hooks: Vec::new() }
    }

    /// From what [`super::client::Helper::start`] has put together.
    fn from_arguments(arguments: Vec<OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let (program, file) = (arguments.next()?, arguments.next()?);
        let file = Some(file).filter(|file| !file.is_empty()).map(PathBuf::from);
        Some(Self::new(file, program.into(), arguments.collect()))
    }

    /// Answers until the other end is gone.
    pub(super) fn serve(&mut self, pair: &OwnedFd) {
        loop {
            if !self.wait(pair) {
                continue;
            }
            match packet::receive::<Asked>(pair) {
                Ok(Some((asked, descriptors))) => {
                    let is_reload = asked.question == Question::Config;
                    let answer = self.answer(asked.question, descriptors);
                    if tell(pair, asked.number, answer).is_err() {
                        return;
                    }
                    if is_reload {
                        // What it names now may be connected to, whatever becomes of the file.
                        let _ = self.allowed.config();
                    }
                }
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A packet that says nothing gets no answer; a pair that is broken is the end.
                Err(error) if error.raw_os_error().is_none() => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for a question; false when it should be waited again.
    fn wait(&mut self, pair: &OwnedFd) -> bool {
        // How it ended stays known to the `Child`.
        let runs =
            self.successor.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        self.reap();
        poll_for(pair, (runs || !self.hooks.is_empty()).then_some(&REAP))
    }

    fn reap(&mut self) {
        self.hooks.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    fn answer(&mut self, question: Question, descriptors: Vec<OwnedFd>) -> Answer {
        match question {
            Question::Config => {
                let file = self.allowed.open()?;
                Ok((Granted::Descriptor, Some(file.into())))
            }
            Question::File { path } => {
                let file = self.allowed.open_named(&path)?;
                Ok((Granted::Descriptor, Some(file.into())))
            }
            Question::Bind { kind, listen, beside } => self.bind(&kind, &listen, beside),
            Question::Metrics => {
                let address = self.allowed.config()?.admin.metrics;
                let none = || Refused::because("the configuration file has no admin.metrics");
                let listener = files::bind_metrics(address.ok_or_else(none)?)
                    .map_err(|error| error.explain(When::Running, None))?;
                Ok((Granted::Descriptor, Some(listener.into())))
            }
            Question::Connect { host, address } => {
                self.allowed.may_connect(&host, address)?;
                Ok((Granted::Descriptor, Some(begin(address)?.into())))
            }
            Question::Hook { action, name, value } => self.run_hook(action, &name, &value),
            Question::Upgrade { names } => self.upgrade(names, descriptors),
            Question::Release => {
                self.successor = None;
                Ok((Granted::Released, None))
            }
            Question::Abandon => Ok((Granted::Ended { how: self.abandon() }, None)),
        }
    }

    fn bind(&mut self, kind: &str, listen: &str, beside: bool) -> Answer {
        let config = self.allowed.config()?;
        let Some(listen) = listener(&config, kind, listen) else {
            let text = format!("the configuration file has no {kind} listener on {listen}");
            return Err(Refused::because(text));
        };
        let kind = if kind == "https" { ListenerKind::Https } else { ListenerKind::Http };
        let bound = if beside { bind_shared(kind, listen) } else { bind_one(kind, listen) };
        let mut bound = bound.map_err(|error| Refused {
            text: error.explain_when(When::Running),
            errno: error.source.raw_os_error(),
        })?;
        let first = bound.pop().ok_or_else(|| Refused::because("nothing was bound"))?;
        Ok((Granted::Descriptor, Some(first.socket.into())))
    }

    fn run_hook(&mut self, action: Action, name: &str, value: &str) -> Answer {
        self.reap();
        if self.hooks.len() >= hook::AT_ONCE {
            let text = format!("{} hooks are running already", self.hooks.len());
            return Err(Refused::because(text));
        }
        let errand = self.allowed.hook(name, value)?;
        let (child, ours) = errand.start(action, name, value)?;
        self.hooks.push(child);
        Ok((Granted::Descriptor, Some(ours)))
    }

    fn upgrade(&mut self, names: Vec<String>, descriptors: Vec<OwnedFd>) -> Answer {
        if let Some(child) = &mut self.successor
            && child.try_wait()?.is_none()
        {
            let text = format!("process {} has been started already", child.id());
            return Err(Refused::because(text));
        }
        let launch = Launch::new(names, descriptors)?;
        let child = launch.start(&self.program, &self.arguments)?;
        let pid = child.id();
        self.successor = Some(child);
        Ok((Granted::Started { pid }, None))
    }

    /// Ends the new program, if it has not ended; says how it ended.
    fn abandon(&mut self) -> String {
        let Some(mut child) = self.successor.take() else {
            return "it was never started".to_owned();
        };
        if let Some(status) = wait_for(&mut child, MOMENT) {
            return format!("it ended with {status}");
        }
        let _ = launch::terminate(&child);
        if let Some(status) = wait_for(&mut child, FAREWELL) {
            return format!("it was told to end: it ended with {status}");
        }
        let _ = launch::kill(&child);
        let _ = child.wait();
        "it did not end when it was told to and was killed".to_owned()
    }
}

fn tell(pair: &OwnedFd, number: u64, answer: Answer) -> io::Result<()> {
    let (answer, descriptor) = match answer {
        Ok((granted, descriptor)) => (Ok(granted), descriptor),
        Err(refused) => (Err(shortened(refused)), None),
    };
    let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    packet::send(pair, &Answered { number, answer }, &descriptors)
}

fn shortened(mut refused: Refused) -> Refused {
    if refused.text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|at| refused.text.is_char_boundary(*at)).unwrap_or(0);
        refused.text.truncate(end);
        refused.text.push_str("\n…");
    }
    refused
}

fn wait_for(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        let status = child.try_wait().ok()?;
        if status.is_some() || Instant::now() >= deadline {
            return status;
        }
        thread::sleep(GLANCE);
    }
}

/// Whether there is something to read, waited for as long as `patience`.
fn poll_for(pair: &OwnedFd, patience: Option<&Timespec>) -> bool {
    let mut fds = [PollFd::new(pair, PollFlags::IN)];
    poll(&mut fds, patience).is_ok_and(|ready| ready > 0)
}

/// A connection to `address` that is on its way.
fn begin(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::super::client::{Line, NoHelp};
    use super::*;
    use crate::config::Listen;

    /// A helper in a thread, for a file with this text.
    struct Fixture {
        file: PathBuf,
        line: Line,
        _folder: tempfile::TempDir,
    }

    fn helper(text: &str) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portcullis.toml");
        std::fs::write(&file, text).unwrap();
        let (ours, theirs) = packet::pair().unwrap();
        let mut helper = Helper::new(Some(file.clone()), "/bin/true".into(), Vec::new());
        thread::spawn(move || helper.serve(&theirs));
        Fixture { file, line: Line::over(ours), _folder: folder }
    }

    fn file(http: &str, app: SocketAddr) -> String {
        format!(
            "[server]\nhttp = '{http}'\nhttps = []\n[[site]]\nhost = 'a.test'\n\
             redirect = 'off'\nto = '{app}'\n"
        )
    }

    fn text(error: &NoHelp) -> String {
        error.to_string()
    }

    #[tokio::test]
    async fn what_the_file_names_is_had_and_nothing_else() {
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = app.local_addr().unwrap();
        let fixture = helper(&file("127.0.0.1:0", place));
        let line = &fixture.line;
        let opened = line.open_config().await.unwrap();
        let read = std::io::read_to_string(opened).unwrap();
        assert_eq!(read, std::fs::read_to_string(&fixture.file).unwrap());

        let asked = Listen::Addr("127.0.0.1:0".parse().unwrap());
        let bound = line.bind(ListenerKind::Http, asked, false).await.unwrap();
        std::net::TcpStream::connect(bound.local_addr().unwrap()).unwrap();
        for (kind, listen) in [(ListenerKind::Https, asked), (ListenerKind::Http, Listen::Any(0))] {
            let refused = line.bind(kind, listen, false).await.unwrap_err();
            assert!(text(&refused).contains("the configuration file has no"), "{refused}");
        }
        let refused = line.bind_metrics().await.unwrap_err();
        assert!(text(&refused).contains("no admin.metrics"), "{refused}");

        let mut stream = line.connect("127.0.0.1", place).await.unwrap();
        let (mut accepted, _) = app.accept().unwrap();
        accepted.write_all(b"hello").unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut heard = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut heard).unwrap();
        let elsewhere = bound.local_addr().unwrap();
        let refused = line.connect("127.0.0.1", elsewhere).await.unwrap_err();
        assert!(text(&refused).contains("names no application"), "{refused}");
    }

    #[tokio::test]
    async fn a_taken_listener_is_explained() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = taken.local_addr().unwrap();
        let fixture = helper(&file(&place.to_string(), "127.0.0.1:9".parse().unwrap()));
        let asked = fixture.line.bind(ListenerKind::Http, Listen::Addr(place), false).await;
        let NoHelp::Refused(refused) = asked.unwrap_err() else { panic!("no answer") };
        assert!(refused.text.contains("is held by"), "{refused}");
        assert_eq!(refused.errno, Some(Errno::ADDRINUSE.raw_os_error()));
        assert!(!refused.is_permission());
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_the_kernels_word() {
        let fixture = helper(&file("127.0.0.1:0", "127.0.0.1:9".parse().unwrap()));
        std::fs::remove_file(&fixture.file).unwrap();
        let error = io::Error::from(fixture.line.open_config().await.unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_hook_that_the_file_does_not_name_is_not_run() {
        let fixture = helper(&file("127.0.0.1:0", "127.0.0.1:9".parse().unwrap()));
        let proof = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        let name = "_acme-challenge.a.test";
        let asked = fixture.line.hook(Action::Present, name, proof, FAREWELL).await;
        assert!(text(&asked.unwrap_err()).contains("no `exec` in [acme.dns]"));
    }

    #[tokio::test]
    async fn an_upgrade_that_never_began_has_an_end_too() {
        let fixture = helper("");
        assert_eq!(fixture.line.abandon().await.unwrap(), "it was never started");
        let socket = OwnedFd::from(UnixStream::pair().unwrap().0);
        let refused = fixture.line.upgrade(vec![("shell".to_owned(), socket)]).await.unwrap_err();
        assert!(text(&refused).contains("named sockets"), "{refused}");
    }

    #[tokio::test]
    async fn a_helper_that_is_gone_is_noticed_at_once() {
        let (ours, theirs) = packet::pair().unwrap();
        let line = Line::over(ours);
        let asked = line.open_config();
        // It has heard the question when it dies.
        let gone = tokio::task::spawn_blocking(move || {
            packet::receive::<Asked>(&theirs).unwrap().unwrap();
        });
        let (answer, died) = tokio::join!(asked, gone);
        died.unwrap();
        assert_eq!(answer.unwrap_err(), NoHelp::Gone);
        assert_eq!(line.open_config().await.unwrap_err(), NoHelp::Gone);
        assert!(line.is_gone());
    }

    #[test]
    fn a_long_report_is_cut_between_characters() {
        let long = shortened(Refused::because("ä".repeat(TEXT)));
        assert!(long.text.len() <= TEXT + 4 && long.text.ends_with("ä\n…"));
        assert_eq!(shortened(Refused::because("short")).text, "short");
    }
}
