//! Whether a listener still speaks TLS 1.0 or 1.1, which the TLS library here does not: one
//! hand-made ClientHello (RFC 4346 §7.4.1.2) and the first bytes of what comes back.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use super::ask::Call;

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A ServerHello: it speaks the old version.
    Old,
    /// An alert: it speaks TLS, but not that one.
    Refused,
    /// Something else, or nothing.
    Other,
}

/// Asks for TLS 1.1 at most.
pub(super) fn answers(address: SocketAddr, name: &str, end: Instant) -> Answer {
    let Ok(mut call) = Call::to(address, end) else { return Answer::Other };
    if call.write_all(&hello(name)).is_err() {
        return Answer::Other;
    }
    // A record's head, and the head and version of the message in it.
    classify(&call.read_until(11, |read| read.len() >= 11 || read.starts_with(&[ALERT])))
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const TLS_1_1: [u8; 2] = [3, 2];

fn classify(read: &[u8]) -> Answer {
    match read {
        [HANDSHAKE, 3, _, _, _, SERVER_HELLO, _, _, _, 3, 1 | 2, ..] => Answer::Old,
        [ALERT, 3, ..] => Answer::Refused,
        _ => Answer::Other,
    }
}

/// Suites of that time: ECDHE and RSA with AES in CBC mode, and 3DES.
const SUITES: &[u16] = &[0xc00a, 0xc014, 0xc009, 0xc013, 0x0035, 0x002f, 0x000a];

fn hello(name: &str) -> Vec<u8> {
    let mut extensions = Vec::new();
    if !name.is_empty() {
        let entry = [&[0][..], &sized(name.as_bytes())].concat();
        extension(&mut extensions, 0, &sized(&entry));
    }
    // Supported groups P-256 and P-384, and uncompressed points (RFC 8422 §5.1).
    extension(&mut extensions, 10, &[0, 4, 0, 23, 0, 24]);
    extension(&mut extensions, 11, &[1, 0]);
    let suites: Vec<u8> = SUITES.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let mut body = TLS_1_1.to_vec();
    // Nothing is kept secret in this handshake, which is never finished.
    body.extend([0x5a; 32]);
    body.push(0);
    body.extend(sized(&suites));
    body.extend([1, 0]);
    body.extend(sized(&extensions));
    let message = [&[1, 0][..], &sized(&body)].concat();
    [&[HANDSHAKE, 3, 1][..], &sized(&message)].concat()
}

fn extension(to: &mut Vec<u8>, number: u16, body: &[u8]) {
    to.extend(number.to_be_bytes());
    to.extend(sized(body));
}

/// With its length in two bytes in front. A name has at most 253 bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(classify(&[22, 3, 2, 0, 86, 2, 0, 0, 82, 3, 2]), Answer::Old);
        assert_eq!(classify(&[22, 3, 1, 0, 86, 2, 0, 0, 82, 3, 1]), Answer::Old);
        assert_eq!(classify(&[22, 3, 3, 0, 86, 2, 0, 0, 82, 3, 3]), Answer::Other);
        assert_eq!(classify(&[21, 3, 2, 0, 2, 2, 70]), Answer::Refused);
        assert_eq!(classify(b"HTTP/1.1 400"), Answer::Other);
        assert_eq!(classify(b""), Answer::Other);
    }

    #[test]
    fn the_lengths_of_the_hello_agree() {
        for name in ["", "a.test"] {
            let hello = hello(name);
            let at = |index: usize| usize::from(hello[index]) << 8 | usize::from(hello[index + 1]);
            assert_eq!(at(3), hello.len() - 5, "{name}");
            assert_eq!(at(7), hello.len() - 9, "{name}");
        }
    }
}
