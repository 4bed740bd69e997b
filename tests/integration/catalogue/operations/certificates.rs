//! Certificate files that break while they are served: the last good pair goes on, and it shows.

use std::fs;
use std::path::Path;

use rcgen::KeyPair;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::stage::Stage;
use crate::harness::setup::{write_file, write_pair};
use crate::harness::{Client, Origin, Proxy, eventually, pki, tools};

/// What somebody does to the files; the folder has a fresh pair `new.pem`, `new.key` beside them.
type Damage = fn(&Path);

const CERT: &str = "app.test.pem";
const KEY: &str = "app.test.key";

const DAMAGES: &[(&str, Damage)] = &[
    ("the key of another pair", |folder| {
        let key = KeyPair::generate().unwrap().serialize_pem();
        write_file(&folder.join(KEY), &key, 0o600);
    }),
    ("empty", |folder| write_file(&folder.join(CERT), "", 0o644)),
    ("half-written", |folder| {
        let text = fs::read_to_string(folder.join("new.pem")).unwrap();
        write_file(&folder.join(CERT), &text[..text.len() / 3], 0o644);
    }),
    ("only the certificate of a new pair", |folder| replace(folder, "new.pem", CERT)),
    ("not to be read", |folder| {
        let text = fs::read_to_string(folder.join("new.pem")).unwrap();
        write_file(&folder.join(CERT), &text, 0);
    }),
    ("a link that leads nowhere", |folder| {
        fs::remove_file(folder.join(CERT)).unwrap();
        std::os::unix::fs::symlink("nowhere.pem", folder.join(CERT)).unwrap();
    }),
    ("expired", |folder| {
        let pair = pki::expired(&["app.test"]);
        write_pair(&folder.join(CERT), &pair);
    }),
    ("deleted", |folder| fs::remove_file(folder.join(CERT)).unwrap()),
    ("the key deleted", |folder| fs::remove_file(folder.join(KEY)).unwrap()),
    ("10 MB", |folder| {
        let text = fs::read_to_string(folder.join("new.pem")).unwrap();
        write_file(&folder.join(CERT), &text.repeat(10_000_000 / text.len()), 0o644);
    }),
    ("a pipe that nobody writes to", |folder| {
        fs::remove_file(folder.join(CERT)).unwrap();
        let mode = Mode::from_raw_mode(0o644);
        mknodat(CWD, folder.join(CERT), FileType::Fifo, mode, 0).unwrap();
    }),
    ("a folder", |folder| {
        fs::remove_file(folder.join(KEY)).unwrap();
        fs::create_dir(folder.join(KEY)).unwrap();
    }),
    ("a device without an end", |folder| {
        fs::remove_file(folder.join(CERT)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.join(CERT)).unwrap();
    }),
];

/// All at the same time, each in front of a proxy of its own: what is waited for is the next look.
pub fn hot_reload(stage: &Stage) {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxies: Vec<_> = DAMAGES.iter().map(|_| start(&origin)).collect();
    let before: Vec<_> = proxies.iter().map(shown).collect();
    for (proxy, (_, damage)) in proxies.iter().zip(DAMAGES) {
        damage(&proxy.path("certs"));
    }
    for ((proxy, (name, _)), before) in proxies.iter().zip(DAMAGES).zip(&before) {
        stage.case(name, || {
            eventually("it to be noticed", || !is_current(proxy));
            for _ in 0..3 {
                assert_eq!(&shown(proxy), before, "the last good one");
            }
            let output = status(proxy);
            assert!(output.contains("changed certificates are not served"), "{output}");
            assert!(!proxy.reload(&[]).status.success(), "nor does a reload take it");
            assert_eq!(&shown(proxy), before, "after the reload");
        });
    }
    for (proxy, (name, _)) in proxies.iter().zip(DAMAGES) {
        let folder = proxy.path("certs");
        let _ = fs::remove_dir(folder.join(KEY));
        for (from, to) in [("new.key", KEY), ("new.pem", CERT)] {
            if folder.join(from).exists() {
                replace(&folder, from, to);
            }
        }
        stage.case(&format!("{name}, and mended"), || {
            eventually("the new one", || is_current(proxy));
        });
    }
    for ((proxy, (name, _)), before) in proxies.iter().zip(DAMAGES).zip(&before) {
        stage.case(&format!("{name}, and a new pair"), || {
            assert_ne!(&shown(proxy), before);
        });
    }
}

fn start(origin: &Origin) -> Proxy {
    let setup = Proxy::to(origin).server("workers = 1").admin("metrics = '127.0.0.1:0'");
    let proxy = setup.start();
    write_pair(&proxy.path("certs/new.pem"), &pki::issue(&["app.test"]));
    proxy
}

fn replace(folder: &Path, from: &str, to: &str) {
    fs::rename(folder.join(from), folder.join(to)).unwrap();
}

/// The certificate that a client is shown, which it trusts and whose key the proxy has.
fn shown(proxy: &Proxy) -> Vec<u8> {
    let wire = proxy.tls_wire();
    wire.session().peer_certificates().unwrap()[0].to_vec()
}

fn is_current(proxy: &Proxy) -> bool {
    let page = Client::plain(proxy.metrics(), "localhost").get("/metrics").text();
    let name = "\nportcullis_certificates_last_read_successful ";
    page.split(name).nth(1).expect("the figure").starts_with('1')
}

fn status(proxy: &Proxy) -> String {
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
    tools::stdout(&output) + &tools::stderr(&output)
}
