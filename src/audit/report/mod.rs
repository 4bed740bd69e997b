//! What an audit found, for people and for programs.

mod rows;
mod groups;
mod text;
mod json;
mod markdown;
mod html;

use schemars::JsonSchema;
use serde::Serialize;

pub use html::html;
pub use json::{json, schema};
pub use markdown::markdown;
pub use text::{Colour, text};

use super::baseline::{Comparison, VERSION};
use super::facts::Facts;
use super::inventory::{Host, Inventory, Listener, Protocol};
use super::registry;
use super::sockets::printable;
use super::verdict::{Finding, Severity, judge};

/// What an audit found. Everything in it can be shown: nothing controls a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(title = "Report of portcullis audit")]
pub struct Report {
    /// The version of this form; one more when something that was there means something else.
    pub version: u32,
    /// Where and when.
    pub host: Host,
    /// Everything that listens, by port.
    pub listeners: Vec<Entry>,
    /// What is wrong with it, the most urgent first.
    pub findings: Vec<Finding>,
    /// What could not be seen and how to see it, a sentence each.
    pub unseen: Vec<String>,
    /// What is different from the baseline, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Comparison>,
}

/// A listener, and what its port is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// The name of the service that the port is for.
    pub service: Option<String>,
    /// The listener.
    #[serde(flatten)]
    pub listener: Listener,
}

impl Report {
    /// Judges an inventory that was made [`showable`].
    #[must_use]
    pub fn of(inventory: &Inventory, facts: &Facts) -> Self {
        let entry = |listener: &Listener| Entry {
            service: service(listener, facts),
            listener: listener.clone(),
        };
        let mut findings = judge(inventory, facts);
        for finding in &mut findings {
            // Parts of them are what strangers answered, or their certificates.
            finding.reason = printable(&finding.reason);
            finding.remedy = printable(&finding.remedy);
        }
        let unseen = inventory.unseen.iter().chain(&facts.unseen);
        Self {
            version: VERSION,
            host: inventory.host.clone(),
            listeners: inventory.listeners.iter().map(entry).collect(),
            findings,
            unseen: unseen.map(|sentence| printable(sentence)).collect(),
            baseline: facts.baseline.clone(),
        }
    }

    /// Whether anything is as urgent as this or more.
    #[must_use]
    pub fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= severity)
    }

    /// How many findings of each severity there are, the most urgent first: `2 high, 1 low`.
    fn counts(&self) -> String {
        let count = |severity: Severity| {
            let count = self.findings.iter().filter(|f| f.severity == severity).count();
            (count > 0).then(|| format!("{count} {severity}"))
        };
        let counts: Vec<String> = Severity::ALL.into_iter().filter_map(count).collect();
        if counts.is_empty() { "no findings".to_owned() } else { counts.join(", ") }
    }

    /// `Linux 6.1.0, 2026-01-31 12:00 UTC, as root`
    fn about(&self) -> String {
        let who = if self.host.is_root { "as root" } else { "not as root" };
        let taken = jiff::Timestamp::try_from(self.host.taken);
        let taken = taken.map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
        let taken = taken.unwrap_or_else(|_| "an unknown time".to_owned());
        format!("Linux {}, {taken}, {who}", self.host.kernel)
    }
}

/// An inventory whose paths are text, and text that can be shown: a path may be any bytes, JSON
/// is UTF-8.
#[must_use]
pub fn showable(mut inventory: Inventory) -> Inventory {
    for holder in inventory.listeners.iter_mut().filter_map(|listener| listener.holder.as_mut()) {
        holder.exe = holder.exe.take().map(|exe| printable(&exe.to_string_lossy()).into());
        for text in [&mut holder.command, &mut holder.comm, &mut holder.user] {
            *text = printable(text);
        }
        for text in [&mut holder.unit, &mut holder.socket_unit, &mut holder.container] {
            *text = text.take().map(|text| printable(&text));
        }
    }
    inventory
}

/// The name of the service that a port is for.
fn service(listener: &Listener, facts: &Facts) -> Option<String> {
    let protocol = match listener.protocol {
        Protocol::Tcp => registry::Protocol::Tcp,
        Protocol::Udp => registry::Protocol::Udp,
    };
    facts.registry.lookup(listener.port, protocol).service().map(ToOwned::to_owned)
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::audit::verdict::testing::{held, holder, host, nothing, tcp};

    #[test]
    fn odd_names_of_processes_are_shown_and_never_fail() {
        let mut odd = holder("x");
        odd.exe = Some(std::ffi::OsStr::from_bytes(b"/opt/\xff\x1b[2J").into());
        odd.comm = "\u{202e}\u{7}<b>".to_owned();
        odd.command = "a\nb \"'`|\\".to_owned();
        let inventory = showable(host(vec![held(tcp(23), odd)]));
        let report = Report::of(&inventory, &nothing());
        let read: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(read["listeners"][0]["holder"]["exe"], "/opt/\u{fffd}?[2J");
        for shown in [text(&report, Colour::Off), markdown(&report), html(&report)] {
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown}");
            assert!(!shown.contains('\u{202e}'));
        }
    }

    #[test]
    fn findings_are_counted() {
        let report = testing::report();
        assert_eq!(report.counts(), "2 high, 1 low");
        assert!(report.has(Severity::High) && !report.has(Severity::Critical));
    }
}
