//! TLS towards clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::{ServerConfig, version};

use super::certificates::Certificates;
use super::store::{Resolver, Table};
use super::tickets::Tickets;

/// The rules of TLS for clients that name a server, or that name none and whose way here is unknown.
///
/// TLS 1.3 and 1.2 with forward secrecy and authenticated encryption only; post-quantum key
/// exchange first; HTTP/2 and HTTP/1.1; sessions resumed by ticket alone; no early data, because
/// what it carries can be replayed (RFC 8446 §8).
///
/// Called once per worker, so that workers share nothing but tickets and certificates.
///
/// # Errors
/// When the cryptography was built without what is asked for: never in a build that passes its
/// tests.
pub fn server_config(
    certificates: &Certificates,
    tickets: &Arc<Tickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    build(Resolver::new(certificates.table(), None), tickets)
}

/// The [`server_config`] and its variants for clients that reach an IP address that is itself the
/// host of a site: they name no server, so the address tells which certificate to show.
#[derive(Debug)]
pub struct ServerConfigs {
    table: Arc<Table>,
    named: Arc<ServerConfig>,
    by_address: HashMap<IpAddr, Arc<ServerConfig>>,
}

impl ServerConfigs {
    /// Called once per worker, as [`server_config`].
    ///
    /// # Errors
    /// As [`server_config`].
    pub fn new(certificates: &Certificates, tickets: &Arc<Tickets>) -> Result<Self, rustls::Error> {
        let table = certificates.table();
        let variant = |local| Ok((local, build(Resolver::new(table, Some(local)), tickets)?));
        Ok(Self {
            table: table.clone(),
            named: build(Resolver::new(table, None), tickets)?,
            by_address: table.addresses().map(variant).collect::<Result<_, rustls::Error>>()?,
        })
    }

    /// Whether [`ServerConfigs::for_address`] depends on the address at all: asking the system for
    /// it can be spared otherwise.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        !self.by_address.is_empty()
    }

    /// The rules for a connection that reached this host at `local`.
    #[must_use]
    pub fn for_address(&self, local: Option<IpAddr>) -> &Arc<ServerConfig> {
        local.and_then(|local| self.by_address.get(&local.to_canonical())).unwrap_or(&self.named)
    }

    /// The rules for a client whose ClientHello is already read; `None` when there is no
    /// certificate for it, to be answered with [`super::store::UNRECOGNIZED_NAME`].
    #[must_use]
    pub fn for_hello(
        &self,
        hello: &ClientHello<'_>,
        local: Option<IpAddr>,
    ) -> Option<&Arc<ServerConfig>> {
        match hello.server_name() {
            Some(name) => self.table.for_name(name).map(|_| &self.named),
            None => self.table.for_address(local).map(|_| self.for_address(local)),
        }
    }
}

fn build(resolver: Resolver, tickets: &Arc<Tickets>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets.clone();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Every ticket costs encryption and a quarter kilobyte. A browser comes back on one
    // connection, so one is enough.
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Of the suites that both sides know the client's favourite is taken: it knows whether its
/// processor has AES instructions. The same holds for the groups, so that the order here is a
/// statement of intent; that a client which offers the post-quantum group gets it is tested.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}
