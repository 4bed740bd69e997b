//! HTTP/2 in the clear to an application, by prior knowledge (RFC 9113 §3.3): gRPC.
//!
//! One connection per worker carries all requests; a new one is made when it has ended.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::connect::{self, ConnectError};
use super::pool::Backend;
use crate::proxy::request_body::{RequestBody, RequestBodyError, Watch};
use crate::worker::LocalExecutor;
use crate::worker::deadline::Deadline;

/// The sending side of the connection.
pub type Sender = http2::SendRequest<RequestBody>;

/// Flow-control windows: a stream's, and the connection's.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// No connection.
    Connect(ConnectError),
    /// Silence for too long.
    Timeout,
    /// The connection or the stream failed.
    Http(hyper::Error),
    /// The client's body failed.
    Downstream(RequestBodyError),
}

/// Sends `request` to `backend` and waits for the head of its answer. The application may be
/// silent for `first_byte` once it has the request; as long as its body is on its way, which
/// `watch` tells, that time has not begun.
///
/// # Errors
/// See [`Error`].
pub async fn exchange(
    backend: &Backend,
    request: Request<RequestBody>,
    watch: &Watch,
    deadline: Deadline,
    first_byte: Duration,
) -> Result<Response<Incoming>, Error> {
    let mut sender = sender(backend).await?;
    let mut answer = pin!(async {
        sender.ready().await.map_err(Error::Http)?;
        sender.send_request(request).await.map_err(Error::Http)
    });
    let mut progress = watch.progress();
    deadline.set(first_byte);
    let result = poll_fn(|cx| {
        if let Poll::Ready(result) = answer.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        while deadline.poll(cx).is_ready() {
            if !watch.is_waiting() && watch.progress() == progress {
                return Poll::Ready(Err(Error::Timeout));
            }
            progress = watch.progress();
            deadline.set(first_byte);
        }
        Poll::Pending
    })
    .await;
    result.map_err(|error| match (watch.error(), error) {
        (Some(error), _) => Error::Downstream(error),
        (None, Error::Timeout) => {
            // It may be the connection that is dead: who is on it stays, but nobody else comes.
            backend.h2c.take();
            Error::Timeout
        }
        (None, error) => error,
    })
}

/// Makes sure that there is a connection.
///
/// # Errors
/// When none can be made.
pub async fn sender(backend: &Backend) -> Result<Sender, Error> {
    if let Some(sender) = backend.h2c.borrow().as_ref().filter(|sender| !sender.is_closed()) {
        return Ok(sender.clone());
    }
    let io = connect::connect(backend).await.map_err(Error::Connect)?;
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake::<_, RequestBody>(TokioIo::new(io))
        .await
        .map_err(Error::Http)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!("an HTTP/2 connection to an application ended: {error}");
        }
    });
    *backend.h2c.borrow_mut() = Some(sender.clone());
    Ok(sender)
}
