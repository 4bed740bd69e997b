//! Which ways to prove a name can work, in the order in which they are tried.

use instant_acme::ChallengeType;

use crate::config::{ChallengeKind, Config};
use crate::proxy::headers::host::HostPattern;

/// A way to prove names that is possible here. A record in the DNS would be a third.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// By a token on a plain listener.
    Http,
    /// By a certificate on a TLS listener.
    TlsAlpn,
}

impl Solver {
    /// What it is called in the configuration.
    #[must_use]
    pub fn kind(self) -> ChallengeKind {
        match self {
            Solver::Http => ChallengeKind::Http01,
            Solver::TlsAlpn => ChallengeKind::TlsAlpn01,
        }
    }

    /// What it is called in the protocol.
    #[must_use]
    pub fn protocol(self) -> ChallengeType {
        match self {
            Solver::Http => ChallengeType::Http01,
            Solver::TlsAlpn => ChallengeType::TlsAlpn01,
        }
    }

    /// Whether it can prove this name: a wildcard takes the DNS (RFC 8555 §7.1.3).
    #[must_use]
    pub fn can_prove(self, host: &HostPattern) -> bool {
        matches!(host, HostPattern::Exact(_))
    }
}

/// What may be tried under `config`, in this order: what its keys name and its listeners let.
#[must_use]
pub fn solvers(config: &Config) -> Vec<Solver> {
    let possible = |kind: ChallengeKind| match kind {
        ChallengeKind::Http01 => (!config.server.http.is_empty()).then_some(Solver::Http),
        ChallengeKind::TlsAlpn01 => (!config.server.https.is_empty()).then_some(Solver::TlsAlpn),
        ChallengeKind::Dns01 => None,
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
    solvers(config).into_iter().any(|solver| solver.can_prove(host))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Listen;
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
    }
}
