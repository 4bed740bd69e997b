//! The applications: two in good health, one for gRPC, one that fails as it is asked to, one that
//! is never there, and one that is restarted again and again.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::content;
use super::dice::Dice;
use super::ledger::Ledger;
use crate::harness::socket::echo_at;
use crate::harness::{Body, Origin, Request, Response, runtime, wait};

/// All applications.
pub struct Apps {
    /// Those in good health.
    pub healthy: [Origin; 2],
    /// HTTP/2 with trailers.
    pub grpc: Origin,
    /// Nobody listens there.
    pub absent: Origin,
    /// In good health between two restarts; the second speaks HTTP/2.
    pub restarting: [Origin; 2],
    /// Fails as the path says.
    pub faulty: Faulty,
}

/// What a request asks for, as its path says: `/s/KIND/ACTION/MARKER/SIZE`, in which the kind is `w`
/// for what a right client expects an answer to.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `down`, `chunked`, `up`, `late`, or the name of a fault.
    pub action: String,
    /// What its body is made from.
    pub marker: u64,
    /// The size of the body, in whichever direction.
    pub size: u64,
}

impl Ask {
    /// What the path says.
    pub fn of(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix("/s/")?.split('/').skip(1);
        let action = parts.next()?.to_owned();
        let marker = u64::from_str_radix(parts.next()?, 16).ok()?;
        let size = parts.next()?.parse().ok()?;
        Some(Self { action, marker, size })
    }
}

impl Apps {
    /// Starts them. With `spoils` a healthy one gives a wrong answer now and then.
    pub fn start(ledger: &Arc<Ledger>, spoils: bool) -> Self {
        let healthy = |spoils: bool| {
            let origin = Origin::start();
            serve(&origin, ledger, spoils);
            echo_at(&origin, "/ws");
            origin
        };
        let (grpc, restarting) = (Origin::start_h2c(), [Origin::start(), Origin::start_h2c()]);
        for origin in &restarting {
            serve(origin, ledger, false);
        }
        grpc.handle("*", |request| async {
            let Ok(whole) = request.into_body().collect().await else {
                return Response::new(Body::empty());
            };
            let body = Body::from(whole.to_bytes()).with_trailers(&[("grpc-status", "0")]);
            Response::new(body)
        });
        let healthy = [healthy(spoils), healthy(false)];
        Self { healthy, grpc, absent: Origin::down(), restarting, faulty: Faulty::start() }
    }

    /// Lets go of what the origins remember of their requests.
    pub fn forget(&self) {
        for origin in self.healthy.iter().chain(&self.restarting).chain([&self.grpc]) {
            origin.forget();
        }
    }
}

fn serve(origin: &Origin, ledger: &Arc<Ledger>, spoils: bool) {
    let ledger = ledger.clone();
    let turn = Arc::new(std::sync::atomic::AtomicU64::new(0));
    origin.handle("*", move |request| {
        let (ledger, turn) = (ledger.clone(), turn.clone());
        async move {
            let Some(mut ask) = Ask::of(request.uri().path()) else {
                return Response::builder().status(404).body(Body::empty()).unwrap();
            };
            if spoils && turn.fetch_add(1, Ordering::Relaxed) % 500 == 499 {
                ask.marker += 1;
            }
            answer(ask, request, &ledger).await
        }
    });
}

async fn answer(ask: Ask, request: Request<Incoming>, ledger: &Ledger) -> Response<Body> {
    let Ask { action, marker, size } = ask;
    let (head, body) = request.into_parts();
    let says = |name: &str| head.headers.get(name).is_some_and(|value| *value == hex(marker));
    if head.headers.contains_key("x-marker") && !says("x-marker") {
        ledger.unexplained("application", "fields of another request", &format!("{head:?}"));
    }
    let builder = Response::builder().header("x-marker", hex(marker));
    if action == "up" {
        let Some(read) = read_upload(marker, body, ledger).await else {
            return builder.status(400).body(Body::empty()).unwrap();
        };
        if read != size {
            let detail = format!("{read} of {size} bytes of {}", head.uri);
            ledger.unexplained("application", "a cut request passed for a whole one", &detail);
        }
        return builder.body(Body::from(format!("{} took {read}", hex(marker)))).unwrap();
    }
    if action == "late" {
        tokio::time::sleep(Duration::from_millis(200 + marker % 2_000)).await;
    }
    if action != "chunked" && size < PIECE {
        return builder.body(Body::from(content::content(marker, 0, size))).unwrap();
    }
    let (body, feed) = Body::fed();
    tokio::spawn(async move {
        let mut at = 0;
        while at < size {
            let end = size.min(at + PIECE);
            if !feed.send(content::content(marker, at, end)).await {
                return;
            }
            at = end;
        }
    });
    let builder =
        if action == "chunked" { builder } else { builder.header("content-length", size) };
    builder.body(body).unwrap()
}

/// The size of a request's body once it has come whole; what is foreign in it is told.
async fn read_upload(marker: u64, mut body: Incoming, ledger: &Ledger) -> Option<u64> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if let Some(fault) = content::piece_fault(marker, read, &data) {
            ledger.unexplained("application", "a request with another body", &fault);
        }
        read += data.len() as u64;
    }
    Some(read)
}

/// How a marker is written.
pub fn hex(marker: u64) -> String {
    format!("{marker:016x}")
}

const PIECE: u64 = 32 * 1024;

/// The kinds of paths that lead to other applications than the healthy ones.
pub const FAULTY: char = 'f';
pub const ABSENT: char = 'a';
pub const RESTARTING: char = 'b';
pub const RESTARTING_H2: char = 'c';

/// What the faulty application can do.
pub const FAULTS: [&str; 9] = [
    "none",
    "drop",
    "reset",
    "reset-in-head",
    "reset-in-body",
    "cut-chunks",
    "garbage",
    "stall",
    "leftover",
];

/// What it can do besides, upon which right clients would wait.
pub const STALL_IN_BODY: &str = "stall-in-body";

/// An application that fails as the path of the request says.
pub struct Faulty {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Faulty {
    fn start() -> Self {
        let listener = wait("a port", TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                tokio::spawn(async { play(stream).await });
            }
        });
        Self { address, over }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

/// Plays what the first request of a connection asks for; only after a good answer, the next.
async fn play(mut stream: TcpStream) -> Option<Infallible> {
    let mut heard = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = memchr::memmem::find(&heard, b"\r\n\r\n") {
                break heard.drain(..end + 4).collect::<Vec<u8>>();
            }
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
            heard.extend(&buffer[..count]);
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        let ask = Ask::of(head.split(' ').nth(1)?)?;
        let is_reset = ask.action.starts_with("reset");
        let bytes = performance(&ask);
        stream.write_all(&bytes).await.ok()?;
        match ask.action.as_str() {
            "none" => continue,
            "stall" | STALL_IN_BODY => {
                // Until the proxy has had enough.
                let _ = stream.read(&mut [0; 16]).await;
            }
            _ => {}
        }
        if is_reset {
            let random = Dice::new(ask.marker, "reset", 0).pause(15);
            tokio::time::sleep(random).await;
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        return None;
    }
}

fn performance(ask: &Ask) -> Bytes {
    let body = content::content(ask.marker, 0, ask.size);
    let head = |framing: &str| format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").into_bytes();
    let whole = || [head(&format!("Content-Length: {}", ask.size)), body.clone()].concat();
    let cut = whole().len() - ask.size as usize / 2;
    match ask.action.as_str() {
        "none" => whole(),
        "reset-in-head" => b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(),
        "reset-in-body" | STALL_IN_BODY => whole()[..cut].to_vec(),
        "cut-chunks" => {
            let chunk = format!("{:x}\r\n", ask.size * 2);
            [head("Transfer-Encoding: chunked"), chunk.into_bytes(), body].concat()
        }
        "garbage" => [b"\x15\x03\x01 this is not HTTP at all \r\n\r\n".to_vec(), body].concat(),
        "leftover" => {
            let other = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged".to_vec();
            [whole(), other].concat()
        }
        _ => Vec::new(),
    }
    .into()
}
