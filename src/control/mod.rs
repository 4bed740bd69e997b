//! The control plane, on the main thread: signals, reload, stop, the control socket, metrics.

pub mod state;
pub mod files;
pub mod notify;
pub mod hsts;
mod certificates;
mod renew;
mod revoke;
mod watch;
mod logs;
mod reload;
mod changes;
mod signals;
mod shutdown;
mod upgrade;
mod status;
mod admin;
mod scrape;
pub mod client;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, channel, unbounded_channel};
use tokio::task::AbortHandle;

use crate::downstream::accept::Acceptor;
use crate::downstream::admission::Admission;
use crate::downstream::bind::BoundListener;
use crate::exit;
use crate::helper::client::{Helper, Line};
use crate::helper::ready::Ready;
use crate::observe::log_writer::Writer;
use crate::observe::program_log;
use crate::observe::registry::Registry;
use crate::privilege::{PrivilegeError, Proof, Standing};
use crate::sandbox;
use crate::tls::Tickets;
use crate::tls::acme::Manager;
use crate::tls::files::handed::watched;
use crate::tls::ocsp;
use crate::worker::{self, Mailbox, Publication};
use admin::Request;
use notify::Notifier;
use signals::Signals;
use state::State;
use watch::Watch;

/// How often the control plane looks whether a certificate is to be renewed or has changed.
const WATCH: Duration = Duration::from_secs(5);

/// The interval of what is not wanted.
const NEVER: Duration = Duration::from_secs(86_400);

/// How long a worker may take to change its configuration, which is a matter of milliseconds.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// How long the program's last words may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Requests to the control socket that may wait.
const REQUESTS: usize = 16;

/// Where a configuration came from.
#[derive(Clone, Debug)]
pub enum ConfigOrigin {
    /// This file: a reload reads it again.
    File(PathBuf),
    /// The arguments of `up` or `demo`.
    CommandLine,
}

impl ConfigOrigin {
    /// The file, where there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            ConfigOrigin::File(path) => Some(path),
            ConfigOrigin::CommandLine => None,
        }
    }
}

/// What start-up hands over.
pub struct Start {
    /// Where the configuration came from.
    pub origin: ConfigOrigin,
    /// The bound listeners.
    pub listeners: Vec<BoundListener>,
    /// Where metrics are scraped.
    pub metrics: Option<TcpListener>,
    /// The control socket, where it could be made.
    pub socket: Option<files::ControlSocket>,
    /// All counters.
    pub registry: Registry,
    /// What to serve from first.
    pub state: State,
    /// How many workers.
    pub workers: usize,
    /// The way to the service manager.
    pub notifier: Notifier,
    /// Who the process is, and what it may hold.
    pub privileges: Standing,
    /// What is closed around it.
    pub sandbox: sandbox::Closed,
    /// The process that does what the sandbox forbids, where it could be started.
    pub helper: Option<Helper>,
}

/// The running server.
pub struct Control {
    runtime: Option<Runtime>,
    plane: Plane,
    helper: Option<Helper>,
    signals: Signals,
}

/// What reload, stop and status work on.
struct Plane {
    origin: ConfigOrigin,
    state: Arc<State>,
    listeners: Vec<Arc<BoundListener>>,
    acceptor: Acceptor,
    admission: Arc<Admission>,
    workers: Vec<(Mailbox, JoinHandle<()>)>,
    registry: Arc<Registry>,
    log: Arc<Writer>,
    started: SystemTime,
    configured: SystemTime,
    /// Why the last reload failed, if it did.
    reload_error: Option<String>,
    /// Why changed certificates are not served, if they are not.
    certificate_error: Option<String>,
    /// Why the last upgrade failed, if it did.
    upgrade_error: Option<String>,
    /// The upgrade that is under way.
    attempt: Option<upgrade::Attempt>,
    /// Where the helper is asked, if one was started.
    helper: Option<Line>,
    notifier: Notifier,
    privileges: Standing,
    sandbox: sandbox::Closed,
    /// What the sandbox has cut off since it closed.
    lost: Option<String>,
    /// What watched files looked like when they were last read.
    stamps: files::Stamps,
    /// What wakes us when one of them may have changed.
    watch: Watch,
    /// What is seen of handshakes, and how far ramps have come.
    lookout: hsts::Lookout,
    /// Who gets certificates by ACME.
    acme: Manager,
    /// Who asks for what is stapled to certificates.
    staples: ocsp::Keeper,
    /// The control socket, and what answers there.
    socket: Option<files::ControlSocket>,
    answering: Option<AbortHandle>,
    /// Where metrics are scraped, and what answers there.
    metrics: Option<TcpListener>,
    scraping: Option<AbortHandle>,
}

impl Control {
    /// Starts the threads. Nothing is accepted yet; the listeners are given back for that.
    ///
    /// # Errors
    /// When the system has no thread, or the access log cannot be opened.
    pub fn new(start: Start) -> io::Result<(Self, Vec<BoundListener>)> {
        let registry = Arc::new(start.registry);
        program_log::detach(registry.words_lost())?;
        let limits = &start.state.config.limits;
        let admission = Admission::new(limits.connections, limits.connections_per_client);
        let log = logs::open(&start.state.config.log, &registry, start.privileges.user())?;
        let tickets = Tickets::new().map_err(io::Error::other)?;
        let state = Arc::new(start.state);
        let helper = start.helper.as_ref().map(Helper::line);
        let mut workers = Vec::with_capacity(start.workers);
        for index in 0..start.workers {
            let (sender, receiver) = unbounded_channel();
            let first = publication(&state, &log);
            let metrics = registry.worker(index).unwrap_or_else(|| registry.control());
            let tickets = Arc::clone(&tickets);
            let descriptors = Arc::clone(admission.descriptors());
            let helper = helper.clone();
            let thread =
                worker::start(index, first, metrics, tickets, helper, descriptors, receiver)?;
            workers.push((Mailbox { sender, load: Arc::default() }, thread));
        }
        let mailboxes = workers.iter().map(|(mailbox, _)| mailbox.clone()).collect();
        let acceptor = Acceptor::start(Arc::clone(&admission), mailboxes, registry.control())?;
        let acme = Manager::start(registry.control(), helper.clone())?;
        let now = SystemTime::now();
        let plane = Plane {
            origin: start.origin,
            stamps: state.stamps.clone(),
            state,
            listeners: Vec::new(),
            acceptor,
            admission,
            workers,
            registry,
            log,
            started: now,
            configured: now,
            reload_error: None,
            certificate_error: None,
            upgrade_error: None,
            attempt: None,
            helper,
            notifier: start.notifier,
            privileges: start.privileges,
            sandbox: start.sandbox,
            lost: None,
            watch: Watch::default(),
            lookout: hsts::Lookout::new(now),
            acme,
            staples: ocsp::Keeper::default(),
            socket: start.socket,
            answering: None,
            metrics: start.metrics,
            scraping: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Before anybody is told that this process listens, and may send it one.
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        let control = Self { runtime: Some(runtime), plane, helper: start.helper, signals };
        Ok((control, start.listeners))
    }

    /// Proves that no thread holds more than was asked for.
    ///
    /// # Errors
    /// As [`Standing::prove`].
    pub fn prove(&self) -> Result<Proof, PrivilegeError> {
        self.plane.privileges.prove()
    }

    /// Opens the door.
    pub fn accept_on(&mut self, listeners: Vec<BoundListener>) {
        for listener in &listeners {
            tracing::info!("listening {}", shown(listener));
        }
        self.plane.listeners = listeners.into_iter().map(Arc::new).collect();
    }

    /// Serves until a signal, and says when it does; returns the exit code.
    #[must_use]
    pub fn run(mut self, ready: Ready) -> u8 {
        let Some(runtime) = self.runtime.take() else { return exit::FAILED };
        let code = runtime.block_on(self.serve(ready));
        // A look-up of a name may hang in a thread of its own: it is not waited for.
        runtime.shutdown_background();
        program_log::finish(LAST_WORDS);
        code
    }

    async fn serve(mut self, ready: Ready) -> u8 {
        let (sender, requests) = channel(REQUESTS);
        if let Some(helper) = self.helper.take() {
            tokio::spawn(helper.attend());
        }
        if let Some(socket) = &self.plane.socket {
            match socket.listener() {
                Ok(listener) => {
                    let answering = tokio::spawn(admin::serve(listener, sender.clone()));
                    self.plane.answering = Some(answering.abort_handle());
                }
                Err(error) => tracing::error!("the control socket does not work: {error}"),
            }
        }
        self.plane.scrape(&sender);
        self.plane.acceptor.listen(self.plane.listeners.clone()).await;
        self.plane.notifier.ready(&self.plane.summary());
        if let Some(socket) = &mut self.plane.socket {
            socket.keep();
        }
        ready.yes();
        self.plane.keep_certificates();
        self.plane.keep_staples();
        self.plane.run(self.signals, requests, &sender).await
    }
}

impl Plane {
    async fn run(
        mut self,
        mut signals: Signals,
        mut requests: Receiver<Request>,
        sender: &tokio::sync::mpsc::Sender<Request>,
    ) -> u8 {
        let mut watch = tokio::time::interval(WATCH);
        let mut climb = tokio::time::interval(crate::tls::hsts::LOOK);
        self.watch = Watch::over(watched(&self.state.config));
        let mut heartbeat = tokio::time::interval(self.notifier.heartbeat().unwrap_or(NEVER));
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.quit.recv() => break,
                _ = signals.hangup.recv() => drop(self.reload(false, sender).await),
                _ = signals.user1.recv() => self.log.reopen(),
                _ = signals.user2.recv() => self.begin_upgrade(),
                outcome = upgrade::outcome(&mut self.attempt) => {
                    if self.is_replaced(outcome) {
                        break;
                    }
                }
                _ = watch.tick() => {
                    self.heed_storm();
                    self.renew().await;
                }
                () = self.watch.changed() => {
                    self.renew().await;
                    // Links may lead elsewhere now.
                    self.watch = Watch::over(watched(&self.state.config));
                }
                _ = climb.tick() => self.climb().await,
                () = self.acme.changed() => self.take_certificates().await,
                () = self.staples.changed() => self.take_certificates().await,
                // A server without its workers is one that the service manager should restart.
                _ = heartbeat.tick() => if self.dead_workers() == 0 { self.notifier.alive() },
                Some(request) = requests.recv() => self.answer(request, sender).await,
            }
        }
        self.heed_storm();
        self.acme.stop();
        self.staples.stop();
        self.abandon_upgrade().await;
        // Who has asked gets an answer from whom he asked.
        while let Ok(request) = requests.try_recv() {
            self.answer(request, sender).await;
        }
        self.shut_down(&mut signals).await
    }

    /// Answers where metrics are scraped, and nowhere else any more.
    fn scrape(&mut self, sender: &tokio::sync::mpsc::Sender<Request>) {
        if let Some(old) = self.scraping.take() {
            old.abort();
        }
        match self.metrics.as_ref().map(TcpListener::try_clone).transpose() {
            Ok(listener) => {
                self.scraping = listener.map(|listener| scrape::start(listener, sender.clone()));
            }
            Err(error) => tracing::error!("nobody can scrape metrics: {error}"),
        }
    }

    /// Has every worker serve from `state`, and waits until they do.
    async fn publish(&mut self, state: Arc<State>) {
        self.state = state;
        let mut acknowledged = Vec::with_capacity(self.workers.len());
        for (mailbox, _) in &self.workers {
            let (done, when_done) = tokio::sync::oneshot::channel();
            let publication = Box::new(publication(&self.state, &self.log));
            if mailbox.sender.send(worker::Message::Publish(publication, done)).is_ok() {
                acknowledged.push(when_done);
            }
        }
        let all = async {
            for when_done in acknowledged {
                let _ = when_done.await;
            }
        };
        self.keep_staples();
        if tokio::time::timeout(ACKNOWLEDGED, all).await.is_err() {
            tracing::error!("a worker does not answer: it may go on with its old configuration");
        }
    }
}

fn publication(state: &Arc<State>, log: &Writer) -> Publication {
    Publication { state: Arc::clone(state), log: log.buffer(&state.config.log) }
}

/// As it is logged: `https://127.0.0.1:41233`.
fn shown(listener: &BoundListener) -> String {
    let scheme = match listener.kind {
        crate::downstream::bind::ListenerKind::Http => "http",
        crate::downstream::bind::ListenerKind::Https => "https",
    };
    format!("{scheme}://{}", listener.address)
}
