//! The other end of the control socket: how verbs ask the running server.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

pub use super::admin::Question;
use crate::privilege::explain::Serving;

/// A reload of many sites takes a while; nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// For a question whose answer can be done without.
const SOON: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub struct AskError {
    /// The socket.
    pub socket: String,
    /// What went wrong.
    pub source: io::Error,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, source } = self;
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                write!(f, "no server is running with the control socket {socket}")
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "the control socket {socket} is not yours to use: ask as the user that the server \
                 runs as, or as root"
            ),
            _ => write!(f, "the control socket {socket} gave no answer: {source}"),
        }
    }
}

/// Asks the server behind `socket`.
///
/// # Errors
/// When nobody answers there.
pub fn ask(socket: &Path, question: &Question) -> Result<Value, AskError> {
    ask_within(PATIENCE, socket, question)
}

/// What the server behind `socket` says of itself; `None` where nobody answers soon.
#[must_use]
pub fn status(socket: &Path) -> Option<Value> {
    let mut answer = ask_within(SOON, socket, &Question::Status).ok()?;
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

fn ask_within(patience: Duration, socket: &Path, question: &Question) -> Result<Value, AskError> {
    let ask = || {
        let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        stream.set_read_timeout(Some(patience))?;
        // For the connection too, which waits where many ask.
        stream.set_write_timeout(Some(patience))?;
        stream.connect(&SockAddr::unix(socket)?)?;
        let mut stream = UnixStream::from(OwnedFd::from(stream));
        let text = serde_json::to_string(question).map_err(io::Error::other)?;
        stream.write_all(format!("{text}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    };
    ask().map_err(|source| AskError { socket: socket.display().to_string(), source })
}
