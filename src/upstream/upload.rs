//! A request on its way to an application: the head, and the body as it comes from the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::io::Io;
use crate::proxy::request_body::{RequestBody, RequestBodyError};

/// What is still to be sent.
#[derive(Debug, Default)]
pub struct Upload {
    /// In this order: a head or chunk size, a piece of the body, what ends the chunk.
    queue: [Bytes; 3],
    source: Source,
    /// The last piece of a counted body, until the client has ended it: over HTTP/2 more may come,
    /// or trailers that are none, and the request was a lie when it is whole already.
    held: Bytes,
    /// Bytes that the stream has taken, and pieces that the client has given.
    written: u64,
    pieces: u64,
    /// Bytes of the body that the client has given.
    taken: u64,
    /// Whether the stream may still hold some of them: TLS seals them first.
    is_unflushed: bool,
}

#[derive(Debug, Default)]
enum Source {
    /// All of it is queued.
    #[default]
    Done,
    /// Counted: the head said how much comes; so much is left of it.
    Counted(RequestBody, u64),
    /// Chunked: nobody knows.
    Chunked(RequestBody),
    /// It broke off: nothing more comes, least of all an end.
    Failed(RequestBodyError),
}

/// Why an upload stopped.
#[derive(Debug)]
pub enum UploadError {
    /// The client's fault.
    Downstream(RequestBodyError),
    /// The application's.
    Upstream(io::Error),
}

/// What an unfinished upload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// More from the client.
    Downstream,
    /// The application to take what there is.
    Upstream,
}

impl Upload {
    /// `head`, then `body`; it is counted when its size is known and chunked otherwise, which is
    /// what the head says of it.
    #[must_use]
    pub fn new(head: Bytes, body: RequestBody) -> Self {
        let source = match body.size_hint().exact() {
            Some(0) if body.is_end_stream() => Source::Done,
            Some(length) => Source::Counted(body, length),
            None => Source::Chunked(body),
        };
        let queue = [head, Bytes::new(), Bytes::new()];
        let held = Bytes::new();
        Self { queue, source, held, written: 0, pieces: 0, taken: 0, is_unflushed: false }
    }

    /// Whether everything has been handed over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.source, Source::Done)
            && self.queue.iter().all(Bytes::is_empty)
            && !self.is_unflushed
    }

    /// A figure that grows with whatever moves.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.written + self.pieces
    }

    /// How many bytes of the body the client has given.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether the stream has taken nothing.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.written == 0
    }

    /// The body, if nothing of it has been taken from the client: it can be sent elsewhere.
    #[must_use]
    pub fn into_intact_body(self) -> Option<RequestBody> {
        if self.pieces > 0 {
            return None;
        }
        match self.source {
            Source::Counted(body, _) | Source::Chunked(body) => Some(body),
            Source::Done => Some(RequestBody::empty()),
            Source::Failed(_) => None,
        }
    }

    /// Sends only what is queued: the head of a request whose body waits to be asked for.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn poll_queued(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.queue.iter().any(|bytes| !bytes.is_empty()) {
            let [first, second, third] = &self.queue;
            let stream = Pin::new(&mut *io);
            let written = if second.is_empty() && third.is_empty() {
                stream.poll_write(cx, first)
            } else {
                let slices = [first, second, third].map(|bytes| IoSlice::new(bytes));
                stream.poll_write_vectored(cx, &slices)
            };
            let mut left = ready!(written)?;
            if left == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += left as u64;
            self.is_unflushed = true;
            for bytes in &mut self.queue {
                let here = left.min(bytes.len());
                left -= here;
                if here == bytes.len() {
                    // Nothing is left of it but a hold on the buffer that it came in.
                    *bytes = Bytes::new();
                } else {
                    bytes.advance(here);
                }
            }
        }
        if self.is_unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends as much as both sides allow; while pending, `waiting` tells for whom.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub fn poll(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
        waiting: &mut Option<Waiting>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            *waiting = Some(Waiting::Upstream);
            // A first piece of the body travels with the head when it is there already.
            if self.queue[1].is_empty() && self.queue[2].is_empty() {
                match self.poll_fill(cx) {
                    Poll::Ready(result) => result.map_err(UploadError::Downstream)?,
                    Poll::Pending if self.queue[0].is_empty() || self.is_withheld() => {
                        *waiting = Some(Waiting::Downstream);
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
            ready!(self.poll_queued(io, cx)).map_err(UploadError::Upstream)?;
            if self.is_done() {
                *waiting = None;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether the head alone would be a whole request while the client, who said over HTTP/2 that
    /// nothing follows, has not ended its stream: what it sends next may make the request a lie.
    fn is_withheld(&self) -> bool {
        matches!(self.source, Source::Counted(_, 0)) && self.is_unsent()
    }

    /// Queues the next piece of the body, or the end of it.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestBodyError>> {
        let result = loop {
            let frame = match &mut self.source {
                Source::Done => return Poll::Ready(Ok(())),
                // Asked again, a body that broke off looks as if it had ended.
                Source::Failed(error) => return Poll::Ready(Err(error.clone())),
                Source::Counted(body, _) | Source::Chunked(body) => {
                    ready!(Pin::new(body).poll_frame(cx))
                }
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => {}
                Some(Ok(Ok(data))) if self.is_to_be_held(&data) => {
                    self.held = data;
                    self.pieces += 1;
                }
                Some(Ok(Ok(data))) => break self.queue_piece(data),
                // Trailers: HTTP/1.1 applications do not expect any, and merge them badly.
                Some(Ok(Err(_))) => {}
                Some(Err(error)) => break Err(error),
                None => {
                    let held = std::mem::take(&mut self.held);
                    break self.queue_piece(held);
                }
            }
        };
        self.pieces += 1;
        if let Err(error) = &result {
            self.source = Source::Failed(error.clone());
        }
        Poll::Ready(result)
    }

    /// Whether this is all that was counted, and the client has not said that it is.
    fn is_to_be_held(&self, data: &Bytes) -> bool {
        match &self.source {
            Source::Counted(body, left) => {
                self.held.is_empty() && *left == data.len() as u64 && !body.is_end_stream()
            }
            _ => false,
        }
    }

    /// Queues a piece of the body; an empty one is its end.
    fn queue_piece(&mut self, data: Bytes) -> Result<(), RequestBodyError> {
        self.taken += data.len() as u64;
        let is_last = match &mut self.source {
            Source::Counted(body, left) => {
                // A byte more or less would be taken for the beginning of another request.
                let left_over = left.checked_sub(data.len() as u64);
                let rest = left_over.filter(|_| self.held.is_empty());
                let is_last = data.is_empty() || rest == Some(0) || body.is_end_stream();
                match rest {
                    Some(rest) if rest == 0 || !is_last => *left = rest,
                    _ => return Err(RequestBodyError::Miscounted),
                }
                is_last
            }
            Source::Chunked(_) if data.is_empty() => {
                self.queue[2] = Bytes::from_static(b"0\r\n\r\n");
                true
            }
            Source::Chunked(body) => {
                let is_last = body.is_end_stream();
                let size = format!("{:x}\r\n", data.len());
                self.queue[0] = if self.queue[0].is_empty() {
                    Bytes::from(size)
                } else {
                    [&self.queue[0], size.as_bytes()].concat().into()
                };
                let end: &[u8] = if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                self.queue[2] = Bytes::from_static(end);
                is_last
            }
            Source::Done | Source::Failed(_) => return Ok(()),
        };
        self.queue[1] = data;
        if is_last {
            self.source = Source::Done;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
