//! TLS towards clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::{ServerConfig, version};

use super::acme::Demand;
use super::certificates::Certificates;
use super::policy::Policy;
use super::store::{Resolver, Table};
use super::suites::Order;
use super::tickets::{BoundTickets, Tickets};

/// The rules of TLS under the first policy of a configuration, for clients that name a server, or
/// that name none and whose way here is unknown. See [`ServerConfigs`] for the rest.
///
/// # Errors
/// As [`ServerConfigs::new`].
pub fn server_config(
    certificates: &Certificates,
    tickets: &Arc<Tickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let resolver = Resolver::new(certificates.table(), None);
    build(resolver, certificates, &Policy::plain(), Order::AesFirst, tickets)
}

/// The rules of TLS, one set for each policy, with variants for clients that reach an IP address
/// that is itself the host of a site: they name no server, so the address tells which certificate
/// to show.
///
/// TLS 1.3 and 1.2 with forward secrecy and authenticated encryption only; post-quantum key
/// exchange first; HTTP/2 and HTTP/1.1; sessions resumed by ticket alone; no early data, because
/// what it carries can be replayed (RFC 8446 §8). A site may narrow that down, and ask for
/// certificates of clients; which rules hold is decided by the name in the ClientHello, by the same
/// table as the certificate.
#[derive(Debug)]
pub struct ServerConfigs {
    table: Arc<Table>,
    by_policy: Vec<Ruled>,
    needs_address: bool,
    has_on_demand: bool,
}

/// The rules under one policy.
#[derive(Debug)]
struct Ruled {
    policy: Arc<Policy>,
    aes_first: Variants,
    chacha_first: Variants,
}

/// The rules under one policy with suites in one order.
#[derive(Debug)]
struct Variants {
    named: Arc<ServerConfig>,
    by_address: HashMap<IpAddr, Arc<ServerConfig>>,
}

impl ServerConfigs {
    /// Called once per worker, so that workers share nothing but tickets and certificates.
    ///
    /// # Errors
    /// When the cryptography was built without what is asked for: never in a build that passes its
    /// tests.
    pub fn new(certificates: &Certificates, tickets: &Arc<Tickets>) -> Result<Self, rustls::Error> {
        let table = certificates.table();
        let variants = |policy: &Arc<Policy>, order: Order| {
            let of =
                |local| build(Resolver::new(table, local), certificates, policy, order, tickets);
            let variant = |local| Ok((local, of(Some(local))?));
            Ok::<_, rustls::Error>(Variants {
                named: of(None)?,
                by_address: table.addresses().map(variant).collect::<Result<_, rustls::Error>>()?,
            })
        };
        let ruled = |policy: &Arc<Policy>| {
            Ok(Ruled {
                policy: Arc::clone(policy),
                aes_first: variants(policy, Order::AesFirst)?,
                chacha_first: variants(policy, Order::ChaChaFirst)?,
            })
        };
        let by_policy = certificates.policies().iter().map(ruled);
        Ok(Self {
            by_policy: by_policy.collect::<Result<_, rustls::Error>>()?,
            has_on_demand: table.has_on_demand(),
            needs_address: table.addresses().next().is_some(),
            table: table.clone(),
        })
    }

    /// Whether [`ServerConfigs::for_hello`] depends on the address at all: asking the system for
    /// it can be spared otherwise.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        self.needs_address
    }

    /// Where the certificate for a name is got when a client asks for it, and may not be there yet.
    #[must_use]
    pub fn on_demand(&self, name: &str) -> Option<&Arc<Demand>> {
        // Nobody else is to pay for it.
        if self.has_on_demand { self.table.on_demand(name) } else { None }
    }

    /// The rules for a client whose ClientHello is already read, and what they came from; `None`
    /// when there is no certificate for it, to be answered with
    /// [`super::store::UNRECOGNIZED_NAME`].
    #[must_use]
    pub fn for_hello(
        &self,
        hello: &ClientHello<'_>,
        local: Option<IpAddr>,
    ) -> Option<(&Arc<ServerConfig>, &Arc<Policy>)> {
        self.for_client(hello.server_name(), Order::of(hello.cipher_suites()), local)
    }

    fn for_client(
        &self,
        name: Option<&str>,
        order: Order,
        local: Option<IpAddr>,
    ) -> Option<(&Arc<ServerConfig>, &Arc<Policy>)> {
        let policy = match name {
            Some(name) => self.table.policy_for_name(name)?,
            None => self.table.policy_for_address(local)?,
        };
        let Ruled { policy, aes_first, chacha_first } = self.by_policy.get(policy)?;
        let Variants { named, by_address } = match order {
            Order::AesFirst => aes_first,
            Order::ChaChaFirst => chacha_first,
        };
        let variant = local.filter(|_| name.is_none());
        let variant = variant.and_then(|local| by_address.get(&local.to_canonical()));
        Some((variant.unwrap_or(named), policy))
    }
}

fn build(
    resolver: Resolver,
    certificates: &Certificates,
    policy: &Policy,
    order: Order,
    tickets: &Arc<Tickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions: &[_] = match policy.rules.only_tls13 {
        true => &[&version::TLS13],
        false => &[&version::TLS13, &version::TLS12],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(order.provider()))
        .with_protocol_versions(versions)?;
    let builder = match &policy.verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    let spoken = [(policy.rules.http2, &b"h2"[..]), (policy.rules.http1, b"http/1.1")];
    let spoken = spoken.into_iter().filter(|(is_spoken, _)| *is_spoken);
    config.alpn_protocols = spoken.map(|(_, name)| name.to_vec()).collect();
    config.ignore_client_order = true;
    config.ticketer = BoundTickets::new(tickets, policy.tag);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(key_log) = certificates.key_log() {
        config.key_log = Arc::clone(key_log);
    }
    // Every ticket costs encryption and a quarter kilobyte. A browser comes back on one
    // connection, so one is enough.
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rustls::client::Resumption;
    use rustls::pki_types::CertificateDer;
    use rustls::server::Acceptor;
    use rustls::version::{TLS12, TLS13};
    use rustls::{AlertDescription, Error, HandshakeKind, NamedGroup, ProtocolVersion};

    use super::*;
    use crate::config::TlsSource;
    use crate::tls::facts::Facts;
    use crate::tls::local_ca::LocalAuthority;
    use crate::tls::store::UNRECOGNIZED_NAME;
    use crate::tls::testing::{client, config, meet, site};

    /// Sites with local certificates, and the root that signed them.
    struct Served {
        certificates: Certificates,
        root: CertificateDer<'static>,
        _storage: tempfile::TempDir,
    }

    fn serve(sites: &[&[&str]]) -> Served {
        use rustls::pki_types::pem::PemObject;
        let storage = tempfile::tempdir().unwrap();
        let sites = sites.iter().map(|names| site(names, TlsSource::Local)).collect();
        let now = SystemTime::now();
        let certificates = Certificates::load(&config(storage.path(), sites), now).unwrap();
        let authority = LocalAuthority::open(storage.path(), now).unwrap().unwrap();
        let root = CertificateDer::from_pem_slice(authority.root_pem().as_bytes()).unwrap();
        Served { certificates, root, _storage: storage }
    }

    impl Served {
        fn config(&self) -> Arc<ServerConfig> {
            server_config(&self.certificates, &Tickets::new().unwrap()).unwrap()
        }

        fn client(&self) -> Arc<rustls::ClientConfig> {
            Arc::new(client(&self.root, &[&TLS13, &TLS12]))
        }

        /// The names in the certificate that a client is shown who asks for `name`.
        fn shown(&self, name: &str) -> Result<Vec<String>, Error> {
            let met = meet(&self.client(), name, &self.config())?;
            Ok(Facts::of(&met.leaf).unwrap().names)
        }
    }

    #[test]
    fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
        let served = serve(&[&["a.test", "b.test"], &["*.c.test"]]);
        assert_eq!(served.shown("a.test").unwrap(), ["a.test", "b.test"]);
        assert_eq!(served.shown("B.TEST").unwrap(), ["a.test", "b.test"]);
        assert_eq!(served.shown("www.c.test").unwrap(), ["*.c.test"]);
    }

    /// Every client refuses the certificate `*.localhost`, so one is signed for the name itself.
    #[test]
    fn a_name_under_a_wildcard_over_one_label_has_a_certificate_of_its_own() {
        let served = serve(&[&["*.localhost"], &["api.localhost"]]);
        assert_eq!(served.shown("app.localhost").unwrap(), ["app.localhost"]);
        assert_eq!(served.shown("api.localhost").unwrap(), ["api.localhost"]);
        served.shown("deep.app.localhost").unwrap_err();
    }

    #[test]
    fn a_stranger_name_gets_an_alert_and_nobodys_certificate() {
        let served = serve(&[&["a.test"]]);
        for name in ["stranger.test", "www.a.test", "192.0.2.1"] {
            let refused = served.shown(name).unwrap_err();
            assert_eq!(refused, Error::AlertReceived(AlertDescription::AccessDenied), "{name}");
        }
    }

    #[test]
    fn the_alert_that_we_can_send_ourselves_is_unrecognized_name() {
        let served = serve(&[&["a.test"]]);
        let name = "stranger.test".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(served.client(), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &hello[..]).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        let configs = ServerConfigs::new(&served.certificates, &Tickets::new().unwrap()).unwrap();
        assert!(configs.for_hello(&accepted.client_hello(), None).is_none());
        client.read_tls(&mut &UNRECOGNIZED_NAME[..]).unwrap();
        let alert = client.process_new_packets().unwrap_err();
        assert_eq!(alert, Error::AlertReceived(AlertDescription::UnrecognisedName));
    }

    #[test]
    fn a_client_that_connects_by_address_is_shown_that_address() {
        let served = serve(&[&["192.0.2.1"], &["192.0.2.2", "2001:db8::2"]]);
        let configs = ServerConfigs::new(&served.certificates, &Tickets::new().unwrap()).unwrap();
        assert!(configs.needs_address());
        for address in ["192.0.2.1", "192.0.2.2", "2001:db8::2"] {
            let (server, _) =
                configs.for_client(None, Order::AesFirst, address.parse().ok()).unwrap();
            meet(&served.client(), address, server).unwrap();
        }
        assert!(configs.for_client(None, Order::AesFirst, "10.0.0.1".parse().ok()).is_none());
        let plain = serve(&[&["a.test"]]);
        assert!(
            !ServerConfigs::new(&plain.certificates, &Tickets::new().unwrap())
                .unwrap()
                .needs_address()
        );
    }

    #[test]
    fn the_site_for_any_name_answers_strangers_and_clients_without_a_name() {
        let served = serve(&[&["a.test"], &["*", "fallback.test"]]);
        let mut nameless = client(&served.root, &[&TLS13]);
        nameless.enable_sni = false;
        let met = meet(&Arc::new(nameless), "fallback.test", &served.config()).unwrap();
        assert_eq!(Facts::of(&met.leaf).unwrap().names, ["fallback.test"]);
    }

    #[test]
    fn key_exchange_is_post_quantum_and_http_2_is_preferred() {
        let served = serve(&[&["a.test"]]);
        let mut client = client(&served.root, &[&TLS13, &TLS12]);
        client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let met = meet(&Arc::new(client), "a.test", &served.config()).unwrap();
        assert_eq!(met.group, Some(NamedGroup::X25519MLKEM768));
        assert_eq!(met.version, ProtocolVersion::TLSv1_3);
        assert_eq!(met.alpn.as_deref(), Some(&b"h2"[..]));
        assert_eq!(served.config().crypto_provider().kx_groups.len(), 4);
    }

    #[test]
    fn a_client_that_speaks_neither_http_2_nor_http_1_1_is_refused() {
        let served = serve(&[&["a.test"]]);
        let mut client = client(&served.root, &[&TLS13]);
        client.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let refused = meet(&Arc::new(client), "a.test", &served.config()).unwrap_err();
        assert_eq!(refused, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    }

    #[test]
    fn tls_1_2_works() {
        let served = serve(&[&["a.test"]]);
        let client = Arc::new(client(&served.root, &[&TLS12]));
        let met = meet(&client, "a.test", &served.config()).unwrap();
        assert_eq!(met.version, ProtocolVersion::TLSv1_2);
    }

    #[test]
    fn a_session_is_resumed_by_another_worker_that_shares_the_tickets() {
        let served = serve(&[&["a.test"]]);
        let tickets = Tickets::new().unwrap();
        for versions in [[&TLS13], [&TLS12]] {
            let one = server_config(&served.certificates, &tickets).unwrap();
            let other = server_config(&served.certificates, &tickets).unwrap();
            let client = Arc::new(client(&served.root, &versions));
            let first = meet(&client, "a.test", &one).unwrap();
            assert_eq!(first.kind, HandshakeKind::Full);
            let second = meet(&client, "a.test", &other).unwrap();
            assert_eq!(second.kind, HandshakeKind::Resumed);
        }
    }

    #[test]
    fn a_session_is_not_resumed_with_other_tickets_or_on_another_site() {
        let served = serve(&[&["a.test"], &["b.test"]]);
        let tickets = Tickets::new().unwrap();
        let server = server_config(&served.certificates, &tickets).unwrap();
        let client = served.client();
        meet(&client, "a.test", &server).unwrap();
        assert_eq!(meet(&client, "a.test", &served.config()).unwrap().kind, HandshakeKind::Full);
        meet(&client, "a.test", &server).unwrap();
        assert_eq!(meet(&client, "b.test", &server).unwrap().kind, HandshakeKind::Full);
    }

    #[test]
    fn no_early_data_is_accepted() {
        let served = serve(&[&["a.test"]]);
        assert_eq!(served.config().max_early_data_size, 0);
        let mut eager = client(&served.root, &[&TLS13]);
        eager.enable_early_data = true;
        eager.resumption = Resumption::in_memory_sessions(4);
        let (eager, server) = (Arc::new(eager), served.config());
        meet(&eager, "a.test", &server).unwrap();
        let name = "a.test".try_into().unwrap();
        let mut again = rustls::ClientConnection::new(eager, name).unwrap();
        assert!(again.early_data().is_none(), "the ticket must not allow early data");
    }

    #[test]
    fn a_certificate_with_an_rsa_key_serves() {
        let pki = crate::tls::testing::Pki::new();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let now = SystemTime::now();
        let day = crate::tls::testing::DAY;
        let pair = pki.pair_valid(&["a.test"], &key, now - day, now + day);
        let directory = tempfile::tempdir().unwrap();
        let (cert, path) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        std::fs::write(&cert, pair.cert).unwrap();
        std::fs::write(&path, pair.key).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        let sites = vec![site(&["a.test"], TlsSource::Files { cert, key: path })];
        let certificates = Certificates::load(&config(directory.path(), sites), now).unwrap();
        let server = server_config(&certificates, &Tickets::new().unwrap()).unwrap();
        for version in [&TLS13, &TLS12] {
            meet(&Arc::new(client(&pki.root, &[version])), "a.test", &server).unwrap();
        }
    }
}
