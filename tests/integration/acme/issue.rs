//! From nothing to a certificate, and what a restart does.

use super::*;
use crate::harness::pebble::{EAB, Pebbles};
use crate::harness::{eventually, tools};

#[test]
fn a_site_serves_at_once_and_swaps_without_losing_a_connection() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    origin.route("/", "ok");
    let proxy = pebble.setup(site(&origin)).start();
    let stand_in = std::fs::read_to_string(proxy.path("storage/local/root.pem")).unwrap();
    let mut early = trusting(&proxy, &stand_in).try_connect().ok();
    proxy.expect_words("there is no certificate of an authority for shop.test yet");
    expect_issued(&proxy, &pebble);
    assert_eq!(trusting(&proxy, &pebble.issuer()).get("/").text(), "ok");
    if let Some(early) = &mut early {
        assert_eq!(early.get("/").text(), "ok", "a connection from before goes on");
    }
    let words = proxy.words();
    assert!(words.contains("has issued a certificate for shop.test"), "{words}");
    assert!(!words.contains("reloaded"), "{words}");
    let file = proxy.path("portcullis.toml");
    let status = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
    assert_eq!(status.status.code(), Some(0), "{}", tools::stdout(&status));
}

#[test]
fn a_restart_asks_for_nothing() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, storage) = (app(), storage());
    let setup = pebble.setup(site(&origin)).acme(&kept_in(storage.path()));
    for _ in 0..3 {
        let proxy = setup.clone().start();
        expect_issued(&proxy, &pebble);
        eventually("the ledger", || storage.path().join("acme/shop.test.json").exists());
    }
    assert_eq!((pebble.accounts(), pebble.orders(), pebble.issued()), (1, 1, 1));
}

#[test]
fn keys_are_private_and_of_the_kind_that_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let setup = pebble.setup(site(&origin).key("key_type = 'rsa2048'")).acme("key_type = 'p384'");
    let proxy = setup.site(Site::named("p.test").to(&origin).key("tls = 'auto'")).start();
    expect_issued(&proxy, &pebble);
    proxy.expect_words("has issued a certificate for p.test");
    let folder = proxy.path("storage/acme");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let leaf = |name: &str| {
        let text = std::fs::read(folder.join(name)).unwrap();
        let (_, leaf) = x509_parser::pem::Pem::iter_from_buffer(&text)
            .filter_map(Result::ok)
            .find(|pem| pem.label == "CERTIFICATE")
            .map(|pem| ((), pem.contents))
            .unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        parsed.public_key().algorithm.algorithm.to_id_string()
    };
    assert_eq!(leaf("shop.test.pem"), "1.2.840.113549.1.1.1", "RSA");
    assert_eq!(leaf("p.test.pem"), "1.2.840.10045.2.1", "ECDSA");
}

#[test]
fn an_account_is_bound_to_one_that_the_authority_knows() {
    let Some(pebble) = Pebbles::new().bound().start() else { return };
    let origin = app();
    let unbound = pebble.setup(site(&origin)).start();
    unbound.expect_words("set `eab`");
    drop(unbound);
    let (kid, key) = EAB;
    let bound = pebble
        .setup(site(&origin))
        .acme(&format!("eab = {{ kid = '{kid}', key = '{key}' }}"))
        .acme("email = 'ops@shop.test'")
        .start();
    expect_issued(&bound, &pebble);
    assert!(!bound.words().contains(key), "a secret in the log");
}

#[test]
fn the_authority_takes_its_time() {
    let pebbles = Pebbles::default().with("PEBBLE_VA_SLEEPTIME", "3");
    let Some(pebble) = pebbles.start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin).and("www.shop.test")).start();
    expect_issued(&proxy, &pebble);
}

#[test]
fn an_authority_that_has_forgotten_everything_gets_the_same_key() {
    let Some(mut pebble) = Pebbles::new().start() else { return };
    let (origin, storage) = (app(), storage());
    let setup = pebble.setup(site(&origin)).acme(&kept_in(storage.path()));
    let proxy = setup.clone().start();
    expect_issued(&proxy, &pebble);
    drop(proxy);
    pebble.close();
    pebble.open();
    let more = Site::named("more.test").to(&origin).key("tls = 'auto'");
    let proxy = setup.site(more).start();
    proxy.expect_words("has issued a certificate for more.test");
    assert_eq!(pebble.accounts(), 1);
}
