//! HTTP/2 with one client.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;

use super::connection::Connection;
use super::serve::Ending;
use super::streams::stall_timeout;
use crate::observe::metrics::Limit;
use crate::proxy::handle::handle;

/// How long a client that was told to go may take to do so.
const GOING: Duration = Duration::from_secs(5);

/// How much a client says at least before it asks for something: the preface, and an empty SETTINGS
/// frame (RFC 9113 §3.4).
const PREFACE: u64 = 24 + 9;

/// What the connection's deadline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client has not said yet that it speaks HTTP/2.
    Preface,
    /// This head, or a frame before it, has begun and not ended.
    Head(u64),
    /// Requests are being answered.
    Active,
    /// The client takes nothing: this much was sent when that began.
    Stalled(u64),
    /// Nothing is asked for, after this many requests.
    Idle(u64),
    /// It was told to go.
    Going,
}

/// Serves requests until the connection ends.
pub async fn serve(connection: &Rc<Connection>) -> Ending {
    let view = connection.worker.view();
    let own = Rc::clone(connection);
    let service = service_fn(move |request| handle(Rc::clone(&own), request));
    let stream = &connection.stream;
    stream.inspection().expect_frames();
    let mut http = view.protocols.http2.serve_connection(stream.clone(), service);
    let limits = view.limits();
    let mut armed = None;
    let mut is_told = false;
    let mut cut_short = 0;
    poll_fn(|cx| {
        loop {
            let polled = Pin::new(&mut http).poll(cx);
            if let Poll::Ready(Err(_)) = stream.poll_send(cx) {
                return Poll::Ready(Ending::Abrupt);
            }
            // The library ends its turn as if all were over when it refuses a CONNECT that has a
            // length. Polled again it goes on, or says once more that all is over.
            if matches!(polled, Poll::Ready(Ok(()))) && cut_short < refused(connection) {
                cut_short += 1;
                connection.abandon();
                continue;
            }
            if let Poll::Ready(result) = polled {
                if let Err(error) = &result {
                    tracing::debug!("an HTTP/2 connection ended: {error}");
                }
                return Poll::Ready(Ending::Orderly);
            }
            if stream.inspection().is_flooded() {
                tracing::debug!(
                    "an HTTP/2 client sent frames without end and had no use for answers"
                );
                return Poll::Ready(Ending::Abrupt);
            }
            let phase = phase_of(connection, is_told);
            let is_draining = connection.worker.draining.get();
            let is_unwelcome = stream.inspection().is_unwelcome();
            // Both set the deadline to now, to be seen; then it is set anew as well.
            let state = (phase, is_draining, is_unwelcome);
            if armed.replace(state) != Some(state) {
                match phase {
                    Phase::Preface | Phase::Head(_) => {
                        connection.deadline.set(limits.request_header_timeout);
                    }
                    Phase::Active => connection.deadline.clear(),
                    Phase::Stalled(_) => connection.deadline.set(stall_timeout(limits)),
                    Phase::Idle(_) => connection.deadline.set(limits.idle_timeout),
                    Phase::Going => connection.deadline.set(GOING),
                }
            }
            let is_overdue = connection.deadline.poll(cx).is_ready();
            let is_over = is_overdue && matches!(phase, Phase::Idle(_));
            // Who sends what means something else to somebody behind us may start anew.
            let is_condemned = connection.malformed().is_some();
            if (is_draining || is_over || is_condemned || is_unwelcome) && !is_told {
                is_told = true;
                Pin::new(&mut http).graceful_shutdown();
                continue;
            }
            if !is_overdue {
                return Poll::Pending;
            }
            let limit = match phase {
                Phase::Stalled(_) => Limit::IdleTimeout,
                Phase::Head(_) => Limit::RequestHeaderTimeout,
                _ => return Poll::Ready(Ending::Orderly),
            };
            connection.worker.metrics.limits.count(limit);
            return Poll::Ready(Ending::Abrupt);
        }
    })
    .await
}

fn phase_of(connection: &Connection, is_told: bool) -> Phase {
    if connection.stream.is_blocked() {
        Phase::Stalled(connection.stream.sent())
    } else if let (Some(head), true) =
        (connection.stream.inspection().open_head(), has_begun(connection))
    {
        Phase::Head(head)
    } else if connection.in_flight() > 0 {
        Phase::Active
    } else if is_told {
        Phase::Going
    } else if !has_begun(connection) {
        Phase::Preface
    } else {
        Phase::Idle(connection.begun())
    }
}

/// How many requests the library has kept to itself: it refused them, or is about to.
fn refused(connection: &Connection) -> u64 {
    connection.stream.inspection().requests().saturating_sub(connection.begun())
}

/// Whether the preface is over.
fn has_begun(connection: &Connection) -> bool {
    connection.stream.received() >= PREFACE
}

#[cfg(test)]
mod tests;
