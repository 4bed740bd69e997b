//! What the control plane holds of the system: descriptors, its socket, the files it watches.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, TlsSource};

/// Descriptors that are not connections: listeners, logs, runtimes, files being read.
const OWN: u64 = 48;

/// How many of the wanted connections the descriptors of this process carry: two each, one towards
/// the client and one towards the application. The soft limit is raised to the hard one first.
#[must_use]
pub fn carried(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(descriptors) = current else { return wanted };
    let carried = usize::try_from(descriptors.saturating_sub(OWN) / 2).unwrap_or(usize::MAX).max(1);
    if carried < wanted {
        tracing::warn!(
            "limits.connections is lowered from {wanted} to {carried}: this process may have \
             {descriptors} descriptors (LimitNOFILE in a unit, ulimit -n in a shell)"
        );
    }
    carried.min(wanted)
}

/// Takes the address where metrics are scraped.
///
/// # Errors
/// When it cannot be had, with the key that names it.
pub fn bind_metrics(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let explain = |error: io::Error| {
        io::Error::new(error.kind(), format!("admin.metrics: cannot listen on {address}: {error}"))
    };
    let listener = bound.map_err(explain)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!("metrics on http://{address}/metrics");
    }
    Ok(listener)
}

/// The control socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl ControlSocket {
    /// The socket for the control plane's runtime.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Another process may have put its own there.
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the control socket. The server is of use without it, so that it is said and not fatal
/// when it cannot be made.
#[must_use]
pub fn bind_control(path: &Path) -> Option<ControlSocket> {
    match make_socket(path) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(
                "no control socket at {}: {error}; reload by signal (HUP), or name another place \
                 in admin.socket",
                path.display()
            );
            None
        }
    }
}

fn make_socket(path: &Path) -> io::Result<ControlSocket> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "another file is there"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(ErrorKind::AddrInUse, "another server is running with it"));
        }
        fs::remove_file(path)?;
    }
    // Nobody may connect between the making of the file and the change of its mode.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(umask);
    let listener = listener?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let inode = fs::metadata(path)?.ino();
    Ok(ControlSocket { listener, path: path.to_owned(), inode })
}

/// What the certificate files of a configuration look like from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Inode, time of the last change in seconds and nanoseconds, size.
type Stamp = (u64, i64, i64, u64);

impl Stamps {
    /// Looks at them now.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let pairs = config.sites.iter().filter_map(|site| match &site.tls {
            TlsSource::Files { cert, key } => Some([cert, key]),
            TlsSource::Auto | TlsSource::Local => None,
        });
        Self(pairs.flatten().map(|path| (path.clone(), stamp(path))).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}
