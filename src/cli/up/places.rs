//! Where `up` and `demo` keep things and as whom they serve, when no file says so.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::privilege::identity;
use crate::tls::storage;

/// The user to become when started as root: the configured one where the storage is his already,
/// else whoever called sudo, else the configured one after all.
pub(super) fn user(configured: Option<&str>, storage: &Path) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return configured.map(ToOwned::to_owned);
    }
    let owner = fs::metadata(storage).map(|found| found.uid()).ok();
    let owns = |user: &&str| identity::find(user).is_ok_and(|user| Some(user.uid) == owner);
    let caller = std::env::var("SUDO_UID").ok();
    let caller = caller.as_deref().filter(|user| identity::find(user).is_ok());
    configured.filter(owns).or(caller).or(configured).map(ToOwned::to_owned)
}

/// The configured storage where this user may write, else the user's own.
pub(super) fn storage(configured: &Path) -> PathBuf {
    if storage::writable(configured) {
        configured.to_path_buf()
    } else {
        storage::default_for_user()
    }
}

/// The control socket: the configured one where its directory is writable, else one in the user's
/// runtime directory, else one in a directory of the user's own under the temporary directory.
/// Where another process already answers on it, a name of this process's own.
pub(super) fn admin_socket(configured: &Path) -> io::Result<PathBuf> {
    let writable = configured.parent().is_some_and(storage::writable);
    let path = if writable {
        configured.to_path_buf()
    } else {
        own_directory()?.join(configured.file_name().unwrap_or("control.sock".as_ref()))
    };
    if UnixStream::connect(&path).is_ok() {
        return Ok(path.with_file_name(format!("control-{}.sock", std::process::id())));
    }
    Ok(path)
}

fn own_directory() -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| path.is_absolute() && storage::writable(path));
    let uid = rustix::process::geteuid().as_raw();
    private(match runtime {
        Some(runtime) => runtime.join("portcullis"),
        None => std::env::temp_dir().join(format!("portcullis-{uid}")),
    })
}

/// The directory, made where it is missing; refused unless it is ours alone, because everybody may
/// make a name in the temporary directory before we do.
fn private(path: PathBuf) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&path)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_dir() || !ours || found.mode() & 0o077 != 0 {
        let why = format!("{} is not a directory of this user alone", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_private_directory_is_made_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis-1");
        assert_eq!(private(path.clone()).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(private(path.clone()).unwrap(), path);
    }

    #[test]
    fn a_directory_that_others_can_reach_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private(open.clone()).is_err());
        let link = folder.path().join("link");
        symlink(&open, &link).unwrap();
        assert!(private(link).is_err());
    }

    #[test]
    fn a_second_program_gets_a_socket_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let configured = folder.path().join("control.sock");
        assert_eq!(admin_socket(&configured).unwrap(), configured);
        let _first = UnixListener::bind(&configured).unwrap();
        let second = admin_socket(&configured).unwrap();
        assert_ne!(second, configured);
        assert_eq!(second.parent(), configured.parent());
    }
}
