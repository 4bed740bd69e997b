//! Addresses as text, without the machinery of `fmt`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Appends an address; that of IPv4 also where it came in through an IPv6 socket.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => ipv4(out, address),
        IpAddr::V6(address) => ipv6(out, address),
    }
}

fn ipv4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let [a, b, c, d] = address.octets();
    decimal(out, a);
    for octet in [b, c, d] {
        out.push(b'.');
        decimal(out, octet);
    }
}

/// The form of RFC 5952 §4: no leading zeros, the longest run of zero groups (the first of equal
/// ones, never a single group) as `::`.
fn ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let groups = address.segments();
    let (mut run, mut length) = (0, 0);
    let mut zeros = 0;
    for (index, group) in groups.iter().enumerate() {
        zeros = if *group == 0 { zeros + 1 } else { 0 };
        if zeros > length {
            (run, length) = (index + 1 - zeros, zeros);
        }
    }
    if length < 2 {
        (run, length) = (groups.len(), 0);
    }
    for (index, group) in groups.into_iter().enumerate() {
        if index == run {
            out.extend_from_slice(b"::");
        } else if index < run || index >= run + length {
            if index > 0 && index != run + length {
                out.push(b':');
            }
            hexadecimal(out, group);
        }
    }
}

fn hexadecimal(out: &mut Vec<u8>, group: u16) {
    let mut seen = false;
    for shift in [12, 8, 4, 0] {
        let digit = u32::from(group >> shift & 0xf);
        seen |= digit != 0 || shift == 0;
        if seen {
            out.push(char::from_digit(digit, 16).map_or(b'?', |digit| digit as u8));
        }
    }
}

fn decimal(out: &mut Vec<u8>, octet: u8) {
    out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(of: IpAddr) -> String {
        let mut out = Vec::new();
        address(&mut out, of);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ipv4_is_ipv4_on_every_socket() {
        assert_eq!(written("192.0.2.255".parse().unwrap()), "192.0.2.255");
        assert_eq!(written("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }

    proptest! {
        #[test]
        fn ipv6_is_as_the_standard_library_writes_it(groups: [u16; 8], zeros: u8) {
            let mut address = Ipv6Addr::from(groups).segments();
            for (index, group) in address.iter_mut().enumerate() {
                if zeros & 1 << index != 0 {
                    *group = 0;
                }
            }
            let address = IpAddr::from(address).to_canonical();
            prop_assert_eq!(written(address), address.to_string());
        }
    }
}
