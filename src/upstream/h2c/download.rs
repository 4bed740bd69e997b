//! An answer's body on its way out of an HTTP/2 stream.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{FlowControl, RecvStream};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::links::Grant;
use super::upload::Upload;
use crate::downstream::budget::{self, Budget, CROWDED, HeadHold, RATION};
use crate::downstream::streams::Ahead;
use crate::proxy::request_body::Watch;
use crate::upstream::pool::Underway;
use crate::upstream::response::FIELDS;
use crate::upstream::silence::Silence;
use crate::worker::deadline::Deadline;

/// How often it is looked after whether a client has made room: nothing tells.
const FULL: Duration = Duration::from_secs(1);

/// For how many times that a client may make no room at all, where nothing else bounds it: an hour.
const FULL_FOR: u16 = 3600;

/// An answer's body as its stream gives it.
#[derive(Debug)]
pub struct Answer {
    /// `None` where there must not be a body, whatever comes.
    stream: Option<RecvStream>,
    is_data_over: bool,
    /// What is to come, where that is known.
    left: Option<u64>,
    grant: Arc<Grant>,
    upload: Upload,
    /// What was taken from the stream before the client had made room for it.
    ahead: Taken,
}

/// What was looked at before its time: trailers come whether there is room for them or not, and the
/// library keeps them behind the data.
#[derive(Debug, Default)]
struct Taken {
    data: VecDeque<Bytes>,
    /// The last of the data, where it came in small pieces.
    small: BytesMut,
    end: Option<Result<Option<HeaderMap>, Broken>>,
    hold: Option<HeadHold>,
}

/// Less than this is put together with what comes behind it, in bytes.
const SMALL: usize = 1024;

/// An answer's body. As long as it lives, the exchange counts.
#[derive(Debug)]
pub struct Download {
    answer: Rc<Early>,
    deadline: Deadline,
    /// Over the request's body, which may still be on its way.
    watch: Rc<Watch>,
    /// How far things were when the answer's silence began.
    silent_at: Option<Standing>,
    /// How often [`FULL`] has passed while the application had no room to say more.
    full_for: u16,
    /// The longest silence of the application.
    silence: Silence,
    /// The longest silence of both sides while the request is not whole.
    conversation: Duration,
    _underway: Underway,
}

/// What an answer's silence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// How far the request's body was.
    progress: u64,
    /// Whether that was over.
    is_whole: bool,
    /// Whether the client has yet to take what fills the window.
    is_full: bool,
}

/// An answer that the stream's task looks at while nobody asks for it.
#[derive(Debug)]
struct Early {
    answer: RefCell<Answer>,
    /// Of the client's connection.
    budget: Option<Budget>,
}

impl Ahead for Early {
    fn poll_ahead(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(budget) = &self.budget else { return Poll::Pending };
        self.answer.borrow_mut().poll_ahead(cx, budget)
    }
}

/// Why an answer's body broke off.
#[derive(Debug)]
pub enum Broken {
    /// The connection or the stream failed, or ended before the answer did.
    Http(h2::Error),
    /// Its trailers are no trailers.
    Malformed(&'static str),
    /// The client has not taken too much of the trailers on its connection.
    Crowded,
    /// The application said nothing for too long.
    Silent(Silence),
    /// Neither side said anything for `limits.idle_timeout`, and the request is not whole.
    Idle,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Http(error) => write!(f, "the application broke off its answer: {error}"),
            Broken::Malformed(why) => write!(f, "the application's answer is malformed: {why}"),
            Broken::Silent(silence) => silence.fmt(f),
            Broken::Crowded => f.write_str(CROWDED),
            Broken::Idle => f.write_str("over limits.idle_timeout within an exchange"),
        }
    }
}

impl Answer {
    /// What comes on `stream`, whose head told the `length`.
    #[must_use]
    pub fn new(
        stream: Option<RecvStream>,
        length: Option<u64>,
        grant: Grant,
        upload: Upload,
    ) -> Self {
        let grant = Arc::new(grant);
        let ahead = Taken::default();
        Self { stream, is_data_over: false, left: length, grant, upload, ahead }
    }

    /// An end is one only where the stream has ended: a reset is a cut, also with NO_ERROR, which
    /// may follow a whole answer but not replace its end (RFC 9113 §8.1).
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(data) = self.ahead.take_data() {
            return Poll::Ready(Some(Ok(Frame::data(self.lend(data)))));
        }
        if let Some(end) = self.ahead.end.take() {
            self.ahead.hold = None;
            let frame = end.map(|trailers| trailers.map(Frame::trailers)).transpose();
            return Poll::Ready(frame);
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if !self.is_data_over {
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(self.lend(data))))),
                Some(Err(error)) => return Poll::Ready(Some(Err(Broken::Http(error)))),
                None => self.is_data_over = true,
            }
        }
        ready!(poll_trailers(stream, cx))
            .map(|trailers| trailers.map(Frame::trailers))
            .transpose()
            .into()
    }

    /// Takes what has come, though nobody asks for it, so that trailers are counted. Ready when
    /// they are too many.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, budget: &Budget) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        while !self.is_data_over && self.ahead.end.is_none() {
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => self.ahead.push(data),
                Some(Err(error)) => self.ahead.end = Some(Err(Broken::Http(error))),
                None => self.is_data_over = true,
            }
        }
        if self.ahead.end.is_some() || stream.is_end_stream() {
            return Poll::Pending;
        }
        let mut end = ready!(poll_trailers(stream, cx));
        if let Ok(Some(trailers)) = &end {
            let size = budget::size_of(trailers);
            self.ahead.hold = budget.hold_head(size);
            if size > RATION && self.ahead.hold.is_none() {
                end = Err(Broken::Crowded);
            }
        }
        let is_crowded = matches!(end, Err(Broken::Crowded));
        self.ahead.end = Some(end);
        if is_crowded { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The same bytes; only when they are gone may the application send as many more.
    fn lend(&mut self, data: Bytes) -> Bytes {
        let Some(stream) = &mut self.stream else { return data };
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        let is_last = stream.is_end_stream() && self.ahead.is_empty();
        let flow = stream.flow_control();
        if data.is_empty() || (is_last && data.len() <= RATION) {
            let _ = flow.release_capacity(data.len());
            return data;
        }
        let (flow, grant) = (flow.clone(), Arc::clone(&self.grant));
        Bytes::from_owner(Piece { data, flow, _grant: grant })
    }

    /// Whether the client has yet to take what fills the stream's window.
    fn is_full(&mut self) -> bool {
        self.stream.as_mut().is_some_and(|stream| stream.flow_control().available_capacity() <= 0)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.upload.leave();
        }
    }
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.small.is_empty() && self.end.is_none()
    }

    fn push(&mut self, data: Bytes) {
        if data.len() < SMALL {
            self.small.extend_from_slice(&data);
        }
        if data.len() >= SMALL || self.small.len() >= SMALL {
            self.flush();
        }
        if data.len() >= SMALL {
            self.data.push_back(data);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.data.push_back(std::mem::take(&mut self.small).freeze());
        }
    }

    fn take_data(&mut self) -> Option<Bytes> {
        if self.data.is_empty() {
            self.flush();
        }
        self.data.pop_front()
    }
}

/// The trailers behind the data; `None` at the end of the stream.
fn poll_trailers(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<HeaderMap>, Broken>> {
    Poll::Ready(match ready!(stream.poll_trailers(cx)) {
        Ok(Some(fields)) if fields.len() > FIELDS => {
            Err(Broken::Malformed("it has more than 128 trailer fields"))
        }
        Ok(fields) => Ok(fields),
        Err(error) => Err(Broken::Http(error)),
    })
}

/// A piece of an answer, which takes up a part of its stream's window.
struct Piece {
    data: Bytes,
    flow: FlowControl,
    _grant: Arc<Grant>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // It fails when the stream is over, and nothing is to be released any more.
        let _ = self.flow.release_capacity(self.data.len());
    }
}

impl Download {
    /// The body of an `answer` to a request whose own body `watch` watches over. The application
    /// may be silent for `silence`, and both sides for `conversation` while the request is not
    /// whole. The client has the account `budget`.
    #[must_use]
    pub fn new(
        answer: Answer,
        deadline: Deadline,
        watch: Rc<Watch>,
        (silence, conversation): (Silence, Duration),
        underway: Underway,
        budget: Option<Budget>,
    ) -> Self {
        watch.relax();
        deadline.clear();
        let answer = Rc::new(Early { answer: RefCell::new(answer), budget });
        Self {
            answer,
            deadline,
            watch,
            silent_at: None,
            full_for: 0,
            silence,
            conversation,
            _underway: underway,
        }
    }

    /// The next piece, or the trailers; `None` at the end.
    ///
    /// # Errors
    /// When the answer is cut: it must not look whole to the client.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Poll::Ready(frame) = self.answer.answer.borrow_mut().poll_frame(cx) {
            self.silent_at = None;
            self.full_for = 0;
            return Poll::Ready(frame);
        }
        loop {
            let is_whole = self.watch.is_over();
            let is_full = self.answer.answer.borrow_mut().is_full();
            let standing = Some(Standing { progress: self.watch.progress(), is_whole, is_full });
            if std::mem::replace(&mut self.silent_at, standing) != standing {
                self.deadline.set(match standing {
                    _ if !is_whole => self.conversation,
                    _ if is_full => FULL,
                    _ => self.silence.longest(),
                });
            }
            ready!(self.deadline.poll(cx));
            if !is_whole {
                return Poll::Ready(Some(Err(Broken::Idle)));
            }
            // It is the client who keeps it from going on, but not for ever.
            self.full_for += 1;
            if !is_full || self.full_for > FULL_FOR {
                return Poll::Ready(Some(Err(Broken::Silent(self.silence))));
            }
            self.silent_at = None;
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.answer.answer.borrow().is_end_stream()
    }

    /// What looks at it while nobody asks for it.
    #[must_use]
    pub fn early(&self) -> Weak<dyn Ahead> {
        let own: Rc<dyn Ahead> = Rc::clone(&self.answer) as Rc<dyn Ahead>;
        Rc::downgrade(&own)
    }

    /// Whether it was given up because its client takes nothing.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        matches!(self.answer.answer.borrow().ahead.end, Some(Err(Broken::Crowded)))
    }

    /// How much is to come, where that is known.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match self.answer.answer.borrow().left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
