//! The access log: a line a request, of the agreed form, on time, and nobody can forge one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Body, Origin, Proxy, Request, Response, Script, Setup, eventually, eventually_within,
};

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "hello");
    origin
}

#[track_caller]
fn json_line(proxy: &Proxy, path: &str) -> Value {
    let line = proxy.access_line(|line| line.contains(path));
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn combined_is_what_apache_writes() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let request = Request::get("/a?b=c")
        .header("user-agent", "tester/1.0")
        .header("referer", "https://other.test/")
        .body(())
        .unwrap();
    proxy.client().send(request);
    let line = proxy.access_line(|line| line.contains("/a?b=c"));
    let (start, rest) = line.split_once(" [").expect("a time");
    assert_eq!(start, "127.0.0.1 - -");
    let (time, rest) = rest.split_once("] ").expect("the end of the time");
    assert_eq!(time.len(), "10/Oct/2000:13:55:36 -0700".len(), "{time}");
    let expected = "\"GET /a?b=c HTTP/1.1\" 200 5 \"https://other.test/\" \"tester/1.0\"";
    assert_eq!(rest, expected);
}

#[test]
fn json_has_every_field() {
    let origin = app();
    let proxy = Proxy::to(&origin).log("format = 'json'").start();
    let request = Request::post("/a?b=c")
        .header("user-agent", "tester/1.0")
        .header("referer", "https://other.test/")
        .body(Body::from("12345678"))
        .unwrap();
    proxy.client().http2().send(request);
    let line = json_line(&proxy, "/a?b=c");
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["host"], "app.test");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/a?b=c");
    assert!(["HTTP/2", "HTTP/2.0"].contains(&line["proto"].as_str().unwrap()), "{line}");
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes_in"], 8);
    assert_eq!(line["bytes_out"], 5);
    assert_eq!(line["upstream"], origin.to_string());
    assert_eq!(line["ua"], "tester/1.0");
    assert_eq!(line["referer"], "https://other.test/");
    assert_eq!(line["id"].as_str(), origin.last().header("x-request-id").as_deref());
    assert!(line["tls"].as_str().unwrap().contains("1.3"), "{line}");
    assert!(line["duration_ms"].is_number() && line["upstream_ms"].is_number(), "{line}");
    assert!(line["ts"].is_string() || line["ts"].is_number(), "{line}");
}

#[test]
fn answers_of_our_own_are_logged_too() {
    let origin = Origin::down();
    let proxy = Proxy::to(&origin).log("format = 'json'").limits("hold = '0s'").start();
    proxy.client().get("/down");
    let line = json_line(&proxy, "/down");
    assert_eq!(line["status"], 502);
    assert_eq!(line["upstream"], origin.to_string());
    assert!(line["error"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    proxy.plain_client().get("/moved");
    assert_eq!(json_line(&proxy, "/moved")["status"], 308);
}

#[test]
fn a_line_is_there_within_a_second() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    proxy.client().get("/soon");
    eventually_within(Duration::from_secs(3), "the line", || {
        proxy.access_log().iter().any(|line| line.contains("/soon"))
    });
}

#[test]
fn the_last_lines_are_there_after_the_end() {
    let origin = app();
    let mut proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().connect();
    for n in 0..100 {
        connection.get(&format!("/last-{n}"));
    }
    proxy.stop();
    assert_eq!(proxy.access_log().len(), 100);
}

#[test]
fn usr1_opens_the_file_anew() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    proxy.client().get("/before");
    proxy.access_line(|line| line.contains("/before"));
    std::fs::rename(proxy.path("access.log"), proxy.path("access.log.1")).unwrap();
    proxy.signal(Signal::USR1);
    eventually("a new file", || proxy.path("access.log").exists());
    proxy.client().get("/after");
    proxy.access_line(|line| line.contains("/after"));
    let rotated = std::fs::read_to_string(proxy.path("access.log.1")).unwrap();
    assert!(rotated.contains("/before") && !rotated.contains("/after"), "{rotated}");
}

#[test]
fn the_log_can_go_to_standard_output_or_nowhere() {
    let origin = app();
    let proxy = Proxy::to(&origin).log("access = 'stdout'").start();
    proxy.client().get("/out");
    eventually("the line on standard output", || proxy.stdout().contains("GET /out HTTP/1.1"));
    let mut proxy = Proxy::to(&origin).log("access = 'off'").start();
    proxy.client().get("/out");
    proxy.stop();
    assert!(!proxy.stdout().contains("/out") && !proxy.words().contains("/out"));
    assert!(!proxy.path("access.log").exists());
}

#[test]
fn a_client_that_goes_away_is_a_499() {
    let origin = Origin::start();
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    origin.handle("*", move |_| {
        let body = body.lock().unwrap().take().unwrap_or_else(Body::empty);
        async { Response::new(body) }
    });
    let proxy = Proxy::plain_to(&origin).log("format = 'json'").start();
    let mut wire = proxy.wire();
    wire.send("GET /gone HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wire.read_head();
    drop(wire);
    eventually("the app to notice", || !feed.give("more") || feed.is_abandoned());
    assert_eq!(json_line(&proxy, "/gone")["status"], 499);
}

/// An app that waits until its connection ends, and whether that has come.
fn waiting() -> (Script, Arc<AtomicBool>) {
    let ended = Arc::new(AtomicBool::new(false));
    let told = ended.clone();
    let origin = Script::play(move |scene| {
        scene.hear_head();
        scene.wire.expect_end();
        told.store(true, Ordering::SeqCst);
    });
    (origin, ended)
}

#[test]
fn a_client_that_goes_away_before_the_answer_is_a_499() {
    let (origin, ended) = waiting();
    let proxy = Proxy::plain_to(&origin).log("format = 'json'").start();
    let mut wire = proxy.wire();
    wire.send("GET /gone HTTP/1.1\r\nHost: app.test\r\n\r\n");
    eventually("the app to have it", || !origin.heard().is_empty());
    drop(wire);
    eventually("the app to be freed", || ended.load(Ordering::SeqCst));
    assert_eq!(json_line(&proxy, "/gone")["status"], 499);
    assert_eq!(origin.heard().len(), 1, "{:?}", origin.heard());
}

#[test]
fn a_stream_that_is_cancelled_before_the_answer_is_a_499() {
    let (origin, ended) = waiting();
    let proxy = Proxy::to(&origin).log("format = 'json'").start();
    let mut connection = proxy.client().http2().connect();
    let pending = connection.begin(Request::get("/left").body(()).unwrap());
    eventually("the app to have it", || !origin.heard().is_empty());
    pending.cancel();
    eventually("the app to be freed", || ended.load(Ordering::SeqCst));
    assert_eq!(json_line(&proxy, "/left")["status"], 499);
    assert_eq!(origin.heard().len(), 1, "{:?}", origin.heard());
}

#[test]
fn nobody_can_forge_a_line() {
    let origin = app();
    for format in ["format = 'combined'", "format = 'json'"] {
        let proxy = Proxy::plain_to(&origin).log(format).start();
        let mut wire = proxy.wire();
        wire.send(b"GET /x?%0a\"quote HTTP/1.1\r\nHost: app.test\r\n");
        wire.send(b"User-Agent: a\" 200 5 \"\xff\x9b\xe2\x80\xae b\tc\\\r\n");
        wire.send(b"Referer: \"\r\nAuthorization: Basic c2VjcmV0\r\nCookie: id=secret\r\n\r\n");
        wire.read_answer();
        proxy.client().get("/marker");
        proxy.access_line(|line| line.contains("/marker"));
        let log = std::fs::read(proxy.path("access.log")).unwrap();
        assert!(
            log.iter().all(|byte| *byte == b'\n'
                || (0x20..0x7f).contains(byte)
                || *byte >= 0x80 && format.contains("json")),
            "{}",
            String::from_utf8_lossy(&log)
        );
        let text = String::from_utf8(log).expect("UTF-8");
        assert!(!text.contains('\u{9b}') && !text.contains('\u{202e}'), "{text}");
        assert!(!text.contains("secret") && !text.contains("c2VjcmV0"), "{text}");
        if format.contains("json") {
            for line in text.lines() {
                serde_json::from_str::<Value>(line).unwrap();
            }
        } else {
            assert!(!text.contains("a\" 200"), "an unescaped quote: {text}");
        }
    }
}

#[test]
fn credentials_in_the_query_are_masked_on_request() {
    let origin = app();
    let proxy = Proxy::to(&origin).log("mask = ['token']").start();
    proxy.client().get("/x?token=secret&a=1&Token=hidden");
    let line = proxy.access_line(|line| line.contains("/x?"));
    assert!(!line.contains("secret") && !line.contains("hidden"), "{line}");
    assert!(line.contains("a=1"), "{line}");
    assert_eq!(origin.last().target, "/x?token=secret&a=1&Token=hidden", "the app sees it all");
}

#[test]
fn malformed_requests_have_a_line_too() {
    let origin = app();
    let proxy = Proxy::plain_to(&origin).log("format = 'json'").start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nHost: b\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 400);
    let line = proxy.access_line(|line| line.contains("400"));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["status"], 400);
}

#[test]
fn the_levels_of_the_programs_own_words() {
    let origin = app();
    let quiet = Setup::log(Proxy::to(&origin), "level = 'error'");
    let mut proxy = Proxy::launch(quiet);
    eventually("the control socket to answer", || proxy.reload(&["--dry-run"]).status.success());
    proxy.stop();
    assert!(!proxy.words().contains("INFO"), "{}", proxy.words());
}
