//! `portcullis run`: serve from the configuration. The start-up, as a list.

use std::fmt;
use std::time::SystemTime;

use rustix::fs::{Gid, Uid};

use super::{ConfigFile, Stop};
use crate::config::{self, Config, Site, TlsSource};
use crate::control::notify::Notifier;
use crate::control::{ConfigOrigin, Control, Start, files, state::State};
use crate::downstream::bind::{BoundListener, ListenerKind, bind_all};
use crate::exit;
use crate::observe::program_log;
use crate::observe::registry::Registry;
use crate::privilege;
use crate::sandbox::{self, Needs};
use crate::tls::storage;

/// Serves from the file until a signal; returns the exit code.
#[must_use]
pub fn run(file: &ConfigFile) -> u8 {
    match config::load(&file.config) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings.render(false));
            let origin = ConfigOrigin::File(file.config.clone());
            serve_with(loaded.config, origin, |_| {})
        }
        Err(problems) => {
            eprint!("{problems}");
            if problems.not_permitted() { exit::NOT_PERMITTED } else { exit::CONFIG }
        }
    }
}

/// Serves until a signal; returns the exit code. `after_bind` is called once everything is taken
/// and every right is given up, before the first connection is accepted.
pub fn serve_with(
    config: Config,
    origin: ConfigOrigin,
    after_bind: impl FnOnce(&[BoundListener]),
) -> u8 {
    program_log::init(config.log.level);
    match start(config, origin, after_bind) {
        Ok(control) => control.run(),
        Err(stop) => stop.tell(),
    }
}

/// Each step needs those before it: no thread before the rights are gone, no right given up before
/// all is taken that needs it.
fn start(
    mut config: Config,
    origin: ConfigOrigin,
    after_bind: impl FnOnce(&[BoundListener]),
) -> Result<Control, Stop> {
    let notifier = Notifier::from_env();
    let workers = config.workers();
    config.limits.connections = files::carried(config.limits.connections);
    let listeners = bind_all(&config.server)
        .map_err(|error| Stop { code: error.exit_code(), text: error.explain() })?;
    let metrics = config.admin.metrics.map(files::bind_metrics).transpose().map_err(failed)?;
    let socket = files::bind_control(&config.admin.socket);
    let registry = Registry::new(workers, SystemTime::now());
    let https_port = https_port(&listeners);
    let user = config.server.user.clone();
    hand_over(&config, &listeners);
    let state = State::prepare(config, https_port, &registry).map_err(|error| Stop {
        code: if error.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED },
        text: error.to_string(),
    })?;
    let privileges = privilege::after_bind(user.as_deref())
        .map_err(|error| Stop { code: exit::NOT_PERMITTED, text: error.to_string() })?;
    tracing::info!("{privileges}");
    let mut needs = Needs::of(&state.config, origin.file());
    if origin.file().is_none() {
        needs.connect_to_itself(listeners.iter().map(|listener| listener.address.port()));
    }
    let sandbox = sandbox::close(&needs, state.config.server.sandbox)
        .map_err(|error| Stop { code: error.exit_code(), text: error.to_string() })?;
    sandbox.tell();
    let start = Start {
        origin,
        listeners,
        metrics,
        socket,
        registry,
        state,
        workers,
        notifier,
        privileges,
        sandbox,
    };
    let (mut control, listeners) = Control::new(start).map_err(failed)?;
    after_bind(&listeners);
    control.accept_on(listeners);
    Ok(control)
}

/// What root has made and the user that it is about to become has to work with: the storage of
/// the local authority, and the listeners, beside which that user may bind in a reload.
fn hand_over(config: &Config, listeners: &[BoundListener]) {
    let Some(identity) = privilege::successor(config.server.user.as_deref()) else { return };
    let (uid, gid) = (identity.uid, identity.gid);
    for listener in listeners {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        // Without it a reload cannot widen this listener's address, and says so.
        let _ = rustix::fs::fchown(&listener.socket, owner.0, owner.1);
    }
    let is_local = |site: &Site| !matches!(site.tls, TlsSource::Files { .. });
    if !config.server.https.is_empty() && config.sites.iter().any(is_local) {
        // What stands in the way is told by whoever wants to write there.
        let _ = storage::prepare(&config.acme.storage, Some((uid, gid)));
    }
}

/// Where redirects lead.
#[must_use]
pub fn https_port(listeners: &[BoundListener]) -> u16 {
    let https = listeners.iter().find(|listener| listener.kind == ListenerKind::Https);
    https.map_or(443, |listener| listener.address.port())
}

fn failed(error: impl fmt::Display) -> Stop {
    Stop { code: exit::FAILED, text: error.to_string() }
}
