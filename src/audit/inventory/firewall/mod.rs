//! What the rules of nftables do with a stranger's first packet to a port.
//!
//! The rules are read from the kernel over netlink. Those of iptables are among them where
//! `iptables` is `iptables-nft`, as on Debian; the older kind can be seen to be there, no more.

mod ruleset;
mod expression;
mod legacy;
mod walk;

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exposure, Listener, Protocol};
use ruleset::{Alike, Ruleset};
use walk::{Family, Packet};

/// What the local firewall does with a stranger's first packet to a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firewall {
    /// Whether it gets there.
    pub passage: Passage,
    /// The rule that says so, as a sentence's end: `inet filter input, handle 7`.
    pub rule: String,
}

/// Whether a stranger's first packet gets to a listener; the widest last.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Passage {
    /// Never.
    Closed,
    /// From some: a rule lets it in that depends on where it comes from, or on more.
    Partly,
    /// A rule sends it elsewhere before it gets to the input rules, so that these do not count:
    /// what a container engine does with a port that it publishes.
    Forwarded,
    /// Always, or nearly.
    Open,
}

/// Rules looked at for all listeners together: a second's work.
const STEPS: usize = 1_000_000;

/// What is asked of the rules: ports by what is alike, and the families that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked {
    protocol: Protocol,
    ports: usize,
    v4: bool,
    v6: bool,
}

/// The rules of this network namespace.
pub(super) struct Firewalls {
    rules: Ruleset,
    /// Whether there are rules beside these that cannot be read.
    has_others: bool,
    alike: Alike,
    known: HashMap<Asked, Option<Firewall>>,
    /// Of [`STEPS`].
    left: usize,
}

impl Firewalls {
    /// # Errors
    /// Why the rules cannot be known and how to see them, a sentence.
    pub(super) fn read() -> Result<Self, String> {
        match Ruleset::read() {
            Ok(rules) => Ok(Firewalls {
                alike: Alike::of(&rules),
                rules,
                has_others: legacy::is_there(),
                known: HashMap::new(),
                left: STEPS,
            }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
                "The rules of the firewall may be read by root only{}. To see them: sudo \
                 portcullis audit, or sudo nft list ruleset",
                configured()
            )),
            Err(error) => Err(format!(
                "The rules of the firewall cannot be read ({error}){}. To see them: sudo nft \
                 list ruleset; sudo iptables-save",
                configured()
            )),
        }
    }

    /// For a listener of this namespace that strangers could reach.
    pub(super) fn before(&mut self, listener: &Listener) -> Option<Firewall> {
        if listener.namespace.is_some() || listener.exposure == Exposure::Loopback {
            return None;
        }
        let reached = |ip: &&IpAddr| Exposure::of(**ip) != Exposure::Loopback;
        let mut addresses = listener.addresses.iter().filter(reached);
        let v6 = addresses.clone().any(IpAddr::is_ipv6);
        let covers = |ip: &IpAddr| ip.is_unspecified() && listener.v6_only != Some(true);
        let v4 = addresses.any(|ip| ip.is_ipv4() || covers(ip));
        let ports = self.alike.number(listener.port);
        let asked = Asked { protocol: listener.protocol, ports, v4, v6 };
        if !self.known.contains_key(&asked) {
            let found = self.judge(asked, listener.port);
            self.known.insert(asked, found);
        }
        self.known.get(&asked).cloned().flatten()
    }

    /// What cannot be known although the rules were read, a sentence.
    pub(super) fn unseen(&self) -> Option<String> {
        if self.has_others {
            let text = "The rules of iptables-legacy cannot be read. To see them: sudo \
                        iptables-legacy-save; sudo ip6tables-legacy-save";
            return Some(text.to_owned());
        }
        let text = "The rules of the firewall are too many to say for every listener what they do \
                    before it. To see them: sudo nft list ruleset";
        self.known.values().any(Option::is_none).then(|| text.to_owned())
    }

    /// The wider of the two families.
    fn judge(&mut self, asked: Asked, port: u16) -> Option<Firewall> {
        let families = [(asked.v4, Family::V4), (asked.v6, Family::V6)];
        let mut widest: Option<Firewall> = None;
        for (_, family) in families.into_iter().filter(|(is_meant, _)| *is_meant) {
            let packet = Packet { family, protocol: asked.protocol, port };
            let found = walk::judge(&self.rules, packet, &mut self.left)?;
            if widest.as_ref().is_none_or(|widest| widest.passage < found.passage) {
                widest = Some(found);
            }
        }
        // What these rules let in, the others may still keep out.
        widest.filter(|widest| !self.has_others || widest.passage == Passage::Closed)
    }
}

/// What is configured to keep the rules, where an ordinary user may see that.
fn configured() -> String {
    let has = |file: &str, line: &str| {
        fs::read_to_string(file).is_ok_and(|text| text.lines().any(|it| it.trim() == line))
    };
    let starts = |unit: &str| {
        let folder = "/etc/systemd/system";
        ["multi-user", "sysinit"].iter().any(|target| {
            fs::symlink_metadata(format!("{folder}/{target}.target.wants/{unit}.service")).is_ok()
        })
    };
    let mut found = Vec::new();
    found.extend(has("/etc/ufw/ufw.conf", "ENABLED=yes").then_some("ufw (/etc/ufw/ufw.conf)"));
    found.extend(starts("nftables").then_some("nftables (/etc/nftables.conf)"));
    found.extend(starts("firewalld").then_some("firewalld"));
    if found.is_empty() {
        return String::new();
    }
    format!("; {} is configured to be started", found.join(" and "))
}
