//! The sample application: plain HTTP on loopback, a thread of its own.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_VERSION, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::page;
use super::websocket::{self, Echo};

/// The port of the sample application, and how many above it are tried.
const PORT: u16 = 8080;
const NEIGHBOURS: u16 = 20;

/// Open connections: the proxy keeps a few, a load test through it some hundreds.
const CONNECTIONS: usize = 1024;

/// A WebSocket that says nothing for this long is closed.
const SILENCE: Duration = Duration::from_secs(600);

/// The page needs nothing from anywhere else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'";

/// The sample application, listening but not answering yet.
#[derive(Debug)]
pub(super) struct App {
    listener: TcpListener,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Why it is not on its usual port.
    pub(super) moved: Option<io::Error>,
}

impl App {
    /// Takes 127.0.0.1:8080, or the next port that is free.
    pub(super) fn bind() -> io::Result<Self> {
        let mut moved = None;
        for port in PORT..=PORT + NEIGHBOURS {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => {
                    listener.set_nonblocking(true)?;
                    return Ok(Self { address: listener.local_addr()?, listener, moved });
                }
                Err(error) => moved = moved.or(Some(error)),
            }
        }
        Err(moved.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    /// Answers on a thread of its own until the process ends.
    pub(super) fn start(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("sample-app".to_owned());
        thread.spawn(move || runtime.block_on(serve(self.listener))).map(|_| ())
    }
}

async fn serve(listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, or a client that left: neither gets better by hurrying.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(90))
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .with_upgrades();
            // How a connection to a sample ends is nobody's concern.
            let _ = connection.await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    Ok(match request.uri().path() {
        "/healthz" => plain("ok\n"),
        "/slow" => {
            let mut response = plain("");
            if request.method() != Method::HEAD {
                *response.body_mut() = Answer::slow();
            }
            response
        }
        "/echo" => echo(request),
        _ => shown(request).await,
    })
}

/// The request itself, once its body has arrived; the body is counted, not kept.
async fn shown(request: Request<Incoming>) -> Response<Answer> {
    let (request, mut body) = request.into_parts();
    let mut length = 0_u64;
    while let Some(Ok(frame)) = body.frame().await {
        length = length.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
    }
    if !page::wants_html(&request) {
        return plain(page::text(&request, length));
    }
    let mut response = plain(page::html(&request, length));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Switches to the WebSocket protocol, or says that it is needed here (RFC 9110 §15.5.22).
fn echo(mut request: Request<Incoming>) -> Response<Answer> {
    let websocket = HeaderValue::from_static("websocket");
    let upgrade = HeaderValue::from_static("upgrade");
    let accept = websocket::accept(request.headers())
        .filter(|_| request.method() == Method::GET)
        .and_then(|accept| HeaderValue::try_from(accept).ok());
    let mut response = plain("");
    let headers = response.headers_mut();
    headers.insert(UPGRADE, websocket);
    headers.insert(CONNECTION, upgrade);
    let Some(accept) = accept else {
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        *response.body_mut() = Answer::Whole(Some("this is a WebSocket\n".into()));
        return response;
    };
    headers.remove(CONTENT_TYPE);
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    tokio::spawn(async move {
        if let Ok(stream) = hyper::upgrade::on(&mut request).await {
            let _ = converse(TokioIo::new(stream)).await;
        }
    });
    response
}

async fn converse(mut stream: TokioIo<hyper::upgrade::Upgraded>) -> io::Result<()> {
    let (mut echo, mut piece, mut reply) = (Echo::default(), vec![0; 8192], Vec::new());
    while !echo.closed {
        let count = timeout(SILENCE, stream.read(&mut piece)).await??;
        if count == 0 {
            break;
        }
        echo.receive(piece.get(..count).unwrap_or_default(), &mut reply);
        timeout(SILENCE, stream.write_all(&reply)).await??;
        reply.clear();
    }
    stream.shutdown().await
}

fn plain(text: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(text.into())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // Browsers would collect the slow stream until they have guessed its type.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of an answer.
enum Answer {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// A line each second.
    Slow { sent: u8, clock: Pin<Box<Interval>> },
}

/// Lines of the slow stream.
const LINES: u8 = 10;

impl Answer {
    fn slow() -> Self {
        let mut clock = interval(Duration::from_secs(1));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Answer::Slow { sent: 0, clock: Box::pin(clock) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Answer::Whole(text) => {
                Poll::Ready(text.take().filter(|text| !text.is_empty()).map(Frame::data).map(Ok))
            }
            Answer::Slow { sent, .. } if *sent == LINES => Poll::Ready(None),
            Answer::Slow { sent, clock } => {
                ready!(clock.poll_tick(cx));
                *sent += 1;
                let line = format!("{sent} of {LINES}\n");
                Poll::Ready(Some(Ok(Frame::data(line.into()))))
            }
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Answer::Whole(text) => {
                hyper::body::SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Answer::Slow { .. } => hyper::body::SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    /// The sample application on a port of its own.
    fn started() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        App { listener, address, moved: None }.start().unwrap();
        address
    }

    fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn shows_the_request_with_the_length_of_its_body() {
        let answer = exchange(
            started(),
            "POST /any/where HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\n\
             Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        );
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("POST /any/where HTTP/1.1\n"), "{answer}");
        assert!(answer.contains("x-forwarded-for: 192.0.2.1\n"), "{answer}");
        assert!(answer.contains("(5 bytes of body)"), "{answer}");
    }

    #[test]
    fn is_healthy() {
        let question = "GET /healthz HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        assert!(exchange(started(), question).ends_with("\r\n\r\nok\n"));
    }

    #[test]
    fn asks_for_a_websocket_where_only_that_is_spoken() {
        let question = "GET /echo HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let answer = exchange(started(), question);
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
    }

    #[test]
    fn the_slow_stream_begins_at_once() {
        let mut stream = TcpStream::connect(started()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let (mut seen, mut piece) = (String::new(), [0; 256]);
        while !seen.contains("1 of 10\n") {
            let count = stream.read(&mut piece).unwrap();
            assert_ne!(count, 0, "{seen}");
            seen.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        }
        assert!(!seen.contains("10 of 10"), "{seen}");
    }

    #[tokio::test]
    async fn echoes_to_a_websocket_client_of_another_make() {
        let url = format!("ws://{}/echo", started());
        let stream = tokio::net::TcpStream::connect(&url[5..url.len() - 5]).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        for message in [Message::text("hello"), Message::binary(vec![7; 40_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_close());
    }
}
