//! What a worker counts. Each set belongs to one worker's thread, which alone writes it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use super::counter::{Counter, Family, Gauge, SharedCounter};
pub use super::label::{AcmeOutcome, HandshakeFailure, Label, Limit, Listener, StatusClass};

/// What a worker counts beside requests. Two cache lines apart from any other worker's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Open connections of clients.
    pub connections: Gauge,
    /// Open tunnels: WebSockets.
    pub tunnels: Gauge,
    /// Accepted connections.
    pub accepted: Family<{ Listener::ALL.len() }>,
    /// TLS handshakes that succeeded.
    pub handshakes: Counter,
    /// TLS handshakes that did not.
    pub handshake_failures: Family<{ HandshakeFailure::ALL.len() }>,
    /// Connections made to applications.
    pub upstream_connects: Counter,
    /// Connections to applications that could not be made.
    pub upstream_connect_failures: Counter,
    /// Requests sent on a connection that had been used before.
    pub upstream_reuses: Counter,
    /// Times that a limit was reached.
    pub limits: Family<{ Limit::ALL.len() }>,
    /// Bytes received from clients.
    pub received: Counter,
    /// Bytes sent to clients.
    pub sent: Counter,
    /// Panics that were caught.
    pub panics: Counter,
    /// Attempts to get a certificate by ACME; the control plane's alone.
    pub acme: Family<{ AcmeOutcome::ALL.len() }>,
}

impl WorkerMetrics {
    /// Raises a gauge until the guard is dropped: `metrics.hold(|m| &m.tunnels)`.
    #[must_use]
    pub fn hold(self: &Arc<Self>, gauge: fn(&Self) -> &Gauge) -> Held {
        gauge(self).raise();
        Held { metrics: Arc::clone(self), gauge }
    }
}

/// One more in a gauge for as long as this lives. To be dropped on the thread that made it.
pub struct Held {
    metrics: Arc<WorkerMetrics>,
    gauge: fn(&WorkerMetrics) -> &Gauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).lower();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// The upper ends of the buckets of a duration; the last bucket has none.
pub(super) const BUCKETS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// What one worker counts of the requests of one route.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteMetrics {
    /// Requests by status.
    pub requests: Family<{ StatusClass::ALL.len() }>,
    /// Requests by duration, each in one bucket only; the last is beyond all of [`BUCKETS`].
    pub(super) buckets: [Counter; BUCKETS.len() + 1],
    /// The sum of the durations.
    pub(super) nanoseconds: Counter,
    /// Bytes of request bodies.
    pub bytes_in: Counter,
    /// Bytes of response bodies.
    pub bytes_out: Counter,
}

impl RouteMetrics {
    /// Counts a request that is over: its final status (499 where the client went away), its
    /// duration, and the bytes of the two bodies. Only for the worker that this belongs to.
    pub fn record(&self, status: u16, duration: Duration, bytes_in: u64, bytes_out: u64) {
        self.requests.count(StatusClass::of(status));
        let bucket = BUCKETS.iter().take_while(|end| duration > **end).count();
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        self.nanoseconds.add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        self.bytes_in.add(bytes_in);
        self.bytes_out.add(bytes_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_no_cache_line() {
        assert_eq!(size_of::<WorkerMetrics>() % 128, 0);
        assert_eq!(align_of::<WorkerMetrics>(), 128);
        assert_eq!(size_of::<RouteMetrics>() % 128, 0);
        assert_eq!(align_of::<RouteMetrics>(), 128);
    }

    #[test]
    fn what_is_held_is_given_back() {
        let metrics = Arc::new(WorkerMetrics::default());
        let first = metrics.hold(|m| &m.connections);
        let second = metrics.hold(|m| &m.connections);
        let tunnel = metrics.hold(|m| &m.tunnels);
        assert_eq!((metrics.connections.get(), metrics.tunnels.get()), (2, 1));
        drop((first, tunnel));
        assert_eq!((metrics.connections.get(), metrics.tunnels.get()), (1, 0));
        drop(second);
        assert_eq!(metrics.connections.get(), 0);
    }

    #[test]
    fn a_duration_belongs_to_the_bucket_that_it_ends() {
        let route = RouteMetrics::default();
        let in_bucket = |index: usize| route.buckets[index].get();
        route.record(200, Duration::ZERO, 0, 0);
        route.record(200, BUCKETS[0], 0, 0);
        route.record(200, BUCKETS[0] + Duration::from_nanos(1), 0, 0);
        route.record(200, BUCKETS[11], 0, 0);
        route.record(200, Duration::MAX, 0, 0);
        assert_eq!((in_bucket(0), in_bucket(1), in_bucket(11), in_bucket(12)), (2, 1, 1, 1));
    }
}
