//! Drop-ins that take rights from services that do not need them.

use std::collections::BTreeMap;

use super::{Case, Step, variable};
use crate::audit::verdict::{drop_in, preparation, quoted, user_for};

/// One step a unit that no other step ends; all off, since files may have to change their owner.
pub(super) fn steps(case: &Case<'_>, others: &[Step]) -> Vec<Step> {
    let mut steps: BTreeMap<String, Step> = BTreeMap::new();
    for rule in ["runs-as-root", "capabilities"] {
        for (finding, listener) in case.of_rule(rule) {
            if others.iter().any(|step| step.settles(finding)) {
                continue;
            }
            let Some(holder) = &listener.holder else { continue };
            let Some(unit) = holder.unit.as_deref() else { continue };
            if !unit.ends_with(".service") || !case.ways_in.spare(unit) {
                continue;
            }
            if holder.container.is_some() {
                continue;
            }
            let mended = (finding.rule, finding.port, finding.protocol);
            if let Some(step) = steps.get_mut(unit) {
                step.mends.push(mended);
                continue;
            }
            // One of its ports is reason enough for the capability.
            let needs_bind = case.inventory.listeners.iter().any(|other| {
                let same = other.holder.as_ref().and_then(|holder| holder.unit.as_deref());
                other.port < 1024 && same == Some(unit)
            });
            let why = vec![finding.reason.clone()];
            let step = if rule == "runs-as-root" {
                unprivileged(unit, &user_for(holder, case.facts), needs_bind, why)
            } else {
                fewer(unit, needs_bind, why)
            };
            steps.insert(unit.to_owned(), Step { mends: vec![mended], ..step });
        }
    }
    steps.into_values().collect()
}

fn unprivileged(unit: &str, user: &str, needs_bind: bool, mut why: Vec<String>) -> Step {
    why.push(format!(
        "Its files must be readable for {user}, and its state and logs writable: look at its unit."
    ));
    why.extend(preparation(unit, user).map(|first| format!("Before it: {first}")));
    why.push("If it does not start: remove the drop-in, systemctl daemon-reload, restart.".into());
    let quoted_user = quoted(user);
    let account = format!(
        "    getent passwd {quoted_user} >/dev/null ||\n        useradd --system --shell \
         /usr/sbin/nologin {quoted_user}\n"
    );
    Step {
        switch: variable("unprivileged", unit),
        is_on: false,
        title: format!("{unit} as {user}, not as root"),
        why,
        body: account + &write(unit, "50-unprivileged.conf", &drop_in(unit, user, needs_bind)),
        mends: Vec::new(),
    }
}

fn fewer(unit: &str, needs_bind: bool, why: Vec<String>) -> Step {
    let lines = drop_in("", "", needs_bind).into_iter().filter(|line| !line.starts_with("User="));
    Step {
        switch: variable("fewer_capabilities", unit),
        is_on: false,
        title: format!("{unit} with the capabilities that it needs"),
        why,
        body: write(unit, "50-fewer-capabilities.conf", &lines.collect::<Vec<_>>()),
        mends: Vec::new(),
    }
}

/// Writes a drop-in and, when that changed anything, starts the unit with it.
fn write(unit: &str, name: &str, lines: &[String]) -> String {
    let file = quoted(&format!("/etc/systemd/system/{unit}.d/{name}"));
    format!(
        "    if put {file} <<'END'\n{}\nEND\n    then\n        systemctl daemon-reload\n        \
         systemctl restart {}\n    fi\n",
        lines.join("\n"),
        quoted(unit),
    )
}
