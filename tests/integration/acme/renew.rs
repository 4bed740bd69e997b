//! Certificates whose time comes.

use super::*;
use crate::harness::eventually_within;
use crate::harness::load::Load;
use crate::harness::pebble::Pebbles;

/// Every handshake and every request succeeds while `turns` certificates follow each other.
fn renewed_under_load(life: u32, turns: usize, patience: Duration) {
    let Some(pebble) = Pebbles::new().life(life).start() else { return };
    let origin = app();
    origin.route("/", "ok");
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let client = trusting(&proxy, &pebble.issuer());
    let load = Load::by([
        (client.clone(), true),
        (client.clone(), false),
        (client.clone().http2(), true),
        (client.http2(), false),
    ]);
    let first = pebble.issued();
    eventually_within(patience, "renewals", || pebble.issued() >= first + turns);
    let (answers, failures) = load.stop();
    assert!(answers > 0 && failures.is_empty(), "{answers} answers; {failures:#?}");
    assert_eq!(pebble.accounts(), 1);
    assert!(!proxy.words().contains("the next try is"), "{}", proxy.words());
}

#[test]
fn a_short_life_is_renewed_under_load_without_a_failure() {
    renewed_under_load(30, 2, TURNS);
}

#[test]
#[ignore = "takes four minutes"]
fn a_life_of_a_minute_is_renewed_for_minutes() {
    renewed_under_load(60, 5, Duration::from_secs(300));
}

#[test]
fn two_processes_ask_once_and_both_serve_it() {
    // Only one of them is where Pebble looks.
    let pebbles = Pebbles::new().with("PEBBLE_VA_ALWAYS_VALID", "1").life(30);
    let Some(pebble) = pebbles.start() else { return };
    let (origin, storage) = (app(), storage());
    let setup = pebble.setup(site(&origin)).acme(&kept_in(storage.path()));
    let other = setup.clone().server("http = '127.0.0.1:0'").server("https = '127.0.0.1:0'");
    let (one, other) = (setup.start(), other.start());
    expect_issued(&one, &pebble);
    expect_issued(&other, &pebble);
    assert_eq!((pebble.accounts(), pebble.issued()), (1, 1));
    eventually_within(TURNS, "a renewal", || pebble.issued() >= 2);
    let newest = || std::fs::read(storage.path().join("acme/shop.test.pem")).unwrap();
    let shows = |proxy: &Proxy, leaf: &[u8]| {
        let settings = crate::harness::pki::trusting_pem(
            &pebble.issuer(),
            &["http/1.1"],
            rustls::ALL_VERSIONS,
        );
        let wire = crate::harness::Wire::try_tls(proxy.https(), settings, NAME);
        wire.is_ok_and(|wire| &*wire.session().peer_certificates().unwrap()[0] == leaf)
    };
    eventually_within(TURNS, "both to show the new one", || {
        let text = newest();
        let pems = x509_parser::pem::Pem::iter_from_buffer(&text).filter_map(Result::ok);
        let leaf = pems.into_iter().find(|pem| pem.label == "CERTIFICATE").unwrap();
        shows(&one, &leaf.contents) && shows(&other, &leaf.contents)
    });
    assert!(pebble.issued() <= 3, "asked twice for the same: {}", pebble.issued());
}

#[test]
fn a_successor_takes_what_there_is_and_goes_on() {
    let Some(pebble) = Pebbles::new().life(30).start() else { return };
    let origin = app();
    let proxy = Proxy::start_copy(pebble.setup(site(&origin)));
    expect_issued(&proxy, &pebble);
    proxy.upgrade();
    trusting(&proxy, &pebble.issuer()).connect();
    assert_eq!(pebble.issued(), 1);
    eventually_within(TURNS, "a renewal", || pebble.issued() == 2);
    assert_eq!(pebble.accounts(), 1);
}

#[test]
fn a_damaged_certificate_is_set_aside_and_hurts_no_other() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, storage) = (app(), storage());
    let more = Site::named("more.test").to(&origin).key("tls = 'auto'");
    let setup = pebble.setup(site(&origin)).site(more).acme(&kept_in(storage.path()));
    let proxy = setup.clone().start();
    expect_issued(&proxy, &pebble);
    proxy.expect_words("has issued a certificate for more.test");
    drop(proxy);
    let entry = storage.path().join("acme/shop.test.pem");
    std::fs::write(&entry, "damaged").unwrap();
    let issued = pebble.issued();
    let proxy = setup.start();
    proxy.expect_words("acme/shop.test.pem is damaged");
    let client = Client::plain(proxy.https(), "more.test");
    client.trusting(pebble.issuer(), "more.test").connect();
    expect_issued(&proxy, &pebble);
    assert_eq!(pebble.issued(), issued + 1);
    assert_eq!(std::fs::read(entry.with_extension("pem.damaged")).unwrap(), b"damaged");
}
