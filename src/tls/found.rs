//! What is known of one certificate: as it is served, or as it lies there.

use std::path::PathBuf;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::certificates::{CertificateError, CertificateInfo, Source};

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

    /// What a person is to know of it at `now`, a sentence each. What strangers can make fail is
    /// theirs to mend who own the names: of certificates on demand there is none.
    #[must_use]
    pub fn calls(&self, now: SystemTime) -> Vec<String> {
        if self.source == Source::OnDemand {
            return Vec::new();
        }
        let site = &self.site;
        let mut calls: Vec<String> =
            self.warnings.iter().map(|warning| format!("site {site}: {warning}")).collect();
        match &self.certificate {
            Err(error) => calls.push(error.to_string()),
            Ok(Some(info)) if info.not_after >= now && info.is_late(now) => {
                let days = info.days_left(now);
                calls.push(format!("the certificate of site {site} ends in {days} days"));
            }
            // Of files and of certificates by ACME a warning tells.
            Ok(Some(info)) if info.not_after < now && self.warnings.is_empty() => {
                calls.push(format!("the certificate of site {site} has expired"));
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
