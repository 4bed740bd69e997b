//! Where a request ends: two readers must never disagree about it.

use super::stage::{Row, SMUGGLED, Stage, expect_refusal, get, play, post, summary};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("CL.TE", cl_te),
    ("TE.CL", te_cl),
    ("TE obfuscated value", te_value),
    ("TE list or repeat", te_list),
    ("TE name tricks", te_name),
    ("TE behind bare LF or CR", te_behind_bare),
    ("TE in HTTP/1.0", te_in_1_0),
    ("CL repeat or list", cl_list),
    ("CL syntax", cl_syntax),
    ("CL leading zeros", cl_zeros),
    ("GET, HEAD, OPTIONS with body", bodies_of_reads),
    ("no length on POST", no_length),
];

#[test]
fn framing() {
    play(&Stage::shipped(), ROWS);
}

const CHUNKED: &str = "5\r\nhello\r\n0\r\n\r\n";

fn cl_te(stage: &Stage) {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    for fields in [
        "Content-Length: 41\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "content-length: 41\r\nTRANSFER-ENCODING: CHUNKED\r\n",
        "Content-Length: 41\r\nX: y\r\nTransfer-Encoding:\tchunked\t\r\n",
    ] {
        stage.refuses_with(400, post(fields, &body));
    }
    on_a_kept_connection(stage);
}

/// The second request of a connection is looked at like the first.
fn on_a_kept_connection(stage: &Stage) {
    let fields = "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n";
    let second = post(fields, "0\r\n\r\n").replace("/p", "/second");
    stage.on_both(second.as_bytes(), |mut wire| {
        wire.send(post("Content-Length: 5\r\n", "hello"));
        assert_eq!(wire.read_answer().status(), 200);
        wire.send(&second);
        expect_refusal(&mut wire, |status| status == 400);
        let heard: Vec<_> = stage.heard().iter().map(summary).collect();
        assert_eq!(heard, ["POST /p hello"]);
    });
}

fn te_cl(stage: &Stage) {
    let body = format!("5c\r\n{}\r\n0\r\n\r\n", "A".repeat(92));
    stage.refuses_with(400, post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &body));
    let get = get("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n");
    stage.refuses_with(400, get + &body);
}

fn te_value(stage: &Stage) {
    for value in [
        "xchunked",
        "chunked, identity",
        "\"chunked\"",
        "\x0bchunked",
        "\x0cchunked",
        "chunked\x0b",
        "chunked;a=b",
        "chunked ;",
        "gzip",
        "identity",
        "",
        "chunked\0",
        "chunk",
        "chunkedd",
        "=?UTF-8?B?Y2h1bmtlZA==?=",
        "'chunked'",
        "chun ked",
    ] {
        for length in ["", "Content-Length: 5\r\n"] {
            let fields = format!("Transfer-Encoding: {value}\r\n{length}");
            stage.refuses(post(&fields, CHUNKED));
        }
    }
    let mut bytes =
        b"POST /p HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: \xa0chunked\r\n".to_vec();
    bytes.extend_from_slice(b"\r\n5\r\nhello\r\n0\r\n\r\n");
    stage.refuses(bytes);
}

fn te_list(stage: &Stage) {
    for value in [
        ",chunked",
        "chunked,",
        ", chunked",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, gzip",
        "trailers, chunked",
    ] {
        stage.refuses(post(
            &format!("Transfer-Encoding: {value}\r\n"),
            &format!("0\r\n\r\n{SMUGGLED}"),
        ));
    }
    for (one, other) in [
        ("chunked", "chunked"),
        ("identity", "chunked"),
        ("chunked", "identity"),
        ("gzip", "chunked"),
        ("", "chunked"),
    ] {
        let fields = format!("Transfer-Encoding: {one}\r\nTransfer-Encoding: {other}\r\n");
        stage.refuses(post(&fields, &format!("0\r\n\r\n{SMUGGLED}")));
        let fields = format!("Transfer-Encoding: {one}\r\nX: y\r\ntransfer-encoding: {other}\r\n");
        stage.refuses(post(&fields, &format!("0\r\n\r\n{SMUGGLED}")));
    }
}

fn te_name(stage: &Stage) {
    for line in [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer-Encoding\x0b: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\r\n\tTransfer-Encoding: chunked\r\n",
        "Transfer-\r\nEncoding: chunked\r\n",
        "Transfer-\r\n Encoding: chunked\r\n",
        "Transfer\\Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "\"Transfer-Encoding\": chunked\r\n",
        "(Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "Transfer-Encoding\u{85}: chunked\r\n",
    ] {
        stage.refuses(post(&format!("{line}Content-Length: 5\r\n"), "hello"));
        stage.refuses(post(line, CHUNKED));
    }
    let mut bytes =
        b"POST /p HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding\x85: chunked\r\n".to_vec();
    bytes.extend_from_slice(b"\r\n5\r\nhello\r\n0\r\n\r\n");
    stage.refuses(bytes);
    for name in ["Transfer_Encoding", "Transfer.Encoding", "transfer_encoding"] {
        let fields = format!("{name}: chunked\r\nContent-Length: 5\r\n");
        stage.passes(post(&fields, "hello"), &["POST /p hello"]);
    }
}

fn te_behind_bare(stage: &Stage) {
    for end in ["\n", "\r"] {
        let fields = format!("X: y{end}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n");
        stage.refuses(post(&fields, "0\r\n\r\n"));
        let fields = format!("Content-Length: 5\r\nX: y{end}Transfer-Encoding: chunked\r\n");
        stage.refuses(post(&fields, "0\r\n\r\n"));
        let fields = format!("X: y{end}Content-Length: 36\r\n");
        stage.refuses(post(&fields, SMUGGLED));
    }
}

fn te_in_1_0(stage: &Stage) {
    for fields in ["", "Connection: keep-alive\r\n", "Connection: close\r\n"] {
        let head = format!("POST /p HTTP/1.0\r\nHost: app.test\r\n{fields}");
        for length in ["", "Content-Length: 5\r\n"] {
            let head = format!("{head}{length}Transfer-Encoding: chunked\r\n\r\n");
            stage.refuses(format!("{head}0\r\n\r\n{SMUGGLED}"));
        }
    }
}

fn cl_list(stage: &Stage) {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\ncontent-length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 5, 3\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: ,5\r\n",
        "Content-Length:\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
    ] {
        stage.refuses_with(400, post(fields, "hello"));
    }
}

fn cl_syntax(stage: &Stage) {
    for value in [
        "+5",
        "-5",
        "-0",
        "5 5",
        "0x5",
        "1_0",
        "5.0",
        "5e0",
        "5;a",
        "\x0b5",
        "5\x0b",
        "\u{665}",
        "5\0",
        "",
        " ",
        "\"5\"",
        "5\r 6",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "9223372036854775808",
        "340282366920938463463374607431768211461",
    ] {
        stage.refuses(post(&format!("Content-Length: {value}\r\n"), "hello"));
    }
}

fn cl_zeros(stage: &Stage) {
    for value in ["005", "00000000005", "05", "5", " 5", "5 ", "\t5"] {
        let bytes = post(&format!("Content-Length: {value}\r\n"), "hello");
        stage.passes_or_refuses(bytes, &["POST /p hello"]);
    }
    stage.passes(post("Content-Length: 00\r\n", ""), &["POST /p"]);
    // Octal readers see 8.
    stage.passes_or_refuses(post("Content-Length: 010\r\n", "hellohello"), &["POST /p hellohello"]);
}

fn bodies_of_reads(stage: &Stage) {
    let framed = SMUGGLED.trim_end();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let length = SMUGGLED.len();
        let head = format!("{method} /p HTTP/1.1\r\nHost: app.test\r\n");
        let wanted = format!("{method} /p {framed}");
        stage.passes(format!("{head}Content-Length: {length}\r\n\r\n{SMUGGLED}"), &[&wanted]);
        let chunks = format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
        stage.passes(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"), &[&wanted]);
    }
}

/// A body that nothing tells of is none: what follows is a request of its own.
fn no_length(stage: &Stage) {
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let head = format!("{method} /p HTTP/1.1\r\nHost: app.test\r\n\r\n");
        stage.passes(format!("{head}{SMUGGLED}"), &[&format!("{method} /p"), "GET /smug"]);
    }
}
