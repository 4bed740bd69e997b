//! Asking a listener whether it speaks HTTP, and understanding what comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a listener turned out to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Plain HTTP/1.
    Http,
    /// TLS: the application has a certificate of its own.
    Tls,
    /// It took the connection and said nothing in time: perhaps an application that is still
    /// starting or compiling.
    Silence,
    /// Something else, or nobody there.
    Other,
}

/// For one application, from the connect to the first bytes of its answer.
const PATIENCE: Duration = Duration::from_millis(500);

const QUESTION: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: portcullis (looking for \
the application)\r\nAccept: */*\r\nConnection: close\r\n\r\n";

/// Asks once, over at most [`PATIENCE`].
pub(super) fn ask(address: SocketAddr) -> Answer {
    let end = Instant::now() + PATIENCE;
    let left = || end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else {
        return Answer::Other;
    };
    let sent = stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(QUESTION));
    if sent.is_err() {
        return Answer::Other;
    }
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while let Some(left) = left() {
        if stream.set_read_timeout(Some(left)).is_err() {
            return Answer::Other;
        }
        match stream.read(&mut piece) {
            Ok(0) if head.is_empty() => return Answer::Other,
            Ok(0) => break,
            Ok(count) => head.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if timed_out(&error) => break,
            Err(_) if head.is_empty() => return Answer::Other,
            Err(_) => break,
        }
        // Only a 400 needs its text to be understood.
        if head.len() > 2048 || head.get(9..12).is_some_and(|status| status != b"400") {
            break;
        }
    }
    classify(&head)
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// What the first bytes of an answer to [`QUESTION`] say about the one who sent them.
fn classify(head: &[u8]) -> Answer {
    const TLS_ALERT: &[u8] = &[0x15, 0x03];
    if head.is_empty() {
        return Answer::Silence;
    }
    if head.starts_with(TLS_ALERT) {
        return Answer::Tls;
    }
    let status = match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', status @ ..] => status,
        _ => return Answer::Other,
    };
    let plausible = matches!(
        status,
        [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ' | b'\r', ..]
            | [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']
    );
    // nginx, Apache httpd and Go's library answer plain HTTP on their TLS ports with this.
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let on_tls_port = ["to https port", "to an https server", "speaking plain http to an ssl"];
    match plausible {
        true if status.starts_with(b"400") && on_tls_port.iter().any(|t| text.contains(t)) => {
            Answer::Tls
        }
        true => Answer::Http,
        false => Answer::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_tells_what_is_spoken() {
        assert_eq!(classify(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"), Answer::Http);
        assert_eq!(classify(b"HTTP/1.0 404 Not Found\r\n"), Answer::Http);
        assert_eq!(classify(b"HTTP/1.1 500\r\n"), Answer::Http);
        assert_eq!(classify(b"\x15\x03\x01\x00\x02\x02\x46"), Answer::Tls);
        let go =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        assert_eq!(classify(go), Answer::Tls);
        let nginx = b"HTTP/1.1 400 Bad Request\r\n\r\n<center>The plain HTTP request was sent to HTTPS port";
        assert_eq!(classify(nginx), Answer::Tls);
        assert_eq!(classify(b"HTTP/1.1 400 Bad Request\r\n\r\nno"), Answer::Http);
        assert_eq!(classify(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Answer::Other);
        assert_eq!(classify(b"HTTP/1.1 abc"), Answer::Other);
        assert_eq!(classify(b"HTTP/2 200 OK"), Answer::Other);
        assert_eq!(classify(b"-ERR unknown command 'GET'\r\n"), Answer::Other);
        assert_eq!(classify(b""), Answer::Silence);
    }

    #[test]
    fn a_listener_is_asked_and_its_answer_understood() {
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = app.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = app.accept().unwrap();
            let mut seen = [0; 512];
            let count = stream.read(&mut seen).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            seen[..count].to_vec()
        });
        assert_eq!(ask(address), Answer::Http);
        assert!(answering.join().unwrap().starts_with(b"GET / HTTP/1.1\r\nHost: localhost\r\n"));
        assert_eq!(ask(address), Answer::Other);
    }
}
