//! HTTP/1.1 to an application: one request and its answer on one connection.
//!
//! The request's own task reads and writes the socket: no second task, no channel, no buffer that
//! outlives the exchange. Both directions move at once: answers may come before the request's end.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncRead, ReadBuf};

use super::download::{Download, READ};
use super::io::Io;
use super::response::{Head, Malformed};
use super::silence::Silence;
use super::upload::{Upload, UploadError, Waiting};
use crate::downstream::budget::{Budget, HeadHold, RATION};
use crate::downstream::descriptors::{Claim, Place};
use crate::proxy::patience::Patience;
use crate::proxy::request_body::{RequestBody, RequestBodyError};
use crate::worker::deadline::Deadline;

/// How long an application may think about `Expect: 100-continue` before the body goes out
/// unasked: it need not answer at all (RFC 9110 §10.1.1).
const CONTINUE: Duration = Duration::from_secs(1);

/// So many exchanges of a connection are acknowledged at their end, and those of requests with a
/// body, which an application may take for a request of its own. It costs a system call and a
/// packet: one that has said nothing out of turn in so many is spared them.
const WATCHED: u32 = 1000;

/// Interim answers before the final one; more is an application gone mad.
pub const INTERIM: u32 = 16;

/// A connection to an application, and the exchange on it.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    deadline: Deadline,
    upload: Upload,
    /// The answer.
    pub download: Download,
    /// How far the upload was when the answer's silence began, while there is silence.
    silent_at: Option<u64>,
    /// The longest silence of the application, once it has begun its answer.
    silence: Silence,
    /// The longest silence of both sides while the request is not whole.
    conversation: Duration,
    keep_alive: bool,
    /// Whether an earlier exchange has used it: it may have been closed by the application since.
    pub reused: bool,
    /// How often the worker has tidied up since it was last put back.
    pub rested: u32,
    /// How many exchanges have ended such that another could follow.
    exchanges: u32,
    /// What it is accounted for with.
    pub accounted: Accounted,
}

/// Where a connection is counted.
#[derive(Debug, Default)]
pub struct Accounted {
    /// Among the open ones.
    pub place: Option<Place>,
    /// Among those in use for a client, while it is.
    pub claim: Option<Claim>,
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
    /// How long the application may be silent before the first byte of its answer, and, but for
    /// event streams, within it.
    pub first_byte: Duration,
    /// How long the client is waited for within its body.
    pub patience: Patience,
    /// How long both sides may be silent once the answer has begun, as long as the body is not
    /// whole.
    pub conversation: Duration,
    /// What the client's connection may make us hold, where it has several requests open.
    pub budget: Option<Budget>,
    /// Whether it asks for a tunnel: what follows the head of the answer is to stay where it is
    /// until the client takes it.
    pub asks_for_tunnel: bool,
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
    /// The client's connection makes us hold too many heads already.
    Crowded,
    /// Silence for too long before an answer.
    Timeout,
    /// Silence for too long within an answer.
    Silent(Silence),
    /// Silence of both sides within an answer that began before its request was whole.
    Idle,
    /// The client's body failed.
    Downstream(RequestBodyError),
}

impl Connection {
    /// A new connection over `io`.
    #[must_use]
    pub fn new(io: Io, deadline: Deadline) -> Self {
        Self {
            io,
            deadline,
            upload: Upload::default(),
            download: Download::default(),
            silent_at: None,
            silence: Silence::default(),
            conversation: Duration::ZERO,
            keep_alive: true,
            reused: false,
            rested: 0,
            exchanges: 0,
            accounted: Accounted::default(),
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
        self.keep_alive && self.upload.is_done() && self.download.is_clean()
    }

    /// Whether the application has been sent all of the request.
    #[must_use]
    pub fn is_upload_done(&self) -> bool {
        self.upload.is_done()
    }

    /// Makes it ready to wait for its next use.
    pub fn rest(&mut self) {
        self.deadline.clear();
        if self.exchanges < WATCHED || self.upload.taken() > 0 {
            self.io.acknowledge();
        }
        self.exchanges = self.exchanges.saturating_add(1);
        // Even empty, they hold the buffers that they were cut from.
        self.upload = Upload::default();
        self.download = Download::default();
        self.accounted.claim = None;
        self.reused = true;
        self.rested = 0;
    }

    /// Gives up the stream, and what has been read from it beyond the head: a tunnel begins.
    #[must_use]
    pub fn into_tunnel(self) -> (Io, Bytes, Accounted) {
        (self.io, self.download.into_rest(), self.accounted)
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
            patience: request.patience.clone(),
            budget: request.budget.clone(),
            asks_for_tunnel: request.asks_for_tunnel,
            head: None,
            waiting: None,
            set_for: None,
            interim: 0,
        };
        self.upload = Upload::new(request.head.clone(), std::mem::take(&mut request.body));
        self.conversation = request.conversation;
        // Until an answer says otherwise: what is given up half-way must not serve another request.
        self.keep_alive = false;
        loop {
            poll_fn(|cx| self.poll_answer(&mut flow, cx)).await?;
            while let Some(head) =
                self.download.take_head(&request.method, headers).map_err(Error::Malformed)?
            {
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
                {
                    self.keep_alive = head.keep_alive;
                    self.download.begin(head.framing);
                    self.deadline.clear();
                    self.silent_at = None;
                    self.silence = Silence::within(headers, request.first_byte);
                    return Ok(head);
                }
                flow.interim += 1;
                if flow.interim > INTERIM {
                    return Err(Error::Malformed(Malformed("it has over 16 interim answers")));
                }
                if head.status == StatusCode::CONTINUE {
                    flow.held = false;
                } else {
                    interim(head.status, headers);
                }
                headers.clear();
                self.download.unread();
            }
            flow.hold(self.download.waiting())?;
        }
    }

    /// Moves the request out until there is something of an answer to look at.
    fn poll_answer(&mut self, flow: &mut Flow, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let sent = self.poll_upload(flow, cx);
        // The beginning of the body comes along with the head.
        let most = match &flow.budget {
            Some(_) if flow.asks_for_tunnel => RATION,
            budget => budget.as_ref().map_or(READ, Budget::room),
        };
        match self.download.poll_read(&mut self.io, cx, most) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.closed(flow, None))),
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(self.closed(flow, Some(error))));
            }
            Poll::Pending => {}
        }
        match sent {
            Poll::Ready(Err(UploadError::Downstream(error))) => {
                return Poll::Ready(Err(Error::Downstream(error)));
            }
            Poll::Ready(Err(UploadError::Upstream(error))) => {
                return Poll::Ready(Err(self.closed(flow, Some(error))));
            }
            _ => {}
        }
        flow.arm(&self.deadline, &self.upload);
        ready!(self.deadline.poll(cx));
        if flow.held {
            // It says nothing: the body goes out unasked.
            flow.held = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(match flow.waiting {
            Some(Waiting::Downstream) => Error::Downstream(flow.patience.left().1),
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

    fn closed(&self, flow: &Flow, source: Option<io::Error>) -> Error {
        if self.download.is_clean() && flow.interim == 0 {
            Error::Closed { source, unsent: self.upload.is_unsent() }
        } else {
            Error::Cut(source)
        }
    }

    /// Whether the answer's body has been read to its end.
    #[must_use]
    pub fn is_body_ended(&self) -> bool {
        self.download.is_ended()
    }

    /// How much of the answer's body is to come, where that is known.
    #[must_use]
    pub fn body_length(&self) -> Option<u64> {
        self.download.length()
    }

    /// The next piece of the answer's body, at most `most` bytes, or its trailers; `None` at its
    /// end.
    ///
    /// # Errors
    /// When the answer is cut or malformed: it must not look whole to the client.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.upload.is_done() {
            // An application that answers early may still want the rest. If the client fails, or
            // the application no longer takes any, the answer is what counts.
            let mut waiting = None;
            if let Poll::Ready(Err(_)) = self.upload.poll(&mut self.io, cx, &mut waiting) {
                self.upload = Upload::default();
                self.keep_alive = false;
            }
        }
        if let Poll::Ready(frame) = self.download.poll_frame(&mut self.io, cx, most) {
            self.silent_at = None;
            return Poll::Ready(frame);
        }
        let (progress, is_whole) = (self.upload.progress(), self.upload.is_done());
        if self.silent_at.replace(progress) != Some(progress) {
            self.deadline.set(if is_whole { self.silence.longest() } else { self.conversation });
        }
        ready!(self.deadline.poll(cx));
        Poll::Ready(Some(Err(if is_whole { Error::Silent(self.silence) } else { Error::Idle })))
    }
}

/// The state of an exchange until its answer begins.
struct Flow {
    /// Whether the body waits for the application to ask for it.
    held: bool,
    first_byte: Duration,
    patience: Patience,
    budget: Option<Budget>,
    asks_for_tunnel: bool,
    /// What has come of a head that is large and not whole.
    head: Option<HeadHold>,
    waiting: Option<Waiting>,
    /// What the deadline was last set for, and how far the upload was then.
    set_for: Option<(bool, Option<Waiting>, u64)>,
    /// Interim answers so far.
    interim: u32,
}

impl Flow {
    /// Counts `size` bytes of a head that is not whole.
    fn hold(&mut self, size: usize) -> Result<(), Error> {
        self.head = None;
        if let (Some(budget), true) = (&self.budget, size > RATION) {
            self.head = Some(budget.hold_head(size).ok_or(Error::Crowded)?);
        }
        Ok(())
    }

    /// Sets the deadline for what is waited for now, unless it stands for just that already.
    fn arm(&mut self, deadline: &Deadline, upload: &Upload) {
        let waits_for = Some((self.held, self.waiting, upload.progress()));
        if self.set_for == waits_for {
            return;
        }
        self.set_for = waits_for;
        let is_waiting = self.waiting == Some(Waiting::Downstream);
        if is_waiting || upload.taken() > 0 {
            self.patience.update(upload.taken(), is_waiting, Instant::now());
        }
        deadline.set(match self.waiting {
            _ if self.held => CONTINUE,
            Some(Waiting::Downstream) => self.patience.left().0,
            Some(Waiting::Upstream) | None => self.first_byte,
        });
    }
}

#[cfg(test)]
mod tests;
