//! What an application is told about the certificate of a client.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// `SUCCESS`, or `NONE` where no certificate was shown; only where one was asked for.
pub const VERIFY: HeaderName = HeaderName::from_static("x-client-cert-verify");
/// The subject of the certificate (RFC 4514), the most specific part first, in ASCII.
pub const SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
/// The serial number, in hexadecimal.
pub const SERIAL: HeaderName = HeaderName::from_static("x-client-cert-serial");
/// The SHA-256 of the certificate, in hexadecimal.
pub const FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");
/// The certificate itself (RFC 9440 §2.2).
pub const CERTIFICATE: HeaderName = HeaderName::from_static("client-cert");

/// The fields, built once for a connection. They stand only in requests of sites that ask for
/// certificates, and clients' fields of these names are dropped everywhere.
#[derive(Clone, Debug)]
pub struct Presented(Vec<(HeaderName, HeaderValue)>);

impl Presented {
    /// What to tell of the chain that a client showed, verified; empty where it showed none.
    #[must_use]
    pub fn of(shown: &[CertificateDer<'_>]) -> Self {
        let Some(own) = shown.first() else {
            return Self(vec![(VERIFY, HeaderValue::from_static("NONE"))]);
        };
        let mut fields = vec![(VERIFY, HeaderValue::from_static("SUCCESS"))];
        let mut add = |name, text: String| {
            // All of it is visible ASCII.
            fields.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
        };
        if let Ok((_, certificate)) = X509Certificate::from_der(own) {
            add(SUBJECT, subject(&certificate));
            add(SERIAL, hex(serial(certificate.raw_serial())));
        }
        add(FINGERPRINT, hex(digest(&SHA256, own).as_ref()));
        add(CERTIFICATE, format!(":{}:", STANDARD.encode(own)));
        Self(fields)
    }

    /// Each field.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Adds them.
    pub fn insert(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Without the zero that DER puts before a first bit that is set.
fn serial(raw: &[u8]) -> &[u8] {
    match raw {
        [0, rest @ ..] if !rest.is_empty() => rest,
        raw => raw,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// RFC 4514 §2: the last part first, special characters escaped, and whatever is not visible ASCII
/// as its bytes in hexadecimal, so that no character of a name can end a field or pretend to be
/// another part.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let parts: Vec<_> = certificate.subject().iter_rdn().collect();
    let part = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        let oid = attribute.attr_type();
        let name = short(&oid.to_id_string()).map_or_else(|| oid.to_id_string(), ToOwned::to_owned);
        match attribute.as_str() {
            Ok(value) => format!("{name}={}", escaped(value)),
            // After RFC 4514 §2.4; it is no text.
            Err(_) => format!("{name}=#{}", hex(attribute.attr_value().data)),
        }
    };
    let parts = parts.iter().rev().map(|rdn| {
        let attributes: Vec<_> = rdn.iter().map(part).collect();
        attributes.join("+")
    });
    parts.collect::<Vec<_>>().join(",")
}

/// RFC 4514 §3, and the e-mail address that many authorities put there.
fn short(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.5" => "serialNumber",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escaped(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if at == 0 || at == last => text.push_str("\\20"),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn presented(parts: &[(DnType, &str)]) -> HeaderMap {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        Presented::of(&[made.der().clone()]).insert(&mut headers);
        headers
    }

    #[test]
    fn the_subject_is_told_the_most_specific_part_first() {
        let headers = presented(&[
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Example, Inc."),
            (DnType::CommonName, "alice"),
        ]);
        assert_eq!(headers[SUBJECT], "CN=alice,O=Example\\, Inc.,C=DE");
        assert_eq!(headers[VERIFY], "SUCCESS");
        assert_eq!(headers[FINGERPRINT].len(), 64);
        assert!(headers[CERTIFICATE].to_str().unwrap().starts_with(":MII"));
    }

    /// A name with a line break in it would be a field of the client's choosing.
    #[test]
    fn no_name_can_forge_another_part_or_another_field() {
        let name = "x\r\nx-client-cert-verify: SUCCESS,CN=root\u{e9}";
        let headers = presented(&[(DnType::CommonName, name)]);
        let told = headers[SUBJECT].to_str().unwrap();
        assert_eq!(told, "CN=x\\0D\\0Ax-client-cert-verify: SUCCESS\\,CN\\=root\\C3\\A9");
    }

    #[test]
    fn who_shows_nothing_is_told_as_nobody() {
        let mut headers = HeaderMap::new();
        Presented::of(&[]).insert(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[VERIFY], "NONE");
    }
}
