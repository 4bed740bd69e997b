//! HTTP/1 with one client: sessions of requests, and rest between them.
//!
//! A connection on which nothing happens for a moment is parked: the HTTP library's state and
//! buffers are given back, and only the socket is left, watched for the next byte.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use hyper::service::service_fn;

use super::connection::Connection;
use super::guard::Ambiguous;
use super::serve::Ending;
use crate::observe::metrics::Limit;
use crate::proxy::handle::handle;
use crate::proxy::record;
use crate::proxy::tunnel::TunnelEnd;

/// How long after its last request a connection is parked: with the next tick of the wheel, so that
/// of many connections that come at once few hold buffers at the same time.
const PARK_AFTER: Duration = Duration::ZERO;

/// How long a request may still take to come once the server is stopping: one that was on its way
/// when the stop came is answered, and told that it is the last.
const LAST_CALL: Duration = Duration::from_secs(1);

const AMBIGUOUS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    content-length: 37\r\nconnection: close\r\n\r\nThe request could not be understood.\n";

const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\n\
    content-length: 27\r\nconnection: close\r\n\r\nThe request took too long.\n";

/// Serves requests until the connection ends.
pub async fn serve(connection: &Rc<Connection>) -> Ending {
    let mut is_first = true;
    loop {
        // Boxed, so that a parked connection does not keep the room for a session.
        let end = Box::pin(session(connection, is_first)).await;
        is_first = false;
        match end {
            SessionEnd::Closed => return Ending::Orderly,
            SessionEnd::Broken => return Ending::Abrupt,
            SessionEnd::Idle => {}
            SessionEnd::HeaderTimeout => return refuse_slow(connection).await,
            SessionEnd::Upgraded => {
                let tunnel = connection.tunnel.borrow_mut().take();
                let Some(tunnel) = tunnel else { return Ending::Orderly };
                // Its deadline is its own: a stop has nothing to tell a tunnel.
                let deadline = connection.worker.wheel.deadline();
                let end = Box::pin(tunnel.run(connection.stream.clone(), &deadline)).await;
                return match end {
                    TunnelEnd::Orderly => Ending::Orderly,
                    TunnelEnd::Cut => Ending::Abrupt,
                };
            }
        }
        if !connection.stream.has_buffered_input() && !rest(connection).await {
            return Ending::Orderly;
        }
    }
}

/// Why a session is over.
#[derive(Debug)]
enum SessionEnd {
    /// The client or we wanted no more.
    Closed,
    /// It failed, or its reader stalled.
    Broken,
    /// Nothing has come for a moment.
    Idle,
    /// A head has not come whole in time.
    HeaderTimeout,
    /// Something else is spoken from here on.
    Upgraded,
}

/// What a session's deadline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A head is coming, or the first one is waited for, after this many requests.
    Head(u64),
    /// A request is being answered.
    Active,
    /// The same, but the client takes nothing: this much was sent when that began.
    Stalled(u64),
    /// Between requests, after this many.
    Idle(u64),
}

async fn session(connection: &Rc<Connection>, is_first: bool) -> SessionEnd {
    let view = connection.worker.view();
    let service = service_fn(|request| handle(Rc::clone(connection), request));
    let stream = &connection.stream;
    let mut http = view.protocols.http1.serve_connection(stream.clone(), service);
    let limits = view.limits();
    let mut armed = None;
    let end = poll_fn(|cx| {
        if connection.in_flight() == 0 {
            stream.inspection().expect_head(connection.begun());
        }
        if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
            // Of an answer that broke off, the client sees what there was.
            let _ = stream.poll_send(cx);
            return Poll::Ready(ended(connection, result));
        }
        if let Poll::Ready(Err(_)) = stream.poll_send(cx) {
            return Poll::Ready(SessionEnd::Broken);
        }
        if connection.in_flight() == 0 && stream.inspection().expect_head(connection.begun()) {
            // What was held back behind the last request is to be read now.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // What was asked before it is answered first.
        if let Some(ambiguous) = stream.inspection().refused()
            && connection.in_flight() == 0
            && !stream.is_blocked()
        {
            return Poll::Ready(refuse_ambiguous(connection, ambiguous));
        }
        let phase = phase_of(connection, is_first);
        let is_draining = connection.worker.draining.get();
        // A stop sets the deadline to now, to be seen; then it is set anew as well.
        if armed.replace((phase, is_draining)) != Some((phase, is_draining)) {
            match phase {
                Phase::Head(_) | Phase::Idle(_) if is_draining => {
                    connection.deadline.set(LAST_CALL);
                }
                Phase::Head(_) => connection.deadline.set(limits.request_header_timeout),
                Phase::Active => connection.deadline.clear(),
                Phase::Stalled(_) => connection.deadline.set(limits.idle_timeout),
                Phase::Idle(_) => connection.deadline.set(PARK_AFTER.min(limits.idle_timeout)),
            }
        }
        connection.deadline.poll(cx).map(|()| overdue(connection, phase))
    });
    match end.await {
        SessionEnd::Idle => {
            stream.rewind(http.into_parts().read_buf);
            // A head that began behind the last request is news.
            connection.set_mark();
            SessionEnd::Idle
        }
        SessionEnd::Upgraded => {
            stream.rewind(http.into_parts().read_buf);
            SessionEnd::Upgraded
        }
        other => other,
    }
}

fn phase_of(connection: &Connection, is_first: bool) -> Phase {
    if connection.in_flight() > 0 {
        if connection.stream.is_blocked() {
            return Phase::Stalled(connection.stream.sent());
        }
        return Phase::Active;
    }
    if connection.stream.is_blocked() {
        return Phase::Stalled(connection.stream.sent());
    }
    let waits_for_first = is_first && connection.stream.received() == 0;
    let begun = connection.begun();
    if waits_for_first || connection.has_news() { Phase::Head(begun) } else { Phase::Idle(begun) }
}

/// What it means that the deadline of `phase` has passed.
fn overdue(connection: &Connection, phase: Phase) -> SessionEnd {
    match phase {
        Phase::Head(_) => SessionEnd::HeaderTimeout,
        Phase::Idle(_) if connection.worker.draining.get() => SessionEnd::Closed,
        Phase::Idle(_) => SessionEnd::Idle,
        Phase::Active | Phase::Stalled(_) => {
            connection.worker.metrics.limits.count(Limit::IdleTimeout);
            SessionEnd::Broken
        }
    }
}

/// What the library's verdict means; what it refused by itself gets its line in the log here.
fn ended(connection: &Connection, result: hyper::Result<()>) -> SessionEnd {
    let error = match result {
        Ok(()) if connection.tunnel.borrow().is_some() => return SessionEnd::Upgraded,
        Ok(()) => return SessionEnd::Closed,
        Err(error) => error,
    };
    if error.is_parse_too_large() {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        connection.worker.metrics.limits.count(Limit::HeaderSize);
        refuse(connection, status, "over limits.header_size or limits.header_count");
    } else if error.is_parse() {
        record::refused(connection, StatusCode::BAD_REQUEST, "malformed request head");
    } else {
        tracing::debug!("a connection ended: {error}");
        return SessionEnd::Broken;
    }
    connection.unread.set(true);
    SessionEnd::Closed
}

/// Tells a client that its head could be taken for another one, unless it was told already that
/// nothing more is answered.
fn refuse_ambiguous(connection: &Connection, ambiguous: Ambiguous) -> SessionEnd {
    if !connection.is_last_answered.get() {
        record::refused(connection, StatusCode::BAD_REQUEST, ambiguous.0);
        connection.stream.inject(AMBIGUOUS);
    }
    connection.unread.set(true);
    SessionEnd::Closed
}

/// Waits, without the library, for the next request. Whether there may be one.
async fn rest(connection: &Connection) -> bool {
    let idle = connection.worker.view().limits().idle_timeout;
    let mut is_draining = connection.worker.draining.get();
    connection.deadline.set(if is_draining { LAST_CALL } else { idle.saturating_sub(PARK_AFTER) });
    poll_fn(|cx| {
        if let Poll::Ready(result) = connection.stream.poll_readable(cx) {
            return Poll::Ready(result.is_ok());
        }
        // A stop sets the deadline to now, to be seen.
        if connection.worker.draining.get() && !std::mem::replace(&mut is_draining, true) {
            connection.deadline.set(LAST_CALL);
        }
        connection.deadline.poll(cx).map(|()| false)
    })
    .await
}

/// Logs a head that was refused for its size or its slowness.
fn refuse(connection: &Connection, status: StatusCode, reason: &str) {
    record::refused(connection, status, reason);
    connection.worker.complaints.limits.say(|suppressed| {
        let client = connection.peer.ip().to_canonical();
        let status = status.as_u16();
        tracing::warn!(%client, status, suppressed, "a request was refused: {reason}");
    });
}

/// Tells a client whose head did not come in time; one that has sent nothing at all is not told.
async fn refuse_slow(connection: &Connection) -> Ending {
    connection.worker.metrics.limits.count(Limit::RequestHeaderTimeout);
    if connection.has_news() {
        let status = StatusCode::REQUEST_TIMEOUT;
        refuse(connection, status, "over limits.request_header_timeout");
        connection.stream.inject(TIMED_OUT);
        connection.unread.set(true);
    }
    Ending::Orderly
}

#[cfg(test)]
mod tests;
