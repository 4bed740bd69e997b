//! Clients that do everything right, before applications in good health: each answer must be theirs,
//! whole, and no 5xx. An assertion that fails here is an unexplained failure.

use http::{Method, Request};
use rustls::HandshakeKind;

use super::apps::hex;
use super::content::{content, fault, piece_fault};
use super::dice::Dice;
use super::world::{NEIGHBOUR, SITE, World};
use crate::harness::socket::Socket;
use crate::harness::{Answer, Body, Client, Connection, Wire, pki, runtime, wait};

/// A request, and what its answer must be.
struct Task {
    path: String,
    marker: u64,
    size: u64,
    upload: Option<bool>,
}

impl Task {
    fn draw(world: &World, dice: &mut Dice) -> Self {
        let action = dice.pick(&["down", "down", "chunked", "chunked", "up", "up", "late"]);
        let action = if action == "late" && !dice.one_in(20) { "down" } else { action };
        let size = dice.size();
        let (path, marker) = world.path('w', action, size);
        let upload = (action == "up").then(|| dice.one_in(2));
        Self { path, marker, size, upload }
    }

    fn request(&self) -> Request<Body> {
        let method = if self.upload.is_some() { Method::POST } else { Method::GET };
        let body = match self.upload {
            None => Body::empty(),
            Some(true) => Body::from(content(self.marker, 0, self.size)),
            Some(false) => untold(content(self.marker, 0, self.size)),
        };
        let builder = Request::builder().method(method).uri(&self.path);
        builder.header("x-marker", hex(self.marker)).body(body).unwrap()
    }

    #[track_caller]
    fn check(&self, world: &World, kind: &'static str, answer: &Answer) {
        assert_eq!(answer.status, 200, "{} to {}: {}", answer.status, self.path, answer.text());
        self.check_parts(answer.header("x-marker").as_deref(), &answer.body);
        world.ledger.right(kind);
        world.ledger.logged(1);
    }

    #[track_caller]
    fn check_parts(&self, marker: Option<&str>, body: &[u8]) {
        assert_eq!(marker, Some(&*hex(self.marker)), "the marker of another request");
        if self.upload.is_some() {
            let wanted = format!("{} took {}", hex(self.marker), self.size);
            assert_eq!(String::from_utf8_lossy(body), wanted);
        } else if let Some(fault) = fault(self.marker, self.size, body) {
            panic!("another body: {fault}");
        }
    }
}

/// A body whose length is not told beforehand.
fn untold(bytes: Vec<u8>) -> Body {
    let (body, feed) = Body::fed();
    runtime().spawn(async move {
        for piece in bytes.chunks(10_000) {
            if !feed.send(piece.to_vec()).await {
                return;
            }
        }
    });
    body
}

/// Requests one after the other on a connection that is kept for a while.
pub fn kept(world: &World, dice: &mut Dice) {
    let mut connection = world.client(dice.one_in(2)).connect();
    for _ in 0..dice.range(2, 120) {
        let task = Task::draw(world, dice);
        let answer = connection.send(task.request());
        task.check(world, "h1 keep-alive", &answer);
        expect_open(&mut connection);
        world.rest(dice.pause(90));
        if world.is_over() {
            return;
        }
    }
}

/// Nothing gives the proxy a reason to end this connection.
#[track_caller]
fn expect_open(connection: &mut Connection) {
    assert!(wait("the end of an exchange", connection.takes_more()), "an end unasked for");
}

/// A connection for each request.
pub fn closing(world: &World, dice: &mut Dice) {
    let task = Task::draw(world, dice);
    let mut request = task.request();
    request.headers_mut().insert("connection", "close".parse().unwrap());
    let mut connection = world.client(dice.one_in(2)).connect();
    task.check(world, "h1 close", &connection.send(request));
    connection.expect_end();
    world.rest(dice.pause(150));
}

/// A request that comes after what a rough client did.
pub fn neighbour(world: &World, dice: &mut Dice) {
    let client = world.client(dice.one_in(2));
    let task = Task::draw(world, dice);
    task.check(world, NEIGHBOUR, &client.connect().send(task.request()));
}

/// Several requests in one write, answered in their order.
pub fn pipelined(world: &World, dice: &mut Dice) {
    let is_secure = dice.one_in(2);
    let mut wire = world.wire(is_secure).unwrap();
    for _ in 0..dice.range(1, 20) {
        let tasks: Vec<Task> = (0..dice.range(2, 12)).map(|_| Task::draw(world, dice)).collect();
        let tasks: Vec<Task> = tasks.into_iter().filter(|task| task.size < 50_000).collect();
        let bytes: Vec<u8> =
            tasks.iter().flat_map(|task| raw(task, World::host(is_secure))).collect();
        wire.send(bytes);
        for task in &tasks {
            let answer = wire.read_answer();
            assert_eq!(answer.status(), 200, "{} to {}", answer.head, task.path);
            task.check_parts(answer.field("x-marker"), &answer.body);
            world.ledger.right("h1 pipelined");
            world.ledger.logged(1);
        }
        world.rest(dice.pause(150));
    }
}

/// A request as bytes.
fn raw(task: &Task, host: &str) -> Vec<u8> {
    let Task { path, marker, size, upload } = task;
    let method = if upload.is_some() { "POST" } else { "GET" };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Marker: {}\r\n", hex(*marker));
    let body = content(*marker, 0, *size);
    match upload {
        None => format!("{head}\r\n").into_bytes(),
        Some(true) => [format!("{head}Content-Length: {size}\r\n\r\n").into_bytes(), body].concat(),
        Some(false) => {
            let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            for chunk in body.chunks(997) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend([chunk, b"\r\n"].concat());
            }
            bytes.extend(b"0\r\n\r\n");
            bytes
        }
    }
}

/// Many streams at once; some are given up, which must not touch the others.
pub fn streams(world: &World, dice: &mut Dice) {
    let mut connection = world.client(true).http2().connect();
    for _ in 0..dice.range(1, 30) {
        let tasks: Vec<Task> = (0..dice.range(1, 25)).map(|_| Task::draw(world, dice)).collect();
        let mut pending = Vec::new();
        for task in tasks {
            if dice.one_in(15) {
                given_up(world, &mut connection, dice);
            }
            pending.push((connection.begin(task.request()), task));
        }
        // All bodies are taken at once: those that wait unread would use up the connection's window.
        let answers = pending.into_iter().map(|(pending, task)| async {
            let answer = async { pending.finish().await?.collect().await };
            (answer.await, task)
        });
        for (answer, task) in wait("all answers", futures_util::future::join_all(answers)) {
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error:?}", task.path));
            task.check(world, "h2 streams", &answer);
        }
        world.rest(dice.pause(400));
        if world.is_over() {
            return;
        }
    }
}

/// Begins a request and drops it at one point or another: RST_STREAM (RFC 9113 §5.4.2).
fn given_up(world: &World, connection: &mut Connection, dice: &mut Dice) {
    let size = dice.range(0, 500_000);
    let (path, marker) = world.path('r', dice.pick(&["down", "late", "up"]), size);
    let body = Body::from(content(marker, 0, size));
    let body = if path.contains("/up/") { body } else { Body::empty() };
    let pending = connection.begin(Request::post(path).body(body).unwrap());
    match dice.next() % 3 {
        0 => pending.cancel(),
        1 => drop(pending),
        _ => {
            // Its head comes, and the body is not taken.
            drop(runtime().spawn(async move { drop(pending.finish().await) }));
        }
    }
    world.ledger.rough("h2 stream given up");
}

/// A body both ways and trailers behind it, as gRPC does it.
pub fn grpc(world: &World, dice: &mut Dice) {
    let mut connection = world.client(true).http2().connect();
    for _ in 0..dice.range(1, 40) {
        let (marker, size) = (world.marker(), dice.size());
        let body = Body::from(content(marker, 0, size));
        let body = if dice.one_in(2) { body.with_trailers(&[("x-end", "1")]) } else { body };
        let request = Request::post(format!("/grpc/{}", hex(marker)))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let answer = connection.send(request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        if let Some(fault) = fault(marker, size, &answer.body) {
            panic!("another body: {fault}");
        }
        assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
        world.ledger.right("gRPC");
        world.rest(dice.pause(300));
    }
}

/// A WebSocket that is held open for some seconds and says something now and then.
pub fn socket(world: &World, dice: &mut Dice) {
    let turns = dice.range(2, 30);
    let mut socket = open_socket(world, dice);
    for _ in 0..turns {
        echo(world, dice, &mut socket);
        world.rest(dice.pause(700));
    }
    socket.close();
}

/// A WebSocket that is held open for as long as the load lasts.
pub fn held_socket(world: &World, dice: &mut Dice) {
    let mut socket = open_socket(world, dice);
    while !world.is_over() {
        echo(world, dice, &mut socket);
        world.rest(dice.pause(4_000));
    }
    echo(world, dice, &mut socket);
    socket.close();
}

fn open_socket(world: &World, dice: &mut Dice) -> Socket {
    if dice.one_in(3) {
        Socket::open_over_http2(&world.client(true).http2(), "/ws")
    } else {
        Socket::open(&world.client(dice.one_in(2)), "/ws")
    }
}

fn echo(world: &World, dice: &mut Dice, socket: &mut Socket) {
    let text = hex(world.marker()).repeat(dice.range(1, 400) as usize);
    assert_eq!(socket.ask(&text), text, "an echo of something else");
    world.ledger.right("WebSocket echo");
}

/// The plain listener's answer for a site that is served over HTTPS.
pub fn redirected(world: &World, dice: &mut Dice) {
    let mut connection = Client::plain(world.http, SITE).connect();
    for _ in 0..dice.range(1, 20) {
        let (path, _) = world.path('w', "down", 10);
        let answer = connection.get(&path);
        assert_eq!(answer.status, 308, "{}", answer.text());
        let location = answer.header("location").unwrap_or_default();
        assert!(
            location.starts_with("https://app.test") && location.ends_with(&path),
            "{location}"
        );
        world.ledger.right("redirect");
        world.ledger.logged(1);
        expect_open(&mut connection);
        world.rest(dice.pause(300));
    }
}

/// A handshake for each request: whole ones, and ones that resume a session.
pub fn handshake(world: &World, dice: &mut Dice) {
    let resumes = !dice.one_in(3);
    let settings = if resumes { world.resuming.clone() } else { pki::trusting(&["http/1.1"]) };
    let mut wire = Wire::try_tls(world.https, settings, SITE).expect("a handshake");
    let task = Task { upload: None, ..Task::draw(world, dice) };
    let task = Task { size: task.size.min(20_000), ..task };
    let (path, marker) = world.path('w', "down", task.size);
    let task = Task { path, marker, ..task };
    wire.send(raw(&task, SITE));
    let answer = wire.read_answer();
    assert_eq!(answer.status(), 200, "{}", answer.head);
    task.check_parts(answer.field("x-marker"), &answer.body);
    world.ledger.right(match wire.session().handshake_kind() {
        Some(HandshakeKind::Resumed) => "TLS resumption",
        _ => "TLS full handshake",
    });
    world.ledger.logged(1);
    world.rest(dice.pause(150));
}

/// Somebody on a bad line: takes an answer in small pieces, or gives a body in small pieces, always
/// faster than the limits ask for.
pub fn slow(world: &World, dice: &mut Dice) {
    let is_secure = dice.one_in(2);
    let is_h2 = is_secure && dice.one_in(2);
    let client = world.client(is_secure);
    let client = if is_h2 { client.http2() } else { client };
    if dice.one_in(2) {
        slow_reader(world, dice, &client);
    } else {
        slow_writer(world, dice, &client);
    }
}

fn slow_reader(world: &World, dice: &mut Dice, client: &Client) {
    let size = dice.range(500_000, 3_000_000);
    let (path, marker) = world.path('w', dice.pick(&["down", "chunked"]), size);
    let mut connection = client.connect();
    let mut answer = connection.start(Request::get(path).body(()).unwrap());
    assert_eq!(answer.status(), 200);
    let mut at = 0;
    while let Some(piece) = answer.chunk() {
        let piece = piece.expect("the whole body");
        if let Some(fault) = piece_fault(marker, at, &piece) {
            panic!("another body: {fault}");
        }
        at += piece.len() as u64;
        world.rest(dice.pause(60));
    }
    assert_eq!(at, size, "a cut body");
    world.ledger.right("slow reader");
    world.ledger.logged(1);
}

fn slow_writer(world: &World, dice: &mut Dice, client: &Client) {
    let size = dice.range(20_000, 80_000);
    let (path, marker) = world.path('w', "up", size);
    let (body, feed) = Body::fed();
    let mut connection = client.connect();
    let pending = connection.begin(Request::post(path).body(body).unwrap());
    let mut at = 0;
    while at < size {
        let end = size.min(at + dice.range(500, 4_000));
        assert!(feed.give(content(marker, at, end)), "nobody took byte {at} of {size}");
        at = end;
        world.rest(dice.pause(250));
    }
    drop(feed);
    let answer = pending.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.text(), format!("{} took {size}", hex(marker)));
    world.ledger.right("slow writer");
    world.ledger.logged(1);
}
