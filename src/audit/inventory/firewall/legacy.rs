//! What is left of iptables: extensions within nftables, and tables beside it.

use std::fs;

use crate::audit::netlink::{u16_at, u32_at};

use super::walk::{Packet, Truth};

/// Whether there are tables of the older iptables, which nftables does not tell of.
pub(super) fn is_there() -> bool {
    ["ip", "ip6"].iter().any(|family| {
        let tables = fs::read_to_string(format!("/proc/net/{family}_tables_names"));
        tables.is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
    })
}

/// `XT_CONNTRACK_STATE` and `XT_CONNTRACK_STATE_BIT(IP_CT_NEW)` of `xt_conntrack.h`.
const CONNTRACK_STATE: u16 = 1;
const CONNTRACK_NEW: u16 = 1 << 3;

/// Where `struct xt_conntrack_mtinfo3` has its flags and the states, after eight addresses.
const CONNTRACK_FLAGS: usize = 146;

/// Of `struct xt_multiport_v1`.
const MULTIPORT_PORTS: usize = 15;

/// What an extension of iptables (`struct xt_entry_match` within a rule of nftables) says of a
/// packet, with its parameters as the kernel keeps them.
pub(super) fn matches(name: &str, info: &[u8], packet: Packet) -> Truth {
    let known = match name {
        "comment" => Some(true),
        "conntrack" | "state" => new_connection(name, info),
        // `struct xt_tcp` ends with its inversions after three more bytes than `struct xt_udp`.
        "tcp" => is_protocol(packet, 6).map_or(Some(false), |()| ports(info, 11, packet.port)),
        "udp" => is_protocol(packet, 17).map_or(Some(false), |()| ports(info, 8, packet.port)),
        "addrtype" => for_this_host(info),
        "multiport" => multiport(info, packet.port),
        _ => None,
    };
    known.map_or(Truth::Maybe, Truth::from)
}

fn is_protocol(packet: Packet, number: u8) -> Option<()> {
    (packet.protocol_number() == number).then_some(())
}

fn new_connection(name: &str, info: &[u8]) -> Option<bool> {
    if name == "state" {
        return Some(u32_at(info, 0)? & u32::from(CONNTRACK_NEW) != 0);
    }
    let flags = u16_at(info, CONNTRACK_FLAGS)?;
    let inverted = u16_at(info, CONNTRACK_FLAGS + 2)? & CONNTRACK_STATE != 0;
    let states = u16_at(info, CONNTRACK_FLAGS + 4)?;
    (flags == CONNTRACK_STATE).then_some((states & CONNTRACK_NEW != 0) != inverted)
}

/// Kinds of source addresses, kinds of destination addresses as sets of `RTN_LOCAL` and the like,
/// flags of which the second inverts.
fn for_this_host(info: &[u8]) -> Option<bool> {
    let (source, destination) = (u16_at(info, 0)?, u16_at(info, 2)?);
    let inverted = match u32_at(info, 4)? {
        0 => false,
        2 => true,
        _ => return None,
    };
    (source == 0).then_some((destination & 1 << 2 != 0) != inverted)
}

/// Source ports from and to, destination ports from and to; a packet may come from any port.
fn ports(info: &[u8], inversions: usize, port: u16) -> Option<bool> {
    let sources = (u16_at(info, 0)?, u16_at(info, 2)?);
    let range = u16_at(info, 4)?..=u16_at(info, 6)?;
    let inverted = info.get(inversions)? & 2 != 0;
    let is_in = range.contains(&port) != inverted;
    (!is_in || sources == (0, u16::MAX)).then_some(is_in)
}

/// Which ports are meant (1 is the destination's), how many, the ports, which of them begin a
/// range, and the inversion.
fn multiport(info: &[u8], port: u16) -> Option<bool> {
    let [flags, count, ..] = *info else { return None };
    let begins = info.get(2 + 2 * MULTIPORT_PORTS..)?;
    let inverted = *begins.get(MULTIPORT_PORTS)? != 0;
    if flags != 1 {
        return None;
    }
    let mut found = false;
    let mut at = 0;
    while at < usize::from(count) {
        let low = u16_at(info, 2 + 2 * at)?;
        let mut high = low;
        if *begins.get(at)? != 0 {
            at += 1;
            high = u16_at(info, 2 + 2 * at)?;
        }
        found |= (low..=high).contains(&port);
        at += 1;
    }
    Some(found != inverted)
}

#[cfg(test)]
mod tests {
    use super::super::walk::Family;
    use super::*;
    use crate::audit::sockets::Protocol;

    fn to(port: u16) -> Packet {
        Packet { family: Family::V4, protocol: Protocol::Tcp, port }
    }

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_range_of_ports_is_read_from_the_kernels_structure() {
        let mut info = words(&[0, u16::MAX, 20, 25]);
        info.extend([0; 4]);
        assert_eq!(matches("tcp", &info, to(22)), Truth::Yes);
        assert_eq!(matches("tcp", &info, to(80)), Truth::No);
        assert_eq!(matches("udp", &info, to(22)), Truth::No);
        info[11] = 2;
        assert_eq!(matches("tcp", &info, to(22)), Truth::No);
        let mut from_some = words(&[53, 53, 0, u16::MAX]);
        from_some.extend([0; 4]);
        assert_eq!(matches("tcp", &from_some, to(22)), Truth::Maybe);
        assert_eq!(matches("tcp", &[], to(22)), Truth::Maybe);
    }

    #[test]
    fn several_ports_and_ranges_are_read() {
        let mut info = vec![1, 3];
        let mut ports = [0_u16; MULTIPORT_PORTS];
        ports[..3].copy_from_slice(&[22, 8000, 8010]);
        info.extend(words(&ports));
        let mut begins = [0_u8; MULTIPORT_PORTS];
        begins[1] = 1;
        info.extend(begins);
        info.push(0);
        for (port, wanted) in [(22, Truth::Yes), (8005, Truth::Yes), (23, Truth::No)] {
            assert_eq!(matches("multiport", &info, to(port)), wanted, "{port}");
        }
    }

    #[test]
    fn a_stranger_begins_a_new_connection() {
        let conntrack = |states: u16| {
            let mut info = vec![0; CONNTRACK_FLAGS];
            info.extend(words(&[CONNTRACK_STATE, 0, states, 0]));
            matches("conntrack", &info, to(22))
        };
        assert_eq!(conntrack(2 | 4), Truth::No);
        assert_eq!(conntrack(8), Truth::Yes);
        assert_eq!(matches("owner", &[], to(22)), Truth::Maybe);
        assert_eq!(matches("comment", &[], to(22)), Truth::Yes);
    }
}
