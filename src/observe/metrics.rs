//! Counters that one thread writes and any thread may read.
//!
//! An addition is a plain load and a plain store, without the locked instruction that a shared
//! counter costs; therefore each set of counters belongs to one thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows. Single writer: two threads adding at once lose additions.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only for the thread that owns this counter.
    pub fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// The number as of now, from any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for rare events that happen on several threads.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `n`, from any thread.
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The number as of now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are. Single writer, as [`Counter`].
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The number as of now, from any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn raise(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    fn lower(&self) {
        self.0.store(self.get().saturating_sub(1), Ordering::Relaxed);
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

/// A closed set of values of a label, so that no stranger can invent one.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// The position in [`Label::ALL`].
    fn index(self) -> usize;
    /// The text of the label.
    fn text(self) -> &'static str;
}

/// Declares an enum with a label text for each variant.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

labels! {
    /// The kind of a listener.
    Listener {
        /// Plain HTTP.
        Http = "http",
        /// TLS.
        Https = "https",
    }
}

labels! {
    /// Why a TLS handshake came to nothing.
    HandshakeFailure {
        /// `tls_handshake_timeout` passed.
        Timeout = "timeout",
        /// No certificate for the name that was asked for.
        NoCertificate = "no_certificate",
        /// No version, cipher, group, signature scheme or ALPN protocol in common.
        NothingInCommon = "nothing_in_common",
        /// The client sent an alert.
        Alert = "alert",
        /// The client spoke plain HTTP.
        PlainHttp = "plain_http",
        /// What came was not TLS, or broke its rules.
        Malformed = "malformed",
        /// The connection closed or broke.
        Io = "io",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// A key of `[limits]`.
    Limit {
        /// `request_header_timeout`.
        RequestHeaderTimeout = "request_header_timeout",
        /// `request_body_idle_timeout`.
        RequestBodyIdleTimeout = "request_body_idle_timeout",
        /// `idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// `tls_handshake_timeout`.
        TlsHandshakeTimeout = "tls_handshake_timeout",
        /// `upstream_timeout`.
        UpstreamTimeout = "upstream_timeout",
        /// `hold`.
        Hold = "hold",
        /// `header_size`.
        HeaderSize = "header_size",
        /// `header_count`.
        HeaderCount = "header_count",
        /// `target_size`.
        TargetSize = "target_size",
        /// `body_size`.
        BodySize = "body_size",
        /// `connections`.
        Connections = "connections",
        /// `connections_per_client`.
        ConnectionsPerClient = "connections_per_client",
    }
}

labels! {
    /// The status of an answer, by class.
    StatusClass {
        /// 100-199.
        Informational = "1xx",
        /// 200-299.
        Success = "2xx",
        /// 300-399.
        Redirection = "3xx",
        /// 400-499 but 499.
        ClientError = "4xx",
        /// 500-599.
        ServerError = "5xx",
        /// The client went away before the answer.
        ClientGone = "499",
        /// A number outside of the standard (RFC 9110 §15).
        Other = "other",
    }
}

impl StatusClass {
    /// The class of `status`.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            499 => Self::ClientGone,
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=498 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

/// One counter for each value of a label; `N` is the number of values.
#[derive(Debug)]
pub struct Family<const N: usize>([Counter; N]);

impl<const N: usize> Default for Family<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Family<N> {
    /// Counts one `label`. Single writer, as [`Counter`].
    pub fn count(&self, label: impl Label) {
        if let Some(counter) = self.0.get(label.index()) {
            counter.add(1);
        }
    }

    /// The number of `label` so far.
    #[must_use]
    pub fn get(&self, label: impl Label) -> u64 {
        self.0.get(label.index()).map_or(0, Counter::get)
    }
}

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
}

impl WorkerMetrics {
    /// Raises a gauge until the guard is dropped: `metrics.hold(|m| &m.tunnels)`.
    #[must_use]
    pub fn hold(self: &Arc<Self>, gauge: fn(&Self) -> &Gauge) -> Held {
        gauge(self).raise();
        Held { metrics: Arc::clone(self), gauge }
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
