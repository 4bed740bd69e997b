//! The head of an application's answer, read strictly: what is ambiguous is the application's
//! fault and becomes a 502, never the client's problem.

use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::proxy::headers::hop::{self, Fate, Listed};

/// Fields of a head.
pub const FIELDS: usize = 128;

/// A head with all its fields, in bytes.
pub const HEAD: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// How many bytes of the input it took.
    pub length: usize,
}

/// How a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After this many bytes.
    Length(u64),
    /// As the chunked coding says.
    Chunked,
    /// With the connection.
    Close,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Reads the head at the front of `input`, the answer to a request with `method`; its end-to-end
/// fields are added to `headers`. `None` while it is not whole.
///
/// # Errors
/// When it is no head of HTTP/1, breaks a limit, or says two things about its length.
pub fn parse(
    input: &Bytes,
    method: &Method,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, Malformed> {
    // The parser skips empty lines, which only the reader of a request may (RFC 9112 §2.2).
    if let Some(b'\r' | b'\n') = input.first() {
        return Err(Malformed("an empty line stands before its status line"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, input, &mut fields)
    {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() > HEAD => {
            return Err(Malformed("its head is over 64 KiB"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed("it has more than 128 fields"));
        }
        Err(_) => return Err(Malformed("its head is not HTTP/1")),
    };
    let head = input.get(..length).unwrap_or_default();
    if head.len() > HEAD {
        return Err(Malformed("its head is over 64 KiB"));
    }
    // The parser takes it for the end of a line; others may see one field instead of two.
    let mut ends = memchr::memchr_iter(b'\n', head);
    if ends.any(|end| !head.get(..end).is_some_and(|line| line.ends_with(b"\r"))) {
        return Err(Malformed("a line of its head ends without CR"));
    }
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .filter(|status| status.as_u16() < 600)
        .ok_or(Malformed("its status is not one"))?;
    let http11 = response.version == Some(1);
    let facts = Facts::of(response.headers)?;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        for field in response.headers.iter() {
            copy(field, input, &facts, headers)?;
        }
    } else {
        // What an upgrade is about stands in fields that are otherwise the hop's own.
        for field in response.headers.iter() {
            headers.append(name(field)?, value(field, input)?);
        }
    }
    let framing = facts.framing(status, method, http11)?;
    let keep_alive = http11
        && !facts.close
        && framing != Framing::Close
        && !(facts.chunked && facts.length.is_some())
        && !facts.announces_what_must_not_be(status)
        // Something else is spoken from here on, whether it was asked for or not.
        && status != StatusCode::SWITCHING_PROTOCOLS;
    // Written anew, so that two readers of `005` cannot differ; not where there must be none
    // (RFC 9110 §8.6), nor where a transfer coding overrules it (RFC 9112 §6.3).
    if let Some(length) = facts.length
        && !facts.chunked
        && !status.is_informational()
        && status != StatusCode::NO_CONTENT
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Some(Head { status, framing, keep_alive, length }))
}

/// What the fields of a head say about the message and the connection.
struct Facts<'a> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    /// Names that a `Connection` field lists.
    listed: Listed<'a>,
}

impl<'a> Facts<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Result<Self, Malformed> {
        let listed = Listed::default();
        let mut facts = Facts { length: None, chunked: false, close: false, listed };
        let mut has_options = false;
        for field in fields {
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let length = parse_length(field.value)?;
                    if facts.length.is_some_and(|other| other != length) {
                        return Err(Malformed("it has two lengths"));
                    }
                    facts.length = Some(length);
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if facts.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed("it has a transfer coding other than chunked"));
                    }
                    facts.chunked = true;
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    let mut options = field.value.split(|&byte| byte == b',');
                    facts.close |=
                        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                    has_options = true;
                }
                _ => {}
            }
        }
        if has_options {
            let lines = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
            facts.listed = Listed::of_lines(lines.map(|field| field.value));
        }
        Ok(facts)
    }

    /// Whether there is a body in the fields of an answer that has none whatever they say (RFC 9110
    /// §8.6, RFC 9112 §6.1). Who announces it may send it, and it would pass for the next answer.
    fn announces_what_must_not_be(&self, status: StatusCode) -> bool {
        status == StatusCode::NO_CONTENT
            && (self.chunked || self.length.is_some_and(|length| length > 0))
    }

    fn framing(
        &self,
        status: StatusCode,
        method: &Method,
        http11: bool,
    ) -> Result<Framing, Malformed> {
        if self.chunked && !http11 {
            return Err(Malformed("it is HTTP/1.0 with a transfer coding"));
        }
        let bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || method == Method::HEAD;
        Ok(match self.length {
            _ if bodiless => Framing::Empty,
            _ if self.chunked => Framing::Chunked,
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        })
    }
}

/// Digits only: a sign, a list or white space is read differently elsewhere (RFC 9110 §8.6). So is
/// what a signed number of 64 bits has no room for.
///
/// # Errors
/// When it is anything else.
pub fn parse_length(value: &[u8]) -> Result<u64, Malformed> {
    let wrong = Malformed("its Content-Length is not a number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    let length: u64 = str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(wrong)?;
    i64::try_from(length).map(|_| length).map_err(|_| Malformed("its Content-Length is over 2^63"))
}

fn copy(
    field: &httparse::Header<'_>,
    input: &Bytes,
    facts: &Facts<'_>,
    headers: &mut HeaderMap,
) -> Result<(), Malformed> {
    let name = name(field)?;
    if name == header::CONTENT_LENGTH || hop::response_field(&name, &facts.listed) != Fate::Forward
    {
        return Ok(());
    }
    headers.append(name, value(field, input)?);
    Ok(())
}

fn name(field: &httparse::Header<'_>) -> Result<HeaderName, Malformed> {
    HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed("a field name is not one"))
}

fn value(field: &httparse::Header<'_>, input: &Bytes) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_maybe_shared(input.slice_ref(field.value))
        .map_err(|_| Malformed("a field value has a control character"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_to(method: &Method, text: &str) -> Result<Option<(Head, HeaderMap)>, Malformed> {
        let mut headers = HeaderMap::new();
        let head = parse(&Bytes::copy_from_slice(text.as_bytes()), method, &mut headers)?;
        Ok(head.map(|head| (head, headers)))
    }

    /// An answer to GET with this status line and these fields.
    fn read(text: &str) -> Result<(Head, HeaderMap), Malformed> {
        let text = format!("{}\r\n\r\n", text.trim_end().replace('\n', "\r\n"));
        parse_to(&Method::GET, &text).map(|read| read.expect("a whole head"))
    }

    fn framing(text: &str) -> (Framing, bool) {
        let (head, _) = read(text).unwrap();
        (head.framing, head.keep_alive)
    }

    #[test]
    fn the_body_ends_as_rfc_9112_says() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\nContent-Length: 5", (Framing::Length(5), true)),
            ("HTTP/1.1 200 OK\nContent-Length: 005", (Framing::Length(5), true)),
            ("HTTP/1.1 200 OK\nContent-Length: 0", (Framing::Empty, true)),
            ("HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 5", (Framing::Length(5), true)),
            ("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked", (Framing::Chunked, true)),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 5",
                (Framing::Chunked, false),
            ),
            ("HTTP/1.1 200 OK", (Framing::Close, false)),
            (
                "HTTP/1.1 200 OK\nContent-Length: 5\nConnection: x, Close",
                (Framing::Length(5), false),
            ),
            ("HTTP/1.0 200 OK\nContent-Length: 5", (Framing::Length(5), false)),
            ("HTTP/1.0 200 OK", (Framing::Close, false)),
            ("HTTP/1.1 204 No Content\nContent-Length: 5", (Framing::Empty, false)),
            ("HTTP/1.1 204 No Content\nContent-Length: 0", (Framing::Empty, true)),
            ("HTTP/1.1 304 Not Modified\nContent-Length: 5", (Framing::Empty, true)),
            ("HTTP/1.1 204 No Content\nTransfer-Encoding: chunked", (Framing::Empty, false)),
            ("HTTP/1.1 100 Continue", (Framing::Empty, true)),
            ("HTTP/1.1 200", (Framing::Close, false)),
        ] {
            assert_eq!(framing(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_malformed() {
        for text in [
            "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 6",
            "HTTP/1.1 200 OK\nContent-Length: 5, 5",
            "HTTP/1.1 200 OK\nContent-Length: +5",
            "HTTP/1.1 200 OK\nContent-Length: -5",
            "HTTP/1.1 200 OK\nContent-Length: 0x5",
            "HTTP/1.1 200 OK\nContent-Length: 5 5",
            "HTTP/1.1 200 OK\nContent-Length:",
            "HTTP/1.1 200 OK\nContent-Length: 18446744073709551616",
            "HTTP/1.1 200 OK\nContent-Length : 5",
            "HTTP/1.1 200 OK\nContent-Length: 5\n folded: yes",
            "HTTP/1.1 200 OK\nTransfer-Encoding: gzip",
            "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked, chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: identity\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked;a=b",
            "HTTP/1.1 200 OK\nTransfer-Encoding:",
            "HTTP/1.0 200 OK\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nno colon",
            "HTTP/1.1 200 OK\nname with space: x",
            "HTTP/1.1 200 OK\nX: a\rb",
            "HTTP/1.1 200 OK\nX: a\0b",
            "HTTP/1.1 200 OK\nX: a\x7fb",
            "HTTP/1.1 99 OK",
            "HTTP/1.1 000 OK",
            "HTTP/1.1 600 OK",
            "HTTP/1.1 999 OK",
            "HTTP/1.1 1000 OK",
            "HTTP/1.1 -200 OK",
            "HTTP/3.7 200 OK",
            "HTTP/2 200 OK",
            "ICY 200 OK",
            "<html>hello</html>",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    /// It was passed on, to clients whose numbers have a sign.
    #[test]
    fn a_length_beyond_a_signed_number_is_malformed() {
        let answer = |length: u64| format!("HTTP/1.1 200 OK\nContent-Length: {length}");
        assert!(read(&answer(i64::MAX as u64)).is_ok());
        for length in [1 << 63, u64::MAX - 2, u64::MAX] {
            assert!(read(&answer(length)).is_err(), "{length}");
        }
    }

    #[test]
    fn a_line_without_cr_is_malformed() {
        for text in [
            "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\nX-Evil: 1\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nA: b\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n\n",
        ] {
            assert!(parse_to(&Method::GET, text).is_err(), "{text:?}");
        }
    }

    /// They were skipped, and the answer passed on.
    #[test]
    fn an_empty_line_before_the_status_line_is_malformed() {
        for lines in ["\r\n", "\r\n\r\n", "\n", "\r"] {
            let text = format!("{lines}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            for cut in lines.len()..text.len() {
                assert!(parse_to(&Method::GET, &text[..cut]).is_err(), "{:?}", &text[..cut]);
            }
        }
    }

    /// The limit held only where the head came in pieces.
    #[test]
    fn a_head_that_comes_whole_is_measured_too() {
        let of = |length| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(length));
        assert!(parse_to(&Method::GET, &of(HEAD - 100)).unwrap().is_some());
        assert!(parse_to(&Method::GET, &of(HEAD)).is_err());
    }

    #[test]
    fn a_head_is_whole_or_not_yet_there() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n\r\n";
        for cut in 0..text.len() {
            assert!(parse_to(&Method::GET, &text[..cut]).unwrap().is_none(), "{cut}");
        }
        let (head, headers) = parse_to(&Method::GET, &format!("{text}abc")).unwrap().unwrap();
        assert_eq!((head.length, head.status), (text.len(), StatusCode::OK));
        assert_eq!(headers.get("x-a").unwrap(), "b");
    }

    #[test]
    fn a_head_without_end_and_one_with_too_many_fields_are_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(HEAD));
        assert_eq!(parse_to(&Method::GET, &long).unwrap_err().0, "its head is over 64 KiB");
        let many = |count| format!("HTTP/1.1 204 No Content{}", "\nX: a".repeat(count));
        assert!(read(&many(FIELDS)).is_ok());
        assert_eq!(read(&many(FIELDS + 1)).unwrap_err().0, "it has more than 128 fields");
    }

    #[test]
    fn hop_by_hop_fields_end_here_and_the_others_go_on() {
        let (_, headers) = read(
            "HTTP/1.1 200 OK\nContent-Length: 007\nKeep-Alive: timeout=5\nUpgrade: h2c\n\
             Proxy-Authenticate: Basic\nSet-Cookie: a=1\nSet-Cookie: b=2\nServer: app",
        )
        .unwrap();
        let names: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let value = HeaderValue::from_static;
        assert_eq!(
            names,
            [
                ("set-cookie", &value("a=1")),
                ("set-cookie", &value("b=2")),
                ("server", &value("app")),
                ("content-length", &value("7")),
            ]
        );
    }

    /// Names as long as `close` and `keep-alive` were taken for these.
    #[test]
    fn a_listed_field_ends_here_whatever_the_length_of_its_name() {
        for name in ["x-abc", "x-abcdefgh", "x-secret", "x-upgra"] {
            let text =
                format!("HTTP/1.1 204 No Content\nConnection: close, {name}\n{name}: secret");
            assert!(read(&text).unwrap().1.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_connection_line_takes_nothing_away_that_the_client_needs() {
        for name in ["set-cookie", "cache-control", "content-type", "strict-transport-security"] {
            let text = format!("HTTP/1.1 204 No Content\nConnection: {name}\n{name}: kept");
            assert_eq!(read(&text).unwrap().1.len(), 1, "{name}");
        }
        let (head, headers) =
            read("HTTP/1.1 200 OK\nConnection: content-length\nContent-Length: 5").unwrap();
        assert_eq!((head.framing, headers.len()), (Framing::Length(5), 1));
    }

    #[test]
    fn a_length_is_told_only_where_it_may_be() {
        let told = |method: &Method, text: &str| {
            let text = format!("HTTP/1.1 {text}\r\n\r\n").replace('|', "\r\n");
            let (head, headers) = parse_to(method, &text).unwrap().unwrap();
            (head.framing, headers.contains_key(header::CONTENT_LENGTH))
        };
        for (method, text, expected) in [
            (Method::HEAD, "200 OK|Content-Length: 5", (Framing::Empty, true)),
            (Method::GET, "304 Not Modified|Content-Length: 5", (Framing::Empty, true)),
            (Method::GET, "204 No Content|Content-Length: 0", (Framing::Empty, false)),
            (Method::GET, "103 Early Hints|Content-Length: 5", (Framing::Empty, false)),
            (
                Method::HEAD,
                "200 OK|Transfer-Encoding: chunked|Content-Length: 5",
                (Framing::Empty, false),
            ),
            (
                Method::GET,
                "200 OK|Transfer-Encoding: chunked|Content-Length: 5",
                (Framing::Chunked, false),
            ),
        ] {
            assert_eq!(told(&method, text), expected, "{method} {text}");
        }
    }

    /// What changed its protocol unasked was put back among the idle connections.
    #[test]
    fn a_connection_that_changed_its_protocol_serves_no_other_request() {
        let (head, headers) = read(
            "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\
             Sec-WebSocket-Accept: x",
        )
        .unwrap();
        assert!(!head.keep_alive);
        assert_eq!(headers.len(), 3);
    }

    fn answers() -> impl Strategy<Value = String> {
        let version =
            prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2"]);
        let status = prop::sample::select(vec![
            "200", "204", "304", "100", "404", "599", "600", "99", "20x",
        ]);
        let field = prop::sample::select(vec![
            "Content-Length: 5",
            "content-length: 005",
            "Content-Length: 0",
            "Content-Length: 7",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Transfer-Encoding: chunked",
            "transfer-encoding: CHUNKED",
            "Transfer-Encoding: gzip",
            "Connection: close",
            "Connection: keep-alive, X-A",
            "Connection: content-length, x-b",
            "X-A: 1",
            "X-B: 2",
            "Set-Cookie: a=1",
            "Keep-Alive: timeout=5",
            "Upgrade: h2c",
            "X : 1",
            " folded",
            "none",
            "Trailer: x-sum",
            "Proxy-Authenticate: Basic",
            "X-C: \u{1}",
        ]);
        let fields = prop::collection::vec(field, 0..5);
        (version, status, fields).prop_map(|(version, status, fields)| {
            let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            format!("{version} {status} R\r\n{lines}\r\n")
        })
    }

    /// What a careful reader finds, by RFC 9112 §6.3 and the choices of this proxy.
    fn expected(text: &str, is_head: bool) -> Option<(Framing, bool)> {
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let (version, status) = lines.next()?.split_once(' ')?;
        let status: u16 = status.split(' ').next()?.parse().ok()?;
        let http11 = version == "HTTP/1.1";
        if !(http11 || version == "HTTP/1.0") || !(100..600).contains(&status) {
            return None;
        }
        let (mut lengths, mut codings, mut close) = (Vec::new(), Vec::new(), !http11);
        for line in lines {
            let (name, value) = line.split_once(':')?;
            if name.contains(' ') || value.contains('\u{1}') {
                return None;
            }
            match (&*name.to_lowercase(), value.trim()) {
                ("content-length", value) if value.bytes().all(|b| b.is_ascii_digit()) => {
                    lengths.push(value.parse::<u64>().ok()?);
                }
                ("content-length", _) => return None,
                ("transfer-encoding", value) => codings.push(value.to_lowercase()),
                ("connection", value) => close |= value == "close",
                _ => {}
            }
        }
        lengths.dedup();
        let is_chunked = codings == ["chunked"];
        if lengths.len() > 1 || !(codings.is_empty() || is_chunked && http11) {
            return None;
        }
        let length = lengths.first();
        let framing = match length {
            _ if is_head || status < 200 || matches!(status, 204 | 304) => Framing::Empty,
            _ if is_chunked => Framing::Chunked,
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(*length),
            None => Framing::Close,
        };
        // What must have no body but announces one may send it all the same.
        let hides_body = status == 204 && (is_chunked || length.is_some_and(|length| *length > 0));
        let reused = framing != Framing::Close && !(is_chunked && length.is_some()) && !hides_body;
        Some((framing, reused && !close))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_head_means_what_a_careful_reader_finds(text in answers(), is_head: bool, behind in ".{0,20}") {
            let method = if is_head { Method::HEAD } else { Method::GET };
            let told = parse_to(&method, &format!("{text}{behind}"));
            let brief = |(head, _): &(Head, HeaderMap)| (head.framing, head.keep_alive);
            let read = told.as_ref().ok().map(|head| brief(head.as_ref().expect("a whole head")));
            prop_assert_eq!(read, expected(&text, is_head), "{:?}", text);
            if let Ok(Some((head, headers))) = told {
                prop_assert_eq!(head.length, text.len());
                let ends_here = ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-authenticate"];
                prop_assert!(ends_here.iter().all(|name| !headers.contains_key(*name)));
                let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
                prop_assert!(lengths.len() <= 1);
                if let Framing::Length(wanted) = head.framing {
                    let wanted = wanted.to_string();
                    prop_assert_eq!(lengths, [wanted.as_str()]);
                }
            }
        }

        #[test]
        fn nothing_is_decided_before_the_end(text in answers(), bytes: Vec<u8>) {
            if parse_to(&Method::GET, &text).is_ok() {
                for cut in 0..text.len() {
                    prop_assert!(matches!(parse_to(&Method::GET, &text[..cut]), Ok(None)), "{}", cut);
                }
            }
            let input = Bytes::from([b"HTTP/1.1 200\r\n", &bytes[..]].concat());
            let _ = parse(&input, &Method::GET, &mut HeaderMap::new());
        }
    }
}
