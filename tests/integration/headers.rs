//! What is taken off a message, what is put on it, and what is never believed.

use crate::harness::{Body, Origin, Proxy, Request, Response, Script, Setup, Site};

fn echoing() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

#[test]
fn host_is_the_clients() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    proxy.client().get("/");
    assert_eq!(origin.last().header("host").as_deref(), Some("app.test"));
    proxy.client().host(&format!("app.test:{}", proxy.https().port())).get("/");
    let expected = format!("app.test:{}", proxy.https().port());
    assert_eq!(origin.last().header("host"), Some(expected));
    proxy.client().http2().get("/");
    assert_eq!(origin.last().header("host").as_deref(), Some("app.test"));
}

#[test]
fn forwarding_fields_are_rebuilt() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    for client in [proxy.client(), proxy.client().http2()] {
        client.send(
            Request::get("/")
                .header("x-forwarded-for", "6.6.6.6")
                .header("x-forwarded-for", "7.7.7.7")
                .header("x-forwarded-proto", "http")
                .header("x-forwarded-host", "evil.test")
                .header("x-forwarded-port", "1")
                .header("x-real-ip", "6.6.6.6")
                .header("forwarded", "for=6.6.6.6")
                .header("x-request-id", "chosen-by-the-client")
                .body(())
                .unwrap(),
        );
        let seen = origin.last();
        assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("app.test"));
        assert_ne!(seen.header("x-request-id").as_deref(), Some("chosen-by-the-client"));
        let all = format!("{:?}", seen.headers);
        assert!(!all.contains("6.6.6.6") && !all.contains("evil"), "{all}");
    }
}

#[test]
fn a_trusted_proxy_is_believed_up_to_the_last_stranger() {
    let origin = echoing();
    let proxy =
        Proxy::to(&origin).server("trusted_proxies = ['127.0.0.1/32', '10.0.0.0/8']").start();
    let ask = |from: &str, chain: &str| {
        proxy.client().from(from).send(
            Request::get("/")
                .header("x-forwarded-for", chain)
                .header("x-forwarded-proto", "http")
                .header("x-forwarded-host", "outside.test")
                .header("x-request-id", "from-the-edge")
                .body(())
                .unwrap(),
        );
        origin.last()
    };
    let seen = ask("127.0.0.1", "9.9.9.9, 6.6.6.6, 10.1.1.1");
    let chain = seen.header("x-forwarded-for").unwrap();
    assert!(!chain.contains("9.9.9.9"), "left of the last stranger is not believed: {chain}");
    assert!(chain.starts_with("6.6.6.6"), "{chain}");
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("outside.test"));
    assert_eq!(seen.header("x-request-id").as_deref(), Some("from-the-edge"));
    let seen = ask("127.0.0.2", "9.9.9.9");
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.2"));
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn the_access_log_names_the_client_behind_a_trusted_proxy() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).server("trusted_proxies = ['127.0.0.1/32']").start();
    let request = Request::get("/seen").header("x-forwarded-for", "9.9.9.9, 6.6.6.6").body(());
    proxy.client().send(request.unwrap());
    let line = proxy.access_line(|line| line.contains("/seen"));
    assert!(line.starts_with("6.6.6.6 "), "{line}");
}

#[test]
fn every_request_has_an_id_of_its_own() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().connect();
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..3 {
        let answer = connection.get("/");
        let id = origin.last().header("x-request-id").expect("an id");
        assert!(id.len() >= 16 && id.is_ascii(), "{id}");
        if let Some(told) = answer.header("x-request-id") {
            assert_eq!(told, id);
        }
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[test]
fn hop_by_hop_fields_of_a_request_stay_here() {
    let origin = echoing();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, X-One\r\nX-One: 1\r\n\
         Connection: x-two\r\nX-Two: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Proxy-Authorization: Basic eA==\r\nTE: gzip\r\nProxy: http://evil.test\r\n\
         X-Kept: yes\r\n\r\n",
    );
    assert_eq!(wire.read_answer().status(), 200);
    let seen = origin.last();
    for name in ["x-one", "x-two", "keep-alive", "proxy-connection", "proxy-authorization", "proxy"]
    {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_ne!(seen.header("te").as_deref(), Some("gzip"));
    assert_eq!(seen.header("x-kept").as_deref(), Some("yes"));
}

#[test]
fn hop_by_hop_fields_of_an_answer_stay_here() {
    let origin = Script::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nConnection: close, x-other\r\nX-Secret: 1\r\n\
         X-Other: 2\r\nKeep-Alive: timeout=1\r\nProxy-Connection: close\r\nX-Kept: yes\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let proxy = Proxy::to(&origin).start();
    for client in [proxy.client(), proxy.client().http2()] {
        let answer = client.get("/");
        for name in ["x-secret", "x-other", "keep-alive", "proxy-connection"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
        assert_eq!(answer.header("x-kept").as_deref(), Some("yes"));
        assert_eq!(answer.text(), "ok");
    }
}

/// `Connection` must not be able to remove what the proxy itself relies on.
#[test]
fn connection_cannot_name_away_the_proxys_own_fields() {
    let origin = echoing();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nConnection: close, \
         X-Forwarded-For, X-Forwarded-Proto, X-Request-Id, Host, Content-Length\r\n\r\nhi",
    );
    let answer = wire.read_answer();
    if answer.status() == 400 {
        return;
    }
    let seen = origin.last();
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "host", "content-length"] {
        assert!(seen.header(name).is_some(), "{name} was lost");
    }
}

#[test]
fn an_upgrade_that_is_not_websocket_is_as_if_it_were_not_there() {
    let origin = echoing();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(
        "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!(wire.read_answer().status(), 200);
    let heard = origin.heard_text().to_lowercase();
    assert!(!heard.contains("upgrade") && !heard.contains("http2-settings"), "{heard}");
}

#[test]
fn fields_that_look_like_others_after_folding_are_dropped() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    for client in [proxy.client(), proxy.client().http2()] {
        let request = Request::get("/")
            .header("x_forwarded_for", "6.6.6.6")
            .header("transfer_encoding", "chunked")
            .header("x-fine", "1")
            .body(())
            .unwrap();
        assert_eq!(client.send(request).status, 200);
        let seen = origin.last();
        assert!(!seen.headers.keys().any(|name| name.as_str().contains('_')), "{seen:?}");
        assert_eq!(seen.header("x-fine").as_deref(), Some("1"));
    }
}

#[test]
fn repeated_fields_and_their_order_are_kept() {
    let origin = Origin::start();
    origin.handle("/", |_| async {
        Response::builder()
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(Body::empty())
            .unwrap()
    });
    let proxy = Proxy::to(&origin).start();
    for client in [proxy.client(), proxy.client().http2()] {
        let request = Request::get("/").header("x-list", "1").header("x-list", "2").body(());
        let answer = client.send(request.unwrap());
        assert_eq!(answer.header("set-cookie").as_deref(), Some("a=1|b=2"));
        assert_eq!(origin.last().header("x-list").as_deref(), Some("1|2"));
    }
}

#[test]
fn cookie_crumbs_of_http2_are_joined() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let request = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").body(());
    proxy.client().http2().send(request.unwrap());
    assert_eq!(origin.last().header("cookie").as_deref(), Some("a=1; b=2"));
}

#[test]
fn via_is_added_only_when_asked_for() {
    let origin = echoing();
    let without = Proxy::to(&origin).start();
    let answer = without.client().get("/");
    assert_eq!((origin.last().header("via"), answer.header("via")), (None, None));
    let with = Proxy::to(&origin).server("via = true").start();
    with.client().get("/");
    let via = origin.last().header("via").expect("a Via field");
    assert!(via.starts_with("1.1 "), "{via}");
    with.client().http2().get("/");
    let via = origin.last().header("via").expect("a Via field");
    assert!(via.starts_with("2 ") || via.starts_with("2.0 "), "{via}");
}

#[test]
fn the_app_is_spoken_to_in_http_1_1_whatever_the_client_speaks() {
    let origin = echoing();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
    let answer = wire.read_answer();
    assert_eq!(answer.status(), 200);
    assert!(origin.heard_text().starts_with("GET / HTTP/1.1\r\n"));
    wire.expect_end();
}

#[test]
fn the_forwarded_scheme_is_that_of_the_listener() {
    let origin = echoing();
    let site = Site::named("app.test").to(&origin).on_plain_http();
    let proxy = Setup::new().site(site).start();
    proxy.plain_client().get("/");
    assert_eq!(origin.last().header("x-forwarded-proto").as_deref(), Some("http"));
    proxy.client().get("/");
    assert_eq!(origin.last().header("x-forwarded-proto").as_deref(), Some("https"));
}
