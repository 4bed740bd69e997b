//! What is shown to an authority that looks: the only part of this module that workers see.
//!
//! A worker looks here only for a request under `/.well-known/acme-challenge/` in the clear, and
//! for a handshake that offers exactly `acme-tls/1`. Nothing is read from a disk and nothing is
//! asked of an application.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// The protocol of the handshake (RFC 8737 §6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where tokens are shown (RFC 8555 §8.3).
pub const PREFIX: &str = "/.well-known/acme-challenge/";

/// The longest token that is looked for. RFC 8555 §8.1 wants 22 characters or more.
const LONGEST: usize = 128;

/// What is pending; shared by the control plane and all workers.
#[derive(Debug, Default)]
pub struct Pending(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By token: the host, and what is to be answered.
    tokens: HashMap<String, (String, Arc<str>)>,
    /// By host.
    certificates: HashMap<String, Arc<ServerConfig>>,
}

impl Pending {
    /// What to answer to a request for `path` at `host`; `None` unless exactly this is pending.
    #[must_use]
    pub fn answer(&self, host: &str, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(PREFIX).filter(|token| is_token(token))?;
        let inner = self.lock();
        let (asked, answer) = inner.tokens.get(token)?;
        (asked == host).then(|| Arc::clone(answer))
    }

    /// The rules of the handshake that proves `host` (lower case); `None` unless it is pending.
    #[must_use]
    pub fn handshake(&self, host: &str) -> Option<Arc<ServerConfig>> {
        self.lock().certificates.get(host).cloned()
    }

    /// Shows `answer` under `token` at `host` for as long as the result lives; `None` when it is no
    /// token that could be asked for.
    #[must_use]
    pub fn show_token(self: &Arc<Self>, host: &str, token: &str, answer: &str) -> Option<Shown> {
        if !is_token(token) {
            return None;
        }
        let entry = (host.to_owned(), Arc::from(answer));
        self.lock().tokens.insert(token.to_owned(), entry);
        Some(Shown { pending: Arc::clone(self), what: What::Token(token.to_owned()) })
    }

    /// Shows a certificate with this digest of a key authorization in handshakes for `host`
    /// (RFC 8737 §3), for as long as the result lives.
    ///
    /// # Errors
    /// When the cryptography fails.
    pub fn show_certificate(
        self: &Arc<Self>,
        host: &str,
        digest: &[u8],
    ) -> Result<Shown, rcgen::Error> {
        let config = Arc::new(proof(host, digest)?);
        self.lock().certificates.insert(host.to_owned(), Arc::clone(&config));
        let what = What::Certificate(host.to_owned(), config);
        Ok(Shown { pending: Arc::clone(self), what })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (self.tokens.len(), self.certificates.len());
        f.debug_tuple("Inner").field(&counts).finish()
    }
}

/// Something that is shown until this is dropped.
#[derive(Debug)]
pub struct Shown {
    pending: Arc<Pending>,
    what: What,
}

#[derive(Debug)]
enum What {
    Token(String),
    /// A later one for the same host stays.
    Certificate(String, Arc<ServerConfig>),
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut inner = self.pending.lock();
        match &self.what {
            What::Token(token) => drop(inner.tokens.remove(token)),
            What::Certificate(host, ours) => {
                let shown = inner.certificates.get(host);
                if shown.is_some_and(|shown| Arc::ptr_eq(shown, ours)) {
                    inner.certificates.remove(host);
                }
            }
        }
    }
}

/// Base64url (RFC 8555 §8.1), and not for ever.
fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)
}

fn proof(host: &str, digest: &[u8]) -> Result<ServerConfig, rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let refused = |_| rcgen::Error::UnsupportedSignatureAlgorithm;
    let signing = aws_lc_rs::sign::any_supported_type(&secret).map_err(refused)?;
    // Not verified: its extension is critical, and unknown to whoever verifies.
    let certified = CertifiedKey::new(vec![certificate.into()], signing);
    let resolver = SingleCertAndKey::from(certified);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

    #[test]
    fn a_token_is_answered_for_its_host_while_it_is_shown() {
        let pending = Arc::new(Pending::default());
        let path = format!("{PREFIX}{TOKEN}");
        assert_eq!(pending.answer("a.test", &path), None);
        let shown = pending.show_token("a.test", TOKEN, "token.thumb").unwrap();
        assert_eq!(pending.answer("a.test", &path).as_deref(), Some("token.thumb"));
        assert_eq!(pending.answer("b.test", &path), None);
        for path in [
            format!("{PREFIX}{TOKEN}/"),
            format!("{PREFIX}{TOKEN}/x"),
            format!("{PREFIX}/{TOKEN}"),
            format!("{PREFIX}../acme-challenge/{TOKEN}"),
            format!("/.well-known/ACME-challenge/{TOKEN}"),
            format!("/x{path}"),
            PREFIX.to_owned(),
        ] {
            assert_eq!(pending.answer("a.test", &path), None, "{path}");
        }
        drop(shown);
        assert_eq!(pending.answer("a.test", &path), None);
    }

    #[test]
    fn what_is_no_token_is_not_shown() {
        let pending = Arc::new(Pending::default());
        for token in ["", "a/b", "..", "a.b", "ä", "%2e", &"x".repeat(129)] {
            assert!(pending.show_token("a.test", token, "x").is_none(), "{token}");
        }
        assert!(pending.show_token("a.test", &"x".repeat(128), "x").is_some());
    }

    /// RFC 8737 §3.
    #[test]
    fn a_handshake_shows_the_digest_in_a_critical_extension() {
        let pending = Arc::new(Pending::default());
        let _shown = pending.show_certificate("a.test", &[7; 32]).unwrap();
        let config = pending.handshake("a.test").unwrap();
        let mut client = crate::tls::testing::anybody();
        client.alpn_protocols = vec![ACME_TLS.to_vec()];
        let met = crate::tls::testing::meet(&Arc::new(client), "a.test", &config).unwrap();
        assert_eq!(met.alpn.as_deref(), Some(ACME_TLS));
        let (_, leaf) = x509_parser::parse_x509_certificate(&met.leaf).unwrap();
        let id = "1.3.6.1.5.5.7.1.31";
        let found = leaf.extensions().iter().find(|one| one.oid.to_id_string() == id).unwrap();
        assert!(found.critical);
        assert_eq!(found.value, [&[4, 32][..], &[7; 32]].concat());
    }

    #[test]
    fn a_later_certificate_for_a_host_stays_when_the_earlier_goes() {
        let pending = Arc::new(Pending::default());
        let first = pending.show_certificate("a.test", &[1; 32]).unwrap();
        let second = pending.show_certificate("a.test", &[2; 32]).unwrap();
        drop(first);
        assert!(pending.handshake("a.test").is_some());
        assert!(pending.handshake("b.test").is_none());
        drop(second);
        assert!(pending.handshake("a.test").is_none());
    }
}
