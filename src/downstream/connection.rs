//! One client's connection, as everything that handles its requests sees it.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;

use super::bind::ListenerKind;
use super::budget::Budget;
use super::descriptors::Allowance;
use super::field_block::Malformed;
use super::stream::Stream;
use crate::proxy::tunnel::Tunnel;
use crate::tls::policy::{Policy, Tag};
use crate::tls::presented::Presented;
use crate::worker::Worker;
use crate::worker::deadline::Deadline;

/// A connection and what is going on on it.
#[derive(Debug)]
pub struct Connection {
    /// The worker that it lives on.
    pub worker: Rc<Worker>,
    /// The bytes.
    pub stream: Stream,
    /// Who is at the other end: what the socket says, or a trusted proxy's PROXY header.
    pub peer: SocketAddr,
    /// What was agreed on, under TLS.
    pub tls: Option<Tls>,
    /// What its driver waits for.
    pub deadline: Deadline,
    /// A tunnel that takes the place of HTTP once the answer is out.
    pub tunnel: RefCell<Option<Tunnel>>,
    /// Whether a request's body was left unread: the client may still be sending it.
    pub unread: Cell<bool>,
    /// What its streams make us hold; HTTP/1 has one answer at a time.
    pub budget: Option<Budget>,
    /// What its requests may use towards applications.
    pub allowance: Allowance,
    in_flight: Cell<u32>,
    /// Whether the newest answer has told the client that it is the last one.
    pub is_last_answered: Cell<bool>,
    /// Requests so far.
    begun: Cell<u64>,
    /// How much had been received when the last request ended.
    mark: Cell<u64>,
}

/// What a handshake agreed on.
#[derive(Debug)]
pub struct Tls {
    /// For logs: `TLSv1.3`.
    pub version: &'static str,
    /// The name that the client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// The address that it reached, where that decides about the certificate.
    pub local: Option<IpAddr>,
    /// Whether HTTP/2 was agreed on.
    pub http2: bool,
    /// The rules that it is known to be good under.
    pub good_under: Cell<Tag>,
    /// The certificates that the client showed, verified, its own first; mostly none.
    pub shown: Box<[CertificateDer<'static>]>,
    /// What applications are told of them, where they ask.
    pub presented: Presented,
}

impl Tls {
    /// Whether it is good under these rules, too: those of before a reload may have been others.
    #[must_use]
    pub fn is_good_under(&self, policy: &Policy) -> bool {
        if self.good_under.get() == policy.tag {
            return true;
        }
        let version = match self.version {
            "TLSv1.2" => ProtocolVersion::TLSv1_2,
            _ => ProtocolVersion::TLSv1_3,
        };
        let is_good = policy.admits(version, &self.shown, SystemTime::now());
        if is_good {
            self.good_under.set(policy.tag);
        }
        is_good
    }
}

impl Connection {
    /// A connection without requests yet.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        stream: Stream,
        peer: SocketAddr,
        tls: Option<Tls>,
        allowance: Allowance,
    ) -> Rc<Self> {
        Rc::new(Self {
            budget: tls.as_ref().is_some_and(|tls| tls.http2).then(Budget::default),
            worker: Rc::clone(worker),
            stream,
            peer,
            tls,
            deadline: worker.wheel.deadline(),
            tunnel: RefCell::new(None),
            unread: Cell::new(false),
            allowance,
            in_flight: Cell::new(0),
            is_last_answered: Cell::new(false),
            begun: Cell::new(0),
            mark: Cell::new(0),
        })
    }

    /// What is spoken on it.
    #[must_use]
    pub fn kind(&self) -> ListenerKind {
        if self.tls.is_some() { ListenerKind::Https } else { ListenerKind::Http }
    }

    /// Whether HTTP/2 is spoken on it.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.http2)
    }

    /// Counts a request until the result is dropped.
    #[must_use]
    pub fn begin(self: &Rc<Self>) -> InFlight {
        if self.in_flight.replace(self.in_flight.get() + 1) == 0 {
            self.unread.set(false);
        }
        self.begun.set(self.begun.get() + 1);
        InFlight(Rc::clone(self))
    }

    /// Requests so far, those under way counted.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// Requests whose answers are not complete.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// What has been received so far is no news.
    pub fn set_mark(&self) {
        self.mark.set(self.stream.received());
    }

    /// Whether bytes have come since the last request ended: the next one has begun.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.stream.received() > self.mark.get()
    }

    /// What is wrong with one of its requests over HTTP/2, so that it gets no more answers. It is
    /// not known which: the HTTP library does not tell the numbers of streams.
    #[must_use]
    pub fn malformed(&self) -> Option<Malformed> {
        self.stream.inspection().malformed()
    }

    /// A request has ended before its answer was complete, and not by our fault.
    pub fn abandon(&self) {
        if self.stream.inspection().abandon() {
            self.nudge();
        }
    }

    /// Has the driver look around at once.
    pub fn nudge(&self) {
        self.deadline.set(Duration::ZERO);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InFlight(Rc<Connection>);

impl InFlight {
    /// The connection that it came on.
    #[must_use]
    pub fn connection(&self) -> &Rc<Connection> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        self.0.set_mark();
    }
}
