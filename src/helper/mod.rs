//! The helper: a process beside the server that does the few things which the server's sandbox
//! forbids, and only as far as the operator's configuration file says.
//!
//! It is the same program (`process`), started when every right is given up and before the
//! sandbox closes, so that it is as unprivileged as the server but may still open files, bind,
//! connect and execute. One socket pair joins the two; each question and each answer is one packet
//! (`packet`), and it ends when the pair does. What it works on (the path of the file, the
//! program, its arguments, the environment) is fixed at its start: no question can name another.
//! The file it reads itself (`allowed`). So who has broken into the server gains by it what the
//! file grants, and nothing else.

mod program;
mod packet;
mod allowed;
mod process;
mod launch;
pub mod hook;
pub mod client;
pub mod ready;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The verb of the helper, which people have no use for.
const HELPER: &str = "__helper";

/// The verb of the process that becomes the successor.
const LAUNCH: &str = "__launch";

/// The verb of the process that runs a hook.
const HOOK: &str = "__hook";

/// Does what the hidden verbs say, and returns the exit code; `None` for every other command line.
#[must_use]
pub fn verb() -> Option<u8> {
    let mut arguments = env::args_os().skip(1);
    let verb = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    match verb.to_str()? {
        HELPER => Some(process::run(rest)),
        LAUNCH => Some(launch::run(&rest)),
        HOOK => Some(hook::attendant::run(rest)),
        _ => None,
    }
}

/// A question on its way, with a number that its answer repeats.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    number: u64,
    question: Question,
}

/// What the server may ask for. Addresses are compared with those of the file, never used as they
/// come, but for the IP address of an application that the file calls by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    /// The configuration file, open for reading.
    Config,
    /// A file of certificates or keys that the file names, open for reading.
    File { path: PathBuf },
    /// A listener of the file, bound: `http` or `https`, and the address as the file has it.
    Bind { kind: String, listen: String, beside: bool },
    /// The listener of `admin.metrics`, bound.
    Metrics,
    /// The beginning of a connection to an application of the file.
    Connect { host: String, address: std::net::SocketAddr },
    /// The hook of `acme.dns.exec`, run; what comes of it is told on the descriptor of the answer.
    Hook { action: hook::Action, name: String, value: String },
    /// The new program, started with the descriptors that come along under these names.
    Upgrade { names: Vec<String> },
    /// The new program serves: from now on it is nobody's to end.
    Release,
    /// No new program: what was started is ended, and how it ended is told.
    Abandon,
}

/// An answer on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Answered {
    number: u64,
    answer: Result<Granted, Refused>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Granted {
    /// The descriptor that comes along.
    Descriptor,
    /// The new program has been started.
    Started { pid: u32 },
    /// There is nothing to end any more.
    Released,
    /// There is no new program any more, and this is how it ended.
    Ended { how: String },
}

/// Why the helper did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For the operator.
    pub text: String,
    /// The kernel's answer, where it is the reason.
    pub errno: Option<i32>,
}

impl Refused {
    /// Whether a right is missing.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let kind = self.errno.map(|errno| io::Error::from_raw_os_error(errno).kind());
        kind == Some(io::ErrorKind::PermissionDenied)
    }

    fn because(text: impl Into<String>) -> Self {
        Self { text: text.into(), errno: None }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self { text: error.to_string(), errno: error.raw_os_error() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
