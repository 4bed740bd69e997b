//! TLS towards applications: `https://` targets.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// Verifies applications against the system's roots and speaks HTTP/1.1 to them.
///
/// The roots are read here, some hundred kilobytes from disk: once per configuration, not per
/// connection. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, as for OpenSSL.
///
/// # Errors
/// When the system has no root at all, so that nothing could be verified.
pub fn client_config() -> Result<Arc<ClientConfig>, NoTrust> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("a root certificate of this system cannot be read: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(NoTrust::NoRoots);
    }
    with_roots(roots)
}

/// Why no application can be verified.
#[derive(Debug)]
pub enum NoTrust {
    /// The system has no root certificates.
    NoRoots,
    /// The cryptography refused the protocol versions.
    Tls(rustls::Error),
}

impl fmt::Display for NoTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoTrust::NoRoots => f.write_str(
                "this system has no root certificates to verify https:// applications with; \
                 install them (Debian: apt-get install ca-certificates) or name a PEM file in \
                 SSL_CERT_FILE",
            ),
            NoTrust::Tls(error) => write!(f, "TLS towards applications: {error}"),
        }
    }
}

impl std::error::Error for NoTrust {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NoTrust::NoRoots => None,
            NoTrust::Tls(error) => Some(error),
        }
    }
}

pub(super) fn with_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, NoTrust> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(NoTrust::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_spoken_to_in_http_1_1_without_early_data() {
        let config = with_roots(RootCertStore::empty()).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(!config.enable_early_data);
    }
}
