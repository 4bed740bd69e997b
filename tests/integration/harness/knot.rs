//! Knot: a name server of another make that takes signed updates of one zone.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::proxy::{Collected, collect};
use super::{eventually, tools};

/// The name and the secret of the key that may update the zone.
pub const KEY: (&str, &str) = ("acme-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");

/// A running name server on 127.0.0.1. Dropping it ends it.
pub struct Knot {
    child: Option<Child>,
    words: Collected,
    port: u16,
    _folder: TempDir,
}

impl Knot {
    /// Serves `zone`; `None`, with a word, where Knot is not installed.
    #[track_caller]
    pub fn start(zone: &str) -> Option<Self> {
        Self::start_with("hmac-sha256", &[(zone, "")])
    }

    /// Serves zones with these records besides, and takes this algorithm.
    #[track_caller]
    pub fn start_with(algorithm: &str, zones: &[(&str, &str)]) -> Option<Self> {
        let knotd = tools::find("knotd")?;
        tools::find("kdig")?;
        // Its own: Knot gives up the right to write to what another user owns.
        let folder = tempfile::Builder::new().prefix("portcullis-knot-").tempdir().unwrap();
        let port = tools::own_port();
        let home = folder.path().display();
        let (key, secret) = KEY;
        let mut settings = format!(
            "server:\n    rundir: \"{home}\"\n    listen: 127.0.0.1@{port}\n\
             log:\n  - target: stderr\n    any: info\n\
             database:\n    storage: \"{home}\"\n\
             key:\n  - id: {key}\n    algorithm: {algorithm}\n    secret: {secret}\n\
             acl:\n  - id: acme\n    key: {key}\n    action: update\n    update-type: [TXT]\n\
             template:\n  - id: default\n    storage: \"{home}\"\n    file: \"%s.zone\"\n\
             zone:\n"
        );
        for (zone, records) in zones {
            settings.push_str(&format!("  - domain: {zone}\n    acl: acme\n"));
            let records = format!(
                "$ORIGIN {zone}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\n\
                 ns A 127.0.0.1\n{records}\n"
            );
            std::fs::write(folder.path().join(format!("{zone}.zone")), records).unwrap();
        }
        std::fs::write(folder.path().join("knot.conf"), settings).unwrap();
        let mut command = Command::new(knotd.as_std().get_program());
        command.arg("-c").arg(folder.path().join("knot.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let words = collect(child.stderr.take().unwrap());
        let knot = Self { child: Some(child), words, port, _folder: folder };
        eventually("Knot to serve the zone", || {
            let serves = |(zone, _): &(&str, &str)| knot.ask(zone, "SOA").contains("hostmaster");
            TcpStream::connect(knot.place()).is_ok() && zones.iter().all(serves)
        });
        Some(knot)
    }

    /// Where it is.
    pub fn place(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// What `[acme.dns]` says to write to it with this secret.
    pub fn dns(&self, secret: &str) -> String {
        let (key, place) = (KEY.0, self.place());
        format!("dns = {{ server = '{place}', tsig = {{ name = '{key}', secret = '{secret}' }} }}")
    }

    /// The records of `name`, as another client reads them.
    #[track_caller]
    pub fn ask(&self, name: &str, kind: &str) -> String {
        let mut kdig = tools::find("kdig").unwrap();
        let port = self.port.to_string();
        kdig.args(["@127.0.0.1", "-p", &port, "+tcp", "+short", name, kind]);
        tools::stdout(&tools::run(&mut kdig))
    }

    /// What it has said.
    pub fn words(&self) -> String {
        self.words.lock().unwrap().clone()
    }

    /// Ends it.
    pub fn close(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        self.close();
        if std::thread::panicking() {
            eprintln!("Knot said:\n{}", self.words());
        }
    }
}
