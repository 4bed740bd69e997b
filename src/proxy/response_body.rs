//! An answer's body as it passes through, piece by piece.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::headers::hop;
use super::record::Record;
use crate::downstream::budget::{self, Budget, CROWDED, HeadHold, RATION, Reservation, Share};
use crate::downstream::streams::Watch;
use crate::observe::metrics::Limit;
use crate::upstream::download::READ;
use crate::upstream::h1;
use crate::upstream::h2c::download::{Broken, Download};
use crate::upstream::pool::Lease;
use crate::upstream::silence::Silence;

/// A response's body on its way to the client. It ends the request's record when it ends.
#[derive(Debug)]
pub struct Body {
    source: Source,
    is_cut: bool,
    /// What counts the pieces, over HTTP/2.
    budget: Option<Budget>,
    /// Once there is a piece that counts.
    share: Option<Share>,
    /// What has been read of it and not been handed over.
    rest: Rest,
    /// What notices that the client makes no room for more, over HTTP/2.
    watch: Option<Rc<Watch>>,
    record: Option<Box<Record>>,
}

/// How what is left of a read is counted.
#[derive(Debug, Default)]
enum Rest {
    #[default]
    None,
    /// Pieces that wait for their turn.
    Whole(Reservation),
    /// A part of trailers, or of a chunk's size, the rest of which may never come.
    Part { _hold: HeadHold },
}

#[derive(Debug)]
enum Source {
    Empty,
    Full(Bytes),
    /// From an application that speaks HTTP/1.1.
    Http1(Lease),
    /// From an application that speaks HTTP/2.
    Http2(Download),
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
    pub fn http2(body: Download, record: Box<Record>) -> Self {
        let source = if body.is_end_stream() { Source::Empty } else { Source::Http2(body) };
        Self::new(source, record)
    }

    /// No body, and nobody who cares when it ends.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            source: Source::Empty,
            is_cut: false,
            budget: None,
            share: None,
            rest: Rest::None,
            watch: None,
            record: None,
        }
    }

    fn new(source: Source, record: Box<Record>) -> Self {
        let streams = matches!(source, Source::Http1(_) | Source::Http2(_));
        let budget = record.connection().budget.clone().filter(|_| streams);
        let watch = budget.as_ref().and_then(|_| Watch::current(record.connection()));
        if let (Some(watch), Source::Http2(body)) = (&watch, &source) {
            watch.look_at(body.early());
        }
        let record = Some(record);
        let (share, rest) = (None, Rest::None);
        let mut body = Self { source, is_cut: false, budget, share, rest, watch, record };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The last byte is out of our hands: the record is complete.
    fn finish(&mut self) {
        self.source = Source::Empty;
        self.rest = Rest::None;
        if let Some(record) = self.record.take() {
            record.complete();
        }
    }

    /// The frame, counted in what the connection holds. A small answer's only piece is not worth
    /// it.
    fn counted(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Some(budget) = &self.budget else { return frame };
        let pinned = match &mut self.source {
            Source::Http1(lease) => {
                lease.connection().map_or(0, |own| own.download.last_of_buffer())
            }
            _ => 0,
        };
        let size = frame.data_ref().map_or(0, Bytes::len).max(pinned);
        if size <= RATION && self.share.is_none() && self.is_end_stream() {
            return frame;
        }
        let share = self.share.get_or_insert_with(|| budget.share());
        if matches!(self.source, Source::Http2(_)) {
            // Room for its bytes has been set aside with the stream's window.
            return frame.map_data(|data| share.hold_reserved(data));
        }
        frame.map_data(|data| share.hold(data, pinned))
    }

    /// Trailers, counted until they are written or given up.
    fn counted_trailers(&self, mut trailers: HeaderMap) -> Result<HeaderMap, Cut> {
        let size = budget::size_of(&trailers);
        if let Some(budget) = &self.budget
            && size > RATION
        {
            let hold = budget.hold_head(size).ok_or_else(Cut::crowded)?;
            hold.go_with(&mut trailers);
        }
        Ok(trailers)
    }

    /// Counts what has been read and not been handed over; `is_part` says that it is nothing whole.
    fn count_rest(&mut self, is_part: bool) -> Result<(), Cut> {
        let (Some(budget), Source::Http1(lease)) = (&self.budget, &mut self.source) else {
            return Ok(());
        };
        let held = lease.connection().map_or(0, |own| own.download.held());
        match &mut self.rest {
            _ if is_part && held > RATION => {
                self.rest = Rest::None;
                self.rest = Rest::Part { _hold: budget.hold_head(held).ok_or_else(Cut::crowded)? };
            }
            rest if held == 0 => *rest = Rest::None,
            Rest::Whole(rest) => rest.resize(held),
            rest => *rest = Rest::Whole(budget.reserve(held)),
        }
        Ok(())
    }

    /// The next piece, trailers or the end, counted.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let most = match (&self.share, &self.budget) {
            (Some(share), _) => ready!(share.poll_room(cx)),
            (None, Some(budget)) => budget.room(),
            (None, None) => READ,
        };
        let polled = self.poll_source(cx, most);
        if let Err(crowded) = self.count_rest(polled.is_pending()) {
            return Poll::Ready(Some(Err(crowded)));
        }
        let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
        Poll::Ready(Some(match frame.into_trailers() {
            Ok(trailers) => {
                self.counted_trailers(hop::kept_trailers(trailers)).map(Frame::trailers)
            }
            Err(frame) => Ok(self.counted(frame)),
        }))
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Cut(error) => Poll::Ready(Some(Err(Cut(std::mem::take(error), None)))),
            Source::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Http1(lease) => match lease.connection() {
                None => Poll::Ready(None),
                Some(connection) => connection
                    .poll_body(cx, most)
                    .map(|frame| frame.map(|result| result.map_err(|error| Cut::from(&error)))),
            },
            Source::Http2(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|result| result.map_err(|error| Cut::from(&error)))),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let (Source::Http2(body), Some(record)) = (&self.source, &mut self.record)
            && body.is_crowded()
        {
            record.cut(CROWDED);
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
        if let Some(watch) = &this.watch {
            watch.asked();
        }
        let frame = match ready!(this.poll_piece(cx)) {
            None => {
                this.finish();
                return Poll::Ready(None);
            }
            Some(Err(Cut(error, limit))) if !std::mem::replace(&mut this.is_cut, true) => {
                if let (Some(limit), Some(record)) = (limit, &this.record) {
                    record.connection().worker.metrics.limits.count(limit);
                    if limit == Limit::UpstreamTimeout {
                        record.complain_of_upstream(&error);
                    }
                }
                // The library drops what it has not flushed when a body fails. It gets one more
                // turn, so that the client sees what there was, and that it was cut.
                this.source = Source::Cut(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Err(Cut(error, _))) => {
                if let Some(record) = &mut this.record {
                    record.cut(&error);
                }
                this.record = None;
                return Poll::Ready(Some(Err(BodyError(error))));
            }
            Some(Ok(frame)) => frame,
        };
        if let (Some(record), Some(data)) = (&mut this.record, frame.data_ref()) {
            record.bytes_out += data.len() as u64;
        }
        if this.is_end_stream() {
            this.finish();
        } else if let Some(watch) = &this.watch {
            watch.handed();
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

/// Why an answer broke off, and the limit that it was over.
struct Cut(String, Option<Limit>);

impl Cut {
    fn crowded() -> Self {
        Self(CROWDED.to_owned(), None)
    }
}

impl From<&h1::Error> for Cut {
    fn from(error: &h1::Error) -> Self {
        let why = match error {
            h1::Error::Cut(Some(error)) => format!("the application broke off its answer: {error}"),
            h1::Error::Malformed(reason) => {
                format!("the application's answer is malformed: {reason}")
            }
            h1::Error::Silent(silence) => return Self::from(*silence),
            h1::Error::Idle => {
                return Self(Broken::Idle.to_string(), Some(Limit::IdleTimeout));
            }
            _ => "the application broke off its answer".to_owned(),
        };
        Self(why, None)
    }
}

impl From<&Broken> for Cut {
    fn from(error: &Broken) -> Self {
        match error {
            Broken::Silent(silence) => Self::from(*silence),
            Broken::Idle => Self(error.to_string(), Some(Limit::IdleTimeout)),
            _ => Self(error.to_string(), None),
        }
    }
}

impl From<Silence> for Cut {
    fn from(silence: Silence) -> Self {
        Self(silence.to_string(), (!silence.is_of_stream).then_some(Limit::UpstreamTimeout))
    }
}
