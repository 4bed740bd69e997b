//! Which connections to an app carry another request: none on which an answer is still owed.

use crate::harness::h2_frames::{Frames, RST_STREAM};
use crate::harness::{Proxy, Request, Script, Wire, eventually, pki};

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// An app that owes `/slow` its answer until the same connection asks again, and then gives that
/// answer first, as HTTP/1.1 has it.
fn owing() -> Script {
    Script::play(|scene| {
        let head = scene.hear_head();
        if head.starts_with("GET /slow ") {
            scene.hear_head();
            scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
        }
        scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown");
        let _ = scene.wire.rest();
    })
}

/// Lets somebody give up the request `/slow`, which ends in the log with `status`, and expects that
/// the next client gets an answer of its own.
#[track_caller]
fn the_next_gets_its_own(limits: &str, status: &str, give_up: impl FnOnce(&Proxy, &Script)) {
    let origin = owing();
    let setup = Proxy::plain_to(&origin).server("workers = 1").limits(limits);
    let proxy = setup.start();
    give_up(&proxy, &origin);
    let ended = format!(" {status} ");
    proxy.access_line(|line| line.contains("/slow") && line.contains(&ended));
    assert_eq!(proxy.plain_client().get("/next").text(), "own");
}

fn hears(origin: &Script) {
    eventually("the app to have the request", || !origin.heard().is_empty());
}

/// A client that closed its connection before the answer gave the connection to the app back as if
/// nothing were owed on it; whoever came next got the answer to the first.
#[test]
fn after_a_client_that_closed_the_next_gets_its_own_answer() {
    for connect in [Proxy::wire, Proxy::tls_wire] {
        the_next_gets_its_own("hold = '0s'", "499", |proxy, origin| {
            let mut wire = connect(proxy);
            wire.send(SLOW);
            hears(origin);
        });
    }
}

/// The same for a stream of HTTP/2 that was reset.
#[test]
fn after_a_stream_that_was_reset_the_next_gets_its_own_answer() {
    the_next_gets_its_own("hold = '0s'", "499", |proxy, origin| {
        let mut frames = slow_over_http2(proxy);
        hears(origin);
        frames.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
        proxy.access_line(|line| line.contains("/slow"));
    });
}

/// The same for a connection of HTTP/2 that ended with its stream under way.
#[test]
fn after_an_http2_connection_that_closed_the_next_gets_its_own_answer() {
    the_next_gets_its_own("hold = '0s'", "499", |proxy, origin| {
        let frames = slow_over_http2(proxy);
        hears(origin);
        drop(frames);
    });
}

/// The same after a 504: the app answers all the same, a moment too late.
#[test]
fn after_a_504_the_next_gets_its_own_answer() {
    the_next_gets_its_own("upstream_timeout = '300ms'", "504", |proxy, _| {
        assert_eq!(proxy.plain_client().get("/slow").status, 504);
    });
    the_next_gets_its_own("upstream_timeout = '300ms'", "504", |proxy, _| {
        assert_eq!(proxy.client().http2().get("/slow").status, 504);
    });
}

fn slow_over_http2(proxy: &Proxy) -> Frames {
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), "app.test").unwrap();
    let mut frames = Frames::over(wire);
    let head =
        [(":method", "GET"), (":scheme", "https"), (":path", "/slow"), (":authority", "app.test")];
    frames.send_head(1, true, &head);
    frames
}

/// An app that is going down takes a connection that it never looks at, and drops it: clients got a
/// 502 in the moment of every restart.
#[test]
fn a_get_on_a_new_connection_that_is_dropped_unanswered_is_sent_once_more() {
    let origin = dropping_the_first();
    let proxy = Proxy::to(&origin).limits("hold = '5s'").start();
    assert_eq!(proxy.client().get("/first").text(), "ok");
    assert_eq!(origin.heard().len(), 2, "{:?}", origin.heard());
}

/// The app may have done what a POST asks for before it dropped the connection.
#[test]
fn a_post_on_a_new_connection_that_is_dropped_unanswered_is_not_sent_again() {
    let origin = dropping_the_first();
    let proxy = Proxy::to(&origin).limits("hold = '5s'").start();
    let answer = proxy.client().connect().send(Request::post("/first").body("pay").unwrap());
    assert_eq!(answer.status, 502);
    assert_eq!(origin.heard().len(), 1, "{:?}", origin.heard());
}

/// An app that drops its first connection after the request.
fn dropping_the_first() -> Script {
    Script::play(|scene| {
        scene.hear_head();
        if scene.number > 0 {
            scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}
