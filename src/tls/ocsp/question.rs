//! What a responder is asked, and where.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use http::Uri;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::der::{INTEGER, OCTET_STRING, OID, SEQUENCE, element};

/// By what a certificate is known in memory and in the storage: the digest of all of it.
pub type Key = [u8; 32];

/// The question whether a certificate is still good (RFC 6960 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// By what it is known.
    pub key: Key,
    /// A name that the certificate is for, to tell people of it.
    pub name: String,
    /// Where it is asked.
    pub url: Uri,
    /// Its serial number, as the certificate spells it.
    pub(super) serial: Vec<u8>,
    /// Who signed it.
    pub(super) issuer: CertificateDer<'static>,
}

impl Question {
    /// About the first certificate of a chain, where it names a responder that is asked in the
    /// clear, as they all are (RFC 5019 §5), and the one after it is its issuer's.
    #[must_use]
    pub fn of(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let [leaf, issuer, ..] = chain else { return None };
        let (_, own) = X509Certificate::from_der(leaf).ok()?;
        let (_, above) = X509Certificate::from_der(issuer).ok()?;
        if own.issuer().as_raw() != above.subject().as_raw() {
            return None;
        }
        let facts = crate::tls::facts::Facts::of(leaf).ok()?;
        let mut key = Key::default();
        key.copy_from_slice(digest(&SHA256, leaf).as_ref().get(..32)?);
        Some(Self {
            key,
            name: facts.names.into_iter().next().unwrap_or_else(|| "no name".to_owned()),
            url: responder(&own)?,
            serial: own.raw_serial().to_vec(),
            issuer: issuer.clone(),
        })
    }

    /// The entry of the storage for what may be shown.
    #[must_use]
    pub fn entry(&self) -> String {
        self.stem() + ".der"
    }

    /// The entry of the storage for the word that the certificate is revoked.
    #[must_use]
    pub fn revocation_entry(&self) -> String {
        self.stem() + REVOCATION
    }

    fn stem(&self) -> String {
        use std::fmt::Write as _;
        self.key.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The host and port of the responder.
    #[must_use]
    pub fn place(&self) -> (&str, u16) {
        let host = self.url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host, self.url.port_u16().unwrap_or(80))
    }

    /// The request as DER. It asks for the one certificate, by SHA-1, which every responder knows
    /// and on which nothing rests here, and without a nonce, because most answer all with the
    /// same, made beforehand (RFC 5019 §2.1).
    #[must_use]
    pub(super) fn request(&self) -> Option<Vec<u8>> {
        let [name, key] = self.issuer_hashes(&SHA1_FOR_LEGACY_USE_ONLY)?;
        let algorithm = element(SEQUENCE, &[&element(OID, &[&SHA1]), &[5, 0]]);
        let [name, key] = [name, key].map(|hash| element(OCTET_STRING, &[&hash]));
        let serial = element(INTEGER, &[&self.serial]);
        let id = element(SEQUENCE, &[&algorithm, &name, &key, &serial]);
        let list = element(SEQUENCE, &[&element(SEQUENCE, &[&id])]);
        Some(element(SEQUENCE, &[&element(SEQUENCE, &[&list])]))
    }

    /// The digests of the issuer's name and of its key (RFC 6960 §4.1.1).
    pub(super) fn issuer_hashes(&self, by: &'static digest::Algorithm) -> Option<[Vec<u8>; 2]> {
        let (_, issuer) = X509Certificate::from_der(&self.issuer).ok()?;
        let hash = |bytes: &[u8]| digest(by, bytes).as_ref().to_vec();
        let key = &issuer.public_key().subject_public_key.data;
        Some([hash(issuer.subject().as_raw()), hash(key)])
    }
}

/// Whether this is a name of [`Question::entry`] or [`Question::revocation_entry`].
#[must_use]
pub(super) fn is_entry(name: &str) -> bool {
    let digest = name.strip_suffix(REVOCATION).or_else(|| name.strip_suffix(".der"));
    digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// How the entries end that say that a certificate is revoked.
const REVOCATION: &str = ".revoked.der";

/// Whether clients are to refuse the certificate without a response beside it (RFC 7633).
#[must_use]
pub fn is_required_by(leaf: &CertificateDer<'_>) -> bool {
    // Features ::= SEQUENCE OF INTEGER; 5 is `status_request`.
    const STATUS_REQUEST: [u8; 3] = [INTEGER, 1, 5];
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
    let features = certificate.extensions().iter().find(|it| it.oid.as_bytes() == TLS_FEATURE);
    features.is_some_and(|features| memchr::memmem::find(features.value, &STATUS_REQUEST).is_some())
}

/// id-ad-ocsp, id-pe-tlsfeature, id-sha1, id-sha256.
const RESPONDER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1];
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
pub(super) const SHA1: [u8; 5] = [0x2b, 0x0e, 3, 2, 0x1a];
pub(super) const SHA2: [u8; 9] = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];

fn responder(certificate: &X509Certificate<'_>) -> Option<Uri> {
    let access = certificate.extensions().iter().find_map(|it| match it.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(access),
        _ => None,
    })?;
    let urls = access.accessdescs.iter().filter_map(|it| match it.access_location {
        GeneralName::URI(url) if it.access_method.as_bytes() == RESPONDER => Some(url),
        _ => None,
    });
    let mut urls = urls.filter_map(|url| url.parse::<Uri>().ok());
    urls.find(|url| url.scheme_str() == Some("http") && url.host().is_some())
}
