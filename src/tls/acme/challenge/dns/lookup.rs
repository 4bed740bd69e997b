//! Questions for CAA records to the name servers of this host: the C library answers for addresses
//! alone.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::exchange::{ask, number};
use super::look::NAME_UNKNOWN;
pub use super::look::servers;
use super::message::{CAA, Name, recursive_query};

/// For one server.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// The data of the CAA records of `name` (RFC 8659 §4.1), to which an alias may have led.
///
/// # Errors
/// When no server answers, or one says that it cannot.
pub async fn caa(servers: &[SocketAddr], name: &str) -> Result<Vec<Vec<u8>>, Unanswered> {
    let name = Name::parse(name).ok_or(Unanswered::Silent)?;
    let mut why = Unanswered::Silent;
    for server in servers {
        let query = recursive_query(number(), &name, CAA);
        match timeout(PATIENCE, ask(*server, &query)).await {
            Ok(Ok(answer)) if matches!(answer.code, 0 | NAME_UNKNOWN) => {
                let records = answer.records.into_iter().filter(|record| record.kind == CAA);
                return Ok(records.map(|record| record.data).collect());
            }
            Ok(Ok(answer)) if answer.code == FAILURE => why = Unanswered::Failing,
            Ok(_) | Err(_) => {}
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

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
