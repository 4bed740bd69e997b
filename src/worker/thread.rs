//! The worker's thread: its runtime, its mailbox, its housekeeping.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::Worker;
use super::deadline::Wheel;
use super::view::View;
use crate::control::state::State;
use crate::downstream::accept::Accepted;
use crate::downstream::aside::Aside;
use crate::downstream::descriptors::Descriptors;
use crate::downstream::serve;
use crate::helper::client::Line;
use crate::observe::access_log::Buffer;
use crate::observe::metrics::WorkerMetrics;
use crate::proxy::date::Dates;
use crate::proxy::headers::request_id::RequestIds;
use crate::tls::Tickets;
use crate::upstream::pool::Backends;

/// How often the log is handed over at the latest, and idle connections are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What the control plane tells a worker.
#[derive(Debug)]
pub enum Message {
    /// A client has connected.
    Connection(Accepted),
    /// Serve from this from now on; say so when it is so.
    Publish(Box<Publication>, oneshot::Sender<()>),
    /// Begin nothing new; say so when everything has ended, and the log is handed over.
    Drain(oneshot::Sender<()>),
    /// Cut what is open, hand over the log, and end.
    Stop,
}

/// A configuration on its way to a worker.
#[derive(Debug)]
pub struct Publication {
    /// The state.
    pub state: Arc<State>,
    /// Where access log lines go from now on.
    pub log: Buffer,
}

/// The way to a worker.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Its messages. Unbounded, but what strangers can put in is limited by `limits.connections`.
    pub sender: UnboundedSender<Message>,
    /// Connections that it has, those on their way counted.
    pub load: Arc<AtomicUsize>,
}

/// Starts worker `index`, serving from `first`. `helper` makes connections that it may not make
/// itself. When this returns the worker has all that serving takes.
///
/// # Errors
/// When the system has no thread or descriptor to give.
pub fn start(
    index: usize,
    first: Publication,
    metrics: Arc<WorkerMetrics>,
    tickets: Arc<Tickets>,
    helper: Option<Line>,
    descriptors: Arc<Descriptors>,
    receiver: UnboundedReceiver<Message>,
) -> io::Result<JoinHandle<()>> {
    let (ready, told) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let worker = runtime.and_then(|runtime| {
            Ok((runtime, Worker::new(index, first, metrics, &tickets, helper, descriptors)?))
        });
        match worker {
            Ok((runtime, worker)) => {
                let _ = ready.send(Ok(()));
                LocalSet::new().block_on(&runtime, worker.run(tickets, receiver));
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    })?;
    told.recv().map_err(|_| io::Error::other("a worker panicked at its start"))??;
    Ok(thread)
}

impl Worker {
    pub(super) fn new(
        index: usize,
        first: Publication,
        metrics: Arc<WorkerMetrics>,
        tickets: &Arc<Tickets>,
        helper: Option<Line>,
        descriptors: Arc<Descriptors>,
    ) -> io::Result<Rc<Self>> {
        let mut backends = Backends::new(helper);
        let view =
            View::new(first.state, tickets, &mut backends, &metrics).map_err(io::Error::other)?;
        Ok(Rc::new(Self {
            index,
            wheel: Wheel::new(Instant::now()),
            metrics,
            log: RefCell::new(first.log),
            ids: RequestIds::new().map_err(|_| io::Error::other("the system has no randomness"))?,
            draining: Cell::new(false),
            aside: Aside::start(index)?,
            complaints: super::Complaints::default(),
            dates: Dates::default(),
            descriptors,
            view: RefCell::new(Rc::new(view)),
            backends: RefCell::new(backends),
            connections: RefCell::default(),
        }))
    }

    async fn run(self: Rc<Self>, tickets: Arc<Tickets>, mut mail: UnboundedReceiver<Message>) {
        let wheel = Rc::clone(&self.wheel);
        tokio::task::spawn_local(async move { wheel.run().await });
        tokio::task::spawn_local(Rc::clone(&self).housekeep());
        while let Some(message) = mail.recv().await {
            match message {
                Message::Connection(accepted) => {
                    tokio::task::spawn_local(serve::serve(Rc::clone(&self), accepted));
                }
                Message::Publish(publication, done) => {
                    self.publish(*publication, &tickets);
                    let _ = done.send(());
                }
                // Every task is dropped with the runtime, and each request writes its line then.
                Message::Stop => return,
                Message::Drain(done) => {
                    self.drain();
                    tokio::task::spawn_local(Rc::clone(&self).finish(done));
                }
            }
        }
    }

    fn publish(&self, publication: Publication, tickets: &Arc<Tickets>) {
        let mut backends = self.backends.borrow_mut();
        let view = View::new(publication.state, tickets, &mut backends, &self.metrics);
        drop(backends);
        match view {
            Ok(view) => {
                *self.view.borrow_mut() = Rc::new(view);
                let mut old = self.log.replace(publication.log);
                old.flush();
            }
            Err(error) => tracing::error!("worker {} keeps its state: {error}", self.index),
        }
    }

    /// Waits until the last connection has closed; one in its handshake counts, and may ask once.
    async fn finish(self: Rc<Self>, done: oneshot::Sender<()>) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while self.metrics.connections.get() > 0 {
            tick.tick().await;
        }
        self.log.borrow_mut().flush();
        let _ = done.send(());
    }

    async fn housekeep(self: Rc<Self>) {
        let mut tick = tokio::time::interval(HOUSEKEEPING);
        let mut shortages = self.descriptors.shortages();
        loop {
            tick.tick().await;
            let so_far = self.descriptors.shortages();
            if std::mem::replace(&mut shortages, so_far) != so_far || self.descriptors.is_short() {
                self.release_idle();
            }
            self.log.borrow_mut().flush();
            poll_fn(|cx| {
                self.backends.borrow_mut().tidy(HOUSEKEEPING, cx);
                Poll::Ready(())
            })
            .await;
        }
    }
}
