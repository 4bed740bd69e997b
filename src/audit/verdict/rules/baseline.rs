//! Listeners that the baseline does not know, or knows otherwise.

use super::reach;
use crate::audit::facts::Facts;
use crate::audit::inventory::{Exposure, Inventory, Listener};
use crate::audit::verdict::{Severity, Verdict, remedy};

const REFERENCE: &str = "NIST SP 800-128 §2.3 (baseline configurations); CIS Controls 4.8";

pub(super) fn check(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let comparison = facts.baseline.as_ref()?;
    let accept = "portcullis audit --save FILE   # if it is meant to be; otherwise:";
    let remedy = format!("{accept} {}", remedy::stop(listener));
    if comparison.new.contains(listener) {
        let severity = match listener.exposure {
            Exposure::Loopback => Severity::Info,
            _ => reach::severity(listener, Severity::High)?,
        };
        let (program, who) = (reach::program(listener), reach::who(listener));
        let reason = format!("{program} listens for {who} and the baseline does not know it.");
        return Some(Verdict { severity, reason, reference: REFERENCE, remedy });
    }
    let change = comparison.changed.iter().find(|change| {
        (change.port, change.protocol) == (listener.port, listener.protocol)
            && change.namespace == listener.namespace
    })?;
    // Wider than it was is as bad as new.
    let opens =
        |what: &&String| what.starts_with("exposure:") || what.starts_with("firewall: open");
    let opened = change.what.iter().any(|what| opens(&what));
    let public = if opened { Severity::High } else { Severity::Medium };
    let severity = reach::severity(listener, public).unwrap_or(Severity::Info);
    let reason = format!("It is not what the baseline knows: {}.", change.what.join("; "));
    Some(Verdict { severity, reason, reference: REFERENCE, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::baseline::{Baseline, VERSION};
    use crate::audit::verdict::testing::{host, local, nothing, tcp};

    fn judged(then: Vec<Listener>, now: &Listener) -> Option<Severity> {
        let baseline = Baseline { version: VERSION, listeners: then };
        let comparison = baseline.compare(std::slice::from_ref(now));
        let facts = Facts { baseline: Some(comparison), ..nothing() };
        check(now, &host(vec![]), &facts).map(|verdict| verdict.severity)
    }

    #[test]
    fn what_the_baseline_does_not_know_is_found() {
        assert_eq!(judged(vec![], &tcp(8080)), Some(Severity::High));
        assert_eq!(judged(vec![], &local(8080)), Some(Severity::Info));
        assert_eq!(judged(vec![local(8080)], &tcp(8080)), Some(Severity::High));
        assert_eq!(judged(vec![tcp(8080)], &tcp(8080)), None);
        assert_eq!(check(&tcp(8080), &host(vec![]), &nothing()), None);
    }
}
