//! A well-behaved HTTP client, of version 1.1 or 2, that shows everything it gets.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::body::{Body, Measured, measure};
use super::wire_tap::Io;
use super::{LONG_PATIENCE, pki, runtime, wait, wait_within};

/// Whom to call and how; every request on a connection of its own unless [`Client::connect`] is
/// used.
#[derive(Clone)]
pub struct Client {
    to: SocketAddr,
    from: Option<IpAddr>,
    host: String,
    tls: Option<Tls>,
    http2: bool,
}

#[derive(Clone)]
struct Tls {
    name: String,
    root: Arc<String>,
}

/// One connection, open until it is dropped or the peer ends it.
pub struct Connection {
    sender: Sender,
    scheme: &'static str,
    host: String,
    task: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A request under way.
pub struct Pending {
    answer: JoinHandle<hyper::Result<Response<Incoming>>>,
    interim: Interim,
}

type Interim = Arc<Mutex<Vec<(StatusCode, HeaderMap)>>>;

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Streaming {
    /// Status and fields.
    pub head: http::response::Parts,
    body: Incoming,
    interim: Vec<(StatusCode, HeaderMap)>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The version it came in.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The fields after the body.
    pub trailers: Option<HeaderMap>,
    /// The 1xx answers before it.
    pub interim: Vec<(StatusCode, HeaderMap)>,
}

impl Client {
    /// In the clear.
    pub fn plain(to: SocketAddr, host: &str) -> Self {
        Self { to, from: None, host: host.to_owned(), tls: None, http2: false }
    }

    /// Over TLS, trusting the test authority.
    pub fn secure(to: SocketAddr, host: &str) -> Self {
        Self::plain(to, host).trusting(pki::root_pem(), host)
    }

    /// Over TLS, trusting this authority and asking for this name.
    pub fn trusting(self, root: String, name: &str) -> Self {
        Self { tls: Some(Tls { name: name.to_owned(), root: Arc::new(root) }), ..self }
    }

    /// With HTTP/2.
    pub fn http2(self) -> Self {
        Self { http2: true, ..self }
    }

    /// With this name in `Host` or `:authority`; the TLS name stays what it was.
    pub fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// From this address of the loopback network.
    pub fn from(self, from: &str) -> Self {
        Self { from: Some(from.parse().unwrap()), ..self }
    }

    /// Opens a connection.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.try_connect().unwrap()
    }

    /// Opens a connection, or says why not.
    #[track_caller]
    pub fn try_connect(&self) -> std::io::Result<Connection> {
        wait("a connection", self.open())
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.connect().get(path)
    }

    /// Sends a request and waits for the whole answer.
    #[track_caller]
    pub fn send<B: Into<Body>>(&self, request: Request<B>) -> Answer {
        self.connect().send(request)
    }

    /// Sends a request and waits for the head of the answer.
    #[track_caller]
    pub fn start<B: Into<Body>>(&self, request: Request<B>) -> Streaming {
        self.connect().start(request)
    }

    /// Opens a connection, for callers on the runtime.
    pub async fn open(&self) -> std::io::Result<Connection> {
        let stream = self.open_stream().await?;
        let io = TokioIo::new(stream);
        let (sender, task) = if self.http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .handshake(io)
                .await
                .map_err(std::io::Error::other)?;
            (Sender::Http2(sender), tokio::spawn(async { drop(connection.await) }))
        } else {
            let (sender, connection) =
                http1::Builder::new().handshake(io).await.map_err(std::io::Error::other)?;
            let connection = connection.with_upgrades();
            (Sender::Http1(sender), tokio::spawn(async { drop(connection.await) }))
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(Connection { sender, scheme, host: self.host.clone(), task })
    }

    /// Opens the byte stream below, for clients of another kind.
    pub async fn open_stream(&self) -> std::io::Result<Box<dyn Io>> {
        let socket = if self.to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(self.to).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let alpn: &[&str] = if self.http2 { &["h2"] } else { &["http/1.1"] };
        let connector = TlsConnector::from(self.settings(tls, alpn));
        let name = ServerName::try_from(tls.name.clone()).map_err(std::io::Error::other)?;
        let stream = connector.connect(name, stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default();
        assert_eq!(agreed, alpn[0].as_bytes(), "the application protocol");
        Ok(Box::new(stream))
    }

    fn settings(&self, tls: &Tls, alpn: &[&str]) -> Arc<ClientConfig> {
        pki::trusting_pem(&tls.root, alpn, rustls::ALL_VERSIONS)
    }
}

impl Connection {
    /// `GET path`.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
    }

    /// Sends a request and waits for the whole answer.
    #[track_caller]
    pub fn send<B: Into<Body>>(&mut self, request: Request<B>) -> Answer {
        self.start(request).answer()
    }

    /// Sends a request and waits for the whole answer, or says why there is none.
    #[track_caller]
    pub fn try_send<B: Into<Body>>(&mut self, request: Request<B>) -> hyper::Result<Answer> {
        let pending = self.begin(request);
        wait("an answer", async { pending.finish().await?.collect().await })
    }

    /// Sends a request and waits for the head of the answer.
    #[track_caller]
    pub fn start<B: Into<Body>>(&mut self, request: Request<B>) -> Streaming {
        self.begin(request).head()
    }

    /// Sends a request and goes on.
    pub fn begin<B: Into<Body>>(&mut self, request: Request<B>) -> Pending {
        let mut request = self.prepare(request.map(Into::into));
        let interim = Interim::default();
        let seen = interim.clone();
        hyper::ext::on_informational(&mut request, move |answer| {
            seen.lock().unwrap().push((answer.status(), answer.headers().clone()));
        });
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                let ready = sender.send_request(request);
                runtime().spawn(ready)
            }
            Sender::Http2(sender) => {
                let answer = sender.send_request(request);
                runtime().spawn(answer)
            }
        };
        Pending { answer, interim }
    }

    /// Whether a further request may be sent, once that is known.
    pub async fn takes_more(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Ends with the connection.
    pub async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }

    /// Waits until the peer has ended the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        wait("the end of the connection", &mut self.task).unwrap();
    }

    fn prepare(&self, mut request: Request<Body>) -> Request<Body> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        if matches!(self.sender, Sender::Http2(_)) {
            let uri = format!("{}://{}{target}", self.scheme, self.host);
            *request.uri_mut() = uri.parse::<Uri>().unwrap();
        } else if !request.headers().contains_key("host") {
            let host = HeaderValue::from_str(&self.host).unwrap();
            request.headers_mut().insert("host", host);
        }
        request
    }
}

impl Pending {
    /// Waits for the head.
    #[track_caller]
    pub fn head(self) -> Streaming {
        wait("the head of an answer", self.finish()).unwrap()
    }

    /// Waits for the whole answer.
    #[track_caller]
    pub fn answer(self) -> Answer {
        self.head().answer()
    }

    /// Gives the request up.
    pub fn cancel(self) {
        self.answer.abort();
    }

    /// Whether an answer or a failure has come.
    pub fn is_over(&self) -> bool {
        self.answer.is_finished()
    }

    /// The head, for callers on the runtime.
    pub async fn finish(self) -> hyper::Result<Streaming> {
        let (head, body) = self.answer.await.unwrap()?.into_parts();
        let interim = std::mem::take(&mut *self.interim.lock().unwrap());
        Ok(Streaming { head, body, interim })
    }
}

impl Streaming {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The next piece of the body; `None` at its end.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<hyper::Result<Bytes>> {
        let frame = wait("a piece of the body", self.body.frame())?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// The next piece of the body as text.
    #[track_caller]
    pub fn text(&mut self) -> String {
        let piece = self.chunk().expect("a piece, not the end").unwrap();
        String::from_utf8_lossy(&piece).into_owned()
    }

    /// Waits for the rest.
    #[track_caller]
    pub fn answer(self) -> Answer {
        wait("the whole answer", self.collect()).unwrap()
    }

    /// Reads the body to its end without keeping it.
    #[track_caller]
    pub fn measure(self) -> Measured {
        wait_within(LONG_PATIENCE, "the end of the body", measure(self.body))
    }

    /// What becomes of the connection after a protocol switch.
    pub fn into_upgrade(self) -> hyper::upgrade::OnUpgrade {
        hyper::upgrade::on(Response::from_parts(self.head, self.body))
    }

    /// The whole answer, for callers on the runtime.
    pub async fn collect(self) -> hyper::Result<Answer> {
        let whole = self.body.collect().await?;
        let trailers = whole.trailers().cloned();
        Ok(Answer {
            status: self.head.status.as_u16(),
            version: self.head.version,
            headers: self.head.headers,
            body: whole.to_bytes(),
            trailers,
            interim: self.interim,
        })
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of this field; of several, joined with `|` so that repetition shows.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        (!values.is_empty()).then(|| values.join("|"))
    }
}
