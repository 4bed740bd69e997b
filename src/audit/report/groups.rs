//! Findings that say the same of several ports, together.

use std::collections::{HashMap, HashSet};

use super::rows::protocol;
use crate::audit::verdict::{Finding, Severity};

/// One finding, and the ports that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group<'r> {
    pub(super) severity: Severity,
    pub(super) rule: &'static str,
    /// `23/tcp`, `23/tcp, 2323/tcp`, `20000/tcp and 199 more`
    pub(super) ports: String,
    pub(super) reason: &'r str,
    pub(super) reference: &'static str,
    /// Those of all its ports, each once: a command for one port does not mend another.
    pub(super) remedies: Vec<&'r str>,
}

/// So many ports are named.
const NAMED: usize = 4;

/// In the order of the findings.
pub(super) fn groups(findings: &[Finding]) -> Vec<Group<'_>> {
    let mut order: Vec<(&Finding, Vec<&Finding>)> = Vec::new();
    let mut known: HashMap<(&str, Severity, &str), usize> = HashMap::new();
    for finding in findings {
        let key = (finding.rule, finding.severity, finding.reason.as_str());
        let index = *known.entry(key).or_insert(order.len());
        match order.get_mut(index) {
            Some((_, all)) => all.push(finding),
            None => order.push((finding, vec![finding])),
        }
    }
    order.into_iter().map(|(first, all)| group(first, &all)).collect()
}

fn group<'r>(first: &'r Finding, all: &[&'r Finding]) -> Group<'r> {
    let port = |finding: &&Finding| match &finding.namespace {
        Some(name) => format!("{}/{} in {name}", finding.port, protocol(finding.protocol)),
        None => format!("{}/{}", finding.port, protocol(finding.protocol)),
    };
    let named: Vec<String> = all.iter().take(NAMED).map(port).collect();
    let more = all.len().saturating_sub(NAMED);
    let ports = match more {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    };
    let mut known = HashSet::new();
    let remedies = all.iter().map(|finding| finding.remedy.as_str());
    Group {
        severity: first.severity,
        rule: first.rule,
        ports,
        reason: &first.reason,
        reference: first.reference,
        remedies: remedies.filter(|remedy| known.insert(*remedy)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::testing::report;

    #[test]
    fn what_is_said_of_several_ports_is_said_once() {
        let first = report().findings[0].clone();
        let many: Vec<Finding> =
            (0..200).map(|n| Finding { port: 2000 + n, ..first.clone() }).collect();
        let found = groups(&many);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].ports, "2000/tcp, 2001/tcp, 2002/tcp, 2003/tcp and 196 more");
        assert_eq!(groups(&report().findings).len(), 3);
    }

    #[test]
    fn each_port_of_a_group_has_its_remedy_in_every_form() {
        let first = report().findings[0].clone();
        let close = |port| Finding { port, remedy: format!("close {port}"), ..first.clone() };
        let mut report = report();
        report.findings = vec![close(6379), close(6380), close(6379)];
        assert_eq!(groups(&report.findings)[0].remedies, ["close 6379", "close 6380"]);
        let text = crate::audit::report::text(&report, crate::audit::report::Colour::Off);
        assert!(text.contains("\n  mend: close 6379\n        close 6380\n  see:"), "{text}");
        for form in [crate::audit::report::html, crate::audit::report::markdown] {
            let shown = form(&report);
            assert!(shown.contains("close 6379\nclose 6380"), "{shown}");
        }
    }
}
