//! WebSockets through the proxy: the upgrade of HTTP/1.1 and the extended CONNECT of HTTP/2.

use std::sync::mpsc;

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::h2_frames::{self, CANCEL, DATA, END_STREAM, Frames, HEADERS, RST_STREAM};
use crate::harness::socket::{self, Socket};
use crate::harness::wire::End;
use crate::harness::wire_tap::Io;
use crate::harness::{Origin, PATIENCE, Proxy, Request, Script, eventually, wait};

fn echoing() -> Origin {
    let origin = Origin::start();
    socket::echo_at(&origin, "/ws");
    origin
}

#[test]
fn messages_go_both_ways_over_http_1() {
    let origin = echoing();
    let proxy = Proxy::plain_to(&origin).start();
    for client in [proxy.plain_client(), proxy.client()] {
        let mut socket = Socket::open(&client, "/ws");
        for text in ["one", "two", "three"] {
            assert_eq!(socket.ask(text), text);
        }
        socket.close();
    }
}

#[test]
fn messages_go_both_ways_over_http_2() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let mut socket = Socket::open_over_http2(&proxy.client().http2(), "/ws");
    for text in ["one", "two", "three"] {
        assert_eq!(socket.ask(text), text);
    }
    assert_eq!(origin.last().header("upgrade").as_deref(), Some("websocket"));
    assert_eq!(origin.last().method, http::Method::GET);
    socket.close();
}

#[test]
fn several_sockets_share_an_http_2_connection() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let client = proxy.client().http2();
    let mut connection = client.connect();
    let mut sockets: Vec<_> = (0..5).map(|_| Socket::open_on(&mut connection, "/ws")).collect();
    for (n, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.ask(&format!("socket {n}")), format!("socket {n}"));
    }
}

#[test]
fn large_messages_pass_and_are_not_kept() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let text = "x".repeat(8 * 1024 * 1024);
    let mut socket = Socket::open(&proxy.client(), "/ws");
    assert!(socket.ask(&text) == text);
    let mut socket = Socket::open_over_http2(&proxy.client().http2(), "/ws");
    assert!(socket.ask(&text) == text);
    assert!(proxy.memory_kib("VmHWM:") < 64 * 1024, "{} KiB", proxy.memory_kib("VmHWM:"));
}

#[test]
fn the_request_of_an_upgrade_is_treated_like_any_other() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let mut socket = Socket::open(&proxy.client(), "/ws");
    assert_eq!(socket.ask("x"), "x");
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert!(seen.header("x-request-id").is_some());
    assert_eq!(seen.header("sec-websocket-version").as_deref(), Some("13"));
}

#[test]
fn bytes_sent_together_with_the_request_arrive_once() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(socket::ACCEPTING);
        let bytes = scene.wire.read_exactly(5);
        scene.wire.send(bytes);
        scene.wire.expect_end();
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(format!("{}early", socket::UPGRADE));
    assert_eq!(wire.read_answer().status(), 101);
    assert_eq!(wire.read_exactly(5), b"early");
}

#[test]
fn bytes_sent_together_with_the_101_arrive_once() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(format!("{}early", socket::ACCEPTING));
        scene.wire.expect_end();
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(socket::UPGRADE);
    assert_eq!(wire.read_answer().status(), 101);
    assert_eq!(wire.read_exactly(5), b"early");
}

#[test]
fn a_refusal_of_the_upgrade_is_an_answer_like_any_other() {
    let origin = Origin::start();
    origin.handle("/ws", |_| async {
        let answer = http::Response::builder().status(426).header("sec-websocket-version", "13");
        answer.body("another version".into()).unwrap()
    });
    origin.route("/", "still here");
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(socket::UPGRADE.replace("Version: 13", "Version: 777"));
    let answer = wire.read_answer();
    assert_eq!((answer.status(), answer.text().as_str()), (426, "another version"));
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(wire.read_answer().text(), "still here");
}

#[test]
fn a_101_with_the_wrong_accept_is_no_tunnel() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(socket::ACCEPTING.replace("s3pPLMBi", "AAAAAAAA"));
        let _ = scene.wire.rest();
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(socket::UPGRADE);
    assert_eq!(wire.read_answer().status(), 502);
}

/// An upgrade with a body, or with two keys, became a tunnel into which the body flowed. It is a
/// request like any other now: an app that takes it for an upgrade all the same gets no tunnel.
#[test]
fn an_upgrade_with_a_body_or_two_keys_is_no_tunnel() {
    for (fields, body) in [
        ("Content-Length: 5\r\n", "hello"),
        ("Content-Length: 0\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", ""),
    ] {
        let origin = Script::play(|scene| {
            scene.hear_head();
            scene.wire.send(socket::ACCEPTING);
            let _ = scene.wire.rest();
        });
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        let head = socket::UPGRADE.trim_end();
        wire.send(format!("{head}\r\n{fields}\r\n{body}"));
        let status = wire.read_answer().status();
        assert!(status == 502 || status == 400, "{fields:?} became a {status}");
        assert!(!origin.heard().concat().to_lowercase().contains("\r\nupgrade:"), "{fields:?}");
    }
}

/// A 101 without `Connection: Upgrade` was taken for an agreement (RFC 9110 §7.8 asks for both
/// fields).
#[test]
fn a_101_that_does_not_upgrade_its_connection_is_no_tunnel() {
    for connection in ["", "Connection: close\r\n", "Connection: keep-alive, upgraded\r\n"] {
        let answer = socket::ACCEPTING.replace("Connection: Upgrade\r\n", connection);
        let origin = Script::answering(answer);
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        wire.send(socket::UPGRADE);
        assert_eq!(wire.read_answer().status(), 502, "{connection:?}");
    }
}

#[test]
fn a_101_that_nobody_asked_for_is_no_tunnel() {
    let origin = Script::answering(socket::ACCEPTING);
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 502);
}

#[test]
fn a_200_that_speaks_of_an_upgrade_is_no_tunnel() {
    let origin = Script::answering(
        "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(socket::UPGRADE);
    let answer = wire.read_answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.field("upgrade"), None);
}

#[test]
fn the_end_of_the_app_ends_the_socket() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let mut sockets = [
        Socket::open(&proxy.client(), "/ws"),
        Socket::open_over_http2(&proxy.client().http2(), "/ws"),
    ];
    for socket in &mut sockets {
        assert_eq!(socket.ask("x"), "x");
    }
    for socket in &mut sockets {
        socket.say(socket::HANG_UP);
        socket.expect_end();
    }
}

/// An app that says three bytes in a tunnel and then, told to, resets or ends its connection.
fn leaving(by_reset: bool) -> Script {
    Script::play(move |scene| {
        let head = scene.hear_head();
        scene.wire.send(format!("{}bye", socket::accepting(&head)));
        scene.wire.read_exactly(2);
        if by_reset {
            scene.wire.reset_on_drop();
        }
    })
}

/// It was shown to the client as a clean end, as if the app had said all.
#[test]
fn a_reset_by_the_app_is_seen_as_one() {
    for (by_reset, expected) in [(true, End::Cut), (false, End::Closed)] {
        let origin = leaving(by_reset);
        let proxy = Proxy::plain_to(&origin).start();
        for mut wire in [proxy.wire(), proxy.tls_wire()] {
            wire.send(socket::UPGRADE);
            assert_eq!(wire.read_answer().status(), 101);
            assert_eq!(wire.read_exactly(3), b"bye");
            wire.send("go");
            assert_eq!(wire.rest(), (Vec::new(), expected));
        }
    }
}

/// The same over HTTP/2, where RFC 8441 §5 names the code.
#[test]
fn a_reset_by_the_app_resets_the_stream() {
    for by_reset in [true, false] {
        let origin = leaving(by_reset);
        let proxy = Proxy::plain_to(&origin).start();
        let mut client = Frames::to(&proxy);
        client.try_send_all(&h2_frames::websocket(1, "/ws")).unwrap();
        assert_eq!(client.next_of(HEADERS).status(), Some(200));
        assert_eq!(client.next_of(DATA).payload, b"bye");
        client.try_send_all(&h2_frames::data(1, false, "go")).unwrap();
        let end = client.next_matching(|frame| {
            frame.stream == 1 && (frame.kind == RST_STREAM || frame.flags & END_STREAM != 0)
        });
        match by_reset {
            true => assert_eq!((end.kind, end.error_code()), (RST_STREAM, CANCEL)),
            false => assert_eq!((end.kind, end.flags & END_STREAM), (DATA, END_STREAM)),
        }
    }
}

/// What an app sees of the end of a tunnel, after three bytes.
fn watching() -> (Script, mpsc::Receiver<End>) {
    let (tell, told) = mpsc::channel();
    let origin = Script::play(move |scene| {
        let head = scene.hear_head();
        scene.wire.send(socket::accepting(&head));
        assert_eq!(scene.wire.read_exactly(3), b"bye");
        scene.wire.send("ok");
        tell.send(scene.wire.rest().1).unwrap();
    });
    (origin, told)
}

/// The app took it for the end of what the client had to say.
#[test]
fn a_reset_by_the_client_is_seen_as_one() {
    for (by_reset, expected) in [(true, End::Cut), (false, End::Closed)] {
        let (origin, told) = watching();
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        wire.send(socket::UPGRADE);
        assert_eq!(wire.read_answer().status(), 101);
        wire.send("bye");
        assert_eq!(wire.read_exactly(2), b"ok");
        if by_reset {
            wire.reset_on_drop();
        }
        drop(wire);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), expected);
    }
}

/// The same over HTTP/2, whose library tells of a stream that is reset as of one that ended.
#[test]
fn a_reset_stream_is_a_reset_to_the_app() {
    for (by_reset, expected) in [(true, End::Cut), (false, End::Closed)] {
        let (origin, told) = watching();
        let proxy = Proxy::plain_to(&origin).start();
        let mut client = Frames::to(&proxy);
        client.try_send_all(&h2_frames::websocket(1, "/ws")).unwrap();
        assert_eq!(client.next_of(HEADERS).status(), Some(200));
        client.try_send_all(&h2_frames::data(1, false, "bye")).unwrap();
        assert_eq!(client.next_of(DATA).payload, b"ok");
        match by_reset {
            true => client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()),
            false => client.send(DATA, END_STREAM, 1, &[]),
        }
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), expected);
    }
}

#[test]
fn the_end_of_the_client_ends_the_connection_to_the_app() {
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = ended.clone();
    let origin = Script::play(move |scene| {
        scene.hear_head();
        scene.wire.send(socket::ACCEPTING);
        scene.wire.expect_end();
        told.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(socket::UPGRADE);
    assert_eq!(wire.read_answer().status(), 101);
    drop(wire);
    eventually("the app's connection to end", || ended.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn half_a_close_leaves_the_other_direction_open() {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(socket::ACCEPTING);
        let (bytes, _) = scene.wire.rest();
        scene.wire.send(bytes);
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(socket::UPGRADE);
    assert_eq!(wire.read_answer().status(), 101);
    wire.send("last words");
    wire.finish();
    assert_eq!(wire.rest().0, b"last words");
}

#[test]
fn a_site_without_sockets_refuses_an_extended_connect_politely() {
    let origin = Origin::start();
    origin.route("/", "ok");
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().http2().connect();
    let mut request = Request::connect("/nothing").body(()).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let answer = connection.start(request);
    assert_ne!(answer.head.status, StatusCode::OK);
    assert_eq!(connection.get("/").text(), "ok");
}

/// The library reset the stream, and the log said that the client had gone away.
#[test]
fn an_app_that_answers_an_extended_connect_with_a_200_is_a_bad_gateway() {
    let origin = Origin::start();
    origin.route("/ws", "no socket here");
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().http2().connect();
    let mut request = Request::connect("/ws").body(()).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    assert_eq!(connection.start(request).head.status, StatusCode::BAD_GATEWAY);
}

#[test]
fn an_extended_connect_of_another_protocol_is_refused() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().http2().connect();
    let mut request = Request::connect("/ws").body(()).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("connect-udp"));
    let refused = connection.try_send(request).map_or(true, |answer| answer.status >= 400);
    assert!(refused);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_real_client_shakes_hands_through_the_proxy() {
    let origin = echoing();
    let proxy = Proxy::to(&origin).start();
    let stream: Box<dyn Io> = wait("a connection", proxy.client().open_stream()).unwrap();
    let shaken = tokio_tungstenite::client_async("wss://app.test/ws", stream);
    let (mut socket, answer) = wait("the handshake", shaken).unwrap();
    assert_eq!(answer.status().as_u16(), 101);
    wait("an echo", async {
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
        socket.close(None).await.unwrap();
    });
}
