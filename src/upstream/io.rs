//! The byte stream to an application.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A connected stream.
#[derive(Debug)]
pub enum Io {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// Acknowledges what has come, at once. What the application says beyond its answer may wait in
    /// its system until then (RFC 9293 §3.7.4), and our acknowledgement would wait for the next
    /// request to go with: behind that it would pass for its answer.
    pub fn acknowledge(&self) {
        let stream = match self {
            Io::Tcp(stream) => stream,
            Io::Tls(stream) => stream.get_ref().0,
            Io::Unix(_) => return,
        };
        // Best effort: a connection that has ended is found out when it is used.
        let _ = rustix::net::sockopt::set_tcp_quickack(stream, true);
    }

    /// Has the kernel reset the connection when it is closed: that is how an application tells a
    /// client that has broken off from one that has ended.
    pub fn reset_on_close(&self) {
        let stream = match self {
            Io::Tcp(stream) => stream,
            Io::Tls(stream) => stream.get_ref().0,
            Io::Unix(_) => return,
        };
        // One that is gone already has nothing left to tell.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

/// Does the same with whichever stream it is.
macro_rules! each {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            Io::Tcp($stream) => $call,
            Io::Unix($stream) => $call,
            Io::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
