//! Which site and which place a request names.

use super::stage::{Row, Stage, expect_refusal, play, summary};
use crate::harness::h2_frames::{Frames, GOAWAY, HEADERS, RST_STREAM};
use crate::harness::strict::Heard;
use crate::harness::{Wire, pki};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("none, empty, two Hosts", hosts),
    ("bad characters", bad_characters),
    ("case, dot, port", spellings),
    ("absolute-form against Host", absolute_form),
    ("absolute-form oddities", oddities),
    (":authority against host", authority_against_host),
    ("HTTP/1.0 without Host", http_1_0),
];

#[test]
fn host_and_target() {
    play(&Stage::shipped(), ROWS);
}

fn with_hosts(hosts: &str) -> String {
    format!("GET /p HTTP/1.1\r\n{hosts}\r\n")
}

fn hosts(stage: &Stage) {
    for hosts in [
        "",
        "Host:\r\n",
        "Host: \r\n",
        "Host: app.test\r\nHost: b.test\r\n",
        "Host: app.test\r\nHost: app.test\r\n",
        "Host: app.test\r\nhost: app.test\r\n",
        "Host: app.test\r\nHost:\r\n",
        "Host:\r\nHost: app.test\r\n",
        "X: y\r\nHost: evil.test\r\nX: z\r\nHost: app.test\r\n",
    ] {
        stage.refuses_with(400, with_hosts(hosts));
    }
    for host in ["Host : app.test\r\n", " Host: app.test\r\n", "Host\t: app.test\r\n"] {
        stage.refuses(with_hosts(host));
    }
    // The alias of a Host is none.
    let alias = "Host: app.test\r\nHost_: evil.test\r\nX-Host: evil.test\r\n";
    stage.passes(with_hosts(alias), &["GET /p"]);
}

fn bad_characters(stage: &Stage) {
    for host in [
        "u:p@app.test",
        "u@app.test",
        "app.test/x",
        "a b",
        "app.test evil.test",
        "a, b",
        "app.test,evil.test",
        "app.test:99999",
        "app.test:80:81",
        "app.test:8x",
        "app.test:-1",
        "app.test:+80",
        "app.test: 80",
        "app%2etest",
        "app.test%00",
        "a\\b",
        "app.test?x",
        "app.test#x",
        "a\"><x>",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25eth0]",
        "..a",
        ".app.test",
        "app..test",
        "app.test..",
        ".",
        ":80",
        "app.test;x",
        "*",
        "*.test",
        "{app.test}",
        "app.test|",
        "app^test",
        "<app.test>",
        "app.test\u{e9}",
    ] {
        stage.refuses_with(400, with_hosts(&format!("Host: {host}\r\n")));
    }
    stage.refuses_with(400, b"GET /p HTTP/1.1\r\nHost: app.test\xff\r\n\r\n");
    stage.refuses_with(400, with_hosts(&format!("Host: {}.test\r\n", "a".repeat(9000))));
    stage.refuses_with(400, with_hosts(&format!("Host: {}.test\r\n", "a".repeat(64))));
    stage.refuses(with_hosts("Host: app.test\0\r\n"));
    stage.refuses(with_hosts("Host: app\x01.test\r\n"));
    let log = stage.proxy.access_log().join("\n");
    assert!(!log.contains("<x>") && !log.contains("aaaaaaaaaaaaaaaa"), "a Host in the log: {log}");
}

fn spellings(stage: &Stage) {
    for (host, passed_on) in [
        ("APP.TEST", "app.test"),
        ("App.Test", "app.test"),
        ("app.test.", "app.test"),
        ("APP.TEST.", "app.test"),
        ("app.test:", "app.test"),
        ("app.test:443", "app.test:443"),
        ("app.test.:80", "app.test:80"),
        ("app.test:080", "app.test:80"),
        (" app.test\t", "app.test"),
    ] {
        let judge = |heard: &Heard| assert_eq!(heard.values("host"), [passed_on]);
        stage.passes_as(with_hosts(&format!("Host: {host}\r\n")), &["GET /p"], judge);
    }
}

fn absolute_form(stage: &Stage) {
    for target in [
        "http://b.test/p",
        "http://app.test.evil.test/p",
        "http://app.test:81/p",
        "http://evil.test",
        "http:///p",
        "http://",
    ] {
        stage.refuses_with(400, format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        stage.refuses_with(400, format!("GET {target} HTTP/1.1\r\n\r\n"));
    }
    stage.refuses_with(400, "GET http://app.test/p HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    stage.refuses_with(
        400,
        "GET http://app.test/p HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n",
    );
    stage.refuses_with(400, "GET http://app.test/p HTTP/1.1\r\nHost:\r\n\r\n");
    for target in ["http://app.test/p", "HTTP://APP.TEST/p", "http://app.test:80/p"] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let judge = |heard: &Heard| assert!(heard.values("host")[0].starts_with("app.test"));
        stage.passes_as(bytes, &["GET /p"], judge);
    }
}

fn oddities(stage: &Stage) {
    for target in [
        "http://u:p@app.test/p",
        "http://u@app.test/p",
        "http://@app.test/p",
        "ftp://app.test/p",
        "ws://app.test/p",
        "file:///etc/passwd",
        "javascript://app.test/p",
        "http:app.test/p",
        "http:/app.test/p",
        "app.test/p",
        "app.test:80",
        "http://app.test:99999/p",
        "http://app.test:8x/p",
        "http://app.test\\@evil.test/p",
        "http://app.test#@evil.test/p",
        "/p#fragment",
        "#",
        "p",
        "?p",
        "@app.test/p",
        ".app.test/p",
        "\\p",
        "http://[::1/p",
        "http://app.test?x",
        "*",
        "http://app.test/p http://evil.test/",
    ] {
        stage.refuses(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
    }
    for (target, passed_on) in [
        ("http://app.test", "/"),
        ("//evil.test/p", "//evil.test/p"),
        ("/http://evil.test/p", "/http://evil.test/p"),
        ("/p?http://evil.test/", "/p?http://evil.test/"),
        ("/?", "/?"),
        ("/p??x=/../y", "/p??x=/../y"),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let wanted = format!("GET {passed_on}");
        stage.on_both(bytes.as_bytes(), |mut wire| {
            wire.send(&bytes);
            assert_eq!(wire.read_answer().status(), 200);
            let heard: Vec<_> = stage.heard().iter().map(summary).collect();
            assert_eq!(heard, [wanted.as_str()]);
        });
    }
    // The port-80 side of a site that serves there takes both schemes for what the Host says.
    stage.passes_or_refuses(
        "GET https://app.test/p HTTP/1.1\r\nHost: app.test\r\n\r\n",
        &["GET /p"],
    );
    for (line, wanted) in [
        ("CONNECT app.test:22 HTTP/1.1", &[400, 405, 501][..]),
        ("CONNECT /p HTTP/1.1", &[400, 405]),
        ("CONNECT http://app.test/p HTTP/1.1", &[400, 405]),
        ("TRACE /p HTTP/1.1", &[403, 405, 501]),
        ("TRACE http://app.test/p HTTP/1.1", &[403, 405, 501]),
    ] {
        stage.on_both(line.as_bytes(), |mut wire| {
            wire.send(format!("{line}\r\nHost: app.test\r\nCookie: secret\r\n\r\n"));
            expect_refusal(&mut wire, |status| wanted.contains(&status));
            assert_eq!(stage.heard(), []);
        });
    }
    stage.passes("OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n", &["OPTIONS *"]);
}

fn authority_against_host(stage: &Stage) {
    let base =
        [(":method", "GET"), (":scheme", "https"), (":path", "/p"), (":authority", "app.test")];
    for hosts in [
        &["evil.test"][..],
        &["app.test", "evil.test"],
        &["app.test", "app.test"],
        &["app.test:81"],
        &[""],
        &["u@app.test"],
    ] {
        stage.case(&format!("host: {hosts:?}"), || {
            let mut fields = base.to_vec();
            fields.extend(hosts.iter().map(|host| ("host", *host)));
            let mut frames = over_http2(stage);
            frames.send_head(1, true, &fields);
            let told = frames.next_matching(|frame| {
                matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) && frame.stream < 2
            });
            // A literal or indexed `:status: 400` begins the block of a refusal.
            let is_ok = told.kind == HEADERS && told.payload.first() == Some(&0x88);
            assert!(!is_ok, "{hosts:?} was answered with 200");
            assert_eq!(stage.heard(), []);
        });
    }
    stage.case("host: app.test", || {
        let mut fields = base.to_vec();
        fields.push(("host", "APP.test"));
        let mut frames = over_http2(stage);
        frames.send_head(1, true, &fields);
        let told = frames.next_of(HEADERS);
        assert_eq!(told.payload.first(), Some(&0x88));
        let heard: Vec<_> = stage.heard().iter().map(summary).collect();
        assert_eq!(heard, ["GET /p"]);
    });
}

fn over_http2(stage: &Stage) -> Frames {
    stage.origin.take_heard();
    let wire = Wire::try_tls(stage.proxy.https(), pki::trusting(&["h2"]), "app.test");
    Frames::over(wire.unwrap())
}

fn http_1_0(stage: &Stage) {
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET /p HTTP/1.0\r\nX: y\r\n\r\n",
        "GET http://app.test/p HTTP/1.0\r\n\r\n",
    ] {
        stage.refuses_with(400, head);
    }
    stage.on_both(b"HTTP/1.0 with a Host", |mut wire| {
        wire.send("GET /p HTTP/1.0\r\nHost: app.test\r\n\r\n");
        assert_eq!(wire.read_answer().text(), "GET /p");
        wire.expect_end();
        let heard: Vec<_> = stage.heard().iter().map(summary).collect();
        assert_eq!(heard, ["GET /p"]);
    });
}
