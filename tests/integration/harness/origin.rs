//! An application behind the proxy: it answers as told and remembers what it was sent.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::body::Body;
use super::wire_tap::{Heard, Io, Tapped};
use super::{pki, runtime};

/// An origin; it and its connections end with the value.
pub struct Origin {
    place: Place,
    speaks: Speaks,
    known: Arc<Known>,
    /// Holds the address while nothing listens there.
    reserved: Option<Socket>,
    task: Option<JoinHandle<()>>,
}

#[derive(Clone)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone)]
enum Speaks {
    Http1,
    Http1OverTls(TlsAcceptor),
    H2c,
}

#[derive(Default)]
struct Known {
    handlers: Mutex<HashMap<String, Handler>>,
    requests: Mutex<Vec<Received>>,
    heard: Mutex<Vec<Heard>>,
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// A request as the origin understood it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub target: String,
    /// The version it came in.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
}

impl Received {
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

impl Origin {
    /// An origin that speaks HTTP/1.1 on a loopback port.
    pub fn start() -> Self {
        Self::down().up()
    }

    /// An origin that will listen on the address it has now, once [`restart`](Self::restart) is
    /// called; until then connections to it are refused.
    pub fn down() -> Self {
        Self::on_loopback(Speaks::Http1)
    }

    /// An origin that speaks HTTP/2 without TLS.
    pub fn start_h2c() -> Self {
        Self::on_loopback(Speaks::H2c).up()
    }

    /// An origin that speaks HTTP/1.1 over TLS with a certificate of the test authority for
    /// `names`.
    pub fn start_tls(names: &[&str]) -> Self {
        let acceptor = TlsAcceptor::from(pki::serving(&pki::issue(names)));
        Self::on_loopback(Speaks::Http1OverTls(acceptor)).up()
    }

    /// An origin that speaks HTTP/1.1 on a unix socket in `folder`.
    pub fn start_on_unix(folder: &Path) -> Self {
        let place = Place::Unix(folder.join("app.sock"));
        Self::new(place, Speaks::Http1, None).up()
    }

    /// Stops listening and ends every connection; the address stays its own.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = runtime().block_on(task);
        }
        if let Place::Tcp(address) = self.place {
            self.reserved = Some(reserve(address));
        }
    }

    /// Listens again where it listened before.
    pub fn restart(&mut self) {
        let _inside = runtime().enter();
        let known = self.known.clone();
        let speaks = self.speaks.clone();
        self.task = Some(match &self.place {
            Place::Tcp(address) => {
                let socket = self.reserved.take().unwrap_or_else(|| reserve(*address));
                socket.listen(1024).unwrap();
                let listener = TcpListener::from_std(socket.into()).unwrap();
                runtime().spawn(serve(Listener::Tcp(listener), speaks, known))
            }
            Place::Unix(path) => {
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path).unwrap();
                super::proxy::open_to_proxy(path, 0o666);
                runtime().spawn(serve(Listener::Unix(listener), speaks, known))
            }
        });
    }

    /// Answers `path` with this text and 200, after the whole request has arrived.
    pub fn route(&self, path: &str, text: impl Into<Bytes>) {
        let text = text.into();
        self.handle(path, move |request| {
            let text = text.clone();
            async move {
                let _ = request.into_body().collect().await;
                Response::new(Body::from(text))
            }
        });
    }

    /// Answers `path` with whatever `answer` makes of the request; the path `*` is any other.
    pub fn handle<F, A>(&self, path: &str, answer: F)
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(answer(request)));
        self.known.handlers.lock().unwrap().insert(path.to_owned(), handler);
    }

    /// The requests so far, in the order of their heads.
    pub fn requests(&self) -> Vec<Received> {
        self.known.requests.lock().unwrap().clone()
    }

    /// The newest request.
    #[track_caller]
    pub fn last(&self) -> Received {
        self.requests().pop().expect("the origin has received no request")
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.known.heard.lock().unwrap().len()
    }

    /// The bytes that arrived on all connections, one after the other; of each the first MiB.
    pub fn heard(&self) -> Vec<u8> {
        let heard = self.known.heard.lock().unwrap();
        heard.iter().flat_map(|bytes| bytes.lock().unwrap().clone()).collect()
    }

    /// What arrived on each connection since this was asked for last, of those where something
    /// did: each begins where a request does when no request is under way at the time of asking.
    pub fn take_heard(&self) -> Vec<Vec<u8>> {
        let heard = self.known.heard.lock().unwrap();
        let taken = heard.iter().map(|bytes| std::mem::take(&mut *bytes.lock().unwrap()));
        taken.filter(|bytes| !bytes.is_empty()).collect()
    }

    /// Lets go of all requests, and of what arrived on connections so far.
    #[allow(dead_code, reason = "what lasts for hours needs it")]
    pub fn forget(&self) {
        self.known.requests.lock().unwrap().clear();
        let mut heard = self.known.heard.lock().unwrap();
        // Whoever still reads from a connection holds its bytes, too.
        heard.retain(|bytes| Arc::strong_count(bytes) > 1);
        for bytes in &*heard {
            *bytes.lock().unwrap() = Vec::new();
        }
    }

    /// All of [`heard`](Self::heard) as text.
    pub fn heard_text(&self) -> String {
        String::from_utf8_lossy(&self.heard()).into_owned()
    }

    /// The port, where it has one.
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Tcp(address) => address.port(),
            Place::Unix(_) => panic!("a unix socket has no port"),
        }
    }

    fn on_loopback(speaks: Speaks) -> Self {
        let socket = reserve(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self::new(Place::Tcp(address), speaks, Some(socket))
    }

    fn new(place: Place, speaks: Speaks, reserved: Option<Socket>) -> Self {
        Self { place, speaks, known: Arc::default(), reserved, task: None }
    }

    fn up(mut self) -> Self {
        self.restart();
        self
    }
}

/// What the configuration calls it: `127.0.0.1:41001`, `h2c://…`, `unix:/…`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.speaks) {
            (Place::Tcp(address), Speaks::Http1) => write!(f, "{address}"),
            (Place::Tcp(address), Speaks::H2c) => write!(f, "h2c://{address}"),
            (Place::Tcp(address), Speaks::Http1OverTls(_)) => {
                write!(f, "https://localhost:{}", address.port())
            }
            (Place::Unix(path), _) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

fn reserve(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

async fn serve(listener: Listener, speaks: Speaks, known: Arc<Known>) {
    let mut connections = JoinSet::new();
    loop {
        let stream: Box<dyn Io> = match &listener {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Listener::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
        };
        let heard = Heard::default();
        known.heard.lock().unwrap().push(heard.clone());
        connections.spawn(connection(stream, heard, speaks.clone(), known.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: Box<dyn Io>, heard: Heard, speaks: Speaks, known: Arc<Known>) {
    let service = service_fn(move |request| {
        let answer = answer(&known, request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    match speaks {
        Speaks::Http1 => serve_http1(Tapped::new(stream, heard), service).await,
        Speaks::Http1OverTls(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_http1(Tapped::new(Box::new(stream), heard), service).await;
            }
        }
        Speaks::H2c => {
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(Tapped::new(stream, heard)), service)
                .await;
        }
    }
}

async fn serve_http1<S>(stream: Tapped, service: S)
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<Body>,
            Error = std::convert::Infallible,
            Future: Send,
        >,
{
    let _ = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_headers(200)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

fn answer(known: &Known, request: Request<Incoming>) -> Answering {
    known.requests.lock().unwrap().push(Received {
        method: request.method().clone(),
        target: request.uri().to_string(),
        version: request.version(),
        headers: request.headers().clone(),
    });
    let handlers = known.handlers.lock().unwrap();
    let handler = handlers.get(request.uri().path()).or_else(|| handlers.get("*")).cloned();
    drop(handlers);
    match handler {
        Some(handler) => handler(request),
        None => Box::pin(async {
            let body = Body::from("the origin has nothing here");
            Response::builder().status(404).body(body).unwrap()
        }),
    }
}
