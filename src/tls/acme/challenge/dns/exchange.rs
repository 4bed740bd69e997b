//! A message to a name server, and its answer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::Answer;

/// For a datagram and its answer. One may be lost.
const DATAGRAM: Duration = Duration::from_secs(2);

/// For a connection and an answer over it.
const STREAM: Duration = Duration::from_secs(5);

/// The longest datagram that is read: without EDNS none is longer than 512 bytes (RFC 1035 §4.2.1).
const LARGEST: usize = 4096;

/// Sends `message` over TCP and reads the answer; each has its length before it (RFC 1035 §4.2.2).
/// The caller has a deadline.
pub(super) async fn over_tcp(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut stream = TcpStream::connect(server).await.map_err(Broken::Unconnected)?;
    let _ = stream.set_nodelay(true);
    let length = u16::try_from(message.len()).map_err(|_| Broken::TooLong)?;
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await.map_err(Broken::Lost)?;
    let length = stream.read_u16().await.map_err(Broken::Lost)?;
    let mut received = vec![0; usize::from(length)];
    stream.read_exact(&mut received).await.map_err(Broken::Lost)?;
    Ok(received)
}

/// What came between a message and its answer.
#[derive(Debug)]
pub(super) enum Broken {
    TooLong,
    Unconnected(io::Error),
    Lost(io::Error),
}

/// Asks in a datagram, and over TCP where that has no answer or a cut one.
pub(super) async fn ask(server: SocketAddr, query: &[u8]) -> io::Result<Answer> {
    if let Ok(Ok(Some(answer))) = timeout(DATAGRAM, over_udp(server, query)).await {
        return Ok(answer);
    }
    let received = timeout(STREAM, over_tcp(server, query)).await;
    let received = received.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let received = received.map_err(|broken| match broken {
        Broken::TooLong => io::ErrorKind::InvalidInput.into(),
        Broken::Unconnected(error) | Broken::Lost(error) => error,
    })?;
    belonging(&received, query).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `None` when the answer is too long for a datagram; it may be cut anywhere then.
async fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Option<Answer>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut received = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut received).await?;
        let datagram = received.get(..length).unwrap_or_default();
        if Answer::is_cut(datagram) && datagram.get(..2) == query.get(..2) {
            return Ok(None);
        }
        // What does not belong to it was sent by somebody else.
        if let Some(answer) = belonging(datagram, query) {
            return Ok(Some(answer));
        }
    }
}

/// The answer, when it is one to this query.
fn belonging(received: &[u8], query: &[u8]) -> Option<Answer> {
    Answer::parse(received).filter(|answer| query.starts_with(&answer.id))
}

/// A number that nobody guesses who does not see the message.
pub(super) fn number() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness there is no TLS either.
    let _ = rand::fill(&mut bytes);
    u16::from_be_bytes(bytes)
}
