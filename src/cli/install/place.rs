//! Files below a root: what is there, and writes that are whole or not there at all.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, linkat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::super::Stop;
use super::manifest::{Digest, Manifest};
use super::plan::{Action, Step};
use super::root::Root;
use crate::exit;

/// A name in a folder that is held open: nobody can lead it elsewhere any more.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    name: OsString,
    /// The whole path, for people.
    path: PathBuf,
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// What it holds, and its mode.
    File(Digest, u32),
    Link,
    Other,
}

impl Place {
    pub(super) fn new(folder: OwnedFd, name: &OsStr, path: PathBuf) -> Self {
        Self { folder, name: name.to_owned(), path }
    }

    /// Its name in the folder.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// What stands there. Follows no link and waits for no pipe.
    pub(super) fn look(&self) -> Result<Found, Stop> {
        self.find().map_err(|error| failed("read", &self.path, &error))
    }

    fn find(&self) -> io::Result<Found> {
        let stat = match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(error.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let digest = Digest::of_reader(&mut self.open()?)?;
                Ok(Found::File(digest, stat.st_mode & 0o7777))
            }
            FileType::Symlink => Ok(Found::Link),
            _ => Ok(Found::Other),
        }
    }

    /// The whole file; `None` where there is none.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, Stop> {
        let mut bytes = Vec::new();
        match self.open().and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &self.path, &error)),
        }
    }

    fn open(&self) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &self.name, flags, Mode::empty())?.into())
    }

    /// Puts a whole file in place of whatever is there.
    pub(super) fn replace(&self, bytes: &[u8], mode: u32) -> Result<(), Stop> {
        self.by_draft(bytes, mode, |draft| renameat(&self.folder, draft, &self.folder, &self.name))
    }

    /// Puts a whole file where nothing is; what has appeared there meanwhile stays.
    fn create(&self, bytes: &[u8], mode: u32) -> Result<(), Stop> {
        self.by_draft(bytes, mode, |draft| {
            linkat(&self.folder, draft, &self.folder, &self.name, AtFlags::empty())?;
            unlinkat(&self.folder, draft, AtFlags::empty())
        })
    }

    fn by_draft(
        &self,
        bytes: &[u8],
        mode: u32,
        put: impl FnOnce(&OsStr) -> Result<(), Errno>,
    ) -> Result<(), Stop> {
        let mut draft = self.draft_prefix();
        draft.push(std::process::id().to_string());
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut file: File =
                openat(&self.folder, &draft, flags, Mode::RUSR | Mode::WUSR)?.into();
            let fill = || -> io::Result<()> {
                file.write_all(bytes)?;
                file.set_permissions(Permissions::from_mode(mode))?;
                file.sync_all()?;
                Ok(put(&draft)?)
            };
            fill().inspect_err(|_| {
                let _ = unlinkat(&self.folder, &draft, AtFlags::empty());
            })
        };
        write().map_err(|error| failed("write", &self.path, &error))
    }

    /// What the drafts of this file are called, before the pid of whoever writes one.
    fn draft_prefix(&self) -> OsString {
        let mut prefix = OsString::from(".");
        prefix.push(&self.name);
        prefix.push(".");
        prefix
    }

    /// The drafts of this file that installs have left which were cut short. That of an install
    /// which is at work now is none of them.
    pub(super) fn leftovers(&self) -> Result<Vec<Place>, Stop> {
        let found = self.find_leftovers();
        found.map_err(|error| failed("look for drafts of", &self.path, &error.into()))
    }

    fn find_leftovers(&self) -> Result<Vec<Place>, Errno> {
        let prefix = self.draft_prefix();
        let mut found = Vec::new();
        let readable = OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(openat(&self.folder, ".", readable, Mode::empty())?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let Some(pid) = name.as_bytes().strip_prefix(prefix.as_bytes()) else { continue };
            if pid.is_empty() || !pid.iter().all(u8::is_ascii_digit) || is_install(pid) {
                continue;
            }
            let stat = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if is_file && stat.st_uid == rustix::process::geteuid().as_raw() {
                let folder = self.folder.try_clone().map_err(|_| Errno::MFILE)?;
                found.push(Place::new(folder, name, self.path.with_file_name(name)));
            }
        }
        Ok(found)
    }

    /// Removes the file.
    pub(super) fn remove(&self) -> Result<(), Stop> {
        let removed = unlinkat(&self.folder, &self.name, AtFlags::empty());
        removed.map_err(|error| failed("remove", &self.path, &error.into()))
    }

    /// Removes the folder, if it is one and empty; says whether.
    pub(super) fn remove_folder(&self) -> Result<bool, Stop> {
        match unlinkat(&self.folder, &self.name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(failed("remove", &self.path, &error.into())),
        }
    }
}

/// Whether a process is another one that installs now.
fn is_install(pid: &[u8]) -> bool {
    let pid = String::from_utf8_lossy(pid);
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pid != std::process::id().to_string() && words.split(|byte| *byte == 0).any(|w| w == b"install")
}

/// Puts the file of a step in its place and writes it down, as it does the folders above before,
/// so that an install that is cut short can be taken back.
pub(super) fn write(step: &Step, root: &Root, manifest: &mut Manifest) -> Result<(), Stop> {
    let mut made = Vec::new();
    let place = root.made_place(&step.file.path, &mut made);
    if !made.is_empty() {
        manifest.directories.extend(made.iter().cloned());
        manifest.save(root).inspect_err(|_| root.unmake(&made))?;
    }
    let place = place?;
    match step.action {
        Action::Update => place.replace(&step.bytes, step.file.mode)?,
        _ => place.create(&step.bytes, step.file.mode)?,
    }
    manifest.files.insert(step.file.path.clone(), Digest::of(&step.bytes));
    manifest.save(root)
}

/// What could not be done, and the exit code for it.
pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> Stop {
    let is_permission = error.kind() == ErrorKind::PermissionDenied;
    Stop {
        code: if is_permission { exit::NOT_PERMITTED } else { exit::FAILED },
        text: format!("cannot {what} {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_has_appeared_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "theirs").unwrap();
        let place = Root::new(folder.path()).place(Path::new("/a")).unwrap().unwrap();
        let stop = place.create(b"ours", 0o644).unwrap_err();
        assert!(stop.text.contains("File exists"), "{}", stop.text);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        place.replace(b"ours", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_folders_are_told_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let found = |path: &str| root.look_at(Path::new(path)).unwrap();
        symlink("/dev/null", folder.path().join("masked")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        fs::write(folder.path().join("file"), "abc").unwrap();
        fs::set_permissions(folder.path().join("file"), Permissions::from_mode(0o640)).unwrap();
        assert_eq!(found("/masked"), Found::Link);
        assert_eq!(found("/folder"), Found::Other);
        assert_eq!(found("/file"), Found::File(Digest::of(b"abc"), 0o640));
        for nothing in ["/none", "/none/deeper", "/file/deeper"] {
            assert_eq!(found(nothing), Found::Nothing, "{nothing}");
        }
    }
}
