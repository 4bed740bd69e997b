//! From root to the user that it is about to become: what is in the storage already.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::StorageError;

/// Gives what an earlier start as root has made in the storage, or one that had no user of its own
/// to become, to the user and group that the program is about to become. Files of others are left
/// alone, as is all that this program never makes.
///
/// # Errors
/// When the storage belongs to somebody else, who would know the keys in it, and when an owner
/// cannot be changed.
pub fn hand_over(storage: &Path, to: (u32, u32)) -> Result<(), StorageError> {
    let failed = |error: Errno| StorageError::new(storage, "hand over", error.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(CWD, storage, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let owner = rustix::fs::fstat(&folder).map_err(failed)?.st_uid;
    if owner != to.0 && !EARLIER.contains(&owner) {
        let why = format!("it belongs to uid {owner}, who would know the keys in it");
        return Err(StorageError::new(storage, "use", io::Error::other(why)));
    }
    let entries = names(&folder).map_err(failed)?;
    for name in entries.iter().filter(|name| OURS.contains(&name.as_str())) {
        give_folder(&folder, name, to).map_err(failed)?;
    }
    if entries.iter().all(|name| OURS.contains(&name.as_str())) {
        give(&folder, to).map_err(failed)?;
    }
    Ok(())
}

/// The folders that this program makes in its storage.
const OURS: [&str; 4] = ["local", "acme", "hsts", "ocsp"];

/// Whom earlier starts may have left files with: root, and nobody.
const EARLIER: [u32; 2] = [0, 65_534];

/// Gives a folder and the regular files in it. Nothing is followed, and nothing with a second name
/// is given: the folder may be a former owner's, who could have linked somebody's file into it.
fn give_folder(parent: &OwnedFd, name: &str, to: (u32, u32)) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for name in names(&folder)? {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &name, flags, Mode::empty())?;
        let found = rustix::fs::fstat(&file)?;
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        if is_file && found.st_nlink == 1 {
            give(&file, to)?;
        }
    }
    give(&folder, to)
}

fn give(file: &OwnedFd, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    if !EARLIER.contains(&rustix::fs::fstat(file)?.st_uid) {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(file, "", Some(user), Some(group), AtFlags::EMPTY_PATH)
}

fn names(folder: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    use super::*;

    const USER: u32 = 4_000_000_123;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    /// A storage of root with an authority; `None` for who cannot make one.
    fn storage() -> Option<tempfile::TempDir> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: takes root");
            return None;
        }
        let storage = tempfile::tempdir().unwrap();
        fs::create_dir(storage.path().join("local")).unwrap();
        fs::write(storage.path().join("local/root.key"), "key").unwrap();
        fs::create_dir(storage.path().join("acme")).unwrap();
        fs::write(storage.path().join("acme/a.test.pem"), "key").unwrap();
        Some(storage)
    }

    #[test]
    fn what_root_or_nobody_has_made_is_given() {
        let Some(storage) = storage() else { return };
        chown(storage.path().join("local"), Some(65_534), Some(65_534)).unwrap();
        hand_over(storage.path(), (USER, USER)).unwrap();
        for path in ["", "local", "local/root.key", "acme", "acme/a.test.pem"] {
            assert_eq!(owner(&storage.path().join(path)), USER, "{path}");
        }
        hand_over(storage.path(), (USER, USER)).unwrap();
    }

    #[test]
    fn a_storage_of_somebody_else_is_refused_and_left_alone() {
        let Some(storage) = storage() else { return };
        chown(storage.path(), Some(USER + 1), Some(USER + 1)).unwrap();
        let error = hand_over(storage.path(), (USER, USER)).unwrap_err().to_string();
        assert!(error.contains("belongs to uid 4000000124"), "{error}");
        assert_eq!(owner(&storage.path().join("local/root.key")), 0);
    }

    #[test]
    fn a_folder_with_other_things_in_it_keeps_its_owner_and_they_theirs() {
        let Some(storage) = storage() else { return };
        fs::write(storage.path().join("passwd"), "").unwrap();
        hand_over(storage.path(), (USER, USER)).unwrap();
        assert_eq!(owner(storage.path()), 0);
        assert_eq!(owner(&storage.path().join("passwd")), 0);
        assert_eq!(owner(&storage.path().join("local/root.key")), USER);
    }

    /// A former owner of the folder could have put them there.
    #[test]
    fn links_give_nothing_away() {
        let Some(storage) = storage() else { return };
        let outside = tempfile::NamedTempFile::new_in(storage.path().parent().unwrap()).unwrap();
        symlink(outside.path(), storage.path().join("local/soft")).unwrap();
        fs::hard_link(outside.path(), storage.path().join("local/hard")).unwrap();
        fs::create_dir(storage.path().join("local/deep")).unwrap();
        hand_over(storage.path(), (USER, USER)).unwrap();
        assert_eq!(owner(outside.path()), 0);
        assert_eq!(owner(&storage.path().join("local/deep")), 0);
        fs::rename(storage.path().join("local"), storage.path().join("moved")).unwrap();
        symlink(storage.path().join("moved"), storage.path().join("local")).unwrap();
        assert!(hand_over(storage.path(), (USER, USER)).is_err());
    }
}
