//! WebSocket: what becomes a tunnel, when, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::stage::{Row, SMUGGLED, Stage, echoing, play};
use crate::harness::socket::{self, ACCEPTING, Socket, UPGRADE};
use crate::harness::{Origin, Proxy, Request, Script, Wire, eventually};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("no tunnel before an agreement", agreement),
    ("another version", another_version),
    ("bytes sent ahead", ahead),
    ("half-close", half_close),
    ("idle timeout", idle),
    ("flat memory", memory),
    ("death of the backend", death),
    ("reload", reload),
    ("extended CONNECT", extended_connect),
    ("data after close", after_close),
];

#[test]
fn tunnels() {
    let origin = echoing();
    socket::echo_at(&origin, "/ws");
    let proxy = Proxy::plain_to(&origin).start();
    play(&Stage::of(origin, proxy), ROWS);
}

fn agreement(stage: &Stage) {
    for (from, to) in [
        ("s3pPLMBi", "AAAAAAAA"),
        ("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", ""),
        ("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x"),
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade", "Connection: close"),
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Upgrade: websocket", "Upgrade: websocket, h2c"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: websocket"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: h2c"),
        ("Connection: Upgrade", "Content-Length: 0\r\nConnection: Upgrade"),
        ("Connection: Upgrade", "Content-Length: 5\r\nConnection: Upgrade"),
        ("Connection: Upgrade", "Transfer-Encoding: chunked\r\nConnection: Upgrade"),
        ("101 Switching", "102 Switching"),
    ] {
        let answer = ACCEPTING.replace(from, to);
        stage.case(&answer.clone(), || {
            let origin = Script::answering(answer);
            let proxy = Proxy::plain_to(&origin).start();
            for mut wire in [proxy.wire(), proxy.tls_wire()] {
                wire.send(format!("{UPGRADE}{SMUGGLED}"));
                let mut told = wire.read_answer();
                while told.status() == 102 {
                    told = wire.read_answer();
                }
                assert_eq!(told.status(), 502, "{}", told.head);
            }
            let heard = origin.heard().concat();
            let raw = heard.contains("GET /smug HTTP/1.1\r\nHost");
            assert!(!raw, "what was sent ahead went on as it was: {heard}");
        });
    }
    for (status, body) in [("200 OK", "ok"), ("403 Forbidden", "no"), ("404 Not Found", "no")] {
        stage.case(status, || {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{body}");
            let origin = Script::answering(answer);
            let proxy = Proxy::plain_to(&origin).start();
            let mut wire = proxy.wire();
            wire.send(format!("{UPGRADE}{SMUGGLED}"));
            assert_eq!(wire.read_answer().text(), body);
            assert_eq!(wire.read_answer().text(), body);
            assert!(origin.heard()[1].starts_with("GET /smug HTTP/1.1\r\nhost:"));
        });
    }
    // What only looks like the wish for a tunnel is none.
    for (from, to) in [
        ("GET /ws", "POST /ws"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Connection: Upgrade\r\n", ""),
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket", "Upgrade: websockets"),
        ("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: "),
        ("Connection: Upgrade", "Content-Length: 0\r\nConnection: Upgrade"),
    ] {
        let request = UPGRADE.replace(from, to);
        stage.case(&request.clone(), || {
            let origin = Script::answering(ACCEPTING);
            let proxy = Proxy::plain_to(&origin).start();
            let mut wire = proxy.wire();
            wire.send(&request);
            let told = wire.read_answer();
            assert_eq!(told.status(), 502, "{}", told.head);
            let heard = origin.heard().concat().to_lowercase();
            assert!(!heard.contains("\r\nupgrade:"), "{heard}");
        });
    }
}

fn another_version(stage: &Stage) {
    let origin = Script::play(|scene| {
        while let Some(head) = scene.next_head() {
            let answer = if head.contains("upgrade: websocket") {
                "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\n\
                 Content-Length: 3\r\n\r\n13!"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstill"
            };
            if scene.wire.try_send(answer).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::plain_to(&origin).start();
    for version in ["777", "13, 8", "0", "x"] {
        stage.case(version, || {
            for mut wire in [proxy.wire(), proxy.tls_wire()] {
                wire.send(UPGRADE.replace("Version: 13", &format!("Version: {version}")));
                wire.send(SMUGGLED);
                let answer = wire.read_answer();
                assert_eq!((answer.status(), answer.text().as_str()), (426, "13!"));
                assert_eq!(answer.field("sec-websocket-version"), Some("13"));
                assert_eq!(wire.read_answer().text(), "still");
            }
        });
    }
}

/// Delivered once, in order, whether they come with the request, right behind it or later.
fn ahead(stage: &Stage) {
    let origin = Script::play(|scene| {
        scene.hear_head();
        std::thread::park_timeout(Duration::from_millis(50));
        scene.wire.send(format!("{ACCEPTING}early"));
        while let Ok(byte) =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scene.wire.read_exactly(1)))
        {
            if scene.wire.try_send(byte).is_err() {
                return;
            }
        }
    });
    let proxy = Proxy::plain_to(&origin).start();
    let long = "x".repeat(100_000);
    for early in ["early", "\r\n\r\n", "GET p HTTP/1.1\r\n\r\n", "\x01\x05\n\n", SMUGGLED, &long] {
        stage.case(&early[..early.len().min(40)].escape_debug().to_string(), || {
            for mut wire in [proxy.wire(), proxy.tls_wire()] {
                wire.send(format!("{UPGRADE}{early}"));
                wire.send("late");
                assert_eq!(wire.read_answer().status(), 101);
                assert_eq!(wire.read_exactly(5), b"early");
                assert_eq!(wire.read_exactly(early.len()), early.as_bytes());
                assert_eq!(wire.read_exactly(4), b"late");
            }
        });
    }
    stage.case("behind another request", || {
        let origin = Script::play(|scene| {
            if scene.hear_head().starts_with("GET /p") {
                scene.answer("first").unwrap();
                scene.hear_head();
            }
            scene.wire.send(ACCEPTING);
            let bytes = scene.wire.read_exactly(6);
            scene.wire.send(bytes);
            scene.wire.expect_end();
        });
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        wire.send(format!("GET /p HTTP/1.1\r\nHost: app.test\r\n\r\n{UPGRADE}\n\nbare"));
        assert_eq!(wire.read_answer().text(), "first");
        assert_eq!(wire.read_answer().status(), 101);
        assert_eq!(wire.read_exactly(6), b"\n\nbare");
    });
}

fn half_close(stage: &Stage) {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(ACCEPTING);
        let (bytes, _) = scene.wire.rest();
        scene.wire.send(bytes);
    });
    let proxy = Proxy::plain_to(&origin).start();
    for (name, mut wire) in [("plain", proxy.wire()), ("tls", proxy.tls_wire())] {
        stage.case(&format!("the client has said all, {name}"), || {
            wire.send(UPGRADE);
            assert_eq!(wire.read_answer().status(), 101);
            wire.send("last words");
            wire.finish();
            assert_eq!(wire.rest().0, b"last words");
        });
    }
    stage.case("the app has said all", || {
        let origin = Script::play(|scene| {
            scene.hear_head();
            scene.wire.send(format!("{ACCEPTING}all"));
            scene.wire.finish();
            assert_eq!(scene.wire.read_exactly(4), b"more");
            scene.wire.expect_end();
        });
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        wire.send(UPGRADE);
        assert_eq!(wire.read_answer().status(), 101);
        assert_eq!(wire.rest().0, b"all");
        wire.send("more");
        wire.finish();
    });
}

fn idle(stage: &Stage) {
    let origin = Script::play(|scene| {
        scene.hear_head();
        scene.wire.send(ACCEPTING);
        scene.wire.expect_end();
    });
    let proxy = Proxy::plain_to(&origin).limits("idle_timeout = '1s'").start();
    for (name, mut wire) in [("plain", proxy.wire()), ("tls", proxy.tls_wire())] {
        stage.case(name, || {
            wire.send(UPGRADE);
            assert_eq!(wire.read_answer().status(), 101);
            for _ in 0..4 {
                std::thread::park_timeout(Duration::from_millis(400));
                wire.send("alive");
            }
            let began = Instant::now();
            wire.expect_end();
            let took = began.elapsed();
            assert!(took > Duration::from_millis(700) && took < Duration::from_secs(6), "{took:?}");
        });
    }
}

fn memory(stage: &Stage) {
    stage.case("64 MB each way", || {
        let origin = Script::play(|scene| {
            scene.hear_head();
            scene.wire.send(ACCEPTING);
            for _ in 0..64 {
                let bytes = scene.wire.read_exactly(1024 * 1024);
                scene.wire.send(bytes);
            }
            scene.wire.expect_end();
        });
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        wire.send(UPGRADE);
        assert_eq!(wire.read_answer().status(), 101);
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..64 {
            wire.send(&piece);
            assert!(wire.read_exactly(piece.len()) == piece);
        }
        let peak = proxy.memory_kib("VmHWM:");
        assert!(peak < 64 * 1024, "{peak} KiB");
    });
    stage.case("a reader that stalls", || {
        let origin = Script::play(|scene| {
            scene.hear_head();
            scene.wire.send(ACCEPTING);
            let piece = vec![b'x'; 1024 * 1024];
            while scene.wire.try_send(&piece).is_ok() {}
        });
        let proxy = Proxy::plain_to(&origin).start();
        let mut wires: Vec<Wire> = (0..10).map(|_| proxy.wire()).collect();
        for wire in &mut wires {
            wire.send(UPGRADE);
            assert_eq!(wire.read_answer().status(), 101);
            wire.read_exactly(1024);
        }
        std::thread::park_timeout(Duration::from_millis(500));
        let peak = proxy.memory_kib("VmHWM:");
        assert!(peak < 64 * 1024, "{peak} KiB");
    });
}

fn death(stage: &Stage) {
    for name in ["FIN", "reset"] {
        stage.case(name, || {
            let (go, gone) = std::sync::mpsc::channel();
            let gone = std::sync::Mutex::new(gone);
            let origin = Script::play(move |scene| {
                scene.hear_head();
                scene.wire.send(ACCEPTING);
                gone.lock().unwrap().recv().unwrap();
                if name == "reset" {
                    scene.wire.reset_on_drop();
                }
            });
            let proxy = Proxy::plain_to(&origin).start();
            for mut wire in [proxy.wire(), proxy.tls_wire()] {
                wire.send(UPGRADE);
                assert_eq!(wire.read_answer().status(), 101);
                let began = Instant::now();
                go.send(()).unwrap();
                wire.expect_end();
                assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            }
        });
    }
}

fn reload(stage: &Stage) {
    stage.case("a tunnel outlives it", || {
        let origin = echoing();
        socket::echo_at(&origin, "/ws");
        let mut proxy = Proxy::plain_to(&origin).start();
        let mut sockets = [
            Socket::open(&proxy.plain_client(), "/ws"),
            Socket::open(&proxy.client(), "/ws"),
            Socket::open_over_http2(&proxy.client().http2(), "/ws"),
        ];
        for turn in 0..3 {
            proxy.rewrite(|setup| setup.limits(&format!("body_size = '{}KiB'", turn + 1)));
            assert!(proxy.reload(&[]).status.success());
            for socket in &mut sockets {
                assert_eq!(socket.ask("still"), "still");
            }
        }
    });
    stage.case("a stop ends it within its grace", || {
        let origin = echoing();
        socket::echo_at(&origin, "/ws");
        let mut proxy = Proxy::plain_to(&origin).server("grace = '1s'").start();
        let mut socket = Socket::open(&proxy.client(), "/ws");
        assert_eq!(socket.ask("still"), "still");
        let began = Instant::now();
        proxy.stop();
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        socket.expect_end();
    });
}

/// Advertised for WebSocket (RFC 8441), and good for nothing else.
fn extended_connect(stage: &Stage) {
    for protocol in ["connect-udp", "connect-tcp", "websockets", "WebSocket2", "h2c"] {
        stage.case(protocol, || {
            let mut connection = stage.proxy.client().http2().connect();
            let mut request = Request::connect("/ws").body(()).unwrap();
            request.extensions_mut().insert(hyper::ext::Protocol::from(protocol));
            let refused = connection.try_send(request).map_or(true, |answer| answer.status >= 400);
            assert!(refused);
            assert_eq!(stage.heard(), []);
        });
    }
    stage.case("plain CONNECT", || {
        let mut connection = stage.proxy.client().http2().connect();
        let request = Request::connect("/ws").body(()).unwrap();
        let refused = connection.try_send(request).map_or(true, |answer| answer.status >= 400);
        assert!(refused);
        assert_eq!(stage.heard(), []);
    });
    stage.case("websocket", || {
        let mut socket = Socket::open_over_http2(&stage.proxy.client().http2(), "/ws");
        assert_eq!(socket.ask("hello"), "hello");
        socket.close();
    });
    stage.origin.take_heard();
}

/// What was said on a tunnel reaches nobody else, however it ended.
fn after_close(stage: &Stage) {
    stage.case("the next user of the app", || {
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        let origin = Script::play(move |scene| {
            while let Some(head) = scene.next_head() {
                if !head.contains("upgrade: websocket") {
                    let target = head.split(' ').nth(1).unwrap_or_default();
                    let _ = scene.answer(target);
                    continue;
                }
                scene.wire.send(format!("{ACCEPTING}tunnel"));
                let _ = scene.wire.rest();
                let _ = scene.wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON");
                told.store(true, Ordering::SeqCst);
                return;
            }
        });
        let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
        for turn in 0..3 {
            ended.store(false, Ordering::SeqCst);
            let mut wire = proxy.wire();
            wire.send(UPGRADE);
            assert_eq!(wire.read_answer().status(), 101);
            assert_eq!(wire.read_exactly(6), b"tunnel");
            wire.send("last words");
            if turn == 1 {
                wire.reset_on_drop();
            }
            drop(wire);
            eventually("the app's end of the tunnel", || ended.load(Ordering::SeqCst));
            for number in 0..12 {
                let target = format!("/probe/{number}");
                assert_eq!(proxy.plain_client().get(&target).text(), target);
            }
        }
        let heard = origin.heard().concat();
        assert!(!heard.contains("last words"), "{heard}");
    });
    stage.case("the app itself", || {
        let origin: &Origin = &stage.origin;
        let mut socket = Socket::open(&stage.proxy.plain_client(), "/ws");
        assert_eq!(socket.ask("hello"), "hello");
        socket.close();
        stage.probe();
        origin.take_heard();
    });
}
