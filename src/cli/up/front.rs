//! A configuration for one application, made from arguments instead of a file.

use std::path::{Path, PathBuf};

use super::ListenArgs;
use super::places;
use super::ports::{Ports, Reach, Wish};
use crate::cli::Stop;
use crate::cli::run::{Inherited, serve_with};
use crate::config::{Config, Redirect, Route, Site, Target, TlsSource};
use crate::control::ConfigOrigin;
use crate::downstream::bind::{BoundListener, ListenerKind};
use crate::downstream::passed::Passed;
use crate::exit;
use crate::proxy::headers::host::HostPattern;
use crate::proxy::route::PathPrefix;

/// The names of a site that nobody named: the ways to say "this host".
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// One application and the proxy in front of it.
#[derive(Debug)]
pub(in crate::cli) struct Front {
    config: Config,
    /// Sentences on what is other than the operator may expect.
    pub(in crate::cli) notes: Vec<String>,
}

impl Front {
    /// Decides everything; binds nothing for good, and makes at most the directory of the control
    /// socket.
    pub(in crate::cli) fn new(
        target: &Target,
        hosts: &[String],
        listen: &ListenArgs,
        passed: &Passed,
    ) -> Result<Self, Stop> {
        let usage = |text: String| Stop { code: exit::USAGE, text };
        let wish = |text: &Option<String>| {
            text.as_deref().map_or(Ok(Wish::Usual), Wish::parse).map_err(usage)
        };
        let wishes = (wish(&listen.http)?, wish(&listen.https)?);
        let reach = if hosts.is_empty() { Reach::Host } else { Reach::World };
        let hosts = patterns(hosts).map_err(usage)?;
        let ports = match Ports::inherited(passed) {
            Some(ports) => ports,
            None => Ports::choose((&wishes.0, &wishes.1), reach, listen.strict, target)?,
        };
        let mut notes = ports.say();

        let mut config = Config::defaults();
        config.sites = vec![Site {
            hosts,
            tls: TlsSource::Auto,
            key_type: config.acme.key_type,
            policy: crate::config::TlsPolicy::default(),
            hsts: crate::config::Hsts::Off,
            // Without an HTTPS listener there is nowhere to redirect to.
            redirect: if ports.https.is_empty() { Redirect::Off } else { Redirect::Https },
            routes: vec![Route {
                path: PathPrefix::root(),
                to: vec![target.clone()],
                upstream_timeout: config.limits.upstream_timeout,
                hold: config.limits.hold,
            }],
        }];
        config.server.http = ports.http;
        config.server.https = ports.https;
        config.acme.storage = places::storage(&config.acme.storage);
        let user = config.server.user.as_deref();
        config.server.user = places::user(user, &config.acme.storage);
        config.admin.socket = places::admin_socket(&config.admin.socket).unwrap_or_else(|why| {
            notes.push(format!("No control socket can be made ({why})."));
            config.admin.socket.clone()
        });
        Ok(Self { config, notes })
    }

    /// Where the local authority's root is, once it is made.
    pub(in crate::cli) fn root_certificate(&self) -> PathBuf {
        root_certificate(&self.config.acme.storage)
    }

    /// Binds, gives up its rights, calls `ready` with the addresses in use, and serves until a
    /// signal. Returns the exit code.
    pub(in crate::cli) fn serve(self, inherited: Inherited, ready: impl FnOnce(&Urls)) -> u8 {
        let hosts: Vec<HostPattern> =
            self.config.sites.iter().flat_map(|site| site.hosts.clone()).collect();
        let ready = |bound: &[BoundListener]| ready(&Urls::of(&hosts, bound));
        serve_with(inherited, self.config, ConfigOrigin::CommandLine, ready)
    }
}

/// The URLs to show for a front: of its names, or of its addresses when it has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Urls {
    /// Over TLS, one for each name; the first is the one to show.
    pub(in crate::cli) https: Vec<String>,
    /// In the clear.
    pub(in crate::cli) http: Vec<String>,
}

impl Urls {
    fn of(hosts: &[HostPattern], bound: &[BoundListener]) -> Self {
        let is_ip = |host: &HostPattern| matches!(host, HostPattern::Exact(host) if host.is_ip());
        let named = hosts.iter().any(|host| !is_ip(host));
        let urls = |kind: ListenerKind, usual: u16| {
            let listener = bound.iter().find(|listener| listener.kind == kind);
            let urls = listener.map(|listener| {
                let port = listener.address.port();
                let port = if port == usual { String::new() } else { format!(":{port}") };
                let shown = hosts.iter().filter(move |host| !named || !is_ip(host));
                shown.map(move |host| format!("{kind}://{}{port}", authority(host)))
            });
            urls.into_iter().flatten().collect()
        };
        Self { https: urls(ListenerKind::Https, 443), http: urls(ListenerKind::Http, 80) }
    }

    /// The URLs to show: over TLS where there is TLS.
    pub(in crate::cli) fn main(&self) -> &[String] {
        if self.https.is_empty() { &self.http } else { &self.https }
    }
}

fn authority(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(host) => host.bracketed().into_owned(),
        HostPattern::Wildcard(_) => host.to_string(),
        HostPattern::Any => "localhost".to_owned(),
    }
}

fn patterns(hosts: &[String]) -> Result<Vec<HostPattern>, String> {
    let given = hosts.iter().map(String::as_str);
    let names: Vec<&str> = if hosts.is_empty() { LOCAL.to_vec() } else { given.collect() };
    let mut patterns = Vec::with_capacity(names.len());
    for name in names {
        let pattern = HostPattern::parse(name).map_err(|error| {
            format!("--host \"{name}\": {error} (example.com, *.example.org, or * for every name)")
        })?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns)
}

fn root_certificate(storage: &Path) -> PathBuf {
    storage.join("local").join("root.pem")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::Listen;

    fn listen(http: &str, https: &str) -> ListenArgs {
        ListenArgs { http: Some(http.to_owned()), https: Some(https.to_owned()), strict: false }
    }

    fn front(hosts: &[&str], listen: &ListenArgs) -> Result<Front, Stop> {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let target = Target::parse("127.0.0.1:3000").unwrap();
        Front::new(&target, &hosts, listen, &Passed::default())
    }

    #[test]
    fn without_a_name_the_site_is_this_host() {
        let front = front(&[], &listen("none", "127.0.0.1:0")).unwrap();
        let site = &front.config.sites[0];
        let names: Vec<_> = site.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(names, LOCAL);
        assert_eq!(site.routes[0].to[0].to_string(), "127.0.0.1:3000");
        assert_eq!(site.redirect, Redirect::Https);
        assert_eq!(front.config.server.http, []);
    }

    #[test]
    fn without_tls_there_is_no_redirect() {
        let front = front(&["app.test"], &listen("127.0.0.1:0", "none")).unwrap();
        assert_eq!(front.config.sites[0].redirect, Redirect::Off);
        assert_eq!(front.config.server.http, [Listen::Addr("127.0.0.1:0".parse().unwrap())]);
    }

    #[test]
    fn a_name_is_checked_and_taken_once() {
        let ports = listen("none", "127.0.0.1:0");
        let stop = front(&["exa mple"], &ports).unwrap_err();
        assert_eq!(stop.code, exit::USAGE);
        assert!(stop.text.contains("--host \"exa mple\""), "{}", stop.text);
        let twice = front(&["a.test", "A.test", "*.b.test"], &ports).unwrap();
        assert_eq!(twice.config.sites[0].hosts.len(), 2);
    }

    #[test]
    fn urls_carry_the_port_only_when_it_is_unusual() {
        let hosts = patterns(&[]).unwrap();
        let at = |kind, address: &str| BoundListener {
            kind,
            listen: Listen::Any(0),
            address: address.parse().unwrap(),
            socket: TcpListener::bind("127.0.0.1:0").unwrap(),
            is_shared: false.into(),
        };
        let bound = [at(ListenerKind::Https, "[::]:8443"), at(ListenerKind::Http, "[::]:80")];
        let urls = Urls::of(&hosts, &bound);
        assert_eq!(urls.https, ["https://localhost:8443"]);
        assert_eq!(urls.http, ["http://localhost"]);
        assert_eq!(urls.main(), urls.https);
        let addresses = Urls::of(&patterns(&["::1".to_owned()]).unwrap(), &bound);
        assert_eq!(addresses.https, ["https://[::1]:8443"]);
    }
}
