//! The other end of the control socket: how verbs ask the running server.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

pub use super::admin::Question;

/// A reload of many sites takes a while; nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

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
pub fn ask(socket: &Path, question: Question) -> Result<Value, AskError> {
    let ask = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let text = serde_json::to_string(&question).map_err(io::Error::other)?;
        stream.write_all(format!("{text}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    };
    ask().map_err(|source| AskError { socket: socket.display().to_string(), source })
}
