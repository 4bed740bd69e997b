//! Which certificates a configuration needs, and where each is to come from.

mod local;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::acme::names::{MOST as MOST_NAMES, asked_for};
use super::acme::stored::{self, Damage, Stored};
use super::acme::vault::Files;
use super::certificates::{CertificateInfo, Reason, Source};
use super::facts::Facts;
use super::files::{self, Handed, Pair};
use super::local_ca::names_for;
use crate::config::{Config, Site, TlsSource};
use crate::proxy::headers::host::HostPattern;
pub(super) use local::Local;
pub use local::local_authority;
pub(super) use survey::Survey;
pub use survey::{survey, survey_on_demand};

/// A certificate that the configuration needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) site: String,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) from: From,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum From {
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    LocalAuthority,
    /// What an authority has issued, and until it has a certificate of this host.
    Acme,
}

/// A certificate that was had for some of the hosts.
pub(super) struct Obtained {
    pub(super) certified: Arc<CertifiedKey>,
    /// Whom it is shown to.
    pub(super) hosts: Vec<HostPattern>,
    pub(super) source: Source,
    /// Where it came from files, what is needed to load it again.
    pub(super) pair: Option<Pair>,
    /// Why it is only a makeshift, where it is one.
    pub(super) lacks: Option<Reason>,
}

impl Want {
    /// Everything that the hosts are shown: one certificate, or two where what an authority has
    /// issued is not for all of them.
    pub(super) fn obtain(
        &self,
        config: &Config,
        local: &mut Local,
        (before, handed): (&[Pair], &[Handed]),
        now: SystemTime,
    ) -> Result<Vec<Obtained>, Reason> {
        let of = |certified, source, hosts: &[HostPattern]| Obtained {
            certified,
            hosts: hosts.to_vec(),
            source,
            pair: None,
            lacks: None,
        };
        match &self.from {
            From::Files { cert, key } => {
                let before = before.iter().find(|pair| pair.is_of(cert, key));
                let pair = files::load_again(cert, key, before, handed).map_err(Reason::Files)?;
                if let Some(before) = before {
                    self.is_no_worse(&pair, before, cert, now)?;
                }
                let of = of(pair.certified.clone(), Source::File(cert.clone()), &self.hosts);
                Ok(vec![Obtained { pair: Some(pair), ..of }])
            }
            From::LocalAuthority => {
                let names = names_for(&self.hosts);
                let certified = local.open(config, now).and_then(|local| {
                    let certified = local.certificate(&names, now);
                    certified.map_err(|error| Reason::Local(Arc::new(error)))
                });
                let (certified, source, lacks) = match certified {
                    Ok(certified) => (certified, Source::LocalAuthority, None),
                    Err(reason) => local.make_do(&names, now, reason)?,
                };
                let of = of(certified, source, &self.hosts);
                Ok(vec![Obtained { lacks, ..of }])
            }
            From::Acme => {
                let stored = self.stored(config).unwrap_or_else(|damage| {
                    // Its keeper sets it aside and gets another.
                    tracing::error!("site {}: {damage}", self.site);
                    None
                });
                let covered = |host: &&HostPattern| {
                    stored.as_ref().is_some_and(|stored| stored.covers_name(&host.to_string()))
                };
                let (issued, waiting): (Vec<_>, Vec<_>) =
                    self.hosts.iter().partition(|host| covered(host));
                let [issued, waiting] = [issued, waiting]
                    .map(|hosts| hosts.into_iter().cloned().collect::<Vec<HostPattern>>());
                let mut all = Vec::new();
                if let Some(stored) = stored.filter(|_| !issued.is_empty()) {
                    all.push(of(stored.certified, Source::Acme, &issued));
                }
                if !waiting.is_empty() {
                    let names = names_for(&waiting);
                    let certified = local.open(config, now).and_then(|local| {
                        let certified = local.stand_in(&names, now);
                        certified.map_err(|error| Reason::Local(Arc::new(error)))
                    });
                    let (certified, source, lacks) = match certified {
                        Ok(certified) => (certified, Source::StandIn, None),
                        Err(reason) => local.make_do(&names, now, reason)?,
                    };
                    let of = of(certified, source, &waiting);
                    all.push(Obtained { lacks, ..of });
                }
                Ok(all)
            }
        }
    }

    /// Whether a new pair is one that clients accept wherever they accept the one before: somebody
    /// may have put an old file back, or a wrong one, while a good one is being served.
    fn is_no_worse(
        &self,
        new: &Pair,
        before: &Pair,
        cert: &Path,
        now: SystemTime,
    ) -> Result<(), Reason> {
        let facts = |pair: &Pair| pair.certified.cert.first().and_then(|c| Facts::of(c).ok());
        let (Some(new), Some(before)) = (facts(new), facts(before)) else { return Ok(()) };
        if new == before || before.not_after < now {
            return Ok(());
        }
        let cert = cert.to_owned();
        if new.not_after < now {
            return Err(Reason::Expired { cert, on: new.not_after });
        }
        if now < new.not_before && before.not_before <= now {
            return Err(Reason::Early { cert, on: new.not_before });
        }
        let is_lost = |host: &&HostPattern| before.covers(host) && !new.covers(host);
        let lost: Vec<_> = self.hosts.iter().filter(is_lost).map(ToString::to_string).collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(Reason::Uncovered { cert, names: lost.join(", ") })
    }

    /// What an authority has issued for these hosts.
    fn stored(&self, config: &Config) -> Result<Option<Stored>, Damage> {
        let names: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        stored::read(&Files::at(&config.acme.storage), &names)
    }

    /// The authority of this host knows what it signed; other people's files are judged.
    pub(super) fn judge(&self, certified: &CertifiedKey, now: SystemTime) -> Vec<String> {
        match self.from {
            From::Files { .. } => {
                let mut found = files::judge(certified, now, &self.hosts);
                found.extend(files::chain::judge(&certified.cert));
                found
            }
            From::Acme => files::judge(certified, now, &self.hosts),
            From::LocalAuthority => Vec::new(),
        }
    }

    pub(super) fn describe(
        &self,
        certified: &CertifiedKey,
        source: Source,
    ) -> Option<CertificateInfo> {
        let facts = Facts::of(certified.cert.first()?).ok()?;
        Some(CertificateInfo {
            site: self.site.clone(),
            names: facts.names,
            issuer: facts.issuer,
            not_before: facts.not_before,
            not_after: facts.not_after,
            source,
        })
    }

    fn source(&self) -> Source {
        match &self.from {
            From::Files { cert, .. } => Source::File(cert.clone()),
            From::LocalAuthority => Source::LocalAuthority,
            From::Acme => Source::Acme,
        }
    }
}

fn told(words: String, is_permission: bool) -> Reason {
    Reason::Told { words, is_permission }
}

pub(super) fn wanted(config: &Config) -> Vec<Want> {
    if config.server.https.is_empty() {
        return Vec::new();
    }
    config.sites.iter().flat_map(|site| wanted_by(site, config)).collect()
}

/// One certificate for a site; for names of which only some can be had from an authority, or for
/// very many, several.
pub(super) fn wanted_by(site: &Site, config: &Config) -> Vec<Want> {
    let want = |hosts, from| Want { site: site.name(), hosts, from };
    match &site.tls {
        TlsSource::Files { cert, key } => {
            let from = From::Files { cert: cert.clone(), key: key.clone() };
            vec![want(site.hosts.clone(), from)]
        }
        TlsSource::Local => vec![want(site.hosts.clone(), From::LocalAuthority)],
        // What clients ask for is shown from elsewhere.
        TlsSource::OnDemand(_) => Vec::new(),
        TlsSource::Auto => {
            let asked = asked_for(site, config);
            let mut wants: Vec<_> =
                asked.chunks(MOST_NAMES).map(|hosts| want(hosts.to_vec(), From::Acme)).collect();
            let others = site.hosts.iter().filter(|host| !asked.contains(host));
            let others: Vec<_> = others.cloned().collect();
            if !others.is_empty() {
                wants.push(want(others, From::LocalAuthority));
            }
            wants
        }
    }
}

/// Whether a public authority could vouch for the name: not for addresses, for the names of this
/// host (RFC 6761 §6.3) and of private networks (`.internal`), and not for "any".
pub(crate) fn is_public(host: &HostPattern) -> bool {
    let name = match host {
        HostPattern::Any => return false,
        HostPattern::Exact(host) if host.is_ip() => return false,
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name.as_str(),
    };
    let top = name.rsplit('.').next().unwrap_or(name);
    !matches!(top, "localhost" | "internal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{config, hosts, site};

    #[test]
    fn names_of_this_host_and_of_private_networks_are_not_public() {
        for (name, public) in [
            ("example.com", true),
            ("*.example.com", true),
            ("localhost.example.com", true),
            ("localhost", false),
            ("app.localhost", false),
            ("*.localhost", false),
            ("internal", false),
            ("db.internal", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
            ("*", false),
        ] {
            assert_eq!(is_public(&hosts(&[name])[0]), public, "{name}");
        }
    }

    #[test]
    fn a_site_with_public_and_private_names_wants_two_certificates() {
        let asked = |hosts: &[&str], tls| {
            let site = site(hosts, tls);
            let config = config(std::path::Path::new("/s"), vec![site.clone()]);
            let wants = wanted_by(&site, &config).into_iter();
            wants.map(|want| (want.hosts, matches!(want.from, From::Acme))).collect::<Vec<_>>()
        };
        assert_eq!(
            asked(&["a.de", "a.localhost", "b.de", "*.b.de"], TlsSource::Auto),
            [(hosts(&["a.de", "b.de"]), true), (hosts(&["a.localhost", "*.b.de"]), false)]
        );
        assert_eq!(asked(&["a.de", "localhost"], TlsSource::Local).len(), 1);
    }
}
