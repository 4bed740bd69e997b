//! Whether a storage takes what is to be kept, as far as that can be seen without writing.

use std::path::Path;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, RawMode, StatVfs, StatVfsMountFlags,
};

use super::{Folder, StorageError};
use crate::shell::quote_path;

/// In bytes: a key, its chain and what is remembered of them take as much at once.
const ROOM: u64 = 16 << 10;

/// Why a directory takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Its file system is mounted so.
    ReadOnly,
    /// So many bytes are left to who is not root.
    Full(u64),
    /// No file can be made, however small.
    NoMoreFiles,
    /// Its mode keeps its user from it.
    Closed { uid: u32, mode: RawMode },
}

/// Why nothing can be kept in the folder `name` of `storage`, or in `storage` while it has no such
/// folder, in words that say what helps. `None` where all is well, where neither is there yet, and
/// where this user may not know: only the server itself, root and the owner can tell who may write.
/// Writes nothing.
pub(crate) fn refusal(storage: &Path, name: &str, is_server: bool) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::openat(CWD, path, flags, Mode::empty());
    let mut path = storage.join(name);
    let directory = match open(&path) {
        Err(rustix::io::Errno::NOENT) => {
            path = storage.to_owned();
            open(&path).ok()?
        }
        opened => opened.ok()?,
    };
    let stat = rustix::fs::fstat(&directory).ok()?;
    let system = rustix::fs::fstatvfs(&directory).ok()?;
    let us = rustix::process::geteuid();
    let is_closed = if us.is_root() {
        // The program becomes the owner of its storage.
        stat.st_uid != 0 && stat.st_mode & 0o300 != 0o300
    } else {
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        let denied = rustix::fs::accessat(&directory, ".", wanted, AtFlags::EACCESS);
        (is_server || stat.st_uid == us.as_raw()) && denied == Err(rustix::io::Errno::ACCESS)
    };
    let uid = if us.is_root() { stat.st_uid } else { us.as_raw() };
    let closed = is_closed.then_some(Refusal::Closed { uid, mode: stat.st_mode & 0o7777 });
    of_file_system(&system, stat.st_uid == 0 && us.is_root()).or(closed).map(|it| it.words(&path))
}

/// `is_root` says whether what is held back for root may be used. File systems that do not count
/// say that they have no blocks, or no files, at all.
fn of_file_system(system: &StatVfs, is_root: bool) -> Option<Refusal> {
    let (blocks, files) = match is_root {
        true => (system.f_bfree, system.f_ffree),
        false => (system.f_bavail, system.f_favail),
    };
    let bytes = blocks.saturating_mul(system.f_frsize);
    if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Some(Refusal::ReadOnly);
    }
    if system.f_blocks > 0 && bytes < ROOM {
        return Some(Refusal::Full(bytes));
    }
    (system.f_files > 0 && files == 0).then_some(Refusal::NoMoreFiles)
}

impl Refusal {
    fn words(self, path: &Path) -> String {
        let quoted = quote_path(path);
        match self {
            Refusal::ReadOnly => format!("{} cannot be written: {}", path.display(), remount(path)),
            Refusal::Full(left) => format!(
                "{} is full ({left} bytes are left): make room, or give it more; `df -h {quoted}` \
                 shows its file system",
                path.display()
            ),
            Refusal::NoMoreFiles => format!(
                "{} is full (its file system can hold no more files): remove some, or give it \
                 more; `df -i {quoted}` shows them",
                path.display()
            ),
            Refusal::Closed { uid, mode } => format!(
                "{} cannot be written by uid {uid} (its mode is {mode:03o}): chmod 700 {quoted}",
                path.display()
            ),
        }
    }
}

/// Why nothing can be written where a file system is mounted read-only, and what helps.
pub(super) fn remount(path: &Path) -> String {
    format!(
        "its file system is mounted read-only; `findmnt -T {}` shows the mount: after errors of \
         the disk (`dmesg`) it is to be mended first, else `mount -o remount,rw`, or in a unit \
         ReadWritePaths=, lets it be written",
        quote_path(path)
    )
}

impl Folder {
    /// Everything in it with what kind of file it is, in no order.
    pub(crate) fn entries(&self) -> Result<Vec<(String, FileType)>, StorageError> {
        let failed = |error: rustix::io::Errno| StorageError::new(&self.path, "list", error.into());
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = match entry.file_type() {
                // Not every file system tells.
                FileType::Unknown => {
                    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = rustix::fs::statat(&self.directory, entry.file_name(), nofollow);
                    stat.map_or(FileType::Unknown, |it| FileType::from_raw_mode(it.st_mode))
                }
                kind => kind,
            };
            entries.push((entry.file_name().to_string_lossy().into_owned(), kind));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn system() -> StatVfs {
        let open = fs::File::open("/").unwrap();
        let mut system = rustix::fs::fstatvfs(&open).unwrap();
        system.f_flag = StatVfsMountFlags::empty();
        (system.f_frsize, system.f_blocks, system.f_files) = (4096, 100, 100);
        (system.f_bfree, system.f_bavail) = (50, 50);
        (system.f_ffree, system.f_favail) = (50, 50);
        system
    }

    /// A storage that was full after a restart was told nowhere while nothing was due.
    #[test]
    fn a_file_system_that_is_full_or_read_only_is_told_with_what_helps() {
        assert_eq!(of_file_system(&system(), false), None);
        let mut full = system();
        full.f_bavail = 3;
        assert_eq!(of_file_system(&full, false), Some(Refusal::Full(12_288)));
        assert_eq!(of_file_system(&full, true), None, "the rest is held back for root");
        let mut without = system();
        without.f_favail = 0;
        assert_eq!(of_file_system(&without, false), Some(Refusal::NoMoreFiles));
        let mut fixed = full;
        fixed.f_flag = StatVfsMountFlags::RDONLY;
        assert_eq!(of_file_system(&fixed, false), Some(Refusal::ReadOnly));
        // A tmpfs without a limit has no blocks, btrfs no files.
        let mut uncounted = system();
        (uncounted.f_blocks, uncounted.f_bavail) = (0, 0);
        (uncounted.f_files, uncounted.f_favail) = (0, 0);
        assert_eq!(of_file_system(&uncounted, false), None);
        let words = Refusal::ReadOnly.words(Path::new("/s/acme"));
        assert!(words.contains("findmnt -T /s/acme") && !words.contains("install"), "{words}");
    }

    #[test]
    fn a_storage_that_is_not_there_yet_is_none_that_refuses() {
        let folder = tempfile::tempdir().unwrap();
        for storage in [folder.path().join("storage"), folder.path().to_owned()] {
            assert_eq!(refusal(&storage, "acme", true), None, "{}", storage.display());
        }
    }

    #[test]
    fn a_folder_that_its_user_may_not_write_is_told() {
        let storage = tempfile::tempdir().unwrap();
        let acme = storage.path().join("acme");
        fs::create_dir(&acme).unwrap();
        assert_eq!(refusal(storage.path(), "acme", false), None);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&acme, Some(65_534), Some(65_534)).unwrap();
        }
        fs::set_permissions(&acme, fs::Permissions::from_mode(0o500)).unwrap();
        let told = refusal(storage.path(), "acme", false).unwrap();
        assert!(told.contains("chmod 700") && told.contains("its mode is 500"), "{told}");
        fs::set_permissions(&acme, fs::Permissions::from_mode(0o700)).unwrap();
    }
}
