//! Who listens here: the kernel's tables of sockets joined to the processes that hold them.

mod cgroup;
mod diag;
mod holder;
mod netlink;
mod table;

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use holder::Process;

pub(crate) use cgroup::Place;
pub(crate) use diag::v6_only;
pub(crate) use holder::{Age, Holders, of as holders, pids, place, printable, text};
pub(crate) use netlink::{Netlink, attributes};

/// How a socket talks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Listens, and accepts connections.
    Tcp,
    /// Is bound to a port without a peer, and takes datagrams from everybody.
    Udp,
}

/// One socket that strangers may talk to, as the kernel's table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) protocol: Protocol,
    /// Where it listens; the unspecified address is every address.
    pub(crate) address: SocketAddr,
    /// The number by which `/proc/PID/fd` names it, on this host one socket's only; 0 for none.
    pub(crate) inode: u64,
    /// Who created it.
    pub(crate) uid: u32,
}

/// One listening TCP socket of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where it listens; the unspecified address is every address.
    pub address: SocketAddr,
    /// The number by which `/proc/PID/fd` names it.
    pub inode: u64,
    /// Who created it.
    pub uid: u32,
    /// Who holds it, as far as this process may look; of several the oldest, and systemd (which
    /// keeps the sockets that it passes on) only when nobody else does.
    pub process: Option<Process>,
}

impl Listening {
    /// Whether a bind of `address` meets this socket: the port is the same, and one of the two is
    /// unspecified or both are the same address. `[::]` is taken as both families.
    #[must_use]
    pub fn collides_with(&self, address: SocketAddr) -> bool {
        let covers = |whole: IpAddr, one: IpAddr| {
            whole.is_unspecified() && (whole.is_ipv6() || one.is_ipv4() || one.is_unspecified())
        };
        let (mine, other) = (self.address.ip().to_canonical(), address.ip().to_canonical());
        self.address.port() == address.port()
            && (mine == other || covers(mine, other) || covers(other, mine))
    }

    /// The holder in a few words: `nginx (pid 812, user root, nginx.service)`.
    #[must_use]
    pub fn holder(&self) -> String {
        let user = user_name(self.uid);
        let Some(process) = &self.process else {
            return format!("a process of user {user} that this user may not look into");
        };
        let unit = process.unit.as_ref().map(|unit| format!(", {unit}")).unwrap_or_default();
        format!("{} (pid {}, user {user}{unit})", process.comm, process.pid)
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
    let mut sockets = open("self", &[Protocol::Tcp])?;
    sockets.sort_by_key(|socket| (socket.address.port(), socket.address, socket.inode));
    let holders = holders(&sockets.iter().map(|socket| socket.inode).collect());
    let mut processes = HashMap::new();
    let listening = sockets.into_iter().map(|Socket { address, inode, uid, .. }| {
        let pid = holders.by_inode.get(&inode).and_then(|pids| pids.first());
        let mut read = |pid| processes.entry(pid).or_insert_with(|| Process::read(pid)).clone();
        Listening { address, inode, uid, process: pid.and_then(|pid| read(*pid)) }
    });
    Ok(listening.collect())
}

/// The sockets that strangers may talk to in the network namespace of a process (its number, or
/// `self`), none of them twice, in the order of the kernel's tables.
///
/// # Errors
/// When the table of TCP over IPv4 cannot be read. What the kernel does not have is no error.
pub(crate) fn open(process: &str, protocols: &[Protocol]) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for protocol in protocols {
        let names = match protocol {
            Protocol::Tcp => ["tcp", "tcp6"],
            Protocol::Udp => ["udp", "udp6"],
        };
        for name in names {
            match std::fs::read_to_string(format!("/proc/{process}/net/{name}")) {
                Ok(text) => sockets.extend(table::open(&text, *protocol)),
                Err(error) if name != "tcp" && error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    // A table that changes while it is read may give a line again.
    let mut seen = HashSet::new();
    sockets.retain(|socket| seen.insert((socket.inode, socket.protocol, socket.address)));
    Ok(sockets)
}

/// The name of a user, or the number where the system knows no name.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

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

    #[test]
    fn a_wildcard_collides_with_its_family_and_both_families_with_everything() {
        let at = |text: &str| Listening {
            address: text.parse().unwrap(),
            inode: 1,
            uid: 0,
            process: None,
        };
        let collide = |a: &str, b: &str| at(a).collides_with(b.parse().unwrap());
        assert!(collide("0.0.0.0:80", "127.0.0.1:80"));
        assert!(collide("0.0.0.0:80", "[::]:80"));
        assert!(collide("[::]:80", "127.0.0.1:80"));
        assert!(collide("127.0.0.1:80", "0.0.0.0:80"));
        assert!(collide("[::1]:80", "[::1]:80"));
        assert!(!collide("0.0.0.0:80", "[::1]:80"));
        assert!(!collide("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!collide("0.0.0.0:80", "0.0.0.0:81"));
    }
}
