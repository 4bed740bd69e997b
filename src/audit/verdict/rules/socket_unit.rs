//! Sockets that systemd holds for services that nobody needs.

use super::reach;
use crate::audit::facts::Facts;
use crate::audit::inventory::{Inventory, Listener};
use crate::audit::verdict::{Severity, Verdict, quoted};

/// Units that come with packages and that servers seldom need, with the services to end too.
const SELDOM: &[(&str, &str, &str)] = &[
    ("cups.socket", "cups.service cups.path", "printing, and no printer is set up"),
    ("rpcbind.socket", "rpcbind.service", "NFS, and nothing is mounted or exported"),
    ("avahi-daemon.socket", "avahi-daemon.service", "finding printers and music on a home network"),
    ("saned.socket", "", "scanners of other hosts"),
    ("telnet.socket", "", "Telnet"),
    ("tftp.socket", "", "starting hosts over the network"),
    ("rsync.socket", "", "rsync without SSH, and no module is set up"),
    ("git-daemon.socket", "", "reading repositories in clear text"),
    ("systemd-journal-gatewayd.socket", "", "reading the journal over HTTP"),
    ("systemd-journal-remote.socket", "", "taking the journals of other hosts"),
];

pub(super) fn check(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let holder = listener.holder.as_ref()?;
    let unit = holder.socket_unit.as_deref()?;
    if facts.needed_sockets.contains(unit) {
        return None;
    }
    let waits = holder.pid == 1 && holder.others.is_empty();
    let (severity, purpose, services) = match SELDOM.iter().find(|(name, ..)| *name == unit) {
        Some((_, services, purpose)) => {
            let severity = reach::severity(listener, Severity::Medium).unwrap_or(Severity::Low);
            (severity, format!("it is for {purpose}"), *services)
        }
        None if waits && !is_wanted(unit) => {
            let why = "no service has been started by it";
            (reach::severity(listener, Severity::Low)?, why.to_owned(), "")
        }
        None => return None,
    };
    let services = if services.is_empty() { String::new() } else { format!(" {services}") };
    Some(Verdict {
        severity,
        reason: format!("systemd holds it for {unit}, which nobody here seems to need: {purpose}."),
        reference: "systemd.socket(5); CIS Debian Linux Benchmark, section 2 (services)",
        remedy: format!("systemctl disable --now {}{services}", quoted(unit)),
    })
}

/// The ways in, and what somebody chose by hand: they wait because nobody came yet.
fn is_wanted(unit: &str) -> bool {
    ["ssh", "portcullis", "cockpit", "docker"].iter().any(|name| unit.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{held, host, local, nothing, root, tcp};

    fn waiting(unit: &str) -> crate::audit::inventory::Holder {
        let mut systemd = root("systemd");
        (systemd.pid, systemd.unit) = (1, None);
        systemd.socket_unit = Some(unit.to_owned());
        systemd
    }

    #[test]
    fn sockets_without_a_use_are_found() {
        let mut facts = nothing();
        let judged = |listener: &Listener, facts: &Facts| check(listener, &host(vec![]), facts);
        let rpc = held(tcp(111), waiting("rpcbind.socket"));
        let verdict = judged(&rpc, &facts).unwrap();
        assert_eq!(verdict.severity, Severity::Medium);
        assert_eq!(verdict.remedy, "systemctl disable --now rpcbind.socket rpcbind.service");
        facts.needed_sockets.insert("rpcbind.socket".to_owned());
        assert_eq!(judged(&rpc, &facts), None);
        let cups = held(local(631), waiting("cups.socket"));
        assert_eq!(judged(&cups, &facts).unwrap().severity, Severity::Low);
        let own = held(tcp(7000), waiting("app.socket"));
        assert_eq!(judged(&own, &facts).unwrap().severity, Severity::Low);
    }

    #[test]
    fn the_way_in_is_never_taken_away() {
        for unit in ["ssh.socket", "sshd.socket", "portcullis-http.socket"] {
            let listener = held(tcp(22), waiting(unit));
            assert_eq!(check(&listener, &host(vec![]), &nothing()), None, "{unit}");
        }
    }
}
