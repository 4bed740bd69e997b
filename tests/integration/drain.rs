//! Stopping: nothing new, what is under way ends well, and the end comes within `grace`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::{ClientConnection, StreamOwned};

use crate::harness::body::Feed;
use crate::harness::h2_frames::{Frames, GOAWAY};
use crate::harness::socket::{Socket, echo_at};
use crate::harness::tools::{portcullis, stdout};
use crate::harness::wire::End;
use crate::harness::{Body, Origin, Proxy, Request, Response, Wire, eventually, pki};

/// An app whose answer at `/slow` begins and ends when the test says so.
fn slow_app() -> (Origin, std::sync::mpsc::Sender<()>, Feed) {
    let origin = Origin::start();
    origin.route("/", "ok");
    let (body, feed) = Body::fed();
    let (go, gone) = std::sync::mpsc::channel();
    let parts = std::sync::Mutex::new(Some((body, gone)));
    origin.handle("/slow", move |_| {
        let (body, gone) = parts.lock().unwrap().take().unwrap();
        async move {
            tokio::task::spawn_blocking(move || gone.recv()).await.unwrap().unwrap();
            Response::new(body)
        }
    });
    (origin, go, feed)
}

#[track_caller]
fn expect_no_listeners(proxy: &Proxy) {
    for address in [proxy.http(), proxy.https()] {
        eventually("the listener to close", || TcpStream::connect(address).is_err());
    }
}

#[test]
fn an_idle_proxy_stops_at_once_for_each_signal() {
    let origin = Origin::start();
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut proxy = Proxy::to(&origin).server("grace = '60s'").start();
        let start = Instant::now();
        proxy.signal(signal);
        assert_eq!(proxy.wait_for_exit().code(), Some(0), "{signal:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{signal:?}: {:?}", start.elapsed());
    }
}

#[test]
fn idle_connections_are_closed_quietly() {
    let (origin, _go, _feed) = slow_app();
    let mut proxy = Proxy::plain_to(&origin).server("grace = '60s'").start();
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let mut wires = [proxy.wire(), proxy.tls_wire()];
    for wire in &mut wires {
        wire.send(get);
        assert_eq!(wire.read_answer().status(), 200);
    }
    proxy.signal(Signal::TERM);
    for wire in &mut wires {
        let (bytes, end) = wire.rest();
        assert!(bytes.is_empty() && end == End::Closed, "{end:?}");
    }
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_request_under_way_ends_well_and_says_close() {
    let (origin, go, feed) = slow_app();
    let mut proxy = Proxy::plain_to(&origin).server("grace = '60s'").start();
    let mut wire = proxy.wire();
    wire.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n");
    eventually("the app to have the request", || !origin.requests().is_empty());
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    go.send(()).unwrap();
    assert!(feed.give("to the end"));
    drop(feed);
    let answer = wire.read_answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "to the end"));
    assert_eq!(answer.field("connection"), Some("close"));
    wire.expect_end();
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn http2_gets_goaway_and_its_streams_end_well() {
    let (origin, go, feed) = slow_app();
    let mut proxy = Proxy::to(&origin).server("grace = '60s'").start();
    let mut connection = proxy.client().http2().connect();
    let pending = connection.begin(Request::get("/slow").body(()).unwrap());
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), "app.test").unwrap();
    let mut idle = Frames::over(wire);
    idle.next();
    eventually("the app to have the request", || !origin.requests().is_empty());
    proxy.signal(Signal::TERM);
    let goaway = idle.next_of(GOAWAY);
    assert_eq!(goaway.payload[4..8], [0; 4], "NO_ERROR");
    idle.expect_end();
    go.send(()).unwrap();
    assert!(feed.give("to the end"));
    drop(feed);
    assert_eq!(pending.answer().text(), "to the end");
    connection.expect_end();
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn an_upload_under_way_ends_well() {
    let (origin, _go, _feed) = slow_app();
    let mut proxy = Proxy::to(&origin).server("grace = '60s'").start();
    for client in [proxy.client(), proxy.client().http2()] {
        drop(client);
    }
    let (body, feed) = Body::fed();
    let mut connection = proxy.client().connect();
    let pending = connection.begin(Request::post("/").body(body).unwrap());
    assert!(feed.give("some"));
    eventually("the app to have the request", || !origin.requests().is_empty());
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    assert!(feed.give("more"));
    drop(feed);
    assert_eq!(pending.answer().text(), "ok");
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn what_does_not_end_is_ended_by_grace() {
    let (origin, _go, _feed) = slow_app();
    let mut proxy = Proxy::to(&origin).server("grace = '1s'").start();
    let mut connection = proxy.client().connect();
    let pending = connection.begin(Request::get("/slow").body(()).unwrap());
    eventually("the app to have the request", || !origin.requests().is_empty());
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(800) && took < Duration::from_secs(5), "{took:?}");
    drop(pending);
}

#[test]
fn a_second_signal_stops_at_once() {
    let (origin, _go, _feed) = slow_app();
    let mut proxy = Proxy::to(&origin).server("grace = '60s'").start();
    let mut connection = proxy.client().connect();
    let pending = connection.begin(Request::get("/slow").body(()).unwrap());
    eventually("the app to have the request", || !origin.requests().is_empty());
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.wait_for_exit();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(pending);
}

/// Requests that the second signal cut had no line in the access log.
#[test]
fn a_request_that_a_second_signal_cuts_has_its_line() {
    let (origin, _go, _feed) = slow_app();
    let mut proxy = Proxy::to(&origin).server("grace = '60s'").start();
    let mut connections = [proxy.client().connect(), proxy.client().http2().connect()];
    let get = |path: &str| Request::get(path).body(()).unwrap();
    origin.handle("/wait", |_| async { std::future::pending().await });
    let pending = connections.each_mut().map(|connection| connection.begin(get("/wait")));
    eventually("the app to have the requests", || origin.requests().len() == 2);
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    proxy.signal(Signal::TERM);
    proxy.wait_for_exit();
    let log = proxy.access_log();
    let cut = log.iter().filter(|line| line.contains("GET /wait ") && line.contains(" 499 "));
    assert_eq!(cut.count(), 2, "{log:#?}");
    drop(pending);
}

#[test]
fn websockets_have_until_the_end_of_grace() {
    let origin = Origin::start();
    echo_at(&origin, "/ws");
    let mut proxy = Proxy::to(&origin).server("grace = '2s'").start();
    let mut sockets = [
        Socket::open(&proxy.client(), "/ws"),
        Socket::open_over_http2(&proxy.client().http2(), "/ws"),
    ];
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    for socket in &mut sockets {
        assert_eq!(socket.ask("still here"), "still here");
    }
    let start = Instant::now();
    for socket in &mut sockets {
        socket.expect_end();
    }
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

/// Over HTTP/1.1 a socket was cut as soon as the proxy was told to stop, though all of `grace` was
/// still to come.
#[test]
fn a_websocket_over_http_1_lives_as_long_as_grace() {
    let origin = Origin::start();
    echo_at(&origin, "/ws");
    let mut proxy = Proxy::plain_to(&origin).server("grace = '2s'").start();
    let mut sockets =
        [Socket::open(&proxy.plain_client(), "/ws"), Socket::open(&proxy.client(), "/ws")];
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    let mut asked = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        for socket in &mut sockets {
            assert_eq!(socket.ask("here"), "here", "after {:?}", start.elapsed());
        }
        asked += 1;
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(asked > 0);
    for socket in &mut sockets {
        socket.expect_end();
    }
    assert!(start.elapsed() >= Duration::from_millis(1800), "{:?}", start.elapsed());
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn a_websocket_that_ends_lets_the_proxy_go() {
    let origin = Origin::start();
    echo_at(&origin, "/ws");
    let mut proxy = Proxy::to(&origin).server("grace = '60s'").start();
    let mut socket = Socket::open(&proxy.client(), "/ws");
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    assert_eq!(socket.ask("bye"), "bye");
    socket.close();
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}

#[test]
fn the_control_socket_is_removed() {
    let origin = Origin::start();
    let mut proxy = Proxy::to(&origin).start();
    assert!(proxy.path("control.sock").exists());
    proxy.stop();
    assert!(!proxy.path("control.sock").exists());
}

/// It was cut, because only connections after their handshake were waited for.
#[test]
fn a_handshake_under_way_ends_well_and_its_request_is_answered() {
    let (origin, _go, _feed) = slow_app();
    let mut proxy = Proxy::to(&origin).server("grace = '60s'").start();
    let name = "app.test".try_into().unwrap();
    let mut tls = ClientConnection::new(pki::trusting(&["http/1.1"]), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut stream = TcpStream::connect(proxy.https()).unwrap();
    let (first, rest) = hello.split_at(20);
    stream.write_all(first).unwrap();
    eventually("the connection to be known", || {
        let file = proxy.path("portcullis.toml");
        let status = portcullis(&["status", "--json", "-c", file.to_str().unwrap()]);
        stdout(&status).contains("\"connections\": 1")
    });
    proxy.signal(Signal::TERM);
    expect_no_listeners(&proxy);
    stream.write_all(rest).unwrap();
    let mut stream = StreamOwned::new(tls, stream);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
}
