//! Databases and administrators' interfaces that strangers reach.

use super::reach;
use crate::audit::facts::{Facts, HereOnly};
use crate::audit::inventory::{Inventory, Listener};
use crate::audit::verdict::{Kind, Service, Severity, Verdict, remedy};

pub(super) fn check(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let service = Service::of(listener).filter(|service| service.kind == Kind::Inner)?;
    let own = listener.namespace.is_none();
    let open = facts.open.get(&listener.port).filter(|_| own);
    let here_only = facts.here_only.get(&listener.port).filter(|_| own);
    let other = other_program(service, listener);
    let public = match (open, &other) {
        _ if here_only == Some(&HereOnly::Yes) => Severity::Low,
        (Some(_), _) => Severity::Critical,
        (None, Some(_)) if service.shares(listener.port) => service.severity.lower(),
        (None, _) => service.severity,
    };
    let severity = reach::severity(listener, public)?;
    let (name, danger, who) = (service.name, service.danger, reach::who(listener));
    let remedy = match &other {
        Some(_) => remedy::close(listener),
        None => remedy::of_service(service.remedy, listener),
    };
    let reason = match (open, other) {
        _ if here_only == Some(&HereOnly::Yes) => format!(
            "{name} listens for {who}, and only its protected mode refuses them: it has no password."
        ),
        _ if here_only.is_some() => format!(
            "{name} is open to {who} and asks this host for no password; whether its protected mode \
             refuses others cannot be seen from here."
        ),
        (Some(what), _) => {
            format!("{name} is open to {who} and gives {what} without asking for a password.")
        }
        (None, Some(program)) => format!(
            "{program} listens for {who} where {name} usually does; if it is, who reaches it {danger}."
        ),
        (None, None) => format!("{name} is open to {who}: who reaches it {danger}."),
    };
    Some(Verdict { severity, reason, reference: service.reference, remedy })
}

/// What runs a service of many kinds, or listens for one.
const ANYTHING: &[&str] = &["systemd", "docker-proxy", "java", "beam.smp"];

/// The name of the holder, where it is known and none of the service's programs.
fn other_program(service: &Service, listener: &Listener) -> Option<String> {
    let holder = listener.holder.as_ref()?;
    let is_known = !service.programs.is_empty() || service.shares(listener.port);
    let is_other = is_known && !service.is_run_by(holder);
    (is_other && !ANYTHING.contains(&holder.comm.as_str())).then(|| holder.comm.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{held, holder, host, local, nothing, tcp, udp};

    fn judged(listener: &Listener, facts: &Facts) -> Option<Verdict> {
        check(listener, &host(vec![]), facts)
    }

    #[test]
    fn databases_on_all_interfaces_are_found_above_1023_too() {
        for port in [2375, 3306, 5432, 6379, 9200, 11211, 27017, 2379, 10250, 5601, 15672, 9090] {
            let severity = judged(&tcp(port), &nothing()).map(|verdict| verdict.severity);
            assert!(severity >= Some(Severity::High), "{port}: {severity:?}");
            assert_eq!(judged(&local(port), &nothing()), None, "{port}");
        }
        for port in [11211, 111] {
            assert!(judged(&udp(port), &nothing()).unwrap().severity >= Severity::High, "{port}");
        }
    }

    #[test]
    fn one_without_a_password_is_critical() {
        let mut facts = nothing();
        let redis = held(tcp(6379), holder("redis-server"));
        assert_eq!(judged(&redis, &facts).unwrap().severity, Severity::High);
        facts.open.insert(6379, "every command");
        let verdict = judged(&redis, &facts).unwrap();
        assert_eq!(verdict.severity, Severity::Critical);
        assert!(verdict.reason.contains("every command without asking"), "{verdict:?}");
        assert!(verdict.remedy.ends_with("systemctl restart redis-server.service"), "{verdict:?}");
    }

    #[test]
    fn one_in_protected_mode_is_not_said_to_let_anybody_guess() {
        let redis = held(tcp(6379), holder("redis-server"));
        let with = |is| Facts { here_only: [(6379, is)].into(), ..nothing() };
        let kept = judged(&redis, &with(HereOnly::Yes)).unwrap();
        assert_eq!(kept.severity, Severity::Low);
        assert!(kept.reason.contains("protected mode") && !kept.reason.contains("guess"));
        let unknown = judged(&redis, &with(HereOnly::Unknown)).unwrap();
        assert_eq!(unknown.severity, Severity::High);
        assert!(unknown.reason.contains("cannot be seen from here"), "{unknown:?}");
    }

    #[test]
    fn an_application_on_a_shared_port_is_less_urgent_and_named() {
        let node = judged(&held(tcp(9090), holder("node")), &nothing()).unwrap();
        assert_eq!(node.severity, Severity::Medium);
        assert!(node.reason.starts_with("node listens"), "{node:?}");
        let cassandra = judged(&held(tcp(7000), holder("java")), &nothing()).unwrap();
        assert_eq!(cassandra.severity, Severity::High);
        let python = judged(&held(tcp(7000), holder("python3")), &nothing()).unwrap();
        assert_eq!(python.severity, Severity::Medium);
        let own = judged(&held(tcp(6379), holder("node")), &nothing()).unwrap();
        assert_eq!(own.severity, Severity::High);
    }

    #[test]
    fn a_database_on_another_port_is_known_by_its_program() {
        assert!(judged(&held(tcp(7777), holder("redis-server")), &nothing()).is_some());
        assert_eq!(judged(&held(tcp(7777), holder("node")), &nothing()), None);
    }
}
