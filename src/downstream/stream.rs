//! The byte stream of one client: a socket, with TLS or without.
//!
//! Under TLS, what is written is sealed at once and goes to the socket at the end of the task's
//! turn, so that a response of many small writes (the frames of HTTP/2, a head and its body) costs
//! one system call. [`Stream::poll_send`] is that end of the turn. The socket is read in large
//! pieces through a buffer that all connections of the worker share, so that an idle connection
//! holds none.

use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::inspection::Inspection;
use super::sealed::{self, Sealed};
use super::turns::Turns;

/// What may be put between two writes: a socket that is not blocked has room for it.
const INJECTED: usize = 4 * 1024;

/// What is read ahead of a client whose last request may have been its last.
const AHEAD: usize = 4 * 1024;

/// A handle on the stream: the connection's driver holds one, the HTTP library another.
#[derive(Clone, Debug)]
pub struct Stream(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    io: RefCell<Io>,
    inspection: Inspection,
    received: Cell<u64>,
    sent: Cell<u64>,
    blocked: Cell<bool>,
    turns: Turns,
}

#[derive(Debug)]
struct Io {
    socket: TcpStream,
    tls: Option<Sealed>,
    /// Plain bytes to be read before anything else: what a parser gave back.
    rewound: Bytes,
    ended: bool,
}

impl Stream {
    /// A stream without TLS.
    #[must_use]
    pub fn plain(socket: TcpStream) -> Self {
        Self::new(socket, None)
    }

    /// A stream whose handshake is done.
    #[must_use]
    pub fn tls(socket: TcpStream, connection: ServerConnection) -> Self {
        Self::new(socket, Some(Sealed::new(connection)))
    }

    fn new(socket: TcpStream, tls: Option<Sealed>) -> Self {
        let io = Io { socket, tls, rewound: Bytes::new(), ended: false };
        Self(Rc::new(Shared {
            io: RefCell::new(io),
            inspection: Inspection::default(),
            received: Cell::new(0),
            sent: Cell::new(0),
            blocked: Cell::new(false),
            turns: Turns::default(),
        }))
    }

    /// Plain bytes handed to the reader so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.0.received.get()
    }

    /// Bytes that the socket has taken so far, sealed ones where there is TLS.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.sent.get()
    }

    /// What its bytes are held to on their way to the reader.
    pub(super) fn inspection(&self) -> &Inspection {
        &self.0.inspection
    }

    /// Whether the peer takes less than we have to send.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.0.blocked.get()
    }

    /// Whether bytes from the peer wait in a buffer of ours.
    #[must_use]
    pub fn has_buffered_input(&self) -> bool {
        self.0.io.borrow().has_buffered_input()
    }

    /// Gives `bytes` back to be read again, first of all.
    pub fn rewind(&self, bytes: Bytes) {
        // Empty bytes can stand for a buffer that is not.
        if bytes.is_empty() {
            return;
        }
        self.0.inspection.rewind();
        self.put_back(bytes);
    }

    /// Puts `bytes` between two writes of the HTTP library: an interim response.
    ///
    /// Returns whether it could; it cannot while the peer takes less than we have to send, nor if
    /// there is no room to be sure of for so much.
    pub fn inject(&self, bytes: &[u8]) -> bool {
        if self.is_blocked() || bytes.len() > INJECTED {
            return false;
        }
        let mut io = self.0.io.borrow_mut();
        let taken = match io.tls.as_mut() {
            Some(tls) => tls.seal(&[IoSlice::new(bytes)]),
            None => io.socket.try_write(bytes),
        };
        if matches!(taken, Ok(n) if 0 < n && n < bytes.len()) {
            // A response behind a part of this would be read as the rest of it.
            let _ = SockRef::from(&io.socket).shutdown(Shutdown::Both);
        }
        matches!(taken, Ok(n) if n == bytes.len())
    }

    /// Hands all that is sealed to the socket: the end of a task's turn.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.io.borrow_mut();
        if io.tls.is_none() {
            // Nothing waits here: the socket took it, or the writer still has it.
            return Poll::Ready(Ok(()));
        }
        let result = self.poll_send_sealed(&mut io, cx);
        self.0.blocked.set(result.is_pending());
        if result.is_ready() {
            self.0.turns.end();
        }
        result
    }

    /// Ready when the socket has taken all that there was since the turn `after`; with the number
    /// of the turn that it did so in. Under TLS only.
    pub fn poll_turn(&self, cx: &mut Context<'_>, after: Option<u64>) -> Poll<u64> {
        self.0.turns.poll(cx, self.is_blocked(), after)
    }

    /// Ready when there is something to read, or the peer has ended; takes nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.0.io.borrow();
        if io.has_buffered_input() {
            return Poll::Ready(Ok(()));
        }
        io.socket.poll_read_ready(cx)
    }

    /// Says farewell as TLS asks for it, sends what is left, and ends the sending side.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.io.borrow_mut();
        if !io.ended {
            io.ended = true;
            if let Some(tls) = io.tls.as_mut() {
                tls.say_farewell();
            }
        }
        ready!(self.poll_send_sealed(&mut io, cx))?;
        Pin::new(&mut io.socket).poll_shutdown(cx)
    }

    /// Has the kernel reset the connection when it is closed: without TLS nothing else tells a
    /// client that an answer which lasts until the end of the connection was cut.
    pub fn reset_on_close(&self) {
        let io = self.0.io.borrow();
        if io.tls.is_none() {
            // A socket that is gone already has nothing left to tell.
            let _ = SockRef::from(&io.socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Reads from the socket and forgets what was read: `Ok(0)` at the end of the peer's sending.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut io = self.0.io.borrow_mut();
        sealed::poll_plain(&mut io.socket, cx, usize::MAX, |_| {})
    }

    fn poll_send_sealed(
        &self,
        io: &mut RefMut<'_, Io>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Io { socket, tls: Some(tls), .. } = &mut **io else { return Poll::Ready(Ok(())) };
        tls.poll_send(socket, cx, |n| self.0.sent.set(self.0.sent.get() + n as u64))
    }

    /// While what comes is held back: the reader sees only the end of the stream.
    fn poll_ahead(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.0.io.borrow().rewound.is_empty() {
            return Poll::Pending;
        }
        let mut ahead = Bytes::new();
        ready!(self.poll_input(cx, AHEAD, |bytes| ahead = Bytes::copy_from_slice(bytes)))?;
        let is_end = ahead.is_empty();
        self.put_back(ahead);
        if is_end { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Has `bytes`, the last that were taken, read again before anything else.
    fn put_back(&self, bytes: Bytes) {
        self.0.received.set(self.0.received.get() - bytes.len() as u64);
        let mut io = self.0.io.borrow_mut();
        io.rewound = match (bytes.is_empty(), io.rewound.is_empty()) {
            (true, _) => return,
            (_, true) => bytes,
            _ => [bytes, std::mem::take(&mut io.rewound)].concat().into(),
        };
    }

    /// Calls `take` with at most `room` bytes from the peer: none at its end.
    fn poll_input(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<()>> {
        let mut io = self.0.io.borrow_mut();
        let taken = if !io.rewound.is_empty() {
            let n = room.min(io.rewound.len());
            take(&io.rewound.split_to(n));
            n
        } else {
            let Io { socket, tls, .. } = &mut *io;
            ready!(match tls {
                Some(tls) => tls.poll_open(socket, cx, room, take),
                None => sealed::poll_plain(socket, cx, room, take),
            })?
        };
        self.0.received.set(self.0.received.get() + taken as u64);
        Poll::Ready(Ok(()))
    }

    fn poll_output(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut io = self.0.io.borrow_mut();
        if io.tls.is_none() {
            let result = Pin::new(&mut io.socket).poll_write_vectored(cx, slices);
            self.0.blocked.set(result.is_pending());
            if let Poll::Ready(Ok(n)) = result {
                self.0.sent.set(self.0.sent.get() + n as u64);
            }
            return result;
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        loop {
            if let Some(tls) = io.tls.as_mut() {
                let n = tls.seal(slices)?;
                if n > 0 {
                    return Poll::Ready(Ok(n));
                }
            }
            let result = self.poll_send_sealed(&mut io, cx);
            self.0.blocked.set(result.is_pending());
            ready!(result)?;
        }
    }
}

impl Io {
    fn has_buffered_input(&self) -> bool {
        !self.rewound.is_empty() || self.tls.as_ref().is_some_and(Sealed::has_unread)
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let inspection = &self.0.inspection;
        if inspection.is_over() {
            return Poll::Pending;
        }
        if let Some(error) = inspection.broken() {
            return Poll::Ready(Err(error));
        }
        if inspection.is_holding() {
            return self.poll_ahead(cx);
        }
        if inspection.needs_rest() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (mut is_empty, mut ahead) = (false, Bytes::new());
        ready!(self.poll_input(cx, buffer.remaining(), |bytes| {
            let passed = inspection.look(bytes);
            buffer.put_slice(bytes.get(..passed).unwrap_or_default());
            is_empty = passed == 0 && !bytes.is_empty();
            if inspection.is_holding() {
                ahead = Bytes::copy_from_slice(bytes.get(passed..).unwrap_or_default());
            }
        }))?;
        self.put_back(ahead);
        match inspection.broken() {
            Some(error) if is_empty => Poll::Ready(Err(error)),
            // Nothing would look like the end of the stream.
            None if is_empty => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// Flushing and shutting down are no business of the HTTP library: the connection's driver sends
/// at the end of each turn, and it closes.
impl hyper::rt::Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_output(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_output(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The stream as a tunnel uses it.
impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_input(cx, buffer.remaining(), |bytes| buffer.put_slice(bytes))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_output(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
