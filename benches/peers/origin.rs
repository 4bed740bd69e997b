//! The application behind every proxy: as little work as HTTP/1.1 allows.
//!
//! A GET is answered with a hundred bytes, `/1m` with one MiB, a POST once its body has been read.
//! `/counts` tells what has been served: the bench divides by these counts, so that the unit of
//! work means the same whichever load generator made it.

use std::cell::Cell;
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as BlockingStream};
use std::process::Stdio;
use std::rc::Rc;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;
use crate::launch::{self, Running};

/// One MiB: what `/1m` sends and what an upload carries.
pub(crate) const MIB: usize = 1 << 20;

/// The body of every other answer, 100 bytes.
const SMALL: &str = "A small answer, as an application gives it: a hundred bytes and nothing \
                     that anyone has to think of.\n";

/// Longer heads than this are nobody's here.
const BUFFER: usize = 64 * 1024;

/// What the origin has served so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Answers given.
    pub(crate) requests: u64,
    /// Bytes of large bodies sent.
    pub(crate) sent: u64,
    /// Bytes of bodies received.
    pub(crate) received: u64,
}

/// The origin seen from the bench: a process, and a connection that asks it for its counts.
pub(crate) struct Origin {
    address: SocketAddr,
    counts: BlockingStream,
    _process: Running,
}

impl Origin {
    /// Starts this program in its [`serve`] role on `cpu`.
    pub(crate) fn start(cpu: usize) -> Result<Origin> {
        let mut command = launch::on_cpu(cpu, std::env::current_exe()?)?;
        let command = command.arg("origin").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Running::start(command)?;
        let stdout = process.child().stdout.take().ok_or("the origin has no stdout")?;
        let mut address = String::new();
        io::BufReader::new(stdout).read_line(&mut address)?;
        let address = address.trim().parse()?;
        Ok(Origin { address, counts: BlockingStream::connect(address)?, _process: process })
    }

    /// Where proxies find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for the counts.
    pub(crate) fn counts(&mut self) -> Result<Counts> {
        self.counts.write_all(b"GET /counts HTTP/1.1\r\n\r\n")?;
        let mut answer = [0; 1024];
        let length = self.counts.read(&mut answer)?;
        let text = std::str::from_utf8(answer.get(..length).unwrap_or_default())?;
        let (_, body) = text.split_once("\r\n\r\n").ok_or("the origin's counts are cut short")?;
        let mut numbers = body.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        Ok(Counts { requests: next()?, sent: next()?, received: next()? })
    }
}

/// The role: prints the address on stdout and serves until killed.
pub(crate) fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        let site = Rc::new(Site::new());
        loop {
            let (stream, _) = listener.accept().await?;
            let site = Rc::clone(&site);
            tokio::task::spawn_local(async move { site.converse(stream).await });
        }
    })
}

struct Site {
    small: Vec<u8>,
    large: Vec<u8>,
    counts: Cell<Counts>,
}

impl Site {
    fn new() -> Site {
        let mut large = head(MIB).into_bytes();
        large.resize(large.len() + MIB, b'm');
        let small = (head(SMALL.len()) + SMALL).into_bytes();
        Site { small, large, counts: Cell::default() }
    }

    /// Answers one request after the other until the proxy closes the connection.
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; BUFFER];
        let mut filled = 0;
        loop {
            let Some(end) = memmem::find(buffer.get(..filled).unwrap_or_default(), b"\r\n\r\n")
            else {
                match stream.read(buffer.get_mut(filled..).unwrap_or_default()).await? {
                    0 => return Ok(()),
                    length => filled += length,
                }
                continue;
            };
            let end = end + 4;
            let request = Request::parse(buffer.get(..end).unwrap_or_default())?;
            let early = request.body.min(filled - end);
            buffer.copy_within(end + early..filled, 0);
            filled -= end + early;
            self.count(0, early, 0);
            self.receive(&mut stream, &mut buffer, filled, request.body - early).await?;
            self.answer(&mut stream, request.wanted).await?;
        }
    }

    /// Reads the rest of a body; what is `filled` already belongs to the next request.
    async fn receive(
        &self,
        stream: &mut TcpStream,
        buffer: &mut [u8],
        filled: usize,
        mut rest: usize,
    ) -> io::Result<()> {
        while rest > 0 {
            let room = buffer.len().saturating_sub(filled).min(rest);
            let room = buffer.get_mut(filled..filled + room).unwrap_or_default();
            match stream.read(room).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => {
                    rest -= length;
                    self.count(0, length, 0);
                }
            }
        }
        Ok(())
    }

    async fn answer(&self, stream: &mut TcpStream, wanted: Wanted) -> io::Result<()> {
        match wanted {
            Wanted::Small => stream.write_all(&self.small).await?,
            Wanted::Counts => {
                let Counts { requests, sent, received } = self.counts.get();
                let body = format!("{requests} {sent} {received}");
                return stream.write_all((head(body.len()) + &body).as_bytes()).await;
            }
            Wanted::Large => {
                let mut rest = self.large.as_slice();
                while !rest.is_empty() {
                    let length = stream.write(rest).await?;
                    rest = rest.get(length..).unwrap_or_default();
                    self.count(0, 0, length);
                }
            }
        }
        self.count(1, 0, 0);
        Ok(())
    }

    fn count(&self, requests: u64, received: usize, sent: usize) {
        let mut counts = self.counts.get();
        counts.requests += requests;
        counts.received += received as u64;
        counts.sent += sent as u64;
        self.counts.set(counts);
    }
}

enum Wanted {
    Small,
    Large,
    Counts,
}

struct Request {
    wanted: Wanted,
    /// Bytes that follow the head.
    body: usize,
}

impl Request {
    /// Refuses what the bench never sends, a chunked body for instance, by ending the connection:
    /// the proxy then answers 502 and the load generator reports it.
    fn parse(head: &[u8]) -> io::Result<Request> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(head).map_err(io::Error::other)?;
        let wanted = match request.path {
            Some("/1m") => Wanted::Large,
            Some("/counts") => Wanted::Counts,
            _ => Wanted::Small,
        };
        let mut body = 0;
        for field in request.headers {
            if field.name.eq_ignore_ascii_case("content-length") {
                let length = std::str::from_utf8(field.value).map_err(io::Error::other)?;
                body = length.parse().map_err(io::Error::other)?;
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
        Ok(Request { wanted, body })
    }
}

fn head(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    )
}
