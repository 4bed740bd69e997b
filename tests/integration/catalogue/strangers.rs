//! What handshakes of strangers cost those whom the proxy serves already.
//!
//! The strangers are cheap: they replay one ClientHello and never answer, so that each costs the
//! server its share of a key exchange and a signature, and them a `connect`. Since client and
//! server share this machine, the same flood is also sent to another proxy: what that does to the
//! clients of the first is the machine's doing and not the program's.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::harness::{Proxy, Wire, pki};

/// Connections that the strangers hold; the oldest is reset for each new one.
const HELD: usize = 400;

/// Addresses that they come from.
const ADDRESSES: usize = 200;

/// Strangers who knock until they are stopped.
pub struct Strangers {
    over: Arc<AtomicBool>,
    /// Handshakes begun, and those of them that the server answered.
    begun: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    knocking: JoinHandle<()>,
    since: Instant,
}

/// How often they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Handshakes begun a second.
    pub begun: f64,
    /// Handshakes answered a second.
    pub answered: f64,
}

impl Strangers {
    /// They begin `rate` handshakes a second with the listener at `to`.
    pub fn begin(to: SocketAddr, rate: f64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (begun, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = (over.clone(), begun.clone(), answered.clone());
        let knocking = std::thread::spawn(move || knock(to, rate, &seen.0, &seen.1, &seen.2));
        Self { over, begun, answered, knocking, since: Instant::now() }
    }

    /// Ends it.
    pub fn stop(self) -> Rate {
        self.over.store(true, Ordering::Relaxed);
        let seconds = self.since.elapsed().as_secs_f64();
        self.knocking.join().unwrap();
        let rate = |count: &AtomicUsize| count.load(Ordering::Relaxed) as f64 / seconds;
        Rate { begun: rate(&self.begun), answered: rate(&self.answered) }
    }
}

/// A ClientHello for `app.test`.
pub fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from("app.test").unwrap();
    let mut session = ClientConnection::new(pki::trusting(&["http/1.1"]), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

fn knock(
    to: SocketAddr,
    rate: f64,
    over: &AtomicBool,
    begun: &AtomicUsize,
    answered: &AtomicUsize,
) {
    let hello = client_hello();
    let mut held: VecDeque<TcpStream> = VecDeque::with_capacity(HELD + 1);
    let since = Instant::now();
    for number in 0_usize.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let due = Duration::from_secs_f64(number as f64 / rate);
        if let Some(early) = due.checked_sub(since.elapsed()) {
            std::thread::park_timeout(early);
        }
        let Ok(mut stream) = connect(number, to) else { continue };
        if stream.write_all(&hello).is_ok() {
            begun.fetch_add(1, Ordering::Relaxed);
            held.push_back(stream);
        }
        if held.len() > HELD {
            let mut oldest = held.pop_front().unwrap();
            let is_answered = matches!(oldest.read(&mut [0; 16]), Ok(1..));
            answered.fetch_add(usize::from(is_answered), Ordering::Relaxed);
        }
    }
    held.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
}

fn connect(number: usize, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let last = u8::try_from(number % ADDRESSES).unwrap() + 2;
    let from = SocketAddr::new(Ipv4Addr::new(127, 0, 7, last).into(), 0);
    socket.bind(&from.into())?;
    socket.connect(&to.into())?;
    // A reset leaves nothing behind in the kernel.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What the clients of a proxy wait for their answers.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Of each hundred all but one.
    pub p99: Duration,
    /// Half of them.
    pub median: Duration,
}

/// Asks on these connections in turn for as long as `time`, with a short rest after each answer.
pub fn waits(wires: &mut [Wire], time: Duration) -> Waits {
    const REST: Duration = Duration::from_millis(1);
    let mut seen = Vec::new();
    let since = Instant::now();
    'asking: loop {
        for wire in &mut *wires {
            if since.elapsed() > time {
                break 'asking;
            }
            let asked = Instant::now();
            wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            assert_eq!(wire.read_answer().status(), 200);
            seen.push(asked.elapsed());
            std::thread::park_timeout(REST);
        }
    }
    seen.sort_unstable();
    Waits { p99: seen[seen.len() * 99 / 100], median: seen[seen.len() / 2] }
}

/// Connections that are established: over TLS, several, so that each worker has some.
pub fn established(proxy: &Proxy) -> Vec<Wire> {
    (0..8).map(|_| proxy.tls_wire()).collect()
}

/// The value in the middle.
pub fn middle(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}
