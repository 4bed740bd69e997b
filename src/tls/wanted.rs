//! Which certificates a configuration needs, and where each is to come from.

mod local;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::acme::demand;
use super::acme::names::{MOST as MOST_NAMES, Wanted, asked_for};
use super::acme::stored::{self, Damage, Stored};
use super::acme::vault::{Files, Vault as _};
use super::certificates::{CertificateError, CertificateInfo, Reason, Source};
use super::facts::Facts;
use super::files::{self, Handed, Pair};
use super::found::Found;
use super::local_ca::{LocalAuthority, names_for};
use super::ocsp;
use crate::config::{Config, Site, TlsSource};
use crate::proxy::headers::host::HostPattern;
pub(super) use local::Local;
pub use local::local_authority;

/// Looks at every certificate that the configuration needs, writing nothing: for `check` and
/// `certs list`.
#[must_use]
pub fn survey(config: &Config, now: SystemTime) -> Vec<Found> {
    let wanted = wanted(config).into_iter().map(|want| want.look(config, now));
    wanted.chain(survey_on_demand(config, now)).collect()
}

/// The sites on demand themselves, and what was got for them.
#[must_use]
pub fn survey_on_demand(config: &Config, now: SystemTime) -> Vec<Found> {
    let closed = || {
        let error = Files::at(&config.acme.storage).list().err()?;
        error.is_permission().then(|| told(error.to_string(), true))
    };
    let is_so = |site: &&Site| matches!(site.tls, TlsSource::OnDemand(_));
    let sites = config.sites.iter().filter(|_| !config.server.https.is_empty()).filter(is_so);
    let site = |site: &Site| Found {
        site: site.name(),
        hosts: site.hosts.iter().map(ToString::to_string).collect(),
        source: Source::OnDemand,
        certificate: closed()
            .map_or(Ok(None), |reason| Err(CertificateError { site: site.name(), reason })),
        chain: Vec::new(),
        places: None,
        warnings: Vec::new(),
    };
    let one = |wanted: Wanted| {
        let hosts = wanted.names.iter().filter_map(|name| HostPattern::parse(name).ok()).collect();
        let found = Want { site: wanted.site, hosts, from: From::Acme }.look(config, now);
        Found { source: Source::OnDemand, ..found }
    };
    sites.map(site).chain(demand::kept(config).into_iter().map(one)).collect()
}

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

    fn look(&self, config: &Config, now: SystemTime) -> Found {
        let mut warnings = Vec::new();
        let certified = match &self.from {
            From::Files { cert, key } => files::load(cert, key).map(Some).map_err(Reason::Files),
            From::Acme => match self.stored(config) {
                Ok(stored) => Ok(stored.map(|stored| stored.certified)),
                Err(Damage::Unreadable(words)) => {
                    let listed = Files::at(&config.acme.storage).list();
                    Err(told(words, listed.is_err_and(|error| error.is_permission())))
                }
                // The running program mends it by itself.
                Err(damage @ Damage::Damaged(_)) => {
                    warnings.push(format!("to be got anew: {damage}"));
                    Ok(None)
                }
            },
            From::LocalAuthority => match LocalAuthority::open(&config.acme.storage, now) {
                Ok(None) => Ok(None),
                Ok(Some(authority)) => match authority.stored(&names_for(&self.hosts), now) {
                    Ok(stored) => Ok(stored.map(|(leaf, _)| leaf)),
                    // A start mends it by itself, or does without.
                    Err(error) => {
                        let unkept = self.unkept(&authority);
                        warnings.push(unkept.unwrap_or(format!("to be made anew: {error}")));
                        Ok(None)
                    }
                },
                // A start mends that, too, as is told with what is known of the authority.
                Err(error) if error.outlook().is_some() => Ok(None),
                Err(error) => Err(Reason::Local(Arc::new(error))),
            },
        };
        let mut found = self.found(certified, config, now);
        found.warnings.splice(0..0, warnings);
        found.places = self.places(config, now).filter(|_| !found.chain.is_empty());
        found
    }

    /// What is to be said of a certificate; where it is kept is not.
    pub(super) fn found(
        &self,
        certified: Result<Option<Arc<CertifiedKey>>, Reason>,
        config: &Config,
        now: SystemTime,
    ) -> Found {
        let mut warnings = Vec::new();
        warnings.extend(self.notice(certified.as_ref().ok(), config, now));
        if let Ok(Some(certified)) = &certified {
            warnings.extend(self.judge(certified, now));
            warnings.extend(ocsp::judge(certified, config.server.ocsp, &config.acme.storage, now));
        }
        let chain = certified.as_ref().ok().and_then(Option::as_ref).map(|it| it.cert.clone());
        Found {
            places: None,
            chain: chain.unwrap_or_default(),
            hosts: self.hosts.iter().map(ToString::to_string).collect(),
            source: self.source(),
            certificate: certified
                .map(|certified| {
                    certified.and_then(|certified| self.describe(&certified, self.source()))
                })
                .map_err(|reason| CertificateError { site: self.site.clone(), reason }),
            warnings,
            site: self.site.clone(),
        }
    }

    /// What is to be known of the authority of this host, where something of it is shown.
    fn notice(
        &self,
        certified: Option<&Option<Arc<CertifiedKey>>>,
        config: &Config,
        now: SystemTime,
    ) -> Option<String> {
        let storage = &config.acme.storage;
        match (&self.from, certified) {
            (From::LocalAuthority, _) => match LocalAuthority::open(storage, now) {
                Ok(_) => LocalAuthority::notice(storage),
                Err(error) => error.outlook(),
            },
            (From::Acme, Some(None)) => LocalAuthority::open(storage, now).err()?.prospect(),
            (From::Acme | From::Files { .. }, _) => None,
        }
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

    pub(super) fn places(&self, config: &Config, now: SystemTime) -> Option<(PathBuf, PathBuf)> {
        let both = |path: PathBuf| (path.clone(), path);
        match &self.from {
            From::Files { cert, key } => Some((cert.clone(), key.clone())),
            From::LocalAuthority => {
                let authority = LocalAuthority::open(&config.acme.storage, now).ok()??;
                Some(both(authority.place(&names_for(&self.hosts))))
            }
            From::Acme => {
                let names: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
                let place = Files::at(&config.acme.storage).place(&stored::entry(&names));
                Some(both(PathBuf::from(place)))
            }
        }
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
