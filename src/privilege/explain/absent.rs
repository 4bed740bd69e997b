//! An address that this host does not have, or a family of addresses that its kernel lacks.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::host::Host;
use super::{Explanation, Wanted};
use crate::audit::addresses::Address;
use crate::config::Listen;

/// So many addresses are named; of more, the number.
const NAMED: usize = 8;

/// What the kernel offers of an address's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// All of it.
    Present,
    /// It is switched off by `disable_ipv6` (ip-sysctl of the kernel's documentation).
    Disabled,
    /// There is none: `ipv6.disable=1`, or not compiled in.
    Missing {
        /// Whether the kernel was told so on its command line.
        by_command_line: bool,
    },
}

impl Family {
    /// Of this address, on this host.
    #[must_use]
    pub fn of(listen: Listen) -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        match listen {
            Listen::Addr(address) if address.is_ipv6() => {}
            _ => return Self::Present,
        }
        let kind = (SocketType::STREAM, SocketFlags::CLOEXEC);
        if socket_with(AddressFamily::INET6, kind.0, kind.1, None).is_err() {
            let by_command_line = read("/proc/cmdline").contains("ipv6.disable=1");
            return Self::Missing { by_command_line };
        }
        let is_loopback = matches!(listen, Listen::Addr(a) if a.ip().is_loopback());
        let place = if is_loopback { "lo" } else { "all" };
        let disabled = read(&format!("/proc/sys/net/ipv6/conf/{place}/disable_ipv6"));
        if disabled.trim() == "1" { Self::Disabled } else { Self::Present }
    }
}

/// Why this host has no such address, and what it has.
#[must_use]
pub fn absent(
    wanted: Wanted<'_>,
    addresses: &[Address],
    family: &Family,
    host: &Host,
) -> Explanation {
    let Listen::Addr(address) = wanted.listen else {
        return Explanation::new("This host has neither IPv6 nor IPv4.".to_owned());
    };
    let ip = address.ip();
    let (any, about_any) = wanted.everywhere();
    match family {
        Family::Missing { by_command_line } => {
            let why = if *by_command_line {
                "its kernel was started with ipv6.disable=1"
            } else {
                "its kernel has none"
            };
            let mut explanation = Explanation::new(format!(
                "{ip} is an address of IPv6, which this host lacks: {why}."
            ));
            explanation.way(any, about_any);
            if *by_command_line {
                explanation.way(
                    "take ipv6.disable=1 from the kernel's command line",
                    "GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and a reboot",
                );
            }
            explanation
        }
        Family::Disabled => {
            let scope = if ip.is_loopback() { "lo" } else { "all" };
            let mut explanation = Explanation::new(format!(
                "{ip} is an address of IPv6, which is switched off on this host: \
                 net.ipv6.conf.{scope}.disable_ipv6 is 1."
            ));
            explanation.way(any, about_any);
            let on = format!("sysctl -w net.ipv6.conf.{scope}.disable_ipv6=0");
            explanation.way(host.as_root(&[on]), "switches IPv6 on until the host boots again");
            explanation
        }
        Family::Present => {
            let mut explanation = Explanation::new(format!(
                "This host has no address {ip}; it has {}.",
                listed(addresses, ip)
            ));
            if let Some(scoped) = with_interface(address, addresses) {
                let note = "an address of one link needs the number of its interface";
                explanation.way(wanted.changed(Listen::Addr(scoped)), note);
            }
            explanation.way(any, about_any);
            if host.systemd {
                explanation.way(
                    "[Unit] Wants=network-online.target After=network-online.target",
                    "in the unit, if the network is only slow to give the address",
                );
            }
            let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
            explanation.way(
                host.as_root(&[format!("sysctl -w net.{family}.ip_nonlocal_bind=1")]),
                "if the address comes and goes (a failover, a VPN)",
            );
            explanation
        }
    }
}

/// An address of one link that this host has, with the number of the interface that has it.
fn with_interface(address: SocketAddr, addresses: &[Address]) -> Option<SocketAddr> {
    let SocketAddr::V6(mut address) = address else { return None };
    let ip = IpAddr::V6(*address.ip());
    let has = addresses.iter().find(|a| a.ip == ip && address.ip().is_unicast_link_local())?;
    let number = fs::read_to_string(format!("/sys/class/net/{}/ifindex", has.interface)).ok()?;
    address.set_scope_id(number.trim().parse().ok()?);
    Some(address.into())
}

/// The addresses of the same family.
fn listed(addresses: &[Address], ip: IpAddr) -> String {
    let same: Vec<_> = addresses.iter().filter(|a| a.ip.is_ipv4() == ip.is_ipv4()).collect();
    let mut words: Vec<String> = same.iter().take(NAMED).map(ToString::to_string).collect();
    match same.len() {
        0 => words.push("none of that family".to_owned()),
        number if number > NAMED => words.push(format!("and {} more", number - NAMED)),
        _ => {}
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privilege::explain::METRICS;
    use crate::privilege::explain::host::RootBy;

    fn host() -> Host {
        Host {
            root_by: RootBy::Sudo,
            setcap: true,
            install_setcap: None,
            systemd: true,
            reserved_ports: String::new(),
            selinux: false,
            inside: None,
        }
    }

    fn explained(address: &str, family: Family) -> String {
        let listen = Listen::Addr(address.parse().unwrap());
        let addresses = [("127.0.0.1", "lo"), ("10.0.0.5", "eth0"), ("::1", "lo")];
        let addresses = addresses.map(|(ip, interface)| Address {
            ip: ip.parse().unwrap(),
            interface: interface.to_owned(),
        });
        absent(Wanted::new("http", listen), &addresses, &family, &host()).to_string()
    }

    #[test]
    fn the_addresses_that_there_are_stand_beside_the_one_that_is_not() {
        let text = explained("192.0.2.1:80", Family::Present);
        assert!(text.contains("no address 192.0.2.1; it has 127.0.0.1 (lo), 10.0.0.5 (eth0)."));
        assert!(text.contains("1. http = \":80\""), "{text}");
        assert!(text.contains("network-online.target"), "{text}");
        assert!(text.contains("sudo sysctl -w net.ipv4.ip_nonlocal_bind=1"), "{text}");
        let text = explained("[2001:db8::1]:80", Family::Present);
        assert!(text.contains("it has ::1 (lo).") && text.contains("net.ipv6.ip_nonlocal_bind"));
    }

    #[test]
    fn a_missing_ipv6_is_told_from_one_that_is_switched_off() {
        let text = explained("[::1]:80", Family::Missing { by_command_line: true });
        assert!(text.contains("ipv6.disable=1") && text.contains("http = \":80\""), "{text}");
        let text = explained("[::1]:80", Family::Missing { by_command_line: false });
        assert!(text.contains("its kernel has none"), "{text}");
        let text = explained("[::1]:80", Family::Disabled);
        assert!(text.contains("sudo sysctl -w net.ipv6.conf.lo.disable_ipv6=0"), "{text}");
        let text = explained("[2001:db8::1]:80", Family::Disabled);
        assert!(text.contains("net.ipv6.conf.all.disable_ipv6=0"), "{text}");
    }

    #[test]
    fn an_address_of_one_link_needs_its_interface() {
        let address = |ip: &str| Address { ip: ip.parse().unwrap(), interface: "lo".to_owned() };
        let wanted = "[fe80::1]:80".parse().unwrap();
        let scoped = with_interface(wanted, &[address("::1"), address("fe80::1")]).unwrap();
        assert_eq!(scoped.to_string(), "[fe80::1%1]:80");
        assert_eq!(with_interface(wanted, &[address("::1")]), None);
        let text = explained("[fe80::1]:80", Family::Present);
        assert!(!text.contains('%'), "{text}");
    }

    /// The program refuses them, and strangers would read them.
    #[test]
    fn metrics_are_never_advised_for_every_address() {
        let listen = Listen::Addr("192.0.2.1:80".parse().unwrap());
        let wanted = Wanted::new(METRICS, listen);
        let explanation = absent(wanted, &[], &Family::Present, &host());
        assert_eq!(explanation.remedy(), "metrics = \"127.0.0.1:80\"", "{explanation}");
    }

    #[test]
    fn many_addresses_are_counted() {
        let address = |n| Address { ip: [10, 0, 0, n].into(), interface: "eth0".to_owned() };
        let many: Vec<_> = (1..=10).map(address).collect();
        assert!(listed(&many, [10, 0, 0, 99].into()).ends_with("and 2 more"));
    }
}
