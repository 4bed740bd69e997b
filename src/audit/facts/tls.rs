//! What a listener answers to TLS: the version, and what its certificate says.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, SignatureScheme, Stream,
};

use super::ask::Call;
use super::http::{self, HttpAnswer};
use super::old_tls;
use crate::proxy::headers::host::HostPattern;
use crate::tls::facts::Facts as Certificate;

/// Ports on which TLS begins at once, and is asked for its certificate.
pub(super) const PORTS: &[u16] = &[443, 465, 636, 853, 990, 993, 995, 8443];

/// Names asked for at most, one after the other within one patience.
const NAMES: usize = 4;

/// What a listener answered to TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsAnswer {
    /// The name that was asked for; empty for none.
    pub name: String,
    /// The version that was agreed on, such as `TLS 1.3`; `None` when no handshake came about.
    pub version: Option<&'static str>,
    /// Whether TLS 1.0 or 1.1 is answered too (RFC 8996).
    pub is_old: bool,
    /// What the certificate says.
    pub certificate: Option<Shown>,
    /// What was answered to `GET /` inside.
    pub http: Option<HttpAnswer>,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its names.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// Whether it is for the name that was asked for; yes where none was.
    pub covers: bool,
    /// Whether it issued itself: no authority stands behind it, and none renews it.
    pub is_self_issued: bool,
}

/// Shakes hands for each of `names`, or without a name where none is known. The worst answer is
/// returned: a certificate for another name, else the one that ends first. `None` when nobody
/// speaks TLS there.
pub(super) fn ask(address: SocketAddr, names: &[String], end: Instant) -> Option<TlsAnswer> {
    let nameless = [String::new(), "localhost".to_owned()];
    let names = if names.is_empty() { &nameless[..] } else { names };
    let old = old_tls::answers(address, names.first().map_or("", String::as_str), end);
    let is_web = [443, 8443].contains(&address.port());
    let mut found: Option<TlsAnswer> = None;
    for name in names.iter().take(NAMES) {
        let Some(answer) = shake(address, name, is_web, end) else { continue };
        let rank = |answer: &TlsAnswer| {
            answer.certificate.as_ref().map(|shown| (shown.covers, shown.not_after))
        };
        if found.as_ref().is_none_or(|other| rank(&answer) < rank(other)) {
            found = Some(answer);
        }
    }
    if old == old_tls::Answer::Other {
        return found;
    }
    let found = found.unwrap_or_default();
    Some(TlsAnswer { is_old: old == old_tls::Answer::Old, ..found })
}

fn shake(address: SocketAddr, name: &str, is_web: bool, end: Instant) -> Option<TlsAnswer> {
    let recorder = Arc::new(Recorder::default());
    let server = match name {
        // An address is not named in the handshake (RFC 6066 §3).
        "" => ServerName::IpAddress(address.ip().into()),
        name => ServerName::try_from(name.to_owned()).ok()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Recorder>::clone(&recorder))
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), server).ok()?;
    let mut call = Call::to(address, end).ok()?;
    while connection.is_handshaking() {
        connection.complete_io(&mut call).ok()?;
    }
    let version = match connection.protocol_version()? {
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        _ => "TLS 1.2",
    };
    let http =
        is_web.then(|| exchange(&mut Stream::new(&mut connection, &mut call), name)).flatten();
    let certificate = recorder.shown(name);
    Some(TlsAnswer {
        name: name.to_owned(),
        version: Some(version),
        is_old: false,
        certificate,
        http,
    })
}

fn exchange(stream: &mut (impl Read + Write), name: &str) -> Option<HttpAnswer> {
    http::exchange(stream, if name.is_empty() { "localhost" } else { name })
}

/// Takes every certificate and remembers it. Nothing that comes over such a connection is trusted:
/// it is the certificate itself that is looked at.
#[derive(Debug, Default)]
struct Recorder {
    leaf: Mutex<Option<CertificateDer<'static>>>,
}

impl Recorder {
    fn shown(&self, name: &str) -> Option<Shown> {
        let leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let said = Certificate::of(&leaf).ok()?;
        let covers = HostPattern::parse(name).map_or(true, |host| said.covers(&host));
        let Certificate { names, issuer, not_before, not_after } = said;
        let is_self_issued = x509_parser::parse_x509_certificate(&leaf)
            .is_ok_and(|(_, leaf)| leaf.subject().as_raw() == leaf.issuer().as_raw());
        Some(Shown { names, issuer, not_before, not_after, covers, is_self_issued })
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut kept = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// A TLS server for this many connections, with a certificate made for the occasion.
    fn server(name: &str, connections: usize) -> (SocketAddr, thread::JoinHandle<()>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = thread::spawn(move || {
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().unwrap();
                let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
                let _ = Stream::new(&mut connection, &mut stream).write_all(b"");
                let _ = connection.complete_io(&mut stream);
            }
        });
        (address, serving)
    }

    #[test]
    fn a_certificate_is_recorded_without_being_believed() {
        let (address, serving) = server("app.test", 3);
        let end = Instant::now() + Duration::from_secs(10);
        let names = ["app.test".to_owned(), "other.test".to_owned()];
        let answer = shake(address, "app.test", false, end).unwrap();
        assert_eq!(answer.version, Some("TLS 1.3"));
        let shown = answer.certificate.unwrap();
        assert_eq!((shown.names, shown.covers), (vec!["app.test".to_owned()], true));
        let other = shake(address, &names[1], false, end).unwrap();
        assert!(!other.certificate.unwrap().covers);
        assert_eq!(shake(address, "", false, end).unwrap().name, "");
        serving.join().unwrap();
    }

    #[test]
    fn a_modern_server_refuses_the_old_versions() {
        let (address, serving) = server("app.test", 2);
        let end = Instant::now() + Duration::from_secs(10);
        let answer = ask(address, &["app.test".to_owned()], end).unwrap();
        assert!(!answer.is_old);
        assert_eq!(answer.name, "app.test");
        serving.join().unwrap();
    }

    #[test]
    fn who_speaks_no_tls_has_no_answer() {
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = plain.local_addr().unwrap();
        let answering = thread::spawn(move || {
            for mut stream in plain.incoming().take(2).flatten() {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        let end = Instant::now() + Duration::from_secs(10);
        assert_eq!(ask(address, &["a.test".to_owned()], end), None);
        answering.join().unwrap();
    }
}
