//! Every wait has an end: the right one, told to the peer where it can be, and named in the log.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::body::Feed;
use crate::harness::h2_frames::{
    DATA, END_STREAM, Fate, Frames, GET, GOAWAY, HEADERS, WINDOW_UPDATE,
};
use crate::harness::socket;
use crate::harness::wire::End;
use crate::harness::{
    Body, Origin, PATIENCE, Proxy, Request, Response, Script, Setup, Site, Wire, eventually, pki,
};

const SHORT: Duration = Duration::from_secs(1);

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

/// Runs `ended`, which waits for a deadline of [`SHORT`], and holds it to that time.
#[track_caller]
fn in_time(ended: impl FnOnce()) {
    let start = Instant::now();
    ended();
    let took = start.elapsed();
    assert!(took >= SHORT.mul_f32(0.8), "too early: {took:?}");
    assert!(took < PATIENCE / 2, "too late: {took:?}");
}

#[test]
fn a_head_that_never_ends_gets_408() {
    let origin = app();
    let proxy = Proxy::plain_to(&origin).limits("request_header_timeout = '1s'").start();
    for connect in [Proxy::wire, Proxy::tls_wire] {
        let mut wire = connect(&proxy);
        in_time(|| {
            wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Slow: ");
            assert_eq!(wire.read_answer().status(), 408);
            wire.expect_end();
        });
    }
    proxy.expect_words("request_header_timeout");
}

/// The deadline is over the whole head: a byte now and then does not move it.
#[test]
fn a_head_that_drips_gets_408() {
    let origin = app();
    let proxy = Proxy::plain_to(&origin).limits("request_header_timeout = '1s'").start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Drip: ");
    let start = Instant::now();
    let (mut bytes, mut end) = (Vec::new(), End::Open);
    while end == End::Open && start.elapsed() < PATIENCE {
        let _ = wire.try_send("x");
        let (more, state) = wire.rest_within(Duration::from_millis(100));
        bytes.extend(more);
        end = state;
    }
    assert_ne!(end, End::Open, "a dripping head is still open after {:?}", start.elapsed());
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let origin = app();
    let setup = Proxy::plain_to(&origin).limits("request_header_timeout = '1s'");
    let proxy = setup.limits("tls_handshake_timeout = '1s'").start();
    in_time(|| proxy.wire().expect_end());
    in_time(|| Wire::connect(proxy.https()).expect_end());
}

#[test]
fn a_tls_handshake_that_stalls_or_drips_is_closed() {
    let origin = app();
    let proxy = Proxy::to(&origin).limits("tls_handshake_timeout = '1s'").start();
    let mut wire = Wire::connect(proxy.https());
    in_time(|| {
        wire.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]);
        wire.expect_end();
    });
    let mut wire = Wire::connect(proxy.https());
    wire.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    let start = Instant::now();
    let mut end = End::Open;
    while end == End::Open && start.elapsed() < PATIENCE {
        let _ = wire.try_send([0]);
        end = wire.rest_within(Duration::from_millis(100)).1;
    }
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[test]
fn a_body_that_stops_coming_gets_408() {
    let origin = app();
    let proxy = Proxy::plain_to(&origin).limits("request_body_idle_timeout = '1s'").start();
    let mut wire = proxy.wire();
    in_time(|| {
        wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nfive.");
        assert_eq!(wire.read_answer().status(), 408);
        let _ = wire.try_send("later");
        let (rest, end) = wire.rest();
        assert!(rest.is_empty() && end != End::Open, "{end:?} {rest:?}");
    });
    proxy.expect_words("request_body_idle_timeout");
}

#[test]
fn a_body_that_comes_slowly_but_comes_is_taken() {
    let origin = app();
    let proxy = Proxy::plain_to(&origin).limits("request_body_idle_timeout = '1s'").start();
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 6\r\n\r\n");
    for _ in 0..6 {
        let (bytes, end) = wire.rest_within(Duration::from_millis(300));
        assert!(bytes.is_empty() && end == End::Open, "{}", String::from_utf8_lossy(&bytes));
        wire.send("x");
    }
    assert_eq!(wire.read_answer().status(), 200);
}

/// Each byte within `request_body_idle_timeout`, all of them for ever.
#[test]
fn a_body_that_drips_gets_408() {
    let origin = app();
    let proxy = Proxy::plain_to(&origin).start();
    let start = Instant::now();
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000\r\n\r\n");
    let answer = loop {
        let (bytes, end) = wire.rest_within(Duration::from_millis(250));
        if !bytes.is_empty() || end != End::Open {
            break String::from_utf8_lossy(&bytes).into_owned();
        }
        assert!(start.elapsed() < PATIENCE, "it drips on");
        let _ = wire.try_send("x");
    };
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(start.elapsed() > Duration::from_secs(9), "{:?}: no grace", start.elapsed());
    proxy.expect_words("request_body_rate");
}

/// An answer has begun: the two talk, and may take their time.
#[test]
fn a_slow_conversation_lives() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n");
        for _ in 0..60 {
            scene.wire.read_exactly(1);
            scene.wire.send("y");
        }
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 60\r\n\r\n");
    let mut heard = Vec::new();
    for _ in 0..60 {
        wire.send("x");
        heard.extend(wire.rest_within(Duration::from_millis(200)).0);
    }
    heard.extend(wire.rest_within(Duration::from_secs(1)).0);
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.ends_with(&"y".repeat(60)), "{heard}");
}

#[test]
fn a_stalled_body_over_http2_ends_its_stream_only() {
    let origin = app();
    let proxy = Proxy::to(&origin).limits("request_body_idle_timeout = '1s'").start();
    let mut connection = proxy.client().http2().connect();
    let (body, feed) = Body::fed();
    in_time(|| {
        let pending = connection.begin(Request::post("/").body(body).unwrap());
        assert!(feed.give("some"));
        assert_eq!(pending.answer().status, 408);
    });
    assert_eq!(connection.get("/").status, 200);
}

#[test]
fn an_app_that_does_not_answer_is_a_504() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        let _ = scene.wire.rest();
    });
    let proxy = Proxy::to(&origin).limits("upstream_timeout = '1s'").start();
    for client in [proxy.client(), proxy.client().http2()] {
        in_time(|| assert_eq!(client.get("/").status, 504));
    }
    proxy.expect_words("upstream_timeout");
    assert!(proxy.words().contains(&origin.to_string()), "the log names the app's address");
    assert_eq!(origin.heard().len(), 2, "a request that timed out is not sent again");
}

#[test]
fn a_route_has_an_upstream_timeout_of_its_own() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        let _ = scene.wire.rest();
    });
    let slow = Site::named("app.test").to(&app()).on_plain_http();
    let site = slow.route_with("/slow", &origin, "upstream_timeout = '1s'");
    let proxy = Setup::new().site(site).start();
    in_time(|| assert_eq!(proxy.plain_client().get("/slow").status, 504));
}

/// What an app's answers are fed with, in the order of the requests.
type Feeds = Arc<Mutex<Vec<Feed>>>;

/// Has the app answer a path with these fields, three bytes, and what it is fed with.
fn halts(origin: &Origin, path: &str, fields: &'static [(&'static str, &'static str)]) -> Feeds {
    let feeds = Feeds::default();
    let kept = feeds.clone();
    origin.handle(path, move |_| {
        let kept = kept.clone();
        async move {
            let (body, feed) = Body::fed();
            assert!(feed.send("abc").await);
            kept.lock().unwrap().push(feed);
            let mut answer = Response::builder();
            for (name, value) in fields {
                answer = answer.header(*name, *value);
            }
            answer.body(body).unwrap()
        }
    });
    feeds
}

/// It was waited for without end.
#[test]
fn an_answer_that_stops_is_cut_off() {
    const PATHS: [&str; 3] = ["/sized", "/untold", "/events"];
    let folder = crate::harness::proxy::folder();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, pki::root_pem()).unwrap();
    for origin in [Origin::start(), Origin::start_tls(&["localhost"]), Origin::start_h2c()] {
        let feeds = [
            halts(&origin, "/sized", &[("content-length", "1000")]),
            halts(&origin, "/untold", &[("content-type", "text/plain")]),
            halts(&origin, "/events", &[EVENTS, ("content-length", "1000")]),
        ];
        let setup = Proxy::plain_to(&origin).limits("upstream_timeout = '1s'");
        let proxy = setup.environment("SSL_CERT_FILE", roots.to_str().unwrap()).start();
        let asked = [Proxy::wire, Proxy::tls_wire].map(|connect| {
            PATHS.map(|path| {
                let mut wire = connect(&proxy);
                wire.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
                (path, wire)
            })
        });
        let streams = PATHS.map(|path| {
            let mut frames = Frames::to(&proxy);
            frames.send_head(1, true, &[GET[0], GET[1], (":path", path), GET[3]]);
            (path, frames)
        });
        in_time(|| {
            for (path, mut wire) in asked.into_iter().flatten() {
                let head = wire.read_head();
                assert!(head.starts_with("HTTP/1.1 200 "), "{origin}{path}: {head}");
                let (body, end) = wire.rest();
                let body = String::from_utf8(body).unwrap();
                assert!(body == "abc" || body == "3\r\nabc\r\n", "{origin}{path}: {body}");
                assert_ne!(end, End::Open, "{origin}{path}");
            }
            for (path, mut frames) in streams {
                let fate = frames.fate(1);
                assert!(matches!(fate, Fate::Reset(_)), "{origin}{path}: {fate:?}");
            }
        });
        eventually("the app to be left", || {
            let is_left = |feed: &Feed| !feed.give("more") || feed.is_abandoned();
            feeds.iter().all(|feeds| feeds.lock().unwrap().iter().all(is_left))
        });
        let line =
            "the application sent no more of its answer for 1s, over limits.upstream_timeout";
        proxy.expect_words(line);
        proxy.access_line(|line| line.contains("/untold"));
        let app = origin.to_string();
        let app = app.rsplit('/').next().unwrap();
        assert!(proxy.words().contains(app), "the log names the app's address");
    }
}

const EVENTS: (&str, &str) = ("content-type", "text/event-stream");

/// The client is behind: the application does what it can.
#[test]
fn an_answer_that_waits_for_its_reader_is_not_the_applications_silence() {
    const SIZE: u64 = 32 * 1024 * 1024;
    for origin in [Origin::start(), Origin::start_h2c()] {
        origin.route("/", "ok");
        origin.handle("/large", |_| async { Response::new(Body::of_untold_size(SIZE)) });
        let proxy = Proxy::plain_to(&origin).limits("upstream_timeout = '2s'").start();
        let mut wire = proxy.wire();
        wire.send("GET /large HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        wire.read_head();
        let mut frames = Frames::to(&proxy);
        frames.send_head(1, true, &[GET[0], GET[1], (":path", "/large"), GET[3]]);
        frames.next_of(HEADERS);
        let start = Instant::now();
        while start.elapsed() < SHORT.mul_f32(4.5) {
            assert_eq!(proxy.plain_client().get("/").text(), "ok");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        for stream in [0, 1] {
            frames.send(WINDOW_UPDATE, 0, stream, &0x7fff_0000_u32.to_be_bytes());
        }
        let mut received = 0;
        while received < SIZE {
            let frame = frames.next_matching(|frame| frame.stream == 1);
            assert_eq!(frame.kind, DATA, "{origin}: {received}");
            received += frame.payload.len() as u64;
            assert!(frame.flags & END_STREAM == 0 || received == SIZE, "{origin}: {received}");
        }
        let end = wire.rest().0;
        assert!(end.ends_with(b"\r\n0\r\n\r\n"), "{origin}: {} bytes", end.len());
    }
}

/// A stream of events speaks when there is something to say.
#[test]
fn a_stream_of_events_that_has_begun_may_take_its_time() {
    for (origin, content_type) in [
        (Origin::start(), EVENTS),
        (Origin::start_h2c(), EVENTS),
        (Origin::start_h2c(), ("content-type", "application/grpc+proto")),
    ] {
        let fields: &'static [_] = Box::leak(Box::new([content_type]));
        let feeds = halts(&origin, "/", fields);
        let proxy = Proxy::plain_to(&origin).limits("upstream_timeout = '1s'").start();
        let mut wire = proxy.wire();
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(wire.read_head().split(' ').nth(1), Some("200"));
        assert!(wire.read_until("abc\r\n").ends_with("abc\r\n"));
        let (bytes, end) = wire.rest_within(SHORT.mul_f32(2.5));
        assert!(bytes.is_empty() && end == End::Open, "{origin}: {end:?}");
        let feed = feeds.lock().unwrap().pop().unwrap();
        assert!(feed.give("two"));
        drop(feed);
        assert!(wire.read_until("0\r\n\r\n").contains("two"));
    }
}

/// Only a silence ends it; a long answer may take longer.
#[test]
fn an_answer_that_goes_on_may_take_its_time() {
    let origin = Origin::start();
    let feeds = halts(&origin, "/", &[]);
    let proxy = Proxy::plain_to(&origin).limits("upstream_timeout = '2s'").start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wire.read_until("abc\r\n");
    let feed = feeds.lock().unwrap().pop().unwrap();
    let start = Instant::now();
    while start.elapsed() < SHORT.mul_f32(4.5) {
        assert!(feed.give("more"), "it was given up after {:?}", start.elapsed());
        assert!(wire.read_until("more\r\n").ends_with("more\r\n"));
        std::thread::park_timeout(Duration::from_millis(200));
    }
    drop(feed);
    assert!(wire.read_until("0\r\n\r\n").ends_with("0\r\n\r\n"));
}

#[test]
fn an_idle_connection_is_closed_quietly() {
    let origin = app();
    let proxy = Proxy::plain_to(&origin).limits("idle_timeout = '1s'").start();
    for connect in [Proxy::wire, Proxy::tls_wire] {
        let mut wire = connect(&proxy);
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(wire.read_answer().status(), 200);
        in_time(|| {
            let (bytes, end) = wire.rest();
            assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
            assert_eq!(end, End::Closed);
        });
    }
}

#[test]
fn an_idle_http2_connection_gets_goaway() {
    let origin = app();
    let setup = Proxy::to(&origin).limits("idle_timeout = '1s'");
    let proxy = setup.limits("request_header_timeout = '1s'").start();
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), "app.test").unwrap();
    let mut frames = Frames::over(wire);
    let head =
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "app.test")];
    frames.send_head(1, true, &head);
    frames.next_matching(|frame| frame.stream == 1 && frame.flags & 1 == 1);
    in_time(|| {
        let goaway = frames.next_of(GOAWAY);
        assert_eq!(goaway.payload[4..8], [0; 4], "NO_ERROR");
        frames.expect_end();
    });
}

/// `idle_timeout` ran from the beginning of an HTTP/2 connection, so that it ended one that was in
/// use all the time.
#[test]
fn a_busy_http2_connection_lives_longer_than_idle_timeout() {
    let origin = app();
    let proxy = Proxy::to(&origin).limits("idle_timeout = '1s'").start();
    let mut connection = proxy.client().http2().connect();
    let start = Instant::now();
    while start.elapsed() < SHORT.mul_f32(2.5) {
        let answer = connection.try_send(Request::get("/").body(()).unwrap());
        let answer = answer.unwrap_or_else(|e| panic!("after {:?}: {e}", start.elapsed()));
        assert_eq!(answer.status, 200);
        std::thread::park_timeout(Duration::from_millis(200));
    }
    connection.expect_end();
}

#[test]
fn an_http2_connection_that_never_asks_is_closed() {
    let origin = app();
    let setup = Proxy::to(&origin).limits("idle_timeout = '1s'");
    let proxy = setup.limits("request_header_timeout = '1s'").start();
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), "app.test").unwrap();
    in_time(|| Frames::over(wire).expect_end());
    let mut half = Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), "app.test").unwrap();
    half.send("PRI * HTTP/2.0\r\n");
    in_time(|| half.expect_end());
}

#[test]
fn a_silent_tunnel_is_closed() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(socket::ACCEPTING);
        let _ = scene.wire.rest();
    });
    let proxy = Proxy::plain_to(&origin).limits("idle_timeout = '1s'").start();
    let mut wire = proxy.wire();
    wire.send(socket::UPGRADE);
    assert_eq!(wire.read_answer().status(), 101);
    in_time(|| wire.expect_end());
}

/// Asks for much on this wire, reads only the head, and expects to be given up.
#[track_caller]
fn takes_nothing(connect: fn(&Proxy) -> Wire) {
    let origin = Origin::start();
    origin.handle("/", |_| async { Response::new(Body::of_size(256 * 1024 * 1024)) });
    let proxy = Proxy::plain_to(&origin).limits("idle_timeout = '1s'").start();
    let mut wire = connect(&proxy);
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wire.read_head();
    proxy.access_line(|line| line.contains("GET / "));
    let (_, end) = wire.rest();
    assert_ne!(end, End::Open);
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off() {
    takes_nothing(Proxy::wire);
}

#[test]
fn a_reader_over_tls_that_takes_nothing_is_cut_off() {
    takes_nothing(Proxy::tls_wire);
}
