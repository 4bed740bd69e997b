//! `/proc/net/tcp` and its three sisters as text (proc_pid_net(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Protocol, Socket, State};

/// `TCP_LISTEN` of the kernel's `tcp_states.h`.
const LISTEN: &str = "0A";

/// `TCP_TIME_WAIT`: no socket any more, and in nobody's way.
const TIME_WAIT: &str = "06";

/// `TCP_CLOSE`, which for UDP means that there is no peer.
const UNCONNECTED: &str = "07";

/// The sockets of one table. A line that is not understood is skipped: the kernel
/// appends columns from time to time.
pub(super) fn sockets(text: &str, protocol: Protocol) -> Vec<Socket> {
    text.lines().skip(1).filter_map(|text| line(text, protocol)).collect()
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn line(line: &str, protocol: Protocol) -> Option<Socket> {
    let mut columns = line.split_ascii_whitespace();
    let local = columns.nth(1)?;
    let remote = columns.next()?;
    let state = match (protocol, columns.next()?) {
        (Protocol::Tcp, LISTEN) | (Protocol::Udp, UNCONNECTED) => State::Listens,
        (Protocol::Tcp, TIME_WAIT) => return None,
        _ => State::Connected(address(remote)?),
    };
    let uid = columns.nth(3)?.parse().ok()?;
    let inode = columns.nth(1)?.parse().ok()?;
    let address = address(local)?;
    Some(Socket { protocol, address, state, inode, uid })
}

/// `0100007F:1F90`: the address as 32-bit words in the host's byte order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(words.iter().flatten()).for_each(|(to, from)| *to = *from);
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31337 1 0000000000000000 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 31338 1 0000000000000000 20 4 30 10 -1
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 77 1 0000000000000000 100 0 0 10 0
   1: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 78 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn reads_the_listening_sockets_and_tells_the_connections_from_them() {
        let (found, others): (Vec<_>, Vec<_>) = sockets(TCP, Protocol::Tcp)
            .into_iter()
            .partition(|socket| socket.state == State::Listens);
        let remote = State::Connected("127.0.0.1:54321".parse().unwrap());
        assert_eq!(others.iter().map(|socket| socket.state).collect::<Vec<_>>(), [remote]);
        let brief: Vec<_> = found.iter().map(|s| (s.address.to_string(), s.uid, s.inode)).collect();
        assert_eq!(
            brief,
            [("127.0.0.1:8080".to_owned(), 1000, 31337), ("0.0.0.0:80".to_owned(), 0, 4711)]
        );
    }

    #[test]
    fn reads_ipv6_addresses_word_by_word() {
        let found = sockets(TCP6, Protocol::Tcp);
        let brief: Vec<_> = found.iter().map(|s| s.address.to_string()).collect();
        assert_eq!(brief, ["[::1]:3000", "[2001:db8::1]:443"]);
    }

    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  512: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 20100 2 0000000000000000 0
  900: 0100007F:A0C4 0100007F:0035 01 00000000:00000000 00:00000000 00000000  1000        0 20101 2 0000000000000000 0
";

    #[test]
    fn a_udp_socket_with_a_peer_takes_datagrams_from_nobody_else() {
        let found = sockets(UDP, Protocol::Udp);
        let brief: Vec<_> = found.iter().map(|s| (s.address.to_string(), s.state)).collect();
        let connected = State::Connected("127.0.0.1:53".parse().unwrap());
        assert_eq!(
            brief,
            [
                ("127.0.0.53:53".to_owned(), State::Listens),
                ("127.0.0.1:41156".to_owned(), connected)
            ]
        );
    }

    #[test]
    fn skips_what_it_does_not_understand() {
        let text = "header\n\n   0: nonsense\n 1: 0100007F:XYZ 0:0 0A 0:0 0:0 0 1 0 5\n 2: 01007F:0050 0:0 0A 0:0 0:0 0 1 0 5\n";
        assert_eq!(sockets(text, Protocol::Tcp), []);
    }

    proptest! {
        #[test]
        fn a_line_of_the_kernel_is_understood(local: SocketAddr, remote: SocketAddr, state in 1..13_u8, uid: u32, inode: u64) {
            let kernel = |address: SocketAddr| match address.ip() {
                IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()),
                IpAddr::V6(ip) => {
                    let words = ip.octets();
                    let words = words.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
                    words.map(|word| format!("{word:08X}")).collect::<String>() + &format!(":{:04X}", address.port())
                }
            };
            let text = format!(
                "head\n   0: {} {} {state:02X} 00000000:00000000 00:00000000 00000000 {uid:5} 0 {inode} 1 0\n",
                kernel(local), kernel(remote),
            );
            let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
            let expected = match state {
                6 => None,
                10 => Some(State::Listens),
                _ => Some(State::Connected(plain(remote))),
            };
            let told = sockets(&text, Protocol::Tcp);
            let told = told.first().map(|socket| (socket.state, socket.address, socket.uid, socket.inode));
            prop_assert_eq!(told, expected.map(|state| (state, plain(local), uid, inode)));
        }

        #[test]
        fn no_table_panics(text in "( |:|[0-9A-F]{1,9}|\\PC|\n){0,60}") {
            let _ = sockets(&text, Protocol::Udp);
        }
    }
}
