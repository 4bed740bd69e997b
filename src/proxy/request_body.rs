//! A request's body as it passes through, piece by piece.

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::headers::{hop, over_http2};
use super::patience::Patience;
use crate::downstream::budget::{self, RATION};
use crate::downstream::connection::Connection;
use crate::downstream::field_block::Malformed;
use crate::worker::deadline::Deadline;

/// So many requests of an HTTP/2 client may each hold on to the buffer that their body came in.
const FEW: u32 = 16;

/// A request's body, counted and limited.
#[derive(Debug, Default)]
pub struct RequestBody {
    source: Option<Incoming>,
    /// The end of a counted body over HTTP/2, while the client's stream has not ended.
    held: Option<Bytes>,
    /// Trailers behind it.
    behind: Option<HeaderMap>,
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
    /// Whether the answer has begun, so that the two may talk as slowly as they like.
    is_relaxed: Cell<bool>,
    is_over: Cell<bool>,
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

    /// The answer has begun: the client may take its time, and whoever reads the answer sees to
    /// its end.
    pub fn relax(&self) {
        self.is_relaxed.set(true);
        self.deadline.clear();
    }

    /// Whether nothing more is read of the body.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Counts a piece, or that none is there, and sets the deadline for the next.
    fn count(&self, taken: usize, is_waiting: bool) {
        self.taken.set(self.taken.get() + taken as u64);
        let mut patience = self.patience.borrow_mut();
        patience.update(self.taken.get(), is_waiting, Instant::now());
        if !self.is_relaxed.get() {
            self.deadline.set(patience.left().0);
        }
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
    /// Its trailers, or something else on the same connection, break a rule of HTTP/2.
    Malformed(Malformed),
    /// Its trailers are more than the client's connection may make us hold.
    Crowded,
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
            RequestBodyError::Malformed(Malformed(why)) => f.write_str(why),
            RequestBodyError::Crowded => f.write_str(budget::CROWDED_REQUESTS),
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
        let mut body = Self::of(source, limit, seen);
        body.connection = Some(Rc::clone(connection));
        body
    }

    /// The same without a connection to tell.
    #[cfg(test)]
    pub(crate) fn detached(source: Incoming, limit: Option<u64>, seen: Rc<Cell<u64>>) -> Self {
        Self::of(source, limit, seen)
    }

    fn of(source: Incoming, limit: Option<u64>, seen: Rc<Cell<u64>>) -> Self {
        let mut body = Self::default();
        (body.source, body.limit, body.seen) = (Some(source), limit, Some(seen));
        body
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
            is_relaxed: Cell::new(false),
            is_over: Cell::new(false),
            error: RefCell::new(None),
        });
        self.watch = Some(Rc::clone(&watch));
        (self, watch)
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        loop {
            if let Some(trailers) = self.behind.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let Some(source) = &mut self.source else {
                return Poll::Ready(self.held.take().map(|data| Ok(Frame::data(data))));
            };
            let frame = ready!(Pin::new(source).poll_frame(cx));
            let is_http2 = self.connection.as_ref().is_some_and(|own| own.is_http2());
            if let (true, Some(malformed)) = (is_http2, self.malformed()) {
                return self.give_up(RequestBodyError::Malformed(malformed));
            }
            let frame = match frame {
                None if is_http2 && !self.source.as_ref().is_none_or(HttpBody::is_end_stream) => {
                    return self.give_up(RequestBodyError::Abandoned);
                }
                None => {
                    self.source = None;
                    continue;
                }
                Some(Err(error)) => {
                    return self.give_up(RequestBodyError::Broken(Arc::new(error)));
                }
                Some(Ok(frame)) => frame,
            };
            let data = match frame.into_data() {
                Ok(data) => self.detached_piece(data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    if is_http2 && let Err(malformed) = over_http2::well_formed_fields(&trailers) {
                        return self.give_up(RequestBodyError::Malformed(malformed));
                    }
                    match self.counted(hop::kept_request_trailers(trailers)) {
                        Some(trailers) => self.behind = Some(trailers),
                        None => return self.give_up(RequestBodyError::Crowded),
                    }
                    match self.held.take() {
                        Some(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        None => continue,
                    }
                }
            };
            if !self.count(data.len() as u64) {
                return self.give_up(RequestBodyError::TooLarge);
            }
            if !is_http2 || !self.is_to_be_held() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.held.is_none() {
                self.held = Some(data);
            }
        }
    }

    /// Whether all has come that the head has spoken of, and the stream has not ended: what comes
    /// next may make the request a lie, so that the application must not have the whole of it.
    fn is_to_be_held(&self) -> bool {
        let source = self.source.as_ref();
        source.is_some_and(|own| own.size_hint().exact() == Some(0) && !own.is_end_stream())
    }

    /// Trailers, counted until they are written; `None` when they are too many.
    fn counted(&self, mut trailers: HeaderMap) -> Option<HeaderMap> {
        let budget = self.connection.as_ref().and_then(|own| own.budget.as_ref());
        let size = budget::size_of(&trailers);
        if let (Some(budget), true) = (budget, size > RATION) {
            let hold = budget.hold_head(size)?;
            for value in trailers.values_mut() {
                // As a slice it would hold on to the buffer that it came in.
                if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
                    own.set_sensitive(value.is_sensitive());
                    *value = own;
                }
            }
            hold.go_with(&mut trailers);
        }
        Some(trailers)
    }

    /// The same bytes, without the buffer that they came in where they are a small part of it, and
    /// others of the client's streams have such parts, too.
    fn detached_piece(&self, data: Bytes) -> Bytes {
        let is_one_of_many =
            self.connection.as_ref().is_some_and(|own| own.is_http2() && own.in_flight() > FEW);
        // Over HTTP/1.1 it is handed to the system at once.
        if is_one_of_many && self.watch.is_some() && data.len() <= RATION {
            return Bytes::copy_from_slice(&data);
        }
        data
    }

    fn malformed(&self) -> Option<Malformed> {
        self.connection.as_ref().and_then(|connection| connection.malformed())
    }

    /// Counts what has come; whether that is within the limit.
    fn count(&self, length: u64) -> bool {
        let Some(seen) = &self.seen else { return true };
        seen.set(seen.get() + length);
        self.limit.is_none_or(|limit| seen.get() <= limit)
    }

    /// Nothing more comes, and least of all what was held back.
    fn give_up(
        &mut self,
        error: RequestBodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        (self.held, self.behind) = (None, None);
        Poll::Ready(Some(Err(error)))
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
        let is_nothing_held = self.held.is_none() && self.behind.is_none();
        is_nothing_held && self.source.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(held) = &self.held {
            return SizeHint::with_exact(held.len() as u64);
        }
        self.source.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.is_over.set(true);
        }
        if !self.is_end_stream()
            && let Some(connection) = &self.connection
        {
            connection.unread.set(true);
        }
    }
}
