//! Services that should not be reached by strangers, and what mends each.
//!
//! The port reference says what a port is for; this table says what follows when it listens.

mod clear;
mod inner;
mod admin;

use super::Severity;
use crate::audit::inventory::{Holder, Listener, Protocol};

/// One service that rules ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What people call it.
    pub name: &'static str,
    /// Where it usually listens.
    pub ports: &'static [u16],
    /// Over what; `None` is both.
    pub protocol: Option<Protocol>,
    /// The names of its processes (at most 15 bytes), by which it is known on other ports too.
    pub programs: &'static [&'static str],
    /// Why it is in this table.
    pub kind: Kind,
    /// How urgent it is when everybody reaches it.
    pub severity: Severity,
    /// What a stranger can do, as the end of the sentence "everybody who reaches it …".
    pub danger: &'static str,
    /// Where that is said.
    pub reference: &'static str,
    /// The command that makes it listen on this host only, or ends it. `{unit}` stands for its
    /// unit. Empty: only a firewall or the end of the program helps.
    pub remedy: &'static str,
}

/// Why a service is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Clear text, and given up for something better: not even this host needs it.
    Legacy,
    /// Clear text where others can listen; of use on this host alone.
    ClearText,
    /// A database, an interface for administrators, or something else that is meant for a few.
    Inner,
}

impl Service {
    /// The service behind a listener: by the program that is known for it, else by the port.
    #[must_use]
    pub fn of(listener: &Listener) -> Option<&'static Self> {
        let speaks = |service: &&'static Self| {
            service.protocol.is_none_or(|protocol| protocol == listener.protocol)
        };
        let known_for = |service: &&Self| {
            listener.holder.as_ref().is_some_and(|holder| service.is_run_by(holder))
        };
        let here = |service: &&Self| service.ports.contains(&listener.port);
        let all = || SERVICES.iter().copied().flatten().filter(speaks);
        all()
            .find(|service| here(service) && known_for(service))
            // A program that has several ports is judged by those that are its own.
            .or_else(|| all().find(here))
            .or_else(|| all().find(known_for))
    }

    /// Whether the port says little: programs of many kinds listen there.
    #[must_use]
    pub fn shares(&self, port: u16) -> bool {
        SHARED.contains(&port) || !self.ports.contains(&port)
    }

    /// Whether this process is one of its programs.
    #[must_use]
    pub fn is_run_by(&self, holder: &Holder) -> bool {
        let file = holder.exe.as_ref().and_then(|exe| exe.file_name()?.to_str());
        self.programs.iter().any(|program| *program == holder.comm || Some(*program) == file)
    }
}

/// All of them, in the order in which they are tried.
pub const SERVICES: [&[Service]; 3] = [clear::SERVICES, inner::SERVICES, admin::SERVICES];

/// Ports that web applications take as often as the service that they are known for.
const SHARED: &[u16] =
    &[5005, 5555, 7000, 8086, 8088, 8500, 8888, 9000, 9001, 9090, 9091, 9093, 9100, 10000];

const TCP: Option<Protocol> = Some(Protocol::Tcp);
const UDP: Option<Protocol> = Some(Protocol::Udp);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{holder, tcp, udp};

    fn name(listener: &Listener) -> Option<&'static str> {
        Service::of(listener).map(|service| service.name)
    }

    #[test]
    fn a_service_is_known_by_its_port_or_its_program() {
        assert_eq!(name(&tcp(6379)), Some("Redis"));
        assert_eq!(name(&tcp(23)), Some("Telnet"));
        assert_eq!(name(&udp(69)), Some("TFTP"));
        assert_eq!(name(&tcp(69)), None);
        assert_eq!(name(&tcp(8080)), None);
        let mut moved = tcp(6380);
        moved.holder = Some(holder("redis-server"));
        assert_eq!(name(&moved), Some("Redis"));
    }

    #[test]
    fn every_service_is_complete() {
        for service in SERVICES.iter().copied().flatten() {
            assert!(!service.ports.contains(&0), "{service:?}");
            assert!(!service.ports.is_empty() || !service.programs.is_empty(), "{service:?}");
            assert!(!service.danger.is_empty() && !service.danger.ends_with('.'), "{service:?}");
            assert!(!service.reference.is_empty() && !service.name.is_empty(), "{service:?}");
            assert!(service.programs.iter().all(|program| program.len() <= 15), "{service:?}");
        }
    }

    #[test]
    fn no_port_belongs_to_two() {
        let mut seen = Vec::new();
        for service in SERVICES.iter().copied().flatten() {
            for port in service.ports {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    if service.protocol.is_none_or(|own| own == protocol) {
                        assert!(!seen.contains(&(*port, protocol)), "{port} {protocol:?}");
                        seen.push((*port, protocol));
                    }
                }
            }
        }
    }
}
