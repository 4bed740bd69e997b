//! Certificates for a test run, from an authority that lives in memory.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

/// A certificate and its key as PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The chain: the certificate, then the authority's.
    pub cert: String,
    /// The key, PKCS#8.
    pub key: String,
}

/// Issues a certificate for `names`.
pub fn issue(names: &[&str]) -> Pair {
    issue_for_key(names, &KeyPair::generate().unwrap())
}

/// The same, of a certificate whose time is over.
pub fn expired(names: &[&str]) -> Pair {
    issue_until(names, &KeyPair::generate().unwrap(), 2025)
}

/// Issues a certificate for `names` and this key.
pub fn issue_for_key(names: &[&str], key: &KeyPair) -> Pair {
    issue_until(names, key, 2035)
}

/// Issues a certificate for `names` that is valid from the one moment to the other.
pub fn issue_between(names: &[&str], (from, until): (SystemTime, SystemTime)) -> Pair {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = from.into();
    params.not_after = until.into();
    let certificate = params.signed_by(&key, root()).unwrap();
    Pair { cert: certificate.pem() + &root().pem(), key: key.serialize_pem() }
}

fn issue_until(names: &[&str], key: &KeyPair, year: i32) -> Pair {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names[0].clone());
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(key, root()).unwrap();
    Pair { cert: certificate.pem() + &root().pem(), key: key.serialize_pem() }
}

/// Issues a certificate for `names` as the authorities of the web do: for the next 90 days, and for
/// servers only.
pub fn issue_for_the_web(names: &[&str]) -> Pair {
    issue_with(names, Vec::new())
}

/// The same, naming a responder at this port of 127.0.0.1 (RFC 5280 §4.2.2.1).
pub fn issue_asking(names: &[&str], port: u16) -> Pair {
    issue_with(names, vec![responder(port)])
}

/// The same, telling clients to refuse it without that responder's word (RFC 7633).
pub fn issue_insisting(names: &[&str], port: u16) -> Pair {
    let feature = vec![0x30, 3, 2, 1, 5];
    let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
    issue_with(names, vec![responder(port), CustomExtension::from_oid_content(oid, feature)])
}

fn responder(port: u16) -> CustomExtension {
    let url = format!("http://127.0.0.1:{port}/ocsp").into_bytes();
    let element = |tag: u8, content: Vec<u8>| {
        [vec![tag, u8::try_from(content.len()).unwrap()], content].concat()
    };
    let oid = element(6, vec![0x2b, 6, 1, 5, 5, 7, 0x30, 1]);
    let access = element(0x30, [oid, element(0x86, url)].concat());
    let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
    CustomExtension::from_oid_content(oid, element(0x30, access))
}

fn issue_with(names: &[&str], extensions: Vec<CustomExtension>) -> Pair {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names[0].clone());
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + Duration::from_secs(90 * 86_400)).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = extensions;
    let certificate = params.signed_by(&key, root()).unwrap();
    Pair { cert: certificate.pem() + &root().pem(), key: key.serialize_pem() }
}

/// The authority's own certificate as PEM.
pub fn root_pem() -> String {
    root().pem()
}

/// The authority's key as PEM.
pub fn root_key_pem() -> String {
    root().key().serialize_pem()
}

/// The serial number of a certificate, in upper case hexadecimal digits.
pub fn serial(pair: &Pair) -> String {
    let der = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let serial = parsed.raw_serial().iter().skip_while(|byte| **byte == 0);
    serial.map(|byte| format!("{byte:02X}")).collect()
}

/// A client's settings that trust the test authority and offer these protocols.
pub fn trusting(alpn: &[&str]) -> Arc<ClientConfig> {
    trusting_pem(&root_pem(), alpn, rustls::ALL_VERSIONS)
}

/// A client's settings that trust the authority in `pem`.
pub fn trusting_pem(
    pem: &str,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client's settings that trust the test authority and offer these suites in this order.
pub fn trusting_with_suites(suites: &[SupportedCipherSuite]) -> Arc<ClientConfig> {
    let root = CertificateDer::from_pem_slice(root_pem().as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = CryptoProvider {
        cipher_suites: suites.to_vec(),
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let versions: Vec<_> = [&rustls::version::TLS13, &rustls::version::TLS12]
        .into_iter()
        .filter(|version| suites.iter().any(|suite| *suite.version() == **version))
        .collect();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A server's settings with this pair.
pub fn serving(pair: &Pair) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    Arc::new(config.unwrap())
}

fn root() -> &'static CertifiedIssuer<'static, KeyPair> {
    static ROOT: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
    ROOT.get_or_init(|| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Test Root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    })
}
