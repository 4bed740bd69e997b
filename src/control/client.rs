//! The other end of the control socket: how verbs ask the running server.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

pub use super::admin::Question;
use crate::exit;
use crate::privilege::explain::Serving;

/// How long the server may take to begin with a question, and to have answered it, from when it is
/// asked.
#[derive(Clone, Copy)]
struct Patience {
    begin: Duration,
    answer: Duration,
}

impl Patience {
    /// What is answered from memory comes at once, and what takes work takes as long as the work.
    fn with(question: &Question) -> Self {
        let seconds = |begin, answer| Self {
            begin: Duration::from_secs(begin),
            answer: Duration::from_secs(answer),
        };
        match question {
            Question::Status | Question::Metrics => seconds(5, 5),
            Question::Renew { .. } => seconds(5, 10),
            Question::Certificates { .. } | Question::HstsList | Question::Hsts { .. } => {
                seconds(5, 20)
            }
            // Many sites, and an authority.
            Question::Reload { .. } | Question::Revoke { .. } => seconds(10, 60),
        }
    }
}

/// For a question whose answer can be done without.
const SOON: Patience = Patience { begin: Duration::from_secs(2), answer: Duration::from_secs(2) };

/// When people are told that something is waited for.
const UNEASY: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Debug)]
pub struct AskError {
    /// The socket.
    pub socket: String,
    /// What went wrong.
    pub source: io::Error,
    /// The process that holds the socket, where it could be connected to.
    pid: Option<i32>,
    /// How long it was waited for, in seconds.
    waited: u64,
    /// Whether it had begun with the question.
    was_begun: bool,
}

impl AskError {
    /// Whether no server runs there.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    }

    /// Whether this user may not ask.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// What a verb ends with that could not do without.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, source, waited, .. } = self;
        let process = self.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        match source.kind() {
            _ if self.is_nobody() => {
                write!(f, "no server is running with the control socket {socket}")
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "the control socket {socket} is not yours to use: ask as the user that the server \
                 runs as, or as root"
            ),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock if self.was_begun => write!(
                f,
                "the server{process} has begun with this and has not done it within {waited} s; it \
                 may yet be done: its log tells"
            ),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                write!(f, "the server{process} does not answer within {waited} s")?;
                if let Some(pid) = self.pid.filter(|pid| is_stopped(*pid)) {
                    write!(f, " (it is stopped: `kill -CONT {pid}` has it go on)")?;
                }
                f.write_str("; it has not begun with this, and will not")
            }
            _ => write!(f, "the control socket {socket} gave no answer: {source}"),
        }
    }
}

/// Whether a process is stopped by a signal, or by who debugs it (proc_pid_stat(5)).
fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// Asks the server behind `socket`. Each question has its time, after which a server that has not
/// begun with it never will: it looks whether anybody waits. People are told when it takes long.
///
/// # Errors
/// When nobody answers there.
pub fn ask(socket: &Path, question: &Question) -> Result<Value, AskError> {
    Conversation::default().hold(socket, question, Patience::with(question), true)
}

/// What the server behind `socket` says of itself; `None` where nobody answers soon.
#[must_use]
pub fn status(socket: &Path) -> Option<Value> {
    let question = Question::Status;
    let mut answer = Conversation::default().hold(socket, &question, SOON, false).ok()?;
    answer.get_mut("status").map(Value::take)
}

/// Who serves behind the control socket of a configuration, which `file` is; `None` where nobody
/// answers soon.
#[must_use]
pub fn serving(socket: &Path, file: Option<&Path>) -> Option<Serving> {
    let status = status(socket)?;
    let pid = status.get("pid")?.as_u64()?.try_into().ok()?;
    let listeners = status.get("listeners").and_then(Value::as_array).into_iter().flatten();
    let listeners = listeners.chain(status.get("metrics")).filter_map(Value::as_str);
    // `https://[::]:443`
    let addresses = listeners.filter_map(|it| it.rsplit('/').next()?.parse().ok()).collect();
    Some(Serving { pid, addresses, file: file.map(Path::to_owned) })
}

/// What is known of a conversation while it is held.
#[derive(Default)]
struct Conversation {
    pid: Option<i32>,
    answer: Vec<u8>,
}

impl Conversation {
    fn hold(
        mut self,
        socket: &Path,
        question: &Question,
        patience: Patience,
        tells: bool,
    ) -> Result<Value, AskError> {
        let since = Instant::now();
        self.exchange(socket, question, (since, patience), tells).map_err(|source| AskError {
            socket: socket.display().to_string(),
            source,
            pid: self.pid,
            waited: since.elapsed().as_secs(),
            was_begun: !self.answer.is_empty(),
        })
    }

    fn exchange(
        &mut self,
        socket: &Path,
        question: &Question,
        (since, patience): (Instant, Patience),
        tells: bool,
    ) -> io::Result<Value> {
        let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // For the connection too, which waits where many ask.
        stream.set_write_timeout(Some(patience.begin))?;
        stream.connect(&SockAddr::unix(socket)?)?;
        let mut stream = UnixStream::from(OwnedFd::from(stream));
        let peer = socket_peercred(&stream).ok();
        self.pid = peer.map(|peer| peer.pid.as_raw_nonzero().get());
        let text = serde_json::to_string(question).map_err(io::Error::other)?;
        stream.write_all(format!("{text}\n").as_bytes())?;
        let mut is_told = !tells;
        let mut room = vec![0; 1 << 16];
        loop {
            let most = if self.answer.is_empty() { patience.begin } else { patience.answer };
            let left = most.saturating_sub(since.elapsed());
            if left.is_zero() {
                return self.give_up(&mut stream, &mut room);
            }
            let uneasy = UNEASY.saturating_sub(since.elapsed());
            if !is_told && uneasy.is_zero() {
                is_told = true;
                let process = self.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
                let most = most.as_secs();
                let _ = writeln!(
                    io::stderr(),
                    "portcullis: waiting for the server{process}, for {most} s at most"
                );
            }
            let pause = if is_told { left } else { left.min(uneasy) };
            stream.set_read_timeout(Some(pause.max(Duration::from_millis(1))))?;
            let read = match stream.read(&mut room) {
                Ok(0) => return Err(io::Error::other("it was closed at the other end")),
                Ok(read) => room.get(..read).unwrap_or_default(),
                Err(error) if is_passing(error.kind()) => continue,
                Err(error) => return Err(error),
            };
            self.answer.extend_from_slice(read);
            if read.contains(&b'\n') {
                return serde_json::from_slice(&self.answer).map_err(io::Error::other);
            }
        }
    }
}

impl Conversation {
    /// From here on the server cannot tell that it begins, and so does not; whether it has is told
    /// by what has come until now.
    fn give_up(&mut self, stream: &mut UnixStream, room: &mut [u8]) -> io::Result<Value> {
        stream.shutdown(Shutdown::Read)?;
        let read = stream.read(room).unwrap_or_default();
        self.answer.extend_from_slice(room.get(..read).unwrap_or_default());
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn is_passing(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(kind, Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Asks in vain; `begins` says whether the server begins with the question.
    fn in_vain(begins: bool) -> (AskError, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let soon = Duration::from_millis(300);
        let asked = std::thread::spawn(move || {
            let patience = Patience { begin: soon, answer: soon };
            Conversation::default().hold(&path, &Question::Status, patience, false).unwrap_err()
        });
        let (mut stream, _) = listener.accept().unwrap();
        if begins {
            stream.write_all(b" ").unwrap();
        }
        (asked.join().unwrap(), stream)
    }

    /// What was asked of a server that was stopped was done once it went on.
    #[test]
    fn a_server_finds_out_that_nobody_waits_any_more() {
        let (error, mut stream) = in_vain(false);
        let told = error.to_string();
        let pid = std::process::id();
        assert!(told.contains(&format!("the server (process {pid}) does not answer")), "{told}");
        assert!(told.contains("has not begun"), "{told}");
        let failed = stream.write_all(b" ").unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(error.code(), exit::FAILED);
    }

    #[test]
    fn what_was_begun_is_not_called_undone() {
        let (error, _) = in_vain(true);
        assert!(error.to_string().contains("may yet be done"), "{error}");
    }
}
