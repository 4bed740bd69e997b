//! A configuration as a test describes it, and the file that it becomes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::pki;
use super::proxy::{Proxy, open_to_proxy};

/// A configuration in the making. Unless told otherwise: one listener of each kind on port 0 of
/// 127.0.0.1, the access log in a file, and short deadlines for stopping.
#[derive(Clone)]
pub struct Setup {
    sections: BTreeMap<&'static str, BTreeMap<String, String>>,
    sites: Vec<Site>,
    environment: Vec<(String, String)>,
}

/// One `[[site]]`; unless told otherwise with a certificate of the test authority.
#[derive(Clone)]
pub struct Site {
    hosts: Vec<String>,
    keys: BTreeMap<String, String>,
    routes: Vec<String>,
}

impl Setup {
    /// No site yet.
    pub fn new() -> Self {
        let mut setup =
            Self { sections: BTreeMap::new(), sites: Vec::new(), environment: Vec::new() }
                .server("http = '127.0.0.1:0'")
                .server("https = '127.0.0.1:0'")
                .server("workers = 2")
                .server("grace = '3s'");
        if rustix::process::geteuid().is_root() {
            setup = setup.server("user = 'nobody'");
        }
        setup
    }

    /// Adds a site.
    pub fn site(mut self, site: Site) -> Self {
        self.sites.push(site);
        self
    }

    /// Changes the first site.
    pub fn first_site(mut self, change: impl FnOnce(Site) -> Site) -> Self {
        let site = change(self.sites.remove(0));
        self.sites.insert(0, site);
        self
    }

    /// Removes every site.
    pub fn without_sites(mut self) -> Self {
        self.sites.clear();
        self
    }

    /// Sets a key of `[server]`: `"workers = 1"`.
    pub fn server(self, line: &str) -> Self {
        self.set("server", line)
    }

    /// Sets a key of `[limits]`.
    pub fn limits(self, line: &str) -> Self {
        self.set("limits", line)
    }

    /// Sets a key of `[log]`.
    pub fn log(self, line: &str) -> Self {
        self.set("log", line)
    }

    /// Sets a key of `[admin]`.
    pub fn admin(self, line: &str) -> Self {
        self.set("admin", line)
    }

    /// Sets a key of `[acme]`.
    pub fn acme(self, line: &str) -> Self {
        self.set("acme", line)
    }

    /// Without the keys of `[acme]` so far.
    pub fn without_acme(mut self) -> Self {
        self.sections.remove("acme");
        self
    }

    /// The value of a listener: `"127.0.0.1:8080"`.
    pub fn listens_at(&self, key: &str) -> String {
        self.sections["server"][key].trim_matches('\'').to_owned()
    }

    /// Sets a variable of the environment of the proxy.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts a proxy with this configuration and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Proxy {
        Proxy::start(self)
    }

    /// The variables of the environment.
    pub fn variables(&self) -> &[(String, String)] {
        &self.environment
    }

    /// How many listeners it asks for.
    pub fn listeners(&self) -> usize {
        let server = &self.sections["server"];
        ["http", "https"].iter().map(|key| count_addresses(&server[*key])).sum()
    }

    /// Writes the certificates and the file into `folder`.
    pub fn write(&self, folder: &Path) {
        for site in &self.sites {
            site.write_certificate(folder);
        }
        write_file(&folder.join("portcullis.toml"), &self.text(folder), 0o644);
    }

    /// The file, with every path in `folder`.
    pub fn text(&self, folder: &Path) -> String {
        let folder_name = folder.display();
        let mut sections = self.sections.clone();
        for (section, key, value) in [
            ("log", "access", format!("'{folder_name}/access.log'")),
            ("admin", "socket", format!("'{folder_name}/control.sock'")),
            ("acme", "storage", format!("'{folder_name}/storage'")),
        ] {
            sections.entry(section).or_default().entry(key.to_owned()).or_insert(value);
        }
        let mut text = String::new();
        for (section, keys) in &sections {
            writeln!(text, "[{section}]").unwrap();
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").unwrap();
            }
        }
        for site in &self.sites {
            text.push_str(&site.text());
        }
        text
    }

    fn set(mut self, section: &'static str, line: &str) -> Self {
        let (key, value) = key_and_value(line);
        self.sections.entry(section).or_default().insert(key, value);
        self
    }
}

impl Site {
    /// A site with this name.
    pub fn named(host: &str) -> Self {
        Self { hosts: vec![host.to_owned()], keys: BTreeMap::new(), routes: Vec::new() }
    }

    /// The same site under one more name.
    pub fn and(mut self, host: &str) -> Self {
        self.hosts.push(host.to_owned());
        self
    }

    /// Forwards to this application.
    pub fn to(self, target: &impl ToString) -> Self {
        let target = target.to_string();
        self.key(&format!("to = '{target}'"))
    }

    /// Forwards requests under this path to that application.
    pub fn route(self, path: &str, target: &impl ToString) -> Self {
        self.route_with(path, target, "")
    }

    /// The same, with further keys of the route.
    pub fn route_with(mut self, path: &str, target: &impl ToString, keys: &str) -> Self {
        let target = target.to_string();
        let text = format!("[[site.route]]\npath = '{path}'\nto = '{target}'\n{keys}\n");
        self.routes.push(text);
        self
    }

    /// Serves on plain HTTP too, instead of redirecting.
    pub fn on_plain_http(self) -> Self {
        self.key("redirect = 'off'")
    }

    /// Sets a key: `"hsts = '1y'"`.
    pub fn key(mut self, line: &str) -> Self {
        let (key, value) = key_and_value(line);
        self.keys.insert(key, value);
        self
    }

    fn text(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|host| format!("'{host}'")).collect();
        let mut text = format!("[[site]]\nhost = [{}]\n", hosts.join(", "));
        let mut keys = self.keys.clone();
        let stem = self.stem();
        keys.entry("tls".to_owned())
            .or_insert(format!("{{ cert = 'certs/{stem}.pem', key = 'certs/{stem}.key' }}"));
        for (key, value) in keys {
            writeln!(text, "{key} = {value}").unwrap();
        }
        text + &self.routes.concat()
    }

    fn stem(&self) -> String {
        self.hosts[0].replace('*', "any")
    }

    fn write_certificate(&self, folder: &Path) {
        let cert = folder.join("certs").join(format!("{}.pem", self.stem()));
        if self.keys.contains_key("tls") || cert.exists() {
            return;
        }
        let names: Vec<_> = self.hosts.iter().map(|host| host.replace('*', "any")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        write_pair(&cert, &pki::issue(&names));
    }
}

/// Writes `pair` as `cert`, a `.pem`, and the `.key` beside it.
pub fn write_pair(cert: &Path, pair: &pki::Pair) {
    let folder = cert.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    open_to_proxy(folder, 0o755);
    write_file(&cert.with_extension("key"), &pair.key, 0o600);
    write_file(cert, &pair.cert, 0o644);
}

/// Puts a whole file in place at once.
pub fn write_file(path: &Path, text: &str, mode: u32) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    open_to_proxy(&draft, mode);
    std::fs::rename(&draft, path).unwrap();
}

fn key_and_value(line: &str) -> (String, String) {
    let (key, value) = line.split_once('=').expect("key = value");
    (key.trim().to_owned(), value.trim().to_owned())
}

fn count_addresses(value: &str) -> usize {
    if value.starts_with('[') { value.matches('\'').count() / 2 } else { 1 }
}
