//! What serving from a configuration takes: which files, which ports, whether names are looked up.
//!
//! Nothing is looked at here but the configuration and the environment; what the paths lead to is
//! for [`super::files`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::system;
use crate::config::target::{Address, Protocol};
use crate::config::{AccessLog, Ask, Config, Dns, Hsts, Listen, Site, Target, TlsSource, Writer};
use crate::tls::acme;
use crate::tls::acme::challenge::choose::{Solver, solvers};

/// What serving takes.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    pub(super) places: Vec<Place>,
    /// TCP ports to listen on, with the key that names each; 0 stands for any that is free.
    pub(super) bind: BTreeMap<u16, String>,
    /// TCP ports of applications and name servers, with the key that names each.
    pub(super) connect: BTreeMap<u16, String>,
    /// Those among `connect` that nobody can take for the process later: ports of authorities.
    pub(super) own: BTreeMap<u16, String>,
    /// The key and the name, where names are looked up.
    pub(super) names: Option<(String, String)>,
    /// Whether the supervisor's socket is an abstract one, which has no place in the file system.
    pub(super) abstract_sockets: bool,
    /// Whether it makes new listeners itself.
    pub(super) listens: bool,
    /// A folder that is never given away whole.
    pub(super) home: Option<PathBuf>,
    /// Whether the places of the roots are among the places.
    roots: bool,
}

/// A place in the file system and what is done there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The path as it is used.
    pub(super) path: PathBuf,
    /// What is done there.
    pub(super) access: Access,
    /// How far around the path.
    pub(super) extent: Extent,
    /// What it is, with the key that names it; `None` for what can be done without.
    pub(super) key: Option<String>,
    /// Whether the helper opens it where the sandbox does not let the process.
    pub(super) is_handed: bool,
}

/// What is done at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Access {
    /// Files are read.
    Read,
    /// Files are read and folders listed.
    List,
    /// A file is made or appended to.
    Append,
    /// A device or file is read and written.
    Use,
    /// Files and folders are made, read, replaced and removed.
    Keep,
    /// A file is removed.
    Remove,
}

impl Place {
    /// Whether it is made where it is missing.
    pub(super) fn is_made(&self) -> bool {
        matches!(self.access, Access::Append | Access::Keep)
    }
}

/// How far around a path something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// At the path and, where it is a folder, below.
    Here,
    /// In the folder of the file too, where another file may take its place.
    Around,
}

impl Needs {
    /// What serving from `config` takes, which was read from `file`.
    #[must_use]
    pub fn of(config: &Config, file: Option<&Path>) -> Self {
        Self::in_environment(config, file, &|name| std::env::var_os(name).map(PathBuf::from))
    }

    pub(super) fn in_environment(
        config: &Config,
        file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Self {
        let socket = environment("NOTIFY_SOCKET").unwrap_or_default();
        let mut needs = Self {
            abstract_sockets: socket.to_string_lossy().starts_with('@'),
            home: environment("HOME").filter(|home| home.is_absolute()),
            ..Self::default()
        };
        needs.places.extend(system::places(environment));
        needs.places.extend(file.map(|file| Place {
            path: file.to_owned(),
            access: Access::Read,
            extent: Extent::Around,
            // Whoever reads it says what is in the way.
            key: None,
            is_handed: false,
        }));
        needs.kept(config);
        if let Some(path) = environment(SSLKEYLOGFILE).filter(|_| config.server.key_log) {
            needs.around(&path, Access::Append, "server.key_log".to_owned());
        }
        needs.listeners(config);
        for site in &config.sites {
            needs.site(site, environment);
        }
        needs.authorities(config, environment);
        needs
    }

    /// Leaves out what a helper opens for the process.
    pub fn leave_to_helper(&mut self) {
        self.places.retain(|place| !place.is_handed);
    }

    /// Lets the program make new listeners itself, where no helper makes them for it.
    pub fn listen_itself(&mut self) {
        self.listens = true;
    }

    /// Lets the program connect to itself at these ports, as `demo --once` does.
    pub fn connect_to_itself(&mut self, ports: impl Iterator<Item = u16>) {
        self.connect.extend(ports.map(|port| (port, "its own listener".to_owned())));
    }

    /// Lets the program ask responders, each at its host and port.
    pub fn ask_responders<'a>(&mut self, places: impl Iterator<Item = (&'a str, u16)>) {
        for (host, port) in places {
            self.connect.entry(port).or_insert_with(|| OCSP_KEY.to_owned());
            self.name(host, OCSP_KEY);
        }
    }

    /// The log, the storage and the control socket.
    fn kept(&mut self, config: &Config) {
        if let AccessLog::File(path) = &config.log.access {
            self.around(path, Access::Append, "log.access".to_owned());
        }
        let is_local = |site: &Site| !matches!(site.tls, TlsSource::Files { .. });
        let keeps = |site: &Site| is_local(site) || matches!(site.hsts, Hsts::Ramp { .. });
        let is_used = !config.server.https.is_empty() && config.sites.iter().any(keeps);
        self.places.push(Place {
            path: config.acme.storage.clone(),
            access: Access::Keep,
            extent: Extent::Here,
            key: is_used.then(|| "acme.storage".to_owned()),
            is_handed: false,
        });
        // The socket itself is made before; its name goes with the server. That it cannot be made
        // elsewhere in a reload is no reason to refuse one: it moves at the next start.
        self.places.push(Place {
            path: config.admin.socket.clone(),
            access: Access::Remove,
            extent: Extent::Around,
            key: None,
            is_handed: false,
        });
    }

    fn listeners(&mut self, config: &Config) {
        let lists = [("server.http", &config.server.http), ("server.https", &config.server.https)];
        for (key, list) in lists {
            for listen in list {
                let port = match listen {
                    Listen::Any(port) => *port,
                    Listen::Addr(address) => address.port(),
                };
                self.bind.insert(port, key.to_owned());
            }
        }
        if let Some(address) = config.admin.metrics {
            self.bind.insert(address.port(), "admin.metrics".to_owned());
        }
    }

    fn site(&mut self, site: &Site, environment: &dyn Fn(&str) -> Option<PathBuf>) {
        let name = site.name();
        if let TlsSource::Files { cert, key } = &site.tls {
            self.around(cert, Access::Read, format!("site {name}: tls.cert"));
            self.around(key, Access::Read, format!("site {name}: tls.key"));
        }
        if let TlsSource::OnDemand(ask) = &site.tls {
            self.ask(&name, ask, environment);
        }
        if let Some(clients) = &site.policy.clients {
            self.around(&clients.ca, Access::Read, format!("site {name}: client_ca"));
            if let Some(crl) = &clients.crl {
                self.around(crl, Access::Read, format!("site {name}: client_crl"));
            }
        }
        for target in site.routes.iter().flat_map(|route| &route.to) {
            self.target(&name, target, environment);
        }
    }

    /// Who says for which names certificates are got.
    fn ask(&mut self, site: &str, ask: &Ask, environment: &dyn Fn(&str) -> Option<PathBuf>) {
        let key = format!("site {site}: tls.on_demand.ask");
        if ask.is_https && !self.roots {
            self.roots = true;
            self.places.extend(system::roots(environment, &key));
        }
        for ports in [&mut self.own, &mut self.connect] {
            ports.entry(ask.port).or_insert_with(|| key.clone());
        }
        self.name(&ask.host, &key);
    }

    fn target(
        &mut self,
        site: &str,
        target: &Target,
        environment: &dyn Fn(&str) -> Option<PathBuf>,
    ) {
        let key = || format!("site {site}: to");
        if target.protocol == Protocol::Https && !self.roots {
            self.roots = true;
            self.places.extend(system::roots(environment, &key()));
        }
        // To connect to a unix socket takes a right on that socket alone, which its owner gives.
        let Address::Tcp(host, port) = &target.address else { return };
        self.connect.entry(*port).or_insert_with(key);
        self.name(host, &key());
    }

    /// The authorities: their ports, the roots that vouch for them, and how their names are found.
    fn authorities(&mut self, config: &Config, environment: &dyn Fn(&str) -> Option<PathBuf>) {
        for authority in &config.acme.authorities {
            if let Some(ca) = &authority.ca {
                self.around(ca, Access::Read, "acme.ca".to_owned());
            }
        }
        if !acme::wants_any(config) {
            return;
        }
        // Advice, which can be done without: whether port 80 of a name answers with our own token.
        if solvers(config).contains(&Solver::Http) {
            self.connect.entry(HTTP).or_insert_with(|| ACME_KEY.to_owned());
        }
        // What they will issue may name a responder; Let's Encrypt has none any more.
        if config.server.ocsp && !acme::names::only_lets_encrypt(config) {
            self.connect.entry(HTTP).or_insert_with(|| OCSP_KEY.to_owned());
        }
        for authority in &config.acme.authorities {
            if authority.ca.is_none() && !self.roots {
                self.roots = true;
                self.places.extend(system::roots(environment, ACME_KEY));
            }
            let staging = authority.staging_directory.as_ref();
            let staging = staging.filter(|_| config.acme.staging_first);
            for directory in [Some(&authority.directory), staging].into_iter().flatten() {
                let Some((host, port)) = acme::host_and_port(directory) else { continue };
                self.own.entry(port).or_insert_with(|| ACME_KEY.to_owned());
                self.connect.entry(port).or_insert_with(|| ACME_KEY.to_owned());
                self.name(&host, ACME_KEY);
            }
        }
        if let Some(dns) = &config.acme.dns {
            self.dns(dns);
        }
    }

    /// The name servers of dns-01: the one that is written to, and those that say what is seen.
    fn dns(&mut self, dns: &Dns) {
        let server = match &dns.writer {
            Writer::Server { address, .. } => Some((address.port(), "acme.dns.server")),
            // The helper runs it.
            Writer::Hook(_) => None,
        };
        let resolvers = dns.resolvers.iter().map(|one| (one.port(), "acme.dns.resolvers"));
        // The servers of a zone answer at the port of the DNS, wherever they are.
        for (port, key) in server.into_iter().chain(resolvers).chain([(DNS, DNS_KEY)]) {
            for ports in [&mut self.own, &mut self.connect] {
                ports.entry(port).or_insert_with(|| key.to_owned());
            }
        }
        if self.names.is_none() {
            self.names = Some((DNS_KEY.to_owned(), "each of the zone's name servers".to_owned()));
            self.places.extend(system::names(DNS_KEY));
        }
    }

    /// What it takes to find the address of `host`, where that is a name.
    fn name(&mut self, host: &str, key: &str) {
        if host.parse::<IpAddr>().is_err() && self.names.is_none() {
            self.names = Some((key.to_owned(), host.to_owned()));
            self.places.extend(system::names(key));
            self.connect.entry(DNS).or_insert_with(|| key.to_owned());
        }
    }

    fn around(&mut self, path: &Path, access: Access, key: String) {
        let (path, key) = (path.to_owned(), Some(key));
        // What is read there are certificates and keys, see [`crate::tls::files::handed`].
        let is_handed = access == Access::Read;
        self.places.push(Place { path, access, extent: Extent::Around, key, is_handed });
    }
}

/// Where authorities look at names that are proved by http-01 (RFC 8555 §8.3).
const HTTP: u16 = 80;

/// The key that names the authorities.
const ACME_KEY: &str = "acme.directory";

/// The key that names what dns-01 takes.
const DNS_KEY: &str = "acme.dns";

/// The key that names responders.
const OCSP_KEY: &str = "server.ocsp";

/// Where the secrets of TLS sessions go.
const SSLKEYLOGFILE: &str = crate::tls::key_log::VARIABLE;

/// Answers that are too long for a datagram come over TCP (RFC 7766).
const DNS: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn needs(text: &str, environment: &[(&str, &str)]) -> Needs {
        let config = config::parse(text, "test.toml", Path::new("/etc/p"), &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}")).config;
        let value = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        Needs::in_environment(&config, Some(Path::new("/etc/p/p.toml")), &value)
    }

    fn place<'a>(needs: &'a Needs, path: &str) -> Option<&'a Place> {
        needs.places.iter().find(|place| place.path == Path::new(path))
    }

    const PLAIN: &str = "[server]\nhttp = [\":80\", \"127.0.0.1:8000\"]\nhttps = []\n\
        [admin]\nmetrics = \"127.0.0.1:9180\"\n\
        [log]\naccess = \"/var/log/p/a.log\"\n\
        [[site]]\nhost = \"a.test\"\nto = [\"127.0.0.1:8080\", \"unix:/run/a.sock\"]\n";

    #[test]
    fn ports_carry_the_key_that_names_them() {
        let needs = needs(PLAIN, &[]);
        let bind: Vec<_> = needs.bind.iter().map(|(port, key)| (*port, key.as_str())).collect();
        let (http, metrics) = ("server.http", "admin.metrics");
        assert_eq!(bind, [(80, http), (8000, http), (9180, metrics)]);
        assert_eq!(needs.connect.get(&8080).map(String::as_str), Some("site a.test: to"));
        assert_eq!(needs.connect.len(), 1);
    }

    #[test]
    fn only_what_is_used_is_asked_for() {
        let needs = needs(PLAIN, &[]);
        assert_eq!(needs.names, None);
        for path in ["/etc/hosts", "/usr/lib", "/etc/ssl/certs", "/run/a.sock", "/etc"] {
            assert!(place(&needs, path).is_none(), "{path}");
        }
        assert_eq!(place(&needs, "/var/log/p/a.log").unwrap().access, Access::Append);
        assert_eq!(place(&needs, "/etc/p/p.toml").unwrap().access, Access::Read);
        // Without a site of the local authority nobody has to be able to write there.
        assert_eq!(place(&needs, "/var/lib/portcullis").unwrap().key, None);
    }

    #[test]
    fn a_name_takes_what_the_c_library_reads_and_asks() {
        let needs = needs("[[site]]\nhost = \"localhost\"\nto = \"app.internal:8080\"\n", &[]);
        let named = ("site localhost: to".to_owned(), "app.internal".to_owned());
        assert_eq!(needs.names, Some(named));
        assert!(needs.connect.contains_key(&53));
        for path in ["/etc/hosts", "/etc/resolv.conf"] {
            assert!(place(&needs, path).is_some(), "{path}");
        }
        let storage = place(&needs, "/var/lib/portcullis").unwrap();
        assert_eq!(storage.key.as_deref(), Some("acme.storage"));
    }

    #[test]
    fn an_authority_takes_its_port_its_roots_and_its_name() {
        let site = "[[site]]\nhost = \"shop.de\"\nto = \"192.0.2.1:81\"\n";
        let public = needs(site, &[]);
        assert!(public.connect.contains_key(&443) && public.own.contains_key(&443));
        assert!(public.connect.contains_key(&80) && !public.own.contains_key(&80));
        assert!(
            !needs(&format!("[acme]\nchallenges = \"tls-alpn-01\"\n{site}"), &[])
                .connect
                .contains_key(&80)
        );
        assert!(place(&public, "/etc/ssl/certs").is_some());
        let name = "acme-v02.api.letsencrypt.org".to_owned();
        assert_eq!(public.names, Some(("acme.directory".to_owned(), name)));
        let other = "[acme]\ndirectory = \"https://192.0.2.9:14000/dir\"\n";
        let private = needs(&format!("{other}{site}"), &[]);
        assert!(private.own.contains_key(&14000) && private.names.is_none());
        // Its responder; Let's Encrypt has none.
        let other = format!("{other}challenges = \"tls-alpn-01\"\n");
        let private = needs(&format!("{other}{site}"), &[]);
        assert_eq!(private.connect.get(&80).map(String::as_str), Some("server.ocsp"));
        let off = format!("[server]\nocsp = false\n{other}{site}");
        assert!(!needs(&off, &[]).connect.contains_key(&80));
        let dns = "[acme.dns]\nserver = \"192.0.2.53:5353\"\n\
            tsig = { name = \"k\", secret = \"MDEyMzQ1Njc4OWFiY2RlZg==\" }\n";
        assert!(needs(&format!("{dns}{site}"), &[]).own.contains_key(&5353));
        // Nobody is asked for names of this host alone, nor for certificates from elsewhere.
        let local = needs(&site.replace("shop.de", "localhost"), &[]);
        assert!(local.own.is_empty() && !local.connect.contains_key(&443));
    }

    #[test]
    fn who_decides_on_names_takes_a_port_and_the_authority_its_own() {
        let site = "[[site]]\nhost = \"*\"\nto = \"192.0.2.1:80\"\n\
            tls = { on_demand = { ask = \"https://app.internal:9000/x\" } }\n";
        let needs = needs(site, &[]);
        let key = "site *: tls.on_demand.ask";
        assert_eq!(needs.own.get(&9000).map(String::as_str), Some(key));
        assert!(needs.connect.contains_key(&9000) && needs.own.contains_key(&443));
        assert!(place(&needs, "/etc/ssl/certs").is_some());
        assert_eq!(needs.names, Some((key.to_owned(), "app.internal".to_owned())));
    }

    #[test]
    fn an_application_over_tls_takes_the_roots() {
        let text =
            "[server]\nhttps = []\n[[site]]\nhost = \"a.test\"\nto = \"https://192.0.2.1\"\n";
        let plain = needs(text, &[]);
        assert!(place(&plain, "/etc/ssl/certs").is_some());
        let named = needs(text, &[("SSL_CERT_FILE", "/srv/roots/ca.pem")]);
        assert_eq!(place(&named, "/srv/roots/ca.pem").unwrap().extent, Extent::Around);
    }

    #[test]
    fn an_abstract_socket_of_the_supervisor_stays_open() {
        assert!(!needs(PLAIN, &[("NOTIFY_SOCKET", "/run/notify")]).abstract_sockets);
        assert!(needs(PLAIN, &[("NOTIFY_SOCKET", "@notify")]).abstract_sockets);
    }
}
