//! The kinds of work that are measured.

use std::time::Duration;

use clap::ValueEnum;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Work {
    /// Small GET over TLS and HTTP/1.1, kept alive
    H1,
    /// Small GET over TLS and HTTP/2
    H2,
    /// 1 MiB download over HTTP/1.1
    Down1,
    /// 1 MiB download over HTTP/2
    Down2,
    /// 1 MiB upload over HTTP/1.1
    Up1,
    /// Full TLS 1.3 handshake, ECDSA P-256, X25519, one after the other
    Handshake,
    /// The same, 32 at a time
    Flood,
    /// Memory of an idle TLS connection
    Idle,
    /// Time from exec to the first 200
    Start,
}

impl Work {
    /// Every kind, in the order of the table.
    pub(crate) const ALL: [Work; 9] = [
        Work::H1,
        Work::H2,
        Work::Down1,
        Work::Down2,
        Work::Up1,
        Work::Handshake,
        Work::Flood,
        Work::Idle,
        Work::Start,
    ];

    /// The row's name, with the shape of the load in it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Work::H1 => "small GET, TLS, HTTP/1.1 keep-alive (64 connections)",
            Work::H2 => "small GET, TLS, HTTP/2 (32 connections x 10 streams)",
            Work::Down1 => "1 MiB download, HTTP/1.1 (16 connections)",
            Work::Down2 => "1 MiB download, HTTP/2 (8 connections x 2 streams)",
            Work::Up1 => "1 MiB upload, HTTP/1.1 (16 connections)",
            Work::Handshake => "full TLS 1.3 handshake, P-256, X25519, one after the other",
            Work::Flood => "full TLS 1.3 handshake, P-256, X25519, 32 at a time",
            Work::Idle => "idle TLS connection after one request (2000 connections)",
            Work::Start => "start: exec to the first 200",
        }
    }

    /// What the raw figures count.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Work::H1 | Work::H2 => "CPU us/request",
            Work::Down1 | Work::Down2 | Work::Up1 => "CPU us/MiB",
            Work::Handshake | Work::Flood => "CPU us/handshake",
            Work::Idle => "KiB/connection (Pss)",
            Work::Start => "ms",
        }
    }
}

/// How long things are watched.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Load before the first sample: connections are open and caches warm by then.
    pub(crate) warm_up: Duration,
    /// Between the two samples. A proxy that is busy three quarters of it has used 2 s of CPU,
    /// of which the 10 ms steps of `/proc/PID/stat` are half a percent.
    pub(crate) window: Duration,
    /// How long idle connections may take to give back what they no longer need.
    pub(crate) settle: Duration,
    /// How often a turn is taken at most when others used the proxy's CPU meanwhile.
    pub(crate) attempts: usize,
}

impl Pace {
    /// For figures to quote.
    pub(crate) const FULL: Pace = Pace {
        warm_up: Duration::from_millis(500),
        window: Duration::from_millis(2800),
        settle: Duration::from_secs(3),
        attempts: 3,
    };

    /// For a glance.
    pub(crate) const QUICK: Pace = Pace {
        warm_up: Duration::from_millis(400),
        window: Duration::from_millis(1200),
        settle: Duration::from_secs(3),
        attempts: 1,
    };
}
