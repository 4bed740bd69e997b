//! The way of a request to an application, with what may be tried again.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use tokio::time::timeout;

use super::balance;
use super::connect::{self, ConnectError};
use super::h1;
use super::h2c;
use super::h2c::links::{Call, Links};
use super::pool::{Backend, Lease, Underway};
use super::response::Head;
use crate::config::Route;
use crate::downstream::budget::{Budget, CROWDED};
use crate::downstream::descriptors::{Allowance, Place};
use crate::proxy::request_body::RequestBodyError;
use crate::worker::Worker;
use crate::worker::view::RouteView;

/// The first pause after a refused connection; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// How long an application that dropped a new connection is given to be gone, so that the next
/// attempt is refused, and held, instead of being dropped again.
const RESTART: Duration = Duration::from_millis(100);

/// Why no application answered. The text is for the log.
#[derive(Debug)]
pub enum SendError {
    /// The route has none.
    NoBackend,
    /// None could be reached within `limits.hold`.
    Connect(ConnectError),
    /// It was silent for longer than `limits.upstream_timeout`.
    Timeout(Duration),
    /// It failed before or within the head of its answer.
    Failed(String),
    /// The client's own body failed.
    Downstream(RequestBodyError),
    /// The client has all the connections to applications in use that descriptors are left for.
    Descriptors,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::NoBackend => f.write_str("the route has no application"),
            SendError::Connect(error) => {
                write!(f, "{error}, over limits.hold: is the application running?")
            }
            SendError::Timeout(limit) => {
                write!(f, "no answer for {limit:?}, over limits.upstream_timeout")
            }
            SendError::Failed(why) => f.write_str(why),
            SendError::Downstream(error) => error.fmt(f),
            SendError::Descriptors => f.write_str(
                "the client has as many requests under way as the limit on open files allows \
                 (see LimitNOFILE)",
            ),
        }
    }
}

impl From<ConnectError> for SendError {
    fn from(error: ConnectError) -> Self {
        SendError::Connect(error)
    }
}

/// Who gets a request, chosen anew for each attempt.
pub struct Choice<'a> {
    /// The worker whose connections are used.
    pub worker: &'a Worker,
    /// The route's configuration.
    pub route: &'a Route,
    /// The route's applications.
    pub view: &'a RouteView,
    /// What the client's connection may use.
    pub allowance: &'a Allowance,
    /// Told about each application that is tried.
    pub chosen: &'a RefCell<Option<Rc<Backend>>>,
}

impl Choice<'_> {
    /// Sends `request` over HTTP/1.1; the head of the answer is read into `headers`.
    ///
    /// A request that an application dropped unanswered is sent once more, and to another one
    /// where there is one, if that cannot do anything twice: nothing of it was taken, or its
    /// method is idempotent (RFC 9110 §9.2.2) and its body is still whole.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(
        &self,
        request: &mut h1::Request,
        headers: &mut HeaderMap,
        mut interim: impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<(Head, Lease), SendError> {
        let (mut dropped_by, mut is_last) = (None, false);
        loop {
            let mut lease = self.lease(dropped_by.take()).await?;
            let Some(connection) = lease.connection() else { return Err(SendError::NoBackend) };
            let was_reused = connection.reused;
            let error = match connection.exchange(request, headers, &mut interim).await {
                Ok(head) => return Ok((head, lease)),
                Err(error) => error,
            };
            headers.clear();
            let backend = Rc::clone(lease.backend());
            if let h1::Error::Closed { unsent, .. } = &error
                // That an idle connection turned out closed is no attempt.
                && ((was_reused && *unsent) || !is_last)
                && (*unsent || request.method.is_idempotent())
                && let Some(connection) = lease.into_connection()
                && let Some(body) = connection.into_intact_body()
            {
                request.body = body;
                dropped_by = Some(backend);
                is_last = is_last || !(was_reused && *unsent);
                if !was_reused {
                    // It may be going down: it takes connections that it never looks at.
                    tokio::time::sleep(RESTART.min(self.route.hold)).await;
                }
                continue;
            }
            return Err(self.failed(error));
        }
    }

    fn failed(&self, error: h1::Error) -> SendError {
        SendError::Failed(match error {
            h1::Error::Downstream(error) => return SendError::Downstream(error),
            h1::Error::Timeout | h1::Error::Silent(_) | h1::Error::Idle => {
                return SendError::Timeout(self.route.upstream_timeout);
            }
            h1::Error::Crowded => CROWDED.to_owned(),
            h1::Error::Closed { source: None, .. } => "it closed the connection unanswered".into(),
            h1::Error::Closed { source: Some(error), .. } => {
                format!("the connection broke before an answer: {error}")
            }
            h1::Error::Cut(_) => "it broke off within the head of its answer".into(),
            h1::Error::Malformed(reason) => format!("its answer is malformed: {reason}"),
        })
    }

    /// A connection to one of the applications: an idle one, else a new one, for which refusals are
    /// waited out as long as `hold` allows. After one that was dropped, by `dropped_by`, only a new
    /// one will do.
    async fn lease(&self, dropped_by: Option<Rc<Backend>>) -> Result<Lease, SendError> {
        let claim = match self.allowance.claim() {
            Some(claim) => claim,
            None => {
                // Boxed, so that the others do not carry the room for it.
                let waiting = timeout(self.route.upstream_timeout, self.allowance.wait());
                Box::pin(waiting).await.map_err(|_| SendError::Descriptors)?
            }
        };
        let mut lease = self.find(dropped_by).await?;
        if let Some(connection) = lease.connection() {
            connection.accounted.claim = Some(claim);
        }
        Ok(lease)
    }

    async fn find(&self, dropped_by: Option<Rc<Backend>>) -> Result<Lease, SendError> {
        // What waiting costs the clock is asked only when there is something to wait for.
        let mut began = None;
        let mut pause = PAUSE;
        let is_again = dropped_by.is_some();
        let (mut tried, mut failures) = (dropped_by, 0);
        loop {
            let backend = self.pick(tried.as_ref())?;
            if !is_again && let Some(lease) = poll_fn(|cx| Poll::Ready(backend.lease(cx))).await {
                self.worker.metrics.upstream_reuses.add(1);
                return Ok(lease);
            }
            let connecting = Instant::now();
            match self.connect(&backend).await {
                Ok(connection) => return Ok(backend.lease_new(connection)),
                Err(error) => {
                    let began = *began.get_or_insert(connecting);
                    failures += 1;
                    // Each of the others gets its chance at once, whatever `hold` says.
                    let others_left = failures < self.view.backends.len()
                        && self.view.backends.iter().any(|b| !b.is_passed_over(Instant::now()));
                    if !others_left {
                        let waited = began.elapsed();
                        if waited >= self.route.hold || !error.is_passing() {
                            return Err(error.into());
                        }
                        tokio::time::sleep(pause.min(self.route.hold - waited)).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
            tried = Some(backend);
        }
    }

    /// The application that gets the next attempt.
    ///
    /// # Errors
    /// When there is none.
    pub fn pick(&self, tried: Option<&Rc<Backend>>) -> Result<Rc<Backend>, SendError> {
        let RouteView { backends, turn } = self.view;
        let backend = balance::pick(backends, turn, tried);
        let backend = backend.ok_or(SendError::NoBackend)?;
        self.chosen.replace(Some(Rc::clone(backend)));
        Ok(Rc::clone(backend))
    }

    async fn connect(&self, backend: &Backend) -> Result<Box<h1::Connection>, ConnectError> {
        // Boxed: a request is rarely the one that connects, and must not carry the room for it.
        let place = self.place();
        let io = Box::pin(connect::connect(backend)).await;
        self.note(backend, io.as_ref().err().map(Some));
        let mut connection = h1::Connection::new(io?, self.worker.wheel.deadline());
        connection.accounted.place = Some(place);
        Ok(Box::new(connection))
    }

    /// A place for a new connection, at the cost of idle ones where it must be.
    fn place(&self) -> Place {
        let place = self.worker.descriptors.upstream();
        if self.worker.descriptors.is_short() {
            self.worker.release_idle();
        }
        place
    }

    /// Notes whether a connection could be made, and what came of the attempt where that is known.
    fn note(&self, backend: &Backend, failure: Option<Option<&ConnectError>>) {
        let metrics = &self.worker.metrics;
        metrics.upstream_connects.add(1);
        if failure.is_some() {
            metrics.upstream_connect_failures.add(1);
        }
        if matches!(failure, Some(Some(error)) if error.is_shortage()) {
            // It is we who failed; the other workers hear of it and let go of theirs, too.
            self.worker.descriptors.note_shortage();
            self.worker.release_idle();
            return;
        }
        backend.note(failure.is_some().then(Instant::now));
    }

    /// A stream to an application that speaks HTTP/2, for the client with this account, waiting
    /// out refusals as long as `hold` allows; the exchange on it counts from now on.
    ///
    /// # Errors
    /// When none can be reached.
    pub async fn reach_h2c(&self, budget: Option<&Budget>) -> Result<(Call, Underway), SendError> {
        let began = Instant::now();
        let mut pause = PAUSE;
        let (mut tried, mut failures) = (None, 0);
        loop {
            let backend = self.pick(tried.as_ref())?;
            if let Some(call) = backend.h2c.call(budget) {
                self.worker.metrics.upstream_reuses.add(1);
                return Ok((call, backend.begin()));
            }
            // It goes on the account of the client who makes it necessary, whoever shares it.
            let Some(claim) = self.allowance.claim() else {
                if began.elapsed() >= self.route.upstream_timeout {
                    return Err(SendError::Descriptors);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                continue;
            };
            let accounted = h1::Accounted { place: Some(self.place()), claim: Some(claim) };
            let error = match Links::connect(&backend, budget, accounted).await {
                Ok(call) => {
                    self.note(&backend, None);
                    return Ok((call, backend.begin()));
                }
                Err(error) => error,
            };
            self.note(&backend, Some(error.connecting()));
            failures += 1;
            if failures >= self.view.backends.len() {
                let waited = began.elapsed();
                if waited >= self.route.hold {
                    return Err(self.failed_h2c(error));
                }
                tokio::time::sleep(pause.min(self.route.hold - waited)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            tried = Some(backend);
        }
    }

    /// What a failure over HTTP/2 means.
    #[must_use]
    pub fn failed_h2c(&self, error: h2c::Error) -> SendError {
        match error {
            h2c::Error::Connect(error) => SendError::Connect(error),
            h2c::Error::Timeout => SendError::Timeout(self.route.upstream_timeout),
            h2c::Error::Downstream(error) => SendError::Downstream(error),
            h2c::Error::Malformed(why) => {
                SendError::Failed(format!("its answer is malformed: {why}"))
            }
            h2c::Error::Http(error) => SendError::Failed(format!("its HTTP/2 failed: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
