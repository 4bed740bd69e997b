//! HTTP/1.1 to an application: one request and its answer on one connection.
//!
//! The request's own task reads and writes the socket: no second task, no channel, no buffer that
//! outlives the exchange. Both directions move at once, so that an answer which comes before the
//! request's end is passed on at once.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::chunked::{Chunked, Step};
use super::io::Io;
use super::response::{self, Framing, Head, Malformed};
use super::upload::{Upload, UploadError, Waiting};
use crate::proxy::body::{RequestBody, RequestBodyError};
use crate::worker::deadline::Deadline;

/// How much of an answer is read at a time: fewer, larger pieces cost less processor time.
const READ: usize = 64 * 1024;

/// How long an application may think about `Expect: 100-continue` before the body goes out
/// unasked: it need not answer at all (RFC 9110 §10.1.1).
const CONTINUE: Duration = Duration::from_secs(1);

/// The longest silence within an answer. Event streams are silent for long, and rightly so; but a
/// peer that vanished must not hold a connection for ever.
const SILENCE: Duration = Duration::from_secs(3600);

/// Interim answers before the final one; more is an application gone mad.
const INTERIM: u32 = 16;

thread_local! {
    /// Where a first read goes: an answer that fits is copied once, at its own size.
    static SCRATCH: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; READ]);
}

/// A connection to an application, and the exchange on it.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    deadline: Deadline,
    /// What came with the head of the answer; read before `input`.
    front: Bytes,
    input: BytesMut,
    upload: Upload,
    body: BodyState,
    keep_alive: bool,
    /// Whether an earlier exchange has used it: it may have been closed by the application since.
    pub reused: bool,
    /// How often the worker has tidied up since it was last put back.
    pub rested: u32,
}

#[derive(Debug)]
enum BodyState {
    Ended,
    Length(u64),
    Chunked(Chunked),
    Close,
}

/// What is sent.
#[derive(Debug)]
pub struct Request {
    /// Of the request.
    pub method: Method,
    /// The head, ready for the wire.
    pub head: Bytes,
    /// The body.
    pub body: RequestBody,
    /// Whether the client waits to be told to go on.
    pub expects_continue: bool,
    /// How long the application may be silent before the first byte of its answer.
    pub first_byte: Duration,
    /// How long the client may be silent within its body.
    pub body_idle: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The application closed the connection before a byte of an answer.
    Closed {
        /// What the system says, when it says more than the end of the stream.
        source: Option<io::Error>,
        /// Whether nothing at all had been taken by the socket.
        unsent: bool,
    },
    /// The application closed it, or the system failed, within an answer.
    Cut(Option<io::Error>),
    /// The answer is not HTTP/1.1.
    Malformed(Malformed),
    /// Silence for too long.
    Timeout,
    /// The client's body failed.
    Downstream(RequestBodyError),
    /// The client was silent within its body for too long.
    DownstreamTimeout,
}

impl Connection {
    /// A new connection over `io`.
    #[must_use]
    pub fn new(io: Io, deadline: Deadline) -> Self {
        Self {
            io,
            deadline,
            front: Bytes::new(),
            input: BytesMut::new(),
            upload: Upload::default(),
            body: BodyState::Ended,
            keep_alive: true,
            reused: false,
            rested: 0,
        }
    }

    /// Whether an idle connection is still good: open, and silent as it should be.
    pub fn poll_is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Whether the exchange has ended such that another may follow.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.keep_alive
            && matches!(self.body, BodyState::Ended)
            && self.upload.is_done()
            && self.front.is_empty()
            && self.input.is_empty()
    }

    /// Whether the application has been sent all of the request.
    #[must_use]
    pub fn is_upload_done(&self) -> bool {
        self.upload.is_done()
    }

    /// Makes it ready to wait for its next use.
    pub fn rest(&mut self) {
        self.deadline.clear();
        self.input = BytesMut::new();
        self.reused = true;
        self.rested = 0;
    }

    /// Gives up the stream, and what has been read from it beyond the head: a tunnel begins.
    #[must_use]
    pub fn into_tunnel(self) -> (Io, Bytes) {
        (self.io, self.front)
    }

    /// The body of the request, if nothing of it has been taken from the client.
    #[must_use]
    pub fn into_intact_body(self) -> Option<RequestBody> {
        self.upload.into_intact_body()
    }

    /// Sends `request`, whose body is taken from it, and reads the head of its answer into
    /// `headers`; interim answers are shown to `interim`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exchange(
        &mut self,
        request: &mut Request,
        headers: &mut HeaderMap,
        mut interim: impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<Head, Error> {
        let mut flow = Flow {
            held: request.expects_continue,
            first_byte: request.first_byte,
            body_idle: request.body_idle,
            waiting: None,
            set_for: None,
        };
        self.upload = Upload::new(request.head.clone(), std::mem::take(&mut request.body));
        // Until an answer says otherwise: what is given up half-way must not serve another request.
        self.keep_alive = false;
        let mut seen = 0;
        loop {
            poll_fn(|cx| self.poll_answer(&mut flow, cx)).await?;
            while let Some(head) =
                self.take_head(&request.method, headers).map_err(Error::Malformed)?
            {
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
                {
                    self.begin_body(&head);
                    return Ok(head);
                }
                seen += 1;
                if seen > INTERIM {
                    return Err(Error::Malformed(Malformed("it has over 16 interim answers")));
                }
                if head.status == StatusCode::CONTINUE {
                    flow.held = false;
                } else {
                    interim(head.status, headers);
                }
                headers.clear();
                self.input = BytesMut::from(std::mem::take(&mut self.front));
            }
        }
    }

    /// Moves the request out until there is something of an answer to look at.
    fn poll_answer(&mut self, flow: &mut Flow, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sent = self.poll_upload(flow, cx);
        match self.poll_read(cx) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.closed(None))),
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(self.closed(Some(error))));
            }
            Poll::Pending => {}
        }
        match sent {
            Poll::Ready(Err(UploadError::Downstream(error))) => {
                return Poll::Ready(Err(Error::Downstream(error)));
            }
            Poll::Ready(Err(UploadError::Upstream(error))) => {
                return Poll::Ready(Err(self.closed(Some(error))));
            }
            _ => {}
        }
        flow.arm(&self.deadline, self.upload.progress());
        ready!(self.deadline.poll(cx));
        if flow.held {
            // It says nothing: the body goes out unasked.
            flow.held = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(match flow.waiting {
            Some(Waiting::Downstream) => Error::DownstreamTimeout,
            _ => Error::Timeout,
        }))
    }

    fn poll_upload(
        &mut self,
        flow: &mut Flow,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        if flow.held {
            return self.upload.poll_queued(&mut self.io, cx).map_err(UploadError::Upstream);
        }
        if self.upload.is_done() {
            flow.waiting = None;
            return Poll::Ready(Ok(()));
        }
        self.upload.poll(&mut self.io, cx, &mut flow.waiting)
    }

    fn closed(&self, source: Option<io::Error>) -> Error {
        if self.input.is_empty() {
            Error::Closed { source, unsent: self.upload.is_unsent() }
        } else {
            Error::Cut(source)
        }
    }

    /// Takes a whole head from the input, if there is one.
    fn take_head(
        &mut self,
        method: &Method,
        headers: &mut HeaderMap,
    ) -> Result<Option<Head>, Malformed> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let input = std::mem::take(&mut self.input).freeze();
        match response::parse(&input, method, headers)? {
            Some(head) => {
                self.front = input.slice(head.length..);
                Ok(Some(head))
            }
            None => {
                self.input = BytesMut::from(input);
                Ok(None)
            }
        }
    }

    fn begin_body(&mut self, head: &Head) {
        self.keep_alive = head.keep_alive;
        self.body = match head.framing {
            Framing::Empty => BodyState::Ended,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => {
                self.input = BytesMut::from(std::mem::take(&mut self.front));
                BodyState::Chunked(Chunked::default())
            }
            Framing::Close => BodyState::Close,
        };
        self.deadline.clear();
    }

    /// Whether the answer's body has been read to its end.
    #[must_use]
    pub fn is_body_ended(&self) -> bool {
        matches!(self.body, BodyState::Ended)
    }

    /// How much of the answer's body is to come, where that is known.
    #[must_use]
    pub fn body_length(&self) -> Option<u64> {
        match self.body {
            BodyState::Ended => Some(0),
            BodyState::Length(length) => Some(length),
            BodyState::Chunked(_) | BodyState::Close => None,
        }
    }

    /// The next piece of the answer's body, or its trailers; `None` at its end.
    ///
    /// # Errors
    /// When the answer is cut or malformed: it must not look whole to the client.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.upload.is_done() {
            // An application that answers early may still want the rest. If the client fails, or
            // the application no longer takes any, the answer is what counts.
            let mut waiting = None;
            if let Poll::Ready(Err(_)) = self.upload.poll(&mut self.io, cx, &mut waiting) {
                self.upload = Upload::default();
                self.keep_alive = false;
            }
        }
        loop {
            match self.take_piece() {
                Ok(Some(Some(frame))) => return Poll::Ready(Some(Ok(frame))),
                Ok(Some(None)) => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) if matches!(self.body, BodyState::Close) => {
                    self.body = BodyState::Ended;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Some(Err(Error::Cut(None)))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(Error::Cut(Some(error))))),
                Poll::Pending => {
                    self.deadline.set(SILENCE);
                    ready!(self.deadline.poll(cx));
                    return Poll::Ready(Some(Err(Error::Timeout)));
                }
            }
        }
    }

    /// What the input holds of the body: `None` for nothing yet, `Some(None)` for its end.
    fn take_piece(&mut self) -> Result<Option<Option<Frame<Bytes>>>, Error> {
        match &mut self.body {
            BodyState::Ended => Ok(Some(None)),
            _ if self.input.is_empty() && self.front.is_empty() => Ok(None),
            BodyState::Length(left) => {
                if self.front.is_empty() {
                    self.front = self.input.split().freeze();
                }
                // What is left after the last byte belongs to nobody: `is_reusable` sees it.
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.front.len());
                *left -= here as u64;
                if *left == 0 {
                    self.body = BodyState::Ended;
                }
                Ok(Some(Some(Frame::data(self.front.split_to(here)))))
            }
            BodyState::Chunked(chunked) => match chunked.step(&mut self.input) {
                Ok(Step::Data(data)) => Ok(Some(Some(Frame::data(data)))),
                Ok(Step::More) => Ok(None),
                Ok(Step::End(trailers)) => {
                    self.body = BodyState::Ended;
                    Ok(Some((!trailers.is_empty()).then(|| Frame::trailers(trailers))))
                }
                Err(error) => Err(Error::Malformed(Malformed(error.0))),
            },
            BodyState::Close if self.front.is_empty() => {
                Ok(Some(Some(Frame::data(self.input.split().freeze()))))
            }
            BodyState::Close => Ok(Some(Some(Frame::data(std::mem::take(&mut self.front))))),
        }
    }

    /// Reads into the input: through the worker's scratch buffer while it is small, straight into
    /// a large one within a large body.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = match self.body {
            BodyState::Ended => 0,
            BodyState::Length(left) => usize::try_from(left).unwrap_or(READ).min(READ),
            BodyState::Chunked(_) | BodyState::Close => READ,
        };
        if wanted == 0 {
            return SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
                self.input.extend_from_slice(buffer.filled());
                Poll::Ready(Ok(buffer.filled().len()))
            });
        }
        self.input.reserve(wanted);
        pin!(self.io.read_buf(&mut self.input)).poll(cx)
    }
}

/// The state of an exchange until its answer begins.
struct Flow {
    /// Whether the body waits for the application to ask for it.
    held: bool,
    first_byte: Duration,
    body_idle: Duration,
    waiting: Option<Waiting>,
    /// What the deadline was last set for, and how far the upload was then.
    set_for: Option<(bool, Option<Waiting>, u64)>,
}

impl Flow {
    /// Sets the deadline for what is waited for now, unless it stands for just that already.
    fn arm(&mut self, deadline: &Deadline, progress: u64) {
        let waits_for = Some((self.held, self.waiting, progress));
        if self.set_for == waits_for {
            return;
        }
        self.set_for = waits_for;
        deadline.set(match self.waiting {
            _ if self.held => CONTINUE,
            Some(Waiting::Downstream) => self.body_idle,
            Some(Waiting::Upstream) | None => self.first_byte,
        });
    }
}
