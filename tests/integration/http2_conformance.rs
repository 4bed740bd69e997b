//! Breaches of RFC 9113 and RFC 7541 in frames, and the errors that they must get; and how HTTP/2
//! connections end on which nothing happens.

use std::time::Duration;

use crate::harness::h2_frames::{
    ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM,
    FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, Fate, Frames, GET, GOAWAY, HEADERS, PADDED, PING,
    PRIORITISED, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS,
    STREAM_CLOSED, WINDOW_UPDATE, data, encode, field_block, head,
};
use crate::harness::wire::End;
use crate::harness::{Origin, Proxy, Script, eventually};

/// Which codes are right; some breaches may get one of several.
type Case = (&'static str, Vec<u8>, Wanted);

enum Wanted {
    /// The connection ends with one of these.
    GoAway(&'static [u32]),
    /// The stream, or the connection.
    Reset(&'static [u32]),
    /// Nothing: it is answered.
    Fine,
}

use Wanted::{Fine, GoAway, Reset};

/// The HTTP library says PROTOCOL_ERROR of many a frame for which there is a better word.
const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const CLOSED: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];
const WRONG: &[u32] = &[COMPRESSION_ERROR, PROTOCOL_ERROR];

/// Plays each case on a connection of its own.
#[track_caller]
fn play(cases: impl IntoIterator<Item = Case>) {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    let mut failed = Vec::new();
    for (name, bytes, wanted) in cases {
        let mut frames = Frames::to(&proxy);
        let _ = frames.try_send_all(&bytes);
        let fate = frames.fate(1);
        let is_right = match (&wanted, fate) {
            (GoAway(codes), Fate::GoneAway(code)) => codes.contains(&code),
            (Reset(codes), Fate::Reset(code) | Fate::GoneAway(code)) => codes.contains(&code),
            (Fine, fate) => fate == Fate::Answered(200),
            _ => false,
        };
        if !is_right {
            failed.push(format!("{name}: {fate:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(proxy.client().http2().get("/").text(), "ok", "others are served");
}

fn get(stream: u32) -> Vec<u8> {
    head(stream, true, &GET)
}

fn post(stream: u32) -> Vec<u8> {
    head(stream, false, &GET)
}

/// HEADERS of stream 1 with this block.
fn block(bytes: &[u8]) -> Vec<u8> {
    encode(HEADERS, END_HEADERS | END_STREAM, 1, bytes)
}

fn setting(id: u8, value: u32) -> Vec<u8> {
    encode(SETTINGS, 0, 0, &[&[0, id][..], &value.to_be_bytes()].concat())
}

/// RFC 9113 §4.2, §6.
#[test]
fn frames_have_their_sizes() {
    play([
        ("DATA beyond the limit", [post(1), data(1, true, vec![0; 16_385])].concat(), GoAway(SIZE)),
        ("DATA at the limit", [post(1), data(1, true, vec![0; 16_384])].concat(), Fine),
        ("HEADERS beyond the limit", block(&[0; 16_385]), GoAway(SIZE)),
        ("PRIORITY of 4", [post(1), encode(PRIORITY, 0, 1, &[0; 4])].concat(), Reset(SIZE)),
        ("RST_STREAM of 3", [post(1), encode(RST_STREAM, 0, 1, &[0; 3])].concat(), GoAway(SIZE)),
        ("SETTINGS of 5", encode(SETTINGS, 0, 0, &[0; 5]), GoAway(SIZE)),
        ("SETTINGS acknowledged with more", encode(SETTINGS, ACK, 0, &[0; 6]), GoAway(SIZE)),
        ("PING of 7", encode(PING, 0, 0, &[0; 7]), GoAway(SIZE)),
        ("PING of 9", encode(PING, 0, 0, &[0; 9]), GoAway(SIZE)),
        ("WINDOW_UPDATE of 3", encode(WINDOW_UPDATE, 0, 0, &[0; 3]), GoAway(SIZE)),
        ("WINDOW_UPDATE of 5", encode(WINDOW_UPDATE, 0, 0, &[0; 5]), GoAway(SIZE)),
        (
            "padding as long as the frame",
            [post(1), encode(DATA, PADDED, 1, &[1])].concat(),
            GoAway(PROTOCOL),
        ),
        ("a head of padding", encode(HEADERS, PADDED | END_HEADERS, 1, &[9, 0]), GoAway(PROTOCOL)),
    ]);
}

/// RFC 9113 §5.1, §6.
#[test]
fn frames_belong_to_streams_and_streams_have_states() {
    let reset = encode(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    let room = 1_u32.to_be_bytes();
    play([
        ("DATA on no stream", data(0, false, "x"), GoAway(PROTOCOL)),
        ("HEADERS on no stream", get(0), GoAway(PROTOCOL)),
        ("PRIORITY on no stream", encode(PRIORITY, 0, 0, &[0; 5]), GoAway(PROTOCOL)),
        ("RST_STREAM on no stream", encode(RST_STREAM, 0, 0, &[0; 4]), GoAway(PROTOCOL)),
        ("SETTINGS on a stream", encode(SETTINGS, 0, 1, &[]), GoAway(PROTOCOL)),
        ("PING on a stream", encode(PING, 0, 1, &[0; 8]), GoAway(PROTOCOL)),
        ("GOAWAY on a stream", encode(GOAWAY, 0, 1, &[0; 8]), GoAway(PROTOCOL)),
        ("PUSH_PROMISE", encode(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), GoAway(PROTOCOL)),
        ("DATA before HEADERS", data(1, true, "x"), GoAway(PROTOCOL)),
        ("RST_STREAM before HEADERS", reset.clone(), GoAway(PROTOCOL)),
        ("WINDOW_UPDATE before HEADERS", encode(WINDOW_UPDATE, 0, 1, &room), GoAway(PROTOCOL)),
        ("an even id", get(2), GoAway(PROTOCOL)),
        (
            "an id that goes down",
            [get(5), get(3)].concat(),
            GoAway(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        ("DATA behind the end", [get(1), data(1, true, "x")].concat(), Reset(CLOSED)),
        ("HEADERS behind the end", [get(1), get(1)].concat(), Reset(CLOSED)),
        ("trailers without an end", [post(1), post(1)].concat(), Reset(PROTOCOL)),
        (
            "DATA behind a reset",
            [post(1), reset, data(1, true, "x"), get(1)].concat(),
            Reset(CLOSED),
        ),
        (
            "PRIORITY before HEADERS",
            [encode(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]), get(1)].concat(),
            Fine,
        ),
        ("a HEADERS frame that depends on itself", self_dependent(), Reset(PROTOCOL)),
        ("an unknown frame", [encode(0xfa, 0xff, 1, b"?"), get(1)].concat(), Fine),
    ]);
}

fn self_dependent() -> Vec<u8> {
    let payload = [&[0, 0, 0, 1, 9][..], &field_block(&GET)].concat();
    encode(HEADERS, END_HEADERS | END_STREAM | PRIORITISED, 1, &payload)
}

/// RFC 9113 §6.10.
#[test]
fn a_head_is_not_interrupted() {
    let fields = field_block(&GET);
    let open = encode(HEADERS, END_STREAM, 1, &fields);
    let more = |stream| encode(CONTINUATION, END_HEADERS, stream, &field_block(&[("x", "y")]));
    play([
        ("continued", [open.clone(), more(1)].concat(), Fine),
        ("by DATA", [open.clone(), data(1, true, "x")].concat(), GoAway(PROTOCOL)),
        ("by HEADERS", [open.clone(), get(3)].concat(), GoAway(PROTOCOL)),
        ("by PING", [open.clone(), encode(PING, 0, 0, &[0; 8])].concat(), GoAway(PROTOCOL)),
        (
            "by an unknown frame",
            [open.clone(), encode(0xfa, 0, 0, b"?")].concat(),
            GoAway(PROTOCOL),
        ),
        ("on another stream", [open.clone(), more(3)].concat(), GoAway(PROTOCOL)),
        ("CONTINUATION of nothing", more(1), GoAway(PROTOCOL)),
        ("CONTINUATION behind the end", [get(1), more(1)].concat(), GoAway(PROTOCOL)),
    ]);
}

/// RFC 9113 §6.5.2, §6.9.
#[test]
fn windows_and_settings_have_their_limits() {
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let larger = [setting(4, 0x7fff_ffff), encode(WINDOW_UPDATE, 0, 1, &most)];
    play([
        ("a window of 2^31", setting(4, 0x8000_0000), GoAway(FLOW)),
        ("frames too small", setting(5, 16_383), GoAway(PROTOCOL)),
        ("frames too large", setting(5, 16_777_216), GoAway(PROTOCOL)),
        ("ENABLE_PUSH of 2", setting(2, 2), GoAway(PROTOCOL)),
        ("an unknown setting", [setting(0xfe, 7), get(1)].concat(), Fine),
        ("room of nothing", encode(WINDOW_UPDATE, 0, 0, &[0; 4]), GoAway(PROTOCOL)),
        ("room beyond measure", encode(WINDOW_UPDATE, 0, 0, &most), GoAway(FLOW)),
        (
            "of a stream: nothing",
            [post(1), encode(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Reset(PROTOCOL),
        ),
        (
            "of a stream: beyond measure",
            [post(1), encode(WINDOW_UPDATE, 0, 1, &most)].concat(),
            Reset(FLOW),
        ),
        ("of a stream: together", [post(1), larger.concat()].concat(), Reset(FLOW)),
    ]);
}

/// RFC 7541.
#[test]
fn compression_has_one_reading() {
    let with = |bytes: &[u8]| block(&[&field_block(&GET), bytes].concat());
    play([
        ("index 0", with(&[0x80]), GoAway(WRONG)),
        ("an index of nothing", with(&[0xff, 0x7f]), GoAway(WRONG)),
        ("a name of nothing", with(&[0x0f, 0x7f, 1, b'a']), GoAway(WRONG)),
        (
            "a table larger than allowed",
            block(&[&[0x3f, 0xe2, 0x1f], &field_block(&GET)[..]].concat()),
            GoAway(WRONG),
        ),
        ("a new size behind fields", with(&[0x20]), GoAway(WRONG)),
        ("a string that is cut", with(&[0, 1, b'x', 9, b'y']), GoAway(WRONG)),
        ("padding by zeros", with(&[0, 1, b'x', 0x81, 0x18]), GoAway(WRONG)),
        ("padding of a byte", with(&[0, 1, b'x', 0x82, 0x1f, 0xff]), GoAway(WRONG)),
        (
            "the end of a string in it",
            with(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
            GoAway(WRONG),
        ),
        (
            "a number without end",
            with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            GoAway(WRONG),
        ),
    ]);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_connection_goes_on() {
    let origin = Origin::start();
    origin.handle("/", |_| std::future::pending());
    let proxy = Proxy::to(&origin).start();
    let mut frames = Frames::to(&proxy);
    frames.next_of(SETTINGS);
    frames.send(SETTINGS, ACK, 0, &[]);
    let many: Vec<u8> = (0..=100).flat_map(|n| get(n * 2 + 1)).collect();
    frames.try_send_all(&many).unwrap();
    assert_eq!(frames.fate(201), Fate::Reset(REFUSED_STREAM));
    frames.send(PING, 0, 0, &[7; 8]);
    frames.next_matching(|frame| frame.kind == PING && frame.flags == ACK);
}

/// Neither those that never speak nor those that answer nothing, not even our farewell.
#[test]
fn who_says_nothing_is_left() {
    let origin = Origin::start();
    origin.route("/", "ok");
    let limits = |setup: crate::harness::Setup| {
        setup.limits("idle_timeout = '1s'").limits("request_header_timeout = '1s'")
    };
    let proxy = limits(Proxy::to(&origin)).start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for begun in [&b""[..], &preface[..9], &preface[..], &[&preface[..], &[0, 0, 0, 4]].concat()] {
        let mut frames = Frames::silent_to(&proxy);
        frames.try_send_all(begun).unwrap();
        assert_ne!(frames.rest().1, End::Open, "{}", begun.escape_ascii());
    }
    let mut idle = Frames::to(&proxy);
    idle.send_head(1, true, &GET);
    assert_ne!(idle.rest().1, End::Open, "an idle client that acknowledges nothing");
    let mut pinging = Frames::to(&proxy);
    let ended = (0..200).any(|_| {
        let sent = pinging.try_send_all(&encode(PING, 0, 0, &[7; 8]));
        // What comes is read until there is silence for a moment.
        let silence = std::iter::repeat_with(|| pinging.try_next(Duration::from_millis(100)))
            .find_map(Result::err);
        sent.is_err() || silence != Some(End::Open)
    });
    assert!(ended, "a client that only sends PING");
}

/// An application that speaks HTTP/1 learns of it by the end of its connection.
#[test]
fn a_cancelled_stream_ends_the_connection_to_the_app() {
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tells = ended.clone();
    let origin = Script::play(move |scene| {
        scene.hear_head();
        if scene.wire.rest().1 != End::Open {
            tells.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let proxy = Proxy::to(&origin).start();
    let mut frames = Frames::to(&proxy);
    frames.send_head(1, true, &GET);
    eventually("the request at the app", || origin.heard().len() == 1);
    frames.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    eventually("the app's connection to end", || ended.load(std::sync::atomic::Ordering::SeqCst));
}

/// What waits for an application that is away is not sent when nobody wants it any more.
#[test]
fn a_stream_that_is_cancelled_while_it_is_held_never_reaches_the_app() {
    let mut origin = Origin::down();
    origin.route("*", "ok");
    let proxy = Proxy::to(&origin).start();
    let mut frames = Frames::to(&proxy);
    frames.send_head(1, true, &[GET[0], GET[1], (":path", "/cancelled"), GET[3]]);
    frames.send(PING, 0, 0, &[7; 8]);
    frames.next_matching(|frame| frame.kind == PING && frame.flags == ACK);
    frames.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    proxy.access_line(|line| line.contains("/cancelled") && line.contains(" 499 "));
    origin.restart();
    frames.send_head(3, true, &[GET[0], GET[1], (":path", "/wanted"), GET[3]]);
    assert_eq!(frames.fate(3), Fate::Answered(200));
    let targets: Vec<String> = origin.requests().into_iter().map(|one| one.target).collect();
    assert_eq!(targets, ["/wanted"]);
}
