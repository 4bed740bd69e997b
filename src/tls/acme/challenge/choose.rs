//! Which ways to prove a name can work, in the order in which they are tried.

use instant_acme::ChallengeType;

use crate::config::{Acme, ChallengeKind, Config};
use crate::proxy::headers::host::HostPattern;

/// A way to prove names that is possible here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// By a token on a plain listener.
    Http,
    /// By a certificate on a TLS listener.
    TlsAlpn,
    /// By a record in the DNS.
    Dns,
}

impl Solver {
    /// What it is called in the configuration.
    #[must_use]
    pub fn kind(self) -> ChallengeKind {
        match self {
            Solver::Http => ChallengeKind::Http01,
            Solver::TlsAlpn => ChallengeKind::TlsAlpn01,
            Solver::Dns => ChallengeKind::Dns01,
        }
    }

    /// What it is called in the protocol.
    #[must_use]
    pub fn protocol(self) -> ChallengeType {
        match self {
            Solver::Http => ChallengeType::Http01,
            Solver::TlsAlpn => ChallengeType::TlsAlpn01,
            Solver::Dns => ChallengeType::Dns01,
        }
    }

    /// Whether it can prove this name, as it stands in an order: a wildcard takes the DNS (RFC 8555
    /// §7.1.3), and the DNS a name in a zone that may be written to.
    #[must_use]
    pub fn can_prove(self, name: &str, acme: &Acme) -> bool {
        let parent = name.strip_prefix("*.");
        match self {
            Solver::Http | Solver::TlsAlpn => parent.is_none(),
            Solver::Dns => acme.dns.as_ref().is_some_and(|dns| {
                let zone = dns.zone.as_deref();
                zone.is_none_or(|zone| is_within(parent.unwrap_or(name), zone))
            }),
        }
    }
}

fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// What may be tried under `config`, in this order: what its keys name and its listeners let.
#[must_use]
pub fn solvers(config: &Config) -> Vec<Solver> {
    let possible = |kind: ChallengeKind| match kind {
        ChallengeKind::Http01 => (!config.server.http.is_empty()).then_some(Solver::Http),
        ChallengeKind::TlsAlpn01 => (!config.server.https.is_empty()).then_some(Solver::TlsAlpn),
        ChallengeKind::Dns01 => config.acme.dns.is_some().then_some(Solver::Dns),
    };
    let wanted = match &*config.acme.challenges {
        [] => &[ChallengeKind::Http01, ChallengeKind::TlsAlpn01, ChallengeKind::Dns01][..],
        wanted => wanted,
    };
    wanted.iter().filter_map(|kind| possible(*kind)).collect()
}

/// Whether any of them can prove this name.
#[must_use]
pub fn can_prove(host: &HostPattern, config: &Config) -> bool {
    let (HostPattern::Exact(_) | HostPattern::Wildcard(_)) = host else { return false };
    let name = host.to_string();
    solvers(config).into_iter().any(|solver| solver.can_prove(&name, &config.acme))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::{Dns, Hook, Listen, Writer};
    use crate::tls::testing::{config, hosts};

    #[test]
    fn what_can_work_is_tried_in_the_order_of_the_file() {
        let mut config = config(Path::new("/s"), Vec::new());
        assert_eq!(solvers(&config), [Solver::TlsAlpn], "there is no plain listener");
        config.server.http = vec![Listen::Any(80)];
        assert_eq!(solvers(&config), [Solver::Http, Solver::TlsAlpn]);
        config.acme.challenges = vec![ChallengeKind::TlsAlpn01, ChallengeKind::Http01];
        assert_eq!(solvers(&config), [Solver::TlsAlpn, Solver::Http]);
        config.acme.challenges = vec![ChallengeKind::Dns01];
        assert_eq!(solvers(&config), []);
    }

    #[test]
    fn a_wildcard_takes_the_dns() {
        let config = config(Path::new("/s"), Vec::new());
        assert!(can_prove(&hosts(&["a.test"])[0], &config));
        assert!(!can_prove(&hosts(&["*.a.test"])[0], &config));
        let provable = |zone: Option<&str>, name: &str| {
            let mut config = config.clone();
            config.acme.dns = Some(Dns {
                writer: Writer::Hook(Hook { program: "/h".into(), arguments: Vec::new() }),
                zone: zone.map(str::to_owned),
                resolvers: Vec::new(),
                propagation: Duration::from_secs(1),
            });
            can_prove(&hosts(&[name])[0], &config)
        };
        assert!(provable(None, "*.a.test") && provable(Some("a.test"), "*.a.test"));
        assert!(provable(Some("a.test"), "*.b.a.test"));
        assert!(!provable(Some("a.test"), "*.ba.test") && !provable(Some("b.test"), "*.a.test"));
        assert!(!provable(None, "*"));
    }
}
