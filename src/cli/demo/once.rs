//! `portcullis demo --once`: one request through all of it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::cli::up::front::Urls;
use crate::cli::{Stop, say};
use crate::exit;

/// For each read and write: everything is on this host.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `localhost` is (RFC 6761 §6.3).
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// More than the answers of the sample application have.
const LONGEST: u64 = 16 << 10;

/// Asks the application through the proxy, and the plain listener for its redirect; says what came
/// and returns the exit code.
pub(super) fn check(urls: &Urls, root: &Path) -> u8 {
    let whole = urls.https.first().map_or(Ok(()), |url| {
        let answer = ask(url, Some(root))?;
        expect(url, &answer, "HTTP/1.1 200 ")?;
        expect(url, answer.rsplit("\r\n\r\n").next().unwrap_or_default(), "ok\n")
    });
    let status = if urls.https.is_empty() { "HTTP/1.1 200 " } else { "HTTP/1.1 308 " };
    let plain = urls.http.first().map_or(Ok(()), |url| expect(url, &ask(url, None)?, status));
    match whole.and(plain) {
        Ok(()) => exit::OK,
        Err(error) => Stop { code: exit::FAILED, text: error.to_string() }.tell(),
    }
}

/// Asks this very process to stop, as an operator would.
pub(super) fn stop() {
    let us = rustix::process::getpid();
    let _ = rustix::process::kill_process(us, rustix::process::Signal::TERM);
}

/// What is wrong with an answer.
struct Wrong {
    url: String,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/healthz: {}", self.url, self.what)
    }
}

fn expect(url: &str, answer: &str, start: &str) -> Result<(), Wrong> {
    let line = answer.lines().next().unwrap_or_default();
    if !answer.starts_with(start) {
        let what = format!("expected {start:?}, got {line:?}");
        return Err(Wrong { url: url.to_owned(), what });
    }
    say(&format!("{url}/healthz: {line}"));
    Ok(())
}

fn ask(url: &str, root: Option<&Path>) -> Result<String, Wrong> {
    fetch(url, root).map_err(|error| Wrong { url: url.to_owned(), what: error.to_string() })
}

/// The answer to `GET /healthz`, head and body.
fn fetch(url: &str, root: Option<&Path>) -> io::Result<String> {
    let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(io::Error::other)?),
        None => (authority, if root.is_some() { 443 } else { 80 }),
    };
    let stream = connect(host, port)?;
    let question =
        format!("GET /healthz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    match root {
        None => exchange(stream, &question),
        Some(root) => exchange(encrypt(stream, host, root)?, &question),
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    // The sandbox looks up names only where an application has one.
    let addresses: Vec<SocketAddr> = match host {
        "localhost" => LOOPBACK.iter().map(|ip| (*ip, port).into()).collect(),
        _ => (host, port).to_socket_addrs()?.collect(),
    };
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// TLS that trusts the local authority and nobody else.
fn encrypt(
    stream: TcpStream,
    host: &str,
    root: &Path,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(session, stream))
}

fn exchange(mut stream: impl Read + Write, question: &str) -> io::Result<String> {
    stream.write_all(question.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    // A peer that ends TLS without its goodbye is refused by rustls here, as it should be.
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    const HEALTHY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

    /// Answers one client; returns its URL, and its certificate where it speaks TLS.
    fn server(name: Option<&str>, answer: &'static str) -> (String, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Some(name) = name else {
            thread::spawn(move || reply(&mut listener.accept().unwrap().0, answer));
            return (format!("http://localhost:{port}"), None);
        };
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        thread::spawn(move || {
            let session = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(session, listener.accept().unwrap().0);
            reply(&mut stream, answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        (format!("https://localhost:{port}"), Some(made.cert.pem()))
    }

    fn reply(stream: &mut (impl Read + Write), answer: &str) {
        let mut piece = [0; 1024];
        if stream.read(&mut piece).is_ok_and(|count| piece[..count].ends_with(b"\r\n\r\n")) {
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }

    /// The verdict on an HTTPS and a plain listener that answer so.
    fn verdict(name: &str, https: &'static str, http: &'static str) -> u8 {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root.pem");
        let (https, certificate) = server(Some(name), https);
        std::fs::write(&root, certificate.unwrap()).unwrap();
        let (http, _) = server(None, http);
        check(&Urls { https: vec![https], http: vec![http] }, &root)
    }

    #[test]
    fn a_whole_answer_and_a_redirect_are_a_success() {
        assert_eq!(verdict("localhost", HEALTHY, "HTTP/1.1 308 Permanent Redirect\r\n\r\n"), 0);
    }

    #[test]
    fn every_other_answer_is_a_failure() {
        let redirect = "HTTP/1.1 308 Permanent Redirect\r\n\r\n";
        let bad = "HTTP/1.1 502 Bad Gateway\r\n\r\n";
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(verdict("localhost", bad, redirect), exit::FAILED);
        assert_eq!(verdict("localhost", empty, redirect), exit::FAILED);
        assert_eq!(verdict("localhost", HEALTHY, HEALTHY), exit::FAILED);
        assert_eq!(verdict("other.test", HEALTHY, redirect), exit::FAILED);
    }
}
