//! A TLS client of our own, for what load generators do not do: handshakes and nothing else, and
//! connections that stay.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Result;

/// The name of the only site.
const HOST: &str = "localhost";

/// No step on loopback takes longer unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections opened at a time where only their number matters.
const LANES: usize = 32;

/// Speaks TLS 1.3 with X25519 and AES-128-GCM only, resumes nothing and believes every
/// certificate: checking it would slow the client and tell nothing about the server.
pub(crate) struct Client {
    connector: TlsConnector,
}

impl Client {
    pub(crate) fn new() -> Result<Client> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Client { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// One connection, one request.
    ///
    /// # Errors
    ///
    /// Fails unless the answer is a 200.
    pub(crate) async fn get(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = self.connect(address).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}:{}\r\n\r\n", address.port());
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        loop {
            if timeout(PATIENCE, stream.read_buf(&mut answer)).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(complete) = complete(&answer)? {
                return complete.then_some(stream).ok_or_else(|| {
                    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
                    io::Error::other(format!("answered {}", String::from_utf8_lossy(line)))
                });
            }
        }
    }

    /// Full handshakes, `lanes` at a time, for as long as `time`; returns how many.
    ///
    /// Each connection is ended by a close_notify and a FIN and then read to its end, so that the
    /// server has finished with it before it counts.
    pub(crate) async fn handshakes(
        &self,
        address: SocketAddr,
        lanes: usize,
        time: Duration,
    ) -> io::Result<u64> {
        let done = Cell::new(0);
        let deadline = Instant::now() + time;
        let lane = async || {
            while Instant::now() < deadline {
                let mut stream = self.connect(address).await?;
                stream.shutdown().await?;
                let mut rest = Vec::new();
                match timeout(PATIENCE, stream.read_to_end(&mut rest)).await? {
                    Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                        return Err(error);
                    }
                    _ => done.set(done.get() + 1),
                }
            }
            Ok(())
        };
        try_join_all((0..lanes).map(|_| lane())).await?;
        Ok(done.get())
    }

    /// Opens `count` connections, [`LANES`] at a time, and makes one request on each.
    pub(crate) async fn hold(
        &self,
        address: SocketAddr,
        count: usize,
    ) -> io::Result<Vec<TlsStream<TcpStream>>> {
        let mut held = Vec::with_capacity(count);
        while held.len() < count {
            let lanes = LANES.min(count - held.len());
            held.extend(try_join_all((0..lanes).map(|_| self.get(address))).await?);
        }
        Ok(held)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        timeout(PATIENCE, self.connector.connect(name, stream)).await?
    }
}

/// `None` while the answer is not whole, then whether it is a 200.
fn complete(answer: &[u8]) -> io::Result<Option<bool>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(answer).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let length = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    let whole = answer.len() - head >= length.unwrap_or(0_usize);
    Ok(whole.then_some(response.code == Some(200)))
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
