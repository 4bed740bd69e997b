//! What is known of one certificate: as it is served, or as it lies there.

use std::path::PathBuf;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::certificates::{CertificateError, CertificateInfo, Source};
use super::facts::{ago, span};

/// A certificate of a site, as the running server tells of it or as it is found where no server
/// runs, without making any.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    /// The site's name.
    pub site: String,
    /// The names that the site asks for.
    pub hosts: Vec<String>,
    /// Where the certificate comes from.
    pub source: Source,
    /// The certificate; `None` for a local one that the first start will make, and for one that no
    /// authority has issued yet.
    pub certificate: Result<Option<CertificateInfo>, CertificateError>,
    /// It and those of the authorities up to the root, as they are shown; empty where there is
    /// none.
    #[serde(with = "base64_der")]
    pub chain: Vec<CertificateDer<'static>>,
    /// The files of the certificate and of its key; `None` where nothing is kept yet.
    pub places: Option<(PathBuf, PathBuf)>,
    /// What is not right with it although it can be served.
    pub warnings: Vec<String>,
}

impl Found {
    /// Whether it is meant by this name: one of its names, or that of its site.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.site == name || self.hosts.contains(&name)
    }

    /// Says that it comes from elsewhere than it should.
    pub(super) fn came_from(&mut self, source: &Source) {
        self.source = source.clone();
        if let Ok(Some(info)) = &mut self.certificate {
            info.source = source.clone();
        }
    }

    /// Which one it is among all, in words: its site, and its own first name where that is another.
    #[must_use]
    pub fn whose(&self) -> String {
        match self.hosts.first() {
            Some(name) if !self.hosts.contains(&self.site) => {
                format!("site {}, certificate for {name}", self.site)
            }
            _ => format!("site {}", self.site),
        }
    }

    /// What a person is to know of it at `now`, a sentence each. What strangers can make fail is
    /// theirs to mend who own the names: of certificates on demand there is none.
    #[must_use]
    pub fn calls(&self, now: SystemTime) -> Vec<String> {
        if self.source == Source::OnDemand {
            return Vec::new();
        }
        let site = &self.site;
        let mut calls: Vec<String> =
            self.warnings.iter().map(|warning| format!("{}: {warning}", self.whose())).collect();
        match &self.certificate {
            Err(error) => calls.push(error.to_string()),
            Ok(Some(info)) if info.not_after >= now && info.is_late(now) => {
                let left = span(info.not_after.duration_since(now).unwrap_or_default());
                calls.push(format!("the certificate of site {site} ends in {left}"));
            }
            // Of files and of certificates by ACME a warning tells.
            Ok(Some(info)) if info.not_after < now && self.warnings.is_empty() => {
                let since = ago(now, info.not_after);
                calls.push(format!("the certificate of site {site} expired {since}"));
            }
            Ok(_) => {}
        }
        calls
    }
}

/// DER in base64, for JSON.
mod base64_der {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rustls::pki_types::CertificateDer;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        chain: &[CertificateDer<'static>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(chain.iter().map(|der| STANDARD.encode(der)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<CertificateDer<'static>>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let decode = |text: &String| STANDARD.decode(text).map(CertificateDer::from);
        texts.iter().map(decode).collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::tls::certificates::Reason;
    use crate::tls::testing::DAY;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn found(source: Source, not_after: SystemTime) -> Found {
        let info = CertificateInfo {
            site: "a.test".to_owned(),
            names: vec!["a.test".to_owned()],
            issuer: "Somebody".to_owned(),
            not_before: now() - 30 * DAY,
            not_after,
            source: source.clone(),
        };
        Found {
            site: "a.test".to_owned(),
            hosts: vec!["a.test".to_owned()],
            source,
            certificate: Ok(Some(info)),
            chain: vec![CertificateDer::from(vec![1, 2, 3])],
            places: None,
            warnings: Vec::new(),
        }
    }

    /// One that had run out ended in -44 days.
    #[test]
    fn a_person_is_called_for_what_is_late_or_wrong_and_not_for_names_on_demand() {
        let file = || Source::File(PathBuf::from("/c.pem"));
        assert!(found(file(), now() + 30 * DAY).calls(now()).is_empty());
        let late = found(file(), now() + 3 * DAY).calls(now());
        assert_eq!(late, ["the certificate of site a.test ends in 3 days"]);
        let over = found(Source::LocalAuthority, now() - 44 * DAY).calls(now());
        assert_eq!(over, ["the certificate of site a.test expired 44 days ago"]);
        let mut warned = found(file(), now() - DAY);
        warned.warnings.push("the certificate expired".to_owned());
        assert_eq!(warned.calls(now()), ["site a.test: the certificate expired"]);
        assert!(Found { source: Source::OnDemand, ..warned }.calls(now()).is_empty());
    }

    /// Two names under one wildcard could not be told apart.
    #[test]
    fn a_certificate_under_another_site_s_name_is_named() {
        let whose = |site: &str, hosts: &[&str]| {
            let hosts = hosts.iter().map(ToString::to_string).collect();
            Found { site: site.to_owned(), hosts, ..found(Source::OnDemand, now()) }.whose()
        };
        assert_eq!(whose("*.od.test", &["*.od.test"]), "site *.od.test");
        assert_eq!(whose("a.test", &["b.test", "a.test"]), "site a.test");
        assert_eq!(whose("*.od.test", &["b.od.test"]), "site *.od.test, certificate for b.od.test");
    }

    #[test]
    fn what_the_server_tells_is_what_it_knows() {
        let there = found(Source::Acme, now());
        let text = serde_json::to_string(&there).unwrap();
        let told: Found = serde_json::from_str(&text).unwrap();
        assert_eq!((&told.chain, &told.source), (&there.chain, &there.source));
        assert_eq!(told.certificate.unwrap(), there.certificate.unwrap());
        let reason = Reason::Told { words: "no".to_owned(), is_permission: true };
        let error = CertificateError { site: "a.test".to_owned(), reason };
        let wrong = Found { certificate: Err(error), ..found(Source::Acme, now()) };
        let told: Found = serde_json::from_str(&serde_json::to_string(&wrong).unwrap()).unwrap();
        let error = told.certificate.unwrap_err();
        assert!(error.is_permission() && error.to_string() == "site a.test: no", "{error}");
    }
}
