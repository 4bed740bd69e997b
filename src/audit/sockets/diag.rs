//! What the tables below `/proc` leave out, from `sock_diag(7)`.

use std::collections::HashMap;
use std::io;

use rustix::net::netlink::SOCK_DIAG;

use super::netlink::{Netlink, attributes};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`, `INET_DIAG_SKV6ONLY` of `linux/inet_diag.h`.
const BY_FAMILY: u16 = 20;
const V6_ONLY: u16 = 11;
/// `AF_INET6`, and the two protocols with the set of the states (`tcp_states.h`) to tell of:
/// listening, and without a peer.
const INET6: u8 = 10;
const TCP: (u8, u32) = (6, 1 << 10);
const UDP: (u8, u32) = (17, 1 << 7);

/// Octets of `struct inet_diag_sockid` and of `struct inet_diag_msg`, and where in the latter the
/// inode stands.
const ID: usize = 48;
const ROW: usize = 72;
const INODE: usize = 68;

/// The IPv6 sockets of this network namespace by their inodes, and whether IPv4 is left out; empty
/// where the kernel does not tell.
pub(crate) fn v6_only() -> HashMap<u64, bool> {
    let mut found = HashMap::new();
    for kind in [TCP, UDP] {
        // A kernel without the answer leaves the question open: no error.
        let _: io::Result<()> = ask(kind, &mut found);
    }
    found
}

fn ask((protocol, states): (u8, u32), found: &mut HashMap<u64, bool>) -> io::Result<()> {
    let mut request = vec![INET6, protocol, 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend([0; ID]);
    Netlink::with(SOCK_DIAG)?.dump(BY_FAMILY, &request, |row| found.extend(read(row)))
}

fn read(row: &[u8]) -> Option<(u64, bool)> {
    let inode = u32::from_ne_bytes(*row.get(INODE..)?.first_chunk()?);
    let (_, value) = attributes(row.get(ROW..)?).find(|(kind, _)| *kind == V6_ONLY)?;
    Some((inode.into(), *value.first()? != 0))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketType, sockopt};

    use super::*;

    fn inode(socket: impl AsFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    fn an_ipv6_socket_covers_ipv4_unless_it_says_that_it_does_not() {
        let Ok(both) = TcpListener::bind("[::]:0") else { return };
        let datagrams = UdpSocket::bind("[::]:0").unwrap();
        let single = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
        sockopt::set_ipv6_v6only(&single, true).unwrap();
        rustix::net::bind(&single, &"[::]:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
        rustix::net::listen(&single, 1).unwrap();
        let found = v6_only();
        assert_eq!(found.get(&inode(&both)), Some(&false));
        assert_eq!(found.get(&inode(&datagrams)), Some(&false));
        assert_eq!(found.get(&inode(&single)), Some(&true));
    }
}
