//! The transport protocols that have ports.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A transport protocol with a port registry of its own (RFC 6335 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
    /// RFC 4340.
    Dccp,
}

impl Protocol {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Dccp];

    /// As in `53/udp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
            Protocol::Dccp => "dccp",
        }
    }

    /// The protocol of that name, in either case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Some of the protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<Protocol>")]
pub struct Protocols(u8);

impl Protocols {
    /// Each of them.
    pub const ALL: Protocols = Protocols(0b1111);
    /// None of them.
    pub const NONE: Protocols = Protocols(0);
    /// TCP alone.
    pub const TCP: Protocols = Protocols(1);

    /// Whether `protocol` is among them.
    #[must_use]
    pub fn has(self, protocol: Protocol) -> bool {
        self.meets(protocol.into())
    }

    /// Whether the two have a protocol in common.
    #[must_use]
    pub fn meets(self, other: Protocols) -> bool {
        self.0 & other.0 != 0
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, other: Protocols) -> Self {
        Self(self.0 | other.0)
    }

    /// Each one, in the order in which they are shown.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL.into_iter().filter(move |protocol| self.has(*protocol))
    }
}

impl From<Protocol> for Protocols {
    fn from(protocol: Protocol) -> Self {
        Self(1 << protocol as u8)
    }
}

impl FromIterator<Protocol> for Protocols {
    fn from_iter<I: IntoIterator<Item = Protocol>>(protocols: I) -> Self {
        protocols.into_iter().fold(Self::NONE, |all, protocol| all.with(protocol.into()))
    }
}

impl From<Vec<Protocol>> for Protocols {
    fn from(list: Vec<Protocol>) -> Self {
        list.into_iter().collect()
    }
}

impl Serialize for Protocols {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// `tcp,udp`
impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Protocol::name).collect();
        f.pad(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_what_was_put_in() {
        let both = Protocols::from(vec![Protocol::Udp, Protocol::Tcp]);
        assert_eq!(both.to_string(), "tcp,udp");
        assert!(both.has(Protocol::Udp) && !both.has(Protocol::Sctp));
        assert!(!both.meets(Protocol::Dccp.into()));
        assert_eq!(Protocol::ALL.into_iter().collect::<Protocols>(), Protocols::ALL);
        assert_eq!(Protocols::from(Protocol::Tcp), Protocols::TCP);
    }

    #[test]
    fn names_are_read_in_either_case() {
        assert_eq!(Protocol::named("UDP"), Some(Protocol::Udp));
        assert_eq!(Protocol::named("icmp"), None);
    }
}
