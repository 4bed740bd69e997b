//! The storage directory: who owns what in it, and writes that are whole or not there.

mod condition;
mod hand_over;

use std::ffi::OsString;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::audit::sockets::printable;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Uid};

pub(crate) use condition::refusal;
use condition::remount;
pub use hand_over::hand_over;

/// No certificate, chain or key that anybody uses is larger, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// How long another process may hold the storage before we give up on it.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Where `up` and `demo` keep the local authority when `/var/lib/portcullis` is not theirs:
/// `$XDG_STATE_HOME/portcullis`, else `~/.local/state/portcullis`, else `portcullis-UID`
/// under the system's temporary directory.
#[must_use]
pub fn default_for_user() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    state_of(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"), uid)
}

fn state_of(state: Option<OsString>, home: Option<OsString>, uid: u32) -> PathBuf {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|p| p.is_absolute());
    match (absolute(state), absolute(home)) {
        (Some(state), _) => state.join("portcullis"),
        (None, Some(home)) => home.join(".local/state/portcullis"),
        (None, None) => std::env::temp_dir().join(format!("portcullis-{uid}")),
    }
}

/// Whether this process may write into `storage`, or make it where it is missing. Writes nothing.
#[must_use]
pub fn writable(storage: &Path) -> bool {
    let nearest = storage.ancestors().find(|path| path.exists());
    nearest.is_some_and(|path| {
        let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        path.is_dir() && rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS).is_ok()
    })
}

/// Makes the storage directory, mode 0700, where it is missing. A start as root passes the user and
/// group that the program is about to become, so that it can still write there afterwards.
///
/// # Errors
/// When the directory cannot be made.
pub fn prepare(storage: &Path, owner: Option<(u32, u32)>) -> Result<(), StorageError> {
    if storage.is_dir() {
        return Ok(());
    }
    let failed = |error| StorageError::new(storage, "make the directory", error);
    DirBuilder::new().recursive(true).mode(0o700).create(storage).map_err(failed)?;
    match owner {
        Some((uid, gid)) => chown(storage, Some(uid), Some(gid)).map_err(failed),
        None => Ok(()),
    }
}

/// One private directory in the storage, 0700. Every access goes through the open directory and
/// follows no symbolic link, because root may work here in a directory that belongs to another
/// user; for the same reason what root makes here belongs to that user.
#[derive(Debug)]
pub(crate) struct Folder {
    directory: OwnedFd,
    path: PathBuf,
    /// Whom new files are given to; `None` when they are already theirs.
    owner: Option<(Uid, Gid)>,
}

/// The sole right to write in a [`Folder`], given back on drop.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
}

impl Folder {
    /// Opens the folder `name` of `storage` where it exists. Writes nothing.
    pub(crate) fn open(storage: &Path, name: &str) -> Result<Option<Self>, StorageError> {
        let path = storage.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(StorageError::new(&path, "open", error.into())),
        };
        let stat = rustix::fs::fstat(&directory)
            .map_err(|error| StorageError::new(&path, "look at", error.into()))?;
        let us = rustix::process::geteuid();
        if !us.is_root() && stat.st_uid != 0 && stat.st_uid != us.as_raw() {
            let why = format!("it belongs to uid {}, who would know the keys in it", stat.st_uid);
            return Err(StorageError::new(&path, "use", io::Error::other(why)));
        }
        let owner = (us.is_root() && stat.st_uid != 0)
            .then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        Ok(Some(Self { directory, path, owner }))
    }

    /// Opens the folder `name` of `storage`, making both where they are missing.
    pub(crate) fn create(storage: &Path, name: &str) -> Result<Self, StorageError> {
        prepare(storage, None)?;
        let path = storage.join(name);
        let failed = |error: rustix::io::Errno| StorageError::new(&path, "make", error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(CWD, storage, flags, Mode::empty()).map_err(failed)?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => {
                let stat = rustix::fs::fstat(&parent).map_err(failed)?;
                if rustix::process::geteuid().is_root() && stat.st_uid != 0 {
                    let made =
                        rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty())
                            .map_err(failed)?;
                    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                    rustix::fs::fchown(&made, Some(user), Some(group)).map_err(failed)?;
                }
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let missing = || StorageError::new(&path, "open", io::ErrorKind::NotFound.into());
        let folder = Self::open(storage, name)?.ok_or_else(missing)?;
        folder.close_to_others()?;
        Ok(folder)
    }

    /// Where a file of this folder is, for messages.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits for other processes that write here, but not for ever.
    pub(crate) fn lock(&self) -> Result<Lock, StorageError> {
        let failed = |error| StorageError::new(&self.path("lock"), "lock", error);
        let file = self.lock_file("lock")?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// The sole right to what `name` stands for, where no other process has it; `None` where one
    /// does. It ends with the process, however that ends.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Option<Lock>, StorageError> {
        let failed = |error| StorageError::new(&self.path(name), "lock", error);
        let file = self.lock_file(name)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn lock_file(&self, name: &str) -> Result<OwnedFd, StorageError> {
        let failed = |error| StorageError::new(&self.path(name), "lock", error);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        self.give(&file).map_err(failed)?;
        Ok(file)
    }

    /// Removes a file, where it is there.
    pub(crate) fn remove(&self, name: &str, _lock: &Lock) -> Result<(), StorageError> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(StorageError::new(&self.path(name), "remove", error.into())),
        }
    }

    /// Gives a file another name, in place of whatever had it.
    pub(crate) fn rename(&self, from: &str, to: &str, _lock: &Lock) -> Result<(), StorageError> {
        rustix::fs::renameat(&self.directory, from, &self.directory, to)
            .map_err(|error| StorageError::new(&self.path(from), "rename", error.into()))
    }

    /// The names of everything in it, in no order.
    pub(crate) fn names(&self) -> Result<Vec<String>, StorageError> {
        let failed = |error: rustix::io::Errno| StorageError::new(&self.path, "list", error.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// The content of a file; `None` where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let failed = |error| StorageError::new(&self.path(name), "read", error);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => read_regular(File::from(file)).map(Some).map_err(failed),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Replaces a file, whole: other processes and a crash see the old content or the new one.
    /// The caller holds the [`Lock`].
    pub(crate) fn write(
        &self,
        name: &str,
        content: &[u8],
        mode: Mode,
        _lock: &Lock,
    ) -> Result<(), StorageError> {
        let write = || -> io::Result<()> {
            let temporary = format!(".{name}.new");
            match rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.directory, &temporary, flags, mode)?;
            rustix::fs::fchmod(&file, mode)?;
            self.give(&file)?;
            let mut file = File::from(file);
            file.write_all(content)?;
            file.sync_all()?;
            rustix::fs::renameat(&self.directory, &temporary, &self.directory, name)?;
            Ok(rustix::fs::fsync(&self.directory)?)
        };
        write().map_err(|error| StorageError::new(&self.path(name), "write", error))
    }

    fn give(&self, file: &OwnedFd) -> io::Result<()> {
        match self.owner {
            Some((user, group)) => Ok(rustix::fs::fchown(file, Some(user), Some(group))?),
            None => Ok(()),
        }
    }

    fn close_to_others(&self) -> Result<(), StorageError> {
        let failed = |error: rustix::io::Errno| {
            StorageError::new(&self.path, "close to other users", error.into())
        };
        let stat = rustix::fs::fstat(&self.directory).map_err(failed)?;
        if stat.st_mode & 0o077 == 0 {
            return Ok(());
        }
        rustix::fs::fchmod(&self.directory, Mode::RWXU).map_err(failed)
    }
}

/// Reads an open file that must be a regular one of at most [`MAX_FILE`] bytes: a pipe would make
/// us wait for ever, a device has no end.
pub(crate) fn read_regular(file: File) -> io::Result<Vec<u8>> {
    let stat = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(io::Error::other("it is a directory")),
        FileType::Fifo => return Err(io::Error::other("it is a pipe, not a regular file")),
        FileType::Socket => return Err(io::Error::other("it is a socket, not a regular file")),
        _ => return Err(io::Error::other("it is not a regular file")),
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(content)
}

/// Why the storage directory cannot be used.
#[derive(Debug)]
pub struct StorageError {
    path: PathBuf,
    doing: &'static str,
    source: io::Error,
    uid: u32,
}

impl StorageError {
    fn new(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self { path: path.to_owned(), doing, source, uid }
    }

    /// Whether a right is missing, rather than a file or a disk.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self.source.kind(), PermissionDenied | ReadOnlyFilesystem)
    }

    /// Whether something else is where a directory has to be.
    pub(crate) fn is_no_directory(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotADirectory
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, doing, source, uid } = self;
        write!(f, "cannot {doing} {}: {source}", printable(&path.to_string_lossy()))?;
        match *doing {
            _ if !self.is_permission() => Ok(()),
            _ if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                write!(f, ": {}", remount(path))
            }
            "open" | "read" => write!(f, " (running as uid {uid}); ask as root or as its owner"),
            _ => write!(
                f,
                " (running as uid {uid}); let `acme.storage` name a directory that uid {uid} may \
                 write, made with: install -d -m 700 -o {uid} DIRECTORY"
            ),
        }
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_user_keeps_state_where_the_desktop_specification_says() {
        let text = |text: &str| Some(OsString::from(text));
        assert_eq!(state_of(text("/s"), text("/h"), 7), Path::new("/s/portcullis"));
        let home = Path::new("/h/.local/state/portcullis");
        assert_eq!(state_of(None, text("/h"), 7), home);
        assert_eq!(state_of(text("relative"), text("/h"), 7), home);
        assert!(state_of(None, text(""), 7).ends_with("portcullis-7"));
    }

    #[test]
    fn the_storage_is_made_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let storage = directory.path().join("deep/storage");
        assert!(writable(&storage));
        prepare(&storage, None).unwrap();
        assert_eq!(fs::metadata(&storage).unwrap().permissions().mode() & 0o777, 0o700);
        prepare(&storage, None).unwrap();
    }

    #[test]
    fn a_storage_that_may_not_be_written_is_named_with_the_user_and_the_remedy() {
        let denied = io::ErrorKind::PermissionDenied.into();
        let error = StorageError::new(Path::new("/var/lib/portcullis"), "write", denied);
        let uid = rustix::process::geteuid().as_raw();
        assert!(error.is_permission());
        let text = error.to_string();
        assert!(text.contains("/var/lib/portcullis") && text.contains(&format!("uid {uid}")));
        assert!(text.contains("install -d -m 700"));
    }

    /// Nobody could make a directory there that would be of use.
    #[test]
    fn a_storage_that_is_mounted_read_only_takes_another_remedy() {
        let fixed = io::ErrorKind::ReadOnlyFilesystem.into();
        let text = StorageError::new(Path::new("/s/acme/a.lock"), "lock", fixed).to_string();
        assert!(text.contains("findmnt -T /s/acme/a.lock") && text.contains("remount"), "{text}");
        assert!(!text.contains("install -d"), "{text}");
    }

    #[test]
    fn a_write_replaces_the_whole_file_and_removes_what_a_crash_left() {
        let storage = tempfile::tempdir().unwrap();
        let folder = Folder::create(storage.path(), "folder").unwrap();
        let lock = folder.lock().unwrap();
        fs::write(folder.path(".name.new"), "left behind").unwrap();
        folder.write("name", b"longer content", Mode::RUSR, &lock).unwrap();
        folder.write("name", b"short", Mode::RUSR, &lock).unwrap();
        assert_eq!(folder.read("name").unwrap().unwrap(), b"short");
        assert!(!folder.path(".name.new").exists());
    }

    #[test]
    fn a_link_in_the_storage_is_not_followed() {
        let storage = tempfile::tempdir().unwrap();
        let outside = storage.path().join("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, storage.path().join("folder")).unwrap();
        Folder::create(storage.path(), "folder").unwrap_err();
        let folder = Folder::create(storage.path(), "real").unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(outside.join("secret"), folder.path("name")).unwrap();
        folder.read("name").unwrap_err();
        let lock = folder.lock().unwrap();
        folder.write("name", b"ours", Mode::RUSR, &lock).unwrap();
        assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    }
}
