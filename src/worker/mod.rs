//! One thread of the data plane and what belongs to it alone.
//!
//! Each worker has its own runtime, its own connections to the applications, its own counters and
//! its own log buffer; nothing on the path of a request is shared between threads. The control
//! plane speaks to it through its mailbox.

pub mod deadline;
pub mod view;
mod thread;
#[cfg(test)]
pub(crate) mod testing;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::server::conn::{http1, http2};
use slab::Slab;

use crate::downstream::aside::Aside;
use crate::downstream::connection::Connection;
use crate::downstream::descriptors::Descriptors;
use crate::downstream::streams::Streams;
use crate::observe::access_log::Buffer;
use crate::observe::metrics::WorkerMetrics;
use crate::observe::rate_limited::RateLimited;
use crate::proxy::date::Dates;
use crate::proxy::headers::request_id::RequestIds;
use crate::upstream::pool::Backends;
use deadline::Wheel;
pub use thread::{Mailbox, Message, Publication, start};
use view::View;

/// What all connections of a worker share.
pub struct Worker {
    /// Which worker it is, from 0.
    pub index: usize,
    /// Deadlines.
    pub wheel: Rc<Wheel>,
    /// Its counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Its part of the access log.
    pub log: RefCell<Buffer>,
    /// Names for requests.
    pub ids: RequestIds,
    /// Whether it is stopping: what is open may end, nothing new begins.
    pub draining: Cell<bool>,
    /// Where handshakes have their costly steps done.
    pub aside: Aside,
    /// Brakes on what strangers can make us log.
    pub complaints: Complaints,
    /// The `Date` of answers.
    pub dates: Dates,
    /// What the process has of descriptors.
    pub descriptors: Arc<Descriptors>,
    view: RefCell<Rc<View>>,
    backends: RefCell<Backends>,
    connections: RefCell<Slab<Rc<Connection>>>,
}

impl Worker {
    /// What to serve from, now.
    #[must_use]
    pub fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Notes a connection for as long as the result lives, so that a stop reaches it.
    #[must_use]
    pub fn register(self: &Rc<Self>, connection: &Rc<Connection>) -> Registered {
        let key = self.connections.borrow_mut().insert(Rc::clone(connection));
        Registered { worker: Rc::clone(self), key }
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Closes connections to applications that wait for their next use: somebody needs their
    /// descriptors.
    pub fn release_idle(&self) {
        self.backends.borrow_mut().release();
    }

    fn drain(&self) {
        self.draining.set(true);
        for (_, connection) in self.connections.borrow().iter() {
            connection.nudge();
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Of what strangers and applications can make us say, each kind is said at most once a second.
#[derive(Debug)]
pub struct Complaints {
    /// Handshakes and PROXY headers that came to nothing.
    pub handshakes: Complaint,
    /// Requests over a limit.
    pub limits: Complaint,
    /// Applications that failed.
    pub upstreams: Complaint,
}

/// One kind.
#[derive(Debug)]
pub struct Complaint(RateLimited);

impl Complaint {
    /// Says it, unless that was done within the last second: `say` gets the number of times that
    /// it was held back.
    pub fn say(&self, say: impl FnOnce(u64)) {
        if let Some(suppressed) = self.0.pass(Instant::now()) {
            say(suppressed);
        }
    }
}

impl Default for Complaints {
    fn default() -> Self {
        let new = || Complaint(RateLimited::per_second());
        Self { handshakes: new(), limits: new(), upstreams: new() }
    }
}

/// A connection's place among those of its worker.
#[derive(Debug)]
pub struct Registered {
    worker: Rc<Worker>,
    key: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let connection = self.worker.connections.borrow_mut().try_remove(self.key);
        // A tunnel that never began holds the connection that holds it.
        drop(connection.and_then(|connection| connection.tunnel.take()));
    }
}

/// Runs what the HTTP library spawns on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// How HTTP is spoken with clients under a configuration.
#[derive(Debug)]
pub struct Protocols {
    /// HTTP/1.0 and 1.1.
    pub http1: http1::Builder,
    /// HTTP/2.
    pub http2: http2::Builder<Streams>,
}
