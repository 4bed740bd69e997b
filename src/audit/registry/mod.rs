//! What ports are for: IANA's registry, joined with what operators should know besides.
//!
//! ```
//! use portcullis::audit::registry::{Exposure, Protocol, Registry};
//!
//! let registry = Registry::read();
//! let telnet = registry.lookup(23, Protocol::Tcp);
//! assert_eq!(telnet.service(), Some("telnet"));
//! assert_eq!(telnet.knowledge[0].exposure, Exposure::Nowhere);
//! ```

mod protocol;
mod assignment;
mod knowledge;
mod query;
mod near;
mod search;

use std::fmt;

use serde::Serialize;

pub use assignment::{Assignment, State};
pub use knowledge::{Category, Exposure, Holder, Knowledge, Status, Successor, Traffic};
pub use protocol::{Protocol, Protocols};
pub use query::{Item, Query, QueryError, What};
pub use search::{Found, Missed, Taken};

/// The registry, as it is embedded in the program.
#[derive(Debug)]
pub struct Registry {
    /// In the order of their first ports.
    assignments: Vec<Assignment>,
    /// For each assignment, the last port of it and all those before it.
    reach: Vec<u16>,
    /// In the order of the ports.
    knowledge: Vec<Knowledge>,
}

impl Registry {
    /// Reads the embedded tables: some milliseconds, so once for each run of a verb.
    #[must_use]
    pub fn read() -> Self {
        let assignments = assignment::table();
        let last = |reach: &mut u16, assignment: &Assignment| {
            *reach = (*reach).max(*assignment.ports.end());
            Some(*reach)
        };
        let reach = assignments.iter().scan(0, last).collect();
        Self { assignments, reach, knowledge: knowledge::table() }
    }

    /// The date of IANA's newest entry, `2025-11-14`.
    #[must_use]
    pub fn newest() -> &'static str {
        assignment::newest()
    }

    /// What is known of a port, on every protocol.
    #[must_use]
    pub fn entry(&self, port: u16) -> Entry<'_> {
        self.narrowed(port, Protocols::ALL)
    }

    /// What is known of a port on one protocol.
    #[must_use]
    pub fn lookup(&self, port: u16, protocol: Protocol) -> Entry<'_> {
        self.narrowed(port, protocol.into())
    }

    /// What is known of a port on some protocols.
    #[must_use]
    pub fn narrowed(&self, port: u16, protocols: Protocols) -> Entry<'_> {
        let begun = self.assignments.partition_point(|assigned| *assigned.ports.start() <= port);
        let candidates = self.assignments.iter().zip(&self.reach).take(begun).rev();
        let mut assignments: Vec<_> = candidates
            .take_while(|(_, reach)| **reach >= port)
            .map(|(assignment, _)| assignment)
            .filter(|one| one.ports.contains(&port) && one.protocols.meets(protocols))
            .collect();
        assignments.reverse();
        let known = self.knowledge.partition_point(|known| known.port < port);
        let knowledge = self.knowledge.iter().skip(known).take_while(|known| known.port == port);
        let knowledge = knowledge.filter(|known| known.protocols.meets(protocols)).collect();
        Entry { port, protocols, assignments, knowledge }
    }

    /// Everything that has more than IANA's words, in the order of the ports.
    #[must_use]
    pub fn knowledge(&self) -> &[Knowledge] {
        &self.knowledge
    }

    /// The entries of these ports, each once.
    #[must_use]
    pub fn overview(&self) -> Vec<Entry<'_>> {
        let mut ports = std::collections::BTreeMap::<u16, Protocols>::new();
        for known in &self.knowledge {
            let protocols = ports.entry(known.port).or_default();
            *protocols = protocols.with(known.protocols);
        }
        ports.into_iter().map(|(port, protocols)| self.narrowed(port, protocols)).collect()
    }
}

/// What is known of one port, on the protocols that were asked for.
#[derive(Clone, Debug)]
pub struct Entry<'r> {
    /// The port.
    pub port: u16,
    /// Which protocols were asked for.
    pub protocols: Protocols,
    /// What IANA says; empty in the dynamic range.
    pub assignments: Vec<&'r Assignment>,
    /// What we say; mostly empty. Two where TCP and UDP are for different services.
    pub knowledge: Vec<&'r Knowledge>,
}

impl<'r> Entry<'r> {
    /// Which part of the numbers it is in.
    #[must_use]
    pub fn range(&self) -> Range {
        Range::of(self.port)
    }

    /// The name to call the port by: ours, else IANA's first.
    #[must_use]
    pub fn service(&self) -> Option<&'r str> {
        let ours = self.knowledge.first().map(|known| known.service.as_str());
        ours.or_else(|| self.assigned().map(|one| one.service).find(|name| !name.is_empty()))
    }

    /// Those lines of IANA's by which somebody has the port.
    pub fn assigned(&self) -> impl Iterator<Item = &'r Assignment> {
        self.assignments.iter().copied().filter(|one| one.state == State::Assigned)
    }

    /// Whether anybody has the port, on any of the protocols. `Unassigned` in the dynamic range,
    /// and where IANA says nothing of these protocols.
    #[must_use]
    pub fn state(&self) -> State {
        let has = |state| self.assignments.iter().any(|one| one.state == state);
        match () {
            () if has(State::Assigned) => State::Assigned,
            () if has(State::Reserved) => State::Reserved,
            () => State::Unassigned,
        }
    }
}

/// The three parts of the numbers (RFC 6335 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// 0-1023: assigned by IANA under strict rules; Linux lets only the privileged bind them.
    WellKnown,
    /// 1024-49151: assigned by IANA; anybody may bind them.
    Registered,
    /// 49152-65535: never assigned.
    Dynamic,
}

impl Range {
    /// That which the port is in.
    #[must_use]
    pub fn of(port: u16) -> Self {
        match port {
            0..=1023 => Range::WellKnown,
            1024..=49151 => Range::Registered,
            49152.. => Range::Dynamic,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Range::WellKnown => "well-known",
            Range::Registered => "registered",
            Range::Dynamic => "dynamic",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_answers() {
        let registry = Registry::read();
        for port in 0..=u16::MAX {
            let entry = registry.entry(port);
            assert_eq!(entry.port, port);
            let silent = entry.assignments.is_empty();
            assert_eq!(silent, entry.range() == Range::Dynamic, "{port}");
            assert!(entry.state() != State::Assigned || entry.assigned().count() > 0, "{port}");
        }
    }

    #[test]
    fn tcp_and_udp_of_one_number_can_be_two_services() {
        let registry = Registry::read();
        assert_eq!(registry.lookup(514, Protocol::Tcp).service(), Some("shell"));
        assert_eq!(registry.lookup(514, Protocol::Udp).service(), Some("syslog"));
        assert_eq!(registry.entry(514).knowledge.len(), 2);
        assert_eq!(registry.lookup(143, Protocol::Udp).state(), State::Reserved);
    }

    #[test]
    fn a_port_inside_a_span_is_found() {
        let registry = Registry::read();
        let screen = registry.entry(6042);
        assert_eq!(screen.service(), Some("x11"));
        assert_eq!(*screen.assignments[0].ports.end(), 6063);
        assert_eq!(registry.entry(275).state(), State::Unassigned);
        assert_eq!(registry.entry(230).state(), State::Reserved);
    }

    #[test]
    fn our_name_comes_before_that_of_iana() {
        let registry = Registry::read();
        assert_eq!(registry.entry(6443).service(), Some("kubernetes"));
        assert_eq!(registry.entry(443).service(), Some("https"));
        assert_eq!(registry.entry(4).service(), None);
        assert_eq!(registry.entry(51820).service(), Some("wireguard"));
    }

    #[test]
    fn the_numbers_have_three_parts() {
        let ends = [0, 1023, 1024, 49151, 49152, 65535].map(|port| Range::of(port).to_string());
        let [well_known, registered, dynamic] = ["well-known", "registered", "dynamic"];
        assert_eq!(ends, [well_known, well_known, registered, registered, dynamic, dynamic]);
    }
}
