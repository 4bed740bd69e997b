//! Under which rules names are got: made anew with each configuration.

use std::sync::Arc;

use rustls::ClientConfig;

use super::plausible::is_plausible;
use crate::config::{Ask, Config, KeyType, TlsSource};
use crate::proxy::route::SiteTable;
use crate::tls::acme::Roots;
use crate::tls::acme::keeper::{Keeper, Shared};
use crate::tls::acme::names::{Wanted, only_lets_encrypt};

/// The rules of a configuration.
pub(in crate::tls::acme) struct Terms {
    shared: Arc<Shared>,
    /// What is configured for a name; `None` where its certificate comes from elsewhere.
    sites: SiteTable<Option<Arc<Rule>>>,
    /// Verifies who is asked over TLS.
    tls: Option<Arc<ClientConfig>>,
    only_public: bool,
}

/// The rule of a site.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The site's name.
    pub(super) site: String,
    /// Who decides.
    pub(super) ask: Ask,
    key_type: KeyType,
}

impl Terms {
    /// Those of `config`; `None` where it has no site on demand.
    pub(in crate::tls::acme) fn of(
        config: &Config,
        shared: Arc<Shared>,
        roots: &Roots,
    ) -> Option<Self> {
        if !wants(config) {
            return None;
        }
        let patterns = config.sites.iter().flat_map(|site| {
            let rule = match &site.tls {
                TlsSource::OnDemand(ask) => Some(Arc::new(Rule {
                    site: site.name(),
                    ask: ask.clone(),
                    key_type: site.key_type,
                })),
                _ => None,
            };
            site.hosts.iter().map(move |host| (host.clone(), rule.clone()))
        });
        Some(Self {
            shared,
            sites: SiteTable::new(patterns),
            tls: roots.of(None).ok(),
            only_public: only_lets_encrypt(config),
        })
    }

    /// What is configured for `name`, which is in lower case; `None` where it has no certificate
    /// on demand, or nobody could have one.
    pub(super) fn rule(&self, name: &str) -> Option<&Arc<Rule>> {
        let rule = self.sites.lookup(name)?.as_ref()?;
        is_plausible(name, self.only_public).then_some(rule)
    }

    /// How many certificates may be begun in a minute.
    pub(super) fn a_minute(&self) -> u32 {
        self.shared.acme.on_demand_rate
    }

    /// What keepers share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Who verifies whom is asked.
    pub(super) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// Who gets and keeps the certificate for `name`.
    pub(super) fn keeper(&self, rule: &Rule, name: &str) -> Keeper {
        let wanted = Wanted {
            site: rule.site.clone(),
            names: vec![name.to_owned()],
            key_type: rule.key_type,
        };
        Keeper::for_a_time(&self.shared, wanted)
    }
}

/// Whether `config` has a site whose certificates are got on demand.
pub(super) fn wants(config: &Config) -> bool {
    let is_so = |tls: &TlsSource| matches!(tls, TlsSource::OnDemand(_));
    !config.server.https.is_empty() && config.sites.iter().any(|site| is_so(&site.tls))
}
