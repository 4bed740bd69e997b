//! A connection from its acceptance to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
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
    let Accepted { socket, peer, kind, permit } = accepted;
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
    let connection = Connection::new(&worker, stream, peer, tls, permit.allowance());
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

/// Sends what is left and says farewell; a client that is still sending, or has sent what we did
/// not read, is listened to for a moment, because a reset would take our answer from it (RFC 9112
/// §9.6).
async fn close(connection: &Connection) {
    let stream = &connection.stream;
    let mut left = LEFTOVER;
    let farewell = async {
        poll_fn(|cx| stream.poll_close(cx)).await?;
        poll_fn(|cx| {
            while left > 0 {
                match stream.poll_discard(cx)? {
                    Poll::Ready(0) => break,
                    Poll::Ready(n) => left = left.saturating_sub(n),
                    // It sends nothing, and nothing says that it is about to.
                    Poll::Pending if left == LEFTOVER && !connection.unread.get() => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(std::io::Result::Ok(()))
        })
        .await
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::upstream::testing::local;
    use crate::worker::testing::{Client, app, worker};

    const LAST: &str = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";

    #[test]
    fn an_orderly_end_is_quick() {
        local(async {
            let worker = worker(app(OK).await, "");
            let mut client = Client::of(&worker).await;
            client.says(LAST).await;
            let began = Instant::now();
            assert!(client.hears_out().await.ends_with("ok\n"));
            while worker.metrics.connections.get() > 0 {
                tokio::task::yield_now().await;
            }
            assert!(began.elapsed() < FAREWELL / 2, "{:?}", began.elapsed());
        });
    }

    /// The kernel reset the connection because of what nobody had read, and with it the answer.
    #[test]
    fn what_was_not_read_costs_no_client_its_answer() {
        local(async {
            let worker = worker(app(OK).await, "");
            let mut client = Client::of(&worker).await;
            client.says(&format!("{LAST}{}", "x".repeat(200_000))).await;
            assert!(client.hears_out().await.ends_with("ok\n"));
            assert!(client.tries_to_say("more").await, "a reset has come after the answer");
        });
    }

    #[test]
    fn a_body_that_nobody_wants_costs_no_client_its_answer() {
        local(async {
            let worker = worker(app(OK).await, "body_size = \"1KiB\"");
            let mut client = Client::of(&worker).await;
            let head = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 200000\r\n\r\n";
            client.says(&format!("{head}{}", "x".repeat(200_000))).await;
            let heard = client.hears_out().await;
            assert!(heard.starts_with("HTTP/1.1 413"), "{heard}");
            assert!(heard.contains("\r\nconnection: close\r\n"), "{heard}");
        });
    }

    #[test]
    fn who_never_stops_sending_is_left() {
        local(async {
            let worker = worker(app(OK).await, "body_size = \"1KiB\"");
            let mut client = Client::of(&worker).await;
            let head = "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2000000000\r\n\r\n";
            client.says(head).await;
            assert!(client.hears("\r\n\r\n").await.starts_with("HTTP/1.1 413"));
            let sending = async { while client.tries_to_say(&"x".repeat(10_000)).await {} };
            tokio::time::timeout(FAREWELL * 3, sending).await.expect("an end");
        });
    }
}
