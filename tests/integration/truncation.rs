//! Answers that an app breaks off: what there was reaches the client, and never looks whole.

use crate::harness::wire::End;
use crate::harness::{Proxy, Request, Script};

/// What an app says in one write before it ends the connection, and what of it every client gets.
const BROKEN: [(&str, &str); 4] = [
    ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly the start", "only the start"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello", "hello"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", ""),
];

/// A head, a part of its body and the end in one write left the client with nothing at all, as did
/// a chunk without a size after a good head.
#[test]
fn what_came_before_the_break_reaches_a_client_of_http_1() {
    for (answer, part) in BROKEN {
        let origin = Script::answering(answer);
        let proxy = Proxy::plain_to(&origin).start();
        for mut wire in [proxy.wire(), proxy.tls_wire()] {
            wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            let (bytes, end) = wire.rest();
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}: {text:?} {end:?}");
            assert!(text.contains("\r\n\r\n") && text.contains(part), "{answer:?}: {text:?}");
            assert!(!text.ends_with("0\r\n\r\n"), "{answer:?} looks whole: {text:?}");
            assert_ne!(end, End::Open, "{answer:?}");
        }
    }
}

/// The same over HTTP/2, where the stream is reset.
#[test]
fn what_came_before_the_break_reaches_a_client_of_http_2() {
    for (answer, part) in BROKEN {
        let origin = Script::answering(answer);
        let proxy = Proxy::to(&origin).start();
        let mut streaming = proxy.client().http2().start(Request::get("/").body(()).unwrap());
        assert_eq!(streaming.status(), 200, "{answer:?}");
        let mut seen = Vec::new();
        let error = loop {
            match streaming.chunk() {
                Some(Ok(piece)) => seen.extend(piece),
                Some(Err(error)) => break error,
                None => panic!("{answer:?} ended as if it were whole"),
            }
        };
        assert_eq!(String::from_utf8_lossy(&seen), part, "{answer:?}: {error}");
    }
}

/// To a client of HTTP/1.0 the end of the connection is the end of the body, so that a FIN made a
/// part look like the whole; in the clear only a reset tells.
#[test]
fn a_client_of_http_1_0_sees_a_reset_where_an_answer_broke_off() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (answer, expected) in [
        (chunked.to_owned(), End::Cut),
        (format!("{chunked}zz\r\n"), End::Cut),
        (format!("{chunked}0\r\n\r\n"), End::Closed),
    ] {
        let origin = Script::answering(answer.clone());
        let proxy = Proxy::plain_to(&origin).start();
        for mut wire in [proxy.wire(), proxy.tls_wire()] {
            wire.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
            let (bytes, end) = wire.rest();
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(end, expected, "{answer:?} became {text:?}");
            let is_whole = text.starts_with("HTTP/1.") && text.ends_with("hello");
            assert!(is_whole || expected == End::Cut, "{answer:?} became {text:?}");
        }
    }
}
