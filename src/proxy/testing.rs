//! What tests share: the body of a request as the HTTP library reads it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::oneshot;

use super::request_body::RequestBody;

/// A client in the middle of a request.
pub(crate) struct Sender {
    stream: DuplexStream,
}

impl Sender {
    /// Sends more of the body.
    pub(crate) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }
}

/// A request's body, and the client that sends it. `framing` is the field that tells how it ends.
pub(crate) async fn incoming(framing: &str) -> (Incoming, Sender) {
    let (mut stream, server) = tokio::io::duplex(64 * 1024);
    let (give, take) = oneshot::channel();
    let give = RefCell::new(Some(give));
    let connection = async move {
        let service = service_fn(|request: Request<Incoming>| {
            let give = give.take().expect("one request");
            give.send(request.into_body()).expect("somebody to take the body");
            std::future::pending::<Result<Response<String>, Infallible>>()
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    };
    tokio::task::spawn_local(connection);
    let head = format!("POST / HTTP/1.1\r\nhost: a.test\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    (take.await.unwrap(), Sender { stream })
}

/// The same as it is sent on, at most `limit` bytes of it.
pub(crate) async fn request_body(framing: &str, limit: Option<u64>) -> (RequestBody, Sender) {
    let (incoming, sender) = incoming(framing).await;
    (RequestBody::detached(incoming, limit, Rc::new(Cell::new(0))), sender)
}
