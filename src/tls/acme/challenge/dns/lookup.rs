//! Questions to the name servers of this host: over UDP, and over TCP where the answer is too long
//! for that (RFC 1035 §4.2, RFC 7766). The C library answers for addresses alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::message::{Answer, CAA, Name, question};
use super::{NAME_UNKNOWN, exchange};

/// For one server.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the servers are listed (resolv.conf(5)).
const FILE: &str = "/etc/resolv.conf";

/// The most servers that are asked, as by the C library.
const MOST: usize = 3;

/// The code of a server that cannot find out (RFC 1035 §4.1.1).
const FAILURE: u8 = 2;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// A server says that it cannot find out.
    Failing,
    /// None answers us.
    Silent,
}

/// The servers that this host asks; none where that may not be read.
#[must_use]
pub fn servers() -> Vec<SocketAddr> {
    std::fs::read_to_string(FILE).map(|text| listed(&text)).unwrap_or_default()
}

fn listed(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next());
        Some(SocketAddr::new(address?.parse().ok()?, 53))
    });
    let named: Vec<_> = named.take(MOST).collect();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    if named.is_empty() { vec![local] } else { named }
}

/// The data of the CAA records of `name` (RFC 8659 §4.1), to which an alias may have led.
///
/// # Errors
/// When no server answers, or one says that it cannot.
pub async fn caa(servers: &[SocketAddr], name: &str) -> Result<Vec<Vec<u8>>, Unanswered> {
    let name = Name::parse(name).ok_or(Unanswered::Silent)?;
    let mut why = Unanswered::Silent;
    for server in servers {
        let mut id = [0; 2];
        rand::fill(&mut id).map_err(|_| Unanswered::Silent)?;
        let message = question(u16::from_be_bytes(id), &name, CAA);
        match timeout(PATIENCE, ask(*server, &message)).await {
            Ok(Some(answer)) if matches!(answer.code, 0 | NAME_UNKNOWN) => {
                let records = answer.records.into_iter().filter(|record| record.kind == CAA);
                return Ok(records.map(|record| record.data).collect());
            }
            Ok(Some(answer)) if answer.code == FAILURE => why = Unanswered::Failing,
            Ok(Some(_) | None) | Err(_) => {}
        }
    }
    Err(why)
}

async fn ask(server: SocketAddr, message: &[u8]) -> Option<Answer> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    // Nobody else is heard then.
    socket.connect(server).await.ok()?;
    socket.send(message).await.ok()?;
    let of_ours =
        |received: &[u8]| Answer::parse(received).filter(|answer| message.starts_with(&answer.id));
    let mut received = vec![0; 4096];
    let truncated = loop {
        let length = socket.recv(&mut received).await.ok()?;
        let datagram = received.get(..length).unwrap_or_default();
        if Answer::is_cut(datagram) && datagram.get(..2) == message.get(..2) {
            break true;
        }
        if let Some(answer) = of_ours(datagram) {
            return Some(answer);
        }
    };
    let received = if truncated { exchange(server, message).await.ok()? } else { Vec::new() };
    of_ours(&received)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn servers_are_listed_as_the_c_library_reads_them() {
        let of = |text: &str| {
            listed(text).iter().map(|at| at.ip().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            of("# x\nsearch a.de\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \n"),
            "192.0.2.1 2001:db8::1"
        );
        assert_eq!(
            of("nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4"),
            "1.1.1.1 2.2.2.2 3.3.3.3"
        );
        assert_eq!(of("nameserver nonsense\n"), "127.0.0.1");
    }

    /// An answer to `question` with this code, flags and CAA record.
    fn answer(question: &[u8], flags: u16, record: Option<&[u8]>) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
        message[7] = u8::from(record.is_some());
        if let Some(data) = record {
            message.extend(b"\xc0\x0c\x01\x01\0\x01\0\0\0\x3c");
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(data);
        }
        message
    }

    /// A server over UDP that answers once by `how`.
    async fn server(how: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let place = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = vec![0; 512];
            let (length, from) = socket.recv_from(&mut question).await.unwrap();
            socket.send_to(b"junk", from).await.unwrap();
            socket.send_to(&how(&question[..length]), from).await.unwrap();
        });
        place
    }

    const RECORD: &[u8] = b"\0\x05issueca.test";

    #[tokio::test]
    async fn a_record_is_found_or_there_is_none() {
        let place = server(|question| answer(question, 0, Some(RECORD))).await;
        assert_eq!(caa(&[place], "shop.de").await, Ok(vec![RECORD.to_vec()]));
        for code in [0, 3] {
            let place = server(move |question| answer(question, code, None)).await;
            assert_eq!(caa(&[place], "shop.de").await, Ok(Vec::new()));
        }
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_fails() {
        let failing = server(|question| answer(question, 2, None)).await;
        let other = server(|question| answer(question, 0, Some(RECORD))).await;
        assert_eq!(caa(&[failing, other], "shop.de").await, Ok(vec![RECORD.to_vec()]));
        let failing = server(|question| answer(question, 2, None)).await;
        assert_eq!(caa(&[failing], "shop.de").await, Err(Unanswered::Failing));
        let refusing = server(|question| answer(question, 5, None)).await;
        assert_eq!(caa(&[refusing], "shop.de").await, Err(Unanswered::Silent));
        assert_eq!(caa(&[], "shop.de").await, Err(Unanswered::Silent));
    }

    #[tokio::test]
    async fn a_cut_answer_is_asked_for_over_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(place).await.unwrap();
        tokio::spawn(async move {
            let mut question = vec![0; 512];
            let (length, from) = socket.recv_from(&mut question).await.unwrap();
            // Cut in the middle of a record.
            let mut cut = answer(&question[..length], 0x200, Some(RECORD));
            cut.truncate(cut.len() - 4);
            socket.send_to(&cut, from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await.unwrap();
            let whole = answer(&question, 0, Some(RECORD));
            stream.write_u16(u16::try_from(whole.len()).unwrap()).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        });
        assert_eq!(caa(&[place], "shop.de").await, Ok(vec![RECORD.to_vec()]));
    }
}
