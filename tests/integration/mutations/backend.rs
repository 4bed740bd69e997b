//! The application behind the proxy: it reads with the strict reader and with nothing else, answers
//! each whole request with a number of its own, and remembers all of them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::marker::markers;
use crate::harness::strict::{self, Heard};

/// The field and the body of an answer: the number of the request.
pub const SERIAL: &str = "x-serial";

/// A recording application; its threads end with their connections.
pub struct Backend {
    address: SocketAddr,
    record: Arc<Record>,
}

/// What has come.
#[derive(Default)]
pub struct Record {
    seen: Mutex<HashMap<Ipv4Addr, Vec<Seen>>>,
    violations: Mutex<Vec<String>>,
    serial: AtomicU64,
    connections: AtomicUsize,
}

/// A request that has come.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its number.
    pub serial: u64,
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
    /// Whether it came to its end.
    pub is_whole: bool,
    /// Its cookies, line by line.
    pub cookies: Vec<String>,
    /// The cases whose mark stands in it.
    pub markers: Vec<u32>,
}

impl Backend {
    /// Listens on a loopback port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, record) = (listener.local_addr().unwrap(), Arc::<Record>::default());
        let shared = record.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, record) = (stream.unwrap(), shared.clone());
                record.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    record.serve(stream);
                    record.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, record }
    }

    /// What came from the client at this address.
    pub fn take(&self, client: Ipv4Addr) -> Vec<Seen> {
        self.record.seen.lock().unwrap().remove(&client).unwrap_or_default()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// How many requests came, whole ones.
    pub fn count(&self) -> u64 {
        self.record.serial.load(Ordering::SeqCst)
    }

    /// What came that the strict reader does not read.
    pub fn violations(&self) -> Vec<String> {
        self.record.violations.lock().unwrap().clone()
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl Record {
    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (mut unread, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
        let mut was_told = false;
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            unread.extend_from_slice(&piece[..count]);
            loop {
                let (heard, left) = match strict::read_first(&unread) {
                    Ok(Some((heard, rest))) => (heard, rest.len()),
                    Ok(None) => break,
                    Err(why) => return self.violations.lock().unwrap().push(why),
                };
                if !heard.is_whole {
                    let expects = heard.values("expect") == ["100-continue"];
                    if expects && !std::mem::replace(&mut was_told, true) {
                        let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    break;
                }
                was_told = false;
                unread.drain(..unread.len() - left);
                let is_head = heard.method == "HEAD";
                let serial = self.note(heard);
                let told = serial.to_string();
                let length = told.len();
                let head = format!("HTTP/1.1 200 OK\r\n{SERIAL}: {serial}\r\nContent-Length: ");
                let body = if is_head { "" } else { &*told };
                let _ = stream.write_all(format!("{head}{length}\r\n\r\n{body}").as_bytes());
            }
        }
        match strict::read_first(&unread) {
            Ok(Some((heard, _))) => drop(self.note(heard)),
            _ if unread.is_empty() => {}
            _ => {
                let why = format!("a head without end: {}", unread.escape_ascii());
                self.violations.lock().unwrap().push(why);
            }
        }
    }

    fn note(&self, heard: Heard) -> u64 {
        let serial = if heard.is_whole { self.serial.fetch_add(1, Ordering::SeqCst) } else { 0 };
        let client = heard.values("x-forwarded-for")[0].parse();
        let host = heard.values("host")[0];
        let Ok(client) = client else {
            let why = format!("a client that is none: {:?}", heard.fields);
            self.violations.lock().unwrap().push(why);
            return serial;
        };
        let is_app = host.strip_prefix("app.test").is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(':') && rest[1..].parse::<u16>().is_ok()
        });
        if !is_app {
            self.violations.lock().unwrap().push(format!("a host that is none: {host:?}"));
        }
        let mut found: Vec<u32> =
            markers(heard.target.as_bytes()).chain(markers(&heard.body)).collect();
        found.extend(heard.fields.iter().flat_map(|(_, value)| markers(value.as_bytes())));
        found.dedup();
        let cookies = heard.values("cookie").iter().map(|line| (*line).to_owned()).collect();
        let Heard { method, target, body, is_whole, .. } = heard;
        let seen = Seen { serial, method, target, body, is_whole, cookies, markers: found };
        self.seen.lock().unwrap().entry(client).or_default().push(seen);
        serial
    }
}
