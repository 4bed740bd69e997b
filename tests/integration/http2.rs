//! HTTP/2 from clients: many streams, rules of RFC 9113, and frames that no library sends.

use crate::harness::h2_frames::{
    self, ACK, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS,
};
use crate::harness::wire::End;
use crate::harness::{
    Answer, Body, Origin, Proxy, Request, Response, Wire, eventually, pki, runtime, wait,
};

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "app.test")];

fn proxied() -> (Origin, Proxy) {
    let origin = Origin::start();
    origin.route("*", "ok");
    let proxy = Proxy::to(&origin).start();
    (origin, proxy)
}

fn frames(proxy: &Proxy) -> Frames {
    let settings = pki::trusting(&["h2"]);
    Frames::over(Wire::try_tls(proxy.https(), settings, "app.test").unwrap())
}

/// What became of stream 1: its status, or the error code of a reset or of the connection's end.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answered(Vec<u8>),
    Refused,
}

#[track_caller]
fn outcome(frames: &mut Frames) -> Outcome {
    let frame = frames.next_matching(|frame| {
        frame.kind == GOAWAY || frame.stream == 1 && [HEADERS, RST_STREAM].contains(&frame.kind)
    });
    match frame.kind {
        HEADERS => Outcome::Answered(frame.payload),
        _ => Outcome::Refused,
    }
}

/// `:status` 200 is index 8 of the static table, 400 is 12 (RFC 7541 appendix A).
fn status_of(outcome: &Outcome) -> Option<u8> {
    match outcome {
        Outcome::Answered(block) => block.iter().copied().find(|byte| byte & 0x80 != 0),
        Outcome::Refused => None,
    }
}

#[track_caller]
fn assert_refused(fields: &[(&str, &str)]) {
    let (origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    frames.send_head(1, true, fields);
    let outcome = outcome(&mut frames);
    let good = status_of(&outcome) == Some(0x88);
    assert!(!good, "{fields:?} was answered with 200");
    assert!(origin.requests().is_empty(), "{fields:?} reached the app: {}", origin.heard_text());
}

#[test]
fn both_versions_are_offered_and_chosen() {
    let (_origin, proxy) = proxied();
    assert_eq!(proxy.client().get("/").version, http::Version::HTTP_11);
    assert_eq!(proxy.client().http2().get("/").version, http::Version::HTTP_2);
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&["h2", "http/1.1"]), "app.test");
    assert_eq!(wire.unwrap().session().alpn_protocol(), Some(&b"h2"[..]), "h2 is preferred");
}

#[test]
fn a_hundred_streams_at_once() {
    let origin = Origin::start();
    origin.handle("*", |request| async move {
        Response::new(Body::from(request.uri().path().to_owned()))
    });
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().http2().connect();
    let all: Vec<_> = (0..100)
        .map(|n| connection.begin(Request::get(format!("/{n}")).body(()).unwrap()))
        .collect();
    for (n, pending) in all.into_iter().enumerate() {
        assert_eq!(pending.answer().text(), format!("/{n}"));
    }
}

#[test]
fn a_stream_that_waits_holds_up_no_other() {
    let origin = Origin::start();
    origin.route("/quick", "quick");
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    origin.handle("/slow", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().http2().connect();
    let slow = connection.start(Request::get("/slow").body(()).unwrap());
    for _ in 0..10 {
        assert_eq!(connection.get("/quick").text(), "quick");
    }
    feed.give("at last");
    drop(feed);
    assert_eq!(slow.answer().text(), "at last");
}

#[test]
fn large_bodies_share_a_connection() {
    let origin = Origin::start();
    origin.handle("*", |_| async { Response::new(Body::of_size(4 * 1024 * 1024)) });
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().http2().connect();
    let all: Vec<_> =
        (0..8).map(|_| connection.begin(Request::get("/").body(()).unwrap())).collect();
    let sums: Vec<_> = all.into_iter().map(|pending| pending.head()).collect();
    let sums: Vec<_> =
        sums.into_iter().map(|streaming| std::thread::spawn(move || streaming.measure())).collect();
    for sum in sums {
        let body = sum.join().unwrap();
        assert!(body.complete && body.intact && body.size == 4 * 1024 * 1024, "{body:?}");
    }
}

#[test]
fn a_stream_that_is_cancelled_cancels_the_request_at_the_app() {
    let origin = Origin::start();
    let (body, feed) = Body::fed();
    let body = std::sync::Mutex::new(Some(body));
    origin.handle("/", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(body) }
    });
    origin.route("/next", "next");
    let proxy = Proxy::to(&origin).start();
    let mut connection = proxy.client().http2().connect();
    let streaming = connection.start(Request::get("/").body(()).unwrap());
    assert!(feed.give("started"));
    drop(streaming);
    crate::harness::eventually("the app's body to be abandoned", || {
        !feed.give("more") || feed.is_abandoned()
    });
    assert_eq!(connection.get("/next").text(), "next");
}

#[test]
fn settings_bound_streams_and_headers() {
    let (_origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    let settings = frames.next_of(SETTINGS).payload;
    let value = |id: u16| {
        settings
            .chunks_exact(6)
            .find(|entry| entry[..2] == id.to_be_bytes())
            .map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
    };
    let streams = value(3).expect("SETTINGS_MAX_CONCURRENT_STREAMS");
    assert!((64..=128).contains(&streams), "{streams} streams");
    let list = value(6).expect("SETTINGS_MAX_HEADER_LIST_SIZE");
    assert!((8 * 1024..=32 * 1024).contains(&list), "a header list of {list} bytes");
    assert!(value(4).is_none_or(|window| window <= 1024 * 1024), "{:?}", value(4));
    assert_eq!(value(8), Some(1), "SETTINGS_ENABLE_CONNECT_PROTOCOL, for WebSockets");
}

#[test]
fn a_plain_request_frame_by_frame() {
    let (origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    frames.send_head(1, true, &GET);
    let outcome = outcome(&mut frames);
    assert_eq!(status_of(&outcome), Some(0x88), "{outcome:?}");
    assert_eq!(origin.requests().len(), 1);
    frames.send(PING, 0, 0, b"12345678");
    let pong: Frame = frames.next_matching(|frame| frame.kind == PING && frame.flags == 1);
    assert_eq!(pong.payload, b"12345678");
}

#[test]
fn connection_specific_fields_are_refused() {
    for field in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
        ("upgrade", "h2c"),
        ("proxy-connection", "close"),
    ] {
        let fields: Vec<_> = GET.into_iter().chain([field]).collect();
        assert_refused(&fields);
    }
}

#[test]
fn line_ends_in_fields_are_refused() {
    for field in [
        ("x", "a\r\ntransfer-encoding: chunked"),
        ("x\r\ny", "a"),
        ("x: y", "a"),
        ("Upper", "a"),
        ("", "a"),
        ("x", "a\0b"),
    ] {
        let fields: Vec<_> = GET.into_iter().chain([field]).collect();
        assert_refused(&fields);
    }
}

#[test]
fn pseudo_fields_are_held_to_their_rules() {
    let [method, scheme, path, authority] = GET;
    assert_refused(&[method, scheme, authority]);
    assert_refused(&[method, path, authority]);
    assert_refused(&[scheme, path, authority]);
    assert_refused(&[method, method, scheme, path, authority]);
    assert_refused(&[method, scheme, path, ("x", "y"), authority]);
    assert_refused(&[method, scheme, path, authority, (":status", "200")]);
    assert_refused(&[method, scheme, path, authority, (":nonsense", "1")]);
    assert_refused(&[method, scheme, (":path", ""), authority]);
    assert_refused(&[method, scheme, (":path", "evil"), authority]);
    assert_refused(&[method, scheme, (":path", "?evil"), authority]);
    assert_refused(&[method, scheme, (":path", "/a HTTP/1.1\r\nX: y"), authority]);
    assert_refused(&[(":method", "GET /adm HTTP/1.1\r\nX:"), scheme, path, authority]);
}

#[test]
fn an_authority_that_is_no_host_is_refused() {
    let [method, scheme, path, _] = GET;
    for authority in ["u:p@app.test", "app.test/x", "a b", "", "app.test\r\nx: y"] {
        assert_refused(&[method, scheme, path, (":authority", authority)]);
    }
    assert_refused(&[method, scheme, path]);
}

#[test]
fn a_host_field_that_differs_from_the_authority_is_refused() {
    let fields: Vec<_> = GET.into_iter().chain([("host", "evil.test")]).collect();
    assert_refused(&fields);
}

#[test]
fn a_length_that_disagrees_with_the_data_makes_no_whole_request() {
    for (length, data) in [("3", "hello"), ("9", "hello"), ("0", "hello")] {
        let (origin, proxy) = proxied();
        let mut frames = frames(&proxy);
        let mut fields = GET.to_vec();
        fields[0] = (":method", "POST");
        fields.push(("content-length", length));
        frames.send_head(1, false, &fields);
        frames.send(DATA, 1, 1, data.as_bytes());
        let outcome = outcome(&mut frames);
        assert_ne!(status_of(&outcome), Some(0x88), "{length} for {data:?}: {outcome:?}");
        // The app may have seen a part before the end showed that the length was a lie.
        let text = origin.heard_text();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        let is_whole = body.is_some_and(|body| body >= length.parse().unwrap());
        assert!(!is_whole, "{length}: {text}");
    }
}

/// They went on as one, even `5` beside `05`, and nothing as if it were zero.
#[test]
fn a_length_that_is_not_one_number_is_refused() {
    for (lengths, data) in [(&["5", "5"][..], "hello"), (&["5", "05"], "hello"), (&[""], "")] {
        let (origin, proxy) = proxied();
        let mut frames = frames(&proxy);
        let lengths = lengths.iter().map(|length| ("content-length", *length));
        let fields: Vec<_> = GET.into_iter().chain(lengths).collect();
        frames.send_head(1, data.is_empty(), &fields);
        if !data.is_empty() {
            frames.send(DATA, END_STREAM, 1, data.as_bytes());
        }
        let outcome = outcome(&mut frames);
        assert_ne!(status_of(&outcome), Some(0x88), "{data:?}: {outcome:?}");
        assert!(origin.requests().is_empty(), "{}", origin.heard_text());
    }
}

/// The library takes a quote for a letter of a name, and no reader of HTTP/1.1 does.
#[test]
fn a_name_with_a_quote_goes_no_further() {
    let (origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    let fields: Vec<_> = GET.into_iter().chain([("\"x\"", "a")]).collect();
    frames.send_head(1, true, &fields);
    outcome(&mut frames);
    assert!(!origin.heard_text().contains("\"x\""), "{}", origin.heard_text());
}

/// It stood in the line as it came: a tab is no part of a value, but some readers keep it.
#[test]
fn white_space_around_a_value_goes_no_further() {
    let (origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    let padded = [("x-tab", "\ta\t"), ("x-space", " b "), ("cookie", "c=d\t"), ("cookie", " e=f")];
    let fields: Vec<_> = GET.into_iter().chain(padded).collect();
    frames.send_head(1, true, &fields);
    outcome(&mut frames);
    let heard = origin.heard_text();
    for (name, _) in padded {
        let mut lines = heard.lines().filter_map(|line| line.strip_prefix(name));
        assert!(lines.all(|value| value.trim_end_matches(['\t', ' ']) == value), "{heard:?}");
        assert!(!heard.contains(&format!("{name}: \t")), "{heard:?}");
        assert!(!heard.contains(&format!("{name}:  ")), "{heard:?}");
    }
}

/// The application had all that was announced, and answered, before it was known for a lie.
#[test]
fn a_counted_body_is_whole_when_the_stream_is() {
    let bad_trailers = h2_frames::field_block(&[("te", "gzip")]);
    let surplus = (DATA, END_STREAM, &b" world"[..]);
    for (kind, flags, payload) in [surplus, (HEADERS, END_STREAM | END_HEADERS, &bad_trailers)] {
        let (origin, proxy) = proxied();
        let mut frames = frames(&proxy);
        let fields: Vec<_> = GET.into_iter().chain([("content-length", "5")]).collect();
        frames.send_head(1, false, &fields);
        frames.send(DATA, 0, 1, b"hello");
        eventually("the head at the app", || !origin.requests().is_empty());
        frames.send(kind, flags, 1, payload);
        let outcome = outcome(&mut frames);
        assert_ne!(status_of(&outcome), Some(0x88), "{outcome:?}");
        assert!(origin.heard_text().ends_with("\r\n\r\n"), "{}", origin.heard_text());
    }
}

#[test]
fn pseudo_fields_among_trailers_do_not_reach_the_app() {
    let (origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    let mut fields = GET.to_vec();
    fields[0] = (":method", "POST");
    frames.send_head(1, false, &fields);
    frames.send(DATA, 0, 1, b"hello");
    frames.send_head(1, true, &[(":path", "/evil")]);
    outcome(&mut frames);
    assert!(!origin.heard_text().contains("evil"));
}

#[test]
fn connect_without_a_protocol_does_not_reach_the_app() {
    assert_refused(&[(":method", "CONNECT"), (":authority", "127.0.0.1:22")]);
}

#[test]
fn too_many_fields_get_431_and_the_connection_goes_on() {
    let (origin, proxy) = proxied();
    let mut connection = proxy.client().http2().connect();
    let mut request = Request::get("/");
    for n in 0..101 {
        request = request.header(format!("x-{n}"), "v");
    }
    let answer: Answer = connection.send(request.body(()).unwrap());
    assert_eq!(answer.status, 431);
    assert!(origin.requests().is_empty());
    assert_eq!(connection.get("/").status, 200);
}

#[test]
fn resets_without_end_are_answered_with_goaway() {
    let (origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    let (block, mut burst) = (h2_frames::field_block(&GET), Vec::new());
    for n in 0..5000_u32 {
        let (stream, cancel) = (n * 2 + 1, 8_u32.to_be_bytes());
        burst.extend(h2_frames::encode(HEADERS, END_STREAM | END_HEADERS, stream, &block));
        burst.extend(h2_frames::encode(RST_STREAM, 0, stream, &cancel));
    }
    let _ = frames.try_send_all(&burst);
    let (_, end) = frames.rest();
    assert_ne!(end, End::Open, "the connection goes on");
    assert!(origin.requests().len() < 1000, "{} reached the app", origin.requests().len());
    assert_eq!(proxy.client().get("/").status, 200, "others are served");
}

#[test]
fn the_h2_crate_agrees_that_the_connection_is_well() {
    let (_origin, proxy) = proxied();
    let client = proxy.client().http2();
    wait("requests over one connection", async {
        let (mut sender, connection) =
            h2::client::handshake(client.open_stream().await.unwrap()).await.unwrap();
        let driver = runtime().spawn(connection);
        for _ in 0..50 {
            let request = Request::get("https://app.test/").body(()).unwrap();
            sender = sender.ready().await.unwrap();
            let (answer, _) = sender.send_request(request, true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            while let Some(data) = body.data().await {
                let size = data.unwrap().len();
                body.flow_control().release_capacity(size).unwrap();
            }
        }
        drop(sender);
        driver.await.unwrap().unwrap();
    });
}

#[test]
fn frames_that_ask_for_nothing_end_the_connection() {
    let (origin, proxy) = proxied();
    for (kind, payload) in [(SETTINGS, &[][..]), (PING, &[7; 8]), (2, &[0; 5]), (DATA, &[])] {
        let mut frames = frames(&proxy);
        frames.send_head(1, false, &GET);
        let flood = h2_frames::encode(kind, 0, u32::from(kind == DATA || kind == 2), payload);
        let sent = frames.try_send_all(&flood.repeat(20_000));
        let (_, end) = frames.rest();
        assert!(sent.is_err() || end != End::Open, "type {kind}: the connection goes on");
    }
    assert!(origin.requests().len() <= 4);
    assert_eq!(proxy.client().get("/").status, 200, "others are served");
}

/// It held its connection for `idle_timeout`, or for ever beside a request under way.
#[test]
fn a_head_that_stops_half_way_ends_the_connection() {
    let origin = Origin::start();
    origin.handle("/", |_| std::future::pending());
    let proxy = Proxy::to(&origin).limits("request_header_timeout = '1s'").start();
    let block = h2_frames::field_block(&GET);
    let whole = h2_frames::encode(HEADERS, END_STREAM | END_HEADERS, 3, &block);
    let open = h2_frames::encode(HEADERS, END_STREAM, 3, &block);
    for begun in [&open[..], &whole[..whole.len() - 1], &whole[..4]] {
        let mut frames = frames(&proxy);
        frames.send_head(1, true, &GET);
        frames.try_send_all(begun).unwrap();
        let (_, end) = frames.rest();
        assert_ne!(end, End::Open);
    }
}

/// It held its stream and the application's connection for as long as it lived.
#[test]
fn a_client_that_makes_no_room_for_an_answer_loses_the_stream() {
    let origin = Origin::start();
    origin.route("/", vec![b'x'; 1 << 20]);
    let proxy = Proxy::to(&origin).limits("idle_timeout = '1s'").start();
    let mut frames = frames(&proxy);
    frames.send_head(1, true, &GET);
    let reset = frames.next_matching(|frame| {
        // Others go on: the connection is not idle.
        [RST_STREAM, GOAWAY].contains(&frame.kind)
    });
    assert_eq!((reset.kind, reset.stream), (RST_STREAM, 1));
    frames.send(PING, 0, 0, &[7; 8]);
    frames.next_matching(|frame| frame.kind == PING && frame.flags == ACK);
    let line = proxy.access_line(|line| line.contains("GET / "));
    assert!(line.contains(" 499 "), "{line}");
}

/// The library took it for the end of the connection: all other streams were cut.
#[test]
fn a_connect_with_a_length_costs_no_other_stream_anything() {
    let (_origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    let connect = [(":method", "CONNECT"), (":authority", "app.test"), ("content-length", "5")];
    let extended = [&GET[1..], &[(":protocol", "websocket")]].concat();
    let extended = [&connect[..1], &extended, &connect[2..]].concat();
    for n in 0..30 {
        let stream = n * 6 + 1;
        frames.send_head(stream, false, &connect);
        frames.send_head(stream + 2, false, &extended);
        frames.send_head(stream + 4, true, &GET);
        assert_eq!(frames.fate(stream + 4), h2_frames::Fate::Answered(200), "round {n}");
    }
    frames.send_head(301, false, &connect);
    assert!(matches!(frames.fate(301), h2_frames::Fate::Reset(_)));
}

/// A name that is no token passed in trailers, though not in a head.
#[test]
fn a_quotation_mark_in_a_trailers_name_is_refused() {
    let (origin, proxy) = proxied();
    let mut frames = frames(&proxy);
    frames.send_head(1, false, &[&[(":method", "POST")], &GET[1..]].concat());
    frames.send(DATA, 0, 1, b"x");
    frames.send_head(1, true, &[("x\"", "v")]);
    assert_ne!(status_of(&outcome(&mut frames)), Some(0x88));
    let whole = origin.heard_text().contains("\r\n0\r\n\r\n");
    assert!(!whole, "the app got a whole body: {}", origin.heard_text());
}
