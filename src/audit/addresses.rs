//! The addresses of this host.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::netlink::{attribute, list, u32_at};

/// `RTM_GETADDR` of rtnetlink(7).
const RTM_GETADDR: u16 = 22;

/// `struct ifaddrmsg`, in bytes.
const MESSAGE: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// One address and the interface that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// `eth0`; the number where it has no name.
    pub interface: String,
}

/// Every address of this network namespace, IPv4 first.
///
/// # Errors
/// When the kernel may not be asked.
pub fn all() -> io::Result<Vec<Address>> {
    let names = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut found = Vec::new();
    list(None, RTM_GETADDR, &[0; MESSAGE], |message| {
        if let Some((index, ip)) = parse(message) {
            let name = netdevice::index_to_name(&names, index);
            let interface = name.unwrap_or_else(|_| index.to_string());
            found.push(Address { ip, interface });
        }
    })?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// `struct ifaddrmsg` and its attributes: family, prefix, flags, scope, interface.
fn parse(message: &[u8]) -> Option<(u32, IpAddr)> {
    let attributes = message.get(MESSAGE..)?;
    // Of a point-to-point link IFA_ADDRESS is the other end.
    let value = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    let ip = match value.len() {
        4 => IpAddr::from(*value.first_chunk::<4>()?),
        16 => IpAddr::from(Ipv6Addr::from(*value.first_chunk::<16>()?)),
        _ => return None,
    };
    Some((u32_at(message, 4)?, ip))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.ip, self.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let all = all().unwrap();
        let loopback = Address { ip: [127, 0, 0, 1].into(), interface: "lo".to_owned() };
        assert!(all.contains(&loopback), "{all:?}");
        assert_eq!(loopback.to_string(), "127.0.0.1 (lo)");
    }

    #[test]
    fn the_own_end_of_a_link_counts() {
        let mut message = vec![2, 32, 0, 0];
        message.extend(7_u32.to_ne_bytes());
        for (kind, last) in [(IFA_ADDRESS, 1), (IFA_LOCAL, 2)] {
            message.extend(8_u16.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend([10, 0, 0, last]);
        }
        assert_eq!(parse(&message), Some((7, IpAddr::from([10, 0, 0, 2]))));
        assert_eq!(parse(&message[..10]), None);
    }
}
