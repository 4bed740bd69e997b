//! Fields that end at a proxy, and those that only a proxy may say.

use super::stage::{Row, Stage, get, play, post};
use crate::harness::strict::Heard;
use crate::harness::{Proxy, Script};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("drop our field by Connection", dropped_by_connection),
    ("standard hop-by-hop", hop_by_hop),
    ("spoofed forwarding", spoofed),
    ("alias spelling", aliases),
    ("httpoxy", httpoxy),
    ("internal control fields", control_fields),
];

#[test]
fn fields() {
    play(&Stage::shipped(), ROWS);
}

fn dropped_by_connection(stage: &Stage) {
    let named = "close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Real-IP, \
                 X-Request-Id, Host, Content-Length, Cookie, Authorization, Transfer-Encoding";
    for connection in [
        named.to_owned(),
        named.to_lowercase(),
        named.replace(", ", ","),
        named.replace(", ", "\t,  "),
        named.replace(", ", "\r\nConnection: "),
    ] {
        let fields = format!(
            "Connection: {connection}\r\nCookie: a=b\r\nAuthorization: Basic eA==\r\n\
             X-One: 1\r\nContent-Length: 5\r\n"
        );
        // The strict reader sees to Host and to what we say.
        stage.passes_as(post(&fields, "hello"), &["POST /p hello"], |heard| {
            assert_eq!(heard.values("cookie"), ["a=b"]);
            assert_eq!(heard.values("authorization"), ["Basic eA=="]);
            assert_eq!(heard.values("content-length"), ["5"]);
            assert_eq!(heard.values("x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(heard.values("x-one"), ["1"]);
        });
    }
    let fields = "Connection: x-one, keep-alive\r\nconnection: X-Two,,\r\nX-One: 1\r\nX-Two: 2\r\n";
    stage.passes_as(get(fields), &["GET /p"], |heard| {
        assert!(heard.values("x-one").is_empty() && heard.values("x-two").is_empty());
    });
}

fn hop_by_hop(stage: &Stage) {
    let all = "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
               Proxy-Authorization: Basic eA==\r\nProxy-Authenticate: Basic\r\nTE: gzip, trailers\r\n\
               Trailer: X-A\r\nUpgrade: foo\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\
               X-Kept: yes\r\n";
    for connection in ["", "Connection: keep-alive\r\n", "Connection: TE, Upgrade, Keep-Alive\r\n"]
    {
        stage.passes_as(get(&format!("{connection}{all}")), &["GET /p"], |heard| {
            assert!(heard.values("proxy-authenticate").is_empty());
            assert_eq!(heard.values("x-kept"), ["yes"]);
        });
    }
    stage.case("of an answer", || {
        let origin = Script::answering(
            "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nConnection: close, x-other,Set-Cookie\r\n\
             X-Secret: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=1\r\nProxy-Connection: close\r\n\
             Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTE: trailers\r\nHTTP2-Settings: AAMA\r\n\
             Set-Cookie: a=b\r\nX-Kept: yes\r\nContent-Length: 2\r\n\r\nok",
        );
        let proxy = Proxy::plain_to(&origin).start();
        for client in [proxy.plain_client(), proxy.client(), proxy.client().http2()] {
            let answer = client.get("/");
            for name in [
                "x-secret",
                "x-other",
                "keep-alive",
                "proxy-connection",
                "proxy-authenticate",
                "upgrade",
                "te",
                "http2-settings",
            ] {
                assert_eq!(answer.header(name), None, "{name}");
            }
            assert_eq!(answer.header("x-kept").as_deref(), Some("yes"));
            assert_eq!(answer.header("set-cookie").as_deref(), Some("a=b"));
        }
    });
}

/// What we say about the client, whatever it says itself.
fn is_ours(heard: &Heard) {
    assert_eq!(heard.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(heard.values("x-forwarded-host"), ["app.test"]);
    assert!(["http", "https"].contains(&heard.values("x-forwarded-proto")[0]));
    let all = format!("{heard:?}");
    assert!(!all.contains("6.6.6.6") && !all.contains("evil"), "{all}");
}

const SPOOFED: [&str; 12] = [
    "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6",
    "X-Forwarded-For: 6.6.6.6, 127.0.0.1",
    "X-Forwarded-Proto: evil",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 6.6.6.6",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Server: evil",
    "X-Forwarded-Client-Cert: evil",
    "Forwarded: for=6.6.6.6;host=evil.test",
    "X-Real-IP: 6.6.6.6",
    "X-Client-Cert: evil",
    "X-Request-Id: evil",
];

fn spoofed(stage: &Stage) {
    for line in SPOOFED {
        stage.passes_as(get(&format!("{line}\r\n")), &["GET /p"], is_ours);
        stage.passes_as(get(&format!("{}\r\n", line.to_lowercase())), &["GET /p"], is_ours);
        let body = format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n");
        let fields = "TE: trailers\r\nTrailer: Forwarded\r\nTransfer-Encoding: chunked\r\n";
        stage.passes_as(post(fields, &body), &["POST /p hello"], is_ours);
    }
    stage.passes_as(get(&(SPOOFED.join("\r\n") + "\r\n")), &["GET /p"], is_ours);
    let trusted = Stage::with(|setup| setup.server("trusted_proxies = ['127.0.0.1/32']"));
    trusted.passes_as(get("X-Forwarded-For: 9.9.9.9, 6.6.6.6\r\n"), &["GET /p"], |heard| {
        assert_eq!(heard.values("x-forwarded-for"), ["6.6.6.6, 127.0.0.1"]);
    });
    stage.case("a trusted proxy", || trusted.complaints());
}

fn aliases(stage: &Stage) {
    for line in [
        "X_Forwarded_For: 6.6.6.6",
        "X.Forwarded.For: 6.6.6.6",
        "X_Forwarded-For: 6.6.6.6",
        "x-forwarded_for: 6.6.6.6",
        "X_Real_IP: 6.6.6.6",
        "Transfer_Encoding: chunked",
        "Content_Length: 36",
        "Remote.User: evil",
        "Remote_User: evil",
        "_: evil",
        "Host_: evil.test",
    ] {
        stage.passes_as(get(&format!("{line}\r\n")), &["GET /p"], is_ours);
    }
}

fn httpoxy(stage: &Stage) {
    for line in ["Proxy: http://evil.test", "proxy:http://evil.test", "PROXY: \thttp://evil.test"] {
        stage.passes_as(get(&format!("{line}\r\n")), &["GET /p"], is_ours);
    }
}

/// Fields with which other proxies are told what to do.
fn control_fields(stage: &Stage) {
    for line in [
        "X-Accel-Redirect: /evil",
        "X-Accel-Buffering: evil",
        "X-Envoy-Original-Path: /evil",
        "X-Envoy-Internal: evil",
        "X-Original-URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-Original-Host: evil.test",
        "X-Sendfile: /evil",
        "X-HTTP-Method-Override: PUT",
    ] {
        // They mean nothing to us: the request goes where it went, and what we say is ours.
        stage.passes_as(get(&format!("{line}\r\n")), &["GET /p"], |heard| {
            assert_eq!(heard.values("host"), ["app.test"]);
            assert_eq!(heard.values("x-forwarded-for"), ["127.0.0.1"]);
        });
    }
}
