//! A connection from its acceptance to its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::accept::Accepted;
use super::bind::ListenerKind;
use super::connection::Connection;
use super::stream::Stream;
use super::{handshake, http1, http2, proxy_protocol};
use crate::observe::metrics::Listener;
use crate::worker::Worker;

/// How long the last bytes may take to leave, and the peer to say that it has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a client may still send after we have stopped listening, before it is cut off.
const LEFTOVER: usize = 1024 * 1024;

/// Serves a client for as long as it stays.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { socket, peer, kind, permit: _permit } = accepted;
    let _count = worker.metrics.hold(|metrics| &metrics.connections);
    let _panics = CountPanics(&worker);
    worker.metrics.accepted.count(match kind {
        ListenerKind::Http => Listener::Http,
        ListenerKind::Https => Listener::Https,
    });
    let Ok(socket) = TcpStream::from_std(socket) else { return };
    let Some((socket, peer)) = Box::pin(introduce(&worker, socket, peer)).await else { return };
    let (stream, tls) = match kind {
        ListenerKind::Http => (Stream::plain(socket), None),
        // Boxed, so that the room is given back when it is over.
        ListenerKind::Https => match Box::pin(handshake::handshake(&worker, socket, peer)).await {
            Some((stream, tls)) => (stream, Some(tls)),
            None => return,
        },
    };
    let connection = Connection::new(&worker, stream, peer, tls);
    let _registered = worker.register(&connection);
    let ending = if connection.is_http2() {
        Box::pin(http2::serve(&connection)).await
    } else {
        http1::serve(&connection).await
    };
    match ending {
        Ending::Orderly => close(&connection).await,
        Ending::Abrupt => connection.stream.reset_on_close(),
    }
    worker.metrics.received.add(connection.stream.received());
    worker.metrics.sent.add(connection.stream.sent());
}

/// How a connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both sides know: what is to be sent is sent, and TLS says farewell.
    Orderly,
    /// It is broken, or its peer is not to be waited for.
    Abrupt,
}

/// Reads the PROXY header, where one is expected: who the client really is.
async fn introduce(
    worker: &Worker,
    socket: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, SocketAddr)> {
    let view = worker.view();
    let server = &view.state.config.server;
    let address = peer.ip().to_canonical();
    let trusted = server.trusted_proxies.iter().any(|network| network.contains(&address));
    if !server.proxy_protocol || !trusted {
        return Some((socket, peer));
    }
    let limit = view.limits().request_header_timeout;
    match tokio::time::timeout(limit, proxy_protocol::read(&socket)).await {
        Ok(Ok(source)) => Some((socket, source.unwrap_or(peer))),
        Ok(Err(error)) => {
            worker.complaints.handshakes.say(|suppressed| {
                tracing::warn!(%peer, suppressed, "a trusted proxy sent no PROXY header: {error}");
            });
            None
        }
        Err(_) => None,
    }
}

/// Sends what is left and says farewell; a client that is still sending is listened to for a
/// moment, because a reset would take our answer from it (RFC 9112 §9.6).
async fn close(connection: &Connection) {
    let stream = &connection.stream;
    let farewell = async {
        std::future::poll_fn(|cx| stream.poll_close(cx)).await?;
        let mut left = if connection.unread.get() { LEFTOVER } else { 0 };
        while left > 0 {
            let n = std::future::poll_fn(|cx| stream.poll_discard(cx)).await?;
            if n == 0 {
                break;
            }
            left = left.saturating_sub(n);
        }
        std::io::Result::Ok(())
    };
    // Who does not take it within this time does not want it.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Notices that the task is unwinding.
struct CountPanics<'a>(&'a Worker);

impl Drop for CountPanics<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.metrics.panics.add(1);
        }
    }
}
