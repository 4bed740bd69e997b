//! A shell script that mends what an audit found, for its operator to read and run.
//!
//! Each step has a switch at the top; what may break something that is relied on is off. The way
//! in, sshd, is never touched.

mod units;
mod firewall;
mod drop_ins;
mod front;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::facts::Facts;
use super::inventory::{Inventory, Listener, Protocol};
use super::verdict::{Finding, Severity};

/// The script, for `sh`.
#[must_use]
pub fn script(inventory: &Inventory, facts: &Facts, findings: &[Finding]) -> String {
    let case = Case::new(inventory, facts, findings);
    let mut steps = units::steps(&case);
    steps.extend(firewall::steps(&case));
    let drop_ins = drop_ins::steps(&case, &steps);
    steps.extend(drop_ins);
    steps.extend(front::steps(&case));
    let mut names = BTreeSet::new();
    for step in &mut steps {
        while !names.insert(step.switch.clone()) {
            step.switch.push_str("_2");
        }
    }
    let mut out = head(&case);
    out.push_str("\n# What is to be done: yes does it, no leaves it.\n");
    for step in &steps {
        let word = if step.is_on { "yes" } else { "no" };
        let _ = writeln!(out, "{}={word}   # {}", step.switch, one_line(&step.title));
    }
    if steps.is_empty() {
        out.push_str("# Nothing: what was found needs your hands, see the end.\n");
    }
    out.push_str(SAVE);
    for step in &steps {
        step.write(&mut out);
    }
    by_hand(&mut out, findings, &steps);
    out.push_str("\necho \"done; what was changed is in $saved\"\n");
    out
}

/// What the parts look at.
struct Case<'a> {
    inventory: &'a Inventory,
    facts: &'a Facts,
    findings: &'a [Finding],
    listeners: BTreeMap<(u16, Protocol), &'a Listener>,
    /// Ports and units by which one comes in.
    ways_in: WaysIn,
}

/// What no step may touch.
struct WaysIn {
    ports: BTreeSet<u16>,
    units: BTreeSet<String>,
}

/// One thing that the script does.
struct Step {
    /// The name of its variable.
    switch: String,
    is_on: bool,
    /// What it does, in a few words.
    title: String,
    /// Why, a line each.
    why: Vec<String>,
    /// Commands.
    body: String,
    /// The findings that it mends.
    mends: Vec<(&'static str, u16, Protocol)>,
}

impl<'a> Case<'a> {
    fn new(inventory: &'a Inventory, facts: &'a Facts, findings: &'a [Finding]) -> Self {
        let own = inventory.listeners.iter().filter(|listener| listener.namespace.is_none());
        let listeners =
            own.map(|listener| ((listener.port, listener.protocol), listener)).collect();
        Self { inventory, facts, findings, listeners, ways_in: WaysIn::of(inventory) }
    }

    /// The findings of a rule in this network namespace, with their listeners.
    fn of_rule(&self, rule: &'static str) -> impl Iterator<Item = (&'a Finding, &'a Listener)> {
        let here = move |f: &&Finding| f.rule == rule && f.namespace.is_none();
        self.findings.iter().filter(here).filter_map(|finding| {
            self.listeners.get(&(finding.port, finding.protocol)).map(|found| (finding, *found))
        })
    }
}

impl WaysIn {
    fn of(inventory: &Inventory) -> Self {
        let mut ways = Self { ports: BTreeSet::from([22]), units: BTreeSet::new() };
        for listener in &inventory.listeners {
            let Some(holder) = &listener.holder else { continue };
            let unit = [&holder.unit, &holder.socket_unit];
            let is_ssh = |unit: &Option<String>| unit.as_deref().is_some_and(is_ssh_unit);
            let program = ["sshd", "dropbear", "tinysshd", "tailscaled"].contains(&&*holder.comm);
            if program || unit.into_iter().any(is_ssh) {
                ways.ports.insert(listener.port);
                ways.units.extend(unit.into_iter().flatten().cloned());
            }
        }
        ways
    }

    /// Whether a unit may be ended or changed: it is a service or socket that was seen here, and
    /// nothing of the system's own.
    fn spare(&self, unit: &str) -> bool {
        let is_kind = unit.ends_with(".service") || unit.ends_with(".socket");
        let is_core = ["systemd-", "dbus", "init", "user@", "portcullis", "network", "getty"];
        is_kind
            && !is_ssh_unit(unit)
            && !self.units.contains(unit)
            && !is_core.iter().any(|core| unit.starts_with(core))
    }
}

fn is_ssh_unit(unit: &str) -> bool {
    ["ssh.", "sshd", "ssh@", "dropbear", "tinyssh"].iter().any(|name| unit.starts_with(name))
}

impl Step {
    /// Whether it mends this, as it stands.
    fn settles(&self, finding: &Finding) -> bool {
        let key = (finding.rule, finding.port, finding.protocol);
        self.is_on && self.mends.contains(&key)
    }

    fn write(&self, out: &mut String) {
        let _ = write!(out, "\n# {}\n", one_line(&self.title));
        for line in &self.why {
            let _ = writeln!(out, "# {}", one_line(line));
        }
        let _ = write!(out, "if [ \"${}\" = yes ]; then\n{}fi\n", self.switch, self.body);
    }
}

/// A comment must not become a command.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A word for a variable of the shell.
fn variable(prefix: &str, text: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("{prefix}_{}", text.chars().map(word).collect::<String>())
}

fn head(case: &Case<'_>) -> String {
    let name = one_line(&case.inventory.host.name);
    let taken = crate::tls::facts::date(case.inventory.host.taken);
    let seen = if case.inventory.host.is_root {
        ""
    } else {
        "# An ordinary user made this, who does not see whose the sockets are: sudo portcullis audit \
         --plan\n"
    };
    format!(
        "#!/bin/sh\n\
         # What `portcullis audit` of {taken} would do about {name}. Nothing of it has been done.\n\
         #\n\
         # Read it, set the switches, and run it as root: sh plan.sh\n\
         # It can be run again: what is done is not done twice. What it changes it saves first.\n\
         # sshd is left alone: neither its unit nor its port is touched.\n\
         {seen}set -eu\n"
    )
}

const SAVE: &str = r#"
[ "$(id -u)" = 0 ] || { echo "run this as root" >&2; exit 77; }

# First, what is there now.
saved=/var/backups/portcullis-audit/$(date +%Y%m%d-%H%M%S)-$$
mkdir -p "$saved"
chmod 0700 "$saved"
systemctl list-unit-files --no-legend --state=enabled >"$saved/enabled-units" 2>/dev/null || true
nft list ruleset >"$saved/ruleset.nft" 2>/dev/null || true

# put FILE: standard input becomes the file; fails when it is that already.
put() {
    cat >"$saved/new"
    if cmp -s "$saved/new" "$1"; then
        rm "$saved/new"
        return 1
    fi
    if [ -e "$1" ]; then
        mkdir -p "$saved$(dirname "$1")"
        cp -a "$1" "$saved$1"
    fi
    mkdir -p "$(dirname "$1")"
    mv "$saved/new" "$1"
    chmod 0644 "$1"
    echo "wrote $1"
}
"#;

/// The remedies that no step has.
fn by_hand(out: &mut String, findings: &[Finding], steps: &[Step]) {
    let is_done = |finding: &&Finding| {
        let key = (finding.rule, finding.port, finding.protocol);
        finding.namespace.is_none() && steps.iter().any(|step| step.mends.contains(&key))
    };
    let rest: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.severity > Severity::Info && !is_done(finding))
        .collect();
    if rest.is_empty() {
        return;
    }
    out.push_str("\n# By hand, each after a look:\n");
    let mut told = BTreeSet::new();
    for finding in rest {
        // Said once of a program, whatever the number of its ports.
        if !told.insert((finding.rule, &finding.remedy)) {
            continue;
        }
        let (port, severity) = (finding.port, finding.severity);
        let _ = writeln!(out, "#\n# {severity}, port {port}: {}", one_line(&finding.reason));
        let _ = writeln!(out, "#   {}", one_line(&finding.remedy));
    }
}

#[cfg(test)]
mod tests;
