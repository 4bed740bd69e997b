//! What the service manager is told: sd_notify(3), over a socket that is connected before the
//! sandbox closes.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// The way to the service manager, if one listens.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that all is well; half of what it tolerates.
    heartbeat: Option<Duration>,
}

impl Notifier {
    /// The one of `NOTIFY_SOCKET`; none where that is not set.
    ///
    /// A predecessor may have passed its own, `inherited`: root can have opened what the user that
    /// both have become may not.
    ///
    /// A socket that cannot be reached is told and then not missed: the server is of use without.
    #[must_use]
    pub fn from_env(inherited: Option<OwnedFd>) -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        match inherited.map_or_else(|| connect(&address), |socket| Ok(socket.into())) {
            Ok(socket) => Self {
                socket: Some(socket),
                heartbeat: sd_notify::watchdog_enabled().map(|longest| longest / 2),
            },
            Err(error) => {
                tracing::warn!(
                    "the service manager cannot be told anything: NOTIFY_SOCKET={}: {error}",
                    address.display()
                );
                Self::default()
            }
        }
    }

    /// The socket, for a successor.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn socket(&self) -> io::Result<Option<OwnedFd>> {
        Ok(self.socket.as_ref().map(UnixDatagram::try_clone).transpose()?.map(OwnedFd::from))
    }

    /// How often to send [`Notifier::alive`]; `None` where nobody waits for it.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// Everything listens; after a reload: everything does again.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins; [`Notifier::ready`] ends it, whatever came of it.
    pub fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading, NotifyState::Status("reloading")];
        // Without the moment, systemd 253 and later takes the reload for failed.
        states.extend(NotifyState::monotonic_usec_now());
        self.send(&states);
    }

    /// The end has begun.
    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// All is well, for the watchdog.
    pub fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// From now on this process is the service.
    pub fn successor(&self, pid: u32) {
        self.send(&[NotifyState::MainPid(pid)]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        // A manager that does not read must not stop the server.
        let _ = socket.send(text.as_bytes());
    }
}

/// A path, or with `@` in front a name in the abstract namespace.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A line end would begin another assignment.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(socket: UnixDatagram) -> Notifier {
        Notifier { socket: Some(socket), heartbeat: None }
    }

    fn heard(by: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = by.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn what_is_said_is_one_assignment_a_line() {
        let (ours, manager) = UnixDatagram::pair().unwrap();
        let notifier = notifier(ours);
        notifier.ready("listening\n  everywhere\nREADY=0");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=listening; everywhere; READY=0\n");
        notifier.successor(42);
        assert_eq!(heard(&manager), "MAINPID=42\n");
        notifier.alive();
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
        notifier.reloading();
        let text = heard(&manager);
        assert!(text.starts_with("RELOADING=1\nSTATUS=reloading\nMONOTONIC_USEC="), "{text}");
        notifier.stopping("3 connections have 30s");
        assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=3 connections have 30s\n");
    }

    #[test]
    fn a_manager_in_the_abstract_namespace_is_reached() {
        let name = format!("portcullis-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notifier(connect(OsStr::new(&format!("@{name}"))).unwrap()).alive();
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
    }

    #[test]
    fn a_manager_that_does_not_read_or_is_gone_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = notifier(connect(path.as_os_str()).unwrap());
        for _ in 0..10_000 {
            notifier.alive();
        }
        drop(manager);
        notifier.alive();
        assert!(connect(path.as_os_str()).is_err());
    }
}
