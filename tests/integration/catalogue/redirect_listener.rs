//! The plain HTTP listener of a site that sends everybody to HTTPS.

use std::time::Duration;

use super::stage::{Row, SMUGGLED, Stage, echoing, expect_refusal, play};
use crate::harness::wire::{End, RawAnswer};
use crate::harness::{Proxy, Wire};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("open redirect", open_redirect),
    ("path tricks", path_tricks),
    ("CRLF and control", controls),
    ("method and body", bodies),
    ("ACME http-01", acme),
    ("other protocols", other_protocols),
    ("TLS over Upgrade", tls_over_upgrade),
];

#[test]
fn redirect_listener() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    play(&Stage::of(origin, proxy), ROWS);
}

/// Sends `bytes` on a connection of its own; what came of it, and that the app heard nothing.
fn ask(stage: &Stage, bytes: impl AsRef<[u8]>, judge: impl FnOnce(&RawAnswer)) {
    let bytes = bytes.as_ref();
    stage.case(&bytes[..bytes.len().min(200)].escape_ascii().to_string(), || {
        let mut wire = stage.proxy.wire();
        wire.send(bytes);
        let answer = wire.read_answer();
        assert!(answer.head.to_ascii_lowercase().matches("\r\nlocation:").count() <= 1);
        judge(&answer);
        assert_eq!(stage.heard(), [], "the app heard of it");
    });
}

fn here(stage: &Stage) -> String {
    format!("https://app.test:{}", stage.proxy.https().port())
}

/// It is sent to this target on the site, and nowhere else.
fn moves(stage: &Stage, bytes: impl AsRef<[u8]>, target: &str) {
    ask(stage, bytes, |answer| {
        assert_eq!(answer.status(), 308, "{}", answer.head);
        let place = format!("{}{target}", here(stage));
        assert_eq!(answer.field("location"), Some(place.as_str()));
        assert!(!answer.text().contains("evil"), "{}", answer.text());
    });
}

/// It is refused with one of these, and sent nowhere.
fn refuses(stage: &Stage, bytes: impl AsRef<[u8]>, wanted: &[u16]) {
    ask(stage, bytes, |answer| {
        assert!(wanted.contains(&answer.status()), "{}", answer.head);
        assert_eq!(answer.field("location"), None, "{}", answer.head);
        assert!(!answer.text().contains("evil"), "{}", answer.text());
    });
}

fn line(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")
}

fn open_redirect(stage: &Stage) {
    for host in [
        "evil.test",
        "app.test.evil.test",
        "evilapp.test",
        "xapp.test",
        "127.0.0.1",
        "[::1]",
        "localhost",
        "evil.test:80",
    ] {
        refuses(stage, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[404, 421]);
    }
    for host in
        ["evil.test@app.test", "app.test@evil.test", "app.test/evil", "app.test, evil.test", ""]
    {
        refuses(stage, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[400]);
    }
    for fields in [
        "X-Forwarded-Host: evil.test",
        "Forwarded: host=evil.test",
        "X-Host: evil.test",
        "X-Original-URL: https://evil.test/",
        "X-Forwarded-Server: evil.test",
        "Referer: https://evil.test/",
        "X-Forwarded-Port: 6666",
        "X-Forwarded-Proto: evil",
    ] {
        moves(stage, format!("GET /x HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n\r\n"), "/x");
    }
    refuses(stage, line("http://evil.test/"), &[400]);
    refuses(stage, "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", &[404, 421]);
    for host in ["APP.test", "app.test.", "app.test:80", "app.test:6666"] {
        moves(stage, format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"), "/x");
    }
}

fn path_tricks(stage: &Stage) {
    for target in [
        "//evil.test/x",
        "///evil.test",
        "/\\evil.test",
        "/\\/evil.test",
        "/%5cevil.test",
        "/%2f%2fevil.test",
        "/.evil.test",
        "/@evil.test/",
        "/:80@evil.test/",
        "/?//evil.test",
        "/..//evil.test",
        "/x?y=https://evil.test/",
    ] {
        moves(stage, line(target), target);
    }
    for target in [
        "@evil.test/",
        ".evil.test/",
        "evil.test",
        ":80@evil.test/",
        "\\evil.test",
        "?evil",
        "*",
        "x",
    ] {
        refuses(stage, line(target), &[400]);
    }
    moves(stage, line("http://app.test"), "/");
    ask(stage, line("http://app.test?//evil.test"), |answer| {
        let place = answer.field("location").unwrap_or_default();
        let stays = place.starts_with(&format!("{}/", here(stage)));
        assert!(answer.status() == 400 || stays, "{}", answer.head);
    });
}

fn controls(stage: &Stage) {
    for target in [
        "/%0d%0aSet-Cookie:%20x=1",
        "/%0D%0ALocation:%20https://evil.test/",
        "/?a=%0a",
        "/%00",
        "/%09",
        "/<script>",
        "/\"><svg>",
        "/%3cscript%3e",
    ] {
        let target = target.to_owned();
        ask(stage, line(&target), |answer| {
            let place = format!("{}{target}", here(stage));
            let stays = answer.status() == 308 && answer.field("location") == Some(&*place);
            assert!(stays || answer.status() == 400, "{}", answer.head);
            assert_eq!(answer.field("set-cookie"), None);
            assert!(!answer.text().contains("script>") && !answer.text().contains("<svg"));
        });
    }
    for target in ["/\rX: y", "/\nX: y", "/\tx", "/\x01", "/\x7f", "/a b", "/\u{e9}", "/a\0"] {
        refuses(stage, line(target), &[400]);
    }
    refuses(stage, b"GET /\x80 HTTP/1.1\r\nHost: app.test\r\n\r\n", &[400]);
    let long = format!("/{}", "a".repeat(8000));
    moves(stage, line(&long), &long);
    refuses(stage, line(&format!("/{}", "a".repeat(9000))), &[414]);
}

fn bodies(stage: &Stage) {
    let length = SMUGGLED.len();
    for method in ["POST", "PUT", "DELETE", "PATCH", "GET", "HEAD", "OPTIONS"] {
        for framing in [
            format!("Content-Length: {length}\r\n\r\n{SMUGGLED}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
            "Content-Length: 1000000\r\n\r\nonly this much".to_owned(),
            "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n".to_owned(),
            format!("Content-Length: 2000000000\r\n\r\n{SMUGGLED}"),
        ] {
            let bytes = format!("{method} /x HTTP/1.1\r\nHost: app.test\r\n{framing}");
            stage.case(&bytes, || {
                let mut wire = stage.proxy.wire();
                wire.send(&bytes);
                let mut answer = wire.read_answer_to(method);
                if answer.status() == 100 {
                    answer = wire.read_answer_to(method);
                }
                assert_eq!(answer.status(), 308, "{}", answer.head);
                assert_eq!(answer.field("strict-transport-security"), None);
                wire.finish();
                let (rest, end) = wire.rest_within(Duration::from_secs(5));
                assert!(rest.is_empty(), "a second answer: {}", rest.escape_ascii());
                assert_ne!(end, End::Open);
                assert_eq!(stage.heard(), []);
            });
        }
    }
    ask(stage, line("/x"), |answer| {
        let kept = answer.field("cache-control").unwrap_or("no-store");
        assert!(!kept.contains("immutable") && !kept.contains("max-age=31536000"), "{kept}");
    });
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refuses(stage, format!("POST /x HTTP/1.1\r\nHost: app.test\r\n{both}"), &[400]);
    for length in ["9223372036854775808", "18446744073709551615", "+4", "4, 4"] {
        let field = format!("Content-Length: {length}\r\n\r\nbody");
        refuses(stage, format!("POST /x HTTP/1.1\r\nHost: app.test\r\n{field}"), &[400]);
    }
}

/// Nothing is asked of the app, and nothing read from a disk: no challenge is pending.
fn acme(stage: &Stage) {
    let folder = "/.well-known/acme-challenge";
    for target in [
        format!("{folder}/token"),
        format!("{folder}/../../etc/passwd"),
        format!("{folder}/..%2f..%2fetc%2fpasswd"),
        format!("{folder}//etc/passwd"),
        format!("{folder}/%2e%2e/x"),
        format!("{folder}/a/b"),
        format!("{folder}/"),
        folder.to_owned(),
        format!("/.well-known%2facme-challenge/{}", "a".repeat(200)),
    ] {
        for host in ["app.test", "evil.test"] {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            ask(stage, bytes, |answer| {
                let status = answer.status();
                assert!([308, 400, 404, 421].contains(&status), "{}", answer.head);
                assert!(host == "app.test" || status != 308, "{}", answer.head);
                assert!(!answer.text().contains("root:"));
            });
        }
    }
}

fn other_protocols(stage: &Stage) {
    refuses(stage, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &[400]);
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        moves(stage, format!("GET /x HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n\r\n"), "/x");
    }
    for bytes in [
        &b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x05\x01\x00",
        b"\0\0\0\0\0\0\0\0\n",
        b"EHLO evil.test\r\n",
        b"\x80\x2e\x01\x00\x02\x00\x15",
    ] {
        stage.case(&bytes.escape_ascii().to_string(), || {
            let mut wire = stage.proxy.wire();
            wire.send(bytes);
            let _ = wire.try_send("\r\n\r\n");
            let (said, end) = wire.rest_within(Duration::from_secs(5));
            let said = String::from_utf8_lossy(&said);
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
            assert_ne!(end, End::Open);
        });
    }
    stage.case("CONNECT", || {
        let mut wire = stage.proxy.wire();
        wire.send("CONNECT app.test:22 HTTP/1.1\r\nHost: app.test:22\r\n\r\n");
        expect_refusal(&mut wire, |status| status == 400 || status == 405);
    });
}

/// RFC 2817 is ignored: nothing is sealed behind the answer.
fn tls_over_upgrade(stage: &Stage) {
    for protocol in ["TLS/1.0", "TLS/1.0, HTTP/1.1", "TLS/1.3"] {
        for method in ["GET", "OPTIONS"] {
            let fields = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
            let bytes = format!("{method} /x HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n");
            moves(stage, &bytes, "/x");
            stage.case(&format!("{bytes} and a handshake"), || {
                let mut wire: Wire = stage.proxy.wire();
                wire.send(&bytes);
                wire.send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n");
                let first = wire.read_answer();
                assert_eq!(first.status(), 308, "{}", first.head);
                assert_eq!(first.field("upgrade"), None);
                let (rest, end) = wire.rest_within(Duration::from_secs(5));
                assert!(
                    rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"),
                    "{}",
                    rest.escape_ascii()
                );
                assert_ne!(end, End::Open);
            });
        }
    }
}
