//! What the data plane serves from: one immutable value, made by the control plane, swapped whole.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use http::HeaderValue;
use rustls::ClientConfig;

use super::files::Stamps;
use crate::config::target::Protocol;
use crate::config::{Config, Hsts, Redirect, Site, TlsSource};
use crate::downstream::redirect::LoopGuard;
use crate::observe::registry::{Registry, RouteSeries};
use crate::proxy::route::{RouteTable, SiteTable};
use crate::tls::acme::names::is_proved_here;
use crate::tls::acme::{Pending, Roots};
use crate::tls::files::{Handed, Kept};
use crate::tls::hsts::{self, book::Book};
use crate::tls::policy::Policy;
use crate::tls::{CertificateError, Certificates};

/// The configuration in the form in which requests are answered from it.
#[derive(Debug)]
pub struct State {
    /// What it was made from.
    pub config: Config,
    /// From a host to the index of a service.
    pub sites: SiteTable<usize>,
    /// One for each site of the configuration, in its order.
    pub services: Vec<Service>,
    /// The certificates; without a TLS listener there are none.
    pub certificates: Certificates,
    /// What their files looked like before they were read: what changes later is read anew.
    pub stamps: Stamps,
    /// What verifies applications behind `https://`, where there are any.
    pub client_tls: Option<Arc<ClientConfig>>,
    /// Counts for requests that no site wants.
    pub unmatched: Arc<RouteSeries>,
    /// Who was sent to HTTPS of late though he says that he comes from there. The one thing that
    /// workers share under a lock: only requests that are part of such a loop ever take it.
    pub redirects: Mutex<LoopGuard>,
    /// What is shown to authorities that look whether names are ours. The other thing under a lock:
    /// only who asks for a challenge ever takes it.
    pub pending: Arc<Pending>,
    /// Whom the directories of authorities are verified against.
    pub roots: Roots,
    /// Where redirects lead: the port of the first TLS listener.
    pub https_port: u16,
}

/// A site, prepared.
#[derive(Debug)]
pub struct Service {
    /// Its first name.
    pub name: String,
    /// From a path to the index of a route.
    pub routes: RouteTable,
    /// Counts, one for each route.
    pub series: Vec<Arc<RouteSeries>>,
    /// The value of `Strict-Transport-Security`.
    pub hsts: Option<HeaderValue>,
    /// What a plain request gets.
    pub redirect: Redirect,
    /// What a client has to have asked for in its handshake to be served here.
    pub tls: TlsSource,
    /// Whether names of it are proved to authorities by this program, and by nobody else.
    pub is_proved_here: bool,
    /// Under which rules; `None` where TLS is not spoken.
    pub policy: Option<Arc<Policy>>,
}

/// Why there is no state.
#[derive(Debug)]
pub enum StateError {
    /// Certificates cannot be had.
    Certificates(Vec<CertificateError>),
    /// The system's roots cannot be read, and an application is to be verified.
    ClientTls(String),
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StateError::Certificates(errors) => {
                let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            StateError::ClientTls(error) => f.write_str(error),
        }
    }
}

impl StateError {
    /// Whether a missing right is to blame.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            StateError::Certificates(errors) => errors.iter().any(CertificateError::is_permission),
            StateError::ClientTls(_) => false,
        }
    }
}

impl State {
    /// Reads and makes what `config` asks for: certificates, tables, series. Certificate files that
    /// may not be read are taken from `inherited`, see [`Certificates::load_again`].
    ///
    /// # Errors
    /// See [`StateError`]; nothing has changed then.
    pub fn prepare(
        inherited: Option<&Certificates>,
        config: Config,
        https_port: u16,
        registry: &Registry,
    ) -> Result<Self, StateError> {
        Self::make((inherited, None), &[], config, https_port, registry)
    }

    /// The same in place of `before`, from which certificate files are taken that only root could
    /// read: see [`Certificates::load_again`]. What the helper has `handed` is read from there.
    ///
    /// # Errors
    /// As [`State::prepare`].
    pub fn prepare_after(
        before: &Self,
        handed: &[Handed],
        config: Config,
        https_port: u16,
        registry: &Registry,
    ) -> Result<Self, StateError> {
        let old = (Some(&before.certificates), Some(before));
        Self::make(old, handed, config, https_port, registry)
    }

    fn make(
        (inherited, before): (Option<&Certificates>, Option<&Self>),
        handed: &[Handed],
        config: Config,
        https_port: u16,
        registry: &Registry,
    ) -> Result<Self, StateError> {
        let stamps = Stamps::of(&config);
        let certificates = Certificates::load_again(&config, SystemTime::now(), inherited, handed)
            .map_err(StateError::Certificates)?;
        let left = inherited.map_or(&[][..], Certificates::left);
        let left = handed.iter().map(Handed::kept).chain(left.iter().cloned()).collect();
        Self::around((certificates, stamps, left), before, config, https_port, registry)
    }

    /// The same configuration with what its certificate files hold now. Where that cannot be used,
    /// its site goes on with what it has; what is wrong comes with it.
    ///
    /// # Errors
    /// As [`State::prepare`], certificates aside.
    pub fn renew(
        before: &Self,
        handed: &[Handed],
        registry: &Registry,
    ) -> Result<(Self, Vec<CertificateError>), StateError> {
        let config = before.config.clone();
        let stamps = Stamps::of(&config);
        let (certificates, errors) =
            Certificates::renew(&config, SystemTime::now(), &before.certificates, handed);
        let port = before.https_port;
        let read = (certificates, stamps, Vec::new());
        let state = Self::around(read, Some(before), config, port, registry)?;
        Ok((state, errors))
    }

    fn around(
        (certificates, stamps, left): (Certificates, Stamps, Vec<Kept>),
        before: Option<&Self>,
        config: Config,
        https_port: u16,
        registry: &Registry,
    ) -> Result<Self, StateError> {
        let mut targets = config.sites.iter().flat_map(|site| &site.routes).flat_map(|r| &r.to);
        let client_tls = if targets.any(|target| target.protocol == Protocol::Https) {
            let tls = crate::tls::client_config();
            Some(tls.map_err(|error| StateError::ClientTls(error.to_string()))?)
        } else {
            None
        };
        let patterns = config.sites.iter().enumerate();
        let patterns =
            patterns.flat_map(|(n, site)| site.hosts.iter().map(move |host| (host.clone(), n)));
        let sites = SiteTable::new(patterns);
        let book = Book::of(&config.acme.storage);
        let service = |(index, site): (usize, &Site)| {
            let policy = certificates.policy_of(index).cloned();
            let is_proved_here = is_proved_here(site, &config);
            Service { is_proved_here, ..Service::new(site, policy, &book, registry) }
        };
        let services = config.sites.iter().enumerate().map(service).collect();
        let unmatched = registry.unmatched();
        let redirects = Mutex::default();
        let roots = match before {
            Some(before) if before.config == config => before.roots.clone(),
            _ => Roots::read_with(&config, before.map(|before| &before.roots), &left),
        };
        let pending = before.map(|before| Arc::clone(&before.pending)).unwrap_or_default();
        Ok(Self {
            sites,
            services,
            certificates,
            stamps,
            client_tls,
            unmatched,
            redirects,
            pending,
            roots,
            https_port,
            config,
        })
    }
}

impl Service {
    fn new(site: &Site, policy: Option<Arc<Policy>>, book: &Book, registry: &Registry) -> Self {
        let name = site.name();
        let paths: Vec<_> = site.routes.iter().map(|route| route.path.clone()).collect();
        let progress = policy.as_ref().filter(|_| site.hsts != Hsts::Off);
        let progress = progress.and_then(|_| book.read(&name));
        Self {
            series: paths.iter().map(|path| registry.series(&name, path.as_str())).collect(),
            routes: RouteTable::new(&paths),
            hsts: hsts::header(site.hsts, progress.as_ref()),
            redirect: site.redirect.clone(),
            tls: site.tls.clone(),
            is_proved_here: false,
            policy,
            name,
        }
    }
}
