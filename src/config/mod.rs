//! What the program uses: a configuration that cannot be wrong.
//!
//! The text ([`source`]) is mended where its syntax is broken (`syntax`), walked key by key
//! (`read`) into what the operator wrote (`file`), and judged and converted by `resolve`; every
//! mistake on the way is a [`problems::Problem`] with its place, gathered in a `report`. Nothing
//! outside this module sees the first stage.

mod load;
mod syntax;
mod read;
mod env;
mod file;
mod kinds;
mod resolve;
mod listeners;
mod sites;
mod routes;
mod redirects;
mod acme;
mod ask;
mod dns;
mod authorities;
mod policy;
mod on_demand;
mod hsts;
mod pem;
mod report;
mod words;
mod schema;
pub mod source;
pub mod problems;
mod render;
pub mod size;
pub mod duration;
pub mod target;
#[cfg(test)]
mod mistakes;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::proxy::headers::host::{Host, HostPattern};
use crate::proxy::route::PathPrefix;
pub use ask::Ask;
pub use authorities::{
    Acme, Authority, ChallengeKind, Dns, Eab, Hook, KeyType, Tsig, TsigAlgorithm, Writer,
};
pub use load::{Loaded, load, load_again, load_as_far, load_opened, parse, parse_again};
pub use problems::Problems;
pub use schema::schema;
pub use target::Target;

/// The whole of it, after every check.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[limits]`.
    pub limits: Limits,
    /// `[log]`.
    pub log: Log,
    /// `[admin]`.
    pub admin: Admin,
    /// `[acme]`.
    pub acme: Acme,
    /// `[[site]]`, in the order of the file; at least one.
    pub sites: Vec<Site>,
}

/// Where and as whom the program stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Plain HTTP listeners; empty for none.
    pub http: Vec<Listen>,
    /// TLS listeners; empty for none.
    pub https: Vec<Listen>,
    /// `None` for one worker per CPU that this process may use.
    pub workers: Option<NonZeroUsize>,
    /// Whom to become after binding when started as root.
    pub user: Option<String>,
    /// Whether the running program shuts itself in.
    pub sandbox: Sandbox,
    /// How long open work may last after a stop was asked for.
    pub grace: Duration,
    /// Networks whose `X-Forwarded-*` fields and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections from trusted proxies begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether a `Via` field is added to what is forwarded (RFC 9110 §7.6.3).
    pub via: bool,
    /// Whether the secrets of TLS sessions are written to the file that `SSLKEYLOGFILE` names.
    pub key_log: bool,
    /// Whether responders that certificates name are asked, for what is stapled (RFC 6066 §8).
    pub ocsp: bool,
}

/// Whether the running program shuts itself in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// As far as the kernel can.
    #[default]
    On,
    /// Not at all.
    Off,
    /// Completely, or the program does not serve.
    Require,
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sandbox::On => "on",
            Sandbox::Off => "off",
            Sandbox::Require => "require",
        })
    }
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listen {
    /// Every address of the host, IPv4 and IPv6: `":80"`.
    Any(u16),
    /// This address only: `"127.0.0.1:8080"`, `"[::1]:443"`.
    Addr(SocketAddr),
}

impl Listen {
    /// The port.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Listen::Any(port) => port,
            Listen::Addr(address) => address.port(),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Any(port) => write!(f, ":{port}"),
            Listen::Addr(address) => address.fmt(f),
        }
    }
}

/// Ceilings on what a peer may cost. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// From the first byte of a request head (on a new connection: from its start) to its end.
    pub request_header_timeout: Duration,
    /// The longest silence within a request body.
    pub request_body_idle_timeout: Duration,
    /// The slowest request body, in bytes a second after the first ten seconds; `None` for no
    /// limit.
    pub request_body_rate: Option<u64>,
    /// The longest silence between two requests, within a tunnel, or of a reader that takes
    /// nothing.
    pub idle_timeout: Duration,
    /// The whole of the TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// The longest wait for an application: for the first byte of its answer, and within it.
    pub upstream_timeout: Duration,
    /// How long a request waits for an application that refuses connections.
    pub hold: Duration,
    /// A request head, the request line counted.
    pub header_size: usize,
    /// Fields of a request head.
    pub header_count: usize,
    /// A request target.
    pub target_size: usize,
    /// A request body; `None` for no limit.
    pub body_size: Option<u64>,
    /// Open connections.
    pub connections: usize,
    /// Open connections of one client address (IPv6: of one /64).
    pub connections_per_client: usize,
}

/// The access log and the program's own words.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Where a line per request goes.
    pub access: AccessLog,
    /// How that line is written.
    pub format: LogFormat,
    /// The least severe of the program's own messages that is written.
    pub level: tracing::level_filters::LevelFilter,
    /// Query parameters whose values are masked in the access log, in lower case.
    pub mask: Vec<String>,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The combined format of Apache httpd.
    Combined,
    /// One JSON object a line.
    Json,
}

/// How the operator talks to the running program.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The control socket, mode 0600.
    pub socket: PathBuf,
    /// Where Prometheus may scrape; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
}

/// One site: names, a certificate, and where its requests go.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The names, at least one; no two sites share one.
    pub hosts: Vec<HostPattern>,
    /// Where the certificate comes from.
    pub tls: TlsSource,
    /// The kind of key that certificates by ACME are for.
    pub key_type: KeyType,
    /// The rules of TLS towards its clients.
    pub policy: TlsPolicy,
    /// For how long browsers are told to insist on HTTPS.
    pub hsts: Hsts,
    /// What a plain HTTP request for this site gets.
    pub redirect: Redirect,
    /// Longest prefix first; the site's own `to`, where given, is the prefix `/`. At least one,
    /// but for a site that redirects everything, which has none.
    pub routes: Vec<Route>,
}

impl Site {
    /// The first name, as shown in logs and metrics.
    #[must_use]
    pub fn name(&self) -> String {
        self.hosts.first().map(ToString::to_string).unwrap_or_default()
    }
}

/// Where a site's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TlsSource {
    /// ACME for names that are public, the local authority for the others.
    Auto,
    /// The local authority.
    Local,
    /// These PEM files.
    Files {
        /// The chain, the site's own certificate first.
        cert: PathBuf,
        /// The private key: PKCS#8, SEC1 or PKCS#1.
        key: PathBuf,
    },
    /// ACME, for each name when a client first asks for it, if it is allowed here. The hosts are
    /// wildcards and `*` alone.
    OnDemand(Ask),
}

/// The rules of TLS towards the clients of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// Whether TLS 1.2 is refused.
    pub only_tls13: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Whether HTTP/1.1 is spoken.
    pub http1: bool,
    /// Which certificates clients show; `None` where they are not asked.
    pub clients: Option<ClientCertificates>,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self { only_tls13: false, http2: true, http1: true, clients: None }
    }
}

/// Which certificates the clients of a site show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificates {
    /// PEM: the authorities.
    pub ca: PathBuf,
    /// PEM: what they have revoked.
    pub crl: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// For how long browsers are told to insist on HTTPS (RFC 6797), on TLS only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hsts {
    /// They are not told.
    #[default]
    Off,
    /// For this long, in whole seconds.
    For {
        /// For how long.
        max_age: Duration,
        /// For every name below too.
        include_subdomains: bool,
        /// To stand in the list that browsers are delivered with.
        preload: bool,
    },
    /// In steps: see [`crate::tls::hsts`].
    Ramp {
        /// For every name below too.
        include_subdomains: bool,
    },
}

impl fmt::Display for Hsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subdomains, preload) = match self {
            Hsts::Off => return f.write_str("off"),
            Hsts::For { max_age, include_subdomains, preload } => {
                duration::Period(*max_age).fmt(f)?;
                (*include_subdomains, *preload)
            }
            Hsts::Ramp { include_subdomains } => {
                f.write_str("ramp")?;
                (*include_subdomains, false)
            }
        };
        f.write_str(if subdomains { " with subdomains" } else { "" })?;
        f.write_str(if preload { ", preload" } else { "" })
    }
}

/// What a plain HTTP request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// 308 to the same place on HTTPS.
    Https,
    /// No redirect: served on plain HTTP too.
    Off,
    /// 308 for everything, on both listeners, to this URL (scheme and authority, and a path prefix
    /// without its trailing slash) followed by the path and query of the request.
    To(String),
}

/// Requests under one path prefix and where they go.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The prefix.
    pub path: PathPrefix,
    /// The applications, at least one.
    pub to: Vec<Target>,
    /// See [`Limits::upstream_timeout`].
    pub upstream_timeout: Duration,
    /// See [`Limits::hold`].
    pub hold: Duration,
}

impl Config {
    /// How many workers there are: one for each CPU that this process may use, its cgroup's quota
    /// counted, unless the file says otherwise.
    #[must_use]
    pub fn workers(&self) -> usize {
        let available = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.server.workers.unwrap_or_else(available).get()
    }

    /// The site that answers for `host`: an exact name before a wildcard before `"*"`.
    ///
    /// A scan, for tools; the path of a request uses the table of [`crate::proxy::route`].
    #[must_use]
    pub fn site(&self, host: &Host) -> Option<&Site> {
        self.sites
            .iter()
            .filter_map(|site| {
                let rank =
                    site.hosts.iter().filter(|p| p.matches(host)).map(HostPattern::rank).max();
                rank.map(|rank| (rank, site))
            })
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, site)| site)
    }
}
