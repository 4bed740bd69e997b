//! `portcullis run`: serve from the configuration. The start-up, as a list.

use std::fmt;
use std::time::SystemTime;

use rustix::fs::{Gid, Uid};

use super::{ConfigFile, Stop};
use crate::config::{self, Config, Site, TlsSource};
use crate::control::files::{self, ControlSocket};
use crate::control::{ConfigOrigin, Control, Start, state::State};
use crate::downstream::bind::{BindError, BoundListener, ListenerKind, bind_all};
use crate::downstream::passed::Passed;
use crate::exit;
use crate::observe::program_log;
use crate::observe::registry::Registry;
use crate::privilege::{self, PrivilegeError};
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
/// all is taken that needs it, nothing served before it is proved that they are.
fn start(
    mut config: Config,
    origin: ConfigOrigin,
    after_bind: impl FnOnce(&[BoundListener]),
) -> Result<Control, Stop> {
    let workers = config.workers();
    config.limits.connections = files::carried(config.limits.connections);
    let mut passed = Passed::take();
    let listeners =
        bind_all(&config.server, &mut passed).map_err(|error| refused(&error, &passed))?;
    let metrics = config.admin.metrics.map(files::bind_metrics).transpose().map_err(failed)?;
    let socket = files::bind_control(&config.admin.socket);
    passed.leftover().iter().for_each(|what| tracing::warn!("{what}"));
    drop(passed);
    let registry = Registry::new(workers, SystemTime::now());
    let https_port = https_port(&listeners);
    let user = config.server.user.clone();
    hand_over(&config, &listeners, socket.as_ref()).map_err(|error| not_permitted(&error))?;
    let state = State::prepare(config, https_port, &registry).map_err(|error| Stop {
        code: if error.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED },
        text: error.to_string(),
    })?;
    let privileges =
        privilege::after_bind(user.as_deref()).map_err(|error| not_permitted(&error))?;
    let words = privileges.warning().into_iter().chain(state.certificates.out_of_reach());
    words.for_each(|warning| tracing::warn!("{warning}"));
    let start = Start { origin, listeners, metrics, socket, registry, state, workers, privileges };
    let (mut control, listeners) = Control::new(start).map_err(|error| unstarted(&error))?;
    let proof = control.prove().map_err(|error| not_permitted(&error))?;
    tracing::info!("privileges: {proof}");
    after_bind(&listeners);
    control.accept_on(listeners);
    Ok(control)
}

/// What root has made and the user that it is about to become has to work with: the control
/// socket, the storage of the local authority, and the listeners, beside which that user may bind
/// in a reload.
fn hand_over(
    config: &Config,
    listeners: &[BoundListener],
    socket: Option<&ControlSocket>,
) -> Result<(), PrivilegeError> {
    let Some(identity) = privilege::successor(config.server.user.as_deref())? else {
        return Ok(());
    };
    let (uid, gid) = (identity.uid, identity.gid);
    for listener in listeners {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        // Without it a reload cannot widen this listener's address, and says so.
        let _ = rustix::fs::fchown(&listener.socket, owner.0, owner.1);
    }
    if let Some(Err(error)) = socket.map(|socket| socket.hand_over(uid, gid)) {
        tracing::warn!("{identity} cannot use the control socket: {error}; root can");
    }
    let is_local = |site: &Site| !matches!(site.tls, TlsSource::Files { .. });
    if !config.server.https.is_empty() && config.sites.iter().any(is_local) {
        let storage = &config.acme.storage;
        let given = storage::prepare(storage, Some((uid, gid)))
            .and_then(|()| storage::hand_over(storage, (uid, gid)));
        if let Err(error) = given {
            tracing::warn!(
                "{error}; once this program is {identity} it renews no local certificate there: \
                 sudo chown -R {uid}:{gid} {}",
                storage.display()
            );
        }
    }
    Ok(())
}

/// Where redirects lead.
#[must_use]
pub fn https_port(listeners: &[BoundListener]) -> u16 {
    let https = listeners.iter().find(|listener| listener.kind == ListenerKind::Https);
    https.map_or(443, |listener| listener.address.port())
}

fn refused(error: &BindError, passed: &Passed) -> Stop {
    let mut text = error.explain();
    if passed.any() && error.is_permission() {
        let (kind, listen) = (error.kind, error.listen);
        text = format!(
            "{text}\nSockets were passed, but none for {kind} on {listen}. In the socket unit: \
             ListenStream={} and FileDescriptorName={kind}",
            error.address().port()
        );
    }
    Stop { code: error.exit_code(), text }
}

fn not_permitted(error: &PrivilegeError) -> Stop {
    Stop { code: exit::NOT_PERMITTED, text: error.to_string() }
}

fn unstarted(error: &std::io::Error) -> Stop {
    let is_permission = error.kind() == std::io::ErrorKind::PermissionDenied;
    let code = if is_permission { exit::NOT_PERMITTED } else { exit::FAILED };
    Stop { code, text: error.to_string() }
}

fn failed(error: impl fmt::Display) -> Stop {
    Stop { code: exit::FAILED, text: error.to_string() }
}
