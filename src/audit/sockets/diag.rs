//! What `/proc/net/tcp` does not tell of a socket and the kernel does when it is asked
//! (sock_diag(7)): sockets that are bound and do not listen, and which leave IPv4 to others.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, netlink::SOCK_DIAG};

use super::{Listening, State};
use crate::audit::netlink::{attribute, list, u32_at};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// `TCP_BOUND_INACTIVE`, which a kernel before 6.8 takes for a state that no socket is in.
const TCP_BOUND: u8 = 13;

/// `struct inet_diag_msg`, in bytes.
const MESSAGE: usize = 72;
/// Where in it the inode stands.
const INODE: usize = 68;

/// `INET_DIAG_SKV6ONLY`.
const V6_ONLY: u16 = 11;

/// Adds the bound sockets of these ports, and marks those that are IPv6 alone. A kernel that does
/// not answer changes nothing.
pub(super) fn refine(sockets: &mut Vec<Listening>, ports: &HashSet<u16>) {
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        for port in ports {
            let states = 1 << TCP_LISTEN | 1 << TCP_BOUND;
            let Some(question) = question(family, IPPROTO_TCP, states, *port) else { continue };
            let _ = list(Some(SOCK_DIAG), BY_FAMILY, &question, |message| {
                let Some((socket, state)) = parse(message) else { return };
                if state == TCP_LISTEN {
                    let known = sockets.iter_mut().filter(|known| known.inode == socket.inode);
                    known.for_each(|known| known.v6_only = socket.v6_only);
                } else if matches!(state, TCP_CLOSE | TCP_BOUND) && socket.address.port() == *port {
                    sockets.push(socket);
                }
            });
        }
    }
}

/// The IPv6 sockets of this network namespace that strangers may talk to, by their inodes, and
/// whether they leave IPv4 to others; empty where the kernel does not answer.
pub(crate) fn v6_only() -> HashMap<u64, bool> {
    let mut found = HashMap::new();
    for (protocol, state) in [(IPPROTO_TCP, TCP_LISTEN), (IPPROTO_UDP, TCP_CLOSE)] {
        let question = question(AddressFamily::INET6, protocol, 1 << state, 0);
        let Some(question) = question else { continue };
        let _ = list(Some(SOCK_DIAG), BY_FAMILY, &question, |message| {
            let inode = u32_at(message, INODE);
            let flag = message.get(MESSAGE..).and_then(|rest| attribute(rest, V6_ONLY));
            if let (Some(inode), Some([flag, ..])) = (inode, flag) {
                found.insert(inode.into(), *flag != 0);
            }
        });
    }
    found
}

/// `struct inet_diag_req_v2`: the sockets of one family and protocol, in a set of states, on one
/// port or, with 0, on any.
fn question(family: AddressFamily, protocol: u8, states: u32, port: u16) -> Option<Vec<u8>> {
    let mut question = vec![u8::try_from(family.as_raw()).ok()?, protocol, 0, 0];
    question.extend(states.to_ne_bytes());
    question.extend(port.to_be_bytes());
    // No other port, no address, no interface.
    question.extend([0; 2 + 32 + 4]);
    // INET_DIAG_NOCOOKIE.
    question.extend([0xff; 8]);
    Some(question)
}

/// `struct inet_diag_msg`: family, state, timer, retransmissions, then `struct inet_diag_sockid`
/// (ports and addresses in network order), times and queues, user, inode; and attributes.
fn parse(message: &[u8]) -> Option<(Listening, u8)> {
    let (family, state) = (*message.first()?, *message.get(1)?);
    let port = u16::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let source = message.get(8..)?;
    let ip = if u16::from(family) == AddressFamily::INET.as_raw() {
        IpAddr::V4(Ipv4Addr::from(*source.first_chunk::<4>()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(*source.first_chunk::<16>()?))
    };
    let v6_only = attribute(message.get(MESSAGE..)?, V6_ONLY) == Some(&[1]);
    let socket = Listening {
        address: SocketAddr::new(ip, port),
        v6_only,
        state: State::Bound,
        inode: u32_at(message, INODE)?.into(),
        uid: u32_at(message, 64)?,
        process: None,
    };
    Some((socket, state))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use socket2::{Domain, Socket, Type};

    use proptest::prelude::*;

    use super::*;

    fn inode(socket: impl AsFd) -> u64 {
        rustix::fs::fstat(socket).unwrap().st_ino
    }

    #[test]
    fn an_ipv6_socket_covers_ipv4_unless_it_says_that_it_does_not() {
        let Ok(datagrams) = UdpSocket::bind("[::]:0") else { return };
        let listen = |only: bool| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            socket.set_only_v6(only).unwrap();
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
            socket.listen(1).unwrap();
            socket
        };
        let (both, single) = (listen(false), listen(true));
        let found = v6_only();
        assert_eq!(found.get(&inode(&both)), Some(&false));
        assert_eq!(found.get(&inode(&datagrams)), Some(&false));
        assert_eq!(found.get(&inode(&single)), Some(&true));
    }

    proptest! {
        #[test]
        fn a_message_is_understood_or_refused(
            address: SocketAddr, state in 0..14_u8, uid: u32, inode: u32, v6_only: Option<bool>, cut in 0..90_usize,
        ) {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let mut message = vec![u8::try_from(family.as_raw()).unwrap(), state, 0, 0];
            message.extend(address.port().to_be_bytes());
            message.extend([0; 2]);
            match address.ip() {
                IpAddr::V4(ip) => message.extend(ip.octets()),
                IpAddr::V6(ip) => message.extend(ip.octets()),
            }
            message.resize(64, 0);
            message.extend(uid.to_ne_bytes());
            message.extend(inode.to_ne_bytes());
            let whole = message.len();
            if let Some(flag) = v6_only {
                message.extend([5, 0, V6_ONLY as u8, 0, u8::from(flag), 0, 0, 0]);
            }
            let (socket, told) = parse(&message).unwrap();
            let address = SocketAddr::new(address.ip(), address.port());
            prop_assert_eq!((socket.address, told, socket.uid, socket.inode), (address, state, uid, inode.into()));
            prop_assert_eq!(socket.v6_only, v6_only == Some(true));
            prop_assert_eq!(parse(&message[..cut.min(message.len())]).is_some(), cut >= whole);
        }

        #[test]
        fn no_message_panics(message: Vec<u8>) {
            let _ = parse(&message);
        }
    }
}
