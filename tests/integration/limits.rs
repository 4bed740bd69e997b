//! Each key of `[limits]` at its border: the status that it earns and the word in the log.

use crate::harness::wire::End;
use crate::harness::{Body, Origin, Proxy, Request, Setup, Wire, eventually};

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

/// A proxy in front of an app, on plain HTTP too, with one limit set.
fn limited(origin: &Origin, line: &str) -> Proxy {
    Proxy::plain_to(origin).limits(line).start()
}

/// A request of exactly `size` bytes, most of it in one field.
fn request_of(size: usize) -> String {
    let start = "GET / HTTP/1.1\r\nHost: app.test\r\nX-Fill: ";
    format!("{start}{}\r\n\r\n", "x".repeat(size - start.len() - 4))
}

#[track_caller]
fn status_of(wire: &mut Wire, request: &str) -> u16 {
    wire.send(request);
    wire.read_answer().status()
}

#[test]
fn header_size() {
    let origin = app();
    let proxy = limited(&origin, "header_size = '8KiB'");
    for mut wire in [proxy.wire(), proxy.tls_wire()] {
        assert_eq!(status_of(&mut wire, &request_of(8000)), 200);
        assert_eq!(status_of(&mut wire, &request_of(8 * 1024 + 200)), 431);
        wire.expect_end();
    }
    assert_eq!(origin.requests().len(), 2);
    proxy.expect_words("header_size");
}

#[test]
fn header_size_without_an_end() {
    let origin = app();
    let proxy = limited(&origin, "header_size = '8KiB'");
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Fill: ");
    let mut sent = 0;
    while sent < 1024 * 1024 && wire.try_send("x".repeat(4096)).is_ok() {
        sent += 4096;
    }
    let (bytes, end) = wire.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    assert_ne!(end, End::Open);
}

#[test]
fn header_size_over_http2() {
    let origin = app();
    let proxy = limited(&origin, "header_size = '8KiB'");
    let mut connection = proxy.client().http2().connect();
    let request = Request::get("/").header("x-fill", "x".repeat(12 * 1024)).body(()).unwrap();
    let refused = connection.try_send(request).map_or(true, |answer| answer.status == 431);
    assert!(refused);
    assert!(origin.requests().is_empty());
}

#[test]
fn header_count() {
    let origin = app();
    let proxy = limited(&origin, "header_count = 20");
    let fields = |count: usize| -> String {
        let more: String = (1..count).map(|n| format!("X-{n}: v\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: app.test\r\n{more}\r\n")
    };
    let mut wire = proxy.wire();
    assert_eq!(status_of(&mut wire, &fields(20)), 200);
    assert_eq!(status_of(&mut wire, &fields(21)), 431);
    wire.expect_end();
    assert_eq!(origin.requests().len(), 1);
    proxy.expect_words("header_count");
}

#[test]
fn target_size() {
    let origin = app();
    let proxy = limited(&origin, "target_size = '1KiB'");
    let target = |size: usize| format!("/{}", "a".repeat(size - 1));
    let mut wire = proxy.wire();
    let line = |target: String| format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(status_of(&mut wire, &line(target(1024))), 200);
    assert_eq!(status_of(&mut wire, &line(target(1025))), 414);
    let mut connection = proxy.client().http2().connect();
    assert_eq!(connection.get(&target(1024)).status, 200);
    assert_eq!(connection.get(&target(1025)).status, 414);
    assert_eq!(origin.requests().len(), 2);
    proxy.expect_words("target_size");
}

#[test]
fn body_size_when_the_length_is_told() {
    let origin = app();
    let proxy = limited(&origin, "body_size = '1KiB'");
    for client in [proxy.plain_client(), proxy.client().http2()] {
        let post = |size| Request::post("/").body(Body::of_size(size)).unwrap();
        assert_eq!(client.send(post(1024)).status, 200);
        let connections = origin.requests().len();
        assert_eq!(client.send(post(1025)).status, 413);
        assert_eq!(origin.requests().len(), connections, "refused before the app hears of it");
    }
    proxy.expect_words("body_size");
}

#[test]
fn body_size_when_the_length_is_not_told() {
    let origin = app();
    let proxy = limited(&origin, "body_size = '1KiB'");
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let _ = wire.try_send(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800)));
    let (bytes, end) = wire.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    assert_ne!(end, End::Open);
    assert!(!origin.heard_text().ends_with("0\r\n\r\n"), "the app must not see a whole request");
    let request = Request::post("/").body(Body::of_untold_size(5000)).unwrap();
    assert_eq!(proxy.client().http2().send(request).status, 413);
    proxy.expect_words("body_size");
}

#[test]
fn a_large_body_that_is_refused_is_refused_at_once() {
    let origin = app();
    let proxy = limited(&origin, "body_size = '1KiB'");
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 99999999999\r\n");
    wire.send("Expect: 100-continue\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 413);
    wire.expect_end();
}

#[test]
fn connections() {
    let origin = app();
    let proxy = limited(&origin, "connections = 4");
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let mut held: Vec<Wire> = (0..4).map(|_| proxy.wire()).collect();
    for wire in &mut held {
        assert_eq!(status_of(wire, get), 200);
    }
    let mut fifth = proxy.wire();
    let _ = fifth.try_send(get);
    let (bytes, end) = fifth.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert_ne!(end, End::Open);
    let mut sixth = Wire::connect(proxy.https());
    sixth.expect_end();
    proxy.expect_words("connections");
    assert_eq!(status_of(&mut held[0], get), 200, "those inside are served");
    held.pop();
    eventually("a place to be free", || {
        let mut wire = proxy.wire();
        wire.try_send(get).is_ok()
            && wire
                .rest_within(std::time::Duration::from_millis(200))
                .0
                .starts_with(b"HTTP/1.1 200")
    });
}

#[test]
fn connections_per_client() {
    let origin = app();
    let proxy = limited(&origin, "connections_per_client = 2");
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let from = |address: &str| Wire::connect_from(address.parse().unwrap(), proxy.http());
    let mut held = [from("127.0.0.1"), from("127.0.0.1")];
    for wire in &mut held {
        assert_eq!(status_of(wire, get), 200);
    }
    let mut third = from("127.0.0.1");
    let _ = third.try_send(get);
    let (bytes, _) = third.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert_eq!(status_of(&mut from("127.0.0.2"), get), 200, "another client is not affected");
    proxy.expect_words("connections_per_client");
}

#[test]
fn a_limit_that_is_hit_often_is_logged_seldom() {
    let origin = app();
    let proxy = limited(&origin, "connections_per_client = 1");
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let mut held = proxy.wire();
    assert_eq!(status_of(&mut held, get), 200);
    let start = std::time::Instant::now();
    for _ in 0..100 {
        let mut wire = proxy.wire();
        wire.expect_end();
    }
    proxy.expect_words("connections_per_client");
    let lines = proxy.words().lines().filter(|line| line.contains("per_client")).count();
    let seconds = start.elapsed().as_secs() as usize;
    assert!(lines <= seconds + 2, "{lines} lines in {seconds} s");
}

#[test]
fn more_connections_than_descriptors_is_said_at_start() {
    let origin = app();
    let mut proxy = Setup::start(Proxy::to(&origin).limits("connections = 10000000"));
    proxy.expect_words("connections");
    assert!(proxy.words().to_lowercase().contains("nofile"), "{}", proxy.words());
    proxy.stop();
}
