//! HTTP towards authorities: a connection for each request, one deadline over the whole of it, and
//! a limit on what is answered. Redirects are not followed (RFC 8555 §6.1 knows none).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::names::host_and_port;

/// For a connection, TLS counted: an authority that answers no packet is not waited for longer.
const CONNECT: Duration = Duration::from_secs(10);

/// For a whole request. Authorities take seconds to sign.
const REQUEST: Duration = Duration::from_secs(60);

/// The longest answer: a chain has a few KiB, a directory one.
const LARGEST: usize = 256 << 10;

const USER_AGENT: &str =
    concat!("portcullis/", env!("CARGO_PKG_VERSION"), " (instant-acme; RFC 8555)");

/// The way to one authority.
#[derive(Clone, Debug)]
pub struct Transport {
    tls: Arc<ClientConfig>,
}

impl Transport {
    /// Trusting whom `tls` trusts.
    #[must_use]
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }

    /// Sends a request to an https URL and returns the whole answer. One that says that the server
    /// is not well, or is nothing that an ACME server says, is an error.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let url = request.uri().to_string();
        let fault = match timeout(REQUEST, self.exchange(request)).await {
            Ok(Ok(response)) => match judge(&response) {
                None => return Ok(response),
                Some(fault) => fault,
            },
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Slow(REQUEST),
        };
        let host = host_and_port(&url).map_or(url, |(host, port)| format!("{host}:{port}"));
        Err(TransportError { host, fault })
    }

    async fn exchange(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Fault> {
        let uri = request.uri().clone();
        let (host, port) = parts(&uri)?;
        let stream = timeout(CONNECT, self.connect(&host, port)).await;
        let stream = stream.unwrap_or(Err(Fault::Slow(CONNECT)))?;
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let authority = HeaderValue::from_str(authority).map_err(|_| Fault::Url)?;
        request.headers_mut().insert(header::HOST, authority);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        *request.uri_mut() = target.parse().map_err(|_| Fault::Url)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let talk = async {
            let response = sender.send_request(request.map(Full::new)).await.map_err(http)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LARGEST).collect().await.map_err(|error| {
                let is_large = error.is::<LengthLimitError>();
                if is_large { Fault::Large } else { Fault::Http(error.to_string()) }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::pin!(talk);
        tokio::select! {
            biased;
            result = &mut talk => return result,
            // It ends with an answer that is whole or with why there is none.
            _ = connection => {}
        }
        talk.await
    }

    /// Tries the addresses of the name in the order in which the system gives them.
    async fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Fault> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Fault::Url)?;
        let addresses = tokio::net::lookup_host((host, port)).await.map_err(Fault::Name)?;
        let mut fault = Fault::Name(io::Error::new(io::ErrorKind::NotFound, "no address"));
        for address in addresses {
            let stream = match TcpStream::connect(address).await {
                Ok(stream) => stream,
                Err(error) => {
                    fault = Fault::Connect(error);
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            return connector.connect(name, stream).await.map_err(Fault::Tls);
        }
        Err(fault)
    }
}

fn http(error: impl fmt::Display) -> Fault {
    Fault::Http(error.to_string())
}

fn parts(uri: &Uri) -> Result<(String, u16), Fault> {
    if uri.scheme_str() != Some("https") {
        return Err(Fault::Url);
    }
    host_and_port(&uri.to_string()).ok_or(Fault::Url)
}

/// What is wrong with an answer, before anybody looks for ACME in it.
fn judge(response: &Response<Bytes>) -> Option<Fault> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    // A rate limit says when; the library would lose that.
    let retry_after = retry_after(response);
    let is_limit = status == StatusCode::TOO_MANY_REQUESTS && retry_after.is_some();
    if is_problem && !is_limit && !status.is_server_error() {
        return None;
    }
    let detail = serde_json::from_slice::<serde_json::Value>(response.body()).ok();
    let detail = detail.and_then(|body| Some(body.get("detail")?.as_str()?.to_owned()));
    let detail = detail.filter(|_| is_problem).unwrap_or_default();
    Some(Fault::Status { status, detail, retry_after })
}

/// RFC 9110 §10.2.3; at most a week, so that nobody can stop us for ever.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
            SystemTime::from(at).duration_since(SystemTime::now()).ok()?
        }
    };
    Some(wait.min(Duration::from_secs(7 * 86_400)))
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes);
            let request = Request::from_parts(head, body.unwrap_or_default());
            let sent = this.send(request).await;
            let response = sent.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(response.map(Full::new)))
        })
    }
}

/// Why there is no answer of an authority.
#[derive(Debug)]
pub struct TransportError {
    host: String,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Url,
    Name(io::Error),
    Connect(io::Error),
    Tls(io::Error),
    Http(String),
    Slow(Duration),
    Large,
    Status { status: StatusCode, detail: String, retry_after: Option<Duration> },
}

impl TransportError {
    /// When the server wants to be asked again, where it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.fault {
            Fault::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it said that too much was asked of it.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self.fault, Fault::Status { status: StatusCode::TOO_MANY_REQUESTS, .. })
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match &self.fault {
            Fault::Url => write!(f, "{host} is not the place of an ACME server: no https URL"),
            Fault::Name(error) => write!(f, "the name of {host} has no address: {error}"),
            Fault::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot connect to {host}: {error}; the sandbox lets this process connect to the \
                 ports of its directories only"
            ),
            Fault::Connect(error) => write!(f, "cannot connect to {host}: {error}"),
            Fault::Tls(error) => write!(f, "{host} is not trusted: {error}{}", tls_advice(error)),
            Fault::Http(error) => write!(f, "{host} does not speak HTTP well: {error}"),
            Fault::Slow(limit) => write!(f, "{host} did not answer within {limit:?}"),
            Fault::Large => write!(f, "{host} answered more than {} KiB", LARGEST >> 10),
            Fault::Status { status, detail, .. } => {
                let blank = if detail.is_empty() { "" } else { ": " };
                let detail: String = detail.chars().filter(|c| !c.is_control()).take(300).collect();
                write!(f, "{host} answered {status}{blank}{detail}")
            }
        }
    }
}

fn tls_advice(error: &io::Error) -> &'static str {
    let rustls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match rustls {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            " (a private authority: name the PEM file of its roots as `ca`)"
        }
        _ => "",
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Name(error) | Fault::Connect(error) | Fault::Tls(error) => Some(error),
            _ => None,
        }
    }
}
