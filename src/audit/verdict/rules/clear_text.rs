//! Services that speak in clear text, and what replaced them.

use super::reach;
use crate::audit::facts::Facts;
use crate::audit::inventory::{Inventory, Listener};
use crate::audit::verdict::{Kind, Service, Severity, Verdict, remedy};

pub(super) fn check(listener: &Listener, _: &Inventory, _: &Facts) -> Option<Verdict> {
    let service = Service::of(listener).filter(|service| service.kind != Kind::Inner)?;
    let is_legacy = service.kind == Kind::Legacy;
    let severity = reach::severity(listener, service.severity)
        // Nobody needs what was given up, not even here.
        .or(is_legacy.then_some(Severity::Low))?;
    let (name, danger, who) = (service.name, service.danger, reach::who(listener));
    let reason = if listener.exposure == crate::audit::inventory::Exposure::Loopback {
        format!("{name} was given up for something better, though only this host reaches it.")
    } else {
        format!("{name} is open to {who}: who reaches it {danger}.")
    };
    let mended = if is_legacy || service.remedy.is_empty() {
        remedy::stop(listener)
    } else {
        remedy::of_service(service.remedy, listener)
    };
    Some(Verdict { severity, reason, reference: service.reference, remedy: mended })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::inventory::Exposure;
    use crate::audit::verdict::testing::{held, host, local, nothing, root, tcp, udp};

    fn severity(listener: &Listener) -> Option<Severity> {
        check(listener, &host(vec![]), &nothing()).map(|verdict| verdict.severity)
    }

    #[test]
    fn telnet_is_found_wherever_it_is_reached() {
        assert_eq!(severity(&tcp(23)), Some(Severity::High));
        let private = Listener { exposure: Exposure::Private, ..tcp(23) };
        assert_eq!(severity(&private), Some(Severity::Medium));
        assert_eq!(severity(&local(23)), Some(Severity::Low));
        let verdict = check(&held(tcp(23), root("telnetd")), &host(vec![]), &nothing()).unwrap();
        assert!(verdict.reason.starts_with("Telnet is open to every network"), "{verdict:?}");
        assert_eq!(verdict.remedy, "systemctl disable --now telnetd.service");
    }

    #[test]
    fn every_old_service_is_known() {
        for port in [21, 23, 512, 513, 514, 79, 19] {
            assert!(severity(&tcp(port)) >= Some(Severity::Medium), "{port}");
        }
        for port in [69, 19, 161, 389] {
            assert!(severity(&udp(port)) >= Some(Severity::High), "{port}");
        }
    }

    #[test]
    fn clear_text_within_the_host_and_new_services_are_fine() {
        assert_eq!(severity(&local(389)), None);
        assert_eq!(severity(&tcp(22)), None);
        assert_eq!(severity(&tcp(6379)), None);
    }
}
