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
use super::h2c::links::Links;
use crate::config::Target;
use crate::config::target::{Address, Protocol};
use crate::helper::client::Line;

/// Idle connections that a worker keeps to one application.
const IDLE: usize = 256;

/// How long an idle connection is kept: shorter than most applications do, so that it is rarely
/// them who close it just as we use it.
/// Counted in [`Backends::tidy`]s, so that putting a connection back asks no clock.
pub const IDLE_AGE: Duration = Duration::from_secs(55);

/// How long an application that refused a connection is passed over while others are up; it
/// doubles with each further refusal, because finding out that it answers no packet takes a request
/// seconds.
const PASSED_OVER: Duration = Duration::from_secs(2);
const PASSED_OVER_MAX: Duration = Duration::from_secs(32);

/// Idle connections that a worker keeps when descriptors are short: who is inside may get no other.
const KEPT: usize = 4;

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
    /// Makes connections that this process may not make itself.
    pub helper: Option<Line>,
    /// The shared HTTP/2 connections, for `h2c://`.
    pub h2c: Links,
    #[expect(clippy::vec_box, reason = "they come and go as boxes: moving one moves a pointer")]
    idle: RefCell<Vec<Box<h1::Connection>>>,
    in_flight: Cell<u32>,
    /// Until when it is passed over, and for how long the last time.
    passed_over: Cell<Option<(Instant, Duration)>>,
}

/// All applications of one worker; they outlive reloads, and their connections with them.
#[derive(Debug, Default)]
pub struct Backends {
    all: HashMap<Target, Rc<Backend>>,
    helper: Option<Line>,
}

/// A connection in use: given back when it can be used again, closed otherwise.
#[derive(Debug)]
pub struct Lease {
    connection: Option<Box<h1::Connection>>,
    underway: Underway,
}

/// An exchange with an application, counted for the balance until this is dropped.
#[derive(Debug)]
pub struct Underway(Rc<Backend>);

impl Backends {
    /// None yet; `helper` makes connections that this process may not make itself.
    #[must_use]
    pub fn new(helper: Option<Line>) -> Self {
        Self { all: HashMap::new(), helper }
    }

    /// The application at `target`.
    pub fn at(&mut self, target: &Target, tls: Option<&Arc<ClientConfig>>) -> Rc<Backend> {
        let new = || Rc::new(Backend::new(target.clone(), tls.cloned(), self.helper.clone()));
        Rc::clone(self.all.entry(target.clone()).or_insert_with(new))
    }

    /// Forgets the applications that nothing names any more, and closes what has been idle for
    /// too long or was closed by the other side. To be called once in `interval`.
    pub fn tidy(&mut self, interval: Duration, cx: &mut Context<'_>) {
        self.all.retain(|_, backend| {
            backend.idle.borrow_mut().retain_mut(|connection| {
                connection.rested += 1;
                interval * connection.rested < IDLE_AGE && connection.poll_is_usable(cx)
            });
            backend.h2c.tidy(interval);
            Rc::strong_count(backend) > 1
        });
    }

    /// Closes idle connections, so that there are descriptors for what is not idle.
    pub fn release(&mut self) {
        let mut kept = KEPT;
        for backend in self.all.values() {
            let mut idle = backend.idle.borrow_mut();
            let keep = idle.len().min(kept);
            kept -= keep;
            let surplus = idle.len() - keep;
            idle.drain(..surplus);
            idle.shrink_to_fit();
            backend.h2c.release();
        }
    }
}

impl Backend {
    /// `tls` is for all applications that speak it, and for no other.
    fn new(target: Target, tls: Option<Arc<ClientConfig>>, helper: Option<Line>) -> Self {
        let tls = tls.filter(|_| target.protocol == Protocol::Https);
        let address = match &target.address {
            Address::Tcp(host, port) => host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
            Address::Unix(_) => None,
        };
        Self {
            name: target.to_string(),
            target,
            address,
            tls,
            helper,
            h2c: Links::default(),
            idle: RefCell::default(),
            in_flight: Cell::new(0),
            passed_over: Cell::new(None),
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
        self.passed_over.get().is_some_and(|(until, _)| now < until)
    }

    /// Notes whether a connection could be made.
    pub fn note(&self, refused: Option<Instant>) {
        let last = self.passed_over.get().map_or(Duration::ZERO, |(_, last)| last);
        let time = (last * 2).clamp(PASSED_OVER, PASSED_OVER_MAX);
        self.passed_over.set(refused.map(|now| (now + time, time)));
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
        Lease { connection: Some(connection), underway: self.begin() }
    }

    /// Counts an exchange.
    #[must_use]
    pub fn begin(self: &Rc<Self>) -> Underway {
        self.in_flight.set(self.in_flight.get() + 1);
        Underway(Rc::clone(self))
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
        self.underway.backend()
    }

    /// Takes the connection out of the pool's care.
    #[must_use]
    pub fn into_connection(mut self) -> Option<Box<h1::Connection>> {
        self.connection.take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let mut idle = self.backend().idle.borrow_mut();
        if connection.is_reusable() && idle.len() < IDLE {
            connection.rest();
            idle.push(connection);
        }
    }
}

impl Underway {
    /// The application.
    #[must_use]
    pub fn backend(&self) -> &Rc<Backend> {
        &self.0
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use proptest::prelude::*;

    use super::*;
    use crate::proxy::request_body::RequestBody;
    use crate::upstream::testing::{App, pair};
    use crate::worker::deadline::Wheel;

    fn backend(backends: &mut Backends) -> Rc<Backend> {
        backends.at(&Target::parse("127.0.0.1:1").unwrap(), None)
    }

    /// A connection on which `answer` has been read to its end, and the application.
    async fn used(backend: &Rc<Backend>, answer: &str) -> (Lease, App) {
        let (io, mut app) = pair();
        let deadline = Wheel::new(Instant::now()).deadline();
        let mut lease = backend.lease_new(Box::new(h1::Connection::new(io, deadline)));
        app.says(answer);
        let mut request = h1::Request {
            method: Method::GET,
            head: Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"),
            body: RequestBody::empty(),
            expects_continue: false,
            first_byte: Duration::from_secs(5),
            patience: crate::proxy::patience::Patience::new(Duration::from_secs(5), None),
            conversation: Duration::from_secs(75),
            budget: None,
            asks_for_tunnel: false,
        };
        let connection = lease.connection().unwrap();
        connection.exchange(&mut request, &mut HeaderMap::new(), |_, _| {}).await.unwrap();
        (lease, app)
    }

    async fn is_leased(backend: &Rc<Backend>) -> bool {
        tokio::task::yield_now().await;
        poll_fn(|cx| Poll::Ready(backend.lease(cx))).await.is_some()
    }

    async fn tidy(backends: &mut Backends, interval: Duration) {
        tokio::task::yield_now().await;
        poll_fn(|cx| {
            backends.tidy(interval, cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn only_what_has_ended_cleanly_is_put_back() {
        for (answer, is_kept) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", false),
            ("HTTP/1.0 204 No Content\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", false),
            ("HTTP/1.1 200 OK\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
            // What it announces may yet come, and would be the next answer.
            ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ] {
            let backend = backend(&mut Backends::default());
            let (lease, _app) = used(&backend, answer).await;
            assert_eq!(backend.in_flight(), 1);
            drop(lease);
            assert_eq!((backend.in_flight(), is_leased(&backend).await), (0, is_kept), "{answer}");
        }
    }

    #[tokio::test]
    async fn what_the_application_closed_or_spoke_on_is_not_used() {
        let backend = backend(&mut Backends::default());
        let (lease, app) = used(&backend, "HTTP/1.1 204 No Content\r\n\r\n").await;
        drop((lease, app));
        assert!(!is_leased(&backend).await);
        let (lease, mut app) = used(&backend, "HTTP/1.1 204 No Content\r\n\r\n").await;
        drop(lease);
        app.says("HTTP/1.1 408 Request Timeout\r\n\r\n");
        assert!(!is_leased(&backend).await);
    }

    #[tokio::test]
    async fn what_rests_for_too_long_is_closed() {
        let mut backends = Backends::default();
        let backend = backend(&mut backends);
        let (lease, _app) = used(&backend, "HTTP/1.1 204 No Content\r\n\r\n").await;
        drop(lease);
        for _ in 0..5 {
            tidy(&mut backends, IDLE_AGE / 6).await;
            assert_eq!(backend.idle.borrow().len(), 1);
        }
        tidy(&mut backends, IDLE_AGE / 5).await;
        assert!(backend.idle.borrow().is_empty());
    }

    #[tokio::test]
    async fn an_application_is_forgotten_with_the_last_that_names_it() {
        let mut backends = Backends::default();
        let kept = backend(&mut backends);
        assert!(Rc::ptr_eq(&kept, &backend(&mut backends)));
        tidy(&mut backends, Duration::from_secs(1)).await;
        assert_eq!(backends.all.len(), 1);
        drop(kept);
        tidy(&mut backends, Duration::from_secs(1)).await;
        assert!(backends.all.is_empty());
    }

    #[test]
    fn a_refusal_is_forgotten() {
        let backend = backend(&mut Backends::default());
        let now = Instant::now();
        assert!(!backend.is_passed_over(now));
        backend.note(Some(now));
        assert!(backend.is_passed_over(now + PASSED_OVER / 2));
        assert!(!backend.is_passed_over(now + PASSED_OVER));
        let mut now = now;
        for _ in 0..10 {
            now += PASSED_OVER_MAX;
            backend.note(Some(now));
        }
        assert!(backend.is_passed_over(now + PASSED_OVER_MAX / 2));
        assert!(!backend.is_passed_over(now + PASSED_OVER_MAX));
        backend.note(None);
        backend.note(Some(now));
        assert!(!backend.is_passed_over(now + PASSED_OVER), "a success forgives");
    }

    proptest! {
        /// A model of one line: doubled with each refusal in a row, within its bounds.
        #[test]
        fn the_time_of_being_passed_over_is_bounded(steps in prop::collection::vec((any::<bool>(), 0..40_u64), 1..20)) {
            let backend = backend(&mut Backends::default());
            let (mut now, mut in_a_row) = (Instant::now(), 0_u32);
            for (refused, seconds) in steps {
                backend.note(refused.then_some(now));
                in_a_row = if refused { in_a_row + 1 } else { 0 };
                let time = Duration::from_secs(2_u64.saturating_pow(in_a_row).min(32));
                prop_assert_eq!(backend.is_passed_over(now), refused);
                if refused {
                    prop_assert!(backend.is_passed_over(now + time - Duration::from_millis(1)));
                }
                prop_assert!(!backend.is_passed_over(now + time));
                now += Duration::from_secs(seconds);
            }
        }

        #[test]
        fn whoever_is_given_back_in_whatever_order_is_counted_once(order in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _entered = runtime.enter();
            let backend = backend(&mut Backends::default());
            let new = || {
                let deadline = Wheel::new(Instant::now()).deadline();
                backend.lease_new(Box::new(h1::Connection::new(pair().0, deadline)))
            };
            let mut leases: Vec<Lease> = order.iter().map(|_| new()).collect();
            for (left, index) in (0..leases.len()).rev().zip(&order) {
                prop_assert_eq!(backend.in_flight() as usize, left + 1);
                let lease = leases.swap_remove(index.index(left + 1));
                if left % 2 == 0 { drop(lease) } else { drop(lease.into_connection()) }
            }
            prop_assert_eq!(backend.in_flight(), 0);
        }
    }
}
