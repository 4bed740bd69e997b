//! The worst of malformed framing: refused, the connection closed, and the app sees none of it.

use crate::harness::{Origin, Proxy};

const SMUGGLED: &str = "GET /smug HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// Sends `bytes` to a proxy and expects a refusal (4xx or 501), the end of the connection, and an
/// app that has heard nothing.
#[track_caller]
fn refused(bytes: impl AsRef<[u8]>) {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    for mut wire in [proxy.wire(), proxy.tls_wire()] {
        wire.send(bytes.as_ref());
        let answer = wire.read_answer();
        let refused = (400..500).contains(&answer.status()) || answer.status() == 501;
        assert!(refused, "{}", answer.head);
        let connection = answer.field("connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("close"), "{}", answer.head);
        let (rest, _) = wire.rest();
        assert!(rest.is_empty(), "a second answer: {}", String::from_utf8_lossy(&rest));
        wire.expect_end();
    }
    assert_eq!(origin.heard_text(), "", "the app heard of it");
}

/// A POST with these fields and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n{body}")
}

/// RFC 9112 §6.1 allows to go by the coding; what is refused cannot be read in two ways.
#[test]
fn content_length_beside_transfer_encoding() {
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    refused(post("Content-Length: 41\r\nTransfer-Encoding: chunked\r\n", &chunked));
    let body = "5\r\nAAAAA\r\n0\r\n\r\n";
    refused(post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", body));
}

#[test]
fn what_the_library_would_mend() {
    refused(post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"));
    refused("GET /p HTTP/1.1\nHost: app.test\r\n\r\n");
    refused("GET /p HTTP/1.1\r\nHost: app.test\n\r\n");
    refused("GET p HTTP/1.1\r\nHost: app.test\r\n\r\n");
    refused("GET /p#/../adm HTTP/1.1\r\nHost: app.test\r\n\r\n");
}

/// The second request of a connection is looked at like the first.
#[test]
fn an_ambiguous_head_on_a_kept_connection() {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    for mut wire in [proxy.wire(), proxy.tls_wire()] {
        wire.send(post("Content-Length: 5\r\n", "hello"));
        assert_eq!(wire.read_answer().status(), 200);
        wire.send("GET /second HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n");
        wire.send("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        assert_eq!(wire.read_answer().status(), 400);
        wire.expect_end();
    }
    assert!(!origin.heard_text().contains("/second"));
}

#[test]
fn two_lengths_that_differ() {
    refused(post("Content-Length: 5\r\nContent-Length: 3\r\n", "hello"));
    refused(post("Content-Length: 5, 3\r\n", "hello"));
}

#[test]
fn lengths_that_are_no_numbers() {
    for value in ["+5", "-5", "0x5", "5;a", "5.0", "18446744073709551621", "9223372036854775808"] {
        refused(post(&format!("Content-Length: {value}\r\n"), "hello"));
    }
}

#[test]
fn codings_that_are_not_just_chunked() {
    for value in
        ["gzip", "gzip, chunked", "chunked, identity", "identity", "xchunked", "\"chunked\""]
    {
        refused(post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n"));
    }
}

/// A list of codings was answered with 501 and the connection left open: what the client had sent
/// after it, which nobody could tell from its body, was forwarded as the next request.
#[test]
fn what_follows_a_refused_list_of_codings_is_no_request() {
    for value in ["gzip, chunked", "chunked, gzip", "chunked,", ",chunked", "chunked;q=1"] {
        let body = format!("0\r\n\r\n{SMUGGLED}");
        refused(post(&format!("Transfer-Encoding: {value}\r\n"), &body));
    }
}

/// `GET http://app.test?x` reached the app as `GET ?x`, which is no request line: an empty path is
/// `/` (RFC 9112 §3.2.1).
#[test]
fn a_target_in_absolute_form_without_a_path_is_the_root() {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    for (target, expected) in
        [("http://app.test?x", "/?x"), ("http://app.test", "/"), ("http://app.test/?x", "/?x")]
    {
        let mut wire = proxy.wire();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        assert_eq!(wire.read_answer().status(), 200, "{target}");
        assert_eq!(origin.last().target, expected, "{target}");
    }
}

#[test]
fn a_coding_given_twice() {
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    refused(post(twice, "0\r\n\r\n"));
    refused(post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"));
}

#[test]
fn a_name_with_a_space_before_the_colon() {
    refused(post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"));
    refused(post("Content-Length : 5\r\n", "hello"));
}

#[test]
fn a_folded_line() {
    refused(post("X-Fold: a\r\n Content-Length: 36\r\n", SMUGGLED));
    refused("GET / HTTP/1.1\r\n Host: app.test\r\n\r\n");
}

#[test]
fn a_nul_or_bare_carriage_return_in_a_value() {
    refused(post("X-Nul: a\0b\r\n", ""));
    refused(post("X-Cr: a\rb\r\n", ""));
    refused(post("X-Ctl: a\u{1}b\r\n", ""));
}

#[test]
fn two_hosts() {
    refused("GET / HTTP/1.1\r\nHost: app.test\r\nHost: evil.test\r\n\r\n");
    refused("GET / HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n");
}

#[test]
fn no_host() {
    refused("GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn a_target_that_disagrees_with_host() {
    refused("GET http://evil.test/ HTTP/1.1\r\nHost: app.test\r\n\r\n");
}

#[test]
fn a_version_that_does_not_exist() {
    refused("GET / HTTP/1.2\r\nHost: app.test\r\n\r\n");
    refused("GET / HTTP/3.7\r\nHost: app.test\r\n\r\n");
}

#[test]
fn a_line_without_a_colon_or_a_name() {
    refused("GET / HTTP/1.1\r\nHost: app.test\r\nnothing\r\n\r\n");
    refused("GET / HTTP/1.1\r\nHost: app.test\r\n: value\r\n\r\n");
}

/// The head may be at the app already, as bodies are streamed; a whole request must not be.
#[test]
fn a_bad_chunk_never_makes_a_whole_request() {
    for body in [
        format!("5\r\nAAAAAXX0\r\n\r\n{SMUGGLED}"),
        "Z\r\nhello\r\n0\r\n\r\n".to_owned(),
        "-5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n".to_owned(),
    ] {
        let origin = Origin::start();
        origin.route("*", "ok");
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        wire.send(post("Transfer-Encoding: chunked\r\n", &body));
        let answer = wire.read_answer();
        assert_eq!(answer.status(), 400, "{body:?}: {}", answer.head);
        let (rest, _) = wire.rest();
        assert!(rest.is_empty(), "{body:?}: {}", String::from_utf8_lossy(&rest));
        let heard = origin.heard_text();
        assert!(!heard.contains("\r\n0\r\n\r\n"), "{body:?} was whole at the app: {heard}");
        assert!(!heard.contains("/smug"), "{heard}");
    }
}

#[test]
fn a_post_without_a_length_has_no_body() {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(format!("{}{SMUGGLED}", post("", "")));
    assert_eq!(wire.read_answer().status(), 200);
    assert_eq!(wire.read_answer().status(), 200);
    let targets: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/p", "/smug"]);
}

#[test]
fn a_get_with_a_body_is_one_request() {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    let length = SMUGGLED.len();
    wire.send(format!("GET /p HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n"));
    wire.send(SMUGGLED);
    assert_eq!(wire.read_answer().status(), 200);
    wire.finish();
    wire.expect_end();
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(origin.last().target, "/p");
}

#[test]
fn what_follows_a_chunked_request_is_the_next_one() {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"));
    wire.send(SMUGGLED);
    assert_eq!(wire.read_answer().status(), 200);
    assert_eq!(wire.read_answer().status(), 200);
    assert_eq!(origin.requests().len(), 2);
}
