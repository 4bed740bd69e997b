//! Clients that do what no right client does. What becomes of them is not judged here: the others
//! must not notice, and nothing of them may stay behind.

use std::net::TcpStream;
use std::time::Duration;

use http::Request;

use super::apps::{FAULTY, STALL_IN_BODY};
use super::content::content;
use super::dice::Dice;
use super::world::World;
use crate::harness::h2_frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, encode,
    field_block,
};
use crate::harness::socket::UPGRADE;
use crate::harness::{Body, Wire};

/// Sends a part of a request, at any point of head or body, and is gone in one way or another.
pub fn part(world: &World, dice: &mut Dice) {
    let is_secure = dice.one_in(2);
    let host = World::host(is_secure);
    let (path, marker) = world.path('r', "up", 60_000);
    let framing = dice.pick(&["Content-Length: 60000", "Transfer-Encoding: chunked"]);
    let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n");
    let is_head = dice.one_in(2);
    let bytes = if is_head {
        head.as_bytes()[..dice.range(0, head.len() as u64) as usize].to_vec()
    } else {
        let body = content(marker, 0, dice.range(1, 50_000));
        let size = if framing.starts_with('T') { "c350\r\n" } else { "" };
        [head.as_bytes(), size.as_bytes(), &body].concat()
    };
    let Ok(mut wire) = world.wire(is_secure) else { return };
    let _ = wire.try_send(bytes);
    leave(world, dice, wire);
    world.ledger.rough(if is_head { "gone within a head" } else { "gone within a body" });
}

/// Asks for much, takes a part of it, and is gone.
pub fn half_reader(world: &World, dice: &mut Dice) {
    let is_secure = dice.one_in(2);
    let Ok(mut wire) = world.wire(is_secure) else { return };
    let (path, _) = if dice.one_in(4) {
        world.path(FAULTY, STALL_IN_BODY, 50_000)
    } else {
        world.path('r', dice.pick(&["down", "chunked"]), 3_000_000)
    };
    let host = World::host(is_secure);
    let _ = wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let patience = dice.pause(60);
    let _ = wire.try_read_until("no such text in an answer", patience);
    leave(world, dice, wire);
    world.ledger.rough("gone within an answer");
}

/// Asks for much with a small window, and takes a little of it now and then.
pub fn slow_reader(world: &World, dice: &mut Dice) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&world.http.into()).unwrap();
    let mut wire = Wire::over(TcpStream::from(socket));
    let (path, _) = world.path('r', "down", 3_000_000);
    let host = World::host(false);
    let _ = wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for _ in 0..dice.range(1, 40) {
        let _ = wire.rest_within(Duration::from_millis(1));
        world.rest(dice.pause(300));
    }
    leave(world, dice, wire);
    world.ledger.rough("slow reader");
}

/// Sends a head byte by byte, or says nothing at all, until the proxy has had enough or it has.
pub fn slow_writer(world: &World, dice: &mut Dice) {
    let is_secure = dice.one_in(2);
    let Ok(mut wire) = world.wire(is_secure) else { return };
    let head =
        format!("GET / HTTP/1.1\r\nHost: {}\r\nX: {}", World::host(is_secure), "x".repeat(99));
    for byte in head.bytes().take(dice.range(0, 100) as usize) {
        world.rest(dice.pause(150));
        if world.is_over() || wire.try_send([byte]).is_err() {
            break;
        }
    }
    leave(world, dice, wire);
    world.ledger.rough("slow writer");
}

/// Many requests at once, and no interest in their answers.
pub fn unread(world: &World, dice: &mut Dice) {
    let is_secure = dice.one_in(2);
    let Ok(mut wire) = world.wire(is_secure) else { return };
    let host = World::host(is_secure);
    let (path, _) = world.path('r', "down", 3_000);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let _ = wire.try_send(request.repeat(dice.range(10, 300) as usize));
    world.rest(dice.pause(1_000));
    leave(world, dice, wire);
    world.ledger.rough("pipelined, unread");
}

/// What is no HTTP, and no TLS.
pub fn garbage(world: &World, dice: &mut Dice) {
    let to = dice.pick(&[world.http, world.https]);
    let mut wire = Wire::connect(to);
    let bytes: Vec<u8> = (0..dice.range(1, 600)).map(|_| dice.next() as u8).collect();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let bytes = if dice.one_in(2) { bytes } else { [hello.to_vec(), bytes].concat() };
    let _ = wire.try_send(bytes);
    leave(world, dice, wire);
    world.ledger.rough("garbage");
}

/// A WebSocket that is gone within a frame.
pub fn socket(world: &World, dice: &mut Dice) {
    let Ok(mut wire) = world.wire(true) else { return };
    let _ = wire.try_send(UPGRADE);
    if wire.try_read_until("\r\n\r\n", Duration::from_secs(5)).is_none() {
        return;
    }
    // A masked text of 100 bytes, of which some come (RFC 6455 §5.2).
    let _ = wire.try_send([&[0x81, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 50]].concat());
    world.rest(dice.pause(300));
    leave(world, dice, wire);
    world.ledger.rough("WebSocket gone within a frame");
}

/// HTTP/2 frames that a library would not send: resets, GOAWAY, windows of nothing, half frames.
pub fn frames(world: &World, dice: &mut Dice) {
    let Ok(wire) = Wire::try_tls(world.https, world.h2.clone(), super::world::SITE) else { return };
    if dice.one_in(2) {
        wire.reset_on_drop();
    }
    let mut frames = Frames::over(wire);
    if dice.one_in(3) {
        // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2): none.
        frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    }
    let mut bytes = Vec::new();
    for n in 0..dice.range(1, 40) {
        let stream = (n as u32) * 2 + 1;
        bytes.extend(request(world, dice, stream));
        match dice.next() % 5 {
            0 => bytes.extend(encode(RST_STREAM, 0, stream, &[0, 0, 0, 8])),
            1 => bytes.extend(encode(PING, 0, 0, &[7; 8])),
            _ => {}
        }
    }
    if dice.one_in(4) {
        bytes.extend(encode(GOAWAY, 0, 0, &[0; 8]));
    }
    if dice.one_in(2) {
        bytes.truncate(bytes.len() - dice.range(1, 12) as usize);
    }
    let _ = frames.try_send_all(&bytes);
    world.rest(dice.pause(800));
    world.ledger.rough("HTTP/2 frames, then gone");
}

/// A request on a stream: a download, or an upload that may lack its end.
fn request(world: &World, dice: &mut Dice, stream: u32) -> Vec<u8> {
    let is_upload = dice.one_in(2);
    let (path, marker) = world.path('r', if is_upload { "up" } else { "down" }, 90_000);
    let method = if is_upload { "POST" } else { "GET" };
    let fields =
        [(":method", method), (":scheme", "https"), (":path", &path), (":authority", "app.test")];
    let end = if is_upload { 0 } else { END_STREAM };
    let mut bytes = encode(HEADERS, END_HEADERS | end, stream, &field_block(&fields));
    if is_upload {
        bytes.extend(encode(DATA, 0, stream, &content(marker, 0, dice.range(0, 1_500))));
    }
    bytes
}

/// Uploads that the client breaks off, over a library: the application must not take them for
/// whole.
pub fn broken_upload(world: &World, dice: &mut Dice) {
    let is_secure = dice.one_in(2);
    let client = world.client(is_secure);
    let client = if is_secure && dice.one_in(2) { client.http2() } else { client };
    let (path, marker) = world.path('r', "up", 300_000);
    let (body, feed) = Body::fed();
    let mut connection = client.connect();
    let pending = connection.begin(Request::post(path).body(body).unwrap());
    let end = dice.range(1, 200_000);
    let _ = feed.give(content(marker, 0, end));
    world.rest(dice.pause(200));
    feed.break_off();
    drop(pending);
    world.ledger.rough("upload broken off");
}

/// Clients that connect, ask, and never go: what the soak must notice.
pub fn never_gone(world: &World, dice: &mut Dice) {
    let Ok(mut wire) = world.wire(true) else { return };
    let (path, _) = world.path('r', "late", 10);
    let host = World::host(true);
    let _ = wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    std::mem::forget(wire);
    world.rest(dice.pause(300));
}

fn leave(world: &World, dice: &mut Dice, mut wire: Wire) {
    match dice.next() % 4 {
        0 => wire.reset_on_drop(),
        1 => {
            wire.finish();
            let _ = wire.rest_within(dice.pause(2_000));
        }
        2 => {
            world.rest(dice.pause(2_000));
            wire.reset_on_drop();
        }
        _ => {}
    }
    drop(wire);
    world.rest(dice.pause(200));
}
