//! Programs that others wrote, where they are installed, and the verbs of ours.

use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::process::Command;

use super::{LONG_PATIENCE, wait_within};

/// The binary under test.
pub const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

/// Runs a verb of the program to its end.
#[track_caller]
pub fn portcullis(arguments: &[&str]) -> Output {
    run(Command::new(PORTCULLIS).args(arguments))
}

/// Runs a command to its end, for a bounded time.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_within(LONG_PATIENCE, command)
}

/// The same for a command that may take its time.
#[track_caller]
pub fn run_within(patience: Duration, command: &mut Command) -> Output {
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    wait_within(patience, "a command to end", async { command.output().await }).unwrap()
}

/// The command `name`, or a word that the test is skipped.
pub fn find(name: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found.map(Command::new)
}

/// A Python that has this module, or a word that the test is skipped.
pub fn python_with(module: &str) -> Option<Command> {
    let import = format!("import {module}");
    for python in ["/usr/bin/python3", "python3"] {
        let tried = std::process::Command::new(python).args(["-c", &import]).output();
        if tried.is_ok_and(|output| output.status.success()) {
            return Some(Command::new(python));
        }
    }
    skip(&format!("Python's {module} is not installed"));
    None
}

/// Runs a shell script in namespaces of its own: an empty network with loopback up, `/var/lib` and
/// `/run` empty, and `portcullis` as a command. `None`, with a word, where that is not allowed.
#[track_caller]
pub fn alone(script: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        skip("only root may make a network namespace");
        return None;
    }
    let mut unshare = find("unshare")?;
    find("ip")?;
    let folder = super::proxy::folder();
    let script = format!(
        "{PROLOGUE}\n{FUNCTIONS}\ncd {home}; export HOME={home}\n\
         ln -s {PORTCULLIS} portcullis; PATH={home}:$PATH\n{script}",
        home = folder.path().display(),
    );
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let output = run(unshare.args(["bash", "-c", &script]));
    if output.status.code() == Some(NOT_ALLOWED) || stderr(&output).contains("unshare failed") {
        skip("this host does not let root make namespaces");
        return None;
    }
    Some(stdout(&output) + &stderr(&output))
}

const NOT_ALLOWED: i32 = 99;

const PROLOGUE: &str = "\
    mount -t tmpfs none /var/lib && mount -t tmpfs none /run && ip link set lo up || exit 99";

/// What a script in namespaces of its own may call.
pub(super) const FUNCTIONS: &str = "\
    # until COMMAND: tries it again and again, for ten seconds
    until_ok() { for _ in $(seq 200); do \"$@\" && return; sleep 0.05; done; echo \"no: $*\"; }
    # serve PORT: an app that speaks HTTP there
    serve() {
        python3 -m http.server \"$1\" --bind 127.0.0.1 >/dev/null 2>&1 &
        until_ok bash -c \"exec 3<>/dev/tcp/127.0.0.1/$1\" 2>/dev/null
    }";

/// A port that nobody has on any address, for TCP and UDP, outside of those that the system gives
/// to whoever names none: nobody takes it until the test does, nor beside it on another address.
pub fn own_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..30_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Each process begins elsewhere.
    let first = std::process::id().wrapping_mul(97);
    let ports = std::iter::repeat_with(|| {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        (PORTS.start + next % PORTS.len() as u32) as u16
    });
    let is_free = |port: &u16| {
        let everywhere = (Ipv6Addr::UNSPECIFIED, *port);
        TcpListener::bind(everywhere).is_ok() && UdpSocket::bind(everywhere).is_ok()
    };
    ports.take(PORTS.len()).find(is_free).expect("a free port")
}

/// Says on the terminal, past the capture of the test runner, that something was not tested.
pub fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
