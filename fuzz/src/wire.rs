//! A client's byte stream without a socket: what the program's own stream does between the peer,
//! the guard and the HTTP library, on bytes in memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::downstream::inspection::Inspection;
use bytes::Bytes;

/// A handle on the stream: the driver holds one, the HTTP library another.
#[derive(Clone, Default)]
pub struct Wire(Rc<Shared>);

#[derive(Default)]
struct Shared {
    inspection: Inspection,
    /// What has arrived, in the pieces of the reads.
    arrived: RefCell<VecDeque<Bytes>>,
    has_ended: Cell<bool>,
    received: Cell<usize>,
    sent: Cell<usize>,
}

impl Wire {
    pub fn inspection(&self) -> &Inspection {
        &self.0.inspection
    }

    /// The peer sends `bytes`.
    pub fn arrive(&self, bytes: &[u8]) {
        self.0.arrived.borrow_mut().push_back(Bytes::copy_from_slice(bytes));
    }

    /// The peer ends its side.
    pub fn end(&self) {
        self.0.has_ended.set(true);
    }

    pub fn has_ended(&self) -> bool {
        self.0.has_ended.get()
    }

    /// Bytes handed to the reader so far.
    pub fn received(&self) -> usize {
        self.0.received.get()
    }

    /// Bytes that the writer has written so far.
    pub fn sent(&self) -> usize {
        self.0.sent.get()
    }

    /// Gives `bytes` back to be read again, first of all.
    pub fn rewind(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.inspection.rewind();
            self.put_back(bytes);
        }
    }

    fn put_back(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.received.set(self.0.received.get() - bytes.len());
            self.0.arrived.borrow_mut().push_front(bytes);
        }
    }

    /// At most `room` bytes; none at the end.
    fn poll_input(&self, room: usize) -> Poll<Bytes> {
        let mut arrived = self.0.arrived.borrow_mut();
        let Some(mut piece) = arrived.pop_front() else {
            return if self.0.has_ended.get() { Poll::Ready(Bytes::new()) } else { Poll::Pending };
        };
        let bytes = piece.split_to(room.min(piece.len()));
        if !piece.is_empty() {
            arrived.push_front(piece);
        }
        self.0.received.set(self.0.received.get() + bytes.len());
        Poll::Ready(bytes)
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
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
            let is_end = self.0.arrived.borrow().is_empty() && self.0.has_ended.get();
            return if is_end { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let Poll::Ready(bytes) = self.poll_input(buffer.remaining()) else { return Poll::Pending };
        let passed = inspection.look(&bytes);
        buffer.put_slice(&bytes[..passed]);
        if inspection.is_holding() {
            self.put_back(bytes.slice(passed..));
        }
        match inspection.broken() {
            _ if passed > 0 || bytes.is_empty() => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.sent.set(self.0.sent.get() + bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
