//! Apps that are down, die, lie or drop their idle connections.

use std::time::{Duration, Instant};

use crate::harness::wire::End;
use crate::harness::{
    Body, Client, Origin, Proxy, Request, Response, Script, Setup, Site, eventually,
};

#[test]
fn a_request_is_held_until_the_app_is_back() {
    let mut origin = Origin::down();
    origin.route("/", "back");
    let proxy = Proxy::to(&origin).limits("hold = '15s'").start();
    let mut first = proxy.client().connect();
    let mut second = proxy.client().http2().connect();
    let waiting = [
        first.begin(Request::get("/").body(()).unwrap()),
        second.begin(Request::post("/").body(Body::from("kept")).unwrap()),
    ];
    std::thread::park_timeout(Duration::from_millis(300));
    assert!(waiting.iter().all(|pending| !pending.is_over()), "an answer without an app");
    origin.restart();
    for pending in waiting {
        assert_eq!(pending.answer().text(), "back");
    }
}

#[test]
fn a_restart_of_the_app_costs_nobody_an_error() {
    let mut origin = Origin::start();
    origin.route("/", "ok");
    let proxy = Proxy::to(&origin).limits("hold = '15s'").start();
    let mut connection = proxy.client().connect();
    for _ in 0..5 {
        assert_eq!(connection.get("/").status, 200);
        origin.stop();
        let pending = connection.begin(Request::get("/").body(()).unwrap());
        origin.restart();
        assert_eq!(pending.answer().status, 200);
    }
}

#[test]
fn an_app_that_stays_down_is_a_502_after_hold() {
    let origin = Origin::down();
    let proxy = Proxy::to(&origin).limits("hold = '1s'").start();
    for client in [proxy.client(), proxy.client().http2()] {
        let start = Instant::now();
        assert_eq!(client.get("/").status, 502);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(8), "{took:?}");
    }
    proxy.expect_words(&origin.to_string());
    assert!(proxy.words().contains("refused"), "{}", proxy.words());
}

#[test]
fn hold_can_be_nothing() {
    let origin = Origin::down();
    let proxy = Proxy::to(&origin).limits("hold = '0s'").start();
    let start = Instant::now();
    assert_eq!(proxy.client().get("/").status, 502);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_route_has_a_hold_of_its_own() {
    let (origin, down) = (Origin::start(), Origin::down());
    let site = Site::named("app.test").to(&origin).on_plain_http();
    let proxy = Setup::new()
        .limits("hold = '60s'")
        .site(site.route_with("/now", &down, "hold = '0s'"))
        .start();
    assert_eq!(proxy.plain_client().get("/now").status, 502);
}

#[test]
fn another_app_of_the_route_answers_for_one_that_is_down() {
    let (up, down) = (Origin::start(), Origin::down());
    up.route("/", "up");
    let both = format!("to = ['{down}', '{up}']");
    let proxy = Setup::new().site(Site::named("app.test").key(&both)).start();
    for _ in 0..6 {
        assert_eq!(proxy.client().get("/").text(), "up");
    }
}

#[test]
fn connections_to_the_app_are_kept() {
    let origin = Origin::start();
    origin.route("/", "ok");
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    for _ in 0..20 {
        assert_eq!(proxy.client().get("/").status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

/// An app that answers once on every connection and then closes it without a word.
fn closing_after_one() -> Script {
    Script::play(|scene| {
        scene.hear_head();
        scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    })
}

#[test]
fn connections_that_the_app_has_closed_are_not_used() {
    let origin = closing_after_one();
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let mut connection = proxy.client().connect();
    for _ in 0..50 {
        assert_eq!(connection.get("/").status, 200);
    }
}

/// An app that closes a connection upon its second request, as one does whose idle timeout has
/// just run out.
fn closing_on_the_second() -> Script {
    Script::play(|scene| {
        scene.hear_head();
        scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        scene.hear_head();
    })
}

#[test]
fn a_request_that_met_a_closing_connection_is_replayed_once() {
    let origin = closing_on_the_second();
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let mut connection = proxy.client().connect();
    assert_eq!(connection.get("/first").status, 200);
    assert_eq!(connection.get("/second").status, 200);
    let heard = origin.heard();
    let seconds = heard.iter().filter(|head| head.starts_with("GET /second ")).count();
    assert_eq!(seconds, 2, "{heard:?}");
}

#[test]
fn a_post_that_met_a_closing_connection_is_not_replayed() {
    let origin = closing_on_the_second();
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let mut connection = proxy.client().connect();
    assert_eq!(connection.get("/first").status, 200);
    let answer = connection.send(Request::post("/second").body(Body::from("pay")).unwrap());
    assert_eq!(answer.status, 502);
    let heard = origin.heard();
    let posts = heard.iter().filter(|head| head.starts_with("POST")).count();
    assert_eq!(posts, 1, "{heard:?}");
}

#[test]
fn a_request_that_no_connection_survives_is_not_sent_for_ever() {
    let origin = Script::play(|scene| {
        scene.hear_head();
    });
    let proxy = Proxy::to(&origin).start();
    assert_eq!(proxy.client().get("/").status, 502);
    assert!(origin.heard().len() <= 2, "{} times", origin.heard().len());
}

/// How an answer ended for a client that waits for all of it.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// With an error on the stream or the connection.
    Cut,
    /// As if it were whole.
    Whole,
    /// Nothing had been sent yet, so that it could be told.
    Told502,
}

#[track_caller]
fn ending(client: &Client) -> Ending {
    let mut connection = client.connect();
    match connection.try_send(Request::get("/").body(Body::empty()).unwrap()) {
        Err(_) => Ending::Cut,
        Ok(answer) if answer.status == 502 => Ending::Told502,
        Ok(_) => Ending::Whole,
    }
}

#[track_caller]
fn is_visibly_cut(answer: &'static str) {
    let origin = Script::answering(answer);
    let proxy = Proxy::plain_to(&origin).start();
    for client in [proxy.plain_client(), proxy.client(), proxy.client().http2()] {
        assert_ne!(ending(&client), Ending::Whole, "{answer:?}");
    }
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let (bytes, end) = wire.rest();
    assert_ne!(end, End::Open);
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&bytes));
}

/// The client has had the head and a piece when the app dies.
#[test]
fn an_answer_that_is_cut_in_the_middle_is_cut_for_the_client() {
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let (go, gone) = std::sync::mpsc::channel();
        let gone = std::sync::Mutex::new(gone);
        let origin = Script::play(move |scene| {
            scene.hear_head();
            scene.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n"));
            gone.lock().unwrap().recv().unwrap();
        });
        let proxy = Proxy::to(&origin).start();
        for client in [proxy.client(), proxy.client().http2()] {
            let mut streaming = client.start(Request::get("/").body(()).unwrap());
            assert!(streaming.text().contains("hello"));
            go.send(()).unwrap();
            let mut end = streaming.chunk();
            while matches!(end, Some(Ok(_))) {
                end = streaming.chunk();
            }
            assert!(end.is_some(), "{framing}: a clean end");
        }
    }
}

#[test]
fn an_app_that_dies_in_a_counted_body_is_visibly_cut() {
    is_visibly_cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly the start");
}

#[test]
fn an_app_that_dies_in_a_chunked_body_is_visibly_cut() {
    is_visibly_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    is_visibly_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n");
}

#[test]
fn answers_that_are_no_http_are_a_502() {
    for answer in [
        "",
        "hello\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/3.7 200 OK\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 1000 High\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSet-Cookie: x\rInjected: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let origin = Script::answering(answer);
        let proxy = Proxy::plain_to(&origin).limits("hold = '0s'").start();
        let mut wire = proxy.wire();
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(wire.read_answer().status(), 502, "{answer:?}");
    }
}

#[test]
fn a_length_beside_a_coding_never_leaves_the_client_without_a_word() {
    let origin = Script::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    );
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let answer = wire.read_answer();
    if answer.status() == 200 {
        assert_eq!(answer.text(), "hello");
        assert_eq!(answer.field("content-length"), None);
    } else {
        assert_eq!(answer.status(), 502);
    }
}

#[test]
fn a_head_without_end_is_a_502() {
    let many: String = (0..5000).map(|n| format!("X-{n}: v\r\n")).collect();
    let long = format!("X: {}\r\n", "v".repeat(400 * 1024));
    for fields in [many, long] {
        let origin =
            Script::answering(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"));
        let proxy = Proxy::to(&origin).limits("hold = '0s'").start();
        assert_eq!(proxy.client().get("/").status, 502);
    }
}

#[test]
fn what_follows_an_answer_reaches_nobody() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\
             HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON",
        );
        let _ = scene.wire.rest();
    });
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").text(), "hi");
    }
}

#[test]
fn an_answer_that_nobody_asked_for_reaches_nobody() {
    let origin = Script::play(|scene| {
        if scene.number == 0 {
            scene.hear_head();
            scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON");
            let _ = scene.wire.rest();
        }
        scene.hear_head();
        scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").text(), "ok");
    }
}

#[test]
fn a_client_that_goes_away_is_a_499_and_frees_the_app() {
    let origin = Origin::start();
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    origin.handle("/", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wire.read_head();
    drop(wire);
    eventually("the app to be freed", || !feed.give("more") || feed.is_abandoned());
}

#[test]
fn an_app_that_never_reads_holds_up_nobody_else() {
    let deaf = Script::play(|scene| {
        let head = scene.hear_head();
        if head.starts_with("POST") {
            std::thread::park_timeout(Duration::from_secs(2));
        } else {
            scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::to(&deaf).server("workers = 1").start();
    let mut connection = proxy.client().connect();
    let upload = Request::post("/").body(Body::of_size(32 * 1024 * 1024)).unwrap();
    let _stuck = connection.begin(upload);
    for _ in 0..5 {
        assert_eq!(proxy.client().get("/").text(), "ok");
    }
    assert!(proxy.memory_kib("VmHWM:") < 64 * 1024);
}
