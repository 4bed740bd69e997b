//! Shows that the sandbox bites: what it is to refuse is tried before it closes and after.
//!
//! The process that does this is inside for good; it is one that only asks and ends.

use std::fmt;
use std::io;
use std::path::Path;

use libc::{EACCES, EPERM};

use super::attempts::{self, Attempt};
use super::{Closed, Needs, SandboxError, close};
use crate::config::{Config, Sandbox};

/// One thing that was tried.
#[derive(Debug)]
pub struct Probe {
    /// What it is about, in a word: `read`, `exec`.
    pub name: &'static str,
    /// What was tried, in words.
    pub tried: String,
    /// What came of it, judged.
    pub verdict: Verdict,
    /// Why it failed before the sandbox was closed, if it did.
    pub before: Option<io::Error>,
    /// Why it failed afterwards, if it did.
    pub after: Option<io::Error>,
}

/// What a probe shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is refused, and the sandbox is what refuses it.
    Refused,
    /// It is refused, but this user may not do it anyway: nothing is shown.
    NotShown,
    /// It goes on working, as it has to.
    Works,
    /// It should be refused and is not.
    Open,
    /// It has to work and does not.
    Broken,
}

impl Verdict {
    /// Whether this is as it should be.
    #[must_use]
    pub fn is_fine(self) -> bool {
        !matches!(self, Verdict::Open | Verdict::Broken)
    }
}

/// Closes the sandbox of a configuration (which was read from `file`) around this process, which
/// has to have one thread only, and tries what it refuses and what it has to allow.
///
/// The first entry tells of the sandbox itself: where it cannot be closed it is the only one.
#[must_use]
pub fn probe(config: &Config, file: Option<&Path>) -> Vec<Probe> {
    probe_by(close, config, file)
}

type Close = fn(&Needs, Sandbox) -> Result<Closed, SandboxError>;

pub(super) fn probe_by(close: Close, config: &Config, file: Option<&Path>) -> Vec<Probe> {
    let needs = Needs::of(config, file);
    let attempts = attempts::all(config, &needs);
    let before: Vec<_> = attempts.iter().map(Attempt::make).collect();
    let mode = config.server.sandbox;
    // Where it is off, what it would do is shown all the same.
    let closed = match close(&needs, if mode == Sandbox::Off { Sandbox::On } else { mode }) {
        Ok(closed) => closed,
        Err(error) => return vec![Probe::of_the_sandbox(Err(error))],
    };
    let mut probes = vec![Probe::of_the_sandbox(if mode == Sandbox::Off {
        Ok((Verdict::Broken, "server.sandbox is \"off\": the server will not close it".to_owned()))
    } else if closed.missing.is_empty() {
        Ok((Verdict::Works, closed.to_string()))
    } else {
        Ok((Verdict::Open, format!("{closed}; but {}", closed.missing.join("; "))))
    })];
    for (attempt, before) in attempts.into_iter().zip(before) {
        let after = attempt.make();
        probes.push(Probe::new(attempt, before, after));
    }
    probes
}

impl Probe {
    fn new(attempt: Attempt, before: io::Result<()>, after: io::Result<()>) -> Self {
        let (before, after) = (before.err(), after.err());
        let verdict = judge(attempt.is_to_work, number(before.as_ref()), number(after.as_ref()));
        Self { name: attempt.name, tried: attempt.tried, verdict, before, after }
    }

    fn of_the_sandbox(found: Result<(Verdict, String), SandboxError>) -> Self {
        let (verdict, tried) = found.unwrap_or_else(|error| (Verdict::Broken, error.to_string()));
        Self { name: "sandbox", tried, verdict, before: None, after: None }
    }
}

fn number(error: Option<&io::Error>) -> Option<i32> {
    error.map(|error| error.raw_os_error().unwrap_or_default())
}

/// From the error numbers before and after to what they show.
fn judge(is_to_work: bool, before: Option<i32>, after: Option<i32>) -> Verdict {
    let is_refusal = matches!(after, Some(EACCES | EPERM));
    match (is_to_work, is_refusal) {
        (true, _) if before == after => Verdict::Works,
        (true, _) => Verdict::Broken,
        (false, true) if before == after => Verdict::NotShown,
        (false, true) => Verdict::Refused,
        (false, false) => Verdict::Open,
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |error: &Option<io::Error>| match error {
            Some(error) => error.to_string(),
            None => "works".to_owned(),
        };
        let (before, after) = (told(&self.before), told(&self.after));
        write!(f, "{}: ", self.tried)?;
        match self.verdict {
            _ if self.name == "sandbox" => {
                f.write_str(if self.verdict.is_fine() { "ok" } else { "not as it should be" })
            }
            Verdict::Refused => write!(f, "refused ({after}); before: {before}"),
            Verdict::NotShown => write!(f, "refused ({after}), as to this user in any case"),
            Verdict::Works => write!(f, "as before ({after})"),
            Verdict::Open => write!(f, "NOT REFUSED ({after})"),
            Verdict::Broken => write!(f, "BROKEN ({after}); before: {before}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_when_it_is_the_sandbox_s() {
        assert_eq!(judge(false, None, Some(EACCES)), Verdict::Refused);
        assert_eq!(judge(false, Some(libc::ENOENT), Some(EPERM)), Verdict::Refused);
        assert_eq!(judge(false, Some(EACCES), Some(EACCES)), Verdict::NotShown);
        assert_eq!(judge(false, None, None), Verdict::Open);
        assert_eq!(judge(false, Some(libc::ENOENT), Some(libc::ENOENT)), Verdict::Open);
    }

    #[test]
    fn what_has_to_work_may_fail_as_it_did_before() {
        assert_eq!(judge(true, None, None), Verdict::Works);
        assert_eq!(judge(true, Some(libc::EADDRINUSE), Some(libc::EADDRINUSE)), Verdict::Works);
        assert_eq!(judge(true, None, Some(EACCES)), Verdict::Broken);
    }
}
