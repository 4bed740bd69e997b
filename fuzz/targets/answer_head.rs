//! Heads of applications' answers: one that is not whole is nothing yet, one that is means the same
//! to a second reader, and nothing of it that ends at this hop goes on.
//!
//! The first byte chooses the method of the request, the rest is what the application sends.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::messages::Plain;
use portcullis_fuzz::upstream::response::{Framing, HEAD, Head, parse};

fuzz_target!(|input: &[u8]| {
    let [choice, text @ ..] = input else { return };
    let method = [Method::GET, Method::HEAD, Method::POST][usize::from(choice % 3)].clone();
    let text = Bytes::copy_from_slice(text);
    let mut fields = HeaderMap::new();
    let Ok(Some(head)) = parse(&text, &method, &mut fields) else { return };
    assert!(head.length <= text.len() && head.length <= HEAD + fields.len());
    for end in [head.length - 1, head.length / 2, head.length.saturating_sub(3)] {
        let early = parse(&text.slice(..end), &method, &mut HeaderMap::new());
        assert!(matches!(early, Ok(None)), "{end} of {} bytes give {early:?}", head.length);
    }
    check(&head, &fields, &method, &text[..head.length]);
});

fn check(head: &Head, fields: &HeaderMap, method: &Method, text: &[u8]) {
    let plain = Plain::read(text);
    let status = head.status.as_u16();
    assert!((100..600).contains(&status));
    assert_eq!(std::str::from_utf8(&plain.target), Ok(head.status.as_str()));
    let all = |wanted: &[u8]| -> Vec<&[u8]> {
        plain.fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &**value).collect()
    };
    let (lengths, codings) = (all(b"content-length"), all(b"transfer-encoding"));
    assert!(
        codings.len() <= 1 && lengths.iter().all(|length| number(length) == number(lengths[0]))
    );
    let is_empty = status < 200 || matches!(status, 204 | 304) || method == Method::HEAD;
    let framing = match (lengths.first(), codings.first()) {
        _ if is_empty => Framing::Empty,
        (_, Some(coding)) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
            Framing::Chunked
        }
        (Some(length), None) => match number(length) {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => panic!("a length that is no number"),
        },
        (None, None) => Framing::Close,
    };
    assert_eq!(head.framing, framing);
    if framing == Framing::Close || plain.method == b"HTTP/1.0" || status == 101 {
        assert!(!head.keep_alive);
    }
    if status == 101 {
        return;
    }
    for name in
        ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"]
    {
        assert!(!fields.contains_key(name), "{name} goes on");
    }
    assert!(fields.get_all("content-length").iter().count() <= 1);
    for (name, value) in fields {
        let is_plain = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        assert!(value.as_bytes().iter().all(is_plain), "{name}: {value:?}");
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number).and_then(|text| text.parse().ok())
}
