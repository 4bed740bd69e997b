//! Files below a root: what is there, and writes that are whole or not there at all.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::super::Stop;
use super::manifest::{Digest, Manifest};
use super::plan::{Action, Step};
use crate::exit;

/// The folder that stands for `/`.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File(Digest),
    Link,
    Other,
}

impl Root {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Whether it is this host's own.
    pub(super) fn is_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where an absolute path is below it.
    pub(super) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
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
            .map(|unit| self.join(unit))
            .find(|unit| unit.is_file())
    }

    /// Whether a unit was enabled and not disabled since.
    pub(super) fn is_enabled(&self, unit: &str) -> bool {
        ["multi-user.target.wants", "sockets.target.wants"].into_iter().any(|wants| {
            let link = self.join("/etc/systemd/system").join(wants).join(unit);
            link.symlink_metadata().is_ok()
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

    /// Makes the folders above `path` that are missing, mode 0755; says which, from the top.
    pub(super) fn make_folder_of(&self, path: &Path) -> Result<Vec<PathBuf>, Stop> {
        let mut missing: Vec<&Path> =
            path.ancestors().skip(1).take_while(|folder| !self.join(folder).is_dir()).collect();
        missing.reverse();
        for folder in &missing {
            let place = self.join(folder);
            let made = fs::DirBuilder::new().mode(0o755).create(&place);
            // Whatever the umask says.
            made.and_then(|()| fs::set_permissions(&place, Permissions::from_mode(0o755)))
                .map_err(|error| failed("make the folder", &place, &error))?;
        }
        Ok(missing.into_iter().map(Path::to_owned).collect())
    }
}

/// What stands at `path`. Follows no link and waits for no pipe.
pub(super) fn look_at(path: &Path) -> io::Result<Found> {
    let kind = match path.symlink_metadata() {
        Ok(found) => found.file_type(),
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Found::Nothing);
        }
        Err(error) => return Err(error),
    };
    if kind.is_symlink() {
        return Ok(Found::Link);
    }
    if !kind.is_file() {
        return Ok(Found::Other);
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    Digest::of_reader(&mut file).map(Found::File)
}

/// Puts the file of a step in its place and writes it down.
pub(super) fn write(step: &Step, root: &Root, manifest: &mut Manifest) -> Result<(), Stop> {
    let path = root.join(&step.file.path);
    manifest.directories.extend(root.make_folder_of(&step.file.path)?);
    let written = match step.action {
        Action::Update => replace(&path, &step.bytes, step.file.mode),
        _ => create(&path, &step.bytes, step.file.mode),
    };
    written.map_err(|error| failed("write", &path, &error))?;
    manifest.files.insert(step.file.path.clone(), Digest::of(&step.bytes));
    manifest.save(root)
}

/// Puts a whole file in place of whatever is there.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    by_draft(path, bytes, mode, |draft| fs::rename(draft, path))
}

/// Puts a whole file where nothing is; what has appeared there meanwhile stays.
fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    by_draft(path, bytes, mode, |draft| {
        fs::hard_link(draft, path)?;
        fs::remove_file(draft)
    })
}

fn by_draft(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let write = || {
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        put(&draft)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

/// What could not be done, and the exit code for it.
pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> Stop {
    let is_permission = error.kind() == ErrorKind::PermissionDenied;
    Stop {
        code: if is_permission { exit::NOT_PERMITTED } else { exit::FAILED },
        text: format!("cannot {what} {}: {error}", path.display()),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_below_the_root_and_found_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(root.join("/etc/a"), folder.path().join("etc/a"));
        let real = folder.path().canonicalize().unwrap();
        assert_eq!(root.within(&real.join("usr/bin/p")), Some("/usr/bin/p".into()));
        assert_eq!(root.within(Path::new("/usr/bin/p")), None);
        assert_eq!(Root::new(Path::new("/")).within(Path::new("/a")), Some("/a".into()));
    }

    #[test]
    fn what_has_appeared_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "theirs").unwrap();
        assert_eq!(create(&path, b"ours", 0o644).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        replace(&path, b"ours", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_folders_are_told_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        symlink("/dev/null", path("masked")).unwrap();
        fs::write(path("file"), "abc").unwrap();
        assert_eq!(look_at(&path("masked")).unwrap(), Found::Link);
        assert_eq!(look_at(folder.path()).unwrap(), Found::Other);
        assert_eq!(look_at(&path("file")).unwrap(), Found::File(Digest::of(b"abc")));
        assert_eq!(look_at(&path("none")).unwrap(), Found::Nothing);
        assert_eq!(look_at(&path("none/deeper")).unwrap(), Found::Nothing);
    }
}
