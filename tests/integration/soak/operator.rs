//! The operator: a reload each second, wrong files, other certificates, logs that are rotated, an
//! application that is restarted.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::apps::{ABSENT, Apps, FAULTY, RESTARTING, RESTARTING_H2};
use super::dice::Dice;
use super::ledger::Ledger;
use super::world::{PLAIN_SITE, SITE};
use crate::harness::setup::{write_file, write_pair};
use crate::harness::tools::{stderr, stdout};
use crate::harness::{Proxy, Setup, Site, pki};

/// Whoever has the proxy and the applications in hand.
pub struct Operator<'a> {
    /// The proxy.
    pub proxy: &'a mut Proxy,
    /// The applications.
    pub apps: &'a mut Apps,
    /// What was done.
    pub ledger: &'a Ledger,
    dice: Dice,
    second_port: u16,
    rotations: usize,
    certificates: Certificates,
    due: Due,
}

/// What the certificate's files hold.
#[derive(PartialEq)]
enum Certificates {
    Right,
    Broken,
}

/// When things are done next.
struct Due {
    certificates: Instant,
    restart: Instant,
    rotation: Instant,
}

impl<'a> Operator<'a> {
    /// Takes over.
    pub fn new(
        proxy: &'a mut Proxy,
        apps: &'a mut Apps,
        ledger: &'a Ledger,
        (seed, second_port): (u64, u16),
    ) -> Self {
        let now = Instant::now();
        let due = Due {
            certificates: now + Duration::from_secs(4),
            restart: now + Duration::from_secs(2),
            rotation: now + Duration::from_secs(10),
        };
        let dice = Dice::new(seed, "operator", 0);
        let certificates = Certificates::Right;
        Self { proxy, apps, ledger, dice, second_port, rotations: 0, certificates, due }
    }

    /// Does what is due. To be called each second.
    pub fn work(&mut self) {
        let now = Instant::now();
        if now >= self.due.certificates {
            self.swap_certificates();
            self.due.certificates = now + Duration::from_secs(self.dice.range(2, 9));
        }
        if now >= self.due.restart {
            let which = self.dice.range(0, 2) as usize;
            self.apps.restarting[which].stop();
            thread::sleep(self.dice.pause(700));
            self.apps.restarting[which].restart();
            self.ledger.operated("application restarted");
            self.due.restart = now + Duration::from_secs(self.dice.range(2, 7));
        }
        if now >= self.due.rotation {
            self.rotate();
            self.due.rotation = now + Duration::from_secs(20);
        }
        self.reload();
        self.apps.forget();
    }

    /// Leaves everything as it was at the start.
    pub fn tidy_up(&mut self) {
        self.write_certificate();
        let setup = setup(0, self.apps, self.second_port);
        self.proxy.rewrite(|_| setup);
        let output = self.proxy.reload(&[]);
        if !output.status.success() {
            self.ledger.unexplained("reload", "a right file was refused", &stderr(&output));
        }
    }

    fn reload(&mut self) {
        let is_wrong = self.dice.one_in(8);
        if is_wrong {
            self.proxy.rewrite_raw("[server]\nhtpp = ':80'\n");
        } else {
            let setup = setup(self.dice.range(0, 2), self.apps, self.second_port);
            self.proxy.rewrite(|_| setup);
        }
        if self.dice.one_in(3) {
            self.proxy.signal(Signal::HUP);
            self.ledger.operated("reload by HUP");
            return;
        }
        let output = self.proxy.reload(&[]);
        let said = stderr(&output) + &stdout(&output);
        match (is_wrong, output.status.code()) {
            (true, Some(78)) => self.ledger.operated("wrong file refused"),
            (false, Some(0)) => self.ledger.operated("reload by the verb"),
            (false, _) if self.certificates == Certificates::Broken => {
                self.ledger.operated("broken certificate refused");
            }
            (true, _) => self.ledger.unexplained("reload", "a wrong file was not refused", &said),
            (false, _) => self.ledger.unexplained("reload", "a right file was refused", &said),
        }
    }

    fn swap_certificates(&mut self) {
        if self.certificates == Certificates::Broken || self.dice.one_in(2) {
            self.write_certificate();
            self.ledger.operated("certificate swapped");
            return;
        }
        let cert = self.certificate();
        let text = std::fs::read_to_string(&cert).unwrap();
        match self.dice.next() % 3 {
            0 => write_file(&cert, &text[..text.len() / 3], 0o644),
            1 => write_file(&cert.with_extension("key"), &pki::issue(&[SITE]).key, 0o600),
            _ => std::fs::remove_file(&cert).unwrap(),
        }
        self.certificates = Certificates::Broken;
        self.ledger.operated("certificate broken");
    }

    fn write_certificate(&mut self) {
        write_pair(&self.certificate(), &pki::issue(&[SITE]));
        self.certificates = Certificates::Right;
    }

    fn certificate(&self) -> PathBuf {
        self.proxy.path(&format!("certs/{SITE}.pem"))
    }

    fn rotate(&mut self) {
        self.rotations += 1;
        let away = self.proxy.path(&format!("access.log.{}", self.rotations));
        std::fs::rename(self.proxy.path("access.log"), away).unwrap();
        self.proxy.signal(Signal::USR1);
        self.ledger.operated("log rotated");
    }
}

/// One of the two right configurations.
pub fn setup(variant: u64, apps: &Apps, second_port: u16) -> Setup {
    let [one, two] = &apps.healthy;
    let with_routes = |site: Site| {
        site.route("/grpc", &apps.grpc)
            .route(&format!("/s/{FAULTY}"), &apps.faulty)
            .route_with(&format!("/s/{FAULTY}/stall"), &apps.faulty, "upstream_timeout = '2s'")
            .route_with(&format!("/s/{ABSENT}"), &apps.absent, "hold = '200ms'")
            .route(&format!("/s/{RESTARTING}"), &apps.restarting[0])
            .route(&format!("/s/{RESTARTING_H2}"), &apps.restarting[1])
    };
    let setup = Setup::new()
        .admin("metrics = '127.0.0.1:0'")
        .limits("request_header_timeout = '20s'")
        .limits("tls_handshake_timeout = '20s'");
    if variant == 0 {
        return setup
            .site(with_routes(Site::named(SITE).to(one)))
            .site(with_routes(Site::named(PLAIN_SITE).to(two).on_plain_http()));
    }
    let both = format!("to = ['{one}', '{two}']");
    setup
        .server(&format!("http = ['127.0.0.1:0', '127.0.0.1:{second_port}']"))
        .log("format = 'json'")
        .limits("header_count = 90")
        .site(with_routes(Site::named(SITE).key(&both)).key("hsts = '1h'"))
        .site(with_routes(Site::named(PLAIN_SITE).key(&both).on_plain_http()))
        .site(Site::named("other.test").to(two))
}
