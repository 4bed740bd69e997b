//! The chunked coding of a request: what is not exactly it never becomes a whole request.

use super::stage::{Row, SMUGGLED, Stage, play, post, summary};
use crate::harness::Wire;

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("bare LF", bare_lf),
    ("extension with LF or CR", extension),
    ("spill", spill),
    ("size syntax", size_syntax),
    ("size overflow", size_overflow),
    ("huge extension", huge_extension),
    ("trailers", trailers),
    ("truncation", truncation),
];

#[test]
fn chunked() {
    play(&Stage::shipped(), ROWS);
}

fn chunks(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn bare_lf(stage: &Stage) {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n0\r\r\n",
        "0\n\r\n",
        "\n0\r\n\r\n",
    ] {
        stage.cuts(chunks(&format!("{body}{SMUGGLED}")));
    }
    well_formed(stage);
}

/// The coding as it should be, and a request behind it.
fn well_formed(stage: &Stage) {
    for body in ["5\r\nhello\r\n0\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"] {
        stage.passes(chunks(body) + SMUGGLED, &["POST /p hello", "GET /smug"]);
    }
}

fn extension(stage: &Stage) {
    for end in ["\n", "\r", "\r\r", "\rX", "\n\r"] {
        let body =
            format!("2;{end}xx\r\n10\r\n1f\r\nAAAABBBBCCCC\r\n0\r\n\r\nDDDDEEEEFFFF\r\n0\r\n\r\n");
        stage.cuts(chunks(&body));
        stage.cuts(chunks(&format!("5;a{end}\r\nhello\r\n0\r\n\r\n")));
    }
    for body in ["5;\0\r\nhello\r\n0\r\n\r\n", "5 ;a\x01\r\nhello\r\n0\r\n\r\n"] {
        stage.cuts(chunks(body));
    }
    // What the grammar has is read over, and nothing of it is passed on.
    for extension in [";a", ";a=b", ";a=\"b;c\"", " ;a=b"] {
        let body = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        stage.passes_or_refuses(chunks(&body), &["POST /p hello"]);
    }
}

fn spill(stage: &Stage) {
    for body in [
        "5\r\nAAAAAXX0\r\n\r\n",
        "5\r\nAAAAA0\r\n\r\n",
        "5\r\nAAAAAX\r\n0\r\n\r\n",
        "5\r\nAAAAA\rX0\r\n\r\n",
        "5\r\nAAAA\r\n0\r\n\r\n",
    ] {
        stage.cuts(chunks(&format!("{body}{SMUGGLED}")));
    }
}

fn size_syntax(stage: &Stage) {
    for size in [
        "+5", "-1", "0x5", "0_5", "Z", "5zz", "", " 5", "\t5", "5 ", "5\t", "5 5", "5,", "5.0",
        "\x0b5", "5\x0b", "\u{665}", "'5'",
    ] {
        stage.cuts(chunks(&format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}")));
    }
    for size in ["05", "A"] {
        let data = if size == "A" { "hellohello" } else { "hello" };
        let body = format!("{size}\r\n{data}\r\n0\r\n\r\n");
        stage.passes_or_refuses(chunks(&body), &[&format!("POST /p {data}")]);
    }
}

fn size_overflow(stage: &Stage) {
    for size in [
        "FFFFFFFFFFFFFFFFF",
        "FFFFFFFFFFFFFFFF",
        "8000000000000005",
        "10000000000000005",
        "1000000000000000000000005",
    ] {
        stage.cuts(chunks(&format!("{size}\r\nhello\r\n0\r\n\r\n")));
    }
    stage.cuts(chunks(&format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(300))));
    stage.cuts(chunks(&format!("5\r\nhello\r\n{}\r\n\r\n", "0".repeat(300))));
}

fn huge_extension(stage: &Stage) {
    stage.cuts(chunks(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(70_000))));
    let dear = format!("1;{}\r\nx\r\n", "a".repeat(16 * 1024));
    stage.cuts(chunks(&format!("{}0\r\n\r\n", dear.repeat(20))));
    let many = format!("1;{}\r\nx\r\n", "a".repeat(60)).repeat(1000);
    stage.cuts(chunks(&format!("{many}0\r\n\r\n")));
}

fn trailers(stage: &Stage) {
    let trailers = "Content-Length: 50\r\nHost: evil.test\r\nX-Forwarded-For: 6.6.6.6\r\n\
                    Transfer-Encoding: chunked\r\nAuthorization: Basic eA==\r\nX_Forwarded_For: 6.6.6.6\r\n\
                    X-Odd: one\r\n";
    for te in ["", "TE: trailers\r\nConnection: TE\r\n", "Trailer: Host, X-Odd\r\n"] {
        let fields = format!("{te}Transfer-Encoding: chunked\r\n");
        let body = format!("5\r\nhello\r\n0\r\n{trailers}\r\n");
        stage.passes_as(post(&fields, &body), &["POST /p hello"], |heard| {
            assert!(!format!("{heard:?}").contains("6.6.6.6"), "{heard:?}");
            assert!(heard.values("authorization").is_empty() && heard.values("x-odd").is_empty());
        });
    }
    let many: String = (0..3000).map(|n| format!("X-{n}: v\r\n")).collect();
    let long = format!("X: {}\r\n", "v".repeat(70_000));
    for trailers in [
        many.as_str(),
        long.as_str(),
        "no colon\r\n",
        ": no name\r\n",
        "X : space\r\n",
        "X: y\r\n folded\r\n",
        "X: a\nY: b\r\n",
        "X: a\r\nY: b\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X: a\x01b\r\n",
    ] {
        stage.cuts(chunks(&format!("5\r\nhello\r\n0\r\n{trailers}\r\n{SMUGGLED}")));
    }
    // The guard goes on behind trailers.
    let bad = "GET p HTTP/1.1\r\nHost: app.test\r\n\r\n";
    stage.on_both(b"an ambiguous head behind trailers", |mut wire| {
        wire.send(chunks("5\r\nhello\r\n0\r\nX: y\r\n\r\n") + bad);
        assert_eq!(wire.read_answer().status(), 200);
        assert_eq!(wire.read_answer().status(), 400);
        wire.expect_end();
        let heard: Vec<String> = stage.heard().iter().map(summary).collect();
        assert_eq!(heard, ["POST /p hello"]);
    });
}

fn truncation(stage: &Stage) {
    for body in
        ["5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0", "5\r\nhello\r\n0\r\n", "5"]
    {
        stage.on_both(chunks(body).as_bytes(), |mut wire: Wire| {
            wire.send(chunks(body));
            wire.finish();
            let (said, _) = wire.rest();
            assert!(!said.starts_with(b"HTTP/1.1 2"), "{}", said.escape_ascii());
            assert!(stage.heard().iter().all(|heard| !heard.is_whole));
        });
    }
}
