//! Bodies that tests send and serve: whole, streamed by hand, or of any size without the memory.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// A body of a request or an answer.
pub struct Body {
    source: Source,
    trailers: Option<HeaderMap>,
}

enum Source {
    Whole(Option<Bytes>),
    Pattern { at: u64, size: u64, counted: bool },
    Channel(mpsc::Receiver<Result<Frame<Bytes>, Broken>>),
}

/// The hand that feeds a streamed body; dropping it ends the body well.
pub struct Feed(mpsc::Sender<Result<Frame<Bytes>, Broken>>);

/// The body was broken off on purpose.
#[derive(Debug)]
pub struct Broken;

/// What was read of a body to its end.
#[derive(Debug, Default)]
pub struct Measured {
    /// Bytes of data.
    pub size: u64,
    /// Whether they were those of [`Body::of_size`].
    pub intact: bool,
    /// Whether it ended well rather than by an error.
    pub complete: bool,
    /// The fields after it.
    pub trailers: Option<HeaderMap>,
}

const CHUNK: usize = 64 * 1024;
const PERIOD: usize = 251;

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self { source: Source::Whole(None), trailers: None }
    }

    /// `size` bytes that can be checked at the other end, with a known length.
    pub fn of_size(size: u64) -> Self {
        Self { source: Source::Pattern { at: 0, size, counted: true }, trailers: None }
    }

    /// `size` such bytes whose length is not told beforehand: chunked in HTTP/1.1.
    pub fn of_untold_size(size: u64) -> Self {
        Self { source: Source::Pattern { at: 0, size, counted: false }, trailers: None }
    }

    /// A body that the test feeds by hand.
    pub fn fed() -> (Self, Feed) {
        let (sender, receiver) = mpsc::channel(1);
        (Self { source: Source::Channel(receiver), trailers: None }, Feed(sender))
    }

    /// The same body followed by these fields.
    pub fn with_trailers(mut self, fields: &[(&'static str, &'static str)]) -> Self {
        self.trailers = Some(field_map(fields));
        self
    }
}

impl Feed {
    /// Sends a piece; false when nobody reads any more.
    pub async fn send(&self, data: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(data.into()))).await.is_ok()
    }

    /// Sends a piece from a test's own thread; false when nobody reads any more.
    pub fn give(&self, data: impl Into<Bytes>) -> bool {
        self.0.blocking_send(Ok(Frame::data(data.into()))).is_ok()
    }

    /// Breaks the body off.
    pub fn break_off(self) {
        let _ = self.0.blocking_send(Err(Broken));
    }

    /// Whether the reader has gone.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

/// Reads a body to its end or its failure.
pub async fn measure(mut body: Incoming) -> Measured {
    let mut measured = Measured { intact: true, ..Measured::default() };
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return measured };
        match frame.into_data() {
            Ok(data) => {
                measured.intact &= is_pattern(measured.size, &data);
                measured.size += data.len() as u64;
            }
            Err(frame) => measured.trailers = frame.into_trailers().ok(),
        }
    }
    measured.complete = true;
    measured
}

/// The fields as a map.
pub fn field_map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let data = match &mut self.source {
            Source::Whole(data) => data.take(),
            Source::Pattern { at, size, .. } => pattern_chunk(at, *size),
            Source::Channel(receiver) => match receiver.poll_recv(context) {
                Poll::Ready(None) => None,
                frame => return frame,
            },
        };
        let frame = data.map(Frame::data).or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none()
            && match &self.source {
                Source::Whole(data) => data.is_none(),
                Source::Pattern { at, size, counted } => *counted && at == size,
                Source::Channel(_) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            _ if self.trailers.is_some() => SizeHint::default(),
            Source::Whole(data) => SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64),
            Source::Pattern { at, size, counted: true } => SizeHint::with_exact(size - at),
            Source::Pattern { .. } | Source::Channel(_) => SizeHint::default(),
        }
    }
}

fn pattern() -> &'static Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    PATTERN.get_or_init(|| (0..CHUNK * 2 + PERIOD).map(|i| (i % PERIOD) as u8).collect())
}

fn pattern_chunk(at: &mut u64, size: u64) -> Option<Bytes> {
    let length = (size - *at).min(CHUNK as u64) as usize;
    let start = (*at % PERIOD as u64) as usize;
    *at += length as u64;
    (length > 0).then(|| pattern().slice(start..start + length))
}

fn is_pattern(at: u64, data: &[u8]) -> bool {
    let mut start = (at % PERIOD as u64) as usize;
    data.chunks(CHUNK).all(|piece| {
        let same = pattern()[start..start + piece.len()] == *piece;
        start = (start + piece.len()) % PERIOD;
        same
    })
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::from(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<Vec<u8>> for Body {
    fn from(data: Vec<u8>) -> Self {
        Self::from(Bytes::from(data))
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Self {
        Self { source: Source::Whole((!data.is_empty()).then_some(data)), trailers: None }
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}
