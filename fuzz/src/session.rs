//! HTTP/1 with one client: a real connection of the HTTP library behind the guard, driven as the
//! program drives it, with a service that writes down what it is asked.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::wire::Wire;

/// One request as the service saw it.
#[derive(Debug)]
pub struct Seen {
    pub method: Method,
    pub target: String,
    /// Names and values, sorted by name.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// What came of the body.
    pub body: Vec<u8>,
    pub body_end: BodyEnd,
}

/// How a body ended for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// Not, as far as it was read.
    Open,
    /// As its sender meant it to.
    Whole,
    Failed,
}

/// What an application does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Reads all of the body, then answers.
    Reads,
    /// Answers at once, and reads the body meanwhile.
    Echoes,
    /// Answers at once, and reads nothing.
    Ignores,
    /// Answers only when the connection has been looked at a few times more.
    Dawdles,
}

/// How often an application that dawdles is asked before it answers.
const DAWDLING: u32 = 3;

/// How often a connection is looked at for the next request, once all has come.
const LATE: u32 = 64;

/// What has happened on a connection.
#[derive(Default)]
struct Log {
    seen: RefCell<Vec<Seen>>,
    in_flight: Cell<u32>,
    /// How much had been received when the last request ended.
    mark: Cell<usize>,
}

/// Plays `pieces` on a connection, each when all that the former caused has come to rest; what the
/// service saw, and whether the connection is still open. `parks` tells whether the library is
/// taken from a connection that rests, `ends` whether the peer ends at last.
pub fn play(
    pieces: &[&[u8]],
    manner: impl Fn(usize) -> Manner + Copy,
    (parks, ends): (bool, bool),
) -> (Vec<Seen>, bool) {
    let (wire, log) = (Wire::default(), Rc::new(Log::default()));
    let mut pieces = pieces.iter();
    // Who dawdles is given time at the end, however many requests came in one piece.
    let (mut late, mut known) = (LATE, 0);
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    let is_open = 'sessions: loop {
        let service = service_fn(|request| {
            let answer = Answering::new(request, &wire, &log, manner);
            async move { answer.await }
        });
        let mut http = builder().serve_connection(wire.clone(), service);
        loop {
            if !is_resting(&flag, || step(&mut http, &mut cx, &wire, &log)) {
                break 'sessions false;
            }
            if wire.inspection().is_over() && log.in_flight.get() == 0 {
                break 'sessions false;
            }
            let is_idle = log.in_flight.get() == 0 && wire.received() <= log.mark.get();
            let parks = parks && is_idle && pieces.len() > 0;
            match pieces.next() {
                Some(piece) => wire.arrive(piece),
                None if ends && !wire.has_ended() => wire.end(),
                None if late == 0 || log.in_flight.get() == 0 => break 'sessions true,
                None => {
                    let begun = log.seen.borrow().len();
                    late = if begun > known { LATE } else { late - 1 };
                    known = begun;
                }
            }
            flag.0.store(true, Ordering::Relaxed);
            if parks {
                break;
            }
        }
        wire.rewind(http.into_parts().read_buf);
        log.mark.set(wire.received());
    };
    let seen = std::mem::take(&mut *log.seen.borrow_mut());
    (seen, is_open)
}

/// As the program sets it up.
fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_header_size(32 * 1024).max_buf_size(32 * 1024);
    builder
}

/// One turn of the connection's driver: ready when the library is done.
fn step(
    http: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    cx: &mut Context<'_>,
    wire: &Wire,
    log: &Log,
) -> Poll<()> {
    let begun = || log.seen.borrow().len() as u64;
    if log.in_flight.get() == 0 {
        wire.inspection().expect_head(begun());
    }
    if Pin::new(http).poll(cx).is_ready() {
        return Poll::Ready(());
    }
    if log.in_flight.get() == 0 && wire.inspection().expect_head(begun()) {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}

/// Takes turns while somebody asks for one; whether there may be more later.
fn is_resting(flag: &Flag, mut step: impl FnMut() -> Poll<()>) -> bool {
    let mut turns = 0;
    while flag.0.swap(false, Ordering::Relaxed) {
        if step().is_ready() {
            return false;
        }
        turns += 1;
        assert!(turns < 10_000, "the connection spins");
    }
    true
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request that is being answered.
struct InFlight(Wire, Rc<Log>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.1.in_flight.set(self.1.in_flight.get() - 1);
        self.1.mark.set(self.0.received());
    }
}

/// From a request to its answer.
struct Answering {
    index: usize,
    manner: Manner,
    must_close: bool,
    upload: Option<Incoming>,
    dawdles: u32,
    in_flight: Option<InFlight>,
}

impl Answering {
    fn new(
        request: Request<Incoming>,
        wire: &Wire,
        log: &Rc<Log>,
        manner: impl Fn(usize) -> Manner,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let field = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
            (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
        };
        let mut fields: Vec<_> = parts.headers.iter().map(field).collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        let body_end = if body.is_end_stream() { BodyEnd::Whole } else { BodyEnd::Open };
        // What the program refuses by itself ends the connection.
        let is_refused = parts.method.as_str().len() > 32
            || matches!(parts.method, Method::TRACE | Method::CONNECT)
            || fields.iter().any(|(name, value)| {
                name == b"transfer-encoding" && !value.eq_ignore_ascii_case(b"chunked")
                    || name == b"expect" && !value.eq_ignore_ascii_case(b"100-continue")
            });
        let index = log.seen.borrow().len();
        let manner = if is_refused { Manner::Ignores } else { manner(index) };
        let must_close = is_refused || (manner == Manner::Ignores && body_end == BodyEnd::Open);
        let (method, target) = (parts.method, parts.uri.to_string());
        log.seen.borrow_mut().push(Seen { method, target, fields, body: Vec::new(), body_end });
        log.in_flight.set(log.in_flight.get() + 1);
        let in_flight = Some(InFlight(wire.clone(), Rc::clone(log)));
        let upload = (manner != Manner::Ignores && body_end == BodyEnd::Open).then_some(body);
        let dawdles = if manner == Manner::Dawdles { DAWDLING } else { 0 };
        Self { index, manner, must_close, upload, dawdles, in_flight }
    }
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.dawdles > 0 {
            this.dawdles -= 1;
            return Poll::Pending;
        }
        if matches!(this.manner, Manner::Reads | Manner::Dawdles)
            && let (Some(upload), Some(in_flight)) = (&mut this.upload, &this.in_flight)
        {
            std::task::ready!(poll_upload(upload, &in_flight.1, this.index, cx));
            this.upload = None;
        }
        let answer = Answer {
            index: this.index,
            upload: this.upload.take(),
            has_said: false,
            in_flight: this.in_flight.take().expect("an answer is asked for once"),
        };
        let mut response = Response::new(answer);
        if this.must_close {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            let close = header::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        Poll::Ready(Ok(response))
    }
}

/// The answer's body.
struct Answer {
    index: usize,
    upload: Option<Incoming>,
    has_said: bool,
    in_flight: InFlight,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.has_said, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"yes")))));
        }
        if let Some(upload) = &mut this.upload {
            std::task::ready!(poll_upload(upload, &this.in_flight.1, this.index, cx));
            this.upload = None;
        }
        Poll::Ready(None)
    }
}

/// Reads all of a body into the log.
fn poll_upload(body: &mut Incoming, log: &Log, index: usize, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        let seen = &mut log.seen.borrow_mut()[index];
        match frame {
            None => seen.body_end = BodyEnd::Whole,
            Some(Err(_)) => seen.body_end = BodyEnd::Failed,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    seen.body.extend_from_slice(&data);
                }
                continue;
            }
        }
        return Poll::Ready(());
    }
}
