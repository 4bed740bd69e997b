//! How names are proved, and who else asks.

use super::between::Between;
use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{Body, Request, Wire, eventually, pki};

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

/// Between the moment when the authority is told to look and the one when it does.
#[test]
fn a_pending_token_is_shown_to_who_asks_for_exactly_it() {
    let Some(pebble) = Pebbles::default().with("PEBBLE_VA_SLEEPTIME", "15").start() else { return };
    let between = Between::of(&pebble, serde_json::json!({}), |_| None);
    let origin = app();
    let other = Site::named("other.test").to(&origin);
    let proxy = between.setup(&pebble, &origin).site(other).start();
    let token = between.pending_token();
    let path = format!("/.well-known/acme-challenge/{token}");
    let ask = |method: &str, host: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        Client::plain(proxy.http(), host).send(request)
    };
    eventually("the token to be shown", || ask("GET", NAME, &path).status == 200);
    let answer = ask("GET", NAME, &path);
    assert!(answer.text().starts_with(&format!("{token}.")), "{}", answer.text());
    let head = ask("HEAD", NAME, &path);
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    assert_eq!(head.header("content-length"), answer.header("content-length"));
    for (method, host, path, status) in [
        ("POST", NAME, path.as_str(), 404),
        ("GET", "other.test", &path, 308),
        ("GET", NAME, &format!("{path}/"), 404),
        ("GET", NAME, &format!("{path}?x"), 404),
        ("GET", NAME, &format!("/x/..{path}"), 308),
        ("GET", NAME, &path.replace("acme-", "acme%2d"), 308),
    ] {
        let answer = ask(method, host, path);
        assert_eq!(answer.status, status, "{method} {host} {path}: {}", answer.text());
    }
    assert_eq!(ask("GET", "stranger.test", &path).status, 404);
    assert_eq!(origin.requests().len(), 0, "no application is asked");
    expect_issued(&proxy, &pebble);
    assert_eq!(ask("GET", NAME, &path).status, 404, "it is pending no more");
}

/// RFC 8737 §3: this protocol, and no other beside it.
#[test]
fn a_proof_is_shown_to_who_offers_its_protocol_alone() {
    let Some(pebble) = Pebbles::default().with("PEBBLE_VA_SLEEPTIME", "15").start() else { return };
    let origin = app();
    let setup = pebble.setup(site(&origin)).acme("challenges = ['tls-alpn-01']");
    let proxy = setup.site(Site::named("other.test").to(&origin)).start();
    let root = std::fs::read_to_string(proxy.path("storage/local/root.pem")).unwrap();
    let ask = |name: &str, alpn: &[&str]| {
        let settings = pki::trusting_pem(&root, alpn, rustls::ALL_VERSIONS);
        match Wire::try_tls(proxy.https(), settings, name) {
            Ok(_) => "a certificate that is believed".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    // A client that verifies does not believe it; without one it would be told to go.
    eventually("the proof to be shown", || {
        ask(NAME, &["acme-tls/1"]).contains("invalid peer certificate")
    });
    assert!(ask("other.test", &["acme-tls/1"]).contains("NoApplicationProtocol"));
    assert_eq!(ask(NAME, &["acme-tls/1", "http/1.1"]), "a certificate that is believed");
    expect_issued(&proxy, &pebble);
}

/// No stranger learns anything, and nobody is asked in his place.
#[test]
fn who_asks_without_a_pending_challenge_is_told_of_none() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let token = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    assert_eq!(Client::plain(proxy.http(), NAME).get(token).status, 404);
    let settings = pki::trusting_pem(&pebble.issuer(), &["acme-tls/1"], rustls::ALL_VERSIONS);
    let error = Wire::try_tls(proxy.https(), settings, NAME).map(drop).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

/// An application that is not to be trusted could have got a certificate for the name, by an
/// answer of its own or behind the redirect. Whoever brings a certificate proves his name himself.
#[test]
fn no_application_answers_for_a_name_that_is_proved_here() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    origin.route("*", "the application's own");
    let own = Site::named("own.test").to(&origin).on_plain_http();
    let proxy = pebble.setup(site(&origin).on_plain_http()).site(own).start();
    let ask = |host: &str, method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        Client::plain(proxy.http(), host).send(request).status
    };
    for method in ["GET", "HEAD", "POST"] {
        for path in ["abcDEF_-123", "", "/a", "a/b", "../x", "a%2fb"] {
            let path = format!("/.well-known/acme-challenge/{path}");
            assert_eq!(ask(NAME, method, &path), 404, "{method} {path}");
        }
    }
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(ask(NAME, "GET", "/.well-known/other"), 200);
    assert_eq!(ask("own.test", "GET", "/.well-known/acme-challenge/abc"), 200);
}
