//! A new configuration in place of the old one: the whole of it, or nothing.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc::Sender;

use super::admin::Request;
use super::state::State;
use super::upgrade::UNDER_WAY;
use super::watch::Watch;
use super::{Plane, changes, files, logs, shown};
use crate::config::{self, Config, Listen, Loaded, Problems};
use crate::control::ConfigOrigin;
use crate::downstream::bind::{BoundListener, ListenerKind, bind_beside, bind_one, share};
use crate::helper::client::{Line, NoHelp};
use crate::observe::log_writer::Writer;
use crate::observe::program_log;
use crate::privilege::explain::When;
use crate::sandbox::Needs;
use crate::tls::files::handed::{kept_away, watched};
use crate::tls::files::{Handed, Look};

/// What came of a reload: words for whoever asked.
pub(super) type Outcome = Result<Vec<String>, String>;

/// Everything that a new configuration needs, taken before anything is changed.
struct Prepared {
    state: State,
    listeners: Vec<Arc<BoundListener>>,
    log: Arc<Writer>,
    metrics: Option<Option<std::net::TcpListener>>,
    warnings: String,
}

impl Plane {
    /// Reads the configuration and serves from it, or says what it would change.
    pub(super) async fn reload(&mut self, is_dry: bool, sender: &Sender<Request>) -> Outcome {
        if !is_dry {
            self.notifier.reloading();
        }
        let result = self.try_reload(is_dry, sender).await;
        match &result {
            Ok(words) if !is_dry => {
                self.reload_error = None;
                self.certificate_error = None;
                tracing::info!("reloaded: {}", words.join("; "));
                self.notifier.ready(&self.summary());
            }
            Err(error) if !is_dry => {
                tracing::error!("the reload changed nothing:");
                error.lines().for_each(|line| tracing::error!("{line}"));
                self.reload_error = Some(error.clone());
                self.notifier.ready(&format!("the last reload changed nothing: {error}"));
            }
            _ => {}
        }
        result
    }

    async fn try_reload(&mut self, is_dry: bool, sender: &Sender<Request>) -> Outcome {
        let ConfigOrigin::File(path) = &self.origin else {
            return Err("there is no file to reload: it was started by `up`".to_owned());
        };
        if self.attempt.is_some() {
            return Err(UNDER_WAY.to_owned());
        }
        let loaded = self.read_config(path).await;
        let mut loaded = loaded.map_err(|problems| problems.to_string())?;
        let limits = &mut loaded.config.limits;
        limits.connections = files::carried(limits.connections);
        let needs = self.needs(&loaded.config);
        self.sandbox.admits(&needs)?;
        let words = changes::between(&self.state.config, &loaded.config);
        if is_dry {
            return Ok(words);
        }
        let prepared = self.prepare(loaded).await?;
        let Prepared { state, listeners, log, metrics, warnings } = prepared;
        if !warnings.is_empty() {
            tracing::warn!("{}", warnings.trim_end());
        }
        for listener in &listeners {
            if !self.listeners.iter().any(|old| Arc::ptr_eq(old, listener)) {
                tracing::info!("listening {}", shown(listener));
            }
        }
        let limits = &state.config.limits;
        self.admission.change(limits.connections, limits.connections_per_client);
        program_log::set_level(state.config.log.level);
        self.stamps = state.stamps.clone();
        self.watch = Watch::over(watched(&state.config));
        self.log = log;
        self.publish(Arc::new(state)).await;
        self.registry.retain(&self.state.config.sites);
        self.keep_certificates();
        self.listeners.clone_from(&listeners);
        self.acceptor.listen(listeners).await;
        self.configured = SystemTime::now();
        if let Some(listener) = metrics {
            self.metrics = listener;
            self.scrape(sender);
        }
        Ok(words)
    }

    /// Takes all that the new configuration needs; what fails leaves the old one untouched.
    async fn prepare(&self, loaded: Loaded) -> Result<Prepared, String> {
        let config = loaded.config;
        let old = &self.state.config;
        let listeners = self.listeners_for(&config).await?;
        let log = if config.log.access == old.log.access {
            Arc::clone(&self.log)
        } else {
            logs::open(&config.log, &self.registry, self.privileges.user())
                .map_err(|error| error.to_string())?
        };
        let metrics = if config.admin.metrics == old.admin.metrics {
            None
        } else {
            Some(match config.admin.metrics {
                Some(address) => Some(self.bind_metrics(address).await?),
                None => None,
            })
        };
        let https = listeners.iter().find(|listener| listener.kind == ListenerKind::Https);
        let port = https.map_or(443, |listener| listener.address.port());
        // Before anything is read: what changes in between is read again.
        let stamps = files::Stamps::of(&config);
        let handed = self.handed(&config).await;
        let state = State::prepare_after(&self.state, &handed, config, port, &self.registry)
            .map_err(|error| error.to_string())?;
        let state = State { stamps, ..state };
        Ok(Prepared { state, listeners, log, metrics, warnings: loaded.warnings.to_string() })
    }

    /// The listeners of `config`: those that are there already, and new ones.
    async fn listeners_for(&self, config: &Config) -> Result<Vec<Arc<BoundListener>>, String> {
        let wanted = |kind, list: &[Listen]| {
            list.iter().map(move |listen| (kind, *listen)).collect::<Vec<_>>()
        };
        let mut listeners = Vec::new();
        let all = [
            wanted(ListenerKind::Http, &config.server.http),
            wanted(ListenerKind::Https, &config.server.https),
        ];
        for (kind, listen) in all.into_iter().flatten() {
            let there = |old: &&Arc<BoundListener>| old.kind == kind && old.listen == listen;
            let old: Vec<_> = self.listeners.iter().filter(there).cloned().collect();
            if old.is_empty() {
                let leaving = |old: &&Arc<BoundListener>| {
                    let list = match old.kind {
                        ListenerKind::Http => &config.server.http,
                        ListenerKind::Https => &config.server.https,
                    };
                    !list.contains(&old.listen) && overlaps(listen, old)
                };
                let leaving: Vec<_> =
                    self.listeners.iter().filter(leaving).map(AsRef::as_ref).collect();
                let bound = self.bind(kind, listen, &leaving).await?;
                listeners.extend(bound.into_iter().map(Arc::new));
            } else {
                listeners.extend(old);
            }
        }
        Ok(listeners)
    }

    /// What serving from `config` takes of this process itself; the helper reads the file, and
    /// opens those of certificates.
    pub(super) fn needs(&self, config: &Config) -> Needs {
        let mut needs = Needs::of(config, self.origin.file().filter(|_| self.helper.is_none()));
        if self.origin.file().is_some() && self.helper().is_some() {
            needs.leave_to_helper();
        }
        needs
    }

    /// Files of `config` that the sandbox keeps from this process, read by descriptors of the
    /// helper, which opens what the configuration file names.
    pub(super) async fn handed(&self, config: &Config) -> Vec<Handed> {
        let mut all = Vec::new();
        let Some(helper) = self.helper() else { return all };
        for path in kept_away(config) {
            let look = Look::of(&path);
            let read = |file| Handed::read(&path, look, file).map_err(|error| error.to_string());
            match helper.open(&path).await.map_err(|no| no.to_string()).and_then(read) {
                Ok(handed) => all.push(handed),
                Err(error) => tracing::warn!("the helper cannot open {}: {error}", path.display()),
            }
        }
        all
    }

    /// The helper, while it lives.
    fn helper(&self) -> Option<&Line> {
        self.helper.as_ref().filter(|helper| !helper.is_gone())
    }

    /// Reads the file; the helper opens it, because the sandbox may not let this process.
    async fn read_config(&self, path: &Path) -> Result<Loaded, Problems> {
        let opened = match &self.helper {
            Some(helper) => helper.open_config().await.map_err(Into::into),
            // Where the sandbox lets it.
            None => File::open(path),
        };
        config::load_opened(path, opened)
    }

    /// Takes an address by the helper, and where that may not by itself: beside `leaving`, which
    /// are closed once the new one accepts.
    async fn bind(
        &self,
        kind: ListenerKind,
        listen: Listen,
        leaving: &[&BoundListener],
    ) -> Result<Vec<BoundListener>, String> {
        let mut why = None;
        if let Some(helper) = self.helper() {
            share(leaving, true);
            let bound = helper.bind(kind, listen, !leaving.is_empty()).await;
            share(leaving, false);
            match bound {
                Ok(socket) => {
                    let listener = BoundListener::own(kind, listen, socket);
                    let listener = listener.map_err(|error| error.to_string())?;
                    share(&[&listener], false);
                    return Ok(vec![listener]);
                }
                Err(NoHelp::Refused(refused)) if !refused.is_permission() => {
                    return Err(refused.text);
                }
                Err(error) => why = Some(error.to_string()),
            }
        }
        let bound = if leaving.is_empty() {
            bind_one(kind, listen)
        } else {
            bind_beside(kind, listen, leaving)
        };
        bound.map_err(|error| why.unwrap_or_else(|| error.explain_when(When::Running)))
    }

    /// Takes the address for metrics, in the same way.
    async fn bind_metrics(&self, address: SocketAddr) -> Result<TcpListener, String> {
        let bound = match self.helper() {
            Some(helper) => helper.bind_metrics().await,
            None => Err(NoHelp::Gone),
        };
        match bound {
            Ok(listener) => {
                files::tell_metrics(&listener);
                Ok(listener)
            }
            Err(NoHelp::Refused(refused)) if !refused.is_permission() => Err(refused.text),
            Err(_) => {
                let explain =
                    |error: files::MetricsError| error.explain(When::Running, None).to_string();
                files::bind_metrics(address).map_err(explain)
            }
        }
    }
}

/// Whether a new address and the address of a listener cannot both be held.
fn overlaps(new: Listen, old: &BoundListener) -> bool {
    match new {
        Listen::Any(port) => port == old.address.port(),
        Listen::Addr(new) => {
            new.port() == old.address.port()
                && (new.ip() == old.address.ip()
                    || new.ip().is_unspecified()
                    || old.address.ip().is_unspecified())
        }
    }
}
