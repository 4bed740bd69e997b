//! WebSockets: an app that echoes, and a client over either version of HTTP.

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::body::Body;
use super::client::{Client, Connection, Streaming};
use super::origin::Origin;
use super::{runtime, wait};

/// A request for an upgrade as bytes, with the key of RFC 6455 §1.3.
pub const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The answer that accepts [`UPGRADE`].
pub const ACCEPTING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The answer that accepts the request with this head.
pub fn accepting(head: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut keys = lines.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = derive_accept_key(keys.next().expect("a key").1.as_bytes());
    ACCEPTING.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &accept)
}

/// A client's end of a WebSocket.
pub struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    /// Keeps an HTTP/2 connection open that is this socket's alone.
    _connection: Option<Connection>,
}

/// Lets `origin` echo every message on `path`.
pub fn echo_at(origin: &Origin, path: &str) {
    origin.handle(path, |mut request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(stream) = upgrade.await else { return };
            let stream = TokioIo::new(stream);
            let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                let echoed = message.is_text() || message.is_binary();
                let hang_up = message == Message::text(HANG_UP);
                if hang_up || echoed && socket.send(message).await.is_err() {
                    return;
                }
            }
        });
        accept(&request)
    });
}

/// Lets `origin` agree to a tunnel on `path`, say `size` bytes in it, and listen to nothing.
pub fn speak_at(origin: &Origin, path: &str, size: usize) {
    origin.handle(path, move |mut request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(stream) = upgrade.await else { return };
            let mut stream = TokioIo::new(stream);
            let piece = [b'x'; 8 * 1024];
            for _ in 0..size / piece.len() {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
            let _ = stream.flush().await;
            std::future::pending::<()>().await;
        });
        accept(&request)
    });
}

/// The message upon which the echoing app ends the connection without a word.
pub const HANG_UP: &str = "hang up";

fn accept(request: &Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get("sec-websocket-key") else {
        return Response::builder().status(400).body(Body::empty()).unwrap();
    };
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(key.as_bytes()))
        .body(Body::empty())
        .unwrap()
}

impl Socket {
    /// Opens one by the upgrade of HTTP/1.1.
    #[track_caller]
    pub fn open(client: &Client, path: &str) -> Self {
        let request = Request::get(path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        let answer = client.start(request);
        assert_eq!(answer.status(), 101);
        Self::after(answer, None)
    }

    /// Opens one by the extended CONNECT of HTTP/2 (RFC 8441) on a connection of its own.
    #[track_caller]
    pub fn open_over_http2(client: &Client, path: &str) -> Self {
        let mut connection = client.connect();
        let mut socket = Self::open_on(&mut connection, path);
        socket._connection = Some(connection);
        socket
    }

    /// Opens one by the extended CONNECT on an HTTP/2 connection that exists.
    #[track_caller]
    pub fn open_on(connection: &mut Connection, path: &str) -> Self {
        let mut request =
            Request::connect(path).header("sec-websocket-version", "13").body(()).unwrap();
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let answer = connection.start(request);
        assert_eq!(answer.status(), 200);
        Self::after(answer, None)
    }

    /// Sends a text and waits for the next one.
    #[track_caller]
    pub fn ask(&mut self, text: &str) -> String {
        self.say(text);
        wait("a message", self.stream.next()).unwrap().unwrap().into_text().unwrap().to_string()
    }

    /// Sends a text.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        wait("a message to be sent", self.stream.send(Message::text(text))).unwrap();
    }

    /// Says goodbye and waits for the same.
    #[track_caller]
    pub fn close(mut self) {
        wait("the close to be sent", self.stream.close(None)).unwrap();
        self.expect_end();
    }

    /// Waits until the other side has ended it.
    #[track_caller]
    pub fn expect_end(&mut self) {
        wait("the end of the socket", async {
            while let Some(Ok(_)) = self.stream.next().await {}
        });
    }

    #[track_caller]
    fn after(answer: Streaming, connection: Option<Connection>) -> Self {
        let upgraded = wait("the upgrade", answer.into_upgrade()).unwrap();
        let stream = TokioIo::new(upgraded);
        let stream =
            runtime().block_on(WebSocketStream::from_raw_socket(stream, Role::Client, None));
        Self { stream, _connection: connection }
    }
}
