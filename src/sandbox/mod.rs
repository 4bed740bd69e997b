//! What the running program cannot do even if somebody breaks into it.
//!
//! Once everything is bound and every right is given up, the program shuts itself in, for good:
//! Landlock leaves it the files and TCP ports that its configuration names, and seccomp the system
//! calls that serving takes. Both hold for the thread that closes them and for those that it makes
//! later, which is why they are closed while there is only one.

mod needs;
mod system;
mod files;
mod fence;
mod calls;
mod attempts;
mod probe;

use std::collections::BTreeMap;
use std::fmt;
use std::iter;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use self::calls::Calls;
use self::files::Grants;
pub use self::needs::Needs;
use self::needs::Place;
pub use self::probe::{Probe, Verdict, probe};
use crate::config::Sandbox;
use crate::exit;

/// The closed sandbox: what it leaves, and what the kernel could not close.
#[derive(Debug, Default)]
pub struct Closed {
    mode: Sandbox,
    /// The version of Landlock's interface; `None` where the kernel has none.
    landlock: Option<u32>,
    /// Whether files, TCP ports and system calls are limited.
    files: bool,
    ports: bool,
    calls: bool,
    /// Paths from which it may read, and in which it may write.
    reads: Vec<String>,
    writes: Vec<String>,
    /// TCP ports; 0 is any that is free.
    binds: Vec<u16>,
    connects: Vec<u16>,
    /// Whether it may look up names.
    names: bool,
    /// System calls that are left.
    call_count: usize,
    /// What this kernel cannot limit, one sentence each.
    missing: Vec<String>,
    grants: Grants,
    /// What is to be read time and again for as long as the process lives.
    watched: Option<Place>,
    notes: Vec<String>,
    /// Open, so that the kernel keeps what the rights are tied to.
    _held: Vec<landlock::PathFd>,
}

/// Shuts the process in: to be called on the only thread, once every right is given up. What the
/// kernel cannot limit is said in the result; with [`Sandbox::Off`] nothing is limited.
///
/// # Errors
/// When there are other threads already, when the kernel refuses a step for another reason than
/// that it lacks it, or when it lacks something and the mode is [`Sandbox::Require`]. The program
/// must not serve then.
pub fn close(needs: &Needs, mode: Sandbox) -> Result<Closed, SandboxError> {
    match threads() {
        Some(threads) if threads != 1 && mode != Sandbox::Off => {
            Err(SandboxError::Threads(threads))
        }
        _ => close_here(needs, mode),
    }
}

/// The same for this thread and its children, wherever other threads are.
fn close_here(needs: &Needs, mode: Sandbox) -> Result<Closed, SandboxError> {
    if mode == Sandbox::Off {
        return Ok(Closed { mode, ..Closed::default() });
    }
    let mut closed = fence::close(needs).map_err(SandboxError::Landlock)?;
    closed.mode = mode;
    if closed.files && fence::is_open(&closed.reads) {
        return Err(SandboxError::Open);
    }
    match (Calls { names: needs.names.is_some(), listens: needs.listens }).close() {
        Ok(count) => (closed.calls, closed.call_count) = (true, count),
        Err(lack) => closed.missing.push(lack),
    }
    if mode == Sandbox::Require && !closed.missing.is_empty() {
        return Err(SandboxError::Missing(closed.missing));
    }
    Ok(closed)
}

/// How many threads this process has, where `/proc` tells.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

impl Closed {
    /// Says in the log what is closed, what is missing, and what could be arranged better.
    pub fn tell(&self) {
        if self.mode == Sandbox::Off {
            return tracing::warn!("{self}");
        }
        tracing::info!("{self}");
        for lack in &self.missing {
            tracing::warn!("the sandbox has a gap on this host: {lack}");
        }
        for note in &self.notes {
            tracing::warn!("{note}");
        }
    }

    /// For `portcullis status`.
    #[must_use]
    pub fn status(&self) -> Value {
        json!({
            "mode": self.mode.to_string(),
            "summary": self.to_string(),
            "landlock": self.landlock,
            "files": self.files,
            "ports": self.ports,
            "calls": self.calls,
            "reads": self.reads,
            "writes": self.writes,
            "binds": self.binds,
            "connects": self.connects,
            "names": self.names,
            "missing": self.missing,
        })
    }

    /// What the process has lost since: the list of name servers, where another file has taken its
    /// place and no link led to it. The C library goes on without a word, and without servers.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let place = self.watched.as_ref().filter(|_| self.files)?;
        let key = place.key.as_deref().unwrap_or_default();
        self.grants.cover(place).is_err().then(|| {
            format!("{key} was replaced after the sandbox closed and cannot be read: restart")
        })
    }

    /// Whether a configuration with these needs can be served from within.
    ///
    /// # Errors
    /// The keys that exceed what is closed, one on each line, and what takes them.
    pub fn admits(&self, needs: &Needs) -> Result<(), String> {
        let mut lines = needs.exceeding(self);
        if lines.is_empty() {
            return Ok(());
        }
        lines.push(format!(
            "a restart takes it: `kill -USR2 {}` does that without losing a connection",
            std::process::id()
        ));
        Err(lines.join("\n"))
    }

    fn lets_connect(&self, port: u16) -> bool {
        !self.ports || self.connects.contains(&port)
    }

    /// Whether system calls are limited.
    #[must_use]
    pub fn limits_calls(&self) -> bool {
        self.calls
    }

    /// Whether files, TCP ports and system calls are limited, each with its name.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, bool); 3] {
        [("files", self.files), ("ports", self.ports), ("calls", self.calls)]
    }
}

/// Whether something else than the mode of a file keeps this process from reading it: a sandbox,
/// this one or another.
#[must_use]
pub fn keeps_from(path: &Path) -> bool {
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    // To open a pipe would wait for its other end.
    path.is_file()
        && std::fs::File::open(path).is_err_and(refused)
        && rustix::fs::access(path, rustix::fs::Access::READ_OK).is_ok()
}

impl Needs {
    /// What serving from these needs would take beyond what is `closed`, one sentence for each key.
    /// Of ports only those of authorities are compared: the others are taken by the helper for the
    /// process.
    #[must_use]
    pub fn exceeding(&self, closed: &Closed) -> Vec<String> {
        let mut told = BTreeMap::new();
        if let (Some((key, name)), false, true) = (&self.names, closed.names, closed.calls) {
            told.insert(
                key.as_str(),
                format!(
                    "{key}: `{name}` is a name, and the sandbox of the running process was closed \
                     without a right to look up names"
                ),
            );
        }
        for (port, key) in self.own.iter().filter(|(port, _)| !closed.lets_connect(**port)) {
            told.entry(key.as_str()).or_insert_with(|| {
                format!(
                    "{key}: port {port} is none that the sandbox of the running process may \
                     connect to"
                )
            });
        }
        for place in self.places.iter().filter(|_| closed.files) {
            let Some(key) = place.key.as_deref().filter(|key| !told.contains_key(key)) else {
                continue;
            };
            if place.extent == needs::Extent::Here && !place.path.exists() && !place.is_made() {
                continue;
            }
            if let Err(folder) = closed.grants.cover(place) {
                let folder = folder.display();
                let text = format!(
                    "{key} is in {folder}, which the sandbox of the running process does not cover"
                );
                told.insert(key, text);
            }
        }
        told.into_values().collect()
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mode == Sandbox::Off {
            return f.write_str(
                "the sandbox is off (server.sandbox): a break-in could do whatever this user may",
            );
        }
        let mut parts = Vec::new();
        if self.files {
            let (reads, writes) = (self.reads.len(), self.writes.len());
            parts.push(format!(
                "{reads} places to read and {writes} to write (listed by `portcullis status --json`)"
            ));
        }
        if self.ports {
            let (binds, connects) = (ports(&self.binds), ports(&self.connects));
            parts.push(format!("TCP ports to bind: {binds}, to connect to: {connects}"));
        }
        if self.calls {
            parts.push(format!("{} system calls", self.call_count));
        }
        match parts.as_slice() {
            [] => f.write_str("the sandbox could not be closed: this kernel limits nothing"),
            [calls] if self.calls => {
                write!(f, "the sandbox leaves {calls}, and every file and port of this user")
            }
            parts => write!(f, "the sandbox leaves {}", parts.join("; ")),
        }
    }
}

/// Ports that are shown one by one.
const SHOWN: usize = 8;

fn ports(ports: &[u16]) -> String {
    let shown = |port: &u16| match port {
        0 => "any".to_owned(),
        port => port.to_string(),
    };
    match ports {
        [] => "none".to_owned(),
        few if few.len() <= SHOWN => few.iter().map(shown).collect::<Vec<_>>().join(" "),
        many => format!("{} ports", many.len()),
    }
}

/// Why the sandbox is not closed.
#[derive(Debug)]
pub enum SandboxError {
    /// Other threads would stay outside; how many there are.
    Threads(usize),
    /// The kernel refused a step of Landlock.
    Landlock(landlock::RulesetError),
    /// The kernel says that files are limited, and they are not.
    Open,
    /// The kernel lacks this, and the configuration requires it.
    Missing(Vec<String>),
}

impl SandboxError {
    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Landlock(error) if lacks_descriptors(error) => exit::FAILED,
            Self::Missing(_) | Self::Landlock(_) | Self::Open => exit::NOT_PERMITTED,
            Self::Threads(_) => exit::FAILED,
        }
    }
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => {
                write!(f, "the sandbox cannot be closed: there are {count} threads already")
            }
            Self::Landlock(error) if lacks_descriptors(error) => {
                let limit = getrlimit(Resource::Nofile).current;
                let limit = limit.map_or_else(|| "as many".to_owned(), |limit| limit.to_string());
                write!(
                    f,
                    "the sandbox cannot be closed: {error}. This process may have {limit} \
                     descriptors: raise that (LimitNOFILE in a unit, ulimit -n in a shell)"
                )
            }
            Self::Landlock(error) => write!(
                f,
                "the sandbox cannot be closed: {error} (`sandbox = \"off\"` in [server] serves \
                 without it)"
            ),
            Self::Open => f.write_str(
                "not serving, because the sandbox is not closed: the kernel says that Landlock \
                 limits files, and / can still be listed",
            ),
            Self::Missing(missing) => {
                write!(f, "server.sandbox is \"require\", and on this host {}", missing.join("; "))
            }
        }
    }
}

/// Whether there are too many files open, which has nothing to do with rights.
fn lacks_descriptors(error: &landlock::RulesetError) -> bool {
    let mut causes =
        iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let cause = causes.find_map(|error| error.downcast_ref::<std::io::Error>());
    matches!(cause.and_then(Errno::from_io_error), Some(Errno::MFILE | Errno::NFILE))
}

impl std::error::Error for SandboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Landlock(error) => Some(error),
            Self::Threads(_) | Self::Open | Self::Missing(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
