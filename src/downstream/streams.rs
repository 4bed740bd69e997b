//! The task of one HTTP/2 stream, which the HTTP library spawns and then leaves alone.
//!
//! The library asks for more of an answer when the client has made room for it (RFC 9113 §5.2). A
//! client that makes none keeps the stream, and the application's connection, for ever: so each
//! stream has a watch that the answer's body winds up, and who lets it run down loses the stream.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connection::Connection;
use crate::config::Limits;
use crate::observe::metrics::{Limit, WorkerMetrics};
use crate::worker::deadline::Deadline;

/// The longest that a client may take nothing of an answer over HTTP/2, whatever
/// `limits.idle_timeout` says: it can have a hundred of them wait at once.
const STALLED: Duration = Duration::from_secs(55);

/// How long a client may take nothing of an answer over HTTP/2.
#[must_use]
pub fn stall_timeout(limits: &Limits) -> Duration {
    limits.idle_timeout.min(STALLED)
}

thread_local! {
    /// The watch of the stream whose task is running.
    static CURRENT: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
}

/// Runs the streams of a worker's clients.
#[derive(Clone, Debug)]
pub struct Streams {
    metrics: Arc<WorkerMetrics>,
}

impl Streams {
    /// Those of the worker that counts here.
    #[must_use]
    pub fn new(metrics: &Arc<WorkerMetrics>) -> Self {
        Self { metrics: Arc::clone(metrics) }
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        if let Some(watch) = CURRENT.with_borrow(Clone::clone) {
            // All that a stream spawns is the sending side of the tunnel that it has become.
            watch.sending.replace(Some(Sending(Box::pin(future))));
            return;
        }
        let panics = CountPanics(Arc::clone(&self.metrics));
        tokio::task::spawn_local(async move {
            let _panics = panics;
            let watch = Rc::new(Watch::default());
            let mut future = pin!(future);
            poll_fn(|cx| {
                let running = Running::new(&watch);
                let polled = future.as_mut().poll(cx);
                drop(running);
                if polled.is_ready() || watch.poll_ahead(cx).is_ready() {
                    return Poll::Ready(());
                }
                watch.poll_run_down(cx)
            })
            .await;
        });
    }
}

/// While it lives, a stream's task is running; also where that unwinds, so that what is spawned
/// next is not taken for its own.
struct Running;

impl Running {
    fn new(watch: &Rc<Watch>) -> Self {
        CURRENT.set(Some(Rc::clone(watch)));
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// What is known of one stream's progress.
#[derive(Debug, Default)]
pub struct Watch {
    connection: RefCell<Option<Rc<Connection>>>,
    deadline: RefCell<Option<Deadline>>,
    /// The number of the piece that the client has to make room for, while it has to.
    waits_for: Cell<Option<u64>>,
    set_for: Cell<Option<u64>>,
    pieces: Cell<u64>,
    sending: RefCell<Option<Sending>>,
    ahead: RefCell<Option<Weak<dyn Ahead>>>,
}

/// An answer of which more may come than its client has made room for.
pub trait Ahead: fmt::Debug {
    /// Takes what has come. Ready when that is too much, and the stream is to be given up.
    fn poll_ahead(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// What hands to the library's stream what was written to a tunnel. Whoever drops it before it is
/// ready resets the stream, once the other side of the tunnel is dropped, too.
pub struct Sending(Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending")
    }
}

impl Future for Sending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Watch {
    /// The watch of the stream that is being polled, which belongs to `connection`; `None` outside
    /// of HTTP/2.
    #[must_use]
    pub fn current(connection: &Rc<Connection>) -> Option<Rc<Self>> {
        let watch = CURRENT.with_borrow(Clone::clone)?;
        watch.connection.replace(Some(Rc::clone(connection)));
        Some(watch)
    }

    /// The sending side of the tunnel that the stream has become.
    #[must_use]
    pub fn take_sending(&self) -> Option<Sending> {
        self.sending.take()
    }

    /// The client has made room: it is waited for no longer.
    pub fn asked(&self) {
        self.waits_for.set(None);
    }

    /// A piece is handed over, and is not the last: the client has to make room for the next.
    pub fn handed(&self) {
        let pieces = self.pieces.get() + 1;
        self.pieces.set(pieces);
        self.waits_for.set(Some(pieces));
    }

    /// Has `answer` looked at while the client makes no room for it.
    pub fn look_at(&self, answer: Weak<dyn Ahead>) {
        self.ahead.replace(Some(answer));
    }

    /// Ready when too much has come that the client has made no room for.
    fn poll_ahead(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits_for.get().is_none() {
            return Poll::Pending;
        }
        let answer = self.ahead.borrow().as_ref().and_then(Weak::upgrade);
        answer.map_or(Poll::Pending, |answer| answer.poll_ahead(cx))
    }

    /// Ready when the client has made no room for the time of [`stall_timeout`].
    fn poll_run_down(&self, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.connection.borrow();
        let Some(worker) = connection.as_ref().map(|connection| &connection.worker) else {
            return Poll::Pending;
        };
        let waits_for = self.waits_for.get();
        if waits_for.is_none() && self.set_for.get().is_none() {
            return Poll::Pending;
        }
        let mut deadline = self.deadline.borrow_mut();
        let deadline = deadline.get_or_insert_with(|| worker.wheel.deadline());
        if self.set_for.replace(waits_for) != waits_for {
            match waits_for {
                Some(_) => deadline.set(stall_timeout(worker.view().limits())),
                None => deadline.clear(),
            }
        }
        if deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        worker.metrics.limits.count(Limit::IdleTimeout);
        Poll::Ready(())
    }
}

/// Notices that the task is unwinding.
struct CountPanics(Arc<WorkerMetrics>);

impl Drop for CountPanics {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panics.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;

    use super::*;

    /// Only streams whose answer had begun to come from an application were counted.
    #[tokio::test]
    async fn a_panic_before_there_is_an_answer_is_counted() {
        let metrics = Arc::new(WorkerMetrics::default());
        let streams = Streams::new(&metrics);
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                streams.execute(async { panic!("a defect, for the test") });
                streams.execute(async {});
                tokio::task::yield_now().await;
            })
            .await;
        local.await;
        assert_eq!(metrics.panics.get(), 1);
        assert!(CURRENT.with_borrow(Option::is_none), "the next stream would be taken for its own");
    }

    #[tokio::test]
    async fn what_a_stream_spawns_is_its_tunnels_and_not_run() {
        let streams = Streams::new(&Arc::new(WorkerMetrics::default()));
        let local = tokio::task::LocalSet::new();
        let watch = Rc::new(Watch::default());
        local
            .run_until(async {
                let running = Running::new(&watch);
                streams.execute(async {});
                drop(running);
                watch.take_sending().expect("the sending side").await;
                assert!(watch.take_sending().is_none());
            })
            .await;
    }
}
