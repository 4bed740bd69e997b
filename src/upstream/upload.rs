//! A request on its way to an application: the head, and the body as it comes from the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::io::Io;
use crate::proxy::body::{RequestBody, RequestBodyError};

/// What is still to be sent.
#[derive(Debug, Default)]
pub struct Upload {
    /// In this order: a head or chunk size, a piece of the body, what ends the chunk.
    queue: [Bytes; 3],
    source: Source,
    /// Bytes that the socket has taken, and pieces that the client has given.
    written: u64,
    pieces: u64,
}

#[derive(Debug, Default)]
enum Source {
    /// All of it is queued.
    #[default]
    Done,
    /// Counted: the head said how much comes.
    Counted(RequestBody),
    /// Chunked: nobody knows.
    Chunked(RequestBody),
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
    /// `head`, then `body`; it is counted when its size is known and chunked otherwise.
    #[must_use]
    pub fn new(head: Bytes, body: RequestBody) -> Self {
        let source = match body {
            body if body.is_end_stream() => Source::Done,
            body if body.size_hint().exact().is_some() => Source::Counted(body),
            body => Source::Chunked(body),
        };
        Self { queue: [head, Bytes::new(), Bytes::new()], source, written: 0, pieces: 0 }
    }

    /// Whether everything has been handed over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.source, Source::Done) && self.queue.iter().all(Bytes::is_empty)
    }

    /// A figure that grows with whatever moves.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.written + self.pieces
    }

    /// Whether the socket has taken nothing.
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
            Source::Counted(body) | Source::Chunked(body) => Some(body),
            Source::Done => Some(RequestBody::empty()),
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
            for bytes in &mut self.queue {
                let here = left.min(bytes.len());
                bytes.advance(here);
                left -= here;
            }
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
                    Poll::Pending if self.queue[0].is_empty() => {
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

    /// Queues the next piece of the body, or the end of it.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestBodyError>> {
        let (body, chunked) = match &mut self.source {
            Source::Done => return Poll::Ready(Ok(())),
            Source::Counted(body) => (body, false),
            Source::Chunked(body) => (body, true),
        };
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        let ended = body.is_end_stream();
                        self.queue_piece(data, chunked, ended);
                        return Poll::Ready(Ok(()));
                    }
                    // Trailers: HTTP/1.1 applications do not expect any, and merge them badly.
                    Err(_) => {}
                },
                None => {
                    if chunked {
                        self.queue[2] = Bytes::from_static(b"0\r\n\r\n");
                    }
                    self.source = Source::Done;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn queue_piece(&mut self, data: Bytes, chunked: bool, ended: bool) {
        self.pieces += 1;
        if chunked {
            let size = format!("{:x}\r\n", data.len());
            self.queue[0] = if self.queue[0].is_empty() {
                Bytes::from(size)
            } else {
                [&self.queue[0], size.as_bytes()].concat().into()
            };
            let end: &[u8] = if ended { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            self.queue[2] = Bytes::from_static(end);
        }
        self.queue[1] = data;
        if ended {
            self.source = Source::Done;
        }
    }
}
