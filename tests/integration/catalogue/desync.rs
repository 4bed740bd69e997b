//! Around the message: who goes on reading where the other has stopped.

use std::time::Duration;

use super::stage::{Row, SMUGGLED, Stage, expect_refusal, final_answer, get, play, post, summary};
use crate::harness::wire::End;
use crate::harness::{Proxy, Script, Setup, Site, eventually, socket};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("0.CL", zero_cl),
    ("CL.0", cl_zero),
    ("pause-based", pauses),
    ("Expect", expectations),
    ("early final answer", early_answer),
    ("premature upgrade", premature_upgrade),
    ("200 taken as upgrade", upgrade_by_200),
    ("h2c smuggling", h2c),
    ("extra bytes after an answer", extra_bytes),
];

#[test]
fn desync() {
    play(&Stage::shipped(), ROWS);
}

fn zero_cl(stage: &Stage) {
    for fields in [
        "X-J: x\r\n Content-Length: 36\r\n",
        "X-J: x\r\n\tContent-Length: 36\r\n",
        "Content-Length : 36\r\n",
        "Content-Length\t: 36\r\n",
        "Content-Length:\r\n 36\r\n",
        "Content-Length\x0b: 36\r\n",
        " Content-Length: 36\r\n",
    ] {
        stage.refuses(get(fields) + SMUGGLED);
    }
    let framed = format!("GET /p {}", SMUGGLED.trim_end());
    let length = SMUGGLED.len();
    for connection in ["Content-Length", "close, content-length", "keep-alive, Content-Length, x"] {
        let fields = format!("Connection: {connection}\r\nContent-Length: {length}\r\n");
        stage.passes(get(&fields) + SMUGGLED, &[&framed]);
    }
}

/// To a request that we answer ourselves: one answer, whatever its body looks like.
fn cl_zero(stage: &Stage) {
    let length = SMUGGLED.len();
    for (head, wanted) in [
        ("POST /p HTTP/1.1\r\nHost: other.test\r\n", &[404, 421][..]),
        ("POST /%zz HTTP/1.1\r\nHost: app.test\r\n", &[400]),
        ("POST /p HTTP/1.1\r\nHost: app.test\r\nExpect: something\r\n", &[417]),
        ("TRACE /p HTTP/1.1\r\nHost: app.test\r\n", &[405]),
        ("POST /p HTTP/1.1\r\nHost: a b\r\n", &[400]),
        ("POST /p HTTP/1.1\r\n", &[400]),
    ] {
        let chunks = format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
        for bytes in [
            format!("{head}Content-Length: {length}\r\n\r\n{SMUGGLED}"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"),
            format!("{head}Content-Length: 100000\r\n\r\n{SMUGGLED}"),
        ] {
            stage.on_both(bytes.as_bytes(), |mut wire| {
                wire.send(&bytes);
                let answer = wire.read_answer();
                assert!(wanted.contains(&answer.status()), "{}", answer.head);
                wire.finish();
                let (rest, end) = wire.rest_within(Duration::from_secs(5));
                assert!(rest.is_empty(), "one more answer: {}", rest.escape_ascii());
                assert_ne!(end, End::Open);
                assert_eq!(stage.heard(), []);
            });
        }
    }
    let small = Stage::with(|setup| setup.limits("body_size = '16B'"));
    small.refuses_with(413, post(&format!("Content-Length: {length}\r\n"), SMUGGLED));
    stage.case("413", || small.complaints());
}

/// What comes after the patience is over is no request.
fn pauses(stage: &Stage) {
    let slow = Stage::with(|setup| setup.limits("request_body_idle_timeout = '1s'"));
    for fields in ["Content-Length: 36\r\n", "Transfer-Encoding: chunked\r\n"] {
        slow.on_both(fields.as_bytes(), |mut wire| {
            wire.send(post(fields, ""));
            expect_refusal(&mut wire, |status| status == 408);
            let _ = wire.try_send(SMUGGLED);
            let (rest, _) = wire.rest_within(Duration::from_secs(3));
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
            assert!(slow.heard().iter().all(|heard| !heard.is_whole && heard.target == "/p"));
        });
    }
    stage.case("408", || slow.complaints());
}

fn expectations(stage: &Stage) {
    let length = "Content-Length: 5\r\n";
    for expect in [
        "Expect: y 100-continue\r\n",
        "Expect: 200-ok\r\n",
        "Expect: 100-continue, 200-ok\r\n",
        "Expect: 100-continue\r\nExpect: 200-ok\r\n",
        "Expect: \"100-continue\"\r\n",
        "Expect: 100-continue;x\r\n",
        "Expect: 100 continue\r\n",
        "Expect:\r\n",
        "Expect: \r\nExpect: 100-continue\r\n",
    ] {
        stage.refuses_with(417, post(&format!("{expect}{length}"), "hello"));
    }
    stage.refuses_with(400, post(&format!("Expect: 100-continue\x0b\r\n{length}"), "hello"));
    stage.refuses(post(&format!("Expect : 100-continue\r\n{length}"), "hello"));
    for (version, expect, held_back, most) in [
        ("1.1", "Expect: 100-continue\r\n", true, 1),
        ("1.1", "Expect: 100-continue\r\n", false, 1),
        ("1.1", "eXPECT:\t100-CONTINUE \r\n", true, 1),
        ("1.1", "Expect: 100-continue\r\nExpect: 100-continue\r\n", true, 1),
        ("1.1", "Expect: 100-continue\r\nConnection: Expect\r\n", true, 1),
        ("1.0", "Expect: 100-continue\r\n", false, 0),
    ] {
        let head = format!("POST /p HTTP/{version}\r\nHost: app.test\r\n{expect}{length}\r\n");
        stage.on_both(format!("{head} held back: {held_back}").as_bytes(), |mut wire| {
            wire.send(&head);
            let mut told = 0;
            if held_back {
                assert_eq!(wire.read_answer().status(), 100);
                told = 1;
            }
            wire.send("hello");
            let (interim, answer) = final_answer(&mut wire, "POST");
            assert!(interim + told <= most, "{} times 100", interim + told);
            assert_eq!(answer.text(), "POST /p");
            wire.finish();
            assert_eq!(wire.rest().0, b"");
            let heard: Vec<_> = stage.heard().iter().map(summary).collect();
            assert_eq!(heard, ["POST /p hello"]);
        });
    }
    stage.case("100 said over and over", || hundreds_of_the_app("HTTP/1.1 100 Continue\r\n\r\n"));
    stage.case("a final answer without 100", final_without_100);
}

/// However often the app says it, the client is told at most once.
fn hundreds_of_the_app(interim: &'static str) {
    let origin = Script::play(move |scene| {
        scene.hear_head();
        scene.wire.send(interim.repeat(5));
        scene.wire.read_exactly(5);
        scene.wire.send(interim.repeat(5) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = scene.wire.rest();
    });
    let proxy = Proxy::plain_to(&origin).start();
    let mut wire = proxy.wire();
    wire.send(post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""));
    assert_eq!(wire.read_answer().status(), 100);
    wire.send("hello");
    let (interim, answer) = final_answer(&mut wire, "POST");
    assert_eq!((interim, answer.text().as_str()), (0, "ok"));
}

/// The client's connection is over, as its body may come or not; the app's too.
fn final_without_100() {
    let origin = refusing_early();
    let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
    for body in ["", SMUGGLED] {
        let mut wire = proxy.wire();
        wire.send(post(
            &format!("Expect: 100-continue\r\nContent-Length: {}\r\n", SMUGGLED.len()),
            body,
        ));
        let (_, answer) = final_answer(&mut wire, "POST");
        assert_eq!(answer.status(), 413, "{}", answer.head);
        assert_eq!(answer.field("connection"), Some("close"), "{}", answer.head);
        let _ = wire.try_send(SMUGGLED);
        let (rest, end) = wire.rest_within(Duration::from_secs(5));
        assert!(rest.is_empty() && end != End::Open, "{}", rest.escape_ascii());
        probe_script(&proxy);
    }
    assert!(origin.heard().iter().all(|head| !head.contains("/smug")), "{:?}", origin.heard());
}

/// An app that refuses a POST by its head and goes on listening, and answers a GET by its target.
fn refusing_early() -> Script {
    Script::play(|scene| {
        loop {
            let head = scene.hear_head();
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match head.starts_with("POST") {
                true => ("413 Content Too Large", "too large".to_owned()),
                false => ("200 OK", target),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            if scene.wire.try_send(answer).is_err() {
                return;
            }
        }
    })
}

/// Twelve fresh clients of an app that answers with the target.
fn probe_script(proxy: &Proxy) {
    for number in 0..12 {
        let target = format!("/probe/{number}");
        assert_eq!(proxy.plain_client().get(&target).text(), target);
    }
}

fn early_answer(stage: &Stage) {
    stage.case("413 while the client sends", || {
        let origin = refusing_early();
        let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
        for mut wire in [proxy.wire(), proxy.tls_wire()] {
            wire.send(post("Content-Length: 60\r\n", "hello"));
            let answer = wire.read_answer();
            assert_eq!((answer.status(), answer.text().as_str()), (413, "too large"));
            let _ = wire.try_send(format!("{SMUGGLED}{}", "x".repeat(60)));
            let (rest, end) = wire.rest_within(Duration::from_secs(5));
            assert!(rest.is_empty() && end != End::Open, "{}", rest.escape_ascii());
            probe_script(&proxy);
        }
        let heard = origin.heard();
        assert!(heard.iter().all(|head| !head.starts_with("GET /smug")), "{heard:?}");
    });
    stage.case("413 in chunks while the client sends chunks", || {
        let origin = refusing_early();
        let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
        let mut wire = proxy.wire();
        wire.send(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"));
        assert_eq!(wire.read_answer().status(), 413);
        let _ = wire.try_send(format!("24\r\n{SMUGGLED}\r\n0\r\n\r\n{SMUGGLED}"));
        let (rest, end) = wire.rest_within(Duration::from_secs(5));
        assert!(rest.is_empty() && end != End::Open, "{}", rest.escape_ascii());
        probe_script(&proxy);
        assert!(origin.heard().iter().all(|head| !head.starts_with("GET /smug")));
    });
}

/// What is sent behind the wish to upgrade is HTTP like any other until there is a 101.
fn premature_upgrade(stage: &Stage) {
    let bad = "GET p HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let double = "POST /d HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\
                  Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let upgrades = [
        get("Connection: Upgrade\r\nUpgrade: foo\r\n"),
        get("Upgrade: foo\r\n"),
        get("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        get("Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
        get("Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"),
        socket::UPGRADE.replace("/ws", "/p"),
    ];
    for head in &upgrades {
        stage.passes(format!("{head}{SMUGGLED}"), &["GET /p", "GET /smug"]);
        stage.passes(format!("{head}{head}{SMUGGLED}"), &["GET /p", "GET /p", "GET /smug"]);
        for ambiguous in [bad, double] {
            let name = format!("{head}{ambiguous}");
            stage.on_both(name.as_bytes(), |mut wire| {
                wire.send(&name);
                assert_eq!(wire.read_answer().status(), 200);
                expect_refusal(&mut wire, |status| status == 400);
                let heard: Vec<_> = stage.heard().iter().map(summary).collect();
                assert_eq!(heard, ["GET /p"]);
            });
        }
        // Behind one in the middle as well, and however the bytes arrive.
        let name = format!("{}{head}{SMUGGLED}{bad}", get(""));
        stage.on_both(name.as_bytes(), |mut wire| {
            for piece in name.as_bytes().chunks(7) {
                wire.send(piece);
            }
            for _ in 0..3 {
                assert_eq!(wire.read_answer().status(), 200);
            }
            expect_refusal(&mut wire, |status| status == 400);
            let heard: Vec<_> = stage.heard().iter().map(summary).collect();
            assert_eq!(heard, ["GET /p", "GET /p", "GET /smug"]);
        });
    }
    stage.on_both(b"CONNECT", |mut wire| {
        wire.send(format!("CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n{SMUGGLED}"));
        expect_refusal(&mut wire, |status| status == 405 || status == 400);
        assert_eq!(stage.heard(), []);
    });
    stage.case("the client leaves while an upgrade is waited for", || {
        let origin = Script::play(|scene| {
            scene.hear_head();
            let (_, end) = scene.wire.rest();
            assert_ne!(end, End::Open);
        });
        let proxy = Proxy::plain_to(&origin).start();
        let mut wire = proxy.wire();
        wire.send(socket::UPGRADE);
        eventually("the app to be asked", || !origin.heard().is_empty());
        drop(wire);
        proxy.access_line(|line| line.contains(" 499 "));
    });
}

fn upgrade_by_200(stage: &Stage) {
    for status in ["200 OK", "404 Not Found", "426 Upgrade Required", "204 No Content"] {
        stage.case(status, || {
            let length = if status.starts_with("204") { "" } else { "Content-Length: 2\r\n" };
            let body = if length.is_empty() { "" } else { "ok" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{length}\r\n{body}"
            );
            let origin = Script::answering(answer);
            let proxy = Proxy::plain_to(&origin).start();
            let mut wire = proxy.wire();
            wire.send(format!("{}{SMUGGLED}", socket::UPGRADE));
            for _ in 0..2 {
                let told = wire.read_answer();
                assert_eq!(told.head.split(' ').nth(1), status.split(' ').next());
                assert_eq!((told.text().as_str(), told.field("upgrade")), (body, None));
            }
            let heard = origin.heard();
            assert_eq!(heard.len(), 2, "{heard:?}");
            assert!(heard[1].starts_with("GET /smug HTTP/1.1\r\nhost: app.test\r\n"));
        });
    }
}

fn h2c(stage: &Stage) {
    for connection in ["Upgrade, HTTP2-Settings", "Upgrade", "HTTP2-Settings", "close"] {
        let fields = format!(
            "Connection: {connection}\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
        );
        stage.passes(get(&fields), &["GET /p"]);
        stage.passes(get(&fields.replace("h2c", "h2c, websocket")), &["GET /p"]);
    }
    stage.refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
}

fn extra_bytes(stage: &Stage) {
    const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";
    let hosts = ["behind", "idle", "apart", "chunked"];
    let origin = Script::play(|scene| {
        scene.wire.hold_back();
        loop {
            let head = scene.hear_head();
            let target = head.split(' ').nth(1).unwrap_or_default();
            let length = target.len();
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}");
            if head.contains("host: behind.test") {
                answer += POISON;
            } else if head.contains("host: chunked.test") {
                answer = format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                     {length:x}\r\n{target}\r\n0\r\n\r\n{POISON}"
                );
            }
            if scene.wire.try_send(answer).is_err() {
                return;
            }
            // Its system holds this back until the answer is acknowledged.
            if head.contains("host: apart.test") && target == "/poison" {
                let _ = scene.wire.try_send(POISON);
            }
            if head.contains("host: idle.test") {
                std::thread::park_timeout(Duration::from_millis(20));
                let _ = scene.wire.try_send(POISON);
            }
        }
    });
    let mut setup = Setup::new().server("workers = 1");
    for host in hosts {
        setup = setup.site(Site::named(&format!("{host}.test")).to(&origin).on_plain_http());
    }
    let proxy = setup.start();
    for host in hosts {
        stage.case(host, || {
            if host == "apart" {
                // Acknowledgements wait only on a connection that has been used for a while.
                let ask = |target| proxy.plain_client().host("apart.test").get(target).text();
                (0..40).for_each(|_| assert_eq!(ask("/"), "/"));
                assert_eq!(ask("/poison"), "/poison");
                std::thread::park_timeout(Duration::from_millis(20));
            }
            for number in 0..PAUSED_PROBES {
                let target = format!("/probe/{number}");
                let client = proxy.plain_client().host(&format!("{host}.test"));
                assert_eq!(client.get(&target).text(), target);
                if host == "idle" {
                    // Until the answer that nobody asked for is here.
                    std::thread::park_timeout(Duration::from_millis(60));
                }
            }
        });
    }
    stage.case("an answer before the request", || {
        let origin = Script::play(|scene| {
            if scene.number == 0 {
                let _ = scene.wire.try_send(POISON);
            }
            loop {
                let head = scene.hear_head();
                let target = head.split(' ').nth(1).unwrap_or_default();
                let length = target.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}");
                std::thread::park_timeout(Duration::from_millis(5));
                if scene.wire.try_send(answer).is_err() {
                    return;
                }
            }
        });
        let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
        // Whoever is first is told what the app has said, or that it makes no sense.
        let _ = proxy.plain_client().get("/first");
        std::thread::park_timeout(Duration::from_millis(60));
        probe_script(&proxy);
    });
}

const PAUSED_PROBES: usize = 12;
