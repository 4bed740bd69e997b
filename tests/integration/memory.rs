//! What connections cost while nothing happens on them.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::{Domain, Type};

use crate::harness::h2_frames::{DATA, Frames, HEADERS, PING, SETTINGS};
use crate::harness::{Origin, Proxy, Response, Wire, eventually, pki};

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

/// Text that no compression makes small.
fn noise(size: usize) -> String {
    let mut random = vec![0; size];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    random.iter().map(|byte| char::from(b'a' + byte % 16)).collect()
}
