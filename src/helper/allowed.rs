//! What the configuration file allows the helper to do.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::Refused;
use super::hook::Errand;
use crate::config::target::Address;
use crate::config::{self, Config, Dns, Hook, Listen, Writer};
use crate::tls::acme;
use crate::tls::files::handed::handed;

/// Applications, and files, that are remembered at most.
const MOST: usize = 65_536;

/// The file, and the applications that it names.
#[derive(Debug)]
pub(super) struct Allowed {
    /// `None` where the configuration came from the command line: nothing can change then.
    file: Option<PathBuf>,
    /// All that it has named since the start: what runs may be older than the file, and an
    /// application that was named once could have been connected to then.
    applications: HashSet<(String, u16)>,
    /// The files of certificates and keys that it has named since the start.
    files: HashSet<PathBuf>,
    /// The hook as the file had it when it was last right, and the names that it may write.
    hook: Option<Permit>,
    /// What the file looked like when it was last read.
    seen: Option<Stamp>,
}

/// What the file says of hooks.
#[derive(Clone, Debug)]
struct Permit {
    hook: Hook,
    patience: Duration,
    names: HashSet<String>,
}

/// Device, inode, time of the last change, size.
type Stamp = (u64, u64, i64, i64, u64);

impl Allowed {
    pub(super) fn by(file: Option<PathBuf>) -> Self {
        Self { file, applications: HashSet::new(), files: HashSet::new(), hook: None, seen: None }
    }

    /// The file, open for reading.
    pub(super) fn open(&self) -> Result<File, Refused> {
        Ok(open(self.path()?)?)
    }

    /// A file of certificates or keys that the configuration file names, open for reading.
    pub(super) fn open_named(&mut self, path: &Path) -> Result<File, Refused> {
        if !self.files.contains(path) && self.has_changed() {
            self.config()?;
        }
        if self.files.contains(path) {
            return Ok(open(path)?);
        }
        let path = path.display().to_string();
        let path = path.escape_debug();
        Err(Refused::because(format!("the configuration names no file {path} of certificates")))
    }

    /// What the file says now.
    pub(super) fn config(&mut self) -> Result<Config, Refused> {
        let path = self.path()?;
        let stamp = stamp(path);
        let loaded = config::load_opened(path, self.open().map_err(|refused| into_io(&refused)));
        let config = loaded.map_err(|problems| Refused::because(problems.to_string()))?.config;
        self.seen = stamp.ok();
        self.note(&config);
        Ok(config)
    }

    /// Whether an application of the file is at `address` when it is called `host` there.
    pub(super) fn may_connect(&mut self, host: &str, address: SocketAddr) -> Result<(), Refused> {
        if !self.names(host, address) && self.has_changed() {
            self.config()?;
        }
        if self.names(host, address) {
            return Ok(());
        }
        Err(Refused::because(format!("the configuration names no application {host} at {address}")))
    }

    /// The hook of the file and how long it may run, for a name that the file wants a certificate
    /// for and for what a proof looks like. A file that is broken just now takes nothing away.
    pub(super) fn hook(&mut self, name: &str, value: &str) -> Result<Errand, Refused> {
        if let Err(refused) = self.config()
            && self.hook.is_none()
        {
            return Err(refused);
        }
        let Some(permit) = &self.hook else {
            return Err(Refused::because("the configuration file has no `exec` in [acme.dns]"));
        };
        if !permit.names.contains(name) {
            let name = name.escape_debug();
            return Err(Refused::because(format!("the file wants no certificate for {name}")));
        }
        if !is_proof(value) {
            return Err(Refused::because("this is no proof of a name"));
        }
        Ok(Errand { hook: permit.hook.clone(), patience: permit.patience })
    }

    fn path(&self) -> Result<&Path, Refused> {
        let none = || Refused::because("there is no configuration file");
        self.file.as_deref().ok_or_else(none)
    }

    fn has_changed(&self) -> bool {
        let now = self.path().ok().and_then(|path| stamp(path).ok());
        now.is_none() || now != self.seen
    }

    fn note(&mut self, config: &Config) {
        self.hook = permit(config);
        let targets = config.sites.iter().flat_map(|site| &site.routes).flat_map(|r| &r.to);
        let named: HashSet<_> = targets
            .filter_map(|target| match &target.address {
                Address::Tcp(host, port) => Some((host.clone(), *port)),
                Address::Unix(_) => None,
            })
            .collect();
        if self.applications.len() + named.len() > MOST {
            self.applications.clear();
        }
        self.applications.extend(named);
        let files = handed(config);
        if self.files.len() + files.len() > MOST {
            self.files.clear();
        }
        self.files.extend(files);
    }

    /// An application by its IP address is at this one; one by its name is wherever the server
    /// says that the name leads, on its own port. The port is what a sandbox limits, too.
    fn names(&self, host: &str, address: SocketAddr) -> bool {
        let is_there = host.parse::<IpAddr>().is_ok_and(|ip| ip == address.ip());
        let is_name = host.parse::<IpAddr>().is_err();
        (is_there || is_name) && self.applications.contains(&(host.to_owned(), address.port()))
    }
}

fn permit(config: &Config) -> Option<Permit> {
    let Dns { writer: Writer::Hook(hook), propagation, .. } = config.acme.dns.as_ref()? else {
        return None;
    };
    let names = acme::wanted(config).into_iter().flat_map(|wanted| wanted.names);
    let names = names.map(|name| acme::record_of(&name)).collect();
    Some(Permit { hook: hook.clone(), patience: *propagation, names })
}

/// A SHA-256 digest in base64url without padding (RFC 8555 §8.4).
fn is_proof(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    value.len() == 43 && value.bytes().all(plain)
}

/// The address of the file that is written like `listen` among those of `kind`.
pub(super) fn listener(config: &Config, kind: &str, listen: &str) -> Option<Listen> {
    let list = match kind {
        "http" => &config.server.http,
        "https" => &config.server.https,
        _ => return None,
    };
    list.iter().copied().find(|known| known.to_string() == listen)
}

/// Opens without waiting: a FIFO without a writer would keep us.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let about = fs::metadata(path)?;
    Ok((about.dev(), about.ino(), about.mtime(), about.mtime_nsec(), about.size()))
}

fn into_io(refused: &Refused) -> io::Error {
    refused
        .errno
        .map_or_else(|| io::Error::other(refused.text.clone()), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn site(to: &str) -> String {
        format!("[server]\nhttps = []\n[[site]]\nhost = 'a.test'\nredirect = 'off'\nto = {to}\n")
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_applications_of_the_file_are_connected_to() {
        let (_folder, path) = file(&site("['127.0.0.1:3000', 'app.internal:4000']"));
        let mut allowed = Allowed::by(Some(path));
        assert!(allowed.may_connect("127.0.0.1", at("127.0.0.1:3000")).is_ok());
        assert!(allowed.may_connect("app.internal", at("192.0.2.7:4000")).is_ok());
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:3001"),
            ("127.0.0.1", "192.0.2.7:3000"),
            ("127.0.0.2", "127.0.0.2:3000"),
            ("app.internal", "192.0.2.7:4001"),
            ("other.internal", "192.0.2.7:4000"),
        ] {
            let refused = allowed.may_connect(host, at(address)).unwrap_err();
            assert!(refused.text.contains("no application"), "{refused}");
        }
    }

    #[test]
    fn a_changed_file_adds_and_a_broken_one_takes_nothing_away() {
        let (_folder, path) = file(&site("'127.0.0.1:3000'"));
        let mut allowed = Allowed::by(Some(path.clone()));
        assert!(allowed.may_connect("127.0.0.1", at("127.0.0.1:3000")).is_ok());
        fs::write(&path, site("'127.0.0.1:5000'")).unwrap();
        assert!(allowed.may_connect("127.0.0.1", at("127.0.0.1:5000")).is_ok());
        fs::write(&path, "broken").unwrap();
        assert!(allowed.may_connect("127.0.0.1", at("127.0.0.1:3000")).is_ok(), "it may run yet");
        assert!(allowed.may_connect("127.0.0.1", at("127.0.0.1:6000")).is_err());
    }

    #[test]
    fn only_listeners_of_the_file_are_bound() {
        let text = "[server]\nhttp = ':8080'\nhttps = []\n[[site]]\nhost = 'a.test'\n\
                    redirect = 'off'\nto = '3000'\n";
        let (_folder, path) = file(text);
        let config = Allowed::by(Some(path)).config().unwrap();
        assert_eq!(listener(&config, "http", ":8080"), Some(Listen::Any(8080)));
        for (kind, listen) in [("http", ":8081"), ("https", ":8080"), ("smtp", ":8080")] {
            assert_eq!(listener(&config, kind, listen), None);
        }
    }

    #[test]
    fn a_hook_is_run_for_names_and_proofs_alone() {
        const PROOF: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        let text = |hook: &str| {
            format!(
                "[acme]\ndirectory = 'https://192.0.2.9:14000/dir'\nchallenges = 'dns-01'\n\
                 [acme.dns]\nexec = ['{hook}', 'one']\npropagation = '7s'\nzone = 'shop.test'\n\
                 [[site]]\nhost = ['shop.test', '*.a.shop.test', 'other.test']\nto = '3000'\n\
                 [[site]]\nhost = 'local.shop.test'\ntls = 'local'\nto = '3000'\n"
            )
        };
        let (_folder, path) = file(&text("/bin/sh"));
        let mut allowed = Allowed::by(Some(path.clone()));
        for name in ["_acme-challenge.shop.test", "_acme-challenge.a.shop.test"] {
            let errand = allowed.hook(name, PROOF).unwrap();
            assert_eq!(errand.hook.program, Path::new("/bin/sh"));
            assert_eq!(errand.hook.arguments, ["one"]);
            assert_eq!(errand.patience, Duration::from_secs(7));
        }
        for name in
            ["shop.test", "_acme-challenge.other.test", "_acme-challenge.local.shop.test", ""]
        {
            let refused = allowed.hook(name, PROOF).err().unwrap();
            assert!(refused.text.contains("wants no certificate for"), "{refused}");
        }
        for value in
            ["", "x", &format!("{PROOF}="), &PROOF.replace('L', "'"), &PROOF.replace('L', "\n")]
        {
            assert!(allowed.hook("_acme-challenge.shop.test", value).is_err(), "{value:?}");
        }
        let runs = |allowed: &mut Allowed| allowed.hook("_acme-challenge.shop.test", PROOF).ok();
        fs::write(&path, "broken").unwrap();
        assert!(runs(&mut allowed).is_some(), "it may be mended in a moment");
        fs::write(&path, text("/bin/true")).unwrap();
        assert_eq!(runs(&mut allowed).unwrap().hook.program, Path::new("/bin/true"));
        fs::write(&path, site("'127.0.0.1:3000'")).unwrap();
        assert!(runs(&mut allowed).is_none(), "the file has none any more");
    }

    #[test]
    fn without_a_file_nothing_is_allowed() {
        let mut allowed = Allowed::by(None);
        assert!(allowed.open().is_err() && allowed.config().is_err());
        assert!(allowed.may_connect("127.0.0.1", at("127.0.0.1:3000")).is_err());
    }

    #[test]
    fn only_certificates_and_keys_of_the_file_are_opened() {
        let text = |name: &str| {
            format!(
                "[server]\nhttps = ':8443'\n[[site]]\nhost = 'a.test'\nto = '3000'\n\
                 tls = {{ cert = '{name}.pem', key = '{name}.key' }}\n"
            )
        };
        let (folder, path) = file(&text("a"));
        let at = |name: &str| folder.path().join(name);
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for name in ["a.pem", "a.key", "b.pem", "b.key", "other"] {
            fs::write(at(name), if name.ends_with("pem") { &cert } else { &key }).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut allowed = Allowed::by(Some(path.clone()));
        let opened = allowed.open_named(&at("a.pem")).unwrap();
        assert_eq!(io::read_to_string(opened).unwrap(), cert);
        assert!(allowed.open_named(&at("a.key")).is_ok());
        for path in [at("b.pem"), at("other"), at("x/../a.pem"), path.clone(), "/etc/passwd".into()]
        {
            let refused = allowed.open_named(&path).unwrap_err();
            assert!(refused.text.contains("names no file"), "{refused}");
        }
        fs::write(&path, text("b")).unwrap();
        assert!(allowed.open_named(&at("b.pem")).is_ok(), "a reload is about to want it");
        fs::write(&path, "broken").unwrap();
        assert!(allowed.open_named(&at("a.pem")).is_ok(), "it may run yet");
        assert!(allowed.open_named(&at("other")).is_err());
    }

    #[test]
    fn a_pipe_in_place_of_the_file_keeps_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        let refused = Allowed::by(Some(path)).config().unwrap_err();
        assert!(!refused.text.is_empty());
    }
}
