//! How names are proved, and who else asks.

use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{Wire, pki};

#[test]
fn without_a_plain_listener_names_are_proved_in_a_handshake() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).server("http = []").start();
    expect_issued(&proxy, &pebble);
}

#[test]
fn only_the_challenge_that_was_named_is_used() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let Some(pebble) = Pebbles::new().start() else { return };
        let origin = app();
        let proxy = pebble.setup(site(&origin)).acme(&format!("challenges = ['{challenge}']"));
        let proxy = proxy.start();
        expect_issued(&proxy, &pebble);
        let asked = proxy.access_log().iter().any(|line| line.contains("acme-challenge"));
        assert_eq!(asked, challenge == "http-01");
    }
}

#[test]
fn a_challenge_that_fails_is_followed_by_the_next() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    // Where Pebble looks over HTTP, something else answers.
    let place = pebble.setup(site(&origin));
    let http = place.listens_at("http");
    let stranger = std::net::TcpListener::bind(&http).unwrap();
    let proxy = place.server("http = '127.0.0.1:0'").start();
    let refuse = std::thread::spawn(move || {
        // Pebble asks, and is cut off.
        while let Ok((stream, _)) = stranger.accept() {
            drop(stream);
        }
    });
    expect_issued(&proxy, &pebble);
    let words = proxy.words();
    assert!(words.contains("shop.test could not be proved by http-01"), "{words}");
    drop(refuse);
}

/// No stranger learns anything, and nobody is asked in his place.
#[test]
fn who_asks_without_a_pending_challenge_is_answered_as_ever() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let client = Client::plain(proxy.http(), NAME);
    let answer =
        client.get("/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0");
    assert_eq!(answer.status, 308);
    let settings = pki::trusting_pem(&pebble.issuer(), &["acme-tls/1"], rustls::ALL_VERSIONS);
    let error = Wire::try_tls(proxy.https(), settings, NAME).map(drop).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}
