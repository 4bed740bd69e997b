//! The PROXY protocol: an answer does not change when more bytes come, is about bytes that are
//! there, and names the client that a second reading names.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::downstream::proxy_protocol::{MAX_HEADER, Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse(bytes);
    for end in 0..bytes.len().min(64) {
        match parse(&bytes[..end]) {
            Parsed::NeedMore => {}
            early => assert_eq!(early, parsed, "{end} bytes are enough to say something else"),
        }
    }
    match parsed {
        Parsed::NeedMore => assert!(bytes.len() < MAX_HEADER, "a header that never ends"),
        Parsed::Invalid(why) => assert!(!why.is_empty()),
        Parsed::Header { consumed, source } => {
            assert!(consumed <= bytes.len() && consumed <= MAX_HEADER);
            let header = &bytes[..consumed];
            assert_eq!(parse(header), parsed, "what follows the header matters");
            if header.starts_with(b"PROXY ") {
                check_line(header, source);
            } else {
                check_block(header, source);
            }
            if let Some(source) = source {
                assert_eq!(source.ip(), source.ip().to_canonical());
            }
        }
    }
});

fn check_line(header: &[u8], source: Option<SocketAddr>) {
    let line = header.strip_suffix(b"\r\n").expect("a line ends with CRLF");
    let line = std::str::from_utf8(line).expect("a line is text");
    let words: Vec<&str> = line.split(' ').collect();
    match (words.as_slice(), source) {
        (["PROXY", "UNKNOWN", ..], None) => {}
        (["PROXY", "TCP4" | "TCP6", from, _, port, _], Some(source)) => {
            let address: IpAddr = from.parse().expect("an address");
            assert_eq!(address.to_canonical(), source.ip());
            assert_eq!(*port, source.port().to_string());
        }
        other => panic!("{other:?}"),
    }
}

fn check_block(header: &[u8], source: Option<SocketAddr>) {
    assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(header.len(), 16 + usize::from(u16::from_be_bytes([header[14], header[15]])));
    let (address, port): (IpAddr, _) = match (header[12], header[13]) {
        (0x20, _) | (0x21, 0x00 | 0x31) => return assert_eq!(source, None),
        (0x21, 0x11) => {
            (<[u8; 4]>::try_from(&header[16..20]).expect("four").into(), &header[24..26])
        }
        (0x21, 0x21) => {
            (<[u8; 16]>::try_from(&header[16..32]).expect("sixteen").into(), &header[48..50])
        }
        other => panic!("{other:x?}"),
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    assert_eq!(source, Some(SocketAddr::new(address.to_canonical(), port)));
}
