//! `/proc/net/tcp` and `/proc/net/tcp6` as text (proc_pid_net(5)).

use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Listening;

/// `TCP_LISTEN` of the kernel's `tcp_states.h`.
const LISTEN: &str = "0A";

/// `TCP_SYN_RECV` there. Before Linux 4.4 these stand among the listening sockets.
const SYN_RECV: &str = "03";

/// The listening sockets of one table, holders unknown. A line that is not understood is skipped:
/// the kernel appends columns from time to time.
///
/// The kernel writes the listening sockets first (`tcp_seq_start`), and it is asked for no more
/// than a page of the others: on a busy host these are a hundred thousand lines.
pub(super) fn listening(table: impl BufRead) -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for text in table.lines().skip(1) {
        let text = text?;
        let mut columns = text.split_ascii_whitespace();
        let (local, state) = (columns.nth(1), columns.nth(1));
        match state {
            Some(LISTEN) => found.extend(local.and_then(|local| socket(local, columns))),
            Some(SYN_RECV) | None => {}
            Some(state) if is_state(state) => break,
            Some(_) => {}
        }
    }
    Ok(found)
}

fn is_state(text: &str) -> bool {
    text.len() == 2 && u8::from_str_radix(text, 16).is_ok()
}

/// What follows the state: `tx:rx tr:when retrnsmt uid timeout inode …`.
fn socket<'a>(local: &str, mut columns: impl Iterator<Item = &'a str>) -> Option<Listening> {
    let uid = columns.nth(3)?.parse().ok()?;
    let inode = columns.nth(1)?.parse().ok()?;
    Some(Listening { address: address(local)?, inode, uid, process: None })
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
    fn reads_the_listening_sockets_and_leaves_the_connections() {
        let found = listening(TCP.as_bytes()).unwrap();
        let brief: Vec<_> = found.iter().map(|s| (s.address.to_string(), s.uid, s.inode)).collect();
        assert_eq!(
            brief,
            [("127.0.0.1:8080".to_owned(), 1000, 31337), ("0.0.0.0:80".to_owned(), 0, 4711)]
        );
    }

    #[test]
    fn reads_ipv6_addresses_word_by_word() {
        let found = listening(TCP6.as_bytes()).unwrap();
        let brief: Vec<_> = found.iter().map(|s| s.address.to_string()).collect();
        assert_eq!(brief, ["[::1]:3000", "[2001:db8::1]:443"]);
    }

    #[test]
    fn skips_what_it_does_not_understand() {
        let text = "header\n\n   0: nonsense\n 1: 0100007F:XYZ 0:0 0A 0:0 0:0 0 1 0 5\n 2: 01007F:0050 0:0 0A 0:0 0:0 0 1 0 5\n";
        assert_eq!(listening(text.as_bytes()).unwrap(), []);
    }

    /// A reader that has nothing more to say stands for a hundred thousand connections.
    #[test]
    fn the_connections_of_a_busy_host_are_not_read() {
        struct Unread;
        impl io::Read for Unread {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("read on"))
            }
        }
        let table = io::BufReader::new(io::Read::chain(TCP.as_bytes(), Unread));
        assert_eq!(listening(table).unwrap().len(), 2);
        let half_open = TCP.replacen(" 0A ", " 03 ", 1);
        assert_eq!(listening(half_open.as_bytes()).unwrap().len(), 1);
    }
}
