//! All that is known of one port.

use super::here::Here;
use super::page::Page;
use crate::audit::registry::{
    Assignment, Entry, Exposure, Knowledge, Protocol, Range, State, Status, Traffic,
};

/// What stands before the text of each line.
const INDENT: &str = "           ";

/// The card of a port, on several lines.
pub(super) fn card(entry: &Entry<'_>, here: &Here, page: &Page) -> String {
    let mut out = String::new();
    for known in &entry.knowledge {
        let title = format!("{}/{}  {}", known.port, known.protocols, known.service);
        out += &format!("{}: {}\n", page.bold(&title), known.title);
        out += &of_knowledge(known, page);
        out.push('\n');
    }
    if entry.knowledge.is_empty() {
        out += &heading(entry, page);
    }
    for assignment in &entry.assignments {
        out += &line(page, "IANA", &of_assignment(assignment, entry.port));
    }
    if entry.assignments.is_empty() && entry.range() != Range::Dynamic {
        let text = format!("says nothing of {} on this port", entry.protocols);
        out += &line(page, "IANA", &text);
    }
    out += &line(page, "range", range(entry.range()));
    if entry.knowledge.is_empty() && entry.state() != State::Assigned {
        out += &line(page, "advice", nobody(entry));
    }
    out + &of_listeners(entry, here, page)
}

fn line(page: &Page, label: &str, text: &str) -> String {
    let label = format!("  {}", page.faint(&format!("{label:9}")));
    page.paragraph(&label, INDENT, text)
}

fn heading(entry: &Entry<'_>, page: &Page) -> String {
    let what = match (entry.range(), entry.state(), entry.service()) {
        (Range::Dynamic, ..) => "dynamic: nobody's for good",
        (_, _, Some(service)) => service,
        (_, State::Assigned, None) => "a use without a name",
        (_, State::Reserved, None) => "reserved: no service belongs here",
        (_, State::Unassigned, None) => "unassigned: no service belongs here",
    };
    format!("{}  {what}\n", page.bold(&format!("Port {}", entry.port)))
}

fn of_knowledge(known: &Knowledge, page: &Page) -> String {
    let mut out = String::new();
    let kind = match known.also.as_slice() {
        [] => known.category.to_string(),
        names => format!("{}; also called {}", known.category, names.join(", ")),
    };
    out += &line(page, "kind", &kind);
    out += &line(page, "traffic", &traffic(known.traffic, page));
    out += &match known.status {
        Status::Current => String::new(),
        Status::Legacy => {
            let text = page.doubtful("legacy: only where something old still needs it");
            line(page, "status", &text)
        }
        Status::Obsolete => line(page, "status", &page.bad("obsolete: turn it off")),
    };
    let list = |items: Vec<String>| items.join(", ");
    if !known.instead.is_empty() {
        let instead = known.instead.iter().map(ToString::to_string).collect();
        out += &line(page, "instead", &list(instead));
    }
    if !known.holders.is_empty() {
        let held = known.holders.iter().map(|holder| match &holder.package {
            Some(package) => format!("{} ({package})", holder.program),
            None => holder.program.clone(),
        });
        out += &line(page, "held by", &list(held.collect()));
    }
    out += &line(page, "open to", exposure(known.exposure));
    out += &line(page, "advice", &known.advice);
    out + &line(page, "sources", &known.sources.join("; "))
}

fn traffic(traffic: Traffic, page: &Page) -> String {
    match traffic {
        Traffic::Clear => page.bad("clear text: others on the way can read along"),
        Traffic::Starttls => {
            page.doubtful("clear text until STARTTLS: safe only if one side insists on it")
        }
        Traffic::Optional => page.doubtful("encrypted only if it is set up so"),
        Traffic::Encrypted => page.good("encrypted"),
    }
}

fn exposure(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::Public => "the internet, if the service is meant for it",
        Exposure::Internal => "known hosts and networks, not the internet",
        Exposure::Loopback => "this host; others only by address, and knowingly",
        Exposure::Nowhere => "nobody: nothing should listen here",
    }
}

fn of_assignment(assignment: &Assignment, port: u16) -> String {
    let mut text = match (assignment.service, assignment.description) {
        ("", description) => description.to_lowercase(),
        (service, "") => service.to_owned(),
        (service, description) => format!("{service}: {description}"),
    };
    text += &format!(" ({})", assignment.protocols);
    if assignment.ports != (port..=port) {
        text += &format!(" on {}-{}", assignment.ports.start(), assignment.ports.end());
    }
    for reference in assignment.references.split_whitespace() {
        let number = reference.strip_prefix("RFC").filter(|rest| !rest.contains('-'));
        text += &number.map_or_else(|| format!(" [{reference}]"), |rfc| format!(" [RFC {rfc}]"));
    }
    if !assignment.remark.is_empty() {
        text += &format!("; {}", assignment.remark);
    }
    text
}

fn range(range: Range) -> &'static str {
    match range {
        Range::WellKnown => {
            "well-known, 0-1023: to bind it, a program needs root or CAP_NET_BIND_SERVICE \
             (unless net.ipv4.ip_unprivileged_port_start is lower)"
        }
        Range::Registered => "registered, 1024-49151: any user may bind it",
        Range::Dynamic => {
            "dynamic, 49152-65535 (RFC 6335 §6): never assigned; for the near end of outgoing \
             connections and for what is agreed on the spot. Linux takes such ports from \
             net.ipv4.ip_local_port_range (by default 32768-60999)"
        }
    }
}

fn nobody(entry: &Entry<'_>) -> &'static str {
    match entry.range() {
        _ if entry.port == 0 => {
            "Nothing can listen on it: in a program's settings it asks for any free port."
        }
        Range::Dynamic => {
            "A lasting service here is a private choice: write it down, and expect \
             outgoing connections to take the port first at times."
        }
        _ => "If something listens here, find out what it is: the number belongs to no service.",
    }
}

fn of_listeners(entry: &Entry<'_>, here: &Here, page: &Page) -> String {
    let mut out = String::new();
    if entry.protocols.has(Protocol::Tcp) {
        let held = here.held(entry.port);
        if let Some(error) = here.error() {
            out += &line(page, "here", &error);
        } else if held.is_empty() {
            let text = format!("nobody listens on {}/tcp (in this network namespace)", entry.port);
            out += &line(page, "here", &text);
        }
        for one in &held {
            out += &line(page, "here", &page.bold(&format!("on {one}")));
        }
        let unseen = held.iter().any(|one| !one.is_known);
        let remedy = here.remedy(&entry.port.to_string()).filter(|_| unseen);
        out += &remedy.map(|remedy| line(page, "", &remedy)).unwrap_or_default();
    }
    if speaks_udp(entry) {
        let is_only = |protocol| {
            entry.protocols.has(protocol)
                && !entry.protocols.has(Protocol::Tcp)
                && !entry.protocols.has(Protocol::Udp)
        };
        let (name, flag) = match () {
            () if is_only(Protocol::Sctp) => ("SCTP", 'S'),
            () if is_only(Protocol::Dccp) => ("DCCP", 'd'),
            () => ("UDP", 'u'),
        };
        let text = format!("{name} is not looked at: ss -l{flag}np 'sport = :{}'", entry.port);
        out += &line(page, "here", &text);
    }
    out
}

/// Whether UDP matters on the port: IANA used to assign both protocols to everybody.
fn speaks_udp(entry: &Entry<'_>) -> bool {
    let known = entry.knowledge.iter().any(|known| known.protocols.has(Protocol::Udp));
    let only = || entry.assigned().all(|one| !one.protocols.has(Protocol::Tcp));
    known
        || !entry.protocols.has(Protocol::Tcp)
        || entry.knowledge.is_empty() && entry.state() == State::Assigned && only()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::here::tests::socket;
    use super::*;
    use crate::audit::registry::Registry;

    fn nobody_here() -> Here {
        Here::of(Ok(Vec::new()), false)
    }

    fn card_of(entry: &Entry<'_>) -> String {
        card(entry, &nobody_here(), &Page::plain(80))
    }

    #[test]
    fn telnet_is_told_whole() {
        let registry = Registry::read();
        let text = card_of(&registry.entry(23));
        for part in [
            "23/tcp  telnet: login in clear text\n",
            "  traffic  clear text: others",
            "  status   obsolete: turn it off\n",
            "  instead  22 (SSH)\n",
            "telnetd (inetutils-telnetd)",
            "  open to  nobody",
            "  advice   Turn it off now",
            "  IANA     telnet: Telnet (tcp,udp) [RFC 854]\n",
            "  range    well-known",
            "  here     nobody listens on 23/tcp",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains("UDP"), "{text}");
    }

    #[test]
    fn every_card_keeps_to_the_width_and_ends_its_lines() {
        let registry = Registry::read();
        for entry in registry.overview() {
            for width in [80, 100] {
                let text = card(&entry, &nobody_here(), &Page::plain(width));
                let long = text.lines().find(|line| line.chars().count() > width);
                assert_eq!(long, None, "{}", entry.port);
                assert!(text.ends_with('\n') && !text.contains(" \n"), "{text}");
            }
        }
    }

    #[test]
    fn what_nobody_has_is_said_plainly() {
        let registry = Registry::read();
        let told = |port| card_of(&registry.entry(port));
        assert!(told(4).starts_with("Port 4  unassigned: no service belongs here\n"));
        assert!(told(0).contains("Nothing can listen on it"));
        assert!(told(0).contains("reserved: no service") && told(0).contains("[RFC 6335]"));
        assert!(told(50123).contains("dynamic, 49152-65535") && !told(50123).contains("IANA "));
        assert!(told(24).contains("a use without a name\n"), "{}", told(24));
        assert!(told(275).contains("on 272-279"), "{}", told(275));
        let nothing = card_of(&registry.lookup(22, Protocol::Dccp));
        assert!(nothing.contains("says nothing of dccp on this port"), "{nothing}");
    }

    #[test]
    fn both_services_of_one_number_are_told() {
        let registry = Registry::read();
        let text = card_of(&registry.entry(514));
        assert!(text.contains("514/tcp  shell") && text.contains("514/udp  syslog"), "{text}");
        assert!(text.contains("ss -lunp 'sport = :514'"), "{text}");
        let udp = card_of(&registry.lookup(514, Protocol::Udp));
        assert!(!udp.contains("shell") && !udp.contains("nobody listens"), "{udp}");
    }

    #[test]
    fn the_holder_is_told_or_why_not() {
        let registry = Registry::read();
        let ssh = registry.entry(22);
        let told = |here: Here| card(&ssh, &here, &Page::plain(100));
        let both = ["0.0.0.0:22", "[::]:22"].map(|at| socket(at, true)).to_vec();
        let seen = told(Here::of(Ok(both), false));
        let line = "  here     on 0.0.0.0, [::] by sshd (pid 612, user root, ssh.service)\n";
        assert!(seen.contains(line), "{seen}");
        let unseen = told(Here::of(Ok(vec![socket("0.0.0.0:22", false)]), false));
        assert!(unseen.contains("To see who: sudo portcullis ports 22\n"), "{unseen}");
        let blind = told(Here::of(Err(io::ErrorKind::PermissionDenied.into()), false));
        assert!(blind.contains("cannot read /proc/net/tcp"), "{blind}");
    }
}
