//! From root to an ordinary user, with no way back.

use std::ffi::CString;
use std::fmt;

use nix::unistd::{self, Gid, Uid, User};

use super::PrivilegeError;

/// The built-in value of `user` in `[server]`: whom an installation makes.
pub const DEFAULT_USER: &str = "portcullis";

/// Who stands in for it, by name and, where a container has no list of users, by number.
const NOBODY: [&str; 2] = ["nobody", "65534"];

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
    pub groups: Vec<u32>,
}

/// What a start as root ends as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Successor {
    /// The user that was asked for.
    User(Identity),
    /// Somebody who owns nothing, because the built-in [`DEFAULT_USER`] does not exist here.
    Instead(Identity),
    /// Root, because the configuration says so in so many words: `root` or `0`.
    Root,
}

impl Successor {
    /// Whom `user` of the configuration means; `None` is the built-in [`DEFAULT_USER`].
    ///
    /// # Errors
    /// As [`find`], but for the built-in user, in whose place stands `NOBODY`.
    pub fn of(user: Option<&str>) -> Result<Self, PrivilegeError> {
        let user = user.unwrap_or(DEFAULT_USER);
        if matches!(user, "root" | "0") {
            return Ok(Self::Root);
        }
        match find(user) {
            Ok(identity) => Ok(Self::User(identity)),
            Err(PrivilegeError::UnknownUser(_)) if user == DEFAULT_USER => {
                let [name, number] = NOBODY;
                Ok(Self::Instead(find(name).or_else(|_| find(number))?))
            }
            Err(error) => Err(error),
        }
    }

    /// The user to become; `None` where root stays.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::User(identity) | Self::Instead(identity) => Some(identity),
            Self::Root => None,
        }
    }
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
    /// Whether what belongs to the group root belongs to this user.
    pub(super) fn is_in_group_root(&self) -> bool {
        self.gid == 0 || self.groups.contains(&0)
    }

    /// Becomes the user, real, effective and saved, in the order in which each step still has the
    /// right to be taken.
    ///
    /// These are the C library's calls, which change every thread of the process; the kernel's own
    /// change the calling thread only.
    ///
    /// # Errors
    /// When the kernel refuses a step.
    pub(super) fn assume(&self) -> Result<(), PrivilegeError> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        unistd::setgroups(&groups)
            .map_err(|error| PrivilegeError::refused("set the supplementary groups", error))?;
        unistd::setresgid(gid, gid, gid)
            .map_err(|error| PrivilegeError::refused("change the group", error))?;
        unistd::setresuid(uid, uid, uid)
            .map_err(|error| PrivilegeError::refused("change the user", error))
    }

    /// Tries to become root again, once no capability is left to do it by.
    ///
    /// # Errors
    /// When that succeeds.
    pub(super) fn cannot_go_back(&self) -> Result<(), PrivilegeError> {
        // A user of the group root may set that group, and is no closer to root by it.
        let group_root = self.gid != 0 && unistd::setgid(Gid::from_raw(0)).is_ok();
        if group_root || unistd::setuid(Uid::from_raw(0)).is_ok() {
            return Err(PrivilegeError::StillHeld("the right to become root"));
        }
        Ok(())
    }
}

/// Makes the effective user and group the real and saved ones too, so that a program that was
/// started with somebody else's set-user-id bit cannot go back to who called it, or the reverse.
///
/// # Errors
/// When the kernel refuses, which it does to nobody.
pub(super) fn settle() -> Result<(), PrivilegeError> {
    let read = |error| PrivilegeError::refused("read the process's own identity", error);
    let (user, group) = (unistd::getresuid().map_err(read)?, unistd::getresgid().map_err(read)?);
    // Asked only where there is something to do: the filter of a unit may refuse these calls.
    if [group.real, group.saved] != [group.effective; 2] {
        unistd::setresgid(group.effective, group.effective, group.effective)
            .map_err(|error| PrivilegeError::refused("settle the group", error))?;
    }
    if [user.real, user.saved] != [user.effective; 2] {
        unistd::setresuid(user.effective, user.effective, user.effective)
            .map_err(|error| PrivilegeError::refused("settle the user", error))?;
    }
    Ok(())
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

    /// It was advised to make a user of this name.
    #[test]
    fn a_number_that_is_no_user_is_not_to_be_made() {
        let error = find("4294967295").unwrap_err().to_string();
        assert!(error.contains("stands for no user") && !error.contains("useradd"), "{error}");
    }

    #[test]
    fn a_user_of_the_group_root_is_known_by_each_of_its_groups() {
        let user = |gid, groups: &[u32]| Identity {
            name: "a".to_owned(),
            uid: 7,
            gid,
            groups: groups.to_vec(),
        };
        assert!(user(0, &[]).is_in_group_root() && user(7, &[7, 0]).is_in_group_root());
        assert!(!user(7, &[7]).is_in_group_root());
    }

    #[test]
    fn only_the_built_in_user_has_somebody_to_stand_in() {
        assert_eq!(Successor::of(Some("root")).unwrap(), Successor::Root);
        assert_eq!(Successor::of(Some("0")).unwrap(), Successor::Root);
        assert!(Successor::of(Some("no-such-user-here")).is_err());
        let builtin = Successor::of(None).unwrap();
        assert_eq!(builtin, Successor::of(Some(DEFAULT_USER)).unwrap());
        let exists = find(DEFAULT_USER).is_ok();
        assert_eq!(matches!(builtin, Successor::User(_)), exists, "{builtin:?}");
        assert_ne!(builtin.identity().unwrap().uid, 0);
    }

    #[test]
    fn a_number_without_a_name_has_the_group_of_that_number() {
        let identity = find("4000000123").unwrap();
        assert_eq!((identity.uid, identity.gid), (4_000_000_123, 4_000_000_123));
        assert_eq!(identity.groups, [4_000_000_123]);
    }
}
