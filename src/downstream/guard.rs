//! What the HTTP library mends, and we refuse: request heads that two readers could take for two
//! different messages (RFC 9112 §2.2, §3.2, §6.3).
//!
//! The bytes of a head are looked at on their way to the library, line by line, without a copy;
//! only a line that is cut by the end of a read is kept until the rest of it has come.

/// The longest line that is put together from several reads. The library refuses heads long before
/// that under any sensible limit.
const LINE: usize = 64 * 1024;

/// Empty lines that may come before a request: some clients end a body with one that they do not
/// count (RFC 9112 §2.2).
const EMPTY_LINES: u32 = 2;

/// Digits of a chunk's size; more would not fit a number, or are zeros that hide one.
const SIZE_DIGITS: usize = 15;

/// Looks at heads, one after the other, and at the framing of what is between them.
#[derive(Debug, Default)]
pub struct Guard {
    state: State,
    /// The beginning of a line whose end has not come.
    cut: Vec<u8>,
    head: Head,
    /// Whole heads so far.
    heads: u64,
    /// Empty lines before the head that is to come.
    empty_lines: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Something else than HTTP may be spoken from here on, or nothing at all: what comes is held
    /// back until the last request has been answered.
    #[default]
    Held,
    /// Before or within the request line.
    Start,
    /// Within the fields.
    Fields,
    /// So many bytes before the next head.
    Body(u64),
    /// Within the line that says how long a chunk is.
    Size,
    /// So many bytes before the next such line.
    Chunk(u64),
    /// Within the trailer section.
    Trailers,
}

/// What the fields of a head have said about what follows it.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    lengths: u32,
    codings: u32,
    /// The last length, where it is a number.
    length: Option<u64>,
    is_chunked: bool,
    /// Whether something else may be spoken from here on.
    is_last: bool,
}

/// Why a message is refused; fit for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

/// What is refused, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub why: Ambiguous,
    /// How many of the bytes come before it.
    pub before: usize,
    /// Whether it stands in the body of a request whose head has passed.
    pub is_in_body: bool,
}

impl Guard {
    /// No request is under way after `answered` of them: the next byte begins a head, unless one
    /// has passed that is yet to be answered. Whether that ends the holding.
    pub fn expect_head(&mut self, answered: u64) -> bool {
        let ends = self.state == State::Held && self.heads <= answered;
        if ends {
            self.state = State::Start;
        }
        ends
    }

    /// Whether what comes is held back.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.state == State::Held
    }

    /// Whole heads so far.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte belongs to the body of the last head.
    #[must_use]
    pub fn is_within_body(&self) -> bool {
        !matches!(self.state, State::Held | State::Start | State::Fields)
    }

    /// What was passed of a head that is not whole will be looked at once more.
    pub fn rewind(&mut self) {
        *self = Self { heads: self.heads, ..Self::default() };
    }

    /// Looks at `bytes`, the next ones of the connection; how many of them may be passed on before
    /// the last request has been answered.
    ///
    /// # Errors
    /// When a message among them is ambiguous.
    pub fn look(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let (mut rest, mut before) = (bytes, 0);
        while !rest.is_empty() {
            match &mut self.state {
                State::Held => return Ok(bytes.len() - rest.len()),
                State::Body(left) | State::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= here as u64;
                    rest = rest.get(here..).unwrap_or_default();
                    match self.state {
                        State::Body(0) => self.state = State::Start,
                        State::Chunk(0) => self.state = State::Size,
                        _ => {}
                    }
                }
                State::Start | State::Fields | State::Size | State::Trailers => {
                    let is_in_body = matches!(self.state, State::Size | State::Trailers);
                    if (self.state == State::Start || is_in_body) && self.cut.is_empty() {
                        before = bytes.len() - rest.len();
                    }
                    let refusal = |why| Refusal { why, before, is_in_body };
                    rest = self.take_line(rest).map_err(refusal)?;
                }
            }
        }
        Ok(bytes.len())
    }

    /// Looks at one line at the front of `bytes`; what follows it.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Ambiguous> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if self.cut.len() + bytes.len() > LINE {
                return Err(Ambiguous("a line over 64 KiB"));
            }
            self.cut.extend_from_slice(bytes);
            return Ok(&[]);
        };
        let (line, rest) = bytes.split_at(end);
        if self.cut.is_empty() {
            self.line(line)?;
        } else {
            let mut whole = std::mem::take(&mut self.cut);
            whole.extend_from_slice(line);
            self.line(&whole)?;
        }
        Ok(rest.get(1..).unwrap_or_default())
    }

    /// One line, without its LF.
    fn line(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(Ambiguous("a line that ends without CR"));
        };
        match self.state {
            State::Start if line.is_empty() => {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES {
                    return Err(Ambiguous("empty lines where a request should begin"));
                }
            }
            State::Start => {
                request_line(line)?;
                self.empty_lines = 0;
                self.head = Head { is_last: line.starts_with(b"CONNECT "), ..Head::default() };
                self.state = State::Fields;
            }
            State::Fields if line.is_empty() => {
                self.state = self.head.followed_by()?;
                self.heads += 1;
            }
            State::Fields => self.head.field(line),
            State::Size => match chunk_size(line)? {
                0 => self.state = State::Trailers,
                size => self.state = State::Chunk(size),
            },
            State::Trailers if line.is_empty() => self.state = State::Start,
            State::Trailers | State::Held | State::Body(_) | State::Chunk(_) => {}
        }
        Ok(())
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match colon {
            7 => self.is_last |= name.eq_ignore_ascii_case(b"upgrade"),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                // Negative, or cut, to many an application.
                self.length = self.length.filter(|length| i64::try_from(*length).is_ok());
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.codings += 1;
                self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }

    /// What comes after the head.
    fn followed_by(&self) -> Result<State, Ambiguous> {
        Ok(match (self.lengths, self.codings) {
            _ if self.is_last && self.lengths + self.codings == 0 => State::Held,
            (0, 0) | (1, 0) if self.length == Some(0) || self.lengths == 0 => State::Start,
            (1, 0) => State::Body(self.length.ok_or(Ambiguous("a Content-Length that is none"))?),
            (0, 1) if self.is_chunked => State::Size,
            // It is refused with another status, and nothing behind it is looked at.
            (0, 1) => State::Held,
            (_, 0) => return Err(Ambiguous("more than one Content-Length")),
            (0, _) => return Err(Ambiguous("more than one Transfer-Encoding")),
            _ => return Err(Ambiguous("Content-Length beside Transfer-Encoding")),
        })
    }
}

/// Whether the target is one that no reader has to guess at.
fn request_line(line: &[u8]) -> Result<(), Ambiguous> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if target.contains(&b'#') {
        return Err(Ambiguous("a fragment in the target"));
    }
    let is_whole = target.starts_with(b"/")
        || target == b"*"
        || method == b"CONNECT"
        || memchr::memmem::find(target, b"://").is_some();
    if is_whole { Ok(()) } else { Err(Ambiguous("a target that is neither a path nor a URL")) }
}

/// The bytes before the next size line: the chunk's own, and CRLF (RFC 9112 §7.1).
fn chunk_size(line: &[u8]) -> Result<u64, Ambiguous> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at_checked(digits).unwrap_or_default();
    if size.is_empty() || size.len() > SIZE_DIGITS {
        return Err(Ambiguous("a chunk whose size is no sensible number"));
    }
    // White space may stand before a semicolon only: `5 ` is a size to some, and none to others.
    let is_extension = extension.is_empty() || extension.trim_ascii_start().starts_with(b";");
    if !is_extension || extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Ambiguous("a chunk whose size is followed by something else"));
    }
    let size = str::from_utf8(size).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match size.ok_or(Ambiguous("a chunk without a size"))? {
        0 => Ok(0),
        size => Ok(size.saturating_add(2)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expecting() -> Guard {
        let mut guard = Guard::default();
        assert!(guard.expect_head(0));
        guard
    }

    /// The verdict on `text`, read in pieces of `size` bytes.
    fn verdict(text: &str, size: usize) -> Result<(), Ambiguous> {
        let mut guard = expecting();
        text.as_bytes()
            .chunks(size)
            .try_for_each(|piece| guard.look(piece).map(|_| ()))
            .map_err(|refusal| refusal.why)
    }

    #[test]
    fn ordinary_heads_pass_however_they_arrive() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET /?a=b%23 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a/p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe\nlo",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nX-Content-Length: 1\r\nContent-Lengths: 2\r\n\r\n",
        ] {
            for size in [1, 2, 7, head.len()] {
                assert_eq!(verdict(head, size), Ok(()), "{head:?} by {size}");
            }
        }
    }

    #[test]
    fn what_two_readers_could_take_for_two_messages_is_refused() {
        for (head, why) in [
            (
                "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "beside",
            ),
            ("POST / HTTP/1.1\r\ncontent-length: 5\r\nCONTENT-LENGTH: 5\r\n\r\n", "Content-Length"),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
                "Transfer-Encoding",
            ),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", "CR"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", "CR"),
            ("\r\n\r\n\r\nGET / HTTP/1.1\r\n", "empty"),
            ("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "Content-Length"),
            ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", "Content-Length"),
            ("POST / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n", "Content-Length"),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "fragment"),
            ("GET p HTTP/1.1\r\nHost: a\r\n\r\n", "neither"),
        ] {
            for size in [1, 3, head.len()] {
                let error = verdict(head, size).expect_err(head);
                assert!(error.0.contains(why), "{head:?}: {}", error.0);
            }
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const BAD: &str = "GET p HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn the_next_head_begins_where_the_message_ends() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        for message in [
            GET.to_owned(),
            head("Content-Length: 0"),
            format!("{}GET p\n\n\n", head("Content-Length: 8")),
            format!("{}GET p\n\n\n", head("Upgrade: h2c\r\nContent-Length: 8")),
            format!("{}5\r\nGET p\r\n0\r\n\r\n", head("Transfer-Encoding: chunked")),
            format!("{}A;x=y\r\nGET p\n\n\n\n\n\r\n0\r\n\r\n", head("Transfer-Encoding: Chunked")),
            format!("{}0\r\nx: y\r\n\r\n", head("Transfer-Encoding: chunked")),
        ] {
            for size in 1..=message.len() {
                assert_eq!(
                    verdict(&format!("{message}{message}{GET}"), size),
                    Ok(()),
                    "{message:?}"
                );
                assert!(verdict(&format!("{message}{message}{BAD}"), size).is_err(), "{message:?}");
            }
        }
    }

    #[test]
    fn what_comes_before_an_ambiguous_head_is_told() {
        for (text, before) in [
            (BAD.to_owned(), 0),
            (format!("{GET}{BAD}"), GET.len()),
            (format!("{GET}\r\n{GET}\r\n{BAD}"), 2 * (GET.len() + 2)),
        ] {
            let refusal = expecting().look(text.as_bytes()).unwrap_err();
            assert_eq!((refusal.before, refusal.is_in_body), (before, false), "{text:?}");
        }
        // It has begun before: nothing more of it is passed on.
        let mut guard = expecting();
        guard.look(b"GET").unwrap();
        assert_eq!(guard.look(b" p HTTP/1.1\r\n").unwrap_err().before, 0);
    }

    /// What came behind such a head turned the guard off for the rest of the connection.
    #[test]
    fn what_may_be_another_protocol_is_held_back_until_the_answer() {
        for head in [
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nupgrade: foo\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            let mut guard = expecting();
            let ahead = format!("{GET}{head}\x1b\x05hello\n");
            assert_eq!(guard.look(ahead.as_bytes()), Ok(GET.len() + head.len()), "{head:?}");
            assert!(guard.is_holding());
            assert_eq!(guard.look(b"more"), Ok(0));
            // One of the two requests has not been answered.
            assert!(!guard.expect_head(1));
            assert!(guard.expect_head(2), "HTTP goes on");
            assert!(guard.look(BAD.as_bytes()).is_err());
        }
    }

    /// The library takes a line of trailers that ends without CR, and sizes of any length.
    #[test]
    fn a_chunked_body_is_what_its_grammar_says() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "Z\r\n",
            "\r\n",
            "5\nhello\r\n",
            "5,\r\n",
            "5 5\r\n",
            "5 \r\n",
            "5\t\r\n",
            "0 \r\n",
            "5;\0\r\n",
            "5;a\rb\r\n",
            "FFFFFFFFFFFFFFFF\r\n",
            "0000000000000005\r\n",
            "0\r\n\n",
            "0\r\nx: y\n\r\n",
            "0\n",
        ] {
            for size in [1, 3, 4096] {
                let text = format!("{head}{body}");
                assert!(verdict(&text, size).is_err(), "{body:?}");
            }
            let good = format!("{head}1\r\nx\r\n");
            let refusal = expecting().look(format!("{good}{body}").as_bytes()).unwrap_err();
            assert!(refusal.is_in_body && refusal.before >= good.len(), "{body:?}");
        }
    }

    #[test]
    fn a_line_beyond_measure_is_refused() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(2 * LINE));
        assert_eq!(verdict(&long, 512), Err(Ambiguous("a line over 64 KiB")));
    }

    /// What the looking costs does not grow with the number of heads: what comes whole is not
    /// copied, and of what was cut nothing is kept once the rest of the line has come.
    #[test]
    fn a_head_that_comes_whole_is_never_copied() {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{GET}");
        let mut guard = expecting();
        for _ in 0..1000 {
            guard.look(head.as_bytes()).unwrap();
            assert_eq!(guard.cut.capacity(), 0);
        }
        assert_eq!(guard.heads(), 2000);
        for piece in head.as_bytes().chunks(10) {
            guard.look(piece).unwrap();
            assert!(guard.cut.len() < 40, "more is kept than one line");
        }
        assert_eq!(guard.cut.capacity(), 0);
    }

    /// A message, and whether its body is looked at line by line.
    fn message() -> impl Strategy<Value = String> {
        let fields = "(x-[a-z]{1,8}: [ -~]{0,12}\r\n){0,3}";
        let body = "[ -~\r\n]{0,40}";
        prop_oneof![
            fields.prop_map(|fields| format!("GET /a?b HTTP/1.1\r\nHost: a\r\n{fields}\r\n")),
            (fields, body).prop_map(|(fields, body)| {
                let length = body.len();
                format!("POST / HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
            }),
            (fields, prop::collection::vec((body, "(;[a-z]=[a-z])?"), 0..4), fields).prop_map(
                |(fields, chunks, trailers)| {
                    let chunks = chunks.iter().filter(|(data, _)| !data.is_empty());
                    let chunks: String = chunks
                        .map(|(data, extension)| {
                            format!("{:x}{extension}\r\n{data}\r\n", data.len())
                        })
                        .collect();
                    format!(
                        "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{fields}\r\n\
                         {chunks}0\r\n{trailers}\r\n"
                    )
                }
            ),
        ]
    }

    /// `text` in pieces of these sizes, over and over.
    fn cut<'a>(text: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
        let (mut rest, mut pieces) = (text, Vec::new());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    proptest! {
        #[test]
        fn every_message_ends_where_its_sender_ended_it(
            messages in prop::collection::vec(message(), 1..6),
            sizes in prop::collection::vec(1_usize..80, 1..8),
        ) {
            let mut guard = expecting();
            for (before, message) in messages.iter().enumerate() {
                let pieces = cut(message.as_bytes(), &sizes);
                for (n, piece) in pieces.iter().enumerate() {
                    prop_assert_eq!(guard.look(piece), Ok(piece.len()));
                    let is_last = n + 1 == pieces.len();
                    let has_begun = guard.heads() > before as u64 && !guard.is_within_body();
                    prop_assert_eq!(has_begun, is_last, "{:?} of {:?}", n, message);
                }
                prop_assert_eq!(guard.state, State::Start);
            }
            let text = messages.concat() + BAD;
            let mut guard = expecting();
            let refused = cut(text.as_bytes(), &sizes).iter().find_map(|it| guard.look(it).err());
            prop_assert_eq!(refused.map(|refusal| refusal.is_in_body), Some(false));
            prop_assert_eq!(guard.heads(), messages.len() as u64);
        }

        #[test]
        fn any_cut_of_anything_gives_the_same_verdict(
            parts in prop::collection::vec(
                prop_oneof![
                    message(),
                    "[ -~\r\n]{0,30}",
                    Just("Upgrade: x\r\n\r\n".to_owned()),
                    Just("CONNECT a:1 HTTP/1.1\r\n\r\n".to_owned()),
                ],
                1..5,
            ),
            sizes in prop::collection::vec(1_usize..80, 1..8),
        ) {
            let text = parts.concat();
            let read = |sizes: &[usize]| {
                let mut guard = Guard::default();
                for mut piece in cut(text.as_bytes(), sizes) {
                    while !piece.is_empty() {
                        guard.expect_head(guard.heads());
                        match guard.look(piece) {
                            Ok(passed) => piece = &piece[passed..],
                            Err(refusal) => return (guard.heads(), Some(refusal.why)),
                        }
                    }
                }
                (guard.heads(), None)
            };
            prop_assert_eq!(read(&sizes), read(&[text.len().max(1)]));
        }
    }
}
