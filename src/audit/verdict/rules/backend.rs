//! An application that can be reached beside the proxy that fronts it.

use super::reach;
use crate::audit::facts::Facts;
use crate::audit::inventory::{Inventory, Listener, Protocol};
use crate::audit::verdict::{Severity, Verdict, remedy};

pub(super) fn check(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    if listener.protocol != Protocol::Tcp || listener.namespace.is_some() {
        return None;
    }
    let fronted = facts.fronted.iter().find(|fronted| fronted.port == listener.port)?;
    let severity = reach::severity(listener, Severity::High)?;
    let (program, who) = (reach::program(listener), reach::who(listener));
    Some(Verdict {
        severity,
        reason: format!(
            "{program} is open to {who} beside {}, which fronts it (seen in {}): clients go round \
             TLS, limits and logs.",
            fronted.proxy, fronted.source,
        ),
        reference: "CWE-420 (unprotected alternate channel); RFC 7239 §8.1 (forged forwarded fields)",
        remedy: remedy::close(listener),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::facts::Fronted;
    use crate::audit::verdict::testing::{held, holder, host, local, nothing, tcp, udp};

    #[test]
    fn an_application_beside_its_proxy_is_found() {
        let fronted = Fronted {
            port: 8080,
            proxy: "nginx".to_owned(),
            source: "/etc/nginx/sites-enabled/app".to_owned(),
        };
        let facts = Facts { fronted: vec![fronted], ..nothing() };
        let judged = |listener: &Listener| check(listener, &host(vec![]), &facts);
        let verdict = judged(&held(tcp(8080), holder("node"))).unwrap();
        assert_eq!(verdict.severity, Severity::High);
        assert!(verdict.reason.contains("beside nginx"), "{verdict:?}");
        assert!(verdict.remedy.contains("dport 8080"), "{verdict:?}");
        assert_eq!(judged(&local(8080)), None);
        assert_eq!(judged(&tcp(8081)), None);
        assert_eq!(judged(&udp(8080)), None);
    }
}
