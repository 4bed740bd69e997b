//! Taking the one right that is needed, and giving it up.
//!
//! All of this happens on the main thread while it is the only one: capabilities and
//! `no_new_privs` belong to threads, and a thread inherits both from the one that made it.

pub mod caps;
pub mod identity;
pub mod explain;

use std::fmt;
use std::io;

/// The built-in value of `user` in `[server]`: whom an installation makes.
pub const DEFAULT_USER: &str = "portcullis";

/// Gives up what binding needed: to be called once every listener is bound and every file that
/// only root may read is read, before the first thread.
///
/// As root with a `user`: becomes that user. As root without one, or where the built-in
/// [`DEFAULT_USER`] was never made: stays root, and the returned line says so and what to do. As
/// anybody else: drops every capability. `no_new_privs` is set in each case. Returns one line for
/// the log.
///
/// # Errors
/// When another `user` is unknown or is root itself, when the kernel refuses a step, or when
/// afterwards root could be had back. The program must not serve then.
pub fn after_bind(user: Option<&str>) -> Result<String, PrivilegeError> {
    caps::set_no_new_privs()?;
    if !rustix::process::geteuid().is_root() {
        caps::drop_all()?;
        let uid = rustix::process::geteuid().as_raw();
        return Ok(format!("serving as uid {uid} without any capability"));
    }
    let user = user.filter(|user| !matches!(*user, "root" | "0"));
    match user.map(identity::become_user) {
        Some(Ok(identity)) => Ok(format!("left root for {identity}, without any capability")),
        Some(Err(PrivilegeError::UnknownUser(name))) if name == DEFAULT_USER => Ok(format!(
            "serving as root, with all its rights, because there is no user {name} to become: \
             make one with: {}",
            make_user(&name)
        )),
        Some(Err(error)) => Err(error),
        None => {
            Ok("serving as root, with all its rights: name an unprivileged `user` in [server], \
                    or start as another user, so that a break-in is worth less"
                .to_owned())
        }
    }
}

/// Whom [`after_bind`] will become; `None` where it changes nobody.
#[must_use]
pub fn successor(user: Option<&str>) -> Option<identity::Identity> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    user.and_then(|user| identity::find(user).ok())
}

fn make_user(name: &str) -> String {
    format!("sudo useradd --system --shell /usr/sbin/nologin {name}")
}

/// Why privileges could not be given up.
#[derive(Debug)]
pub enum PrivilegeError {
    /// The configured user does not exist.
    UnknownUser(String),
    /// The configured user is root under this name.
    UserIsRoot(String),
    /// The kernel or the user database refused a step.
    Refused {
        /// What was tried.
        step: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// The change had no full effect: what was still held.
    StillHeld(&'static str),
}

impl PrivilegeError {
    fn refused(step: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Refused { step, source: source.into() }
    }
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(user) => write!(
                f,
                "there is no user \"{user}\" to become after binding; make one with: {}",
                make_user(user)
            ),
            Self::UserIsRoot(user) => {
                write!(f, "`user` is \"{user}\", which is root: name an unprivileged user")
            }
            Self::Refused { step, source } => write!(f, "cannot {step}: {source}"),
            Self::StillHeld(what) => write!(f, "after leaving root the process still has {what}"),
        }
    }
}

impl std::error::Error for PrivilegeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "PORTCULLIS_TEST_LEAVES_ROOT";

    /// In a process of its own, because the change is for good.
    #[test]
    fn root_becomes_the_user_and_keeps_nothing() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: takes root");
        }
        let test = ["--exact", "privilege::tests::the_child_that_leaves_root", "--nocapture"];
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).args(test).env(CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("left root for 4000000123 (uid 4000000123"), "{text}");
        for empty in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"] {
            assert!(text.contains(&format!("{empty}\t0000000000000000")), "{empty} in {text}");
        }
        assert!(text.contains("NoNewPrivs:\t1"), "{text}");
        assert!(text.contains("Groups:\t4000000123 \n"), "{text}");
    }

    /// Only as the child of the test above; anywhere else it has nothing to say.
    #[test]
    fn the_child_that_leaves_root() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        println!("{}", after_bind(Some("4000000123")).unwrap());
        println!("{}", std::fs::read_to_string("/proc/thread-self/status").unwrap());
    }
}
