//! Taking the one right that is needed, and giving it up.
//!
//! All of this happens on the main thread while it is the only one: capabilities and
//! `no_new_privs` belong to threads, and a thread inherits both from the one that made it.

pub mod caps;
pub mod identity;
pub mod prove;
pub mod explain;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use ::caps::CapSet;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

pub use identity::{DEFAULT_USER, Identity, Successor};
pub use prove::Proof;

use crate::shell::quote;

/// Who the process is once it has given up what binding needed, and what it may hold at most.
#[derive(Debug)]
pub struct Standing {
    origin: Origin,
    allowed: prove::Allowed,
    threads: OwnedFd,
}

/// How it came to be who it is.
#[derive(Clone, Debug)]
enum Origin {
    Root(Successor),
    /// Started as this user, with these capabilities permitted.
    User(String, u64),
}

/// Gives up what binding needed: to be called once every listener is bound and every file that
/// only root may read is read, before the first thread.
///
/// As root: becomes `user` ([`Successor::of`]). As anybody else, and as a root that stays: keeps
/// the user. In each case no capability is left, `no_new_privs` is set, and neither a crash nor
/// another process of the same user gets at the memory, in which the keys are.
///
/// # Errors
/// When `user` is unknown, when the kernel refuses a step, or when afterwards root could be had
/// back. The program must not serve then.
pub fn after_bind(user: Option<&str>) -> Result<Standing, PrivilegeError> {
    caps::set_no_new_privs()?;
    let permitted = caps::bits(CapSet::Permitted);
    // Only root may shrink the bounding set, hence before the change of user.
    caps::drop_bounding();
    let origin = if rustix::process::geteuid().is_root() {
        let successor = Successor::of(user)?;
        match successor.identity() {
            Some(identity) => identity.assume()?,
            None => identity::settle()?,
        }
        Origin::Root(successor)
    } else {
        identity::settle()?;
        let uid = rustix::process::geteuid().as_raw();
        Origin::User(crate::audit::sockets::user_name(uid), permitted)
    };
    caps::drop_all()?;
    if let Origin::Root(Successor::User(user) | Successor::Instead(user)) = &origin {
        user.cannot_go_back()?;
    }
    close_memory()?;
    let unproved = |error| PrivilegeError::refused("read back what is held from /proc", error);
    let threads = prove::open_threads().map_err(unproved)?;
    let mut allowed = origin.allows()?;
    allowed.bounding = prove::bounding(&threads).map_err(unproved)?;
    Ok(Standing { allowed, origin, threads })
}

/// Whom [`after_bind`] will become; `None` where it stays who it is.
///
/// # Errors
/// As [`Successor::of`].
pub fn successor(user: Option<&str>) -> Result<Option<Identity>, PrivilegeError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    Ok(Successor::of(user)?.identity().cloned())
}

/// No core file, not even by a limit that a pipe to a handler ignores (core(5)), and no ptrace by
/// others. A change of user sets the second anew, so that this comes after it.
fn close_memory() -> Result<(), PrivilegeError> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)
        .map_err(|error| PrivilegeError::refused("forbid core dumps", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| PrivilegeError::refused("close the memory to other processes", error))
}

impl Standing {
    /// Reads back from the kernel what every thread holds now.
    ///
    /// # Errors
    /// When it cannot be read, which is not the same as nothing being held.
    pub fn look(&self) -> io::Result<Proof> {
        Proof::read(&self.threads, self.to_string(), &self.allowed)
    }

    /// From now on a proof takes a filter of system calls in every thread.
    pub fn expect_filter(&mut self) {
        self.allowed.filtered = true;
    }

    /// The same as a condition: to be called when all threads have started, before the first
    /// connection is accepted.
    ///
    /// # Errors
    /// When more is held than asked, or it cannot be read. The program must not serve then.
    pub fn prove(&self) -> Result<Proof, PrivilegeError> {
        let proof = self
            .look()
            .map_err(|error| PrivilegeError::refused("read back what is held", error))?;
        if proof.holds() {
            Ok(proof)
        } else {
            Err(PrivilegeError::MoreThanAsked(proof.excess().to_vec()))
        }
    }

    /// What the operator should change, if anything.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match &self.origin {
            Origin::Root(Successor::Root) => Some(format!(
                "serving as root, because `user` says so: no capability is left, but every file \
                 that root owns is open to a break-in. Name an unprivileged user instead; one is \
                 made with: {}",
                make_user(DEFAULT_USER)
            )),
            Origin::Root(Successor::Instead(identity)) => Some(format!(
                "there is no user {DEFAULT_USER}: serving as {}, whose files and processes are \
                 those of every other program that falls back to it. Make one of its own with: {}",
                identity.name,
                make_user(DEFAULT_USER)
            )),
            Origin::Root(Successor::User(identity)) if identity.is_in_group_root() => {
                Some(format!(
                    "{identity} is in the group root (gid 0): every file that is open to this \
                     group is open to a break-in. Name a user with a group of its own"
                ))
            }
            Origin::Root(Successor::User(_)) | Origin::User(..) => None,
        }
    }

    /// The user by name, or by number where it has no name.
    #[must_use]
    pub fn user(&self) -> &str {
        match &self.origin {
            Origin::Root(successor) => {
                successor.identity().map_or("root", |identity| identity.name.as_str())
            }
            Origin::User(name, _) => name,
        }
    }

    /// The user and the group.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        (self.allowed.uid, self.allowed.gid)
    }
}

/// `left root for portcullis (uid 998, gid 998)`
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (uid, gid) = self.ids();
        match &self.origin {
            Origin::Root(Successor::Root) => f.write_str("stays root, as `user` says")?,
            Origin::Root(_) => write!(f, "left root for {}", self.user())?,
            Origin::User(name, _) => write!(f, "started as {name}")?,
        }
        write!(f, " (uid {uid}, gid {gid})")?;
        match &self.origin {
            Origin::User(_, 0) | Origin::Root(_) => Ok(()),
            Origin::User(_, permitted) => match &*prove::names(*permitted) {
                [one] => write!(f, "; {one} given up"),
                many => write!(f, "; {} capabilities given up", many.len()),
            },
        }
    }
}

impl Origin {
    /// Nothing but the user and the groups.
    fn allows(&self) -> Result<prove::Allowed, PrivilegeError> {
        let of_process = || -> io::Result<Vec<u32>> {
            let groups = rustix::process::getgroups()?;
            Ok(groups.into_iter().map(rustix::process::Gid::as_raw).collect())
        };
        let (uid, gid, groups) = match self {
            Origin::Root(Successor::User(user) | Successor::Instead(user)) => {
                (user.uid, user.gid, user.groups.clone())
            }
            Origin::Root(Successor::Root) | Origin::User(..) => (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
                of_process()
                    .map_err(|error| PrivilegeError::refused("read the own groups", error))?,
            ),
        };
        Ok(prove::Allowed { uid, gid, groups, bounding: 0, filtered: false })
    }
}

fn make_user(name: &str) -> String {
    let make = format!("useradd --system --shell /usr/sbin/nologin {}", quote(name));
    explain::Host::read().as_root(&[make])
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
    /// What threads hold beside what they may, one sentence each.
    MoreThanAsked(Vec<String>),
}

/// The steps from root to a user, which a root without capabilities cannot take.
const LEAVING: [&str; 3] = ["set the supplementary groups", "change the group", "change the user"];

impl PrivilegeError {
    fn refused(step: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Refused { step, source: source.into() }
    }
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(user) if user.parse::<u32>().is_ok() => write!(
                f,
                "`user` is \"{user}\", a number that stands for no user: name one, or a number \
                 below it"
            ),
            Self::UnknownUser(user) => write!(
                f,
                "there is no user \"{user}\" to become after binding; make one with: {}",
                make_user(user)
            ),
            Self::UserIsRoot(user) => {
                write!(f, "`user` is \"{user}\", which is root: name an unprivileged user")
            }
            Self::Refused { step, source } if LEAVING.contains(step) => write!(
                f,
                "root cannot be left for another user: cannot {step}: {source}; a container's root \
                 needs the capabilities SETUID and SETGID for it: start as another user instead \
                 (docker run --user 65532), or let `user = \"root\"` say that root is to stay"
            ),
            Self::Refused { step, source } => write!(f, "cannot {step}: {source}"),
            Self::StillHeld(what) => write!(f, "after leaving root the process still has {what}"),
            Self::MoreThanAsked(excess) => {
                write!(f, "not serving, because more is held than asked: {}", excess.join("; "))
            }
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
        let standing = after_bind(Some("4000000123")).unwrap();
        println!("{}", standing.look().unwrap());
        println!("{}", std::fs::read_to_string("/proc/thread-self/status").unwrap());
    }
}
