//! A relay between the proxy and a second reader, which keeps what went by in both directions.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Relays from a loopback port of its own.
pub struct Tap {
    address: SocketAddr,
    conversations: Arc<Mutex<Vec<Arc<Conversation>>>>,
}

/// What went by on one connection.
#[derive(Default)]
pub struct Conversation {
    /// From the proxy to the reader.
    pub said: Mutex<Vec<u8>>,
    /// From the reader to the proxy.
    pub answered: Mutex<Vec<u8>>,
}

impl Tap {
    /// Relays to the reader at `to`.
    pub fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let conversations = Arc::<Mutex<Vec<Arc<Conversation>>>>::default();
        let all = conversations.clone();
        std::thread::spawn(move || {
            for proxy in listener.incoming() {
                let conversation = Arc::<Conversation>::default();
                all.lock().unwrap().push(conversation.clone());
                let (proxy, reader) = (proxy.unwrap(), TcpStream::connect(to).unwrap());
                proxy.set_nodelay(true).unwrap();
                reader.set_nodelay(true).unwrap();
                let back = (reader.try_clone().unwrap(), proxy.try_clone().unwrap());
                let answers = conversation.clone();
                std::thread::spawn(move || relay(back.0, back.1, &answers.answered));
                std::thread::spawn(move || relay(proxy, reader, &conversation.said));
            }
        });
        Self { address, conversations }
    }

    /// All conversations.
    pub fn conversations(&self) -> Vec<Arc<Conversation>> {
        self.conversations.lock().unwrap().clone()
    }
}

impl std::fmt::Display for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.address)
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, kept: &Mutex<Vec<u8>>) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        kept.lock().unwrap().extend_from_slice(&piece[..count]);
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
