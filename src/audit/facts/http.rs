//! What a listener answers to plain HTTP.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use super::ask::{Call, read_until};

/// The answer to `GET /`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The name that was asked for, in `Host`.
    pub host: String,
    /// The status code.
    pub status: u16,
    /// `Location`.
    pub location: Option<String>,
    /// `Strict-Transport-Security` (RFC 6797 §6.1).
    pub hsts: Option<String>,
    /// Whether it asks for a password (RFC 9110 §11.6.1).
    pub challenges: bool,
}

/// Names asked for at most, one after the other within one patience.
const NAMES: usize = 4;

/// Heads larger than this are no application's that anybody knows.
const LARGEST: usize = 16 << 10;

impl HttpAnswer {
    /// Whether the client is sent to the same place on HTTPS, or elsewhere on it.
    #[must_use]
    pub fn leads_to_https(&self) -> bool {
        let https = |url: &String| url.get(..8).is_some_and(|s| s.eq_ignore_ascii_case("https://"));
        (300..400).contains(&self.status) && self.location.as_ref().is_some_and(https)
    }

    /// How bad it is on port 80, the worst greatest.
    fn badness(&self) -> u8 {
        match self.status {
            _ if self.leads_to_https() => 0,
            400..=499 if !self.challenges => 1,
            _ => 2,
        }
    }
}

/// Asks for each of `names`, or for `localhost` where none is known or the port is an application's
/// own; the worst answer is returned.
pub(super) fn ask(address: SocketAddr, names: &[String], end: Instant) -> Option<HttpAnswer> {
    let localhost = ["localhost".to_owned()];
    let is_web = address.port() == 80;
    let names = if is_web && !names.is_empty() { names } else { &localhost[..] };
    ask_for(address, names, end)
}

fn ask_for(address: SocketAddr, names: &[String], end: Instant) -> Option<HttpAnswer> {
    let answers = names.iter().take(NAMES).filter_map(|name| {
        let mut call = Call::to(address, end).ok()?;
        exchange(&mut call, name)
    });
    answers.max_by_key(HttpAnswer::badness)
}

/// Puts the question on a stream that is there, plain or sealed.
pub(super) fn exchange(stream: &mut (impl Read + Write), name: &str) -> Option<HttpAnswer> {
    let question = format!(
        "GET / HTTP/1.1\r\nHost: {name}\r\nUser-Agent: portcullis-audit\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(question.as_bytes()).ok()?;
    stream.flush().ok()?;
    let head =
        read_until(stream, LARGEST, |read| memchr::memmem::find(read, b"\r\n\r\n").is_some());
    understand(&head, name)
}

fn understand(head: &[u8], name: &str) -> Option<HttpAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(head).ok()?;
    let status = response.code?;
    let field = |name: &str| {
        let field = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(field.value).into_owned())
    };
    Some(HttpAnswer {
        host: name.to_owned(),
        status,
        location: field("location"),
        hsts: field("strict-transport-security"),
        challenges: status == 401 || field("www-authenticate").is_some(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_is_understood() {
        let head = b"HTTP/1.1 308 Permanent Redirect\r\nLOCATION: HTTPS://a.test/\r\n\
            Strict-Transport-Security: max-age=1\r\n\r\n";
        let answer = understand(head, "a.test").unwrap();
        assert!(answer.leads_to_https());
        assert_eq!((answer.status, answer.hsts.as_deref()), (308, Some("max-age=1")));
        let plain = understand(b"HTTP/1.0 301 Moved\r\nLocation: http://a.test/\r\n\r\n", "");
        assert!(!plain.unwrap().leads_to_https());
        let locked = understand(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n\r\n", "").unwrap();
        assert!(locked.challenges && locked.badness() == 2);
        for nonsense in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"-ERR\r\n", b"HTTP/1.1 x\r\n\r\n"] {
            assert_eq!(understand(nonsense, ""), None);
        }
    }

    #[test]
    fn of_several_names_the_worst_answer_counts() {
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = app.local_addr().unwrap();
        let answering = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = app.accept().unwrap();
                let head = read_until(&mut stream, 4096, |read| read.ends_with(b"\r\n\r\n"));
                let good = String::from_utf8_lossy(&head).contains("Host: good.test");
                let answer = if good {
                    "HTTP/1.1 308 x\r\nLocation: https://good.test/\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\n\r\n"
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let names = ["good.test".to_owned(), "bad.test".to_owned()];
        let end = Instant::now() + Duration::from_secs(10);
        let answer = ask_for(address, &names, end).unwrap();
        assert_eq!((&*answer.host, answer.status), ("bad.test", 200));
        answering.join().unwrap();
    }
}
