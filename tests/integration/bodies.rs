//! Bodies of every size and framing go through whole, in both directions, and are never kept.

use std::time::Instant;

use http::HeaderMap;

use crate::harness::body::measure;
use crate::harness::wire::End;
use crate::harness::{Body, Client, Method, Origin, Proxy, Request, Response, Script, eventually};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// An app that tells the size of what it got at `/up` and serves `?size` at `/down`, with a
/// length told beforehand, or at `/chunked`, without.
fn measuring() -> Origin {
    let origin = Origin::start();
    origin.handle("/up", |request| async {
        let body = measure(request.into_body()).await;
        Response::new(Body::from(format!("{} {} {}", body.size, body.intact, body.complete)))
    });
    origin.handle("/down", |request| async move {
        Response::new(Body::of_size(request.uri().query().unwrap().parse().unwrap()))
    });
    origin.handle("/chunked", |request| async move {
        Response::new(Body::of_untold_size(request.uri().query().unwrap().parse().unwrap()))
    });
    origin
}

#[track_caller]
fn upload(client: &Client, body: Body, size: u64) {
    let streaming = client.start(Request::post("/up").body(body).unwrap());
    assert_eq!(streaming.answer().text(), format!("{size} true true"));
}

#[track_caller]
fn download(client: &Client, path: &str, size: u64) -> HeaderMap {
    let streaming = client.start(Request::get(format!("{path}?{size}")).body(()).unwrap());
    assert_eq!(streaming.status(), 200);
    let headers = streaming.head.headers.clone();
    let body = streaming.measure();
    assert!(body.complete && body.intact && body.size == size, "{size}: {body:?}");
    headers
}

#[test]
fn small_and_middling_bodies_both_ways() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    for client in [proxy.plain_client(), proxy.client(), proxy.client().http2()] {
        for size in [0, 1, 8191, 8192, 65_535, 65_536, MIB, MIB + 1] {
            upload(&client, Body::of_size(size), size);
            upload(&client, Body::of_untold_size(size), size);
            download(&client, "/down", size);
            download(&client, "/chunked", size);
        }
    }
}

#[test]
fn sixty_four_mebibytes_both_ways() {
    let origin = measuring();
    let proxy = Proxy::to(&origin).start();
    for client in [proxy.client(), proxy.client().http2()] {
        upload(&client, Body::of_untold_size(64 * MIB), 64 * MIB);
        download(&client, "/down", 64 * MIB);
    }
}

#[test]
fn a_gibibyte_down_in_little_memory() {
    let origin = measuring();
    let proxy = Proxy::to(&origin).start();
    download(&proxy.client(), "/down", GIB);
    assert_flat(&proxy);
}

#[test]
fn a_gibibyte_down_over_http2_in_little_memory() {
    let origin = measuring();
    let proxy = Proxy::to(&origin).start();
    download(&proxy.client().http2(), "/chunked", GIB);
    assert_flat(&proxy);
}

#[test]
fn a_gibibyte_up_in_little_memory() {
    let origin = measuring();
    let proxy = Proxy::to(&origin).limits("body_size = '2GiB'").start();
    upload_large(&proxy.client(), Body::of_size(GIB), GIB);
    assert_flat(&proxy);
}

#[test]
fn a_gibibyte_up_over_http2_in_little_memory() {
    let origin = measuring();
    let proxy = Proxy::to(&origin).limits("body_size = '2GiB'").start();
    upload_large(&proxy.client().http2(), Body::of_untold_size(GIB), GIB);
    assert_flat(&proxy);
}

#[test]
fn a_reader_that_stops_reading_stops_the_app() {
    let origin = measuring();
    let proxy = Proxy::to(&origin).start();
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    origin.handle("/fed", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let mut streaming = proxy.client().start(Request::get("/fed").body(()).unwrap());
    let (sent, mut pieces) = (std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)), 0);
    let counter = sent.clone();
    let feeder = std::thread::spawn(move || {
        let piece = vec![b'x'; 64 * 1024];
        while pieces < 4096 && feed.give(piece.clone()) {
            pieces += 1;
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        pieces
    });
    let mut before = (0, Instant::now());
    eventually("the app to be held back", || {
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        if now != before.0 {
            before = (now, Instant::now());
        }
        now > 0 && before.1.elapsed().as_millis() > 500
    });
    assert!(before.0 < 1024, "{} pieces of 64 KiB went into a reader that reads none", before.0);
    assert_flat(&proxy);
    let mut size = 0;
    while let Some(piece) = streaming.chunk() {
        size += piece.unwrap().len();
    }
    assert_eq!(size, 4096 * 64 * 1024);
    assert_eq!(feeder.join().unwrap(), 4096);
}

#[test]
fn counted_stays_counted_and_chunked_stays_chunked() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET /down?5 HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let answer = wire.read_answer();
    assert_eq!(answer.field("content-length"), Some("5"));
    assert_eq!(answer.field("transfer-encoding"), None);
    wire.send("GET /chunked?5 HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let answer = wire.read_answer();
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    wire.send("POST /up HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.send("1;x=y\r\n\0\r\n2\r\n\u{1}\u{2}\r\n0\r\n\r\n");
    assert_eq!(wire.read_answer().text(), "3 true true");
    assert_eq!(origin.last().header("transfer-encoding").as_deref(), Some("chunked"));
    assert_eq!(origin.last().header("content-length"), None);
}

#[test]
fn a_chunked_answer_reaches_an_http_1_0_client_unchunked() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET /chunked?3 HTTP/1.0\r\nHost: app.test\r\n\r\n");
    let (bytes, _) = wire.rest();
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.to_lowercase().contains("transfer-encoding"), "{text}");
    assert!(text.ends_with("\r\n\r\n\0\u{1}\u{2}"), "{text:?}");
}

/// Without a length and without chunks the end of the connection is the end of the body; a client
/// that had asked for keep-alive was promised it all the same, and waited for an end that never
/// came.
#[test]
fn a_chunked_answer_to_an_http_1_0_client_that_asks_for_keep_alive_closes() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    for mut wire in [proxy.wire(), proxy.tls_wire()] {
        wire.send("GET /chunked?3 HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n");
        let head = wire.read_head().to_lowercase();
        let options = head.split("\r\nconnection: ").nth(1).unwrap_or("close");
        let options = options.split("\r\n").next().unwrap_or_default();
        assert_eq!(options, "close", "{head}");
        assert!(!head.contains("\r\nkeep-alive:"), "{head}");
        let (body, end) = wire.rest();
        assert_eq!((&*body, end), (&b"\0\x01\x02"[..], End::Closed));
    }
}

#[test]
fn a_piece_is_forwarded_when_it_comes_not_when_the_body_ends() {
    let origin = Origin::start();
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    origin.handle("/", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let proxy = Proxy::to(&origin).start();
    let mut streaming = proxy.client().start(Request::get("/").body(()).unwrap());
    for word in ["one", "two", "three"] {
        assert!(feed.give(word));
        assert_eq!(streaming.text(), word);
    }
    drop(feed);
    assert!(streaming.chunk().is_none());
}

#[test]
fn an_upload_reaches_the_app_as_it_comes() {
    let origin = Origin::start();
    origin.handle("/", |request| async {
        use http_body_util::BodyExt;
        let mut body = request.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        Response::new(Body::from(first))
    });
    let proxy = Proxy::to(&origin).start();
    for client in [proxy.client(), proxy.client().http2()] {
        let (body, feed) = Body::fed();
        let mut connection = client.connect();
        let pending = connection.begin(Request::post("/").body(body).unwrap());
        assert!(feed.give("first"));
        let answer = pending.head();
        assert_eq!(answer.status(), 200, "the answer comes while the body is open");
        drop(feed);
        assert_eq!(answer.answer().text(), "first");
    }
}

#[test]
fn head_has_the_length_and_no_body() {
    let origin = Origin::start();
    origin.handle("/", |_| async { Response::new(Body::from("hello")) });
    let proxy = Proxy::to(&origin).start();
    for client in [proxy.client(), proxy.client().http2()] {
        let mut connection = client.connect();
        let answer = connection.send(Request::head("/").body(()).unwrap());
        assert_eq!(answer.header("content-length").as_deref(), Some("5"));
        assert_eq!(answer.body.len(), 0);
        assert_eq!(connection.get("/").text(), "hello", "the connection goes on");
    }
    assert_eq!(origin.requests()[0].method, Method::HEAD);
}

#[test]
fn answers_that_have_no_body_end_at_their_head() {
    let origin = Script::play(|scene| {
        for head in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: \"x\"\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ] {
            scene.hear_head();
            scene.wire.send(head);
        }
    });
    let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
    let mut wire = proxy.wire();
    let request = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    wire.send(request);
    let answer = wire.read_answer();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(answer.field("transfer-encoding"), None);
    wire.send(request);
    let answer = wire.read_answer();
    assert_eq!((answer.status(), answer.field("etag")), (304, Some("\"x\"")));
    wire.send(request);
    assert_eq!(wire.read_answer().text(), "ok");
}

#[test]
fn connection_close_is_kept_and_its_absence_too() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET /down?1 HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(wire.read_answer().field("connection"), None);
    wire.send("GET /down?1 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    assert_eq!(wire.read_answer().field("connection"), Some("close"));
    let (rest, _) = wire.rest();
    assert!(rest.is_empty());
    let mut wire = proxy.wire();
    wire.send("GET /down?1 HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n");
    let answer = wire.read_answer();
    assert_eq!(answer.status(), 200);
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    let origin = Script::answering("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let proxy = Proxy::to(&origin).start();
    assert_eq!(proxy.client().get("/").text(), "until the end");
    assert_eq!(proxy.client().http2().get("/").text(), "until the end");
}

#[test]
fn expect_continue_is_answered_once() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n");
    wire.send("Expect: 100-continue\r\n\r\n");
    let answer = wire.read_answer();
    assert_eq!(answer.status(), 100);
    wire.send(b"\0\x01");
    let answer = wire.read_answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "2 true true"));
}

/// The application decides whether it wants the body (RFC 9110 §10.1.1), and one 100 at the most
/// comes of it.
#[test]
fn the_app_is_asked_before_a_body_that_waits() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n");
    wire.send("Expect: 100-continue\r\n\r\n\0\u{1}");
    let answer = wire.read_answer();
    let answer = if answer.status() == 100 { wire.read_answer() } else { answer };
    assert_eq!(answer.status(), 200);
    assert_eq!(origin.last().header("expect").as_deref(), Some("100-continue"));
}

#[test]
fn an_expectation_that_nobody_knows_gets_417() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("POST /up HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n");
    wire.send("Expect: 200-ok\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 417);
    assert!(origin.requests().is_empty());
}

#[test]
fn an_early_answer_is_relayed_and_leaves_nothing_behind() {
    let origin = Script::play(|scene| {
        let head = scene.hear_head();
        if head.starts_with("POST") {
            scene.wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!");
            let _ = scene.wire.rest();
        } else {
            scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\r\n\r\nonly the start");
    let answer = wire.read_answer();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no!"));
    drop(wire);
    for _ in 0..3 {
        assert_eq!(proxy.plain_client().get("/").text(), "ok", "the next client is not affected");
    }
}

/// The rest of the request is not read after a final answer, so that the connection cannot go on;
/// the answer did not say so, and clients sent their next request into a closing connection.
#[test]
fn an_early_answer_says_that_the_connection_closes() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!");
        let _ = scene.wire.rest();
    });
    let proxy = Proxy::plain_to(&origin).start();
    for (fields, part) in [
        ("Content-Length: 100\r\n", "only the start"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
    ] {
        for mut wire in [proxy.wire(), proxy.tls_wire()] {
            wire.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n{part}"));
            let answer = wire.read_answer();
            assert_eq!(answer.status(), 413);
            assert_eq!(answer.field("connection"), Some("close"), "{fields:?}: {}", answer.head);
            let (rest, end) = wire.rest();
            assert!(rest.is_empty() && end != End::Open, "{fields:?}: {end:?}");
        }
    }
}

#[test]
fn an_early_answer_over_http2_is_relayed() {
    let origin = Origin::start();
    origin.handle("/", |_| async {
        Response::builder().status(403).body(Body::from("not you")).unwrap()
    });
    let proxy = Proxy::to(&origin).start();
    let (body, feed) = Body::fed();
    let mut connection = proxy.client().http2().connect();
    let pending = connection.begin(Request::post("/").body(body).unwrap());
    assert!(feed.give("something"));
    let answer = pending.answer();
    assert_eq!((answer.status, answer.text().as_str()), (403, "not you"));
    assert_eq!(connection.get("/").status, 403, "the connection goes on");
}

fn trailing() -> Script {
    Script::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         4\r\ndata\r\n0\r\nX-Sum: 42\r\n\r\n",
    )
}

#[test]
fn trailers_of_an_answer_reach_a_client_of_http_1_that_takes_them() {
    let origin = trailing();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: TE\r\nTE: trailers\r\n\r\n");
    let head = wire.read_head().to_lowercase();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let body = wire.read_until("0\r\n") + &wire.read_until("\r\n\r\n");
    assert!(body.to_lowercase().ends_with("data\r\n0\r\nx-sum: 42\r\n\r\n"), "{body}");
}

#[test]
fn trailers_of_an_answer_are_not_for_a_client_of_http_1_that_takes_none() {
    let origin = trailing();
    let answer = Proxy::to(&origin).start().client().get("/");
    assert_eq!(answer.text(), "data");
    assert_eq!(answer.trailers, None, "nobody asked for them");
}

#[test]
fn trailers_of_an_answer_reach_a_client_of_http_2() {
    let origin = trailing();
    let answer = Proxy::to(&origin).start().client().http2().get("/");
    assert_eq!(answer.text(), "data");
    assert_eq!(answer.trailers.expect("trailers")["x-sum"], "42");
}

#[test]
fn trailers_of_a_request_cannot_frame_or_route_or_forward() {
    let origin = measuring();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("POST /up HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.send("1\r\n\0\r\n0\r\nContent-Length: 50\r\nHost: evil.test\r\n");
    wire.send("X-Forwarded-For: 6.6.6.6\r\nAuthorization: x\r\n\r\n");
    let answer = wire.read_answer();
    if answer.status() != 400 {
        assert_eq!(answer.text(), "1 true true");
    }
    let heard = origin.heard_text().to_lowercase();
    for word in ["content-length: 50", "evil.test", "6.6.6.6", "authorization"] {
        assert!(!heard.contains(word), "{word} in {heard}");
    }
}

fn hinting() -> Script {
    Script::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
}

#[track_caller]
fn gets_the_hint(client: &Client) {
    let answer = client.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let (status, headers) = answer.interim.first().expect("an interim answer");
    assert_eq!(status.as_u16(), 103);
    assert_eq!(headers["link"], "</a.css>; rel=preload");
}

#[test]
fn early_hints_are_forwarded_over_http_1() {
    let origin = hinting();
    gets_the_hint(&Proxy::to(&origin).start().client());
}

/// The HTTP library has no way to send them there.
#[test]
fn early_hints_do_no_harm_over_http_2() {
    let origin = hinting();
    let answer = Proxy::to(&origin).start().client().http2().get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[test]
fn early_hints_are_nothing_for_http_1_0() {
    let origin = hinting();
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
    let (bytes, _) = wire.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.") && text[8..].starts_with(" 200"), "{text}");
}

#[test]
fn a_flood_of_interim_answers_is_cut() {
    let flood = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(2000);
    let origin = Script::answering(flood + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = Proxy::to(&origin).start();
    let answer = proxy.client().get("/");
    assert!(answer.interim.len() <= 16, "{} interim answers", answer.interim.len());
}

#[track_caller]
fn upload_large(client: &Client, body: Body, size: u64) {
    let mut connection = client.connect();
    let pending = connection.begin(Request::post("/up").body(body).unwrap());
    crate::harness::eventually_within(crate::harness::LONG_PATIENCE, "the upload", || {
        pending.is_over()
    });
    assert_eq!(pending.answer().text(), format!("{size} true true"));
}

#[track_caller]
fn assert_flat(proxy: &Proxy) {
    let peak = proxy.memory_kib("VmHWM:");
    assert!(peak < 64 * 1024, "the proxy has used {peak} KiB");
}
