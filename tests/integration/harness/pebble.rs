//! Pebble: an ACME server of another make, with its own DNS. It validates at the ports of the proxy.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::proxy::{Collected, collect};
use super::setup::{Site, write_file};
use super::{Client, Request, Setup, eventually, pki, tools};

/// What an authority is to be like.
#[derive(Clone, Default)]
pub struct Pebbles {
    environment: Vec<(String, String)>,
    /// Seconds.
    life: Option<u32>,
    bound: bool,
    resolver: Option<SocketAddr>,
    closed: bool,
}

/// A running authority. Dropping it ends it.
pub struct Pebble {
    child: Option<Child>,
    dns: Option<Child>,
    folder: TempDir,
    words: Collected,
    like: Pebbles,
    places: Places,
}

/// Where everything is, on 127.0.0.1.
#[derive(Clone, Copy)]
struct Places {
    directory: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
    http: u16,
    https: u16,
}

/// The identifier and the key of the account that [`Pebbles::bound`] takes.
pub const EAB: (&str, &str) =
    ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

impl Pebbles {
    /// As it is, without the pauses before it validates.
    pub fn new() -> Self {
        Self::default().with("PEBBLE_VA_NOSLEEP", "1")
    }

    /// Sets a variable of its environment.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Issues certificates that live so many seconds.
    pub fn life(self, seconds: u32) -> Self {
        Self { life: Some(seconds), ..self }
    }

    /// Wants every account bound to [`EAB`].
    pub fn bound(self) -> Self {
        Self { bound: true, ..self }
    }

    /// Asks this name server, and not its own.
    pub fn resolver(self, place: SocketAddr) -> Self {
        Self { resolver: Some(place), ..self }
    }

    /// Not started yet.
    pub fn closed(self) -> Self {
        Self { closed: true, ..self }
    }

    /// Starts it; `None`, with a word, where Pebble is not installed.
    #[track_caller]
    pub fn start(self) -> Option<Pebble> {
        self.start_beside(None)
    }

    /// The same, validating at the same ports as `other`.
    #[track_caller]
    pub fn start_beside(self, other: Option<&Pebble>) -> Option<Pebble> {
        tools::find("pebble")?;
        tools::find("pebble-challtestsrv")?;
        let mut places = Places::choose();
        if let Some(other) = other {
            (places.http, places.https) = (other.places.http, other.places.https);
        }
        let folder = super::proxy::folder();
        let pair = pki::issue(&["localhost", "127.0.0.1"]);
        write_file(&folder.path().join("cert.pem"), &pair.cert, 0o644);
        write_file(&folder.path().join("key.pem"), &pair.key, 0o644);
        write_file(&folder.path().join("roots.pem"), &pki::root_pem(), 0o644);
        let closed = self.closed;
        let mut pebble = Pebble {
            child: None,
            dns: None,
            folder,
            words: Collected::default(),
            like: self,
            places,
        };
        // Another process may take one of the ports between the choice and the start.
        for attempt in 0.. {
            if closed || pebble.try_open() {
                break;
            }
            assert!(attempt < 3 && other.is_none(), "Pebble does not listen");
            pebble.close();
            pebble.places = Places::choose();
        }
        Some(pebble)
    }
}

impl Pebble {
    /// Starts it (again): what it knew is gone.
    #[track_caller]
    pub fn open(&mut self) {
        assert!(self.try_open(), "Pebble does not listen");
    }

    /// The same; whether it listens, and has not ended instead.
    fn try_open(&mut self) -> bool {
        let places = self.places;
        let mut dns =
            Command::new(tools::find("pebble-challtestsrv").unwrap().as_std().get_program());
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        dns.args(["-dns01", &format!("127.0.0.1:{}", places.dns)]);
        dns.args(["-management", &format!("127.0.0.1:{}", places.dns_management)]);
        dns.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.dns = Some(dns.spawn().unwrap());
        let file = self.folder.path().join("pebble.json");
        std::fs::write(&file, self.configuration()).unwrap();
        let mut command = Command::new(tools::find("pebble").unwrap().as_std().get_program());
        command.current_dir(self.folder.path()).arg("-config").arg(file);
        let own = SocketAddr::from(([127, 0, 0, 1], places.dns));
        command.args(["-dnsserver", &self.like.resolver.unwrap_or(own).to_string()]);
        command.envs(self.like.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        self.words = collect(child.stdout.take().unwrap());
        self.child = Some(child);
        let ports = [places.directory, places.management, places.dns_management];
        let mut listens = false;
        eventually("Pebble to listen or to end", || {
            let ended = |child: &mut Option<Child>| {
                child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
            };
            let over = ended(&mut self.child) || ended(&mut self.dns);
            let connects = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
            listens = !over && ports.iter().all(connects);
            over || listens
        });
        listens
    }

    /// Ends it.
    pub fn close(&mut self) {
        for mut child in [self.child.take(), self.dns.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A proxy where it validates, with this site and others with `tls = 'auto'`, that knows it.
    pub fn setup(&self, site: Site) -> Setup {
        self.setup_at(&self.directory(), site)
    }

    /// The same with another directory URL.
    pub fn setup_at(&self, directory: &str, site: Site) -> Setup {
        Setup::new()
            .server(&format!("http = '127.0.0.1:{}'", self.places.http))
            .server(&format!("https = '127.0.0.1:{}'", self.places.https))
            .acme(&format!("directory = '{directory}'"))
            .acme(&format!("ca = '{}'", self.roots().display()))
            .site(site.key("tls = 'auto'"))
    }

    /// Its directory URL.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.places.directory)
    }

    /// Its directory URL behind something else on another port.
    pub fn directory_at(&self, place: SocketAddr) -> String {
        format!("https://localhost:{}/dir", place.port())
    }

    /// Where its directory is.
    pub fn place(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.places.directory))
    }

    /// The file of the roots that vouch for its directory.
    pub fn roots(&self) -> PathBuf {
        self.folder.path().join("roots.pem")
    }

    /// The root of the certificates that it issues.
    #[track_caller]
    pub fn issuer(&self) -> String {
        let place = SocketAddr::from(([127, 0, 0, 1], self.places.management));
        Client::secure(place, "localhost").get("/roots/0").text()
    }

    /// What it says of the certificate with this serial number: `Valid`, or `Revoked` with the code
    /// of the reason.
    #[track_caller]
    pub fn status_of(&self, serial: &str) -> (String, Option<u64>) {
        let place = SocketAddr::from(([127, 0, 0, 1], self.places.management));
        let path = format!("/cert-status-by-serial/{}", serial.replace(':', ""));
        let text = Client::secure(place, "localhost").get(&path).text();
        let told: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        (told["Status"].as_str().unwrap().to_owned(), told["Reason"].as_u64())
    }

    /// Has every name lead to this address from now on, as far as it can see.
    #[track_caller]
    pub fn names_lead_to(&self, address: &str) {
        let place = SocketAddr::from(([127, 0, 0, 1], self.places.dns_management));
        let body = serde_json::json!({ "ip": address }).to_string();
        let request = Request::post("/set-default-ipv4").body(body).unwrap();
        let answer = Client::plain(place, "localhost").send(request);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// How many accounts it has.
    pub fn accounts(&self) -> usize {
        self.words().matches("accounts in memory").count()
    }

    /// How many orders were made.
    pub fn orders(&self) -> usize {
        self.words().matches("orders in the db").count()
    }

    /// How many certificates it has issued.
    pub fn issued(&self) -> usize {
        self.words().matches("Issued certificate serial").count()
    }

    /// What it has said.
    pub fn words(&self) -> String {
        self.words.lock().unwrap().clone()
    }

    fn configuration(&self) -> String {
        let places = self.places;
        let mut inner = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{}", places.directory),
            "managementListenAddress": format!("127.0.0.1:{}", places.management),
            "certificate": "cert.pem",
            "privateKey": "key.pem",
            "httpPort": places.http,
            "tlsPort": places.https,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self.like.bound,
            "externalAccountMACKeys": { (EAB.0): EAB.1 },
        });
        if let Some(life) = self.like.life {
            inner["certificateValidityPeriod"] = life.into();
        }
        serde_json::json!({ "pebble": inner }).to_string()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.close();
        if std::thread::panicking() {
            eprintln!("Pebble said:\n{}", self.words());
        }
    }
}

impl Places {
    fn choose() -> Self {
        Self {
            directory: tools::own_port(),
            management: tools::own_port(),
            dns: tools::own_port(),
            dns_management: tools::own_port(),
            http: tools::own_port(),
            https: tools::own_port(),
        }
    }
}
