//! `portcullis run`: serve from the configuration. The start-up, as a list.

use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::{ConfigFile, Stop};
use crate::config::{self, Config, Site, TlsSource};
use crate::control::client;
use crate::control::files::{self, ControlSocket, MetricsError};
use crate::control::notify::Notifier;
use crate::control::{ConfigOrigin, Control, Start, state::State};
use crate::downstream::bind::{BindErrors, BoundListener, ListenerKind, bind_all};
use crate::downstream::passed::Passed;
use crate::exit;
use crate::helper::client::Helper;
use crate::helper::ready::{self, Ready};
use crate::observe::program_log;
use crate::observe::registry::Registry;
use crate::privilege::explain::{Host, Serving, When};
use crate::privilege::{self, PrivilegeError};
use crate::sandbox::{self, Needs};
use crate::shell::quote_path;
use crate::tls::{Certificates, storage};

/// Serves from the file until a signal; returns the exit code.
#[must_use]
pub fn run(file: &ConfigFile) -> u8 {
    let inherited = Inherited::take();
    // What only root could read comes from a predecessor, who began as root.
    let load = if inherited.ready.is_awaited() { config::load_again } else { config::load };
    match load(&file.config) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings.render(false));
            let origin = ConfigOrigin::File(file.config.clone());
            serve_with(inherited, loaded.config, origin, |_| {})
        }
        Err(problems) => {
            eprint!("{problems}");
            inherited.ready.no(&problems.to_string());
            if problems.not_permitted() { exit::NOT_PERMITTED } else { exit::CONFIG }
        }
    }
}

/// Serves until a signal; returns the exit code. `after_bind` is called once everything is taken
/// and every right is given up, before the first connection is accepted.
pub fn serve_with(
    inherited: Inherited,
    config: Config,
    origin: ConfigOrigin,
    after_bind: impl FnOnce(&[BoundListener]),
) -> u8 {
    program_log::init(config.log.level);
    let Inherited { passed, ready, keys } = inherited;
    match start(config, origin, passed, keys.as_ref(), after_bind) {
        Ok(control) => control.run(ready),
        Err(stop) => {
            ready.no(&stop.text);
            program_log::finish(LAST_WORDS);
            stop.tell()
        }
    }
}

/// How long what was said before a start that failed may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What this process was given at its start: by systemd, or by a predecessor whose place it takes.
#[derive(Debug)]
pub struct Inherited {
    /// Sockets.
    pub passed: Passed,
    /// Where a predecessor waits for a word.
    pub ready: Ready,
    /// Certificates and keys that a predecessor could read, and this process may not.
    pub keys: Option<Certificates>,
}

impl Inherited {
    /// Takes it: to be called once, first of all.
    #[must_use]
    pub fn take() -> Self {
        let mut passed = Passed::take();
        let ready = Ready::new(passed.take_named(ready::NAME));
        // What cannot be had from there is missed by whoever needs it, and told then.
        let keys = passed.take_named("keys").and_then(|socket| read_keys(socket).ok());
        Self { passed, ready, keys }
    }

    /// Says why there is no start, to a predecessor too; returns the exit code.
    #[must_use]
    pub fn tell(self, stop: &Stop) -> u8 {
        self.ready.no(&stop.text);
        stop.tell()
    }
}

/// How long a predecessor may take to hand over its keys.
const KEYS: Duration = Duration::from_secs(10);

/// More than the keys of ten thousand sites take, in bytes.
const MOST_KEYS: u64 = 256 << 20;

fn read_keys(socket: OwnedFd) -> io::Result<Certificates> {
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(KEYS))?;
    let mut bytes = Vec::new();
    socket.take(MOST_KEYS).read_to_end(&mut bytes)?;
    Certificates::inherited(&bytes)
}

/// Each step needs those before it: no thread before the rights are gone, no right given up before
/// all is taken that needs it, nothing served before it is proved that they are.
fn start(
    mut config: Config,
    origin: ConfigOrigin,
    mut passed: Passed,
    keys: Option<&Certificates>,
    after_bind: impl FnOnce(&[BoundListener]),
) -> Result<Control, Stop> {
    let notifier = Notifier::from_env(passed.take_named("notify"));
    let workers = config.workers();
    config.limits.connections = files::carried(config.limits.connections);
    passed.take_refused().iter().for_each(|what| tracing::warn!("{what}"));
    let listeners = bind_all(&config.server, &mut passed);
    let metrics = config.admin.metrics.and_then(|at| {
        let socket = passed.take_fitting("metrics", |socket| files::is_for_metrics(socket, at))?;
        files::adopt_metrics(socket)
    });
    let metrics = match metrics {
        Some(inherited) => Ok(Some(inherited)),
        None => config.admin.metrics.map(files::bind_metrics).transpose(),
    };
    let (listeners, metrics) = taken(listeners, metrics, &config, &origin, &passed)?;
    let path = &config.admin.socket;
    let socket = passed.take_fitting("control", |socket| ControlSocket::is_at(socket, path));
    let socket = socket.and_then(|socket| ControlSocket::adopt(socket, path));
    let socket = socket.or_else(|| files::bind_control(path));
    passed.leftover().iter().for_each(|what| tracing::warn!("{what}"));
    drop(passed);
    let registry = Registry::new(workers, SystemTime::now());
    let https_port = https_port(&listeners);
    let user = config.server.user.clone();
    hand_over(&config, &listeners, socket.as_ref()).map_err(|error| not_permitted(&error))?;
    let state = State::prepare(keys, config, https_port, &registry).map_err(|error| Stop {
        code: if error.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED },
        text: error.to_string(),
    })?;
    let (questions, _) = state.certificates.questions();
    if !questions.is_empty() && !keeps_anything(&state.config) {
        // What responders say is kept, too; that there are any is known now.
        hand_over_storage(&state.config).map_err(|error| not_permitted(&error))?;
    }
    let mut privileges =
        privilege::after_bind(user.as_deref()).map_err(|error| not_permitted(&error))?;
    let words = privileges.warning().into_iter().chain(state.certificates.out_of_reach());
    words.for_each(|warning| tracing::warn!("{warning}"));
    let helper = start_helper(&origin);
    // The helper reads the file.
    let mut needs = Needs::of(&state.config, origin.file().filter(|_| helper.is_none()));
    if helper.is_none() {
        needs.listen_itself();
    }
    let (questions, _) = state.certificates.questions();
    needs.ask_responders(questions.iter().map(|question| question.place()));
    if origin.file().is_none() {
        needs.connect_to_itself(listeners.iter().map(|listener| listener.address.port()));
    }
    let sandbox = sandbox::close(&needs, state.config.server.sandbox)
        .map_err(|error| Stop { code: error.exit_code(), text: error.to_string() })?;
    sandbox.tell();
    if sandbox.limits_calls() {
        privileges.expect_filter();
    }
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
        helper,
    };
    let (mut control, listeners) = Control::new(start).map_err(|error| unthreaded(&error))?;
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
    if keeps_anything(config) { hand_over_storage(config) } else { Ok(()) }
}

/// Whether something is kept in the storage, whatever certificates say.
fn keeps_anything(config: &Config) -> bool {
    let keeps = |site: &Site| {
        !matches!(site.tls, TlsSource::Files { .. }) || site.hsts != config::Hsts::Off
    };
    !config.server.https.is_empty() && config.sites.iter().any(keeps)
}

/// Makes the storage where it is missing, for the user that root is about to become.
fn hand_over_storage(config: &Config) -> Result<(), PrivilegeError> {
    let Some(identity) = privilege::successor(config.server.user.as_deref())? else {
        return Ok(());
    };
    let (uid, gid) = (identity.uid, identity.gid);
    let storage = &config.acme.storage;
    let given = storage::prepare(storage, Some((uid, gid)))
        .and_then(|()| storage::hand_over(storage, (uid, gid)));
    if let Err(error) = given {
        tracing::warn!(
            "{error}; once this program is {identity} it keeps nothing there: {}",
            Host::read().as_root(&[format!("chown -R {uid}:{gid} {}", quote_path(storage))])
        );
    }
    Ok(())
}

/// It can be done without: what it is for takes a restart then.
fn start_helper(origin: &ConfigOrigin) -> Option<Helper> {
    let helper = Helper::start(origin);
    helper.map_err(|error| tracing::warn!("no helper process can be started: {error}")).ok()
}

/// Where redirects lead.
#[must_use]
pub fn https_port(listeners: &[BoundListener]) -> u16 {
    let https = listeners.iter().find(|listener| listener.kind == ListenerKind::Https);
    https.map_or(443, |listener| listener.address.port())
}

/// All listeners, or all that stands in the way of those that could not be had.
fn taken(
    listeners: Result<Vec<BoundListener>, BindErrors>,
    metrics: Result<Option<TcpListener>, MetricsError>,
    config: &Config,
    origin: &ConfigOrigin,
    passed: &Passed,
) -> Result<(Vec<BoundListener>, Option<TcpListener>), Stop> {
    // A successor has no right left to bind with; a start has it.
    let when = if passed.is_inherited() { When::Running } else { When::Start };
    let serving = || client::serving(&config.admin.socket, origin.file());
    let unscraped =
        |error: &MetricsError, serving: Option<&Serving>| unstarted(&error.explain(when, serving));
    let (errors, metrics) = match (listeners, metrics) {
        (Ok(listeners), Ok(metrics)) => return Ok((listeners, metrics)),
        (Ok(_), Err(error)) => return Err(unscraped(&error, serving().as_ref())),
        (Err(errors), metrics) => (errors, metrics.err()),
    };
    let errors = if origin.file().is_none() { errors.by_options() } else { errors };
    let serving = serving();
    let mut stop = Stop { code: errors.exit_code(), text: errors.explain(when, serving.as_ref()) };
    let wants_unit = passed.any() && !passed.is_inherited();
    for error in errors.iter().filter(|error| wants_unit && error.is_permission()) {
        let (kind, listen) = (error.kind, error.listen);
        let words = format!(
            "\nSockets were passed, but none for {kind} on {listen}. In the socket unit: \
             ListenStream={} and FileDescriptorName={kind}",
            listen.port()
        );
        stop.text.push_str(&words);
    }
    if let Some(error) = metrics {
        let more = unscraped(&error, serving.as_ref());
        stop.text = format!("{}\n{}", stop.text, more.text);
        stop.code = stop.code.max(more.code);
    }
    Err(stop)
}

/// Threads and descriptors are what a process has too few of here.
fn unthreaded(error: &io::Error) -> Stop {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => {}
        Some(Errno::MFILE) => {
            let text = format!(
                "cannot open what serving takes: {error}. Raise the limit of descriptors \
                 (LimitNOFILE in a unit, ulimit -n in a shell)"
            );
            return Stop { code: exit::FAILED, text };
        }
        _ => return unstarted(error),
    }
    let lacking = match (getrlimit(Resource::As).current, getrlimit(Resource::Nproc).current) {
        // Each thread has a stack, and the kernel says the same where there is no room for it.
        (Some(room), _) => format!(
            "This process may have {} MiB of address space: raise it (LimitAS in a unit, ulimit -v \
             in a shell)",
            room >> 20
        ),
        (None, limit) => {
            let limit = match limit {
                Some(limit) => format!("{limit} processes and threads"),
                None => "any number of processes and threads, so that the limit is another".into(),
            };
            format!(
                "This user may have {limit}: raise it (LimitNPROC and TasksMax in a unit, ulimit \
                 -u in a shell, the limit of pids of a container)"
            )
        }
    };
    let text =
        format!("cannot start the threads that serve: {error}. {lacking}, or lower server.workers");
    Stop { code: exit::FAILED, text }
}

fn not_permitted(error: &PrivilegeError) -> Stop {
    Stop { code: exit::NOT_PERMITTED, text: error.to_string() }
}

fn unstarted(error: &std::io::Error) -> Stop {
    let is_permission = error.kind() == std::io::ErrorKind::PermissionDenied;
    let code = if is_permission { exit::NOT_PERMITTED } else { exit::FAILED };
    Stop { code, text: error.to_string() }
}
