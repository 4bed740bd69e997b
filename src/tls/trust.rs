//! The system's trust store: where programs of this host look for roots.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::local_ca::LocalAuthority;

const PREFIX: &str = "portcullis-local-";

/// The store of Debian and its relatives: PEM files in a directory, and a program that gathers
/// them.
#[derive(Debug)]
pub struct TrustStore {
    anchors: PathBuf,
    update: PathBuf,
}

impl TrustStore {
    /// The store of this host.
    #[must_use]
    pub fn system() -> Self {
        Self {
            anchors: "/usr/local/share/ca-certificates".into(),
            update: "/usr/sbin/update-ca-certificates".into(),
        }
    }

    /// Where the root of this authority belongs. Its name has the root's fingerprint, so that the
    /// roots of several storages do not push each other out.
    #[must_use]
    pub fn place(&self, authority: &LocalAuthority) -> PathBuf {
        self.anchors.join(format!("{PREFIX}{}.crt", authority.fingerprint()))
    }

    /// Makes this host trust the authority's root.
    ///
    /// # Errors
    /// When there is no such store, it may not be written, or its program fails.
    pub fn add(&self, authority: &LocalAuthority) -> Result<PathBuf, TrustError> {
        self.check()?;
        let place = self.place(authority);
        let temporary = place.with_extension("new");
        let write = || -> io::Result<()> {
            fs::write(&temporary, authority.root_pem())?;
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644))?;
            fs::rename(&temporary, &place)
        };
        write().map_err(|error| TrustError::Write(place.clone(), error))?;
        self.gather(&[])?;
        Ok(place)
    }

    /// Takes roots out again; says which were there.
    ///
    /// # Errors
    /// As [`TrustStore::add`].
    pub fn remove(&self, roots: &[PathBuf]) -> Result<Vec<PathBuf>, TrustError> {
        self.check()?;
        let mut removed = Vec::new();
        for root in roots {
            match fs::remove_file(root) {
                Ok(()) => removed.push(root.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(TrustError::Write(root.clone(), error)),
            }
        }
        if !removed.is_empty() {
            self.gather(&["--fresh"])?;
        }
        Ok(removed)
    }

    /// Every root of a local authority that the store holds, this host's present one or not.
    #[must_use]
    pub fn installed(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.anchors).into_iter().flatten().flatten();
        let mut roots: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with(PREFIX) && name.ends_with(".crt")
            })
            .collect();
        roots.sort_unstable();
        roots
    }

    /// Whether the store is there and ours to change.
    ///
    /// # Errors
    /// [`TrustError::NoStore`] or [`TrustError::NotPermitted`].
    pub fn check(&self) -> Result<(), TrustError> {
        if !self.anchors.is_dir() || !self.update.exists() {
            return Err(TrustError::NoStore(self.anchors.clone()));
        }
        let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let uid = rustix::process::geteuid().as_raw();
        rustix::fs::accessat(rustix::fs::CWD, &self.anchors, wanted, rustix::fs::AtFlags::EACCESS)
            .map_err(|_| TrustError::NotPermitted { anchors: self.anchors.clone(), uid })
    }

    fn gather(&self, arguments: &[&str]) -> Result<(), TrustError> {
        let failed = |why: String| TrustError::Update(self.update.clone(), why);
        let output = Command::new(&self.update)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(failed(format!("{} {said}", output.status)))
    }
}

/// The commands that install a root for those who may not: what [`TrustStore::add`] does, as root.
#[must_use]
pub fn commands(print: &str, place: &Path) -> String {
    format!("{print} | sudo tee {} >/dev/null && sudo update-ca-certificates", place.display())
}

/// Why the store was not changed.
#[derive(Debug)]
pub enum TrustError {
    /// This system has no such store.
    NoStore(PathBuf),
    /// It belongs to root.
    NotPermitted {
        /// The directory of the store.
        anchors: PathBuf,
        /// Who we are.
        uid: u32,
    },
    /// A file in it cannot be written or removed.
    Write(PathBuf, io::Error),
    /// The program that gathers the files failed.
    Update(PathBuf, String),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::NoStore(anchors) => write!(
                f,
                "this system has no {} with an update-ca-certificates; on Debian: apt-get install \
                 ca-certificates; elsewhere give the output of `portcullis certs trust --print` to \
                 the system's own tool",
                anchors.display()
            ),
            TrustError::NotPermitted { anchors, uid } => {
                write!(f, "uid {uid} may not write {}", anchors.display())
            }
            TrustError::Write(path, error) => {
                write!(f, "cannot change {}: {error}", path.display())
            }
            TrustError::Update(program, why) => write!(f, "{} failed: {why}", program.display()),
        }
    }
}

impl std::error::Error for TrustError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrustError::Write(_, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;

    /// A store whose program writes its arguments into a file, and an authority.
    fn store() -> (TempDir, TrustStore, LocalAuthority) {
        let directory = tempfile::tempdir().unwrap();
        let update = directory.path().join("update");
        let said = directory.path().join("said");
        fs::write(&update, format!("#!/bin/sh\necho \"ran $*\" >> {}\n", said.display())).unwrap();
        fs::set_permissions(&update, fs::Permissions::from_mode(0o755)).unwrap();
        let anchors = directory.path().join("anchors");
        fs::create_dir(&anchors).unwrap();
        let storage = directory.path().join("storage");
        let authority = LocalAuthority::open_or_create(&storage, SystemTime::now()).unwrap();
        (directory, TrustStore { anchors, update }, authority)
    }

    #[test]
    fn a_root_comes_and_goes() {
        let (directory, store, authority) = store();
        let place = store.add(&authority).unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), authority.root_pem());
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o644);
        let installed = store.installed();
        assert_eq!(installed, [place]);
        assert_eq!(store.remove(&installed).unwrap(), installed);
        assert!(store.installed().is_empty());
        assert!(store.remove(&installed).unwrap().is_empty());
        let said = fs::read_to_string(directory.path().join("said")).unwrap();
        assert_eq!(said, "ran \nran --fresh\n");
    }

    #[test]
    fn other_roots_of_the_host_are_left_alone() {
        let (_directory, store, authority) = store();
        fs::write(store.anchors.join("company.crt"), "theirs").unwrap();
        store.add(&authority).unwrap();
        store.remove(&store.installed()).unwrap();
        assert!(store.anchors.join("company.crt").exists());
    }

    #[test]
    fn a_host_without_a_store_is_told_what_to_do() {
        let (_directory, mut store, authority) = store();
        store.anchors = store.anchors.join("missing");
        let error = store.add(&authority).unwrap_err().to_string();
        assert!(error.contains("apt-get install ca-certificates") && error.contains("--print"));
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let (_directory, store, authority) = store();
        fs::write(&store.update, "#!/bin/sh\necho broken bundle >&2\nexit 3\n").unwrap();
        let error = store.add(&authority).unwrap_err().to_string();
        assert!(error.contains("broken bundle") && error.contains('3'), "{error}");
    }
}
