//! The PROXY protocol, versions 1 and 2: who the client of a trusted balancer is
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

/// The longest header that is read, in bytes; TLVs beyond are no use to us.
pub const MAX_HEADER: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    NeedMore,
    /// A whole header.
    Header {
        /// Its length in bytes; what follows belongs to the client.
        consumed: usize,
        /// The client, where the header names one: not for health checks (`LOCAL`), `UNKNOWN`
        /// and unix sockets. Never an IPv4-mapped IPv6 address.
        source: Option<SocketAddr>,
    },
    /// No header; the reason is fit for a log line.
    Invalid(&'static str),
}

/// Reads a header from the first bytes of a connection, never past its end.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    if begins(bytes, SIGNATURE) {
        parse_v2(bytes)
    } else if begins(bytes, b"PROXY ") {
        parse_v1(bytes)
    } else {
        Parsed::Invalid("the connection does not begin with a PROXY header")
    }
}

/// Between two looks at a header that has begun to come: it fits into one segment, so that this
/// hardly ever happens.
const PEEK_PAUSE: Duration = Duration::from_millis(5);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 1 with its line end.
const MAX_LINE: usize = 107;

/// Version 2 before the addresses.
const FIXED: usize = 16;

/// Whether `bytes` begins with `start`, as far as there is anything of it.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let window = bytes.get(..MAX_LINE).unwrap_or(bytes);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_LINE {
            Parsed::NeedMore
        } else {
            Parsed::Invalid("the PROXY line is longer than 107 bytes")
        };
    };
    let line = window.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(source_of_line) {
        Some(source) => Parsed::Header { consumed: end + 2, source },
        None => Parsed::Invalid("the PROXY line cannot be read"),
    }
}

/// `PROXY TCP4 source destination port port`; `PROXY UNKNOWN` and whatever follows.
fn source_of_line(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse().map(IpAddr::V4).ok(),
            "TCP6" => word.parse().map(IpAddr::V6).ok(),
            _ => None,
        }
    };
    let (source, _destination) = (address()?, address()?);
    let (port, _port) = (parse_port(words.next()?)?, parse_port(words.next()?)?);
    words.next().is_none().then_some(Some(SocketAddr::new(source.to_canonical(), port)))
}

fn parse_port(word: &str) -> Option<u16> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (word == "0" || !word.starts_with('0'));
    if plain { word.parse().ok() } else { None }
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Parsed::NeedMore };
    let [.., version_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let consumed = FIXED + length;
    if version_command >> 4 != 2 {
        return Parsed::Invalid("the PROXY header is of an unknown version");
    }
    if consumed > MAX_HEADER {
        return Parsed::Invalid("the PROXY header is longer than 4096 bytes");
    }
    let Some(rest) = bytes.get(FIXED..consumed) else { return Parsed::NeedMore };
    let source = match version_command & 0xf {
        0 => Ok(None),
        1 => source_of_block(family, rest),
        _ => Err("the PROXY header has an unknown command"),
    };
    match source {
        Ok(source) => Parsed::Header { consumed, source },
        Err(reason) => Parsed::Invalid(reason),
    }
}

/// Addresses and TLVs of the command `PROXY`.
fn source_of_block(family: u8, block: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const SHORT: &str = "the addresses of the PROXY header are cut short";
    let (source, tlvs) = match family {
        0x00 => return Ok(None),
        0x11 => {
            let (addresses, tlvs) = block.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            (Some(endpoint(Ipv4Addr::new(a, b, c, d).into(), [high, low])), tlvs)
        }
        0x21 => {
            let (addresses, tlvs) = block.split_first_chunk::<36>().ok_or(SHORT)?;
            let source = addresses.first_chunk::<16>().ok_or(SHORT)?;
            let [.., high, low, _, _] = *addresses;
            (Some(endpoint(Ipv6Addr::from(*source).into(), [high, low])), tlvs)
        }
        0x31 => (None, block.split_first_chunk::<216>().ok_or(SHORT)?.1),
        _ => return Err("the PROXY header is for another transport than TCP or unix streams"),
    };
    check_tlvs(tlvs)?;
    Ok(source)
}

fn endpoint(address: IpAddr, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), u16::from_be_bytes(port))
}

/// We use none of them, but a header whose parts do not add up was not written by a balancer.
fn check_tlvs(mut tlvs: &[u8]) -> Result<(), &'static str> {
    while let [_type, high, low, rest @ ..] = tlvs {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        tlvs = rest.get(length..).ok_or("a TLV of the PROXY header runs past its end")?;
    }
    if tlvs.is_empty() { Ok(()) } else { Err("a TLV of the PROXY header runs past its end") }
}

/// Takes the header from the front of `socket`, and nothing beyond it; who the client is, where
/// it says so.
///
/// # Errors
/// When there is none, or the connection breaks. To be called under a deadline.
pub async fn read(socket: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut seen = vec![0; MAX_HEADER];
    let mut before = 0;
    loop {
        let n = socket.peek(&mut seen).await?;
        match parse(seen.get(..n).unwrap_or_default()) {
            Parsed::Header { consumed, source } => {
                let header = seen.get_mut(..consumed).unwrap_or_default();
                let taken = socket.try_read(header)?;
                debug_assert_eq!(taken, consumed, "what was peeked at is there to be read");
                return Ok(source);
            }
            Parsed::Invalid(reason) => return Err(io::Error::new(ErrorKind::InvalidData, reason)),
            Parsed::NeedMore if n == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            // A peek at the same bytes returns at once: the rest is on its way.
            Parsed::NeedMore if n == before => tokio::time::sleep(PEEK_PAUSE).await,
            Parsed::NeedMore => before = n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap();
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[command, family]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(block);
        bytes
    }

    const V4: [u8; 12] = [1, 2, 3, 4, 10, 0, 0, 1, 0x16, 0x2e, 1, 0xbb];

    fn v6(source: &str) -> Vec<u8> {
        let mut block = source.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        block.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        block.extend_from_slice(&[0x16, 0x2e, 1, 0xbb]);
        block
    }

    fn source(bytes: &[u8]) -> String {
        match parse(bytes) {
            Parsed::Header { consumed, source } => {
                assert_eq!(consumed, bytes.len(), "all of it and no more");
                source.map_or_else(|| "none".to_owned(), |source| source.to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_1() {
        for (line, expected) in [
            ("PROXY TCP4 1.2.3.4 10.0.0.1 5678 443\r\n", "1.2.3.4:5678"),
            ("PROXY TCP6 2001:db8::7 ::1 5678 443\r\n", "[2001:db8::7]:5678"),
            ("PROXY TCP6 ::ffff:1.2.3.4 ::1 5678 443\r\n", "1.2.3.4:5678"),
            ("PROXY TCP4 1.2.3.4 10.0.0.1 0 65535\r\n", "1.2.3.4:0"),
            ("PROXY UNKNOWN\r\n", "none"),
            ("PROXY UNKNOWN whatever else\r\n", "none"),
        ] {
            assert_eq!(source(line.as_bytes()), expected, "{line}");
            for end in 0..line.len() {
                assert_eq!(parse(&line.as_bytes()[..end]), Parsed::NeedMore, "{end} of {line}");
            }
        }
    }

    #[test]
    fn version_1_is_strict() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(long.len(), 108);
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXYTCP4 1.2.3.4 10.0.0.1 5678 443\r\n",
            "proxy TCP4 1.2.3.4 10.0.0.1 5678 443\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 5678\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 5678 443 x\r\n",
            "PROXY TCP4 1.2.3.4  10.0.0.1 5678 443\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 5678 65536\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 05678 443\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 +678 443\r\n",
            "PROXY TCP4 1.2.3 10.0.0.1 5678 443\r\n",
            "PROXY TCP4 ::1 ::1 5678 443\r\n",
            "PROXY TCP6 1.2.3.4 10.0.0.1 5678 443\r\n",
            "PROXY UDP4 1.2.3.4 10.0.0.1 5678 443\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 5678 443\n\r\n",
            long.as_str(),
        ] {
            assert!(matches!(parse(line.as_bytes()), Parsed::Invalid(_)), "{line:?}");
        }
        assert!(matches!(parse(b"PROXY TCP4 \xff\r\n"), Parsed::Invalid(_)));
    }

    #[test]
    fn version_2() {
        let mut with_tlvs = V4.to_vec();
        with_tlvs.extend_from_slice(&[0x04, 0, 3, 1, 2, 3, 0x20, 0, 0]);
        for (bytes, expected) in [
            (v2(0x21, 0x11, &V4), "1.2.3.4:5678"),
            (v2(0x21, 0x11, &with_tlvs), "1.2.3.4:5678"),
            (v2(0x21, 0x21, &v6("2001:db8::7")), "[2001:db8::7]:5678"),
            (v2(0x21, 0x21, &v6("::ffff:1.2.3.4")), "1.2.3.4:5678"),
            (v2(0x21, 0x31, &[7; 216]), "none"),
            (v2(0x21, 0x00, b"anything"), "none"),
            (v2(0x20, 0x00, b""), "none"),
            (v2(0x20, 0x11, &V4), "none"),
            (v2(0x20, 0xff, b"\x01\xff\xff"), "none"),
        ] {
            assert_eq!(source(&bytes), expected, "{bytes:?}");
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Parsed::NeedMore, "{end} of {bytes:?}");
            }
        }
    }

    #[test]
    fn version_2_is_strict() {
        let mut past_end = V4.to_vec();
        past_end.extend_from_slice(&[0x04, 0, 4, 1, 2, 3]);
        let mut half_tlv = V4.to_vec();
        half_tlv.extend_from_slice(&[0x04, 0]);
        for bytes in [
            v2(0x11, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x22, &v6("::1")),
            v2(0x21, 0x41, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x11, &past_end),
            v2(0x21, 0x11, &half_tlv),
            v2(0x21, 0x00, &[0; MAX_HEADER - FIXED + 1]),
            b"\r\n\r\nGET / HTTP/1.1\r\n".to_vec(),
        ] {
            assert!(matches!(parse(&bytes), Parsed::Invalid(_)), "{bytes:?}");
        }
        assert_eq!(source(&v2(0x21, 0x00, &[0; MAX_HEADER - FIXED])), "none");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_judged_within_its_bounds(
            start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0"]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
            more in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let bytes = [start, &rest].concat();
            let verdict = parse(&bytes);
            match verdict {
                Parsed::Header { consumed, .. } => {
                    prop_assert!(consumed <= bytes.len());
                    prop_assert_eq!(parse(&bytes[..consumed]), verdict);
                    prop_assert_eq!(parse(&[&bytes[..], &more].concat()), verdict);
                }
                Parsed::Invalid(_) => {
                    let longer = parse(&[&bytes[..], &more].concat());
                    prop_assert!(matches!(longer, Parsed::Invalid(_)));
                }
                Parsed::NeedMore => prop_assert!(bytes.len() < MAX_HEADER),
            }
        }

        /// As a balancer writes it, of either version; the client's own bytes follow.
        #[test]
        fn what_a_balancer_says_is_understood_and_only_once_it_is_whole(
            source: SocketAddr, destination: SocketAddr, is_v2: bool,
            tlvs in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..4),
            behind: Vec<u8>,
        ) {
            let (source, destination) = match (source, destination) {
                (SocketAddr::V6(_), SocketAddr::V4(to)) => {
                    (source, SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()))
                }
                (SocketAddr::V4(_), SocketAddr::V6(to)) => {
                    (source, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port()))
                }
                same => same,
            };
            let bytes = |address: SocketAddr| match address.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let header = if is_v2 {
                let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
                let mut block = [bytes(source), bytes(destination), ports].concat();
                for (kind, value) in &tlvs {
                    block.push(*kind);
                    block.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
                    block.extend(value);
                }
                v2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &block)
            } else {
                let family = if source.is_ipv4() { 4 } else { 6 };
                let (from, to) = (source.ip(), destination.ip());
                let (port, to_port) = (source.port(), destination.port());
                format!("PROXY TCP{family} {from} {to} {port} {to_port}\r\n").into_bytes()
            };
            let told = parse(&[&header[..], &behind].concat());
            let wanted = SocketAddr::new(source.ip().to_canonical(), source.port());
            prop_assert_eq!(told, Parsed::Header { consumed: header.len(), source: Some(wanted) });
            for cut in 0..header.len() {
                prop_assert_eq!(parse(&header[..cut]), Parsed::NeedMore);
            }
        }
    }
}
