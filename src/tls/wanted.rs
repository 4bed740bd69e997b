//! Which certificates a configuration needs, and where each is to come from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::certificates::{CertificateError, CertificateInfo, Reason, Source};
use super::facts::Facts;
use super::files::{self, Pair};
use super::local_ca::{LocalAuthority, LocalError, names_for};
use crate::config::{Config, Site, TlsSource};
use crate::proxy::headers::host::HostPattern;

/// One entry of [`survey`]: a certificate as it is found, without making any.
#[derive(Debug)]
pub struct Found {
    /// The site's name.
    pub site: String,
    /// The names that the site asks for.
    pub hosts: Vec<String>,
    /// Where the certificate comes from.
    pub source: Source,
    /// The certificate; `None` for a local one that the first start will make.
    pub certificate: Result<Option<CertificateInfo>, CertificateError>,
    /// What is not right with it although it can be served.
    pub warnings: Vec<String>,
}

/// Looks at every certificate that the configuration needs, writing nothing: for `check` and
/// `certs list`.
#[must_use]
pub fn survey(config: &Config, now: SystemTime) -> Vec<Found> {
    wanted(config).into_iter().map(|want| want.look(config, now)).collect()
}

/// The authority once it was asked for.
pub(super) type Opened = Option<Result<Arc<LocalAuthority>, Arc<LocalError>>>;

/// A certificate that the configuration needs.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) site: String,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) from: From,
    pub(super) no_public_authority: bool,
}

#[derive(Debug)]
pub(super) enum From {
    Files { cert: PathBuf, key: PathBuf },
    LocalAuthority,
}

/// A certificate that was had, and, where it came from files, what is needed to load it again.
pub(super) struct Obtained {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) pair: Option<Pair>,
}

impl Want {
    pub(super) fn obtain(
        &self,
        config: &Config,
        authority: &mut Opened,
        before: &[Pair],
        now: SystemTime,
    ) -> Result<Obtained, Reason> {
        let certified = match &self.from {
            From::Files { cert, key } => {
                let before = before.iter().find(|pair| pair.is_of(cert, key));
                let pair = files::load_again(cert, key, before).map_err(Reason::Files)?;
                let end = |pair: &Pair| pair.certified.cert.first().and_then(|c| Facts::of(c).ok());
                let is_over = |facts: &Facts| facts.not_after < now;
                // Somebody put an old file back while a good one is being served.
                if let (Some(before), Some(after)) = (before.and_then(end), end(&pair))
                    && is_over(&after)
                    && !is_over(&before)
                {
                    return Err(Reason::Expired { cert: cert.clone(), on: after.not_after });
                }
                return Ok(Obtained { certified: pair.certified.clone(), pair: Some(pair) });
            }
            From::LocalAuthority => authority
                .get_or_insert_with(|| {
                    let opened = LocalAuthority::open_or_create(&config.acme.storage, now);
                    opened.map(Arc::new).map_err(Arc::new)
                })
                .as_ref()
                .map_err(|error| Reason::Local(error.clone()))?
                .certificate(&names_for(&self.hosts), now)
                .map_err(|error| Reason::Local(Arc::new(error)))?,
        };
        Ok(Obtained { certified, pair: None })
    }

    fn look(self, config: &Config, now: SystemTime) -> Found {
        let mut warnings = Vec::new();
        let certified = match &self.from {
            From::Files { cert, key } => files::load(cert, key).map(Some).map_err(Reason::Files),
            From::LocalAuthority => match LocalAuthority::open(&config.acme.storage, now) {
                Ok(None) => Ok(None),
                Ok(Some(authority)) => match authority.stored(&names_for(&self.hosts), now) {
                    Ok(stored) => Ok(stored.map(|(leaf, _)| leaf)),
                    // A start mends it by itself.
                    Err(error) => {
                        warnings.push(format!("to be made anew: {error}"));
                        Ok(None)
                    }
                },
                Err(error) => Err(Reason::Local(Arc::new(error))),
            },
        };
        if let Ok(Some(certified)) = &certified {
            warnings.extend(self.judge(certified, now));
        }
        Found {
            hosts: self.hosts.iter().map(ToString::to_string).collect(),
            source: self.source(),
            certificate: certified
                .map(|certified| certified.and_then(|certified| self.describe(&certified)))
                .map_err(|reason| CertificateError { site: self.site.clone(), reason }),
            warnings,
            site: self.site,
        }
    }

    /// The authority of this host knows what it signed; other people's files are judged.
    pub(super) fn judge(&self, certified: &CertifiedKey, now: SystemTime) -> Vec<String> {
        match self.from {
            From::Files { .. } => files::judge(certified, now, &self.hosts),
            From::LocalAuthority => Vec::new(),
        }
    }

    pub(super) fn describe(&self, certified: &CertifiedKey) -> Option<CertificateInfo> {
        let facts = Facts::of(certified.cert.first()?).ok()?;
        Some(CertificateInfo {
            site: self.site.clone(),
            names: facts.names,
            issuer: facts.issuer,
            not_before: facts.not_before,
            not_after: facts.not_after,
            source: self.source(),
        })
    }

    fn source(&self) -> Source {
        match &self.from {
            From::Files { cert, .. } => Source::File(cert.clone()),
            From::LocalAuthority => Source::LocalAuthority,
        }
    }
}

pub(super) fn wanted(config: &Config) -> Vec<Want> {
    if config.server.https.is_empty() {
        return Vec::new();
    }
    config.sites.iter().flat_map(wanted_by).collect()
}

/// One certificate for a site, or two when only some of its names are public: a public authority
/// can vouch for those alone.
pub(super) fn wanted_by(site: &Site) -> Vec<Want> {
    let want = |hosts, from, no_public_authority| Want {
        site: site.name(),
        hosts,
        from,
        no_public_authority,
    };
    match &site.tls {
        TlsSource::Files { cert, key } => {
            let from = From::Files { cert: cert.clone(), key: key.clone() };
            vec![want(site.hosts.clone(), from, false)]
        }
        TlsSource::Local => vec![want(site.hosts.clone(), From::LocalAuthority, false)],
        TlsSource::Auto => {
            let (public, private): (Vec<_>, Vec<_>) =
                site.hosts.iter().cloned().partition(is_public);
            [(public, true), (private, false)]
                .into_iter()
                .filter(|(hosts, _)| !hosts.is_empty())
                .map(|(hosts, public)| want(hosts, From::LocalAuthority, public))
                .collect()
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
    use crate::tls::testing::{hosts, site};

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
        let mixed = wanted_by(&site(&["a.test", "a.localhost", "b.test"], TlsSource::Auto));
        let wants: Vec<_> =
            mixed.into_iter().map(|want| (want.hosts, want.no_public_authority)).collect();
        assert_eq!(wants, [(hosts(&["a.test", "b.test"]), true), (hosts(&["a.localhost"]), false)]);
        assert_eq!(wanted_by(&site(&["a.test", "localhost"], TlsSource::Local)).len(), 1);
    }
}
