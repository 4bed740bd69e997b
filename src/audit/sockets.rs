//! Who listens here: the kernel's table of TCP sockets joined to the processes that hold them.

mod holder;
mod table;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::net::{IpAddr, SocketAddr};

pub use holder::Process;

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
/// One pass over the kernel's tables and, until each socket has its holder, over the descriptors
/// of the processes; at most 200,000 of these.
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
    let read = |name| table::listening(BufReader::new(File::open(name)?));
    let mut sockets = read("/proc/net/tcp")?;
    match read("/proc/net/tcp6") {
        Ok(others) => sockets.extend(others),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    sockets.retain(|socket| wanted(socket.address.port()));
    let inodes: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let holders: HashMap<u64, Process> = holder::of(&inodes);
    for socket in &mut sockets {
        socket.process = holders.get(&socket.inode).cloned();
    }
    sockets.sort_by_key(|socket| (socket.address.port(), socket.address, socket.inode));
    sockets.dedup();
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
