//! What a certificate says: names, dates, issuer.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::proxy::headers::host::HostPattern;

/// The parts of a certificate that an operator asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject alternative names that matter to a server, in the certificate's order: DNS names
    /// in lower case, wildcards as `*.example.org`, IP addresses in their canonical form.
    pub names: Vec<String>,
    /// The issuer's common name, or all of its name where it has none.
    pub issuer: String,
    /// Not valid before this moment.
    pub not_before: SystemTime,
    /// Not valid after this moment.
    pub not_after: SystemTime,
}

/// Why a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableCertificate(String);

impl Facts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When the bytes are not an X.509 certificate (RFC 5280 §4.1).
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, UnreadableCertificate> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| UnreadableCertificate(error.to_string()))?;
        let alternative = certificate
            .subject_alternative_name()
            .map_err(|error| UnreadableCertificate(error.to_string()))?;
        let names = alternative.map(|extension| {
            extension.value.general_names.iter().filter_map(server_name).collect::<Vec<_>>()
        });
        let validity = certificate.validity();
        Ok(Self {
            names: names.unwrap_or_default(),
            issuer: shown(certificate.issuer()),
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
        })
    }

    /// Whether a client that asks for `host` accepts this certificate's names (RFC 6125 §6.4): a
    /// wildcard stands for exactly one label, and `"*"` asks for nothing in particular.
    #[must_use]
    pub fn covers(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Any => true,
            HostPattern::Wildcard(parent) => {
                self.names.iter().any(|n| n.strip_prefix("*.") == Some(parent.as_str()))
            }
            HostPattern::Exact(host) => {
                let parent = (!host.is_ip())
                    .then(|| host.as_str().split_once('.').map(|(_, parent)| parent))
                    .flatten();
                self.names.iter().any(|name| {
                    name == host.as_str() || (parent.is_some() && name.strip_prefix("*.") == parent)
                })
            }
        }
    }

    /// When to renew; see [`renew_at`].
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        renew_at(self.not_before, self.not_after)
    }
}

impl fmt::Display for UnreadableCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a readable certificate: {}", self.0)
    }
}

impl std::error::Error for UnreadableCertificate {}

/// The moment of a life from which only a third of it is left.
#[must_use]
pub fn renew_at(not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    not_after.checked_sub(life / 3).unwrap_or(not_before)
}

/// Whole days from `now` to `then`; negative once `then` is past, so that an hour ago is -1.
#[must_use]
pub fn days_between(now: SystemTime, then: SystemTime) -> i64 {
    const DAY: u64 = 86_400;
    match then.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs() / DAY).unwrap_or(i64::MAX),
        Err(past) => -i64::try_from(past.duration().as_secs().div_ceil(DAY)).unwrap_or(i64::MAX),
    }
}

/// `2026-01-31`, in UTC.
#[must_use]
pub fn date(moment: SystemTime) -> String {
    jiff::Timestamp::try_from(moment)
        .map_or_else(|_| "an unknown date".to_owned(), |t| t.strftime("%Y-%m-%d").to_string())
}

fn server_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*octets).map(IpAddr::from);
            v4.or(v6).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn shown(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|cn| cn.as_str().ok());
    common.map_or_else(|| name.to_string(), ToOwned::to_owned)
}

/// The moment so many seconds after the beginning of 1970.
pub(super) fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    moment.unwrap_or(UNIX_EPOCH)
}
