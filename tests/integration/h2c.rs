//! Apps that speak HTTP/2: their clients do not get into each other's way, and what breaks a rule
//! is refused as over HTTP/1.1.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::h2_frames::{
    ACK, DATA, END_STREAM, Fate, Frames, GET, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, data,
    encode, head,
};
use crate::harness::script::Scene;
use crate::harness::wire::End;
use crate::harness::{Body, Origin, PATIENCE, Proxy, Request, Response, Script};

/// SETTINGS_INITIAL_WINDOW_SIZE of 0 (RFC 9113 §6.5.2).
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// SETTINGS_MAX_CONCURRENT_STREAMS of 0.
const NO_STREAMS: [u8; 6] = [0, 3, 0, 0, 0, 0];

const OK: (&str, &str) = (":status", "200");

/// What an app says to the request on this stream.
type Act = Box<dyn Fn(u32) -> Vec<u8> + Send>;

/// An app that answers each request as the last act says.
struct App {
    act: Arc<Mutex<Act>>,
    proxy: Proxy,
    _script: Script,
}

impl App {
    fn start() -> Self {
        let act: Arc<Mutex<Act>> = Arc::new(Mutex::new(Box::new(whole)));
        let playing = Arc::clone(&act);
        let script = Script::play(move |scene| {
            serve(scene, &|_, stream| playing.lock().unwrap()(stream));
        });
        let target = format!("h2c://{script}");
        let proxy = Proxy::plain_to(&target).server("workers = 1").start();
        Self { act, proxy, _script: script }
    }

    fn plays(&self, act: impl Fn(u32) -> Vec<u8> + Send + 'static) {
        *self.act.lock().unwrap() = Box::new(act);
    }

    /// What an HTTP/1.1 client gets, up to the end of the connection.
    fn http1(&self, method: &str) -> (String, End) {
        let mut wire = self.proxy.wire();
        wire.send(format!("{method} / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"));
        let (said, end) = wire.rest();
        (String::from_utf8(said).unwrap(), end)
    }

    fn http2(&self) -> Fate {
        let mut frames = Frames::to(&self.proxy);
        frames.send_head(1, true, &GET);
        frames.fate(1)
    }
}

/// Speaks HTTP/2 just well enough.
fn serve(scene: &mut Scene, answer: &dyn Fn(usize, u32) -> Vec<u8>) {
    let number = scene.number;
    let wire = &mut scene.wire;
    let preface = wire.try_read_exactly(24, PATIENCE);
    if preface.is_err() || wire.try_send(encode(SETTINGS, 0, 0, &[])).is_err() {
        return;
    }
    while let Ok(head) = wire.try_read_exactly(9, PATIENCE) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let is_read = wire.try_read_exactly(length, PATIENCE).is_ok();
        if !is_read || head[3] == HEADERS && wire.try_send(answer(number, stream)).is_err() {
            return;
        }
    }
}

fn whole(stream: u32) -> Vec<u8> {
    [head(stream, false, &[OK]), data(stream, true, "hello")].concat()
}

fn reset(stream: u32) -> Vec<u8> {
    encode(RST_STREAM, 0, stream, &[0; 4])
}

/// RFC 9113 §8.1: a server may reset with NO_ERROR after a complete answer, and only then.
#[test]
fn an_answer_reset_with_no_error_is_cut_unless_it_was_whole() {
    let app = App::start();
    let cut: [fn(u32) -> Vec<u8>; 3] = [
        |s| [head(s, false, &[OK]), data(s, false, "hello"), reset(s)].concat(),
        |s| [head(s, false, &[OK]), reset(s)].concat(),
        |s| {
            let head = head(s, false, &[OK, ("content-length", "50")]);
            [head, data(s, false, "hello"), reset(s)].concat()
        },
    ];
    for (number, act) in cut.into_iter().enumerate() {
        app.plays(act);
        let (said, end) = app.http1("GET");
        let is_whole = said.contains("\r\n0\r\n\r\n") || said.contains("content-length: 0");
        let is_cut = said.is_empty() || said.starts_with("HTTP/1.1 502") || !is_whole;
        assert!(is_cut && (end != End::Open), "{number}: {said:?}, {end:?}");
        let fate = app.http2();
        assert!(!matches!(fate, Fate::Answered(200) | Fate::Open), "{number}: {fate:?}");
    }
    app.plays(|s| [whole(s), reset(s)].concat());
    assert!(app.http1("GET").0.contains("hello"));
    assert_eq!(app.http2(), Fate::Answered(200));
}

#[test]
fn an_answer_that_is_not_as_long_as_it_says_is_never_ended_cleanly() {
    let app = App::start();
    for (length, sent) in [("50", "hello"), ("3", "hello"), ("1", "")] {
        app.plays(move |s| {
            [head(s, false, &[OK, ("content-length", length)]), data(s, true, sent)].concat()
        });
        let (said, _) = app.http1("GET");
        let body = said.split("\r\n\r\n").nth(1).unwrap_or_default();
        let is_refused = said.is_empty() || said.starts_with("HTTP/1.1 502");
        assert!(is_refused || body.len().to_string() != length, "{said:?}");
        let fate = app.http2();
        assert!(!matches!(fate, Fate::Answered(200) | Fate::Open), "{length}: {fate:?}");
    }
}

#[test]
fn heads_are_held_to_the_rules_of_http_1() {
    let app = App::start();
    let interim = |s: u32, count| head(s, false, &[(":status", "103")]).repeat(count);
    let fields = |count: usize| -> Vec<(String, String)> {
        let others = (0..count).map(|n| (format!("x-{n}"), "y".to_owned()));
        std::iter::once((":status".to_owned(), "200".to_owned())).chain(others).collect()
    };
    let with =
        |s: u32, fields: &[(&str, &str)]| [head(s, false, fields), data(s, true, "")].concat();
    let many = move |s: u32, count: usize| {
        let fields = fields(count);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        [head(s, false, &fields), data(s, true, "hello")].concat()
    };
    let many_too = many;
    let acts: [(u16, Act); 8] = [
        (200, Box::new(move |s| [interim(s, 16), whole(s)].concat())),
        (502, Box::new(move |s| [interim(s, 17), whole(s)].concat())),
        (502, Box::new(move |s| [interim(s, 2000), whole(s)].concat())),
        (200, Box::new(move |s| many(s, 128))),
        (502, Box::new(move |s| many_too(s, 129))),
        (502, Box::new(move |s| with(s, &[(":status", "600")]))),
        (502, Box::new(move |s| with(s, &[(":status", "999")]))),
        (502, Box::new(move |s| with(s, &[OK, ("content-length", "0"), ("content-length", "1")]))),
    ];
    for (number, (status, act)) in acts.into_iter().enumerate() {
        *app.act.lock().unwrap() = act;
        assert_eq!(app.http2(), Fate::Answered(status), "act {number}");
    }
}

#[test]
fn no_body_passes_where_none_may_be() {
    let app = App::start();
    for status in ["204", "304"] {
        app.plays(move |s| {
            [head(s, false, &[(":status", status)]), data(s, true, "hello")].concat()
        });
        let (said, end) = app.http1("GET");
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        assert!(said.ends_with("\r\n\r\n") && end == End::Closed, "{said:?}, {end:?}");
        let mut frames = Frames::to(&app.proxy);
        frames.send_head(1, true, &GET);
        let answer = frames.next_matching(|frame| frame.stream == 1);
        assert_eq!((answer.kind, answer.flags & END_STREAM), (HEADERS, END_STREAM), "{status}");
    }
    app.plays(|s| [head(s, false, &[OK]), data(s, true, "hello")].concat());
    let (said, _) = app.http1("HEAD");
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("\r\n\r\n"), "{said:?}");
}

/// Ten requests of a client that makes room for one byte of each answer.
fn ask_in_a_row(proxy: &Proxy) -> Frames {
    let mut frames = Frames::to(proxy);
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
    (0..10).for_each(|n| frames.send_head(2 * n + 1, true, &GET));
    frames
}

fn make_room(frames: &mut Frames) {
    for stream in std::iter::once(0).chain((0..10).map(|n| 2 * n + 1)) {
        frames.send(WINDOW_UPDATE, 0, stream, &0x0100_0000_u32.to_be_bytes());
    }
}

/// The app may say no more before the client has taken what fills the window.
#[test]
fn an_answer_that_waits_for_its_reader_is_not_the_applications_silence() {
    let origin = Origin::start_h2c();
    origin.route("/", vec![b'x'; 64 * 1024]);
    let proxy = Proxy::plain_to(&origin).limits("upstream_timeout = '2s'").start();
    let mut frames = ask_in_a_row(&proxy);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(4500) {
        if let Ok(frame) = frames.try_next(Duration::from_millis(100)) {
            assert_ne!(frame.kind, RST_STREAM, "stream {}", frame.stream);
        }
    }
    make_room(&mut frames);
    let mut whole = 0;
    while whole < 10 {
        let frame = frames.next_matching(|frame| matches!(frame.kind, DATA | RST_STREAM));
        assert_eq!(frame.kind, DATA, "stream {}", frame.stream);
        whole += u32::from(frame.flags & END_STREAM);
    }
}

/// Nothing tells that the client has taken what filled the window; it is seen in time.
#[test]
fn an_answer_that_fills_its_window_and_stops_is_cut_off() {
    let script = Script::play(|scene| {
        serve(scene, &|_, s| {
            // Windows are as large as they were told once that is acknowledged.
            let ack = if s == 1 { encode(SETTINGS, ACK, 0, &[]) } else { Vec::new() };
            [ack, head(s, false, &[OK]), data(s, false, [b'x'; 3840])].concat()
        });
    });
    let target = format!("h2c://{script}");
    let proxy = Proxy::plain_to(&target).limits("upstream_timeout = '1s'").start();
    let mut frames = ask_in_a_row(&proxy);
    let (start, mut reset) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(2500) {
        let frame = frames.try_next(Duration::from_millis(100));
        reset += u32::from(frame.is_ok_and(|frame| frame.kind == RST_STREAM));
    }
    assert!(reset < 10, "it was the client who was behind");
    make_room(&mut frames);
    while reset < 10 {
        frames.next_of(RST_STREAM);
        reset += 1;
    }
}

/// Each request on a connection that takes no more of them waited for `upstream_timeout`.
#[test]
fn a_connection_that_takes_no_more_streams_is_not_waited_for() {
    let script = Script::play(|scene| {
        serve(scene, &|number, stream| match (number, stream) {
            (0, 1) => [encode(SETTINGS, 0, 0, &NO_STREAMS), whole(stream)].concat(),
            (0, _) => Vec::new(),
            _ => whole(stream),
        });
    });
    let target = format!("h2c://{script}");
    let proxy = Proxy::plain_to(&target).server("workers = 1").start();
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(proxy.plain_client().get("/").text(), "hello");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Their unread answers used up the window of the connection that all clients shared.
#[test]
fn stalled_readers_do_not_stop_the_other_clients() {
    let origin = Origin::start_h2c();
    origin.route("/", vec![b'x'; 1 << 20]);
    origin.route("/small", "ok");
    let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
    let stalled: Vec<Frames> = (0..2).map(|_| stall(&proxy)).collect();
    for _ in 0..4 {
        let began = Instant::now();
        assert_eq!(proxy.plain_client().get("/small").text(), "ok");
        let mut connection = proxy.client().http2().connect();
        let small = Request::get("/small").body(Body::empty()).unwrap();
        assert_eq!(connection.send(small).text(), "ok");
        let large = Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(connection.send(large).text().len(), 1 << 20);
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
    drop(stalled);
}

/// A hundred requests of a client that makes no room for the answers, of which the heads are here.
fn stall(proxy: &Proxy) -> Frames {
    let mut frames = Frames::to(proxy);
    frames.send(SETTINGS, 0, 0, &NO_WINDOW);
    for n in 0..100 {
        frames.send_head(n * 2 + 1, true, &GET);
    }
    for _ in 0..100 {
        frames.next_of(HEADERS);
    }
    frames
}

/// The window of a stream opens again as the client takes what has come.
#[test]
fn a_download_larger_than_every_window_arrives_whole() {
    let origin = Origin::start_h2c();
    let large: Vec<u8> = (0..8_000_003_u32).map(|n| (n % 251) as u8).collect();
    let expected = large.clone();
    origin.handle("/", move |_| {
        let body = Body::from(large.clone());
        async { Response::new(body) }
    });
    let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
    assert!(proxy.plain_client().get("/").body == expected);
    let mut frames = stall_but_one(&proxy);
    let mut received = 0;
    while received < expected.len() {
        let frame = frames.next_of(DATA);
        assert!(frame.payload[..] == expected[received..received + frame.payload.len()]);
        received += frame.payload.len();
    }
}

/// The last of a hundred streams, whose window is the smallest, gets all the room.
fn stall_but_one(proxy: &Proxy) -> Frames {
    let mut frames = stall(proxy);
    let most = (1_u32 << 30).to_be_bytes();
    frames.send(WINDOW_UPDATE, 0, 0, &most);
    frames.send(WINDOW_UPDATE, 0, 199, &most);
    frames
}
