//! From what the operator wrote to the [`Config`]: defaults, bounds, and what keys say together.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::level_filters::LevelFilter;

use super::duration::Period;
use super::file::{self, File};
use super::kinds::{BodySize, Count, FilePath, Metrics, Workers};
use super::listeners::{judge_listeners, judge_trust, listeners, overlap};
use super::problems::Problem;
use super::read::{At, Field, OneOrMany};
use super::redirects::judge_redirects;
use super::report::Report;
use super::size::Size;
use super::source::{Source, Span};
use super::{AccessLog, Admin, Config, Limits, Listen, Log, LogFormat, Server, acme, sites};
use crate::proxy::headers::host::HostPattern;
use crate::tls::{files, ocsp};

/// Judges `file`. Problems go to `report`; `None` or not, the result counts only without errors.
pub(super) fn resolve(file: &File, base: &Path, report: &mut Report<'_>) -> Option<Config> {
    let config = assemble(file, base, report);
    judge_redirects(file, &config, report);
    (!config.sites.is_empty()).then_some(config)
}

impl Config {
    /// The built-in defaults, for those who have no file; there are no sites yet.
    #[must_use]
    pub fn defaults() -> Self {
        let nothing = Source::new("", "");
        assemble(&File::default(), Path::new(""), &mut Report::new(&nothing))
    }
}

/// All that a file says, with defaults for what it says wrongly.
pub(super) fn assemble(file: &File, base: &Path, report: &mut Report<'_>) -> Config {
    let none = file::Server::default();
    let place = file.server.given().map_or(0..0, |at| at.span.clone());
    let server = server(file.server.value().unwrap_or(&none), &place, report);
    let none = file::Limits::default();
    let limits = limits(file.limits.value().unwrap_or(&none), report);
    let none = file::Log::default();
    let log = log(file.log.value().unwrap_or(&none), base);
    let none = file::Admin::default();
    let admin = admin(file.admin.value().unwrap_or(&none), &server, base, report);
    let none = file::Acme::default();
    let acme = acme::acme(file.acme.value().unwrap_or(&none), base, report);
    let sites = sites::sites(file, &server, &limits, &acme, base, report);
    Config { server, limits, log, admin, acme, sites }
}

/// A value within its bounds, with the reason for them; out of them it is noted.
pub(super) fn bounded<T: Copy + Display + PartialOrd>(
    key: &str,
    field: &Field<T>,
    default: T,
    (least, most, why): (T, T, &str),
    report: &mut Report<'_>,
) -> T {
    let Some(At { value, span }) = field.given() else {
        return default;
    };
    let side = match value {
        value if *value < least => "small",
        value if *value > most => "large",
        value => return *value,
    };
    let problem = Problem::error(format!("`{key}` is too {side}"))
        .found(value.to_string())
        .allowed(format!("{least} to {most}: {why}"));
    report.add(span, problem);
    default
}

fn server(file: &file::Server, place: &Span, report: &mut Report<'_>) -> Server {
    let http = listeners(&file.http, 80);
    let https = listeners(&file.https, 443);
    judge_listeners(file, place, &http, &https, report);
    let trusted_proxies = values(&file.trusted_proxies);
    judge_trust(file, report);
    let workers = match file.workers.value() {
        Some(Workers::Number(number)) => usize::try_from(*number).ok().and_then(NonZeroUsize::new),
        Some(Workers::Auto) | None => None,
    };
    let grace = (Period::ms(0), Period::s(3600), "a stop that takes longer is none");
    Server {
        http,
        https,
        workers,
        user: Some(
            file.user.value().map_or_else(|| "portcullis".to_owned(), |user| user.0.clone()),
        ),
        sandbox: file.sandbox.value().copied().unwrap_or_default(),
        grace: bounded("grace", &file.grace, Period::s(30), grace, report).0,
        trusted_proxies,
        proxy_protocol: file.proxy_protocol.value().copied().unwrap_or(false),
        via: file.via.value().copied().unwrap_or(false),
        key_log: key_log(file, report),
        ocsp: file.ocsp.value().copied().unwrap_or(true),
    }
}

/// Who reads that file can read the traffic.
fn key_log(file: &file::Server, report: &mut Report<'_>) -> bool {
    let Some(At { value: true, span }) = file.key_log.given() else { return false };
    let problem = Problem::warning(
        "`key_log` writes the secrets of every TLS session to the file that the environment names in \
         SSLKEYLOGFILE: who reads it reads the traffic",
    )
    .help("take it out once the fault is found");
    report.add(span, problem);
    true
}

/// The shortest deadline: below it no peer on a real network is fast enough.
const SOON: Period = Period::ms(10);

/// The bounds of `upstream_timeout`.
pub(super) const UPSTREAM_TIMEOUT: (Period, Period, &str) =
    (SOON, Period::s(86_400), "an application answers within a day or never");
/// The bounds of `hold`.
pub(super) const HOLD: (Period, Period, &str) =
    (Period::ms(0), Period::s(300), "requests that wait longer pile up; 0s refuses at once");

const HEAD: (Period, Period, &str) =
    (SOON, Period::s(600), "a head takes seconds; slower peers hold connections for nothing");
const SILENCE: (Period, Period, &str) =
    (SOON, Period::s(86_400), "silence for more than a day is a dead peer");

fn limits(file: &file::Limits, report: &mut Report<'_>) -> Limits {
    let (header_size, target_size) = head_sizes(file, report);
    let (connections, connections_per_client) = connections(file, report);
    let fields = (Count(1), Count(1000), "every request may use it all");
    let header_count =
        count(bounded("header_count", &file.header_count, Count(100), fields, report));
    let mut time = |key, field: &Field<Period>, seconds, bounds| {
        bounded(key, field, Period::s(seconds), bounds, report).0
    };
    let body = &file.request_body_idle_timeout;
    Limits {
        request_header_timeout: time(
            "request_header_timeout",
            &file.request_header_timeout,
            10,
            HEAD,
        ),
        request_body_idle_timeout: time("request_body_idle_timeout", body, 60, SILENCE),
        request_body_rate: match file.request_body_rate.value() {
            Some(BodySize::Off) => None,
            Some(BodySize::AtMost(least)) => Some(least.0),
            None => Some(1 << 10),
        },
        idle_timeout: time("idle_timeout", &file.idle_timeout, 75, SILENCE),
        tls_handshake_timeout: time("tls_handshake_timeout", &file.tls_handshake_timeout, 10, HEAD),
        upstream_timeout: time("upstream_timeout", &file.upstream_timeout, 60, UPSTREAM_TIMEOUT),
        hold: time("hold", &file.hold, 3, HOLD),
        header_size,
        header_count,
        target_size,
        body_size: match file.body_size.value() {
            Some(BodySize::Off) => None,
            Some(BodySize::AtMost(most)) => Some(most.0),
            None => Some(100 << 20),
        },
        connections,
        connections_per_client,
    }
}

/// `header_size` and `target_size`, which is a part of the former.
fn head_sizes(file: &file::Limits, report: &mut Report<'_>) -> (usize, usize) {
    let why = "a browser sends several hundred bytes, and every connection may use it all";
    let head = (Size(1 << 10), Size(1 << 20), why);
    let head = bounded("header_size", &file.header_size, Size(32 << 10), head, report);
    let target = (Size(64), Size(1 << 20), "a target is part of the head");
    let target = bounded("target_size", &file.target_size, Size(8 << 10), target, report);
    if let (Some(at), true) = (file.target_size.given(), target > head) {
        let message = "`target_size` is larger than `header_size`, which counts the target too";
        let problem = Problem::error(message).found(target.to_string());
        report.add(&at.span, problem.allowed(format!("at most {head}")));
    }
    (size(head), size(target.min(head)))
}

/// `connections` and `connections_per_client`.
fn connections(file: &file::Limits, report: &mut Report<'_>) -> (usize, usize) {
    let most = (Count(1), Count(10_000_000), "each costs a file descriptor");
    let all = bounded("connections", &file.connections, Count(20_000), most, report);
    let field = &file.connections_per_client;
    let one = bounded("connections_per_client", field, Count(1000), most, report);
    if let (Some(at), true) = (field.given(), one > all) {
        let message = "`connections_per_client` is above `connections` and has no effect";
        report.add(&at.span, Problem::warning(message));
    }
    (count(all), count(one))
}

fn size(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn count(count: Count) -> usize {
    usize::try_from(count.0).unwrap_or(usize::MAX)
}

fn log(file: &file::Log, base: &Path) -> Log {
    let access = match file.access.value() {
        Some(AccessLog::File(path)) => AccessLog::File(base.join(path)),
        Some(other) => other.clone(),
        None => AccessLog::Stdout,
    };
    Log {
        access,
        format: file.format.value().copied().unwrap_or(LogFormat::Combined),
        level: file.level.value().map_or(LevelFilter::INFO, |level| level.0),
        mask: values(&file.mask).into_iter().map(|parameter| parameter.0).collect(),
    }
}

fn admin(file: &file::Admin, server: &Server, base: &Path, report: &mut Report<'_>) -> Admin {
    let socket = path_or(&file.socket, base, "/run/portcullis/control.sock");
    if let (Some(at), true) = (file.socket.given(), socket.as_os_str().len() > 107) {
        let problem = Problem::error("the path of a unix socket has at most 107 bytes")
            .found(format!("{} bytes", socket.as_os_str().len()));
        report.add(&at.span, problem);
    }
    let metrics = match file.metrics.value() {
        Some(Metrics::At(address)) => Some(*address),
        Some(Metrics::Off) | None => None,
    };
    if let (Some(address), Some(at)) = (metrics, file.metrics.given()) {
        let taken = server.http.iter().chain(&server.https);
        if let Some(first) = taken.into_iter().find(|first| overlap(**first, Listen::Addr(address)))
        {
            let message = format!("`{address}` is taken by the listener `{first}`");
            report.add(
                &at.span,
                Problem::error(message).allowed(<Metrics as super::read::Text>::ALLOWED),
            );
        } else if !address.ip().is_loopback() {
            let problem = Problem::warning(format!(
                "the metrics on `{address}` are open to whoever can reach it"
            ))
            .help(format!(
                "write `\"127.0.0.1:{}\"`, or keep strangers off with a firewall",
                address.port()
            ));
            report.add(&at.span, problem);
        }
    }
    Admin { socket, metrics }
}

pub(super) fn path_or(field: &Field<FilePath>, base: &Path, default: &str) -> PathBuf {
    field.value().map_or_else(|| PathBuf::from(default), |path| base.join(&path.0))
}

/// The values of a list, without their places.
pub(super) fn values<T: Clone>(field: &Field<OneOrMany<T>>) -> Vec<T> {
    field
        .value()
        .map(|list| list.items.iter().map(|at| at.value.clone()).collect())
        .unwrap_or_default()
}

/// Whether this pair of PEM files can serve TLS for `hosts`, and what is not right with it although
/// it can.
pub(super) fn judge_certificate(
    cert: &Path,
    key: &Path,
    hosts: &[HostPattern],
    (is_stapled, storage): (bool, &Path),
) -> Result<Vec<String>, String> {
    let certified = files::load(cert, key).map_err(|error| error.to_string())?;
    let now = SystemTime::now();
    let mut found = files::judge(&certified, now, hosts);
    found.extend(files::chain::judge(&certified.cert));
    found.extend(ocsp::judge(&certified, is_stapled, storage, now));
    Ok(found)
}
