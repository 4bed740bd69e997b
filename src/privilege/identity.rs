//! From root to an ordinary user, with no way back.

use std::ffi::CString;
use std::fmt;

use nix::unistd::{self, Gid, Uid, User};

use super::{PrivilegeError, caps};

/// Whom to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name, or the number where it has none.
    pub name: String,
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// Every group the user is in.
    groups: Vec<u32>,
}

/// Becomes a user for good: groups, group, user, no capability; and proves it.
///
/// # Errors
/// When there is no such user (as [`find`]), when the kernel refuses a step, or when something of
/// root is left afterwards.
pub fn become_user(user: &str) -> Result<Identity, PrivilegeError> {
    let identity = find(user)?;
    // Only root may shrink the bounding set, hence before the change.
    caps::drop_bounding();
    identity.assume()?;
    caps::drop_all()?;
    identity.prove()?;
    Ok(identity)
}

/// Looks a user up by name or number, in whatever database the system uses (nsswitch.conf).
///
/// A number without a name is taken as it is, with the group of the same number: containers have
/// such users.
///
/// # Errors
/// When there is no such user, when it is root, or when the database fails.
pub fn find(user: &str) -> Result<Identity, PrivilegeError> {
    let lookup = |error: nix::Error| PrivilegeError::refused("look up the user", error);
    let number = user.parse::<u32>().ok();
    let entry = match number {
        Some(uid) => User::from_uid(Uid::from_raw(uid)).map_err(lookup)?,
        None => User::from_name(user).map_err(lookup)?,
    };
    let identity = match (entry, number) {
        (Some(entry), _) => {
            let name = CString::new(entry.name.as_str())
                .map_err(|_| PrivilegeError::UnknownUser(user.to_owned()))?;
            let groups = unistd::getgrouplist(&name, entry.gid).map_err(lookup)?;
            let groups = groups.into_iter().map(Gid::as_raw).collect();
            Identity { name: entry.name, uid: entry.uid.as_raw(), gid: entry.gid.as_raw(), groups }
        }
        // The highest number means "unchanged" to the kernel.
        (None, Some(number)) if number != u32::MAX => {
            Identity { name: number.to_string(), uid: number, gid: number, groups: vec![number] }
        }
        (None, _) => return Err(PrivilegeError::UnknownUser(user.to_owned())),
    };
    if identity.uid == 0 {
        return Err(PrivilegeError::UserIsRoot(user.to_owned()));
    }
    Ok(identity)
}

impl Identity {
    /// Sets supplementary groups, group and user, real, effective and saved, in the order in which
    /// each step still has the right to be taken.
    ///
    /// These are the C library's calls, which change every thread of the process; the kernel's own
    /// change the calling thread only.
    fn assume(&self) -> Result<(), PrivilegeError> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        unistd::setgroups(&groups)
            .map_err(|error| PrivilegeError::refused("set the supplementary groups", error))?;
        unistd::setresgid(gid, gid, gid)
            .map_err(|error| PrivilegeError::refused("change the group", error))?;
        unistd::setresuid(uid, uid, uid)
            .map_err(|error| PrivilegeError::refused("change the user", error))
    }

    /// Proves that the process is this user in every respect and cannot become root again.
    fn prove(&self) -> Result<(), PrivilegeError> {
        let read = |error| PrivilegeError::refused("read the process's own identity", error);
        let user = unistd::getresuid().map_err(read)?;
        let group = unistd::getresgid().map_err(read)?;
        let held = unistd::getgroups().map_err(read)?;
        if [user.real, user.effective, user.saved].iter().any(|uid| uid.as_raw() != self.uid) {
            return Err(PrivilegeError::StillHeld("another user id"));
        }
        if [group.real, group.effective, group.saved].iter().any(|gid| gid.as_raw() != self.gid) {
            return Err(PrivilegeError::StillHeld("another group id"));
        }
        if held.iter().any(|gid| !self.groups.contains(&gid.as_raw())) {
            return Err(PrivilegeError::StillHeld("a supplementary group"));
        }
        // A user of the group root may set that group, and is no closer to root by it.
        let group_root = self.gid != 0 && unistd::setgid(Gid::from_raw(0)).is_ok();
        if group_root || unistd::setuid(Uid::from_raw(0)).is_ok() {
            return Err(PrivilegeError::StillHeld("the right to become root"));
        }
        Ok(())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (uid {}, gid {})", self.name, self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_no_user_to_become() {
        assert!(matches!(find("root"), Err(PrivilegeError::UserIsRoot(_))));
        assert!(matches!(find("0"), Err(PrivilegeError::UserIsRoot(_))));
    }

    #[test]
    fn an_unknown_name_is_told_with_the_command_that_makes_it() {
        assert!(matches!(find("4294967295"), Err(PrivilegeError::UnknownUser(_))));
        let error = find("no-such-user-here").unwrap_err();
        assert!(error.to_string().contains("useradd --system"), "{error}");
    }

    #[test]
    fn a_number_without_a_name_has_the_group_of_that_number() {
        let identity = find("4000000123").unwrap();
        assert_eq!((identity.uid, identity.gid), (4_000_000_123, 4_000_000_123));
        assert_eq!(identity.groups, [4_000_000_123]);
    }
}
