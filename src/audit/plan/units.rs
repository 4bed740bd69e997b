//! Units to end, and units to start anew.

use std::collections::BTreeMap;

use super::{Case, Step, variable};
use crate::audit::inventory::Listener;
use crate::audit::verdict::{Kind, Service, Severity, quoted};

/// One step a unit.
pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    let mut steps: BTreeMap<String, Step> = BTreeMap::new();
    for rule in ["clear-text", "unneeded-socket"] {
        for (finding, listener) in case.of_rule(rule) {
            for unit in units(listener).filter(|unit| case.ways_in.spare(unit)) {
                let step = steps.entry(unit.clone()).or_insert_with(|| ending(&unit));
                // What is still in use somewhere is ended by whoever knows.
                let legacy = Service::of(listener).is_some_and(|s| s.kind == Kind::Legacy);
                step.is_on |= finding.severity >= Severity::Low
                    && (legacy || finding.rule == "unneeded-socket");
                step.why.push(finding.reason.clone());
                step.mends.push((finding.rule, finding.port, finding.protocol));
            }
        }
    }
    // With a listener goes all that was wrong with it.
    for step in steps.values_mut().filter(|step| step.is_on) {
        let ends = |port, protocol| step.mends.iter().any(|(_, p, q)| (*p, *q) == (port, protocol));
        let gone =
            case.findings.iter().filter(|f| f.namespace.is_none() && ends(f.port, f.protocol));
        step.mends = gone.map(|finding| (finding.rule, finding.port, finding.protocol)).collect();
    }
    let mut steps: Vec<Step> = steps.into_values().collect();
    for (finding, listener) in case.of_rule("replaced-program") {
        let Some(holder) = &listener.holder else { continue };
        for unit in holder.unit.iter().filter(|unit| case.ways_in.spare(unit)) {
            let switch = variable("restart", unit);
            let mended = (finding.rule, finding.port, finding.protocol);
            if let Some(step) = steps.iter_mut().find(|step| step.switch == switch) {
                step.mends.push(mended);
                continue;
            }
            steps.push(Step {
                switch,
                is_on: false,
                title: format!("start {unit} anew"),
                why: vec![finding.reason.clone(), "It is gone for a moment.".to_owned()],
                body: format!("    systemctl restart {}\n", quoted(unit)),
                mends: vec![mended],
            });
        }
    }
    steps
}

/// The socket before its service, which it would start again.
fn units(listener: &Listener) -> impl Iterator<Item = String> {
    let inetd = |name: &str| name.contains("inetd");
    let holder = listener.holder.as_ref();
    let holder = holder.filter(|holder| holder.container.is_none() && !inetd(&holder.comm));
    let units = holder.map(|holder| [holder.socket_unit.clone(), holder.unit.clone()]);
    units.into_iter().flatten().flatten()
}

fn ending(unit: &str) -> Step {
    let name = quoted(unit);
    Step {
        switch: variable("disable", unit),
        is_on: false,
        title: format!("end {unit} and keep it from starting"),
        why: Vec::new(),
        body: format!(
            "    if systemctl is-enabled -q {name} 2>/dev/null || systemctl is-active -q {name}; then\n\
             \x20       systemctl disable --now {name}\n    fi\n"
        ),
        mends: Vec::new(),
    }
}
