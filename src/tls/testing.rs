//! What the tests of this module share: a PKI in memory, a configuration, a handshake over buffers.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, NamedGroup,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::config::{
    AccessLog, Acme, Admin, Config, KeyType, Limits, Listen, Log, LogFormat, Redirect, Server,
    Site, TlsSource,
};
use crate::proxy::headers::host::HostPattern;

pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn hosts(names: &[&str]) -> Vec<HostPattern> {
    names.iter().map(|name| HostPattern::parse(name).unwrap()).collect()
}

/// A public authority for tests.
pub(super) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pub(super) root: CertificateDer<'static>,
}

/// A chain and its key, in PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Pki {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self { root: root.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(super) fn pair(&self, names: &[&str]) -> Pair {
        let now = SystemTime::now();
        self.pair_valid(names, &KeyPair::generate().unwrap(), now - DAY, now + 30 * DAY)
    }

    pub(super) fn pair_valid(
        &self,
        names: &[&str],
        key: &KeyPair,
        not_before: SystemTime,
        not_after: SystemTime,
    ) -> Pair {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let since = |moment: SystemTime| {
            let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        params.not_before = since(not_before);
        params.not_after = since(not_after);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let cert = params.signed_by(key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub(super) fn certified(&self, names: &[&str]) -> Arc<CertifiedKey> {
        let pair = self.pair(names);
        let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap())
    }
}

/// A client that trusts `root` and speaks `versions`.
pub(super) fn client(
    root: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A client that believes anybody, as one does who looks for a proof in the certificate.
pub(super) fn anybody() -> ClientConfig {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a client learned from a handshake.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) version: ProtocolVersion,
    pub(super) group: Option<NamedGroup>,
    pub(super) kind: HandshakeKind,
    pub(super) alpn: Option<Vec<u8>>,
}

/// Shakes hands in memory. An error is the client's: what a user would see.
pub(super) fn meet(
    client: &Arc<ClientConfig>,
    name: &str,
    server: &Arc<ServerConfig>,
) -> Result<Met, Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut reader = &wire[..];
        while !reader.is_empty() {
            server.read_tls(&mut reader).unwrap();
            // A refusal is on the wire to the client, who is asked about it.
            let _ = server.process_new_packets();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut reader = &wire[..];
        while !reader.is_empty() {
            client.read_tls(&mut reader).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking());
    Ok(Met {
        leaf: client.peer_certificates().unwrap()[0].clone().into_owned(),
        version: client.protocol_version().unwrap(),
        group: client.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name),
        kind: client.handshake_kind().unwrap(),
        alpn: client.alpn_protocol().map(ToOwned::to_owned),
    })
}

pub(crate) fn site(names: &[&str], tls: TlsSource) -> Site {
    Site {
        hosts: hosts(names),
        tls,
        key_type: KeyType::P256,
        policy: crate::config::TlsPolicy::default(),
        hsts: crate::config::Hsts::Off,
        redirect: Redirect::Https,
        routes: Vec::new(),
    }
}

pub(crate) fn config(storage: &Path, sites: Vec<Site>) -> Config {
    let time = Duration::from_secs(10);
    Config {
        server: Server {
            http: Vec::new(),
            https: vec![Listen::Any(443)],
            workers: None,
            user: None,
            sandbox: crate::config::Sandbox::On,
            grace: time,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            via: false,
            key_log: false,
            ocsp: true,
        },
        limits: Limits {
            request_header_timeout: time,
            request_body_idle_timeout: time,
            request_body_rate: None,
            idle_timeout: time,
            tls_handshake_timeout: time,
            upstream_timeout: time,
            hold: time,
            header_size: 1,
            header_count: 1,
            target_size: 1,
            body_size: None,
            connections: 1,
            connections_per_client: 1,
        },
        log: Log {
            access: AccessLog::Off,
            format: LogFormat::Combined,
            level: tracing::level_filters::LevelFilter::INFO,
            mask: Vec::new(),
        },
        admin: Admin { socket: "control.sock".into(), metrics: None },
        acme: Acme { storage: storage.to_owned(), ..Config::defaults().acme },
        sites,
    }
}
