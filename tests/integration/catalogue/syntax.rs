//! Lines and fields: what is no request of HTTP/1.1 to every reader is none.

use std::time::Duration;

use super::stage::{Row, Stage, expect_refusal, get, play};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("line ends", line_ends),
    ("control characters", controls),
    ("folds", folds),
    ("field names", names),
    ("methods", methods),
    ("versions", versions),
    ("white space in the request line", spaces),
    ("leading CRLF", leading),
    ("limits", limits),
];

#[test]
fn syntax() {
    play(&Stage::with(|setup| setup.limits("request_header_timeout = '2s'")), ROWS);
}

fn line_ends(stage: &Stage) {
    for bytes in [
        "GET /p HTTP/1.1\nHost: app.test\n\n",
        "GET /p HTTP/1.1\r\nHost: app.test\n\n",
        "GET /p HTTP/1.1\r\nHost: app.test\r\n\n",
        "GET /p HTTP/1.1\nHost: app.test\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: app.test\r\nX: y\nZ: z\r\n\r\n",
        "GET /p HTTP/1.1\rHost: app.test\r\r",
        "GET /p HTTP/1.1\rHost: app.test\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: app.test\r\rX: y\r\n\r\n",
        "GET /p HTTP/1.1\r\r\nHost: app.test\r\n\r\n",
    ] {
        stage.refuses(bytes);
    }
}

fn controls(stage: &Stage) {
    for value in ["a\rb", "a\0b", "a\x01b", "a\x1bb", "a\x7fb", "\0", "a\x0bb", "a\x08", "a\r"] {
        stage.refuses(get(&format!("X: {value}\r\n")));
        stage.refuses(get(&format!("Cookie: {value}\r\n")));
    }
    for name in ["X\0", "X\x01", "X\x7f", "X\ry", "X\ty", "\0"] {
        stage.refuses(get(&format!("{name}: v\r\n")));
    }
    stage.refuses("GET /p\0 HTTP/1.1\r\nHost: app.test\r\n\r\n");
    stage.refuses("GET /p\x01 HTTP/1.1\r\nHost: app.test\r\n\r\n");
    stage.refuses("G\0ET /p HTTP/1.1\r\nHost: app.test\r\n\r\n");
    // A tab is white space, and visible: it may stand within a value.
    stage.passes(get("X: a\tb\r\n"), &["GET /p"]);
}

fn folds(stage: &Stage) {
    for fields in [
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        "X:\r\n a\r\n",
        "X: a\r\n \r\n",
        " X: a\r\n",
        "\tX: a\r\n",
        "X: a\r\n Host: evil.test\r\n",
    ] {
        stage.refuses(get(fields));
        stage.refuses(format!("GET /p HTTP/1.1\r\n{fields}Host: app.test\r\n\r\n"));
    }
}

fn names(stage: &Stage) {
    for line in [
        "no colon",
        ": v",
        " : v",
        "X Y: v",
        "X : v",
        "X\u{80}: v",
        "\u{e9}: v",
        "X(: v",
        "X<>: v",
        "X[]: v",
        "X/: v",
        "X@: v",
        "X,: v",
        "X\": v",
        "X\\: v",
        "X=: v",
        "X?: v",
        "{X}: v",
        "X;: v",
    ] {
        stage.refuses(get(&format!("{line}\r\n")));
    }
    let mut bytes = b"GET /p HTTP/1.1\r\nHost: app.test\r\nX\xff: v\r\n\r\n".to_vec();
    stage.refuses(&bytes);
    bytes[34] = b'!';
    stage.passes(bytes, &["GET /p"]);
}

fn methods(stage: &Stage) {
    for method in ["G=\":<>(e)", "GET\u{e9}", "G@T", "{GET}", "", "G,T", "GE\\T", "PRI"] {
        stage.refuses(format!("{method} /p HTTP/1.1\r\nHost: app.test\r\n\r\n"));
    }
    for length in [33, 5000] {
        stage.refuses(format!("{} /p HTTP/1.1\r\nHost: app.test\r\n\r\n", "M".repeat(length)));
    }
    for method in ["PROPFIND".to_owned(), "M".repeat(32), "get".to_owned()] {
        let wanted = format!("{method} /p");
        stage.passes(format!("{method} /p HTTP/1.1\r\nHost: app.test\r\n\r\n"), &[&wanted]);
    }
}

fn versions(stage: &Stage) {
    for version in [
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/1.1x",
        "http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/11",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/0.9",
        "HTTP/3.7",
        "HTTPS/1.1",
        "HTTP 1.1",
        "HTTP/1.1 ",
        "HTTP\\1.1",
        "",
    ] {
        stage.refuses(format!("GET /p {version}\r\nHost: app.test\r\n\r\n"));
    }
    stage.refuses("GET /p\r\n\r\n");
    stage.refuses("GET /p\r\nHost: app.test\r\n\r\n");
}

fn spaces(stage: &Stage) {
    for line in [
        "GET  /p HTTP/1.1",
        "GET /p  HTTP/1.1",
        "GET\t/p HTTP/1.1",
        "GET /p\tHTTP/1.1",
        " GET /p HTTP/1.1",
        "GET /p HTTP/1.1 ",
        "GET /p HTTP/1.1\t",
        "GET\x0b/p HTTP/1.1",
        "GET /p x HTTP/1.1",
        "GET /p\x0cHTTP/1.1",
    ] {
        stage.refuses(format!("{line}\r\nHost: app.test\r\n\r\n"));
    }
}

fn leading(stage: &Stage) {
    for count in [1, 2] {
        stage.passes("\r\n".repeat(count) + &get(""), &["GET /p"]);
    }
    stage.refuses("\r\n".repeat(100) + &get(""));
    stage.refuses("\r\n".repeat(20_000) + &get(""));
    stage.refuses(format!("\n{}", get("")));
    stage.refuses(format!(" \r\n{}", get("")));
    stage.passes(format!("{}\r\n{}", get(""), get("")), &["GET /p", "GET /p"]);
    stage.on_both(b"a drip of CRLF", |mut wire| {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(8) && wire.try_send("\r").is_ok() {
            let (said, end) = wire.rest_within(Duration::from_millis(500));
            if !said.is_empty() || end != crate::harness::wire::End::Open {
                break;
            }
            let _ = wire.try_send("\n");
        }
        assert!(start.elapsed() < Duration::from_secs(6), "still open");
        assert_eq!(stage.heard(), []);
    });
}

fn limits(stage: &Stage) {
    let fields =
        |count: usize| get(&(1..count).map(|n| format!("X-{n}: v\r\n")).collect::<String>());
    stage.passes(fields(100), &["GET /p"]);
    stage.refuses_with(431, fields(101));
    stage.refuses_with(431, fields(1000));
    stage.refuses_with(431, get(&format!("X: {}\r\n", "v".repeat(32 * 1024))));
    stage.refuses_with(431, get(&format!("X: {}\r\n", "v".repeat(300 * 1024))));
    stage.passes(get(&format!("X: {}\r\n", "v".repeat(30 * 1024))), &["GET /p"]);
    let target = |size: usize| format!("/{}", "a".repeat(size - 1));
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
    stage.passes(line(&target(8192)), &[&format!("GET {}", target(8192))]);
    stage.refuses_with(414, line(&target(8193)));
    stage.on_both(b"a target without end", |mut wire| {
        wire.send("GET /");
        let _ = wire.try_send("a".repeat(200_000));
        expect_refusal(&mut wire, |status| status == 414 || status == 431);
        assert_eq!(stage.heard(), []);
    });
}
