//! A table of nftables that closes what strangers need not reach.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Case, Step, one_line};
use crate::audit::inventory::{Exposure, Protocol};
use crate::audit::verdict::Severity;

const FILE: &str = "/etc/nftables.d/portcullis-audit.nft";

/// Rules whose findings a closed port mends.
const RULES: &[&str] = &["exposed-service", "clear-text", "round-the-proxy"];

struct Port {
    severity: Severity,
    reason: String,
    rules: Vec<&'static str>,
}

/// Two steps: to close, and to keep it closed after the next start.
pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    let ports = ports(case);
    if ports.is_empty() {
        return Vec::new();
    }
    let mut why = vec![
        "From this host itself and within connections that are open everything stays as it is."
            .to_owned(),
        "It works before addresses are translated, so that it holds for published ports too."
            .to_owned(),
    ];
    why.extend(ports.iter().map(|((protocol, port), closed)| {
        format!("{port}/{}, {}: {}", word(*protocol), closed.severity, closed.reason)
    }));
    let mends = |((protocol, port), closed): (&(Protocol, u16), &Port)| {
        let key = (*port, *protocol);
        closed.rules.iter().map(move |rule| (*rule, key.0, key.1)).collect::<Vec<_>>()
    };
    let urgent = ports.iter().filter(|(_, port)| port.severity >= Severity::High);
    let close = Step {
        switch: "close_ports".to_owned(),
        is_on: true,
        title: "close to other hosts what was found open".to_owned(),
        why,
        body: format!(
            "    put {FILE} <<'END' || true\n{}END\n    if command -v nft >/dev/null; then\n\
             \x20       nft -f {FILE}\n    else\n\
             \x20       echo \"nft is missing: apt-get install nftables, and run this again\" >&2\n\
             \x20   fi\n",
            table(case, &ports)
        ),
        mends: urgent.flat_map(mends).collect(),
    };
    let keep = Step {
        switch: "close_ports_after_a_restart_too".to_owned(),
        is_on: false,
        title: format!("load {FILE} at each start of the host"),
        why: vec![
            "By nftables.service, whose /etc/nftables.conf begins with an empty ruleset: not \
             beside ufw, firewalld or Docker without a look."
                .to_owned(),
        ],
        body: format!(
            "    line='include \"{FILE}\"'\n\
             \x20   if ! grep -qsxF \"$line\" /etc/nftables.conf; then\n\
             \x20       {{ cat /etc/nftables.conf 2>/dev/null; echo \"$line\"; }} | put /etc/nftables.conf\n\
             \x20   fi\n    systemctl enable nftables.service\n"
        ),
        mends: Vec::new(),
    };
    vec![close, keep]
}

/// What is closed: never the way in, never the web.
fn ports(case: &Case<'_>) -> BTreeMap<(Protocol, u16), Port> {
    let mut ports: BTreeMap<(Protocol, u16), Port> = BTreeMap::new();
    for rule in RULES {
        for (finding, listener) in case.of_rule(rule) {
            let is_kept = case.ways_in.ports.contains(&finding.port)
                || [80, 443].contains(&finding.port)
                || listener.exposure == Exposure::Loopback;
            if is_kept {
                continue;
            }
            let port = ports.entry((finding.protocol, finding.port)).or_insert_with(|| Port {
                severity: finding.severity,
                reason: one_line(&finding.reason),
                rules: Vec::new(),
            });
            port.severity = port.severity.max(finding.severity);
            port.rules.push(finding.rule);
        }
    }
    ports
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn table(case: &Case<'_>, ports: &BTreeMap<(Protocol, u16), Port>) -> String {
    let mut out = format!(
        "table inet portcullis_audit\ndelete table inet portcullis_audit\n\
         table inet portcullis_audit {{\n    chain outside {{\n\
         \x20       type filter hook prerouting priority -150; policy accept;\n\
         \x20       iifname \"lo\" accept\n\
         \x20       ct state established,related accept\n\
         \x20       tcp dport {{ {} }} accept\n\
         \x20       # Containers of this host that need one of these:\n\
         \x20       # iifname \"docker0\" accept\n",
        list(case.ways_in.ports.iter().copied()),
    );
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let of = |is_urgent: bool| {
            let these = ports.iter().filter(move |((own, _), port)| {
                *own == protocol && (port.severity >= Severity::High) == is_urgent
            });
            list(these.map(|((_, port), _)| *port))
        };
        let (now, later) = (of(true), of(false));
        let word = word(protocol);
        if !now.is_empty() {
            let _ = writeln!(out, "        {word} dport {{ {now} }} drop");
        }
        if !later.is_empty() {
            out.push_str("        # Less urgent, and perhaps in use:\n");
            let _ = writeln!(out, "        # {word} dport {{ {later} }} drop");
        }
    }
    out + "    }\n}\n"
}

fn list(ports: impl Iterator<Item = u16>) -> String {
    ports.map(|port| port.to_string()).collect::<Vec<_>>().join(", ")
}
