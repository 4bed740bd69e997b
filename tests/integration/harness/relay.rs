//! A place between the proxy and an authority, where connections are counted and can be spoilt.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A relay of bytes. Every request of the proxy to an authority is a connection here.
pub struct Relay {
    place: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    /// The connection whose answer is swallowed, counted from 1.
    trap: AtomicUsize,
    /// Whether it has been.
    caught: Mutex<bool>,
    news: Condvar,
}

impl Relay {
    /// In front of `to`.
    pub fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let inner = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = inner.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let inner = Arc::clone(&inner);
                thread::spawn(move || inner.carry(client, to, number));
            }
        });
        Self { place, shared }
    }

    /// Where it listens.
    pub fn place(&self) -> SocketAddr {
        self.place
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Swallows the answer to the request that comes after `requests` more.
    pub fn trap_after(&self, requests: usize) {
        *self.shared.caught.lock().unwrap() = false;
        self.shared.trap.store(self.connections() + requests + 1, Ordering::SeqCst);
    }

    /// Waits until that has happened, and says whether it did before `patience` was over.
    pub fn has_caught(&self, patience: std::time::Duration) -> bool {
        let caught = self.shared.caught.lock().unwrap();
        let wait = self.shared.news.wait_timeout_while(caught, patience, |caught| !*caught);
        *wait.unwrap().0
    }
}

impl Shared {
    /// A client sends its hello, then the rest of the handshake with its request: what comes back
    /// after that is the answer.
    fn carry(self: &Arc<Self>, mut client: TcpStream, to: SocketAddr, number: usize) {
        let Ok(mut server) = TcpStream::connect(to) else { return };
        let (mut back_from, mut back_to) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        let sent = Arc::new(AtomicUsize::new(0));
        let (flights, inner) = (Arc::clone(&sent), Arc::clone(self));
        thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(count @ 1..) = back_from.read(&mut buffer) {
                let is_trapped = inner.trap.load(Ordering::SeqCst) == number;
                if is_trapped && flights.load(Ordering::SeqCst) > 1 {
                    *inner.caught.lock().unwrap() = true;
                    inner.news.notify_all();
                    // The answer is lost, and nobody is told.
                    continue;
                }
                if back_to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = back_to.shutdown(Shutdown::Write);
        });
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            sent.fetch_add(1, Ordering::SeqCst);
            if server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Write);
    }
}
