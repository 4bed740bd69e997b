//! The connections of one worker to one application.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::h1;
use super::h2c;
use crate::config::Target;
use crate::config::target::Address;

/// Idle connections that a worker keeps to one application.
const IDLE: usize = 256;

/// How long an idle connection is kept: shorter than most applications do, so that it is rarely
/// them who close it just as we use it.
/// Counted in [`Backends::tidy`]s, so that putting a connection back asks no clock.
const IDLE_AGE: Duration = Duration::from_secs(55);

/// How long an application that refused a connection is passed over while others are up.
const PASSED_OVER: Duration = Duration::from_secs(2);

/// One application, as one worker sees it.
#[derive(Debug)]
pub struct Backend {
    /// Where it is.
    pub target: Target,
    /// The same as text, for logs.
    pub name: String,
    /// Its address, where no look-up is needed.
    pub address: Option<SocketAddr>,
    /// What verifies its certificate, for `https://`.
    pub tls: Option<Arc<ClientConfig>>,
    /// The shared HTTP/2 connection, for `h2c://`.
    pub h2c: RefCell<Option<h2c::Sender>>,
    idle: RefCell<Vec<Box<h1::Connection>>>,
    in_flight: Cell<u32>,
    refused: Cell<Option<Instant>>,
}

/// All applications of one worker; they outlive reloads, and their connections with them.
#[derive(Debug, Default)]
pub struct Backends(HashMap<Target, Rc<Backend>>);

/// A connection in use: given back when it can be used again, closed otherwise.
#[derive(Debug)]
pub struct Lease {
    connection: Option<Box<h1::Connection>>,
    backend: Rc<Backend>,
}

impl Backends {
    /// The application at `target`.
    pub fn at(&mut self, target: &Target, tls: Option<&Arc<ClientConfig>>) -> Rc<Backend> {
        let new = || Rc::new(Backend::new(target.clone(), tls.cloned()));
        Rc::clone(self.0.entry(target.clone()).or_insert_with(new))
    }

    /// Forgets the applications that nothing names any more, and closes what has been idle for
    /// too long or was closed by the other side. To be called once in `interval`.
    pub fn tidy(&mut self, interval: Duration, cx: &mut Context<'_>) {
        self.0.retain(|_, backend| {
            backend.idle.borrow_mut().retain_mut(|connection| {
                connection.rested += 1;
                interval * connection.rested < IDLE_AGE && connection.poll_is_usable(cx)
            });
            Rc::strong_count(backend) > 1
        });
    }
}

impl Backend {
    fn new(target: Target, tls: Option<Arc<ClientConfig>>) -> Self {
        let address = match &target.address {
            Address::Tcp(host, port) => host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
            Address::Unix(_) => None,
        };
        Self {
            name: target.to_string(),
            target,
            address,
            tls,
            h2c: RefCell::new(None),
            idle: RefCell::default(),
            in_flight: Cell::new(0),
            refused: Cell::new(None),
        }
    }

    /// Exchanges under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether it refused a connection a moment ago.
    #[must_use]
    pub fn is_passed_over(&self, now: Instant) -> bool {
        self.refused.get().is_some_and(|at| now.saturating_duration_since(at) < PASSED_OVER)
    }

    /// Notes whether a connection could be made.
    pub fn note(&self, refused: Option<Instant>) {
        self.refused.set(refused);
    }

    /// An idle connection that is still good, the most recently used first.
    pub fn lease(self: &Rc<Self>, cx: &mut Context<'_>) -> Option<Lease> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.poll_is_usable(cx) {
                return Some(self.lease_new(connection));
            }
        }
    }

    /// A new connection, in use from now on.
    #[must_use]
    pub fn lease_new(self: &Rc<Self>, connection: Box<h1::Connection>) -> Lease {
        self.in_flight.set(self.in_flight.get() + 1);
        Lease { connection: Some(connection), backend: Rc::clone(self) }
    }
}

impl Lease {
    /// The connection.
    ///
    /// `None` never happens before the lease ends; callers treat it as a closed connection.
    pub fn connection(&mut self) -> Option<&mut h1::Connection> {
        self.connection.as_deref_mut()
    }

    /// Whether the answer on it has been read to its end.
    #[must_use]
    pub fn is_body_ended(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.is_body_ended())
    }

    /// How much of the answer's body is to come, where that is known.
    #[must_use]
    pub fn body_length(&self) -> Option<u64> {
        self.connection.as_ref().map_or(Some(0), |connection| connection.body_length())
    }

    /// The application that it leads to.
    #[must_use]
    pub fn backend(&self) -> &Rc<Backend> {
        &self.backend
    }

    /// Takes the connection out of the pool's care.
    #[must_use]
    pub fn into_connection(mut self) -> Option<Box<h1::Connection>> {
        self.connection.take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.in_flight.set(self.backend.in_flight.get().saturating_sub(1));
        let Some(mut connection) = self.connection.take() else { return };
        let mut idle = self.backend.idle.borrow_mut();
        if connection.is_reusable() && idle.len() < IDLE {
            connection.rest();
            idle.push(connection);
        }
    }
}
