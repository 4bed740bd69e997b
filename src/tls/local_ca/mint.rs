//! The certificates of the local authority: what is written into them.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The life of the root.
const ROOT_LIFE: Duration = Duration::from_secs(3652 * 86_400);

/// The life of a leaf: 90 days with both ends counted (RFC 5280 §4.1.2.5).
const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400 - 1);

/// The life of a leaf that stands in for one of a public authority: long enough to be no trouble of
/// its own, short enough that nobody gets used to it.
const STAND_IN_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Certificates begin this long before they are made, for clients whose clocks are behind.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// The longest common name (RFC 5280, appendix A, `ub-common-name`), in bytes of ASCII.
const COMMON_NAME: usize = 64;

/// The root: it may sign leafs and nothing that signs in turn. The host stands in its name so that
/// a person who finds it in a trust store knows where it came from.
pub(super) fn root(host: &str, key: &KeyPair, now: SystemTime) -> Result<Certificate, Error> {
    let mut params = CertificateParams::default();
    dates(&mut params, now, ROOT_LIFE, SystemTime::UNIX_EPOCH + DAY * 365 * 8000);
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Portcullis");
    params.distinguished_name.push(DnType::CommonName, root_name(host));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.self_signed(key)
}

/// A leaf for these names (`*.example.org` and IP addresses among them) that does not outlive the
/// root.
pub(super) fn leaf(
    names: &[String],
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
    now: SystemTime,
    root_ends: SystemTime,
) -> Result<Certificate, Error> {
    leaf_for(LEAF_LIFE, names, key, issuer, now, root_ends)
}

/// The same with a short life.
pub(super) fn stand_in(
    names: &[String],
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
    now: SystemTime,
    root_ends: SystemTime,
) -> Result<Certificate, Error> {
    leaf_for(STAND_IN_LIFE, names, key, issuer, now, root_ends)
}

/// A leaf that has signed itself, as long-lived as others: nobody renews it before what is in its
/// way is gone.
pub(super) fn self_signed(
    names: &[String],
    key: &KeyPair,
    now: SystemTime,
) -> Result<Certificate, Error> {
    let latest = SystemTime::UNIX_EPOCH + DAY * 365 * 8000;
    let mut params = params(LEAF_LIFE, names, now, latest)?;
    params.use_authority_key_identifier_extension = false;
    params.self_signed(key)
}

fn leaf_for(
    life: Duration,
    names: &[String],
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
    now: SystemTime,
    root_ends: SystemTime,
) -> Result<Certificate, Error> {
    params(life, names, now, root_ends)?.signed_by(key, issuer)
}

fn params(
    life: Duration,
    names: &[String],
    now: SystemTime,
    latest: SystemTime,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    dates(&mut params, now, life, latest);
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    if let Some(first) = names.first().filter(|name| name.len() <= COMMON_NAME) {
        params.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(ip) => Ok(SanType::IpAddress(ip)),
            Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
        })
        .collect::<Result<_, Error>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn root_name(host: &str) -> String {
    let room = COMMON_NAME - "Portcullis local authority ()".len();
    let host: String = host.chars().filter(char::is_ascii_graphic).take(room).collect();
    format!("Portcullis local authority ({host})")
}

fn dates(params: &mut CertificateParams, now: SystemTime, life: Duration, latest: SystemTime) {
    let begin = now.checked_sub(CLOCK_SLACK).unwrap_or(UNIX_EPOCH);
    let end = (begin + life).min(latest);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // Whole seconds: the encoding has no fractions, and a certificate must not begin after `now`.
    let seconds = |moment: SystemTime| {
        Duration::from_secs(moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    };
    params.not_before = epoch + seconds(begin);
    params.not_after = epoch + seconds(end);
}

/// 126 random bits: positive, and never the same for two certificates of one authority, which
/// browsers refuse (RFC 5280 §4.1.2.2).
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::RingUnspecified)?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_host_name_is_cut_to_what_a_common_name_holds() {
        assert_eq!(root_name("web-1"), "Portcullis local authority (web-1)");
        assert_eq!(root_name(&"h".repeat(200)).len(), COMMON_NAME);
    }

    #[test]
    fn no_two_serial_numbers_are_alike() {
        assert_ne!(serial().unwrap().to_bytes(), serial().unwrap().to_bytes());
    }
}
