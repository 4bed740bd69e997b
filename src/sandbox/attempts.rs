//! What a probe tries: one thing of each kind that the sandbox refuses, and what it has to leave.
//! Everything is harmless where it is not refused.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use rustix::fs::Uid;
use rustix::net::SendFlags;
use rustix::process as own;
use rustix::thread::LinkNameSpaceType;
use socket2::{Domain, Protocol, Socket, Type};

use super::needs::{Access, Needs};
use crate::config::target::Address;
use crate::config::{Config, Target};

/// Something to try, as often as one likes.
pub(super) struct Attempt {
    pub(super) name: &'static str,
    pub(super) tried: String,
    pub(super) is_to_work: bool,
    action: Action,
}

type Action = Box<dyn Fn() -> io::Result<()>>;

impl Attempt {
    /// Tries it.
    pub(super) fn make(&self) -> io::Result<()> {
        (self.action)()
    }

    fn refused(
        name: &'static str,
        tried: impl Into<String>,
        action: impl Fn() -> io::Result<()> + 'static,
    ) -> Self {
        Self { name, tried: tried.into(), is_to_work: false, action: Box::new(action) }
    }

    fn works(
        name: &'static str,
        tried: impl Into<String>,
        action: impl Fn() -> io::Result<()> + 'static,
    ) -> Self {
        Self { name, tried: tried.into(), is_to_work: true, action: Box::new(action) }
    }
}

/// Everything, for a configuration and its needs.
pub(super) fn all(config: &Config, needs: &Needs) -> Vec<Attempt> {
    let mut all = files();
    all.extend(network(needs));
    all.extend(processes());
    all.extend(rights());
    all.extend(serving(config, needs));
    all
}

/// Nothing has this name.
const NOTHING: &str = "/nonexistent/portcullis";

/// Files that every user may read and that serving does not take.
const FOREIGN: &[&str] = &["/etc/passwd", "/etc/os-release", "/proc/version", "/proc/1/status"];

fn files() -> Vec<Attempt> {
    let foreign = FOREIGN.iter().find(|path| File::open(path).is_ok()).unwrap_or(&"/etc/passwd");
    let stray = std::env::temp_dir().join(format!("portcullis-doctor-{}", process::id()));
    vec![
        Attempt::refused("read", format!("read {foreign}"), move || File::open(foreign).map(drop)),
        Attempt::refused("list", "list /", || fs::read_dir("/").map(drop)),
        Attempt::refused("write", format!("make {}", stray.display()), move || make(&stray)),
        Attempt::refused("chmod", "change the mode of a file by its path", || {
            fs::set_permissions(NOTHING, fs::Permissions::from_mode(0o600))
        }),
    ]
}

fn make(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::remove_file(path)
}

fn network(needs: &Needs) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(loopback(0));
    if let Ok((listener, address)) = listener.and_then(|l| l.local_addr().map(|at| (l, at))) {
        attempts.push(Attempt::refused("connect", format!("connect to {address}"), move || {
            // It is held open for as long as this may be tried.
            let _ = &listener;
            TcpStream::connect(address).map(drop)
        }));
        let tried = format!("connect to {address} by sending to it (TCP Fast Open)");
        attempts.push(Attempt::refused("fastopen", tried, move || connect_by_sending(address)));
    }
    let free = TcpListener::bind(loopback(0)).and_then(|listener| listener.local_addr());
    if let Ok(address) = free.and_then(|at| {
        if needs.bind.contains_key(&at.port()) {
            Err(io::ErrorKind::AddrInUse.into())
        } else {
            Ok(at)
        }
    }) {
        attempts.push(Attempt::refused("bind", format!("bind {address}"), move || bind(address)));
    }
    // On one without an address it would take any port, on all addresses: this is as good.
    let own = Socket::new(Domain::IPV4, Type::STREAM, None);
    if let Ok(own) = own.and_then(|own| own.bind(&loopback(0).into()).map(|()| own)) {
        let tried = "listen on a new socket (the helper does that)";
        attempts.push(Attempt::refused("listen", tried, move || own.listen(1)));
    }
    let name = format!("portcullis-doctor-{}", process::id());
    let listening = UnixAddr::from_abstract_name(name)
        .and_then(|at| UnixListener::bind_addr(&at).map(|listener| (listener, at)));
    if let (Ok((listener, address)), false) = (listening, needs.abstract_sockets) {
        attempts.push(Attempt::refused(
            "abstract",
            "connect to an abstract unix socket",
            move || {
                let _ = &listener;
                UnixStream::connect_addr(&address).map(drop)
            },
        ));
    }
    attempts.push(Attempt::refused(
        "protocol",
        "open a socket of another protocol (MPTCP)",
        || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).map(drop),
    ));
    if needs.names.is_none() {
        attempts.push(Attempt::refused("datagram", "open a socket for datagrams", move || {
            UdpSocket::bind(loopback(0)).map(drop)
        }));
    }
    attempts
}

fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn connect_by_sending(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
    Ok(rustix::net::sendto(&socket, b"", flags, &address).map(drop)?)
}

fn processes() -> Vec<Attempt> {
    let mut attempts = vec![
        Attempt::refused("exec", "become another program", || Err(Command::new(NOTHING).exec())),
        Attempt::refused("process", "start another program", || {
            Command::new(NOTHING).spawn().map(drop)
        }),
    ];
    if let Some(parent) = own::getppid() {
        attempts.push(Attempt::refused(
            "signal",
            "send a signal to the parent process",
            move || Ok(own::test_kill_process(parent)?),
        ));
    }
    attempts
}

fn rights() -> Vec<Attempt> {
    vec![
        Attempt::refused("user", "set the user to the one that it is", || {
            Ok(rustix::thread::set_thread_uid(Uid::from_raw(own::geteuid().as_raw()))?)
        }),
        Attempt::refused("root", "change the root folder", || Ok(own::chroot(NOTHING)?)),
        Attempt::refused("namespace", "enter another namespace", || {
            let null = File::open("/dev/null")?;
            let mount = Some(LinkNameSpaceType::Mount);
            Ok(rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&null), mount)?)
        }),
    ]
}

/// What serving takes.
fn serving(config: &Config, needs: &Needs) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let read: Vec<PathBuf> = needs
        .places
        .iter()
        .filter(|place| place.key.is_some() && place.access == Access::Read && place.path.is_file())
        .map(|place| place.path.clone())
        .collect();
    attempts.push(Attempt::works(
        "configured",
        format!("read the {} files that the configuration names", read.len()),
        move || read.iter().try_for_each(|path| File::open(path).map(drop)),
    ));
    let storage = &config.acme.storage;
    if storage.is_dir() {
        let file = storage.join(format!(".doctor-{}", process::id()));
        let tried = format!("write in {}", storage.display());
        attempts.push(Attempt::works("storage", tried, move || make(&file)));
    }
    // Port 0 is any; a low port takes a right that this process may lack.
    for port in needs.bind.keys().copied().filter(|port| *port >= 1024) {
        attempts.push(Attempt::works("port", format!("bind port {port}"), move || {
            bind((Ipv4Addr::LOCALHOST, port).into())
        }));
    }
    let mut targets = config.sites.iter().flat_map(|site| &site.routes).flat_map(|r| &r.to);
    attempts.extend(targets.find_map(application));
    attempts
}

/// How long an application may take to be there.
const PATIENCE: Duration = Duration::from_secs(1);

fn application(target: &Target) -> Option<Attempt> {
    let Address::Tcp(host, port) = &target.address else { return None };
    let ip: IpAddr = host.parse().ok()?;
    let address = SocketAddr::new(ip, *port);
    Some(Attempt::works("application", format!("connect to {address}"), move || {
        TcpStream::connect_timeout(&address, PATIENCE).map(drop)
    }))
}
