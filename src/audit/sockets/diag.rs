//! What `/proc/net/tcp` does not tell of a socket and the kernel does when it is asked
//! (sock_diag(7)): sockets that are bound and do not listen, and which leave IPv4 to others.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, netlink::SOCK_DIAG};

use super::{Listening, State};
use crate::audit::netlink::{attribute, list, u32_at};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;

const IPPROTO_TCP: u8 = 6;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// `TCP_BOUND_INACTIVE`, which a kernel before 6.8 takes for a state that no socket is in.
const TCP_BOUND: u8 = 13;

/// `struct inet_diag_msg`, in bytes.
const MESSAGE: usize = 72;

/// `INET_DIAG_SKV6ONLY`.
const V6_ONLY: u16 = 11;

/// Adds the bound sockets of these ports, and marks those that are IPv6 alone. A kernel that does
/// not answer changes nothing.
pub(super) fn refine(sockets: &mut Vec<Listening>, ports: &HashSet<u16>) {
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        for port in ports {
            let Some(question) = question(family, *port) else { continue };
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

/// `struct inet_diag_req_v2`: the listening and the bound sockets of one family and port.
fn question(family: AddressFamily, port: u16) -> Option<Vec<u8>> {
    let mut question = vec![u8::try_from(family.as_raw()).ok()?, IPPROTO_TCP, 0, 0];
    question.extend((1_u32 << TCP_LISTEN | 1 << TCP_BOUND).to_ne_bytes());
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
        inode: u32_at(message, 68)?.into(),
        uid: u32_at(message, 64)?,
        process: None,
    };
    Some((socket, state))
}
