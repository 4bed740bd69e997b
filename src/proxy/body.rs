//! The bodies of requests and responses as they pass through, piece by piece.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::headers::hop;
use super::patience::Patience;
use super::record::Record;
use crate::downstream::connection::Connection;
use crate::upstream::h1;
use crate::upstream::pool::Lease;
use crate::worker::deadline::Deadline;

/// A request's body, counted and limited.
#[derive(Debug, Default)]
pub struct RequestBody {
    source: Option<Incoming>,
    limit: Option<u64>,
    /// Who counts.
    seen: Option<Rc<Cell<u64>>>,
    connection: Option<Rc<Connection>>,
    /// For whoever cannot watch over the client itself.
    watch: Option<Rc<Watch>>,
}

/// A watch over a body that somebody else reads.
#[derive(Debug)]
pub struct Watch {
    deadline: Deadline,
    patience: RefCell<Patience>,
    taken: Cell<u64>,
    pieces: Cell<u64>,
    is_waiting: Cell<bool>,
    error: RefCell<Option<RequestBodyError>>,
}

impl Watch {
    /// A figure that grows with whatever comes.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.pieces.get()
    }

    /// Whether more is wanted than the client has given, and its time is not up.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.is_waiting.get() && !self.deadline.is_due()
    }

    /// The answer has begun: the client may take its time.
    pub fn relax(&self) {
        let mut patience = self.patience.borrow_mut();
        patience.relax();
        self.deadline.set(patience.left().0);
    }

    /// Counts a piece, or that none is there, and sets the deadline for the next.
    fn count(&self, taken: usize, is_waiting: bool) {
        self.taken.set(self.taken.get() + taken as u64);
        let mut patience = self.patience.borrow_mut();
        patience.update(self.taken.get(), is_waiting, Instant::now());
        self.deadline.set(patience.left().0);
    }

    /// Why the body broke off, if it did.
    #[must_use]
    pub fn error(&self) -> Option<RequestBodyError> {
        self.error.borrow().clone()
    }
}

/// Why a request's body ended early.
#[derive(Debug, Clone)]
pub enum RequestBodyError {
    /// It is longer than `limits.body_size`.
    TooLarge,
    /// Nothing came for `limits.request_body_idle_timeout`.
    Idle,
    /// It came more slowly than `limits.request_body_rate`.
    Slow,
    /// The client gave its stream up, with an excuse that the HTTP library takes for an end.
    Abandoned,
    /// It is not as long as its head said.
    Miscounted,
    /// It broke the protocol, or the client went away.
    Broken(Arc<hyper::Error>),
}

impl fmt::Display for RequestBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestBodyError::TooLarge => f.write_str("the request body is over limits.body_size"),
            RequestBodyError::Idle => f.write_str("over limits.request_body_idle_timeout"),
            RequestBodyError::Slow => f.write_str("under limits.request_body_rate"),
            RequestBodyError::Abandoned => f.write_str("the request body was given up"),
            RequestBodyError::Miscounted => {
                f.write_str("the request body is not as long as its head says")
            }
            RequestBodyError::Broken(error) => write!(f, "the request body broke off: {error}"),
        }
    }
}

impl StdError for RequestBodyError {}

impl RequestBody {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// `source`, at most `limit` bytes of it; what passes is added to `seen`, and the connection
    /// is told when a part is left unread.
    #[must_use]
    pub fn new(
        source: Incoming,
        limit: Option<u64>,
        seen: Rc<Cell<u64>>,
        connection: &Rc<Connection>,
    ) -> Self {
        let connection = Some(Rc::clone(connection));
        Self { source: Some(source), limit, seen: Some(seen), connection, watch: None }
    }

    /// The same without a connection to tell.
    #[cfg(test)]
    pub(crate) fn detached(source: Incoming, limit: Option<u64>, seen: Rc<Cell<u64>>) -> Self {
        Self { source: Some(source), limit, seen: Some(seen), connection: None, watch: None }
    }

    /// Fails when the client is waited for beyond `patience`; what becomes of it is told.
    #[must_use]
    pub fn watched(mut self, deadline: Deadline, patience: Patience) -> (Self, Rc<Watch>) {
        deadline.set(patience.left().0);
        let watch = Rc::new(Watch {
            deadline,
            patience: RefCell::new(patience),
            taken: Cell::new(0),
            pieces: Cell::new(0),
            is_waiting: Cell::new(false),
            error: RefCell::new(None),
        });
        self.watch = Some(Rc::clone(&watch));
        (self, watch)
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(source).poll_frame(cx)) {
            None => {
                let is_http2 = self.connection.as_ref().is_some_and(|own| own.is_http2());
                let is_whole = !is_http2 || self.is_end_stream();
                self.source = None;
                return Poll::Ready((!is_whole).then_some(Err(RequestBodyError::Abandoned)));
            }
            Some(Err(error)) => {
                let error = RequestBodyError::Broken(Arc::new(error));
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(kept(trailers)),
            Err(frame) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(seen) = &self.seen {
                    seen.set(seen.get() + length);
                    if self.limit.is_some_and(|limit| seen.get() > limit) {
                        return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
                    }
                }
                frame
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = self.get_mut();
        let Some(watch) = this.watch.clone() else { return this.poll_source(cx) };
        let frame = match this.poll_source(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if !watch.is_waiting.replace(true) {
                    watch.count(0, true);
                }
                ready!(watch.deadline.poll(cx));
                let (_, error) = watch.patience.borrow().left();
                Some(Err(error))
            }
        };
        watch.is_waiting.set(false);
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        watch.count(data.map_or(0, Bytes::len), false);
        watch.pieces.set(watch.pieces.get() + 1);
        if let Some(Err(error)) = &frame {
            watch.error.replace(Some(error.clone()));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.source.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_end_stream()
            && let Some(connection) = &self.connection
        {
            connection.unread.set(true);
        }
    }
}

/// A response's body on its way to the client. It ends the request's record when it ends.
#[derive(Debug)]
pub struct Body {
    source: Source,
    is_cut: bool,
    record: Option<Box<Record>>,
}

#[derive(Debug)]
enum Source {
    Empty,
    Full(Bytes),
    /// From an application that speaks HTTP/1.1.
    Http1(Lease),
    /// From an application that speaks HTTP/2.
    Http2(Incoming),
    /// It has broken off, for this reason.
    Cut(String),
}

/// Why a response's body broke off.
#[derive(Debug)]
pub struct BodyError(String);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for BodyError {}

impl Body {
    /// All of it is here.
    #[must_use]
    pub fn full(bytes: Bytes, record: Box<Record>) -> Self {
        let source = if bytes.is_empty() { Source::Empty } else { Source::Full(bytes) };
        Self::new(source, record)
    }

    /// It comes over a leased connection.
    #[must_use]
    pub fn http1(mut lease: Lease, record: Box<Record>) -> Self {
        let ended = lease.connection().is_none_or(|connection| connection.is_body_ended());
        // Without a body the connection is free at once.
        Self::new(if ended { Source::Empty } else { Source::Http1(lease) }, record)
    }

    /// It comes over a shared HTTP/2 connection.
    #[must_use]
    pub fn http2(body: Incoming, record: Box<Record>) -> Self {
        let source = if body.is_end_stream() { Source::Empty } else { Source::Http2(body) };
        Self::new(source, record)
    }

    /// No body, and nobody who cares when it ends.
    #[must_use]
    pub fn empty() -> Self {
        Self { source: Source::Empty, is_cut: false, record: None }
    }

    fn new(source: Source, record: Box<Record>) -> Self {
        let mut body = Self { source, is_cut: false, record: Some(record) };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The last byte is out of our hands: the record is complete.
    fn finish(&mut self) {
        self.source = Source::Empty;
        if let Some(record) = self.record.take() {
            record.complete();
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Cut(error) => Poll::Ready(Some(Err(std::mem::take(error)))),
            Source::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Http1(lease) => match lease.connection() {
                None => Poll::Ready(None),
                Some(connection) => connection
                    .poll_body(cx)
                    .map(|frame| frame.map(|result| result.map_err(|error| cut(&error)))),
            },
            Source::Http2(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|result| result.map_err(|error| error.to_string()))),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match ready!(this.poll_source(cx)) {
            None => {
                this.finish();
                return Poll::Ready(None);
            }
            Some(Err(error)) if !std::mem::replace(&mut this.is_cut, true) => {
                // The library drops what it has not flushed when a body fails. It gets one more
                // turn, so that the client sees what there was, and that it was cut.
                this.source = Source::Cut(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Err(error)) => {
                if let Some(record) = &mut this.record {
                    record.cut(&error);
                }
                this.record = None;
                return Poll::Ready(Some(Err(BodyError(error))));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(kept(trailers)),
            Err(frame) => {
                if let (Some(record), Some(data)) = (&mut this.record, frame.data_ref()) {
                    record.bytes_out += data.len() as u64;
                }
                frame
            }
        };
        if this.is_end_stream() {
            this.finish();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Http1(lease) => lease.is_body_ended(),
            Source::Http2(body) => body.is_end_stream(),
            Source::Cut(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Http1(lease) => {
                lease.body_length().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Source::Http2(body) => body.size_hint(),
            Source::Cut(_) => SizeHint::default(),
        }
    }
}

/// Trailer fields that may pass (RFC 9110 §6.5.1).
fn kept(trailers: HeaderMap) -> HeaderMap {
    if trailers.keys().all(hop::trailer_field) {
        return trailers;
    }
    let names = trailers.keys().filter(|name| hop::trailer_field(name));
    let fields = names.flat_map(|name| trailers.get_all(name).iter().map(move |v| (name, v)));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn cut(error: &h1::Error) -> String {
    match error {
        h1::Error::Cut(Some(error)) => format!("the application broke off its answer: {error}"),
        h1::Error::Malformed(reason) => format!("the application's answer is malformed: {reason}"),
        h1::Error::Timeout => "the application fell silent within its answer".to_owned(),
        _ => "the application broke off its answer".to_owned(),
    }
}
