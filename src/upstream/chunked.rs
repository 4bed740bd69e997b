//! The chunked transfer coding of an application's answer (RFC 9112 §7.1), read strictly.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A chunk's size line, its extensions included.
const LINE: usize = 4 * 1024;

/// The trailer section.
const TRAILERS: usize = 16 * 1024;

/// Trailer fields.
const TRAILER_COUNT: usize = 64;

/// Where in the coding the reader is.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    AfterData,
    Trailers,
    End,
}

/// What the input held.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A piece of the body.
    Data(Bytes),
    /// The end, and the trailer fields before it.
    End(HeaderMap),
    /// Nothing whole yet.
    More,
}

/// The input is not chunked coding; the text says where it departs from it.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Chunked {
    /// Takes the next piece from the front of `input`.
    ///
    /// # Errors
    /// When the input breaks the grammar or a limit.
    pub fn step(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match self.state {
                State::Size => match take_size(input)? {
                    None => return Ok(Step::More),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(_) if input.is_empty() => return Ok(Step::More),
                State::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let left = left - here as u64;
                    self.state = if left == 0 { State::AfterData } else { State::Data(left) };
                    return Ok(Step::Data(input.split_to(here).freeze()));
                }
                State::AfterData => match input.get(..2) {
                    None => return Ok(Step::More),
                    Some(b"\r\n") => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    Some(_) => return Err(Malformed("more data than the chunk's size says")),
                },
                State::Trailers => {
                    let Some(trailers) = take_trailers(input)? else { return Ok(Step::More) };
                    self.state = State::End;
                    return Ok(Step::End(trailers));
                }
                State::End => return Ok(Step::End(HeaderMap::new())),
            }
        }
    }
}

/// The size of the next chunk: hexadecimal digits, then perhaps extensions, then CRLF.
fn take_size(input: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let end = memchr::memchr(b'\n', input);
    // However it arrives: a piece can be larger than a line may be.
    if end.unwrap_or(input.len()) > LINE {
        return Err(Malformed("endless chunk size line"));
    }
    let Some(end) = end else { return Ok(None) };
    let line = input.split_to(end + 1);
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed("chunk size line ends without CR"))?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at(digits);
    if !matches!(extension.first(), None | Some(b';' | b' ' | b'\t')) {
        return Err(Malformed("chunk size is not hexadecimal"));
    }
    if extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed("control character in a chunk extension"));
    }
    if !extension.trim_ascii_start().is_empty() && !extension.trim_ascii_start().starts_with(b";") {
        return Err(Malformed("chunk size is not hexadecimal"));
    }
    let digits = str::from_utf8(digits).map_err(|_| Malformed("chunk size is not hexadecimal"))?;
    u64::from_str_radix(digits, 16).map(Some).map_err(|_| Malformed("chunk size is out of range"))
}

fn take_trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    if input.starts_with(b"\r\n") {
        input.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let end = memchr::memmem::find(input, b"\r\n\r\n");
    if end.unwrap_or(input.len()) > TRAILERS {
        return Err(Malformed("endless trailers"));
    }
    let Some(end) = end else { return Ok(None) };
    let section = input.split_to(end + 4);
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_COUNT];
    let fields = match httparse::parse_headers(&section, &mut fields) {
        // Who takes a bare line feed for an end of the section sees another message behind it.
        Ok(httparse::Status::Complete((length, fields))) if length == section.len() => fields,
        _ => return Err(Malformed("malformed trailers")),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Malformed("malformed trailers"));
        };
        trailers.append(name, value);
    }
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads `text` in pieces of `size` bytes; the body, and the trailers once it has ended.
    fn read(text: &[u8], size: usize) -> Result<(Vec<u8>, Option<HeaderMap>), Malformed> {
        let mut chunked = Chunked::default();
        let (mut input, mut body) = (BytesMut::new(), Vec::new());
        for piece in text.chunks(size) {
            input.extend_from_slice(piece);
            loop {
                match chunked.step(&mut input)? {
                    Step::Data(data) => body.extend_from_slice(&data),
                    Step::End(trailers) => return Ok((body, Some(trailers))),
                    Step::More => break,
                }
            }
        }
        Ok((body, None))
    }

    #[test]
    fn a_body_is_the_same_however_it_arrives() {
        let text = b"5\r\nhello\r\n6;a=b;c=\"d\"\r\n world\r\n0\r\nx-sum: 1\r\n\r\n";
        for size in 1..=text.len() {
            let (body, trailers) = read(text, size).unwrap();
            assert_eq!(body, b"hello world");
            assert_eq!(trailers.unwrap().get("x-sum").unwrap(), "1");
        }
    }

    #[test]
    fn what_is_cut_has_no_end() {
        for text in ["", "5", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n"] {
            assert_eq!(read(text.as_bytes(), 3).unwrap().1, None, "{text:?}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        let bad: [&[u8]; 19] = [
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"+5\r\nhello\r\n",
            b"-1\r\n",
            b"0x5\r\nhello\r\n",
            b"0_5\r\nhello\r\n",
            b"Z\r\n",
            b"5zz\r\nhello\r\n",
            b"\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 5\r\nhello\r\n",
            b"2;\rxx\r\nab\r\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"10000000000000005\r\nhello\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\nx: 1\n\nHTTP/1.1 200 OK\r\n\r\n",
            b"0\r\n\nHTTP/1.1 200 OK\r\n\r\n",
            b"0\r\nx: a\r\n folded\r\n\r\n",
        ];
        for text in bad {
            assert!(read(text, 4096).is_err(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_never_ends_is_bounded() {
        assert!(read(&[b"5;".as_slice(), &[b'a'; 2 * LINE]].concat(), 512).is_err());
        assert!(read(&[b"0\r\n".as_slice(), &[b'a'; 2 * TRAILERS]].concat(), 512).is_err());
        let fields = |count| format!("0\r\n{}\r\n", "x: y\r\n".repeat(count));
        assert!(read(fields(TRAILER_COUNT).as_bytes(), 4096).is_ok());
        assert!(read(fields(TRAILER_COUNT + 1).as_bytes(), 4096).is_err());
    }

    /// The bounds held only for what came in small pieces.
    #[test]
    fn what_is_too_long_is_refused_even_if_it_comes_at_once() {
        let line = |length| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(length));
        let trailers = |length| format!("0\r\nx: {}\r\n\r\n", "a".repeat(length));
        for (text, is_allowed) in [
            (line(LINE - 3), true),
            (line(LINE - 2), false),
            (line(40_000), false),
            (trailers(TRAILERS - 3), true),
            (trailers(TRAILERS - 2), false),
            (trailers(60_000), false),
        ] {
            let length = text.len();
            assert_eq!(read(text.as_bytes(), length).is_ok(), is_allowed, "{length}");
        }
    }

    /// RFC 9112 §7.1 over the whole text at once: the body so far, and whether it has ended.
    fn oracle(text: &[u8]) -> Option<(Vec<u8>, bool)> {
        let (mut rest, mut body) = (text, Vec::new());
        loop {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return Some((body, false));
            };
            let line = std::str::from_utf8(rest[..end].strip_suffix(b"\r")?).ok()?;
            let (digits, extension) = line.split_once(';').unwrap_or((line, ""));
            let digits = digits.trim_end_matches([' ', '\t']);
            let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hex || extension.chars().any(|c| c.is_ascii_control() && c != '\t') {
                return None;
            }
            let size = usize::from_str_radix(digits, 16).ok()?;
            rest = &rest[end + 1..];
            if size == 0 {
                return trailers(rest).map(|is_whole| (body, is_whole));
            }
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            match rest.get(size..) {
                Some([b'\r', b'\n', behind @ ..]) => rest = behind,
                None | Some([] | [_]) => return Some((body, false)),
                Some(_) => return None,
            }
        }
    }

    /// Only those that the generator makes.
    fn trailers(section: &[u8]) -> Option<bool> {
        if section.starts_with(b"\r\n") {
            return Some(true);
        }
        let Some(end) = section.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Some(false);
        };
        let lines = std::str::from_utf8(&section[..end]).ok()?;
        let is_field = |line: &str| {
            let name = line.strip_suffix(": y");
            name.is_some_and(|name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric())
            })
        };
        lines.split("\r\n").all(is_field).then_some(true)
    }

    fn coded() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "0\r\n\r\n",
            "0\r\n",
            "1\r\na\r\n",
            "5\r\nhello\r\n",
            "3\r\n\r\n0\r\n",
            "a;x=\"y\"\r\n0123456789\r\n",
            "02 ;q\r\nab\r\n",
            "\r\n",
            "\n",
            "\r",
            "x: y\r\n",
            "2\n",
            "1",
            "f",
            ";",
            "g\r\n",
            "0x1\r\n",
            "10000000000000000\r\n",
            "ffffffffffffffff\r\n",
            " 1\r\n",
            "1;\x01\r\na\r\n",
            "1\r\nab\r\n",
        ]);
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_text_means_what_the_grammar_says_however_it_arrives(text in coded(), size in 1..40_usize) {
            let told = read(&text, size);
            let whole = read(&text, text.len().max(1));
            prop_assert_eq!(told.is_ok(), whole.is_ok());
            let expected = oracle(&text);
            match (told, whole) {
                (Ok(cut), Ok(whole)) => {
                    prop_assert_eq!(&cut, &whole);
                    let (body, is_ended) = expected.expect("this is malformed");
                    prop_assert_eq!((cut.0, cut.1.is_some()), (body, is_ended));
                }
                _ => prop_assert_eq!(expected, None),
            }
        }

        #[test]
        fn what_is_coded_is_decoded(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
            size in 1..60_usize, behind in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut text = Vec::new();
            for piece in &pieces {
                text.extend_from_slice(format!("{:X};a=b\r\n", piece.len()).as_bytes());
                text.extend_from_slice(piece);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\nx: y\r\n\r\n");
            let (mut chunked, mut input, mut body) = (Chunked::default(), BytesMut::new(), Vec::new());
            let mut arriving = text.chunks(size).chain([&behind[..]]);
            loop {
                match chunked.step(&mut input).unwrap() {
                    Step::Data(data) => body.extend_from_slice(&data),
                    Step::More => input.extend_from_slice(arriving.next().expect("an end before this")),
                    Step::End(trailers) => break prop_assert_eq!(trailers.len(), 1),
                }
            }
            prop_assert_eq!(body, pieces.concat());
            arriving.for_each(|piece| input.extend_from_slice(piece));
            prop_assert_eq!(&input[..], &behind[..], "what follows belongs to nobody");
        }
    }
}
