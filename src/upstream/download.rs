//! An answer on its way from an application: its head, and its body as it comes.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method};
use http_body::Frame;
use tokio::io::AsyncReadExt as _;

use super::chunked::{Chunked, Step};
use super::h1::Error;
use super::io::Io;
use super::response::{self, Framing, Head, Malformed};
use crate::downstream::budget::RATION;

/// How much of an answer is read at a time: fewer, larger pieces cost less processor time.
pub const READ: usize = 64 * 1024;

/// What fills less of the buffer is copied out of it: a byte must not hold the room of 64 KiB.
const LARGE: usize = READ / 2;

/// A head that is larger has a buffer of its own: what is counted for it is what it takes.
const SMALL_HEAD: usize = RATION;

thread_local! {
    /// Where reads go: who waits for an application has no buffer of its own.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(READ));
}

/// What has been read and not yet passed on, and how the body ends.
#[derive(Debug, Default)]
pub struct Download {
    /// What came with the head; read before `input`.
    front: Bytes,
    input: BytesMut,
    /// The size of the buffer that the newest bytes are in.
    buffer: usize,
    body: Body,
}

#[derive(Debug, Default)]
enum Body {
    /// There is none, none left, or none yet.
    #[default]
    Ended,
    Length(u64),
    Chunked(Chunked),
    Close,
}

impl Download {
    /// Whether the body has been read to its end.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.body, Body::Ended)
    }

    /// Whether nothing is left over, not even bytes that belong to nobody.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_ended() && self.front.is_empty() && self.input.is_empty()
    }

    /// How much of the body is to come, where that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self.body {
            Body::Ended => Some(0),
            Body::Length(length) => Some(length),
            Body::Chunked(_) | Body::Close => None,
        }
    }

    /// What has been read beyond the head.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.front
    }

    /// How much room is taken by what has been read of a head that is not whole yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.input.capacity()
    }

    /// The size of the buffer of which the last piece is all that is left; 0 where more waits.
    #[must_use]
    pub fn last_of_buffer(&self) -> usize {
        if self.front.is_empty() && self.input.is_empty() { self.buffer } else { 0 }
    }

    /// How much room is taken by what has been read and not been passed on: a few bytes hold on to
    /// all of the buffer that they came in.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.front.is_empty() && self.input.is_empty() { 0 } else { self.buffer }
    }

    /// Takes a whole head from what was read, if there is one; its fields go into `headers`.
    ///
    /// # Errors
    /// As [`response::parse`].
    pub fn take_head(
        &mut self,
        method: &Method,
        headers: &mut HeaderMap,
    ) -> Result<Option<Head>, Malformed> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let input = std::mem::take(&mut self.input).freeze();
        let Some(head) = response::parse(&input, method, headers)? else {
            self.input = BytesMut::from(input);
            return Ok(None);
        };
        self.front = input.slice(head.length..);
        if head.length > SMALL_HEAD {
            // What is left of the buffer when the head is gone, and the other way round.
            self.front = Bytes::copy_from_slice(&self.front);
            if self.buffer > head.length + head.length / 4 {
                let own = Bytes::copy_from_slice(input.get(..head.length).unwrap_or_default());
                headers.clear();
                response::parse(&own, method, headers)?;
            }
            self.buffer = self.front.len();
        }
        Ok(Some(head))
    }

    /// The head was an interim one: what follows it is another.
    pub fn unread(&mut self) {
        self.input = BytesMut::from(std::mem::take(&mut self.front));
        self.buffer = self.input.capacity();
    }

    /// The head was the final one: what follows it is the body.
    pub fn begin(&mut self, framing: Framing) {
        self.body = match framing {
            Framing::Empty => Body::Ended,
            Framing::Length(length) => Body::Length(length),
            Framing::Close => Body::Close,
            Framing::Chunked => {
                self.unread();
                Body::Chunked(Chunked::default())
            }
        };
    }

    /// The next piece of the body, at most `most` bytes, or its trailers; `None` at its end.
    ///
    /// # Errors
    /// When the body is cut or malformed.
    pub fn poll_frame(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match self.take_piece() {
                Ok(Some(frame)) => return Poll::Ready(frame.map(Ok)),
                Ok(None) => {}
                Err(malformed) => return Poll::Ready(Some(Err(Error::Malformed(malformed)))),
            }
            match ready!(self.poll_read(io, cx, most)) {
                Ok(0) if matches!(self.body, Body::Close) => {
                    self.body = Body::Ended;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(Error::Cut(None)))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Error::Cut(Some(error))))),
            }
        }
    }

    /// What was read of the body: `None` for nothing yet, `Some(None)` for its end.
    fn take_piece(&mut self) -> Result<Option<Option<Frame<Bytes>>>, Malformed> {
        match &mut self.body {
            Body::Ended => Ok(Some(None)),
            _ if self.input.is_empty() && self.front.is_empty() => Ok(None),
            Body::Length(left) => {
                if self.front.is_empty() {
                    // Without its rest, which would hold on to the buffer.
                    self.front = std::mem::take(&mut self.input).freeze();
                }
                // What is left after the last byte belongs to nobody: `is_clean` sees it.
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.front.len());
                *left -= here as u64;
                if *left == 0 {
                    self.body = Body::Ended;
                }
                Ok(Some(Some(Frame::data(self.front.split_to(here)))))
            }
            Body::Chunked(chunked) => match chunked.step(&mut self.input) {
                Ok(Step::Data(data)) => {
                    if self.input.is_empty() {
                        self.input = BytesMut::new();
                    }
                    Ok(Some(Some(Frame::data(data))))
                }
                Ok(Step::More) => Ok(None),
                Ok(Step::End(trailers)) => {
                    self.body = Body::Ended;
                    Ok(Some((!trailers.is_empty()).then(|| Frame::trailers(trailers))))
                }
                Err(error) => Err(Malformed(error.0)),
            },
            Body::Close if self.front.is_empty() => {
                Ok(Some(Some(Frame::data(std::mem::take(&mut self.input).freeze()))))
            }
            Body::Close => Ok(Some(Some(Frame::data(std::mem::take(&mut self.front))))),
        }
    }

    /// Reads more, at most `most` bytes. `Ok(0)` at the end of the stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn poll_read(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let wanted = match self.body {
            Body::Length(left) => usize::try_from(left).unwrap_or(READ).min(most),
            Body::Ended | Body::Chunked(_) | Body::Close => most,
        };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            // All of it again where the last read took it along.
            scratch.reserve(READ);
            let read = ready!(pin!(io.read_buf(&mut scratch.limit(wanted))).poll(cx))?;
            if read >= LARGE && self.input.is_empty() {
                self.input = std::mem::take(scratch);
                self.buffer = READ;
            } else {
                let held = self.held();
                self.input.extend_from_slice(scratch);
                self.buffer = self.input.capacity().max(held);
            }
            Poll::Ready(Ok(read))
        })
    }
}
