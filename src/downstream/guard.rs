//! What the HTTP library mends, and we refuse: request heads that two readers could take for two
//! different messages (RFC 9112 §2.2, §3.2, §6.3).
//!
//! The bytes of a head are looked at on their way to the library, line by line, without a copy;
//! only a line that is cut by the end of a read is kept until the rest of it has come.

/// The longest line that is put together from several reads. A longer one is passed on unseen: the
/// library refuses heads long before that under any sensible limit.
const LINE: usize = 64 * 1024;

/// Looks at heads, one after the other, and passes over what is between them.
#[derive(Debug, Default)]
pub(super) struct Guard {
    state: State,
    /// The beginning of a line whose end has not come.
    cut: Vec<u8>,
    head: Head,
    /// Whether bytes have passed unseen, so that nobody knows where the next head begins.
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Not HTTP, or not known to be.
    #[default]
    Off,
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

/// Why a head is refused; fit for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

impl Guard {
    /// No request is under way: the next byte begins a head, if none has passed unseen.
    pub(super) fn expect_head(&mut self) {
        if self.state == State::Off && !self.is_lost {
            self.state = State::Start;
        }
    }

    /// Looks at `bytes`, the next ones of the connection.
    ///
    /// # Errors
    /// When a head among them is ambiguous; with how many of the bytes come before it.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Result<(), (usize, Ambiguous)> {
        let (mut rest, mut before) = (bytes, 0);
        while !rest.is_empty() {
            match &mut self.state {
                State::Off => {
                    self.is_lost = true;
                    return Ok(());
                }
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
                    if self.state == State::Start && self.cut.is_empty() {
                        before = bytes.len() - rest.len();
                    }
                    rest = self.take_line(rest).map_err(|ambiguous| (before, ambiguous))?;
                }
            }
        }
        Ok(())
    }

    /// Looks at one line at the front of `bytes`; what follows it.
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Ambiguous> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if self.cut.len() + bytes.len() > LINE {
                self.lose();
            } else {
                self.cut.extend_from_slice(bytes);
            }
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
            if matches!(self.state, State::Start | State::Fields) {
                return Err(Ambiguous("a line that ends without CR"));
            }
            // The library refuses such a body.
            self.lose();
            return Ok(());
        };
        match self.state {
            // A client may send an empty line first (RFC 9112 §2.2).
            State::Start if line.is_empty() => {}
            State::Start => {
                request_line(line)?;
                self.head = Head { is_last: line.starts_with(b"CONNECT "), ..Head::default() };
                self.state = State::Fields;
            }
            State::Fields if line.is_empty() => self.state = self.head.followed_by()?,
            State::Fields => self.head.field(line),
            State::Size => match chunk_size(line) {
                Some(0) => self.state = State::Trailers,
                Some(size) => self.state = State::Chunk(size),
                None => self.lose(),
            },
            State::Trailers if line.is_empty() => self.state = State::Start,
            State::Trailers | State::Off | State::Body(_) | State::Chunk(_) => {}
        }
        Ok(())
    }

    fn lose(&mut self) {
        *self = Self { is_lost: true, ..Self::default() };
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
            _ if self.is_last && self.lengths + self.codings == 0 => State::Off,
            (0, 0) | (1, 0) if self.length.unwrap_or(0) == 0 => State::Start,
            (1, 0) => self.length.map_or(State::Off, State::Body),
            (0, 1) if self.is_chunked => State::Size,
            // The library refuses other codings.
            (0, 1) => State::Off,
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

/// The bytes before the next size line: the chunk's own, and CRLF.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let digits = str::from_utf8(line.get(..digits)?).ok()?;
    match u64::from_str_radix(digits, 16).ok()? {
        0 => Some(0),
        size => size.checked_add(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on `text`, read in pieces of `size` bytes.
    fn verdict(text: &str, size: usize) -> Result<(), Ambiguous> {
        let mut guard = Guard::default();
        guard.expect_head();
        text.as_bytes()
            .chunks(size)
            .try_for_each(|piece| guard.look(piece))
            .map_err(|(_, ambiguous)| ambiguous)
    }

    #[test]
    fn ordinary_heads_pass_however_they_arrive() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET /?a=b%23 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a/p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe\nlo",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\n",
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
            let mut guard = Guard::default();
            guard.expect_head();
            assert_eq!(guard.look(text.as_bytes()).unwrap_err().0, before, "{text:?}");
        }
        // It has begun before: nothing more of it is passed on.
        let mut guard = Guard::default();
        guard.expect_head();
        guard.look(b"GET").unwrap();
        assert_eq!(guard.look(b" p HTTP/1.1\r\n").unwrap_err().0, 0);
    }

    #[test]
    fn what_may_be_another_protocol_is_not_looked_at() {
        for head in [
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let mut guard = Guard::default();
            guard.expect_head();
            guard.look(head.as_bytes()).unwrap();
            guard.look(b"\x81\x05hello\n").unwrap();
            // Nobody knows what of this has been taken for a head.
            guard.expect_head();
            guard.look(BAD.as_bytes()).unwrap();

            let mut guard = Guard::default();
            guard.expect_head();
            guard.look(head.as_bytes()).unwrap();
            guard.expect_head();
            assert!(guard.look(BAD.as_bytes()).is_err(), "it was refused: HTTP goes on");
        }
    }

    #[test]
    fn what_the_library_refuses_is_left_to_it() {
        for (body, coding) in [
            ("Z\r\n", "chunked"),
            ("5\nhello\r\n", "chunked"),
            ("FFFFFFFFFFFFFFFF\r\n", "chunked"),
            ("FFFFFFFFFFFFFFFFF\r\n", "chunked"),
            ("\r\n", "chunked"),
            ("hello", "gzip"),
        ] {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n{body}");
            assert_eq!(verdict(&format!("{head}{BAD}"), 4096), Ok(()), "{body:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(LINE));
        assert_eq!(verdict(&format!("{long}{BAD}"), 512), Ok(()));
    }
}
