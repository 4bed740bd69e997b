//! The folder that stands for `/`: this host's own, or that of an image.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::super::Stop;
use super::place::{self, Found, Place};
use super::walk::{self, Missing};
use crate::exit;

/// The folder that stands for `/`.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Whether it is this host's own.
    pub(super) fn is_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// How an absolute path below it is told to people. Not to be opened: a link in it may lead
    /// out of the root.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(inside) if inside.as_os_str().is_empty() => self.0.clone(),
            Ok(inside) => self.0.join(inside),
            Err(_) => self.0.join(path),
        }
    }

    /// Opens the root itself.
    pub(super) fn open(&self) -> Result<OwnedFd, Stop> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &self.0, flags, Mode::empty())
            .map_err(|error| place::failed("open", &self.0, &error.into()))
    }

    /// Where an absolute path is below it; `None` where its folder is missing.
    pub(super) fn place(&self, path: &Path) -> Result<Option<Place>, Stop> {
        self.place_in(path, Missing::Stay)
    }

    /// The same, with the folders above it made where they are missing, mode 0755, which are put
    /// down in `made` from the top.
    pub(super) fn made_place(&self, path: &Path, made: &mut Vec<PathBuf>) -> Result<Place, Stop> {
        let place = self.place_in(path, Missing::Make(made))?;
        place.ok_or_else(|| {
            let shown = self.shown(path);
            let text = format!("cannot write {}: not all above it are folders", shown.display());
            Stop { code: exit::FAILED, text }
        })
    }

    /// Removes folders again that were just made; one that is no longer empty stays.
    pub(super) fn unmake(&self, made: &[PathBuf]) {
        for folder in made.iter().rev() {
            if let Ok(Some(place)) = self.place(folder) {
                let _ = place.remove_folder();
            }
        }
    }

    fn place_in(&self, path: &Path, missing: Missing<'_>) -> Result<Option<Place>, Stop> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let folder = walk::folder(self, above, missing)?;
        Ok(folder.map(|folder| Place::new(folder, name, self.shown(path))))
    }

    /// What stands at an absolute path below it.
    pub(super) fn look_at(&self, path: &Path) -> Result<Found, Stop> {
        self.place(path)?.map_or(Ok(Found::Nothing), |place| place.look())
    }

    /// The absolute path that `path` has for whoever takes this root for `/`.
    pub(super) fn within(&self, path: &Path) -> Option<PathBuf> {
        let root = self.0.canonicalize().ok()?;
        path.strip_prefix(root).ok().map(|inside| Path::new("/").join(inside))
    }

    /// The unit that a package has brought.
    pub(super) fn packaged_unit(&self) -> Option<PathBuf> {
        ["/usr/lib/systemd/system/portcullis.service", "/lib/systemd/system/portcullis.service"]
            .into_iter()
            .find(|unit| matches!(self.look_at(Path::new(unit)), Ok(Found::File(..))))
            .map(|unit| self.shown(Path::new(unit)))
    }

    /// Whether a unit was enabled and not disabled since.
    pub(super) fn is_enabled(&self, unit: &str) -> bool {
        let targets = ["multi-user.target.wants", "sockets.target.wants", "timers.target.wants"];
        targets.into_iter().any(|wants| {
            let link = Path::new("/etc/systemd/system").join(wants).join(unit);
            matches!(self.look_at(&link), Ok(found) if found != Found::Nothing)
        })
    }

    /// What goes before a command for root.
    pub(super) fn as_root(&self) -> &'static str {
        if is_root() { "" } else { "sudo " }
    }

    /// Nobody but root writes on this host itself.
    pub(super) fn must_be_writable(&self, verb: &str) -> Result<(), Stop> {
        if is_root() || !self.is_host() {
            return Ok(());
        }
        let program = std::env::current_exe().unwrap_or_else(|_| "portcullis".into());
        let text = format!(
            "this takes root: sudo {program} {verb}\n\
             What it would do: {program} {verb} --dry-run",
            program = program.display()
        );
        Err(Stop { code: exit::NOT_PERMITTED, text })
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_root_and_found_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(root.shown(Path::new("/etc/a")), folder.path().join("etc/a"));
        let real = folder.path().canonicalize().unwrap();
        assert_eq!(root.within(&real.join("usr/bin/p")), Some("/usr/bin/p".into()));
        assert_eq!(root.within(Path::new("/usr/bin/p")), None);
        assert_eq!(Root::new(Path::new("/")).within(Path::new("/a")), Some("/a".into()));
    }
}
