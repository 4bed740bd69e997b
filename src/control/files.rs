//! What the control plane holds of the system: descriptors, its socket, the files it watches.

use std::fs;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::config::{Config, Listen};
use crate::privilege::explain::{self, METRICS, Serving, Wanted, When};
use crate::tls::files::Look;
use crate::tls::files::handed::watched;

/// Descriptors that are not connections: listeners, logs, runtimes, files being read.
const OWN: u64 = 48;

/// Questions to the control socket that may wait to be heard.
const WAITING: i32 = 16;

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
    let carried = carries_with(descriptors);
    if carried < wanted {
        tracing::warn!(
            "limits.connections is lowered from {wanted} to {carried}: this process may have \
             {descriptors} descriptors (LimitNOFILE in a unit, ulimit -n in a shell)"
        );
    }
    carried.min(wanted)
}

/// How many connections the descriptors carry that this process may have now.
#[must_use]
pub fn carries() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, carries_with)
}

fn carries_with(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(OWN) / 2).unwrap_or(usize::MAX).max(1)
}

/// Takes the address where metrics are scraped.
///
/// # Errors
/// When it cannot be had.
pub fn bind_metrics(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let listener = listener.map_err(|source| MetricsError { address, source })?;
    tell_metrics(&listener);
    Ok(listener)
}

/// The address where metrics are scraped could not be taken.
#[derive(Debug)]
pub struct MetricsError {
    address: SocketAddr,
    source: io::Error,
}

impl MetricsError {
    /// With the key that names it, why it is so, and what helps. `serving` is who serves with the
    /// same configuration.
    #[must_use]
    pub fn explain(&self, when: When, serving: Option<&Serving>) -> io::Error {
        let Self { address, source } = self;
        let wanted = Wanted { serving, ..Wanted::new(METRICS, Listen::Addr(*address)) };
        let why = explain::failure(wanted, source, when);
        let why = why.map(|why| format!("\n{why}")).unwrap_or_default();
        let text = format!("admin.metrics: cannot listen on {address}: {source}{why}");
        io::Error::new(source.kind(), text)
    }
}

/// Whether a passed socket is the listener for metrics at `address`.
#[must_use]
pub fn is_for_metrics(socket: &SockRef<'_>, address: SocketAddr) -> bool {
    let here = socket.local_addr().ok().and_then(|here| here.as_socket());
    let is_there =
        |here: SocketAddr| here == address || (address.port() == 0 && here.ip() == address.ip());
    here.is_some_and(is_there) && socket.is_listener().unwrap_or(false)
}

/// The listener for metrics that was passed.
#[must_use]
pub fn adopt_metrics(socket: OwnedFd) -> Option<TcpListener> {
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true).ok()?;
    tell_metrics(&listener);
    Some(listener)
}

/// Says where metrics are scraped.
pub fn tell_metrics(listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!("metrics on http://{address}/metrics");
    }
}

/// The inode of no file.
const NOT_OURS: u64 = 0;

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

    /// Whether a passed socket is the one at `path`.
    #[must_use]
    pub fn is_at(socket: &SockRef<'_>, path: &Path) -> bool {
        socket.local_addr().is_ok_and(|here| here.as_pathname() == Some(path))
    }

    /// The socket that a predecessor has passed, when it is the one at `path`. The file stays the
    /// predecessor's until [`ControlSocket::keep`]: this process may fail to come up.
    #[must_use]
    pub fn adopt(socket: OwnedFd, path: &Path) -> Option<Self> {
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(true).ok()?;
        let here = listener.local_addr().ok()?;
        (here.as_pathname() == Some(path)).then(|| Self {
            listener,
            path: path.to_owned(),
            inode: NOT_OURS,
        })
    }

    /// From now on the file goes with this process, an adopted one too.
    pub fn keep(&mut self) {
        if self.inode == NOT_OURS {
            self.inode = fs::metadata(&self.path).map_or(NOT_OURS, |metadata| metadata.ino());
        }
    }

    /// Leaves the file to a successor.
    #[must_use]
    pub fn leave(mut self) -> Left {
        let inode = mem::replace(&mut self.inode, NOT_OURS);
        Left { path: mem::take(&mut self.path), inode }
    }
}

/// The file of a control socket that was left to a successor, which may not have taken it: its
/// configuration may name another place.
#[derive(Debug)]
pub struct Left {
    path: PathBuf,
    inode: u64,
}

impl Left {
    /// Removes the file where nobody listens at it any more: to be called when this process does
    /// not.
    pub fn tidy(self) {
        let is_ours = fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if is_ours && is_deserted(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether nobody listens at a socket.
fn is_deserted(path: &Path) -> bool {
    call(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Whether somebody listens at a socket. It does not wait for who has no room.
fn call(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// The name of a folder that is for this program alone.
const OWN_FOLDER: &str = "portcullis";

impl ControlSocket {
    /// Gives the socket to the user that this process, now root, is about to become, who may ask
    /// and reload by it then; root may anyway. So that it can be removed in the end, its folder is
    /// given too where it is this program's own: named after it, and with nothing else in it.
    ///
    /// # Errors
    /// When it is not there any more, or the file system has no owners.
    pub fn hand_over(&self, uid: u32, gid: u32) -> io::Result<()> {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        // By a descriptor of the file itself, because somebody else may own the folder and put
        // another file in its place.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, &self.path, flags, Mode::empty())?;
        let found = rustix::fs::fstat(&file)?;
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        if !is_socket || found.st_ino != self.inode {
            return Err(ErrorKind::NotFound.into());
        }
        rustix::fs::chownat(&file, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
        let Some(folder) = self.path.parent().filter(|folder| folder.ends_with(OWN_FOLDER)) else {
            return Ok(());
        };
        let directory = flags | OFlags::DIRECTORY;
        let directory = rustix::fs::openat(CWD, folder, directory, Mode::empty())?;
        let mut entries = fs::read_dir(folder)?.filter_map(Result::ok);
        if entries.all(|entry| Some(&*entry.file_name()) == self.path.file_name()) {
            rustix::fs::chownat(&directory, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
        }
        Ok(())
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
        match call(path) {
            // Left behind by one that was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(()) => {
                let why = "another server is running with it";
                return Err(io::Error::new(ErrorKind::AddrInUse, why));
            }
            // So many wait there that no more may: it is stopped, perhaps, but alive.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let why = "a server that does not answer is running with it";
                return Err(io::Error::new(ErrorKind::AddrInUse, why));
            }
            // It may be somebody else's, and alive.
            Err(error) => return Err(error),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Before it has a name, so that nobody can connect in between: on Linux the file gets the mode
    // of the socket, and other threads are spared a change of the umask.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(WAITING)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    listener.set_nonblocking(true)?;
    let inode = fs::metadata(path)?.ino();
    Ok(ControlSocket { listener, path: path.to_owned(), inode })
}

/// What the certificate files of a configuration look like from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Look)>);

impl Stamps {
    /// Looks at them now.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let look = |path: PathBuf| {
            let look = Look::of(&path);
            (path, look)
        };
        Self(watched(config).into_iter().map(look).collect())
    }

    /// Whether a file is worth reading again, those of `before` being the same files.
    #[must_use]
    pub fn differ_from(&self, before: &Self) -> bool {
        let pairs = self.0.iter().zip(&before.0);
        pairs.into_iter().any(|((_, now), (_, before))| now.differs_from(*before))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_control_socket_is_its_owners_and_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/control.sock");
        let socket = make_socket(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = make_socket(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
    }

    /// The file was removed when a successor did not come up.
    #[test]
    fn the_file_of_a_predecessor_goes_with_whoever_serves_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = make_socket(&path).unwrap();
        let given = || OwnedFd::from(first.listener().unwrap());
        assert!(ControlSocket::adopt(given(), Path::new("/elsewhere")).is_none());
        drop(ControlSocket::adopt(given(), &path).unwrap());
        assert!(UnixStream::connect(&path).is_ok(), "it never served");
        let mut second = ControlSocket::adopt(given(), &path).unwrap();
        second.keep();
        first.leave().tidy();
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
    }

    /// It stayed, and answered nobody.
    #[test]
    fn the_file_that_no_successor_takes_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        make_socket(&path).unwrap().leave().tidy();
        assert!(!path.exists());
    }

    /// A start waited for ever for a server that was stopped.
    #[test]
    fn a_server_that_does_not_answer_holds_up_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _stopped = make_socket(&path).unwrap();
        let waiting = std::iter::from_fn(|| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&SockAddr::unix(&path).unwrap()).ok().map(|()| socket)
        });
        let waiting = waiting.collect::<Vec<_>>();
        assert!(!waiting.is_empty());
        assert_eq!(make_socket(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = make_socket(&path).unwrap();
        assert_eq!(make_socket(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "the first one goes on");
        // Another server has put its own there since.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(other);

        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert_eq!(make_socket(&file).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert!(bind_control(&file).is_none());
    }

    fn config(cert: &Path, key: &Path) -> Config {
        let text = format!(
            "[server]\nhttp = []\n[[site]]\nhost = \"a.test\"\nto = \"127.0.0.1:1\"\n\
             tls = {{ cert = {cert:?}, key = {key:?} }}\n"
        );
        let loaded = crate::config::parse(&text, "test.toml", Path::new("/"), &|_| None);
        loaded.unwrap_or_else(|problems| panic!("{problems}")).config
    }

    #[test]
    fn every_change_of_a_certificate_file_shows() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let config = config(&cert, &key);
        let mut last = Stamps::of(&config);
        assert_eq!(Stamps::of(&config), last);
        let changes: [&dyn Fn(); 4] = [
            &|| fs::OpenOptions::new().append(true).open(&cert).unwrap().write_all(b"\n").unwrap(),
            &|| {
                // As tools do it: a whole file in place of the old one, of the same length.
                let new = folder.path().join("new");
                fs::copy(&key, &new).unwrap();
                fs::rename(&new, &key).unwrap();
            },
            &|| fs::remove_file(&cert).unwrap(),
            &|| fs::write(&cert, made.cert.pem()).unwrap(),
        ];
        for (number, change) in changes.iter().enumerate() {
            change();
            let now = Stamps::of(&config);
            assert_ne!(now, last, "{number}");
            last = now;
        }
    }

    #[test]
    fn descriptors_carry_half_as_many_connections() {
        let limit = getrlimit(Resource::Nofile).maximum;
        assert_eq!(carried(1), 1);
        if let Some(limit) = limit {
            assert!(carried(usize::MAX) as u64 <= limit / 2);
        }
    }
}
