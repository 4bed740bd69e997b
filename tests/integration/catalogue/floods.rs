//! HTTP/2 frames without end, and what they may cost: the connection is given up, the app hears of
//! no more requests than may be open at once and some, and memory has a ceiling.

use std::time::{Duration, Instant};

use super::stage::{Row, Stage, echoing};
use crate::harness::h2_frames::{
    self, ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, GET, GOAWAY,
    HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, data, encode, head, text_block,
};
use crate::harness::wire::End;
use crate::harness::{Body, Proxy, Response, Setup, eventually, eventually_within, socket};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("rapid reset", rapid_reset),
    ("MadeYouReset", made_you_reset),
    ("CONTINUATION flood", continuation),
    ("HPACK bomb", hpack_bomb),
    ("HTTP/2 bomb", http2_bomb),
    ("unique-header panic", unique_names),
    ("SETTINGS, PING, PRIORITY flood", asking_nothing),
    ("empty frames", empty_frames),
    ("dribble, zero window, internal buffering", no_room),
    ("tunnels that nobody reads", unread_tunnels),
    ("0-length names", empty_names),
    ("padding, unknown and oversize frames, ids, GOAWAY", games),
];

#[test]
fn floods() {
    super::stage::play(&stage(|setup| setup), ROWS);
}

/// As shipped, before an app that hangs at `/hang` and says much at `/big`.
fn stage(change: impl FnOnce(Setup) -> Setup) -> Stage {
    let origin = echoing();
    origin.handle("/hang", |_| std::future::pending());
    origin.handle("/big", |_| async { Response::new(Body::of_size(64 << 20)) });
    socket::speak_at(&origin, "/ws", SPOKEN);
    let proxy = change(Proxy::plain_to(&origin)).start();
    Stage::of(origin, proxy)
}

/// What the app says on a tunnel: more than may wait for the client.
const SPOKEN: usize = 160 * 1024;

/// Requests that may be open at once.
const STREAMS: usize = 100;

/// Requests that the app may hear of from one client that cancels all of them.
const STARTED: usize = STREAMS + 60;

/// What a connection may hold, in KiB.
const HELD: u64 = 2048;

/// How long a flood that is not paced may last at most.
const FLOOD: Duration = Duration::from_secs(60);

fn asking(path: &'static str) -> [(&'static str, &'static str); 4] {
    [GET[0], GET[1], (":path", path), GET[3]]
}

fn hang(stream: u32) -> Vec<u8> {
    head(stream, true, &asking("/hang"))
}

/// The n-th stream of a client.
fn stream(n: usize) -> u32 {
    u32::try_from(n * 2 + 1).unwrap()
}

fn own(proxy: &Proxy) -> u64 {
    proxy.memory_kib("RssAnon:")
}

/// Its memory, once it holds no more than a moment before.
fn calm(proxy: &Proxy) -> u64 {
    let mut last = own(proxy);
    eventually("memory to grow no longer", || {
        std::thread::park_timeout(Duration::from_millis(300));
        own(proxy) <= std::mem::replace(&mut last, own(proxy)) + 64
    });
    last
}

impl Stage {
    /// Sends `frames`, made for each of `count` numbers, in pieces of a hundred without waiting for
    /// answers: the connection must end, and others are served.
    fn floods(&self, name: &str, count: usize, begin: &[u8], frames: impl Fn(usize) -> Vec<u8>) {
        self.case(name, || {
            let before = self.hangs();
            let mut client = Frames::to(&self.proxy);
            let mut sent = client.try_send_all(begin);
            let began = Instant::now();
            for n in (0..count).step_by(100) {
                let burst: Vec<u8> = (n..count.min(n + 100)).flat_map(&frames).collect();
                sent = sent.and_then(|()| client.try_send_all(&burst));
                if sent.is_err() || began.elapsed() > FLOOD {
                    break;
                }
            }
            let (_, end) = client.rest();
            assert!(sent.is_err() || end != End::Open, "the connection goes on");
            let started = self.hangs() - before;
            println!("    {name}: {started} requests at the app");
            assert!(started <= STARTED, "{started} requests at the app");
        });
        self.case(&format!("probes after {name}"), || self.probe());
    }

    /// Sends `frames` one number at a time and sees to it that the app hears of each request, until
    /// the connection ends.
    fn paces(&self, name: &str, frames: impl Fn(u32) -> (Vec<u8>, Vec<u8>)) {
        self.case(name, || {
            let before = self.hangs();
            let mut client = Frames::to(&self.proxy);
            let mut number = 0;
            let began = Instant::now();
            let is_over = loop {
                let (request, cancel) = frames(stream(number));
                let (started, deadline) = (self.hangs(), Instant::now() + Duration::from_secs(2));
                if client.try_send_all(&request).is_err() || number == 3 * STREAMS {
                    break number < 3 * STREAMS;
                }
                while self.hangs() == started && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                // Nothing hears of it: the connection has ended, or waits.
                if self.hangs() == started || client.try_send_all(&cancel).is_err() {
                    break true;
                }
                number += 1;
            };
            let started = self.hangs() - before;
            println!("    {name}: {started} at the app in {:?}", began.elapsed());
            assert!(is_over, "the connection goes on");
            let patience = u32::try_from(began.elapsed().as_secs()).unwrap() as usize;
            assert!(started <= STARTED + 20 * patience, "{started} requests at the app");
        });
        self.case(&format!("probes after {name}"), || self.probe());
    }

    /// Requests for `/hang` that the app has heard of.
    fn hangs(&self) -> usize {
        self.origin.requests().iter().filter(|request| request.target == "/hang").count()
    }

    /// Attacks on twenty connections at once: what each of them makes a fresh proxy hold, in KiB.
    /// `attack` returns once the proxy holds whatever it will. The second wave finds the memory of
    /// the first one free: the allocator may keep it from the system, but nothing holds it.
    fn weighs(&self, name: &str, attack: impl Fn(&mut Frames)) {
        const COUNT: u64 = 20;
        self.case(name, || {
            let fresh = stage(|setup| setup);
            fresh.probe();
            let before = own(&fresh.proxy);
            let wave = || {
                let attackers: Vec<Frames> = (0..COUNT)
                    .map(|_| {
                        let mut frames = Frames::to(&fresh.proxy);
                        attack(&mut frames);
                        frames
                    })
                    .collect();
                let gained = calm(&fresh.proxy).saturating_sub(before) / COUNT;
                drop(attackers);
                eventually("the connections to end", || fresh.proxy.connections_open() == 0);
                gained
            };
            let (mut first, mut second) = (wave(), wave());
            if second > first + HELD / 4 {
                // A busy machine may have been looked at before it held all of the first.
                (first, second) = (second, wave());
            }
            let left = own(&fresh.proxy).saturating_sub(before) / COUNT;
            println!("    {name}: {first} KiB for each connection, then {second}; {left} stay");
            assert!(first.max(second) <= HELD, "{first}, then {second} KiB for each connection");
            assert!(second <= first + HELD / 4, "{first}, then {second} KiB for each connection");
            fresh.probe();
        });
    }
}

/// Waits until all that was sent has been read: the proxy answers a PING, or has gone.
fn settle(client: &mut Frames) {
    if client.try_send_all(&encode(PING, 0, 0, b"settled?")).is_err() {
        return;
    }
    while let Ok(frame) = client.try_next(Duration::from_secs(20)) {
        if frame.kind == PING && frame.flags & ACK != 0 {
            return;
        }
    }
}

fn reset(stream: u32) -> Vec<u8> {
    encode(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

fn rapid_reset(stage: &Stage) {
    stage.floods("at once", 10_000, &[], |n| [hang(stream(n)), reset(stream(n))].concat());
    stage.paces("one by one", |stream| (hang(stream), reset(stream)));
    stage.floods("a hundred, and all of them cancelled", 10_000, &[], |n| match n % 200 {
        0..100 => hang(stream(n / 200 * 100 + n % 100)),
        _ => reset(stream(n / 200 * 100 + n % 100)),
    });
    stage.floods("bodies that are given up", 10_000, &[], |n| {
        let begun = head(stream(n), false, &asking("/hang"));
        [begun, data(stream(n), false, "x"), reset(stream(n))].concat()
    });
}

/// What is said on a stream.
type Frame = fn(u32) -> Vec<u8>;

/// Each has the proxy reset the stream, which is then no longer counted among those that are open.
fn made_you_reset(stage: &Stage) {
    let forms: [(&str, Frame); 6] = [
        ("WINDOW_UPDATE of nothing", |stream| encode(WINDOW_UPDATE, 0, stream, &[0; 4])),
        ("WINDOW_UPDATE beyond measure", |stream| {
            encode(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())
        }),
        ("PRIORITY on itself", |stream| {
            encode(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())
        }),
        ("PRIORITY of four bytes", |stream| encode(PRIORITY, 0, stream, &[0; 4])),
        ("DATA behind the end", |stream| data(stream, false, "x")),
        ("HEADERS behind the end", |stream| head(stream, true, &[("x", "y")])),
    ];
    for (name, frame) in forms {
        stage.floods(name, 10_000, &[], |n| [hang(stream(n)), frame(stream(n))].concat());
        stage.paces(&format!("{name}, one by one"), |stream| (hang(stream), frame(stream)));
    }
}

fn continuation(stage: &Stage) {
    let begin = encode(HEADERS, END_STREAM, 1, &text_block(&asking("/hang")));
    let memory = own(&stage.proxy);
    for (name, count, size) in
        [("full", 4_000, 16_384), ("of a byte", 100_000, 1), ("empty", 100_000, 0)]
    {
        // A literal without a name, of a value that never ends.
        let piece = encode(CONTINUATION, 0, 1, &vec![b'a'; size]);
        stage.floods(name, count, &begin, |_| piece.clone());
        let fields = text_block(&[("x", "y")]);
        let piece = encode(CONTINUATION, 0, 1, if size > 1 { &fields } else { &[] });
        stage.floods(&format!("{name}, of fields"), count, &begin, |_| piece.clone());
    }
    stage.case("flat memory", || {
        eventually("memory to be given back", || own(&stage.proxy) <= memory + 2 * HELD);
    });
}

fn hpack_bomb(stage: &Stage) {
    let value = "x".repeat(4000);
    let bomb = |client: &mut Frames| {
        let seed = h2_frames::indexed_block(&[("a", &value)]);
        let block = [text_block(&asking("/hang")), seed, vec![0xbe; 4000]].concat();
        let _ = client.try_send_all(&encode(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    };
    stage.case("refused", || {
        let before = stage.hangs();
        let mut client = Frames::to(&stage.proxy);
        bomb(&mut client);
        let fate = client.fate(1);
        let is_refused = match fate {
            Fate::Answered(status) => status == 431,
            Fate::Reset(_) | Fate::GoneAway(_) | Fate::Cut => true,
            Fate::Open => false,
        };
        assert!(is_refused, "{fate:?}");
        assert_eq!(stage.hangs(), before);
    });
    stage.weighs("a bomb on each connection", |client| {
        bomb(client);
        settle(client);
    });
}

/// Many streams, many fields each, one byte a field, and no room for answers.
fn http2_bomb(stage: &Stage) {
    for (name, value) in [("a", ""), ("cookie", "")] {
        for path in ["/hang", "/big"] {
            for count in [90, 450, 960] {
                let title = format!("{count} times {name:?} at {path}");
                stage.weighs(&title, |client| bomb(client, path, (name, value), count));
            }
        }
    }
}

fn bomb(client: &mut Frames, path: &'static str, field: (&str, &str), count: usize) {
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
    let mut sent = client.try_send_all(&encode(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let (rest, seed) = (text_block(&asking(path)), h2_frames::indexed_block(&[field]));
    for n in 0..STREAMS {
        let first = if n == 0 { &seed[..] } else { &[] };
        let block = [&rest, first, &vec![0xbe; count]].concat();
        let frame = encode(HEADERS, END_STREAM | END_HEADERS, stream(n), &block);
        sent = sent.and_then(|()| client.try_send_all(&frame));
    }
    for n in 0..STREAMS {
        let room = encode(WINDOW_UPDATE, 0, stream(n), &1_u32.to_be_bytes());
        sent = sent.and_then(|()| client.try_send_all(&room));
    }
    settle(client);
}

fn unique_names(stage: &Stage) {
    for count in [101, 1000, 24_577, 40_000] {
        stage.case(&format!("{count} names"), || {
            let before = stage.hangs();
            let mut client = Frames::to(&stage.proxy);
            let mut block = text_block(&asking("/hang"));
            for n in 0..count {
                block.extend(text_block(&[(&format!("x{n}"), "")]));
            }
            let pieces = block.chunks(16_000);
            let last = pieces.len() - 1;
            for (n, piece) in pieces.enumerate() {
                let (kind, end) = if n == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
                let flags = end | if n == last { END_HEADERS } else { 0 };
                if client.try_send_all(&encode(kind, flags, 1, piece)).is_err() {
                    break;
                }
            }
            let fate = client.fate(1);
            let is_refused = matches!(
                fate,
                Fate::Answered(431) | Fate::Reset(_) | Fate::GoneAway(_) | Fate::Cut
            );
            assert!(is_refused, "{fate:?}");
            assert_eq!(stage.hangs(), before);
        });
        stage.case("probes", || stage.probe());
    }
    assert!(!stage.proxy.words().contains("panicked"), "{}", stage.proxy.words());
}

/// None of what comes back is read.
fn asking_nothing(stage: &Stage) {
    let memory = own(&stage.proxy);
    for (name, frame) in [
        ("SETTINGS", encode(SETTINGS, 0, 0, &[])),
        ("SETTINGS that change the window", encode(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9])),
        ("SETTINGS that change the table", encode(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 9])),
        ("SETTINGS that say yes", encode(SETTINGS, ACK, 0, &[])),
        ("PING", encode(PING, 0, 0, &[7; 8])),
        ("PING that says yes", encode(PING, ACK, 0, &[7; 8])),
        ("PRIORITY", encode(PRIORITY, 0, 3, &[0; 5])),
        ("unknown frames", encode(0xfa, 0, 0, &[7; 8])),
    ] {
        stage.floods(name, 100_000, &hang(1), |_| frame.clone());
    }
    stage.floods("PRIORITY of many", 100_000, &[], |n| encode(PRIORITY, 0, stream(n), &[0; 5]));
    stage.case("flat memory", || {
        eventually("memory to be given back", || own(&stage.proxy) <= memory + 2 * HELD);
    });
}

fn empty_frames(stage: &Stage) {
    let begin = head(1, false, &asking("/hang"));
    stage.floods("DATA", 100_000, &begin, |_| data(1, false, ""));
    stage.floods("DATA of padding", 100_000, &begin, |_| {
        encode(DATA, h2_frames::PADDED, 1, &[3, 0, 0, 0])
    });
    stage.floods("HEADERS", 100_000, &[], |n| encode(HEADERS, END_HEADERS, stream(n), &[]));
    stage
        .floods("HEADERS on one stream", 100_000, &begin, |_| encode(HEADERS, END_HEADERS, 1, &[]));
}

/// What the client makes no room for, in any of three ways.
fn no_room(stage: &Stage) {
    stage.weighs("a window of a byte", |client| {
        client.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
        (0..STREAMS).for_each(|n| client.send_head(stream(n), true, &asking("/big")));
        settle(client);
    });
    stage.weighs("a closed TCP window", |client| {
        // SETTINGS_INITIAL_WINDOW_SIZE and the connection's window are as large as they can be.
        client.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        client.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        (0..STREAMS).for_each(|n| client.send_head(stream(n), true, &asking("/big")));
        let first = client.next_of(DATA);
        assert!(!first.payload.is_empty());
    });
    let hasty = self::stage(|setup| setup.limits("idle_timeout = '1s'"));
    for (name, settings) in
        [("a window of nothing", [0, 4, 0, 0, 0, 0]), ("of a byte", [0, 4, 0, 0, 0, 1])]
    {
        hasty.case(name, || {
            let mut client = Frames::to(&hasty.proxy);
            client.send(SETTINGS, 0, 0, &settings);
            client.send_head(1, true, &asking("/big"));
            let fate = client.fate(1);
            assert!(matches!(fate, Fate::Reset(_)), "{fate:?}");
        });
    }
    hasty.case("a closed TCP window", || {
        let mut client = Frames::to(&hasty.proxy);
        client.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        client.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        client.send_head(1, true, &asking("/big"));
        hasty.proxy.access_line(|line| line.contains("GET /big ") && line.contains(" 499 "));
    });
    stage.case("deadlines", || hasty.complaints());
}

/// What the app said on a tunnel was read ahead of the client, 112 KiB of it on each of a hundred
/// tunnels, and belonged to no account.
fn unread_tunnels(stage: &Stage) {
    let tunnels: Vec<u8> =
        (0..STREAMS).flat_map(|n| h2_frames::websocket(stream(n), "/ws")).collect();
    for (name, window) in
        [("a window of nothing", [0, 0, 0, 0]), ("a window of a byte", [0, 0, 0, 1])]
    {
        stage.weighs(&format!("tunnels with {name}"), |client| {
            client.send(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat());
            client.try_send_all(&tunnels).unwrap();
            for _ in 0..STREAMS {
                assert_eq!(client.next_of(HEADERS).status(), Some(200));
            }
            settle(client);
        });
    }
    stage.weighs("tunnels and a closed TCP window", |client| {
        client.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        client.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        client.try_send_all(&tunnels).unwrap();
        let first = client.next_of(DATA);
        assert!(!first.payload.is_empty());
    });
}

fn empty_names(stage: &Stage) {
    let block = [text_block(&asking("/hang")), text_block(&vec![("", "x"); 90])].concat();
    let memory = own(&stage.proxy);
    stage.floods("with a value", 10_000, &[], |n| {
        encode(HEADERS, END_STREAM | END_HEADERS, stream(n), &block)
    });
    let block =
        [text_block(&asking("/hang")), h2_frames::indexed_block(&vec![("", ""); 90])].concat();
    stage.floods("without", 10_000, &[], |n| {
        encode(HEADERS, END_STREAM | END_HEADERS, stream(n), &block)
    });
    stage.case("flat memory", || {
        eventually("memory to be given back", || own(&stage.proxy) <= memory + 2 * HELD);
    });
}

/// The codes of these errors are in `http2_conformance`.
fn games(stage: &Stage) {
    stage.floods("refused streams", 10_000, &[], |n| hang(stream(n)));
    stage.floods("padding beyond the frame", 10_000, &[], |n| {
        encode(HEADERS, END_HEADERS | h2_frames::PADDED, stream(n), &[255, 0])
    });
    stage.floods("an oversize frame", 1, &[], |_| encode(DATA, 0, 1, &[0; 16_385]));
    stage.floods("even ids", 100, &[], |n| hang(stream(n) + 1));
    stage.floods("ids that go down", 100, &hang(201), |n| hang(201 - stream(n)));
    stage.floods("the largest id, and more", 100, &hang(0x7fff_ffff), |_| hang(1));
    stage.case("GOAWAY, and what was asked before", || {
        let mut client = Frames::to(&stage.proxy);
        client.send_head(1, true, &asking("/p"));
        client.send(GOAWAY, 0, 0, &[0; 8]);
        assert_eq!(client.fate(1), Fate::Answered(200));
        client.expect_end();
    });
    stage.floods("GOAWAY without end", 100_000, &hang(1), |_| encode(GOAWAY, 0, 0, &[0; 8]));
    eventually_within(Duration::from_secs(60), "the app to be left alone", || {
        stage.proxy.words().matches("panicked").count() == 0
    });
}
