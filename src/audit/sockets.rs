//! Who listens here: the kernel's tables of sockets joined to the processes that hold them.

mod holder;
mod place;
mod table;
mod diag;
pub mod activation;

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Listen;
pub use holder::{Process, printable};
pub use place::{Container, Place};

pub(crate) use diag::v6_only;
pub(crate) use holder::{Age, Holders, of as holders, pids, text};

/// How a socket talks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// In connections.
    Tcp,
    /// In datagrams.
    Udp,
}

/// One socket as a table of the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) protocol: Protocol,
    /// Where it listens; the unspecified address is every address.
    pub(crate) address: SocketAddr,
    pub(crate) state: State,
    /// The number by which `/proc/PID/fd` names it, on this host one socket's only; 0 for none.
    pub(crate) inode: u64,
    /// Who created it.
    pub(crate) uid: u32,
}

/// One TCP socket of this network namespace that has a port of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where it listens; the unspecified address is every address.
    pub address: SocketAddr,
    /// Whether it leaves IPv4 to others, where it is known of an IPv6 one.
    pub v6_only: bool,
    /// What it does with its port.
    pub state: State,
    /// The number by which `/proc/PID/fd` names it.
    pub inode: u64,
    /// Who created it.
    pub uid: u32,
    /// Who holds it, as far as this process may look: this very process before others, of several
    /// the oldest, and systemd (which keeps the sockets that it passes on) only when nobody else
    /// does.
    pub process: Option<Process>,
}

/// What a socket does with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It accepts connections, or datagrams from everybody.
    Listens,
    /// It has the port and neither listens nor is connected.
    Bound,
    /// It is one end of a connection, with this other end.
    Connected(SocketAddr),
}

impl Listening {
    /// Whether a bind of `wanted` meets this socket: the port is the same, and one of the two is
    /// unspecified or both are the same address. [`Listen::Any`] meets both families, as does a
    /// socket on `[::]` that is not known to be IPv6 alone; [`Listen::Addr`] only its own.
    #[must_use]
    pub fn collides_with(&self, wanted: Listen) -> bool {
        let mine = self.address.ip().to_canonical();
        match wanted {
            Listen::Any(port) => port == self.address.port(),
            Listen::Addr(wanted) if wanted.port() != self.address.port() => false,
            Listen::Addr(wanted) => match (mine, wanted.ip().to_canonical()) {
                (IpAddr::V6(mine), IpAddr::V4(_)) => mine.is_unspecified() && !self.v6_only,
                (IpAddr::V4(_), IpAddr::V6(_)) => false,
                (mine, wanted) => {
                    mine == wanted || mine.is_unspecified() || wanted.is_unspecified()
                }
            },
        }
    }

    /// The holder in a few words: `nginx (pid 812, user root, nginx.service)`.
    #[must_use]
    pub fn holder(&self) -> String {
        let Some(process) = &self.process else {
            let user = user_name(self.uid);
            return format!("a process of user {user} (into which this user may not look)");
        };
        let user = user_name(process.uid.unwrap_or(self.uid));
        let place = match (&process.place.container, &process.place.unit) {
            (Some(container), _) => format!(", {container}"),
            (None, Some(unit)) => format!(", {unit}"),
            (None, None) => String::new(),
        };
        format!("{} (pid {}, user {user}{place})", process.title(), process.pid)
    }
}

/// The listening TCP sockets, by port and then address, without a duplicate.
///
/// One pass over the kernel's tables and one over the descriptors of the processes; at most
/// 200,000 of these.
///
/// # Errors
/// When `/proc/net/tcp` cannot be read. A kernel without IPv6 has no second table: no error.
pub fn listening() -> io::Result<Vec<Listening>> {
    listening_on(|_| true)
}

/// The same, but only those on a port that is `wanted`: the fewer, the sooner their holders are
/// found.
///
/// # Errors
/// As [`listening`].
pub fn listening_on(wanted: impl Fn(u16) -> bool) -> io::Result<Vec<Listening>> {
    let mut sockets = table()?;
    sockets.retain(|socket| socket.state == State::Listens && wanted(socket.address.port()));
    join(&mut sockets);
    Ok(sockets)
}

/// The sockets that stand in the way of these addresses, with their holders: those that listen or
/// are bound; a connection whose own port it is only where `connected`, and where nothing else
/// stands there.
///
/// # Errors
/// When `/proc/net/tcp` cannot be read.
pub fn in_the_way(wanted: &[Listen], connected: bool) -> io::Result<Vec<Listening>> {
    let mut sockets = table()?;
    let ports: HashSet<u16> = wanted.iter().map(|wanted| wanted.port()).collect();
    sockets.retain(|socket| ports.contains(&socket.address.port()));
    diag::refine(&mut sockets, &ports);
    sockets.retain(|socket| wanted.iter().any(|wanted| socket.collides_with(*wanted)));
    let held: HashSet<u16> = sockets
        .iter()
        .filter(|socket| !matches!(socket.state, State::Connected(_)))
        .map(|socket| socket.address.port())
        .collect();
    sockets.retain(|socket| match socket.state {
        State::Connected(_) => connected && !held.contains(&socket.address.port()),
        State::Listens | State::Bound => true,
    });
    join(&mut sockets);
    Ok(sockets)
}

/// The sockets that strangers may talk to in the network namespace of a process (its number, or
/// `self`): TCP that listens, UDP without a peer. None of them twice.
///
/// # Errors
/// When the table of TCP over IPv4 cannot be read. What the kernel does not have is no error.
pub(crate) fn open(process: &str) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for (protocol, names) in [(Protocol::Tcp, ["tcp", "tcp6"]), (Protocol::Udp, ["udp", "udp6"])] {
        sockets.extend(tables(process, protocol, names)?);
    }
    sockets.retain(|socket| socket.state == State::Listens);
    // A table that changes while it is read may give a line again.
    let mut seen = HashSet::new();
    sockets.retain(|socket| seen.insert((socket.inode, socket.protocol, socket.address)));
    Ok(sockets)
}

fn table() -> io::Result<Vec<Listening>> {
    let sockets = tables("self", Protocol::Tcp, ["tcp", "tcp6"])?;
    Ok(sockets.into_iter().map(Listening::from).collect())
}

fn tables(process: &str, protocol: Protocol, names: [&str; 2]) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for name in names {
        match std::fs::read_to_string(format!("/proc/{process}/net/{name}")) {
            Ok(text) => sockets.extend(table::sockets(&text, protocol)),
            Err(error) if name != "tcp" && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// Without what the table does not tell.
impl From<Socket> for Listening {
    fn from(Socket { address, state, inode, uid, .. }: Socket) -> Self {
        Listening { address, v6_only: false, state, inode, uid, process: None }
    }
}

/// Finds the holders, and puts the sockets in order.
fn join(sockets: &mut Vec<Listening>) {
    let holders = holders(&sockets.iter().map(|socket| socket.inode).collect());
    let mut processes = HashMap::new();
    for socket in sockets.iter_mut() {
        let pids = holders.by_inode.get(&socket.inode).map_or(&[][..], Vec::as_slice);
        let mut read = |pid| processes.entry(pid).or_insert_with(|| Process::read(pid)).clone();
        socket.process = pids.iter().find_map(|pid| read(*pid));
    }
    sockets
        .sort_by_key(|socket| (socket.address.port(), socket.address, socket.state, socket.inode));
    sockets.dedup();
}

/// The name of a user, or the number where the system knows no name.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn finds_this_very_process_behind_its_sockets() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = v4.local_addr().unwrap();
        let all = listening().unwrap();
        let found = all.iter().find(|socket| socket.address == address).unwrap();
        let process = found.process.as_ref().unwrap();
        assert_eq!(process.pid, std::process::id());
        assert_eq!(process.exe, Some(std::env::current_exe().unwrap()));
        assert_eq!(found.uid, rustix::process::geteuid().as_raw());
        assert!(found.holder().contains(&format!("pid {}", std::process::id())));
    }

    #[test]
    fn finds_only_the_ports_that_are_wanted() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let _other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = one.local_addr().unwrap();
        let found = listening_on(|port| port == address.port()).unwrap();
        assert!(found.iter().all(|socket| socket.address.port() == address.port()));
        let mine = found.iter().find(|socket| socket.address == address).unwrap();
        assert_eq!(mine.process.as_ref().unwrap().pid, std::process::id());
    }

    #[test]
    fn finds_ipv6_sockets() {
        let Ok(v6) = TcpListener::bind("[::1]:0") else {
            return assert!(TcpListener::bind("127.0.0.1:0").is_ok(), "no family at all");
        };
        let address = v6.local_addr().unwrap();
        assert!(listening().unwrap().iter().any(|socket| socket.address == address));
    }

    #[test]
    fn a_closed_socket_is_gone() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let inode = |all: &[Listening]| all.iter().find(|s| s.address == address).map(|s| s.inode);
        let before = inode(&listening().unwrap());
        assert!(before.is_some());
        drop(socket);
        assert_ne!(inode(&listening().unwrap()), before);
    }

    fn at(address: SocketAddr) -> [Listen; 1] {
        [Listen::Addr(address)]
    }

    #[test]
    fn the_source_port_of_a_connection_is_found_where_nothing_else_has_the_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let client = TcpStream::connect(there).unwrap();
        let ours = client.local_addr().unwrap();
        let found = in_the_way(&at(ours), true).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].state, State::Connected(there));
        assert_eq!(in_the_way(&at(ours), false).unwrap(), []);
        let theirs = in_the_way(&at(there), true).unwrap();
        assert!(theirs.iter().all(|socket| socket.state == State::Listens), "{theirs:?}");
    }

    #[test]
    fn a_socket_that_is_bound_and_does_not_listen_is_found_where_the_kernel_tells() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let found = in_the_way(&at(address), false).unwrap();
        // Since Linux 6.8.
        if let [found] = found.as_slice() {
            assert_eq!(found.state, State::Bound);
            assert_eq!(found.process.as_ref().unwrap().pid, std::process::id());
        }
        assert!(found.len() <= 1, "{found:?}");
    }

    #[test]
    fn an_ipv6_wildcard_that_leaves_ipv4_to_others_is_known_as_such() {
        let Ok(v6) = Socket::new(Domain::IPV6, Type::STREAM, None) else { return };
        v6.set_only_v6(true).unwrap();
        let unspecified = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        if v6.bind(&unspecified.into()).is_err() {
            return;
        }
        v6.listen(1).unwrap();
        let port = v6.local_addr().unwrap().as_socket().unwrap().port();
        let found = in_the_way(&[Listen::Any(port)], false).unwrap();
        assert_eq!(found.len(), 1);
        if found[0].v6_only {
            assert_eq!(in_the_way(&at(([127, 0, 0, 1], port).into()), false).unwrap(), []);
            assert_eq!(in_the_way(&at(([0, 0, 0, 0], port).into()), false).unwrap(), []);
        }
    }

    #[test]
    fn a_wildcard_collides_with_its_family_and_both_families_with_everything() {
        let listening = |text: &str| Listening {
            address: text.parse().unwrap(),
            v6_only: false,
            state: State::Listens,
            inode: 1,
            uid: 0,
            process: None,
        };
        let wanted = |text: &str| Listen::Addr(text.parse().unwrap());
        let collide = |a: &str, b: &str| listening(a).collides_with(wanted(b));
        assert!(collide("0.0.0.0:80", "127.0.0.1:80"));
        assert!(collide("[::]:80", "127.0.0.1:80"));
        assert!(collide("127.0.0.1:80", "0.0.0.0:80"));
        assert!(collide("[::1]:80", "[::1]:80"));
        assert!(collide("[::1]:80", "[::]:80"));
        assert!(collide("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
        assert!(!collide("0.0.0.0:80", "[::1]:80"));
        assert!(!collide("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!collide("0.0.0.0:80", "0.0.0.0:81"));
        // An address that is written out is taken for its own family alone.
        assert!(!collide("0.0.0.0:80", "[::]:80"));
        for any in ["0.0.0.0:80", "[::1]:80", "[::]:80"] {
            assert!(listening(any).collides_with(Listen::Any(80)));
            assert!(!listening(any).collides_with(Listen::Any(81)));
        }
        let alone = Listening { v6_only: true, ..listening("[::]:80") };
        assert!(!alone.collides_with(wanted("127.0.0.1:80")));
        assert!(alone.collides_with(wanted("[::1]:80")));
        assert!(alone.collides_with(Listen::Any(80)));
    }
}
