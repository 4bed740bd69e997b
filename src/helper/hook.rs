//! Hooks: programs of the operator that write records into the DNS, each run by a process of its
//! own (`attendant`), so that the helper answers on while they take their time.

pub mod fitness;
pub(super) mod attendant;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HOOK, packet};
use crate::config::Hook;

/// Hooks that may run at once. Certificates that are asked for at once are fewer.
pub(super) const AT_ONCE: usize = 16;

/// Where programs are looked for when the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a hook is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Add the record.
    Present,
    /// Remove it.
    Cleanup,
}

impl Action {
    /// What a hook is told, in `PORTCULLIS_ACTION`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Action::Present => "present",
            Action::Cleanup => "cleanup",
        }
    }
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why it runs no more.
    pub end: End,
    /// The last lines that it wrote to standard error, on one line.
    pub words: String,
}

/// Why a hook runs no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It ended itself with this status; 0 is a success.
    Exited(i32),
    /// It was ended by this signal, which nobody here has sent.
    Signalled(i32),
    /// It took longer than it may, and was ended.
    Late(Duration),
    /// Nobody waited for it any more, and it was ended.
    Abandoned,
    /// It could not be started.
    Unstarted(String),
}

impl Ended {
    /// Whether it did what it was to do.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.end == End::Exited(0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Exited(status) => write!(f, "ended with exit status {status}")?,
            End::Signalled(signal) => write!(f, "was ended by signal {signal}")?,
            End::Late(patience) => {
                write!(f, "did not end within {patience:?} (acme.dns.propagation) and was killed")?;
            }
            End::Abandoned => f.write_str("was ended, because nobody waited for it any more")?,
            End::Unstarted(why) => write!(f, "cannot be run: {why}")?,
        }
        match &self.words {
            words if !words.is_empty() => write!(f, "; it said: {words}"),
            _ if matches!(self.end, End::Exited(_)) => f.write_str(", and said nothing"),
            _ => Ok(()),
        }
    }
}

/// A hook of the file, and how long it may run.
pub(super) struct Errand {
    pub(super) hook: Hook,
    pub(super) patience: Duration,
}

impl Errand {
    /// Starts the process that runs it, which tells on the descriptor how it [`Ended`].
    pub(super) fn start(
        &self,
        action: Action,
        name: &str,
        value: &str,
    ) -> io::Result<(Child, OwnedFd)> {
        let (ours, theirs) = packet::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("portcullis: hook").arg(HOOK).arg(action.word());
        command.arg(self.patience.as_millis().to_string());
        command.arg(std::path::absolute(&self.hook.program)?).args(&self.hook.arguments);
        command.env_clear().envs(environment(action, name, value, &|name| std::env::var_os(name)));
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/").process_group(0);
        Ok((command.spawn()?, ours))
    }
}

/// All that a hook finds in its environment: nothing of ours but how programs are found and which
/// language is spoken.
fn environment(
    action: Action,
    name: &str,
    value: &str,
    ours: &dyn Fn(&str) -> Option<OsString>,
) -> [(&'static str, OsString); 5] {
    [
        ("PATH", ours("PATH").unwrap_or_else(|| PATH.into())),
        ("LANG", ours("LANG").unwrap_or_else(|| "C.UTF-8".into())),
        ("PORTCULLIS_ACTION", action.word().into()),
        ("PORTCULLIS_NAME", name.into()),
        ("PORTCULLIS_VALUE", value.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_learns_nothing_but_what_it_needs() {
        let ours = |name: &str| (name != "LANG").then(|| OsString::from(format!("our {name}")));
        let made = environment(Action::Present, "_acme-challenge.a.test", "v", &ours);
        let made = made.map(|(name, value)| format!("{name}={}", value.display()));
        let expected = [
            "PATH=our PATH",
            "LANG=C.UTF-8",
            "PORTCULLIS_ACTION=present",
            "PORTCULLIS_NAME=_acme-challenge.a.test",
            "PORTCULLIS_VALUE=v",
        ];
        assert_eq!(made, expected);
    }

    #[test]
    fn an_end_is_told_with_its_last_words() {
        let told = |end: End, words: &str| Ended { end, words: words.to_owned() }.to_string();
        let failed = "ended with exit status 3";
        assert_eq!(
            told(End::Exited(3), "no such zone"),
            format!("{failed}; it said: no such zone")
        );
        assert_eq!(told(End::Exited(3), ""), format!("{failed}, and said nothing"));
        assert!(told(End::Late(Duration::from_secs(2)), "").contains("within 2s (acme.dns."));
    }
}
