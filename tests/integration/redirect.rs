//! Plain HTTP is sent to HTTPS: the same place, a configured name, nothing else.

use crate::harness::{Method, Origin, Proxy, Request, Setup, Site};

fn redirecting() -> (Origin, Proxy) {
    let origin = Origin::start();
    origin.route("*", "the app");
    let proxy = Proxy::to(&origin).start();
    (origin, proxy)
}

/// The `Location` of an answer to this target, sent as it stands.
#[track_caller]
fn location_of(proxy: &Proxy, host: &str, target: &str) -> String {
    let mut wire = proxy.wire();
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let answer = wire.read_answer();
    assert_eq!(answer.status(), 308, "{}", answer.head);
    answer.field("location").expect("a Location").to_owned()
}

#[test]
fn keeps_path_and_query_byte_for_byte() {
    let (origin, proxy) = redirecting();
    let there = format!("https://app.test:{}", proxy.https().port());
    for target in ["/", "/a/b?x=1&y=%2F", "/%0d%0aSet-Cookie:%20x=1", "/a%2fb//c/./d?", "/?a=%0a"] {
        assert_eq!(location_of(&proxy, "app.test", target), format!("{there}{target}"));
    }
    assert!(origin.requests().is_empty(), "a redirect is nothing for the app");
}

#[test]
fn the_port_of_the_request_is_replaced() {
    let (_origin, proxy) = redirecting();
    let host = format!("app.test:{}", proxy.http().port());
    let there = format!("https://app.test:{}/x", proxy.https().port());
    assert_eq!(location_of(&proxy, &host, "/x"), there);
    assert_eq!(location_of(&proxy, "APP.test.", "/x"), there);
}

#[test]
fn a_location_stays_on_the_site_whatever_the_path() {
    let (_origin, proxy) = redirecting();
    let there = format!("https://app.test:{}/", proxy.https().port());
    for target in ["//evil.test/x", "/\\evil.test", "/%5cevil", "/.evil.test", "/@evil.test/"] {
        let mut wire = proxy.wire();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        let answer = wire.read_answer();
        let place = answer.field("location");
        assert!(place.is_none_or(|place| place.starts_with(&there)), "{target}: {place:?}");
        assert!([308, 400].contains(&answer.status()), "{target}: {}", answer.head);
    }
    for target in ["@evil.test/", "x", "http://evil.test/"] {
        let mut wire = proxy.wire();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        let answer = wire.read_answer();
        assert_eq!(answer.status(), 400, "{target}: {}", answer.head);
        assert_eq!(answer.field("location"), None);
    }
}

#[test]
fn an_unknown_host_is_never_echoed() {
    let (_origin, proxy) = redirecting();
    for host in ["evil.test", "app.test.evil.test", "xapp.test", "127.0.0.1", "[::1]", "localhost"]
    {
        let mut wire = proxy.wire();
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.test\r\n\r\n"));
        let answer = wire.read_answer();
        assert!([404, 421].contains(&answer.status()), "{host}: {}", answer.head);
        assert!(!answer.head.to_lowercase().contains("location:"), "{host}: {}", answer.head);
        assert!(!answer.text().contains("evil"), "{host}: {}", answer.text());
    }
}

#[test]
fn a_forwarded_host_does_not_move_the_location() {
    let (_origin, proxy) = redirecting();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-Host: evil.test\r\n");
    wire.send("Forwarded: host=evil.test\r\n\r\n");
    let answer = wire.read_answer();
    let there = format!("https://app.test:{}/", proxy.https().port());
    assert_eq!(answer.field("location"), Some(&*there));
}

#[test]
fn a_malformed_or_missing_host_gets_400() {
    let (_origin, proxy) = redirecting();
    for host in ["a/b", "a b", "u@app.test", "app.test:99999", "app.test:x", "..", "app.test,x"] {
        let mut wire = proxy.wire();
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = wire.read_answer();
        assert_eq!(answer.status(), 400, "{host}: {}", answer.head);
    }
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 400);
}

#[test]
fn a_literal_ipv6_host_keeps_its_brackets() {
    let origin = Origin::start();
    let proxy = Setup::new().site(Site::named("::1").key("tls = 'local'").to(&origin)).start();
    let there = format!("https://[::1]:{}/x", proxy.https().port());
    assert_eq!(location_of(&proxy, "[::1]", "/x"), there);
    assert_eq!(location_of(&proxy, "[0:0:0:0:0:0:0:1]:80", "/x"), there);
}

#[test]
fn a_wildcard_site_redirects_to_the_name_that_was_asked_for() {
    let origin = Origin::start();
    let proxy = Setup::new().site(Site::named("*.app.test").to(&origin)).start();
    let there = format!("https://one.app.test:{}/", proxy.https().port());
    assert_eq!(location_of(&proxy, "one.app.test", "/"), there);
}

#[test]
fn head_gets_the_fields_only() {
    let (_origin, proxy) = redirecting();
    let mut wire = proxy.wire();
    wire.send("HEAD /x HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    let (bytes, _) = wire.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 308"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "no body: {text}");
}

#[test]
fn other_methods_are_redirected_too_and_keep_their_method() {
    let (_origin, proxy) = redirecting();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = Request::builder().method(method.clone()).uri("/x").body(()).unwrap();
        assert_eq!(proxy.plain_client().send(request).status, 308, "{method}");
    }
}

#[test]
fn a_body_does_not_stall_the_redirect_and_is_no_second_request() {
    let (_origin, proxy) = redirecting();
    let smuggled = "GET /smug HTTP/1.1\r\nHost: app.test\r\n\r\n";
    for framing in [
        format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len()
        ),
        "Content-Length: 1000000\r\n\r\nonly this much".to_owned(),
        "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n".to_owned(),
    ] {
        let mut wire = proxy.wire();
        wire.send(format!("POST /x HTTP/1.1\r\nHost: app.test\r\n{framing}"));
        let mut answer = wire.read_answer();
        if answer.status() == 100 {
            answer = wire.read_answer();
        }
        assert_eq!(answer.status(), 308, "{framing:?}: {}", answer.head);
        wire.finish();
        let (rest, _) = wire.rest();
        assert!(rest.is_empty(), "{framing:?}: {}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn redirect_off_serves_the_app_on_plain_http() {
    let origin = Origin::start();
    origin.route("/", "the app");
    let proxy = Proxy::plain_to(&origin).start();
    assert_eq!(proxy.plain_client().get("/").text(), "the app");
    assert_eq!(origin.last().header("x-forwarded-proto").as_deref(), Some("http"));
}

#[test]
fn redirect_to_elsewhere_moves_everything_on_both_listeners() {
    let site = Site::named("app.test").key("redirect = 'https://new.test/base'");
    let proxy = Setup::new().site(site).start();
    for client in [proxy.plain_client(), proxy.client(), proxy.client().http2()] {
        let answer = client.get("/a/b?c=%20d");
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location").unwrap(), "https://new.test/base/a/b?c=%20d");
    }
}

#[test]
fn a_redirect_says_nothing_of_hsts_on_plain_http() {
    let origin = Origin::start();
    origin.route("/", "the app");
    let proxy = Proxy::to(&origin).first_site(|site| site.key("hsts = '1y'")).start();
    let strict = "strict-transport-security";
    assert_eq!(proxy.plain_client().get("/").header(strict), None);
    assert_eq!(proxy.client().get("/").header(strict).unwrap(), "max-age=31536000");
}

#[test]
fn a_loop_behind_a_tls_terminating_proxy_is_explained() {
    let origin = Origin::start();
    let proxy = Proxy::to(&origin).server("trusted_proxies = ['127.0.0.0/8']").start();
    let mut last = None;
    for _ in 0..5 {
        let request = Request::get("/").header("x-forwarded-proto", "https").body(()).unwrap();
        last = Some(proxy.plain_client().send(request));
    }
    let last = last.unwrap();
    assert_ne!(last.status, 308, "the loop goes on");
    assert!(last.text().contains("the redirect would never end"), "{}", last.text());
}
