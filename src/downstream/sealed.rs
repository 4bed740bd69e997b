//! TLS with one client: what it has sealed, on its way in, and what we have sealed, on its way out.

use std::cell::RefCell;
use std::io::{self, BufRead as _, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

/// Sealed bytes that may wait for the socket before a writer has to: enough for one system call
/// to move much, little enough that a reader who takes nothing costs a quarter of a mebibyte with
/// all that waits behind them.
const SEALED: usize = 64 * 1024;

/// How much is read from the socket at a time.
const READ: usize = 64 * 1024;

thread_local! {
    /// Bytes on their way from a socket; never kept beyond one poll.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// The TLS layer of a connection whose handshake is done.
#[derive(Debug)]
pub(super) struct Sealed {
    connection: Box<ServerConnection>,
    /// Sealed bytes read from the socket that the layer has had no room for yet.
    unread: Vec<u8>,
}

impl Sealed {
    /// Goes on after the handshake.
    pub(super) fn new(mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(SEALED));
        Self { connection: Box::new(connection), unread: Vec::new() }
    }

    /// Whether sealed bytes wait to be opened.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Seals what it has room for; 0 when it has none.
    pub(super) fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.connection.writer().write_vectored(slices)
    }

    /// Seals a farewell.
    pub(super) fn say_farewell(&mut self) {
        self.connection.send_close_notify();
    }

    /// Hands what is sealed to the socket; `sent` is told how much it took.
    pub(super) fn poll_send(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        mut sent: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Sink { socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => sent(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Opens what the peer sealed until there is something plain, and has at most `room` bytes of
    /// it taken; how many, 0 at the end.
    pub(super) fn poll_open(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        room: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let Self { connection, unread } = self;
        loop {
            match connection.reader().fill_buf() {
                Ok(plain) => {
                    let n = room.min(plain.len());
                    take(plain.get(..n).unwrap_or_default());
                    connection.reader().consume(n);
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer ended without a farewell; whether a message was cut is seen by its
                // framing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(0));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            if unread.is_empty() {
                ready!(SCRATCH.with_borrow_mut(|scratch| {
                    let n = match ready!(poll_socket(socket, scratch, cx)) {
                        Ok(n) => n,
                        Err(error) => return Poll::Ready(Err(error)),
                    };
                    let mut fresh = scratch.get(..n).unwrap_or_default();
                    let result = feed(connection, &mut fresh, n == 0);
                    unread.extend_from_slice(fresh);
                    Poll::Ready(result)
                }))?;
            } else {
                let mut rest = unread.as_slice();
                let result = feed(connection, &mut rest, false);
                let used = unread.len() - rest.len();
                unread.drain(..used);
                if unread.is_empty() {
                    // An idle connection holds no buffer.
                    *unread = Vec::new();
                }
                result?;
            }
        }
    }
}

/// Reads at most `room` bytes from the socket and has them taken; how many, 0 at the end.
pub(super) fn poll_plain(
    socket: &mut TcpStream,
    cx: &mut Context<'_>,
    room: usize,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let room = room.min(scratch.len());
        let piece = scratch.get_mut(..room).unwrap_or_default();
        let n = match ready!(poll_socket(socket, piece, cx)) {
            Ok(n) => n,
            Err(error) => return Poll::Ready(Err(error)),
        };
        take(piece.get(..n).unwrap_or_default());
        Poll::Ready(Ok(n))
    })
}

/// Feeds the TLS layer from `sealed` until it has something plain, or all of it is used.
fn feed(tls: &mut ServerConnection, sealed: &mut &[u8], at_end: bool) -> io::Result<()> {
    if at_end {
        tls.read_tls(&mut io::empty())?;
    }
    while !sealed.is_empty() {
        tls.read_tls(sealed)?;
        let state = tls
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
            return Ok(());
        }
    }
    Ok(())
}

fn poll_socket(
    socket: &mut TcpStream,
    scratch: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(scratch);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// The socket as the TLS layer wants to write to it.
struct Sink<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = Pin::new(&mut *self.socket);
        // One piece is the common case, and the kernel takes it with less ado.
        let written = match slices {
            [only] => socket.poll_write(self.cx, only),
            several => socket.poll_write_vectored(self.cx, several),
        };
        match written {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
