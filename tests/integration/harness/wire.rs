//! Bytes on a connection, in the clear or over TLS, for what no well-behaved library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::PATIENCE;

/// One end of a connection; reads wait at most [`PATIENCE`].
pub struct Wire {
    io: Io,
    ahead: Vec<u8>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer said that it was done: FIN, after a `close_notify` on TLS.
    Closed,
    /// Cut: a reset, or on TLS an end without `close_notify`.
    Cut,
    /// Still open when the waiting was over.
    Open,
}

/// An HTTP/1.1 answer as it stood on the wire.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Status line and fields, with the empty line.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Wire {
    /// Connects in the clear.
    pub fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&to, PATIENCE).unwrap())
    }

    /// Connects in the clear from an address of this host.
    pub fn connect_from(from: IpAddr, to: SocketAddr) -> Self {
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Self::over(socket.into())
    }

    /// Uses a connection that exists.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { io: Io::Plain(stream), ahead: Vec::new() }
    }

    /// From now on the system holds back what is written while it waits for an acknowledgement, as
    /// it does for programs that ask for nothing else (Nagle, RFC 9293 §3.7.4).
    pub fn hold_back(&self) {
        match &self.io {
            Io::Plain(stream) => stream.set_nodelay(false).unwrap(),
            Io::Tls(_) => unreachable!("only in the clear"),
        }
    }

    /// Connects and shakes hands over TLS; an error is the peer's alert or its silence.
    pub fn try_tls(to: SocketAddr, config: Arc<ClientConfig>, name: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        Self::over(stream).try_seal(config, name)
    }

    /// Shakes hands over TLS on a connection in the clear.
    pub fn try_seal(self, config: Arc<ClientConfig>, name: &str) -> std::io::Result<Self> {
        let Io::Plain(stream) = self.io else { panic!("TLS within TLS") };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        let mut tls = StreamOwned::new(session, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Self { io: Io::Tls(Box::new(tls)), ahead: Vec::new() })
    }

    /// The TLS session.
    pub fn session(&self) -> &ClientConnection {
        match &self.io {
            Io::Tls(tls) => &tls.conn,
            Io::Plain(_) => panic!("no TLS on this connection"),
        }
    }

    /// Sends these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes; an error when the peer has gone or takes nothing.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        match &mut self.io {
            Io::Plain(stream) => stream.write_all(bytes.as_ref()),
            Io::Tls(tls) => tls.write_all(bytes.as_ref()).and_then(|()| tls.flush()),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        match &mut self.io {
            Io::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
            Io::Tls(tls) => {
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
    }

    /// Ends the connection with a reset, when this is dropped.
    pub fn reset_on_drop(&self) {
        let socket = match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(tls) => &tls.sock,
        };
        socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Everything up to and with `mark`.
    #[track_caller]
    pub fn read_until(&mut self, mark: &str) -> String {
        let mut from = 0;
        loop {
            let found = memchr::memmem::find(&self.ahead[from..], mark.as_bytes());
            if let Some(at) = found {
                let taken: Vec<u8> = self.ahead.drain(..from + at + mark.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            from = self.ahead.len().saturating_sub(mark.len());
            self.read_more_or_fail(mark);
        }
    }

    /// Exactly `count` bytes.
    #[track_caller]
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            self.read_more_or_fail("more bytes");
        }
        self.ahead.drain(..count).collect()
    }

    /// So many bytes, if they come while something comes within `patience`; how it ended, else.
    pub fn try_read_exactly(&mut self, count: usize, patience: Duration) -> Result<Vec<u8>, End> {
        while self.ahead.len() < count {
            match self.read_more(patience) {
                Ok(0) => return Err(End::Closed),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Err(End::Open),
                Err(_) => return Err(End::Cut),
            }
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// Everything up to and with `mark`; `None` when the peer ends before, or is silent for
    /// `patience`.
    pub fn try_read_until(&mut self, mark: &str, patience: Duration) -> Option<String> {
        let has_mark = |ahead: &[u8]| memchr::memmem::find(ahead, mark.as_bytes()).is_some();
        while !has_mark(&self.ahead) {
            match self.read_more(patience) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
        Some(self.read_until(mark))
    }

    /// A request's head, for scripted origins.
    #[track_caller]
    pub fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n")
    }

    /// One whole HTTP/1.1 answer, by its own framing (RFC 9112 §6.3).
    #[track_caller]
    pub fn read_answer(&mut self) -> RawAnswer {
        self.read_answer_to("GET")
    }

    /// One whole HTTP/1.1 answer to a request with this method.
    #[track_caller]
    pub fn read_answer_to(&mut self, method: &str) -> RawAnswer {
        let mut answer = RawAnswer { head: self.read_head(), body: Vec::new() };
        let status = answer.status();
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        if bodiless {
            return answer;
        }
        if answer.field("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            answer.body = self.read_chunks();
        } else if let Some(length) = answer.field("content-length") {
            answer.body = self.read_exactly(length.parse().unwrap());
        } else {
            answer.body = self.rest().0;
        }
        answer
    }

    /// Everything until the peer ends the connection.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        self.rest_within(PATIENCE)
    }

    /// Everything until the peer ends the connection or `patience` is over.
    pub fn rest_within(&mut self, patience: Duration) -> (Vec<u8>, End) {
        let deadline = Instant::now() + patience;
        let end = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break End::Open;
            }
            match self.read_more(left) {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => break End::Open,
                Err(_) => break End::Cut,
            }
        };
        (std::mem::take(&mut self.ahead), end)
    }

    /// Waits until the peer has ended the connection, whatever it says before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let (bytes, end) = self.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert_ne!(end, End::Open, "the connection should have ended; it said {text:?}");
    }

    /// What has come, at least one byte of it; none when the peer has ended the connection.
    pub fn take_some(&mut self) -> std::io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.read_more(PATIENCE)?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    #[track_caller]
    fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.read_until("\r\n");
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
            if size == 0 {
                while self.read_until("\r\n") != "\r\n" {}
                return body;
            }
            body.extend(self.read_exactly(size));
            assert_eq!(self.read_exactly(2), b"\r\n");
        }
    }

    #[track_caller]
    fn read_more_or_fail(&mut self, waiting_for: &str) {
        let outcome = self.read_more(PATIENCE);
        if !matches!(outcome, Ok(1..)) {
            let seen = String::from_utf8_lossy(&self.ahead);
            panic!("no {waiting_for:?}: {outcome:?} after {seen:?}");
        }
    }

    fn read_more(&mut self, patience: Duration) -> std::io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = match &mut self.io {
            Io::Plain(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.read(&mut buffer)
            }
            Io::Tls(tls) => {
                tls.sock.set_read_timeout(Some(patience))?;
                tls.read(&mut buffer)
            }
        }?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl RawAnswer {
    /// The status code.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let code = self.head.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status in {:?}", self.head))
    }

    /// The value of the first field of this name, in lower case names.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
