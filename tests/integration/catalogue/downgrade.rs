//! HTTP/2 on one side, HTTP/1.1 on the other: what frames can say that lines cannot.

use super::stage::{Row, SMUGGLED, Stage, summary};
use crate::harness::eventually;
use crate::harness::h2_frames::{
    self, CANCEL, END_HEADERS, END_STREAM, Fate, Frames, GET, HEADERS, PADDED, RST_STREAM, data,
    head,
};
use crate::harness::strict::Heard;

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("control characters, names", bytes_in_fields),
    ("spaces around values", spaces),
    ("connection fields and te", connection_fields),
    ("content-length against DATA", lengths),
    ("path", paths),
    ("method and scheme", methods_and_schemes),
    ("authority", authorities),
    ("pseudo-field rules", pseudo_rules),
    ("trailers", trailers),
    ("cookies", cookies),
    ("CONNECT", connect),
];

#[test]
fn downgrade() {
    super::stage::play(&Stage::shipped(), ROWS);
}

type Field<'a> = (&'a str, &'a str);

/// The head of a request for `/p` with these fields more.
fn with<'a>(method: &'a str, more: &[Field<'a>]) -> Vec<Field<'a>> {
    let [_, scheme, _, authority] = GET;
    [&[(":method", method), scheme, (":path", "/p"), authority][..], more].concat()
}

/// A GET as frames.
fn get(more: &[Field<'_>]) -> Vec<u8> {
    head(1, true, &with("GET", more))
}

/// The beginning of a POST as frames.
fn post(more: &[Field<'_>]) -> Vec<u8> {
    head(1, false, &with("POST", more))
}

impl Stage {
    /// Frames on stream 1 that are refused: nothing of it is at the app.
    fn refuses_frames(&self, bytes: &[u8]) {
        self.in_frames(bytes, |fate| {
            expect_refused(fate);
            assert_eq!(self.heard(), [], "the app heard of it");
        });
    }

    /// The same of what may be at the app in part already: it never has a whole request.
    fn cuts_frames(&self, bytes: &[u8]) {
        self.in_frames(bytes, |fate| {
            expect_refused(fate);
            let heard = self.heard();
            assert!(heard.iter().all(|one| !one.is_whole), "whole at the app: {heard:?}");
        });
    }

    /// This one request, `METHOD target body`, reaches the app, and its answer the client.
    fn passes_frames(&self, bytes: &[u8], wanted: &str, judge: impl Fn(&Heard)) {
        self.in_frames(bytes, |fate| {
            assert_eq!(fate, Fate::Answered(200));
            let heard = self.heard();
            assert_eq!(heard.iter().map(summary).collect::<Vec<_>>(), [wanted]);
            heard.iter().for_each(&judge);
        });
    }

    fn in_frames(&self, bytes: &[u8], judge: impl FnOnce(Fate)) {
        let shown = bytes[..bytes.len().min(200)].escape_ascii().to_string();
        self.case(&shown, || {
            self.origin.take_heard();
            let mut frames = Frames::to(&self.proxy);
            let _ = frames.try_send_all(bytes);
            judge(frames.fate(1));
        });
        self.case(&format!("probes after {shown}"), || self.probe());
    }
}

/// An error in any of the ways that HTTP/2 has for it.
#[track_caller]
fn expect_refused(fate: Fate) {
    let is_refused = match fate {
        Fate::Answered(status) => (400..500).contains(&status) || status == 501,
        Fate::Reset(code) | Fate::GoneAway(code) => code != 0,
        Fate::Cut => true,
        Fate::Open => false,
    };
    assert!(is_refused, "{fate:?}");
}

fn bytes_in_fields(stage: &Stage) {
    for value in [
        "a\r\ntransfer-encoding: chunked",
        "a\r\n\r\nGET /smug HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "a\rb",
        "a\nb",
        "a\n",
        "\r",
        "a\0b",
        "\0",
        "a\u{1}b",
        "a\u{1b}[2J",
        "a\u{7f}b",
    ] {
        stage.refuses_frames(&get(&[("x", value)]));
        stage.refuses_frames(&get(&[("cookie", value)]));
        stage.refuses_frames(&get(&[("user-agent", value)]));
    }
    for name in ["", ":", "x: y", "x\r\ny", "Xy", "Transfer-Encoding", "\u{c5}\u{bf}"] {
        stage.refuses_frames(&get(&[(name, "a")]));
    }
    // Whatever is no character of a token in lower case (RFC 9110 §5.6.2, RFC 9113 §8.2.1).
    let is_fine = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    for byte in (0..=255).filter(|byte| !is_fine(*byte)) {
        stage.refuses_frames(&get(&[(&format!("x{}y", char::from(byte)), "a")]));
    }
    // Bytes beyond ASCII are opaque in values (RFC 9110 §5.5).
    stage.passes_frames(&get(&[("x", "\u{c3}\u{a9}\u{ff}")]), "GET /p", |heard| {
        assert_eq!(heard.values("x"), ["\u{c3}\u{a9}\u{ff}"]);
    });
    stage.passes_frames(&get(&[("x", "a\tb  c"), ("y", "")]), "GET /p", |heard| {
        assert_eq!(heard.values("x"), ["a\tb  c"]);
        assert_eq!(heard.values("y"), [""]);
    });
}

/// RFC 9113 §8.2.1: a value neither begins nor ends with white space.
fn spaces(stage: &Stage) {
    for value in [" a", "a ", " a ", "\ta", "a\t", " ", "\t \t"] {
        for name in ["x", "cookie", "host", "content-length", "authorization", "te"] {
            stage.refuses_frames(&get(&[(name, value)]));
        }
    }
    let trailing = [post(&[]), data(1, false, "hello"), head(1, true, &[("x", " a")])].concat();
    stage.cuts_frames(&trailing);
}

fn connection_fields(stage: &Stage) {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    for field in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("connection", "close"),
        ("connection", "x"),
        ("connection", ""),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
        ("te", "trailers;q=0.5"),
        ("te", ""),
    ] {
        stage.refuses_frames(&get(&[field]));
        stage.refuses_frames(&[post(&[field]), data(1, true, &body)].concat());
        let length = body.len().to_string();
        let both = [field, ("content-length", &length)];
        stage.refuses_frames(&[post(&both), data(1, true, &body)].concat());
    }
    stage.passes_frames(&get(&[("te", "trailers")]), "GET /p", |_| {});
    // The strict reader sees to it that none of these goes on.
    let others = [("http2-settings", "AAMAAABkAAQAAP__"), ("proxy", "http://evil.test")];
    stage.passes_frames(&get(&others), "GET /p", |_| {});
}

fn lengths(stage: &Stage) {
    let sent = |fields: &[Field<'_>], pieces: &[&str]| {
        let mut bytes = post(fields);
        for (n, piece) in pieces.iter().enumerate() {
            bytes.extend(data(1, n + 1 == pieces.len(), piece));
        }
        bytes
    };
    let length = |value| [("content-length", value)];
    for (value, pieces) in [
        ("3", &["hello"][..]),
        ("3", &["hel", "lo"]),
        ("3", &["hel", "", "lo"]),
        ("3", &["h", "ello"]),
        ("5", &["hello", SMUGGLED]),
        ("9", &["hello"]),
        ("9", &["hello", ""]),
        ("0", &[SMUGGLED]),
        ("0", &["", SMUGGLED]),
        ("18446744073709551615", &["hello"]),
        ("9223372036854775808", &["hello"]),
    ] {
        stage.cuts_frames(&sent(&length(value), pieces));
    }
    for value in [
        "+5",
        "-5",
        "5 5",
        "5, 5",
        "5,5",
        "5, 3",
        "",
        "0x5",
        "5.0",
        "5e0",
        "1_0",
        "5;a",
        "\u{b}5",
        "18446744073709551621",
        "99999999999999999999999999",
    ] {
        stage.refuses_frames(&sent(&length(value), &["hello"]));
    }
    for (one, other) in [("5", "3"), ("3", "5"), ("5", "5"), ("5", ""), ("0", "5"), ("5", "05")] {
        let both = [("content-length", one), ("x", "y"), ("content-length", other)];
        stage.refuses_frames(&sent(&both, &["hello"]));
    }
    for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
        stage.refuses_frames(&head(1, true, &with(method, &length("5"))));
    }
    lengths_that_end_otherwise(stage);
    stage.passes_frames(&sent(&length("5"), &["he", "", "llo", ""]), "POST /p hello", |_| {});
    stage.passes_frames(&sent(&length("005"), &["hello"]), "POST /p hello", |heard| {
        assert_eq!(heard.values("content-length"), ["5"]);
    });
    stage.passes_frames(&sent(&length("0"), &[""]), "POST /p", |_| {});
    let get_with_body = [head(1, false, &with("GET", &[])), data(1, true, SMUGGLED)].concat();
    let wanted = format!("GET /p {SMUGGLED}");
    stage.passes_frames(&get_with_body, wanted.trim_end(), |_| {});
}

/// The length is right, and the stream does not end with it.
fn lengths_that_end_otherwise(stage: &Stage) {
    let begun = [post(&[("content-length", "5")]), data(1, false, "hello")].concat();
    stage.case("the length, and a reset", || {
        stage.origin.take_heard();
        let mut frames = Frames::to(&stage.proxy);
        frames.try_send_all(&begun).unwrap();
        eventually("the head at the app", || {
            let heard = stage.heard();
            assert!(heard.iter().all(|one| !one.is_whole), "whole at the app: {heard:?}");
            !heard.is_empty()
        });
        frames.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        stage.proxy.access_line(|line| line.contains(" 499 "));
        stage.probe();
        let later: Vec<String> = stage.heard().iter().map(summary).collect();
        assert!(later.iter().all(|one| one.starts_with("GET /probe/")), "{later:?}");
    });
    let trailed = [begun, head(1, true, &[("x", "y")])].concat();
    stage.passes_frames(&trailed, "POST /p hello", |_| {});
}

fn paths(stage: &Stage) {
    let [method, scheme, _, authority] = GET;
    let asking = |path| head(1, true, &[method, scheme, (":path", path), authority]);
    for path in [
        "/a HTTP/1.1\r\nX: y",
        "/a HTTP/1.1\r\n\r\nGET /smug",
        "/a b",
        "/a ",
        " /a",
        "/a\tb",
        "/a\0",
        "/a\r",
        "/a\n",
        "/a\u{7f}",
        "evil",
        "evil.test:80",
        "@evil.test/",
        "http://evil.test/x",
        "https://app.test/x",
        "",
        "/a#b",
        "/#",
        "#",
        "/a?b#c",
        "?a",
        "*",
        "**",
        "*/a",
        "/\u{ff}",
        "/\u{c3}\u{a9}",
        "/%00",
        "/%zz",
    ] {
        stage.refuses_frames(&asking(path));
    }
    for path in ["/a?b=c", "//evil.test/p", "/a%2fb", "/a?%23", "/?", "/a;b"] {
        let wanted = format!("GET {path}");
        stage.passes_frames(&asking(path), &wanted, |_| {});
    }
    let options = head(1, true, &[(":method", "OPTIONS"), scheme, (":path", "*"), authority]);
    stage.passes_frames(&options, "OPTIONS *", |_| {});
    fragments_in_other_codings(stage);
}

/// `/a#b` by Huffman's code, and once more from the dynamic table.
fn fragments_in_other_codings(stage: &Stage) {
    let [method, scheme, _, authority] = GET;
    let rest = h2_frames::text_block(&[method, scheme, authority]);
    let huffman = vec![0x04, 0x84, 0x60, 0x7f, 0xf5, 0x1f];
    for path in [huffman, [&[0x44, 4][..], b"/a#b"].concat()] {
        let block = [&rest[..], &path].concat();
        stage.refuses_frames(&h2_frames::encode(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        let padded = [&[3][..], &block, &[0; 3]].concat();
        let flags = END_STREAM | END_HEADERS | PADDED;
        stage.refuses_frames(&h2_frames::encode(HEADERS, flags, 1, &padded));
        let (first, second) = block.split_at(block.len() - 2);
        let mut cut = h2_frames::encode(HEADERS, END_STREAM, 1, first);
        cut.extend(h2_frames::encode(h2_frames::CONTINUATION, END_HEADERS, 1, second));
        stage.refuses_frames(&cut);
    }
}

fn methods_and_schemes(stage: &Stage) {
    let [_, _, path, authority] = GET;
    for method in [
        "GET /adm HTTP/1.1\r\nX:",
        "GET /adm",
        "GET ",
        " GET",
        "",
        "G\0T",
        "GET\r\n",
        "G\u{e9}T",
        "GET:",
        "\"GET\"",
        "TRACE",
    ] {
        stage.refuses_frames(&head(1, true, &with(method, &[])));
    }
    let long = "X".repeat(5000);
    stage.refuses_frames(&head(1, true, &with(&long, &[])));
    for scheme in [
        "https://evil.test/x?",
        "http\r\nX: y",
        "http",
        "",
        "https ",
        "ftp",
        "file",
        "https:",
        "h\0",
        "javascript",
    ] {
        stage.refuses_frames(&head(1, true, &[GET[0], (":scheme", scheme), path, authority]));
        let by_host = [GET[0], (":scheme", scheme), path, ("host", "app.test")];
        stage.refuses_frames(&head(1, true, &by_host));
    }
    stage.passes_frames(&head(1, true, &with("PROPFIND", &[])), "PROPFIND /p", |heard| {
        assert_eq!(heard.values("x-forwarded-proto"), ["https"]);
    });
}

fn authorities(stage: &Stage) {
    let [method, scheme, path, good] = GET;
    for authority in [
        "app.test\r\nX: y",
        "app.test\r\n\r\nGET /smug",
        "app.test\0",
        "app.test ",
        " app.test",
        "u:p@app.test",
        "@app.test",
        "evil.test@app.test",
        "app.test/x",
        "app.test?x",
        "app.test#x",
        "app.test\\x",
        "a b",
        "app.test, evil.test",
        "app.test:99999",
        "app.test:443:443",
        "app.test:x",
        "[::1",
        "",
        ":443",
        "*",
        "http://app.test",
    ] {
        stage.refuses_frames(&head(1, true, &[method, scheme, path, (":authority", authority)]));
        stage.refuses_frames(&head(1, true, &[method, scheme, path, ("host", authority)]));
        let both = [method, scheme, path, good, ("host", authority)];
        stage.refuses_frames(&head(1, true, &both));
    }
    stage.refuses_frames(&head(1, true, &[method, scheme, path]));
    stage.refuses_frames(&head(1, true, &[method, scheme, path, good, good]));
    stage.refuses_frames(&head(
        1,
        true,
        &[method, scheme, path, good, (":authority", "evil.test")],
    ));
    stage.refuses_frames(&get(&[("host", "app.test"), ("host", "app.test")]));
    stage.refuses_frames(&get(&[("host", "evil.test")]));
    let is_one = |heard: &Heard| assert!(heard.values("host")[0].starts_with("app.test"));
    stage.passes_frames(&get(&[("host", "app.test")]), "GET /p", is_one);
    stage.passes_frames(&get(&[("host", "APP.test:443")]), "GET /p", is_one);
    let by_host = head(1, true, &[method, scheme, path, ("host", "app.test")]);
    stage.passes_frames(&by_host, "GET /", is_one);
}

fn pseudo_rules(stage: &Stage) {
    let [method, scheme, path, authority] = GET;
    let more = ("x", "y");
    for fields in [
        &[method, method, scheme, path, authority][..],
        &[method, (":method", "POST"), scheme, path, authority],
        &[method, scheme, scheme, path, authority],
        &[method, scheme, path, path, authority],
        &[method, scheme, path, (":path", "/evil"), authority],
        &[more, method, scheme, path, authority],
        &[method, more, scheme, path, authority],
        &[method, scheme, more, path, authority],
        &[method, scheme, path, more, authority],
        &[method, scheme, path, authority, more, (":path", "/evil")],
        &[method, scheme, path, authority, (":status", "200")],
        &[method, scheme, path, authority, (":nonsense", "1")],
        &[method, scheme, path, authority, (":", "1")],
        &[method, scheme, path, authority, (":Path", "/")],
        &[method, scheme, path, authority, (":path ", "/")],
        &[method, scheme, path, authority, (":protocol", "websocket")],
        &[scheme, path, authority],
        &[method, path, authority],
        &[method, scheme, authority],
        &[authority],
        &[more],
        &[],
    ] {
        stage.refuses_frames(&head(1, true, fields));
        let body = [head(1, false, fields), data(1, true, SMUGGLED)].concat();
        stage.refuses_frames(&body);
    }
}

fn trailers(stage: &Stage) {
    let trailed = |begin: &[u8], flags: u8, block: &[u8]| {
        let trailers = h2_frames::encode(HEADERS, flags, 1, block);
        [begin, &data(1, false, "hello"), &trailers].concat()
    };
    let (end, counted) = (END_STREAM | END_HEADERS, post(&[("content-length", "5")]));
    // Dropped: the strict reader wants none behind the last chunk.
    for field in [
        ("content-length", "50"),
        ("host", "evil.test"),
        ("x-forwarded-for", "6.6.6.6"),
        ("authorization", "Basic eA=="),
        ("cookie", "a=b"),
        ("trailer", "x"),
        ("x", "y"),
    ] {
        let block = h2_frames::text_block(&[field]);
        stage.passes_frames(&trailed(&post(&[]), end, &block), "POST /p hello", |_| {});
    }
    for begin in [&post(&[]), &counted] {
        for field in [
            (":path", "/evil"),
            (":method", "GET"),
            (":authority", "evil.test"),
            (":scheme", "http"),
            (":status", "200"),
            (":protocol", "websocket"),
            (":x", "y"),
            ("transfer-encoding", "chunked"),
            ("connection", "x"),
            ("X", "y"),
            ("x", "a\r\nb: c"),
            ("", "x"),
        ] {
            for block in [h2_frames::text_block(&[field]), h2_frames::indexed_block(&[field])] {
                stage.cuts_frames(&trailed(begin, end, &block));
            }
        }
        // `:path: /`, `:method` by its index, `:path` by Huffman's code.
        for block in [&[0x84][..], &[0x02, 1, b'X'], &[0, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 1, b'/']] {
            stage.cuts_frames(&trailed(begin, end, block));
        }
        // The stream goes on behind what ends it (RFC 9113 §8.1).
        let block = h2_frames::text_block(&[("x", "y")]);
        stage.cuts_frames(&trailed(begin, END_HEADERS, &block));
        let more = [trailed(begin, END_HEADERS, &block), data(1, true, "more")].concat();
        stage.cuts_frames(&more);
    }
    stage.case("from the dynamic table", || {
        stage.origin.take_heard();
        let mut frames = Frames::to(&stage.proxy);
        let [method, scheme, _, authority] = GET;
        let fields = [method, scheme, authority, ("x-last", "z"), (":path", "/evil")];
        let (pseudo, path) = (&[fields[0], fields[1], fields[2]], &fields[4..]);
        let head = [h2_frames::text_block(pseudo), h2_frames::indexed_block(path)].concat();
        frames.send(HEADERS, END_HEADERS, 1, &head);
        // The newest entry.
        let bytes = trailed(&[], end, &[0xbe]);
        frames.try_send_all(&bytes).unwrap();
        expect_refused(frames.fate(1));
        let heard = stage.heard();
        assert!(heard.iter().all(|one| !one.is_whole), "whole at the app: {heard:?}");
    });
}

fn cookies(stage: &Stage) {
    for (crumbs, whole) in [
        (&["a=1", "b=2"][..], "a=1; b=2"),
        (&["a=1", "b=2", "c=3; d=4"], "a=1; b=2; c=3; d=4"),
        (&["a=1"], "a=1"),
    ] {
        let fields: Vec<Field<'_>> =
            crumbs.iter().flat_map(|crumb| [("cookie", *crumb), ("x", "y")]).collect();
        stage.passes_frames(&get(&fields), "GET /p", |heard| {
            assert_eq!(heard.values("cookie"), [whole]);
        });
    }
    let crumbs = vec![("cookie", "a=1"); 101];
    stage.refuses_frames(&get(&crumbs));
}

fn connect(stage: &Stage) {
    let connect = (":method", "CONNECT");
    let [_, scheme, path, authority] = GET;
    let local = (":authority", "127.0.0.1:22");
    for fields in [
        &[connect, local][..],
        &[connect, authority],
        &[connect, scheme, path, local],
        &[connect, scheme, path, authority],
        &[connect],
        &[connect, authority, (":protocol", "websocket")],
        &[connect, scheme, path, (":protocol", "websocket")],
        &[connect, scheme, path, authority, (":protocol", "")],
        &[connect, scheme, path, authority, (":protocol", "h2c")],
        &[connect, scheme, path, authority, (":protocol", "connect-tcp")],
        &[connect, scheme, path, authority, (":protocol", "websocket\r\nX: y")],
        &[connect, scheme, path, local, (":protocol", "websocket")],
        &[connect, authority, ("content-length", "36")],
    ] {
        stage.refuses_frames(&head(1, true, fields));
        let body = [head(1, false, fields), data(1, false, SMUGGLED)].concat();
        stage.refuses_frames(&body);
    }
}
