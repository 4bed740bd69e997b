//! A stream that remembers what was read from it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was heard on one connection, shared with whoever asks.
pub type Heard = Arc<Mutex<Vec<u8>>>;

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The stream with the tap.
pub struct Tapped {
    stream: Box<dyn Io>,
    heard: Heard,
}

/// More than this of one connection is not kept.
const KEPT: usize = 1024 * 1024;

impl Tapped {
    /// Remembers in `heard` what is read from `stream`.
    pub fn new(stream: Box<dyn Io>, heard: Heard) -> Self {
        Self { stream, heard }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = &buffer.filled()[before..];
        let mut heard = self.heard.lock().unwrap();
        let room = KEPT.saturating_sub(heard.len());
        heard.extend_from_slice(&new[..new.len().min(room)]);
        outcome
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
