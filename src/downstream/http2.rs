//! HTTP/2 with one client.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::service::service_fn;

use super::connection::Connection;
use super::serve::Ending;
use super::streams::stall_timeout;
use crate::config::Limits;
use crate::observe::metrics::Limit;
use crate::proxy::handle::handle;

/// How long a client that was told to go may take to do so.
const GOING: Duration = Duration::from_secs(5);

/// What the connection's deadline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client has not said yet that it speaks HTTP/2: the preface and SETTINGS.
    Preface,
    /// This head, or another frame that is short, has begun and not ended.
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
    let mut idle = None;
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
            let mut is_past = false;
            if armed.replace(state) != Some(state) {
                connection.deadline.clear();
                match time_for(phase, limits, &mut idle) {
                    // The next piece of a frame may come before the wheel has turned.
                    Some(Duration::ZERO) => is_past = true,
                    Some(time) => connection.deadline.set(time),
                    None => {}
                }
            }
            let is_overdue = is_past || connection.deadline.poll(cx).is_ready();
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

/// How long the client may take for this. `idle` is since when nothing is asked for, and after how
/// many requests.
fn time_for(phase: Phase, limits: &Limits, idle: &mut Option<(Instant, u64)>) -> Option<Duration> {
    match phase {
        Phase::Preface | Phase::Head(_) => Some(limits.request_header_timeout),
        Phase::Active => None,
        Phase::Stalled(_) => Some(stall_timeout(limits)),
        Phase::Idle(begun) => {
            // A frame that comes in pieces and asks for nothing changes nothing.
            let since =
                idle.filter(|(_, after)| *after == begun).map_or_else(Instant::now, |i| i.0);
            *idle = Some((since, begun));
            Some(limits.idle_timeout.saturating_sub(since.elapsed()))
        }
        Phase::Going => Some(GOING),
    }
}

fn phase_of(connection: &Connection, is_told: bool) -> Phase {
    let inspection = connection.stream.inspection();
    if connection.stream.is_blocked() {
        Phase::Stalled(connection.stream.sent())
    } else if is_told && connection.in_flight() == 0 {
        Phase::Going
    } else if let Some(number) = inspection.open_frame().filter(|_| inspection.has_begun()) {
        Phase::Head(number)
    } else if connection.in_flight() > 0 {
        Phase::Active
    } else if !inspection.has_begun() {
        Phase::Preface
    } else {
        Phase::Idle(connection.begun())
    }
}

/// How many requests the library has kept to itself: it refused them, or is about to.
fn refused(connection: &Connection) -> u64 {
    connection.stream.inspection().requests().saturating_sub(connection.begun())
}

#[cfg(test)]
mod tests;
