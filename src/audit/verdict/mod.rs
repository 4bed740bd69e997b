//! What is wrong with what listens here: the rules, applied.

mod severity;
mod services;
mod remedy;
mod rules;

use schemars::JsonSchema;
use serde::Serialize;

pub use remedy::{drop_in, preparation, quoted};
pub(crate) use rules::user_for;
pub use rules::{RULES, Rule};
pub use services::{Kind, SERVICES, Service};
pub use severity::Severity;

use super::facts::Facts;
use super::inventory::{Inventory, Protocol};

/// One thing about one listener that its operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The name of the rule; stable, for filters and exceptions.
    pub rule: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// The port of the listener.
    pub port: u16,
    /// The protocol of the listener.
    pub protocol: Protocol,
    /// The network namespace of the listener; `None` is this one.
    pub namespace: Option<String>,
    /// Why, in one sentence that does not name the port.
    pub reason: String,
    /// Where the rule comes from.
    pub reference: &'static str,
    /// The command for this host that mends it. Nobody but the operator runs it.
    pub remedy: String,
}

/// What a rule says of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How urgent it is.
    pub severity: Severity,
    /// Why, in one sentence that does not name the port.
    pub reason: String,
    /// Where the rule comes from.
    pub reference: &'static str,
    /// The command that mends it.
    pub remedy: String,
}

/// All findings, the most urgent first, then by port.
#[must_use]
pub fn judge(inventory: &Inventory, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in &inventory.listeners {
        let verdicts = RULES.iter().filter_map(|rule| {
            (rule.check)(listener, inventory, facts).map(|verdict| (rule.name, verdict))
        });
        findings.extend(verdicts.map(|(rule, verdict)| Finding {
            rule,
            severity: verdict.severity,
            port: listener.port,
            protocol: listener.protocol,
            namespace: listener.namespace.clone(),
            reason: verdict.reason,
            reference: verdict.reference,
            remedy: verdict.remedy,
        }));
    }
    findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.port));
    findings
}

#[cfg(test)]
pub(crate) mod testing;
