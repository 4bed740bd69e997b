//! What moves between a client and an application once they speak WebSocket.
//!
//! Nothing is read of one side before the other takes it, as far as that can be known; what waits
//! all the same is counted in the account of the client's connection ([`Budget`]), where it has
//! a hundred tunnels, and each of them gets less the more there is.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::record::Record;
use crate::downstream::budget::{Budget, Loan, PIECE_OF_TUNNEL};
use crate::downstream::connection::Connection;
use crate::downstream::stream::Stream;
use crate::downstream::streams::Sending;
use crate::upstream::h1::Accounted;
use crate::upstream::io::Io;
use crate::worker::deadline::Deadline;

thread_local! {
    /// Where reads go: a tunnel in which nothing waits holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE_OF_TUNNEL].into());
}

/// A tunnel that is agreed on.
#[derive(Debug)]
pub struct Tunnel {
    upstream: Io,
    /// What the application has said already.
    early: Bytes,
    _accounted: Accounted,
    record: Box<Record>,
}

/// How a tunnel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides know, or the client has gone.
    Orderly,
    /// The application broke it off, and the client is to see that it did.
    Cut,
}

impl Tunnel {
    /// Between the client of `record` and the application behind `upstream`.
    #[must_use]
    pub fn new(upstream: Io, early: Bytes, accounted: Accounted, record: Box<Record>) -> Self {
        Self { upstream, early, _accounted: accounted, record }
    }

    /// Carries bytes both ways until both ends have ended, one has failed, or nothing has moved
    /// for `limits.idle_timeout`.
    pub async fn run(self, downstream: impl AsyncRead + Sink, deadline: &Deadline) -> TunnelEnd {
        let Self { upstream, early, _accounted, mut record } = self;
        let worker = Rc::clone(&record.connection().worker);
        let _open = worker.metrics.hold(|metrics| &metrics.tunnels);
        let idle = record.view.limits().idle_timeout;
        let budget = &record.connection().budget;
        let (mut down, mut up) = (downstream, upstream);
        let (mut to_up, mut to_down) = (Half::new(budget), Half::new(budget));
        to_down.keep(&early);
        drop(early);
        deadline.set(idle);
        let result = poll_fn(|cx| {
            let before = to_up.moved + to_down.moved;
            // First, so that the application's last words are not lost to our own.
            let downwards = to_down.poll(&mut up, &mut down, cx)?;
            let upwards = to_up.poll(&mut down, &mut up, cx).map_err(Broken::seen_from_behind)?;
            if upwards.is_ready() && downwards.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if to_up.moved + to_down.moved > before {
                deadline.set(idle);
            }
            deadline.poll(cx).map(|()| Err(Broken::Idle))
        });
        let result: Result<(), Broken> = result.await;
        // What is underway is to be seen, however it ended.
        let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut down).poll_flush(cx))).await;
        record.bytes_in.set(to_up.moved);
        record.bytes_out = to_down.moved;
        match result {
            Err(Broken::Idle) => record.cut("nothing moved for limits.idle_timeout"),
            // Once it has said that it is at its end, it may leave as it likes.
            Err(Broken::Source(error)) if !to_down.ended => {
                record.cut(&format!("the application broke off the tunnel: {error}"));
                return TunnelEnd::Cut;
            }
            Err(Broken::Sink(_)) if !to_up.ended => {
                // RFC 8441 §5 has a reset of one side be one of the other.
                up.reset_on_close();
                record.complete();
            }
            _ => record.complete(),
        }
        TunnelEnd::Orderly
    }
}

/// Why a tunnel is given up: of the application's words to the client, either side.
#[derive(Debug)]
enum Broken {
    Source(io::Error),
    Sink(io::Error),
    Idle,
}

impl Broken {
    /// What it is to the other direction.
    fn seen_from_behind(self) -> Self {
        match self {
            Broken::Source(error) => Broken::Sink(error),
            Broken::Sink(error) => Broken::Source(error),
            Broken::Idle => Broken::Idle,
        }
    }
}

/// Where one direction of a tunnel goes.
pub trait Sink: AsyncWrite + Unpin {
    /// Ready when it is worth reading something for it.
    ///
    /// # Errors
    /// When nothing can be written any more.
    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Sink for Io {}
impl Sink for Stream {}

/// One direction of a tunnel.
#[derive(Debug)]
struct Half {
    /// What the sink has not taken.
    pending: Vec<u8>,
    loan: Option<Loan>,
    budget: Option<Budget>,
    moved: u64,
    ended: bool,
    closed: bool,
}

impl Half {
    fn new(budget: &Option<Budget>) -> Self {
        let (pending, budget) = (Vec::new(), budget.clone());
        Self { pending, loan: None, budget, moved: 0, ended: false, closed: false }
    }

    /// Moves what there is; ready when the source has ended and the sink knows it.
    fn poll(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Broken> {
        match self.poll_move(source, sink, cx) {
            Poll::Ready(result) => result.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_move(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while !self.closed {
            if !self.pending.is_empty() {
                let mut rest = std::mem::take(&mut self.pending);
                let result = self.poll_write(sink, cx, &rest);
                if let Poll::Ready(Ok(n)) = result {
                    rest.drain(..n);
                }
                self.pending = rest;
                ready!(result).map_err(Broken::Sink)?;
                if self.pending.is_empty() {
                    // An idle tunnel holds no buffer.
                    (self.pending, self.loan) = (Vec::new(), None);
                }
                continue;
            }
            if self.ended {
                ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Broken::Sink)?;
                self.closed = true;
                continue;
            }
            ready!(sink.poll_room(cx)).map_err(Broken::Sink)?;
            if self.poll_piece(source, sink, cx)?.is_pending() {
                // What was written must not wait for more to come.
                let _ = Pin::new(&mut *sink).poll_flush(cx).map_err(Broken::Sink)?;
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads a piece, has the sink take of it what it will, and keeps the rest.
    fn poll_piece(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Broken> {
        let most = self.budget.as_ref().map_or(PIECE_OF_TUNNEL, Budget::piece);
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch.get_mut(..most).unwrap_or_default());
            match Pin::new(&mut *source).poll_read(cx, &mut buffer) {
                // TLS without a farewell: whether a message was cut is seen by its framing.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Poll::Ready(result) => result.map_err(Broken::Source)?,
                Poll::Pending => return Ok(Poll::Pending),
            }
            let mut rest = buffer.filled();
            self.ended = rest.is_empty();
            while !rest.is_empty() {
                match self.poll_write(sink, cx, rest) {
                    Poll::Ready(Ok(n)) => rest = rest.get(n..).unwrap_or_default(),
                    Poll::Ready(Err(error)) => return Err(Broken::Sink(error)),
                    Poll::Pending => {
                        self.keep(rest);
                        break;
                    }
                }
            }
            Ok(Poll::Ready(()))
        })
    }

    fn poll_write(
        &mut self,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(sink).poll_write(cx, bytes))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.moved += n as u64;
        Poll::Ready(Ok(n))
    }

    /// Keeps `bytes` until the sink takes them.
    fn keep(&mut self, bytes: &[u8]) {
        self.pending = bytes.to_vec();
        self.loan = self.budget.as_ref().map(|budget| budget.lend(bytes.len()));
    }
}

/// Pieces that the library may still hold when it has taken another one: two in its queue, one that
/// waits for the client's window, and one that the window has let in by a byte.
const UNDERWAY: usize = 4;

/// The client's side of a tunnel, over HTTP/2.
///
/// The library takes whatever it is given, and tells nobody when it has got rid of it. So it is
/// given one piece in each turn of the connection, none while the client takes nothing, and the
/// last few pieces count as held.
#[derive(Debug)]
pub struct OverHttp2 {
    io: TokioIo<Upgraded>,
    /// Until it has ended. First to go: without it, the stream is reset.
    sending: Option<Sending>,
    stream: Stream,
    budget: Option<Budget>,
    /// The turn in which something was written last.
    written: Option<u64>,
    underway: [Option<Loan>; UNDERWAY],
    oldest: usize,
    /// Whether all is said to the client.
    is_over: bool,
}

impl OverHttp2 {
    /// The two sides of a stream on `connection`.
    #[must_use]
    pub fn new(upgraded: Upgraded, sending: Option<Sending>, connection: &Connection) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            is_over: sending.is_none(),
            sending,
            stream: connection.stream.clone(),
            budget: connection.budget.clone(),
            written: None,
            underway: Default::default(),
            oldest: 0,
        }
    }

    /// Has the library's stream take what it will.
    fn send(&mut self, cx: &mut Context<'_>) {
        if let Some(sending) = &mut self.sending
            && Pin::new(sending).poll(cx).is_ready()
        {
            self.sending = None;
        }
    }
}

impl Drop for OverHttp2 {
    /// Before the rest: if the library saw the other side go first, it would end the stream as if
    /// all had been said.
    fn drop(&mut self) {
        self.sending = None;
    }
}

impl Sink for OverHttp2 {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send(cx);
        if self.sending.is_some() {
            ready!(self.stream.poll_turn(cx, self.written));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl AsyncRead for OverHttp2 {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.send(cx);
        // The library tells of a reset as of an end, but has stopped to send.
        if buffer.filled().len() == before && self.sending.is_none() && !self.is_over {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OverHttp2 {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_room(cx))?;
        let n = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        if let Some(budget) = &this.budget
            && let Some(oldest) = this.underway.get_mut(this.oldest)
        {
            *oldest = Some(budget.lend(n));
            this.oldest = (this.oldest + 1) % UNDERWAY;
        }
        if let Poll::Ready(turn) = this.stream.poll_turn(cx, None) {
            this.written = Some(turn);
        }
        this.send(cx);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send(cx);
        // Where nothing is to be written, this is how it is found out that the client has gone.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.is_over = true;
        // The first closes its way to the stream, the second notices that the stream knows.
        let _ = Pin::new(&mut this.io).poll_shutdown(cx)?;
        this.send(cx);
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
