//! Which applications a proxy of this host stands in front of, as its own files say.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

use super::nginx;
use crate::audit::inventory::{Inventory, Listener, Protocol};
use crate::config::{self, target};

/// One target in the file of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// The proxy, by the name of its process.
    pub proxy: &'static str,
    /// The names of the site; empty where the file does not tell them.
    pub names: Vec<String>,
    /// The host of the application: a name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The file that says so.
    pub file: PathBuf,
}

/// An application on this host with a proxy in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fronted {
    /// Where the application listens.
    pub port: u16,
    /// The proxy, by the name of its process.
    pub proxy: String,
    /// How this is known, in a few words.
    pub source: String,
}

/// What the files of the proxies say, of those that run or not; `own` are files that proxies were
/// started with.
pub(super) fn fronts(config: &Path, own: &[(&str, PathBuf)], root: &Path) -> Vec<Front> {
    let of = |proxy: &str| {
        let files = own.iter().filter(|(name, file)| *name == proxy && *file != config);
        files.map(|(_, file)| file.clone()).collect::<Vec<_>>()
    };
    let mut fronts = portcullis(config);
    fronts.extend(of("portcullis").iter().flat_map(|file| portcullis(file)));
    fronts.extend(nginx::fronts(root, &of("nginx")));
    fronts.extend(LINES.iter().flat_map(|form| form.fronts(root, &of(form.proxy))));
    fronts
}

/// The exact names of the sites, each once, in the order of the files.
pub(super) fn names(fronts: &[Front]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in fronts.iter().flat_map(|front| &front.names) {
        if !name.contains('*') && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The targets on this host of the proxies that listen here.
pub(super) fn fronted(fronts: &[Front], inventory: &Inventory) -> Vec<Fronted> {
    let mut fronted: Vec<Fronted> = Vec::new();
    for front in fronts.iter().filter(|front| listens(front.proxy, inventory)) {
        if is_here(&front.host) && fronted.iter().all(|other| other.port != front.port) {
            let source = front.file.display().to_string();
            fronted.push(Fronted { port: front.port, proxy: front.proxy.to_owned(), source });
        }
    }
    fronted
}

/// Whether the proxy is seen, or somebody who cannot be seen holds a port of the web.
fn listens(proxy: &str, inventory: &Inventory) -> bool {
    let is_it = |listener: &Listener| match &listener.holder {
        Some(holder) => holder.comm == proxy,
        None => listener.protocol == Protocol::Tcp && [80, 443].contains(&listener.port),
    };
    inventory.listeners.iter().any(is_it)
}

/// Whether a target is this host: only its own addresses can be bound.
fn is_here(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_unspecified() || ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn portcullis(file: &Path) -> Vec<Front> {
    let Ok(loaded) = config::load(file) else { return Vec::new() };
    let mut fronts = Vec::new();
    for site in &loaded.config.sites {
        let names: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
        for to in site.routes.iter().flat_map(|route| &route.to) {
            let target::Address::Tcp(host, port) = &to.address else { continue };
            fronts.push(Front {
                proxy: "portcullis",
                names: names.iter().filter(|name| *name != "*").cloned().collect(),
                host: host.clone(),
                port: *port,
                file: file.to_owned(),
            });
        }
    }
    fronts
}

/// A proxy whose targets stand in lines that begin with one word.
struct Lines {
    proxy: &'static str,
    /// Files, or folders whose files are read.
    places: &'static [&'static str],
    word: &'static str,
}

const LINES: &[Lines] = &[
    Lines { proxy: "apache2", places: &["etc/apache2/sites-enabled"], word: "ProxyPass" },
    Lines { proxy: "haproxy", places: &["etc/haproxy/haproxy.cfg"], word: "server" },
    Lines { proxy: "caddy", places: &["etc/caddy/Caddyfile"], word: "reverse_proxy" },
];

impl Lines {
    fn fronts(&self, root: &Path, own: &[PathBuf]) -> Vec<Front> {
        let mut fronts = Vec::new();
        let usual = self.places.iter().map(|place| root.join(place));
        let mut known = BTreeSet::new();
        for file in usual.chain(own.iter().cloned()).flat_map(|place| files(&place)) {
            if !known.insert(file.clone()) {
                continue;
            }
            for (host, port) in self.targets(&read(&file)) {
                let (proxy, names) = (self.proxy, Vec::new());
                fronts.push(Front { proxy, names, host, port, file: file.clone() });
            }
        }
        fronts
    }

    fn targets(&self, text: &str) -> Vec<(String, u16)> {
        let lines = text.lines().map(str::split_ascii_whitespace);
        let ours = lines.filter_map(|mut words| (words.next()? == self.word).then_some(words));
        ours.flatten().filter_map(host_and_port).collect()
    }
}

/// A file, or the files of a folder in their order. A configuration of more is not read.
pub(super) fn files(place: &Path) -> Vec<PathBuf> {
    const MOST: usize = 500;
    let Ok(entries) = fs::read_dir(place) else { return vec![place.to_owned()] };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files.truncate(MOST);
    files
}

/// A text of at most a mebibyte; empty where it cannot be read.
pub(super) fn read(file: &Path) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(open) = fs::File::open(file) {
        let _ = open.take(1 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `http://127.0.0.1:8080/path`, `localhost:3000`, `[::1]:80`.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split('/').next()?;
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let host = (!host.is_empty() && host.chars().all(is_host)).then(|| host.to_owned())?;
    Some((host, port?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{held, holder, host, tcp};

    #[test]
    fn a_target_is_read_in_every_form() {
        let read = |text: &str| host_and_port(text);
        let at = |host: &str, port: u16| Some((host.to_owned(), port));
        assert_eq!(read("http://127.0.0.1:8080/a"), at("127.0.0.1", 8080));
        assert_eq!(read("http://localhost"), at("localhost", 80));
        assert_eq!(read("[::1]:3000"), at("::1", 3000));
        assert_eq!(read("https://[::1]"), at("::1", 443));
        for none in ["app", "unix:/run/a.sock", "check", "$backend:80", "http://$b:80", ""] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn lines_of_other_proxies_are_read() {
        let targets = |proxy: &str, text: &str| {
            LINES.iter().find(|form| form.proxy == proxy).unwrap().targets(text)
        };
        let haproxy = "backend x\n  server a 127.0.0.1:8080 check inter 2s\n";
        assert_eq!(targets("haproxy", haproxy), [("127.0.0.1".to_owned(), 8080)]);
        let caddy = "a.test {\n\treverse_proxy localhost:3000 localhost:3001\n}\n";
        assert_eq!(targets("caddy", caddy).len(), 2);
        let apache = "  ProxyPass \"/\" http://127.0.0.1:8080/\n";
        assert_eq!(targets("apache2", apache), [("127.0.0.1".to_owned(), 8080)]);
    }

    #[test]
    fn our_own_file_tells_names_and_targets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portcullis.toml");
        let text = "[[site]]\nhost = [\"a.test\", \"*.b.test\"]\nto = \"127.0.0.1:8080\"\n";
        fs::write(&file, text).unwrap();
        let fronts = fronts(&file, &[], folder.path());
        assert_eq!(names(&fronts), ["a.test"]);
        let running = host(vec![held(tcp(443), holder("portcullis"))]);
        assert_eq!(fronted(&fronts, &running)[0].port, 8080);
        assert_eq!(fronted(&fronts, &host(vec![held(tcp(443), holder("nginx"))])), []);
        assert_eq!(fronted(&fronts, &host(vec![tcp(443)])).len(), 1);
    }

    #[test]
    fn another_host_is_not_this_one() {
        assert!(is_here("127.0.0.1") && is_here("localhost") && is_here("::1"));
        assert!(!is_here("192.0.2.1") && !is_here("app.example.com"));
    }
}
