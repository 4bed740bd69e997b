//! HTTP/2 in the clear to an application, by prior knowledge (RFC 9113 §3.3): gRPC.
//!
//! One connection per worker carries all requests; a new one is made when it has ended.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::connect::{self, ConnectError};
use super::h1::SILENCE;
use super::pool::{Backend, Underway};
use crate::downstream::descriptors::Place;
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

impl Error {
    /// Why there is no connection, where it is that.
    #[must_use]
    pub fn connecting(&self) -> Option<&ConnectError> {
        match self {
            Error::Connect(error) => Some(error),
            _ => None,
        }
    }
}

/// Sends `request` by `sender` and waits for the head of its answer. The application may be
/// silent for `first_byte` once it has the request; as long as its body is on its way, which
/// `watch` tells, that time has not begun.
///
/// # Errors
/// See [`Error`].
pub async fn exchange(
    mut sender: Sender,
    underway: &Underway,
    request: Request<RequestBody>,
    watch: &Watch,
    deadline: &Deadline,
    first_byte: Duration,
) -> Result<Response<Incoming>, Error> {
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
            underway.backend().h2c.take();
            Error::Timeout
        }
        (None, error) => error,
    })
}

/// The connection that there is.
#[must_use]
pub fn connected(backend: &Backend) -> Option<Sender> {
    backend.h2c.borrow().as_ref().filter(|sender| !sender.is_closed()).cloned()
}

/// Makes a connection, for all that come, which keeps its `place` until it ends.
///
/// # Errors
/// When none can be made.
pub async fn connect(backend: &Backend, place: Place) -> Result<Sender, Error> {
    let io = connect::connect(backend).await.map_err(Error::Connect)?;
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake::<_, RequestBody>(TokioIo::new(io))
        .await
        .map_err(Error::Http)?;
    tokio::task::spawn_local(async move {
        let _place = place;
        if let Err(error) = connection.await {
            tracing::debug!("an HTTP/2 connection to an application ended: {error}");
        }
    });
    *backend.h2c.borrow_mut() = Some(sender.clone());
    Ok(sender)
}

/// An answer's body. As long as it lives, the exchange counts.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    deadline: Deadline,
    /// Over the request's body, which may still be on its way.
    watch: Rc<Watch>,
    /// How far that was when the answer's silence began, and whether it was over.
    silent_at: Option<(u64, bool)>,
    /// The longest silence of both sides while the request is not whole.
    conversation: Duration,
    _underway: Underway,
}

/// Why an answer's body broke off.
#[derive(Debug)]
pub enum Broken {
    /// The connection or the stream failed.
    Http(hyper::Error),
    /// The application said nothing for an hour.
    Silent,
    /// Neither side said anything for `limits.idle_timeout`, and the request is not whole.
    Idle,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Http(error) => error.fmt(f),
            Broken::Silent => f.write_str("the application fell silent within its answer"),
            Broken::Idle => f.write_str("over limits.idle_timeout within an exchange"),
        }
    }
}

impl Download {
    /// The `body` of the answer to a request whose own body `watch` watches over.
    #[must_use]
    pub fn new(
        body: Incoming,
        deadline: Deadline,
        watch: Rc<Watch>,
        conversation: Duration,
        underway: Underway,
    ) -> Self {
        watch.relax();
        deadline.clear();
        Self { body, deadline, watch, silent_at: None, conversation, _underway: underway }
    }

    /// The next piece, or the trailers; `None` at the end.
    ///
    /// # Errors
    /// When the answer is cut: it must not look whole to the client.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.silent_at = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Broken::Http)));
        }
        let is_whole = self.watch.is_over();
        let silent_at = Some((self.watch.progress(), is_whole));
        if std::mem::replace(&mut self.silent_at, silent_at) != silent_at {
            self.deadline.set(if is_whole { SILENCE } else { self.conversation });
        }
        ready!(self.deadline.poll(cx));
        Poll::Ready(Some(Err(if is_whole { Broken::Silent } else { Broken::Idle })))
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// How much is to come, where that is known.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
