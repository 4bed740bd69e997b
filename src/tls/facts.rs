//! What a certificate says: names, dates, issuer.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

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

/// The kind of a certificate's key: `P-256`, `RSA 2048`, `Ed25519`; an OID where it is another.
///
/// # Errors
/// When the bytes are not an X.509 certificate.
pub fn key_of(der: &CertificateDer<'_>) -> Result<String, UnreadableCertificate> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| UnreadableCertificate(error.to_string()))?;
    let key = certificate.public_key();
    let oid = key.algorithm.algorithm.to_id_string();
    Ok(match key.parsed() {
        Ok(PublicKey::EC(point)) => format!("P-{}", point.key_size()),
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        // RFC 8410 §3
        _ if oid == "1.3.101.112" => "Ed25519".to_owned(),
        _ => oid,
    })
}

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

/// A moment for people who look at it `now`: a date, with the time of the day where it is near.
#[must_use]
pub fn instant(moment: SystemTime, now: SystemTime) -> String {
    let apart = moment.duration_since(now).unwrap_or_else(|past| past.duration());
    if apart >= Duration::from_secs(2 * 86_400) {
        return date(moment);
    }
    let told = jiff::Timestamp::try_from(moment);
    told.map_or_else(|_| date(moment), |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A time to wait, in words: `45 seconds`, `2 hours`, `3 days`; rounded down from two of a unit on.
#[must_use]
pub fn span(wait: Duration) -> String {
    let seconds = wait.as_secs();
    let (number, unit) = match seconds {
        172_800.. => (seconds / 86_400, "day"),
        7200.. => (seconds / 3600, "hour"),
        120.. => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    count(number, unit)
}

/// `1 day`, `2 days`.
#[must_use]
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// How long ago something was, in words: `5 seconds ago`.
#[must_use]
pub fn ago(now: SystemTime, then: SystemTime) -> String {
    format!("{} ago", span(now.duration_since(then).unwrap_or_default()))
}

/// What is left until `then`, in words: days, or hours and minutes where it is less than two of
/// them.
#[must_use]
pub fn left(now: SystemTime, then: SystemTime) -> String {
    let Ok(left) = then.duration_since(now) else { return "expired".to_owned() };
    let minutes = left.as_secs() / 60;
    match (minutes / 1440, minutes / 60, minutes) {
        (days @ 2.., _, _) => format!("{days} days left"),
        (_, hours @ 2.., _) => format!("{hours} hours left"),
        (_, _, minutes @ 2..) => format!("{minutes} minutes left"),
        _ => format!("{} seconds left", left.as_secs()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Pki;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn what_is_left_is_told_in_what_fits() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (seconds, words) in [
            (90 * 86_400, "90 days left"),
            (2 * 86_400, "2 days left"),
            (2 * 86_400 - 1, "47 hours left"),
            (7199, "119 minutes left"),
            (119, "119 seconds left"),
            (0, "0 seconds left"),
        ] {
            assert_eq!(left(now, now + Duration::from_secs(seconds)), words);
        }
        assert_eq!(left(now, now - Duration::from_secs(1)), "expired");
    }

    #[test]
    fn a_key_is_told_as_people_call_it() {
        for (algorithm, name) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "P-256"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "P-384"),
            (&rcgen::PKCS_ED25519, "Ed25519"),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
            assert_eq!(key_of(params.self_signed(&key).unwrap().der()).unwrap(), name);
        }
        let pem = Pki::new().pair(&["a.test"]).cert;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(key_of(&der).unwrap(), "P-256");
        key_of(&CertificateDer::from(vec![1, 2])).unwrap_err();
    }

    /// A certificate that had expired five seconds before had done so one days ago.
    #[test]
    fn times_are_told_in_the_largest_unit_that_fits_twice() {
        let told = |seconds| span(Duration::from_secs(seconds));
        for (seconds, words) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7199, "119 minutes"),
            (7200, "2 hours"),
            (86_400, "24 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(told(seconds), words);
        }
        let now = SystemTime::now();
        assert_eq!(ago(now, now - Duration::from_secs(5)), "5 seconds ago");
    }
}
