//! What connections cost while nothing happens on them.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Type};

use crate::harness::h2_frames::{self, DATA, Frames, HEADERS, PING, RST_STREAM, SETTINGS};
use crate::harness::{Body, Origin, Proxy, Response, Script, Wire, eventually, pki};

/// The memory that the proxy has for itself, in KiB: what it shares with other processes of the
/// same program changes as they come and go.
fn own(proxy: &Proxy) -> u64 {
    proxy.memory_kib("RssAnon:")
}

/// Opens that many connections, each of which asks once, and keeps them.
fn idle(proxy: &Proxy, count: u64, connect: fn(&Proxy) -> Wire) -> Vec<Wire> {
    let wires = (0..count).map(|_| {
        let mut wire = connect(proxy);
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(wire.read_answer().status(), 200);
        wire
    });
    wires.collect()
}

/// Expects that a connection which has asked once costs at most this many KiB when it rests.
#[track_caller]
fn costs_at_most(kib: u64, connect: fn(&Proxy) -> Wire) {
    const COUNT: u64 = 300;
    let origin = Origin::start();
    origin.route("/", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    // What the first ones cost is not theirs alone.
    let first = idle(&proxy, 50, connect);
    let before = own(&proxy);
    let more = idle(&proxy, COUNT, connect);
    let mut least = u64::MAX;
    let what = format!("{COUNT} idle connections to cost {kib} KiB each");
    eventually(&what, || {
        least = least.min(own(&proxy).saturating_sub(before));
        least <= kib * COUNT
    });
    drop((first, more));
}

/// The buffers of a request, 8 KiB and more, stayed with its connection for as long as it was idle.
#[test]
fn an_idle_connection_keeps_no_buffer() {
    costs_at_most(9, Proxy::wire);
}

/// The same over TLS, whose session costs some KiB of its own.
#[test]
fn an_idle_connection_over_tls_keeps_no_buffer() {
    costs_at_most(14, Proxy::tls_wire);
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "app.test")];

/// What attacks of one HTTP/2 connection each add to the proxy's memory, in KiB: the mean of five.
/// `attack` returns once the proxy holds whatever it will.
fn gained_by(proxy: &Proxy, attack: impl Fn(&mut Frames)) -> u64 {
    const COUNT: u64 = 5;
    let connect = || {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // What the kernel takes is none of what the proxy has to hold.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&proxy.https().into()).unwrap();
        Frames::over(
            Wire::over(socket.into()).try_seal(pki::trusting(&["h2"]), "app.test").unwrap(),
        )
    };
    // The first attacker warms the allocator up.
    let mut attackers = vec![connect()];
    attack(&mut attackers[0]);
    let before = own(proxy);
    for _ in 0..COUNT {
        let mut frames = connect();
        attack(&mut frames);
        attackers.push(frames);
    }
    own(proxy).saturating_sub(before) / COUNT
}

/// A hundred answers of which the client takes a byte: each held a piece of 64 KiB.
#[test]
fn a_hundred_dribbled_answers_hold_two_mib_at_most() {
    let origin = Origin::start();
    origin.route("/", vec![b'x'; 1 << 20]);
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let gained = gained_by(&proxy, |frames| {
        // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
        frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
        for n in 0..100 {
            frames.send_head(n * 2 + 1, true, &GET);
        }
        let mut first_bytes = 0;
        while first_bytes < 100 {
            first_bytes += u32::from(frames.next_of(DATA).payload.len() == 1);
        }
    });
    assert!(gained <= 2048, "{gained} KiB for each connection");
}

/// The same from an application that speaks HTTP/2: what it had sent piled up in the windows of its
/// streams, and nobody counted it.
#[test]
fn a_hundred_dribbled_answers_over_h2c_hold_two_mib_at_most() {
    let origin = Origin::start_h2c();
    origin.route("/", vec![b'x'; 1 << 20]);
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let gained = gained_by(&proxy, |frames| {
        frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
        for n in 0..100 {
            frames.send_head(n * 2 + 1, true, &GET);
        }
        let mut first_bytes = 0;
        while first_bytes < 100 {
            first_bytes += u32::from(frames.next_of(DATA).payload.len() == 1);
        }
        frames.send(PING, 0, 0, &[7; 8]);
        frames.next_of(PING);
    });
    assert!(gained <= 2048, "{gained} KiB for each connection");
}

/// A hundred requests with heads of 12 KiB, to an application that hangs.
#[test]
fn a_hundred_large_heads_hold_two_mib_at_most() {
    let origin = Origin::start();
    origin.handle("/", |_| std::future::pending());
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let value = "x".repeat(120);
    let gained = gained_by(&proxy, |frames| {
        let mut fields = GET.to_vec();
        fields.extend((0..90).map(|_| ("x-is-large", value.as_str())));
        for n in 0..100 {
            frames.send_head(n * 2 + 1, true, &fields);
        }
        // Those beyond the limit are answered at once.
        let mut refused = 0;
        while refused < 10 {
            refused += u32::from(frames.next_of(HEADERS).stream > 0);
        }
        frames.send(PING, 0, 0, &[7; 8]);
        frames.next_of(PING);
    });
    assert!(gained <= 2048, "{gained} KiB for each connection");
}

/// A hundred answers with heads of 60 KB, of which the client takes nothing.
#[test]
fn a_hundred_large_heads_of_answers_hold_two_mib_at_most() {
    let origin = Origin::start();
    origin.route("/fence", "ok");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    origin.handle("/", move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let answer = Response::builder().header("x-is-large", "x".repeat(60_000));
        async { answer.body("".into()).unwrap() }
    });
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let gained = gained_by(&proxy, |frames| {
        let before = asked.load(Ordering::Relaxed);
        for n in 0..100 {
            frames.send_head(n * 2 + 1, true, &GET);
        }
        eventually("all to be asked", || asked.load(Ordering::Relaxed) == before + 100);
        // The same worker answers these behind what has come of those.
        for _ in 0..10 {
            assert_eq!(proxy.client().get("/fence").text(), "ok");
        }
    });
    assert!(gained <= 2048, "{gained} KiB for each connection");
    let mut reader = Frames::to(&proxy);
    for n in 0..20 {
        // `:status` 200 is index 8 of the static table (RFC 7541 appendix A).
        reader.send_head(n * 2 + 1, true, &GET);
        assert_eq!(reader.next_of(HEADERS).payload[0], 0x88, "a client that reads gets them all");
    }
}

/// The same, asked for with heads of 6 KiB: each was kept until its answer came, and with it the
/// piece of the connection that it had come in.
#[test]
fn large_heads_and_dribbled_answers_over_h2c_hold_two_mib_at_most() {
    let origin = Origin::start_h2c();
    origin.route("/", vec![b'x'; 1 << 20]);
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let gained = gained_by(&proxy, |frames| {
        frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        let sent: Vec<_> = (0..99).map(|_| noise(6144)).collect();
        for (n, value) in (0..).zip(&sent) {
            let fields = [&GET[..], &[("x-is-large", value)]].concat();
            frames.send_head(n * 2 + 1, true, &fields);
        }
        let mut answered = 0;
        while answered < 99 {
            answered += u32::from(frames.next_of(HEADERS).stream > 0);
        }
        frames.send(PING, 0, 0, &[7; 8]);
        frames.next_of(PING);
    });
    assert!(gained <= 2048, "{gained} KiB for each connection");
}

/// Streams that an attacker opens on its connection.
const STREAMS: u32 = 99;

/// SETTINGS_INITIAL_WINDOW_SIZE of 0 (RFC 9113 §6.5.2).
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// The head and more of a request on stream `n`.
type Ask = fn(u32) -> Vec<u8>;

/// What a client sends on each of its streams to an application that never answers, and takes
/// nothing of the answers that it gets. Beside its head, each request holds what the head came in:
/// the client's frames, and the map that the library makes of it.
const HANGING: [(&str, Ask); 7] = [
    ("20 fields of 300 bytes, and data", |n| asked(n, &fields(20, 290), &[2500])),
    ("4 fields of 1500 bytes, and data", |n| asked(n, &fields(4, 1470), &[2500])),
    ("90 fields of 30 bytes, and data", |n| asked(n, &fields(90, 30), &[2500])),
    ("5 fields of 3000 bytes", |n| asked(n, &fields(5, 3000), &[])),
    ("90 references to a field of 60 bytes", |n| referring(n, 90)),
    ("450 references to a field of 60 bytes", |n| referring(n, 450)),
    ("trailers of 8 KB", |n| [asked(n, &[], &[2000]), trailing(n, &fields(60, 127))].concat()),
];

/// `count` fields with values of `size` bytes.
fn fields(count: usize, size: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("x{n}"), "a".repeat(size))).collect()
}

/// A request with these fields, which has a body of these pieces, and more to come, if there are
/// any.
fn asked(n: u32, fields: &[(String, String)], pieces: &[usize]) -> Vec<u8> {
    let method = if pieces.is_empty() { "GET" } else { "POST" };
    let mut head = vec![(":method", method), (":scheme", "https"), (":path", "/hang")];
    head.push((":authority", "app.test"));
    head.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut sent = h2_frames::head(n * 2 + 1, pieces.is_empty(), &head);
    for size in pieces {
        sent.extend(h2_frames::data(n * 2 + 1, false, vec![b'x'; *size]));
    }
    sent
}

/// Trailers of these fields.
fn trailing(n: u32, fields: &[(String, String)]) -> Vec<u8> {
    h2_frames::encode(HEADERS, 5, n * 2 + 1, &h2_frames::field_block(fields))
}

/// A request whose fields are bytes, each of which stands for the same field (RFC 7541 §6.1).
fn referring(n: u32, count: usize) -> Vec<u8> {
    let mut block = h2_frames::field_block(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/hang"),
        (":authority", "app.test"),
    ]);
    if n == 0 {
        // A literal that is added to the table (RFC 7541 §6.2.1).
        block.extend([0x40, 1, b'a', 60]);
        block.extend([b'v'; 60]);
    }
    block.extend(std::iter::repeat_n(0xbe, count));
    h2_frames::encode(HEADERS, 5, n * 2 + 1, &block)
}

/// Sends what `ask` says on all streams, with no room for answers, and waits until the proxy has
/// read it and done what it will do at once.
fn ask_all(proxy: &Proxy, frames: &mut Frames, ask: Ask) {
    frames.send(SETTINGS, 0, 0, &NO_WINDOW);
    for n in 0..STREAMS {
        frames.try_send_all(&ask(n)).unwrap();
    }
    frames.send(PING, 0, 0, &[7; 8]);
    frames.next_of(PING);
    fence(proxy);
}

/// Waits until the only worker has done what it had to do.
fn fence(proxy: &Proxy) {
    for _ in 0..10 {
        assert_eq!(proxy.client().get("/fence").text(), "ok");
    }
}

#[test]
fn requests_that_hang_hold_two_mib_at_most() {
    for is_h2c in [false, true] {
        for (name, ask) in HANGING {
            let origin = if is_h2c { Origin::start_h2c() } else { Origin::start() };
            origin.route("/fence", "ok");
            origin.handle("/hang", |_| std::future::pending());
            let proxy = Proxy::to(&origin).server("workers = 1").start();
            let gained = gained_by(&proxy, |frames| ask_all(&proxy, frames, ask));
            assert!(gained <= 2048, "{name} (h2c: {is_h2c}): {gained} KiB for each connection");
        }
    }
}

/// What an application answers to a client that has no room for it.
fn answers() -> [(&'static str, String); 4] {
    let lines = |count, size| {
        (0..count).map(|n| format!("x{n}: {}\r\n", "v".repeat(size))).collect::<String>()
    };
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
    let counted = |lines| format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 5000000\r\n\r\n");
    let body = "z".repeat(1 << 20);
    [
        ("trailers of 15 KB", format!("{chunked}{}\r\n", lines(60, 250))),
        ("trailers of 60 KB", format!("{chunked}{}\r\n", lines(120, 500))),
        ("a head of 60 KB", counted(lines(120, 500)) + &body),
        ("126 empty fields", counted("a:\r\n".repeat(126)) + &body),
    ]
}

/// A buffer of 64 KiB was counted as the five bytes that had been cut from it.
#[test]
fn what_comes_with_an_answer_holds_two_mib_at_most() {
    for (name, answer) in answers() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let origin = Script::play(move |scene| {
            while let Some(head) = scene.next_head() {
                if head.starts_with("GET /fence ") {
                    scene.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    continue;
                }
                count.fetch_add(1, Ordering::Relaxed);
                if scene.wire.try_send(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let proxy = Proxy::to(&origin).server("workers = 1").start();
        let gained = gained_by(&proxy, |frames| {
            let before = asked.load(Ordering::Relaxed);
            ask_all(&proxy, frames, asked_for_nothing);
            let all = before + STREAMS as usize;
            eventually("all to be asked", || asked.load(Ordering::Relaxed) >= all);
            fence(&proxy);
        });
        assert!(gained <= 2048, "{name}: {gained} KiB for each connection");
    }
}

fn asked_for_nothing(n: u32) -> Vec<u8> {
    asked(n, &[], &[])
}

/// Trailers wait behind data that has no room, where nobody looked at them.
#[test]
fn trailers_of_a_hundred_answers_over_h2c_hold_two_mib_at_most() {
    let origin = Origin::start_h2c();
    let known: Vec<(&'static str, &'static str)> =
        fields(100, 118).into_iter().map(|(name, value)| (&*name.leak(), &*value.leak())).collect();
    origin.route("/fence", "ok");
    origin.handle("/hang", move |_| {
        let body = Body::from("hello").with_trailers(&known);
        async { Response::new(body) }
    });
    let proxy = Proxy::to(&origin).server("workers = 1").start();
    let gained = gained_by(&proxy, |frames| {
        ask_all(&proxy, frames, asked_for_nothing);
        // Those beyond the limit are cut, and visibly so.
        frames.next_of(RST_STREAM);
        fence(&proxy);
    });
    assert!(gained <= 2048, "{gained} KiB for each connection");
    let mut reader = Frames::to(&proxy);
    for n in 0..20 {
        reader.send_head(n * 2 + 1, true, &[GET[0], GET[1], (":path", "/hang"), GET[3]]);
        let ends = |frame: &h2_frames::Frame| frame.kind == HEADERS && frame.flags & 1 != 0;
        let trailers = reader.next_matching(ends);
        assert!(trailers.payload.len() > 4000, "a client that reads gets them all");
    }
}

/// A hundred requests at once with heads as browsers and services send them, and answers with
/// trailers, are far from every limit.
#[test]
fn a_hundred_ordinary_requests_are_all_answered() {
    for origin in [Origin::start(), Origin::start_h2c()] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        origin.handle("/hang", move |_| {
            let asked = Arc::clone(&count);
            asked.fetch_add(1, Ordering::Relaxed);
            let mut answer = Response::builder().header("trailer", "grpc-status");
            for n in 0..30 {
                answer = answer.header(format!("x{n}"), "a".repeat(40));
            }
            async move {
                // So that all of them are open at the same time.
                while asked.load(Ordering::Relaxed) < 100 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let body = Body::from("hello").with_trailers(&[("grpc-status", "0")]);
                answer.body(body).unwrap()
            }
        });
        let proxy = Proxy::to(&origin).server("workers = 1").start();
        let mut frames = Frames::to(&proxy);
        for n in 0..100 {
            frames.try_send_all(&asked_by_browser(n)).unwrap();
        }
        for _ in 0..100 {
            let head = frames.next_matching(|frame| frame.kind == HEADERS && frame.flags & 1 == 0);
            assert_eq!(head.payload[0], 0x88, "a 200");
        }
    }
}

fn asked_by_browser(n: u32) -> Vec<u8> {
    asked(n, &fields(30, 40), &[])
}

/// Text that no compression makes small.
fn noise(size: usize) -> String {
    let mut random = vec![0; size];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    random.iter().map(|byte| char::from(b'a' + byte % 16)).collect()
}
