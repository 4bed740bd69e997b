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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use self::calls::Calls;
use self::files::Grants;
pub use self::needs::Needs;
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
    if mode == Sandbox::Off {
        return Ok(Closed { mode, ..Closed::default() });
    }
    if let Some(threads) = threads().filter(|threads| *threads != 1) {
        return Err(SandboxError::Threads(threads));
    }
    let mut closed = fence::close(needs).map_err(SandboxError::Landlock)?;
    closed.mode = mode;
    match (Calls { names: needs.names.is_some() }).close() {
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

    /// Whether files, TCP ports and system calls are limited, each with its name.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, bool); 3] {
        [("files", self.files), ("ports", self.ports), ("calls", self.calls)]
    }
}

impl Needs {
    /// What serving from these needs would take beyond what is `closed`, one sentence for each key.
    /// Only files are compared: ports that were not known are taken by others for the process.
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
        let ports = |ports: &[u16]| {
            let ports: BTreeSet<String> = ports
                .iter()
                .map(|port| if *port == 0 { "any free one".to_owned() } else { port.to_string() })
                .collect();
            if ports.is_empty() {
                "none".to_owned()
            } else {
                ports.into_iter().collect::<Vec<_>>().join(", ")
            }
        };
        f.write_str("the sandbox is closed")?;
        let mut separator = ": ";
        let mut part = |text: String| {
            let text = format!("{separator}{text}");
            separator = "; ";
            text
        };
        if self.files {
            let (reads, writes) = (self.reads.len(), self.writes.len());
            f.write_str(&part(format!("reads {reads} places and writes {writes}")))?;
        }
        if self.ports {
            let (binds, connects) = (ports(&self.binds), ports(&self.connects));
            f.write_str(&part(format!("binds TCP ports {binds} and connects to {connects}")))?;
        }
        if self.calls {
            f.write_str(&part(format!("makes {} system calls", self.call_count)))?;
        }
        Ok(())
    }
}

/// Why the sandbox is not closed.
#[derive(Debug)]
pub enum SandboxError {
    /// Other threads would stay outside; how many there are.
    Threads(usize),
    /// The kernel refused a step of Landlock.
    Landlock(landlock::RulesetError),
    /// The kernel lacks this, and the configuration requires it.
    Missing(Vec<String>),
}

impl SandboxError {
    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Missing(_) | Self::Landlock(_) => exit::NOT_PERMITTED,
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
            Self::Landlock(error) => write!(f, "the sandbox cannot be closed: {error}"),
            Self::Missing(missing) => {
                write!(f, "server.sandbox is \"require\", and on this host {}", missing.join("; "))
            }
        }
    }
}

impl std::error::Error for SandboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Landlock(error) => Some(error),
            Self::Threads(_) | Self::Missing(_) => None,
        }
    }
}
