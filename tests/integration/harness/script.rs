//! An origin that follows a script, byte for byte.

use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::PATIENCE;
use super::wire::Wire;

/// A TCP listener that plays a script on every connection; it ends with the value.
pub struct Script {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<String>>>,
}

/// The script's end of one connection.
pub struct Scene {
    /// The connection.
    pub wire: Wire,
    /// Which connection this is, from 0.
    pub number: usize,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Plays `script` on every connection; the connection ends when it returns.
    pub fn play(script: impl Fn(&mut Scene) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (script, over, hears) = (Arc::new(script), ended.clone(), heard.clone());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let wire = Wire::over(stream.unwrap());
                let mut scene = Scene { wire, number, heard: hears.clone() };
                let script = script.clone();
                std::thread::spawn(move || script(&mut scene));
            }
        });
        Self { address, ended, heard }
    }

    /// Answers the first request of every connection with these bytes and closes.
    pub fn answering(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::play(move |scene| {
            scene.hear_head();
            let _ = scene.wire.try_send(bytes.as_ref());
        })
    }

    /// The heads that were heard so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Scene {
    /// Reads a request's head and remembers it.
    pub fn hear_head(&mut self) -> String {
        let head = self.wire.read_head();
        self.heard.lock().unwrap().push(head.clone());
        head
    }

    /// The same for a connection that may be over: `None`.
    pub fn next_head(&mut self) -> Option<String> {
        self.next_head_within(PATIENCE)
    }

    /// The same, with this patience.
    pub fn next_head_within(&mut self, patience: Duration) -> Option<String> {
        let head = self.wire.try_read_until("\r\n\r\n", patience)?;
        self.heard.lock().unwrap().push(head.clone());
        Some(head)
    }

    /// Answers with this text, by length.
    pub fn answer(&mut self, text: &str) -> std::io::Result<()> {
        let length = text.len();
        self.wire.try_send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}
