//! What there is of the certificates that a configuration needs, and what is to be said of it.
//! Nothing is written.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::{From, Want, told, wanted};
use crate::config::{Config, Site, TlsSource};
use crate::proxy::headers::host::HostPattern;
use crate::tls::acme::demand;
use crate::tls::acme::names::Wanted;
use crate::tls::acme::stored::{self, Damage};
use crate::tls::acme::vault::{Files, Vault as _};
use crate::tls::certificates::{CertificateError, Reason, Source};
use crate::tls::files;
use crate::tls::found::Found;
use crate::tls::local_ca::{LocalAuthority, LocalError, names_for};
use crate::tls::ocsp;

/// Looks at every certificate that the configuration needs, writing nothing: for `check` and
/// `certs list`.
#[must_use]
pub fn survey(config: &Config, now: SystemTime) -> Vec<Found> {
    let survey = Survey::of(config, now);
    let wanted = wanted(config).into_iter().map(|want| want.look(&survey));
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
    let survey = Survey::of(config, now);
    let one = |wanted: Wanted| {
        let hosts = wanted.names.iter().filter_map(|name| HostPattern::parse(name).ok()).collect();
        let found = Want { site: wanted.site, hosts, from: From::Acme }.look(&survey);
        Found { source: Source::OnDemand, ..found }
    };
    sites.map(site).chain(demand::kept(config).into_iter().map(one)).collect()
}

/// One look at all certificates: what they have in common is read once.
pub(in crate::tls) struct Survey<'a> {
    config: &'a Config,
    now: SystemTime,
    local: OnceCell<Result<Option<LocalAuthority>, Arc<LocalError>>>,
    notice: OnceCell<Option<String>>,
}

impl<'a> Survey<'a> {
    pub(in crate::tls) fn of(config: &'a Config, now: SystemTime) -> Self {
        Self { config, now, local: OnceCell::new(), notice: OnceCell::new() }
    }

    /// The authority of this host, where there is one.
    fn local(&self) -> &Result<Option<LocalAuthority>, Arc<LocalError>> {
        let open = || LocalAuthority::open(&self.config.acme.storage, self.now).map_err(Arc::new);
        self.local.get_or_init(open)
    }

    /// That another took its place, where that is so.
    fn notice(&self) -> Option<String> {
        self.notice.get_or_init(|| LocalAuthority::notice(&self.config.acme.storage)).clone()
    }
}

impl Want {
    fn look(&self, survey: &Survey<'_>) -> Found {
        let (config, now) = (survey.config, survey.now);
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
            From::LocalAuthority => match survey.local() {
                Ok(None) => Ok(None),
                Ok(Some(authority)) => match authority.stored(&names_for(&self.hosts), now) {
                    Ok(stored) => Ok(stored.map(|(leaf, _)| leaf)),
                    // A start mends it by itself, or does without.
                    Err(error) => {
                        let unkept = self.unkept(authority);
                        warnings.push(unkept.unwrap_or(format!("to be made anew: {error}")));
                        Ok(None)
                    }
                },
                // A start mends that, too, as is told with what is known of the authority.
                Err(error) if error.outlook().is_some() => Ok(None),
                Err(error) => Err(Reason::Local(Arc::clone(error))),
            },
        };
        let mut found = self.found(certified, survey);
        found.warnings.splice(0..0, warnings);
        found.places = self.places(survey).filter(|_| !found.chain.is_empty());
        found
    }

    /// What is to be said of a certificate; where it is kept is not.
    pub(in crate::tls) fn found(
        &self,
        certified: Result<Option<Arc<CertifiedKey>>, Reason>,
        survey: &Survey<'_>,
    ) -> Found {
        let (config, now) = (survey.config, survey.now);
        let mut warnings = Vec::new();
        warnings.extend(self.notice(certified.as_ref().ok(), survey));
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
        survey: &Survey<'_>,
    ) -> Option<String> {
        match (&self.from, certified) {
            (From::LocalAuthority, _) => match survey.local() {
                Ok(_) => survey.notice(),
                Err(error) => error.outlook(),
            },
            (From::Acme, Some(None)) => survey.local().as_ref().err()?.prospect(),
            (From::Acme | From::Files { .. }, _) => None,
        }
    }

    pub(in crate::tls) fn places(&self, survey: &Survey<'_>) -> Option<(PathBuf, PathBuf)> {
        let both = |path: PathBuf| (path.clone(), path);
        match &self.from {
            From::Files { cert, key } => Some((cert.clone(), key.clone())),
            From::LocalAuthority => {
                let authority = survey.local().as_ref().ok()?.as_ref()?;
                Some(both(authority.place(&names_for(&self.hosts))))
            }
            From::Acme => {
                let names: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
                let place = Files::at(&survey.config.acme.storage).place(&stored::entry(&names));
                Some(both(PathBuf::from(place)))
            }
        }
    }
}
