//! What the HTTP library mends, and we refuse: request heads that two readers could take for two
//! different messages (RFC 9112 §2.2, §3.2, §6.3).
//!
//! The bytes of a head are looked at on their way to the library, line by line, without a copy;
//! only a line that is cut by the end of a read is kept until the rest of it has come.

/// The longest line that is put together from several reads. A longer one is passed on unseen: the
/// library refuses heads long before that under any sensible limit.
const LINE: usize = 64 * 1024;

/// Looks at heads, one after the other.
#[derive(Debug, Default)]
pub(super) struct Guard {
    state: State,
    /// The beginning of a line whose end has not come.
    cut: Vec<u8>,
    lengths: u32,
    codings: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Not a head, or one that is over.
    #[default]
    Off,
    /// Before or within the request line.
    Start,
    /// Within the fields.
    Fields,
}

/// Why a head is refused; fit for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

impl Guard {
    /// The next byte begins a head, unless one has begun already.
    pub(super) fn expect_head(&mut self) {
        if self.state == State::Off {
            *self = Self { state: State::Start, ..Self::default() };
        }
    }

    /// Looks at `bytes`, the next ones of the connection.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> Result<(), Ambiguous> {
        while self.state != State::Off {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                if self.cut.len() + bytes.len() > LINE {
                    *self = Self::default();
                } else {
                    self.cut.extend_from_slice(bytes);
                }
                return Ok(());
            };
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.cut.is_empty() {
                self.line(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.cut);
                whole.extend_from_slice(line);
                self.line(&whole)?;
            }
        }
        Ok(())
    }

    /// One line, without its LF.
    fn line(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let line = line.strip_suffix(b"\r").ok_or(Ambiguous("a line that ends without CR"))?;
        match self.state {
            State::Off => {}
            // A client may send an empty line first (RFC 9112 §2.2).
            State::Start if line.is_empty() => {}
            State::Start => {
                request_line(line)?;
                self.state = State::Fields;
            }
            State::Fields if line.is_empty() => {
                self.state = State::Off;
                return self.framing();
            }
            State::Fields => match line.iter().position(|byte| *byte == b':') {
                Some(14) if starts_with(line, b"content-length") => self.lengths += 1,
                Some(17) if starts_with(line, b"transfer-encoding") => self.codings += 1,
                _ => {}
            },
        }
        Ok(())
    }

    fn framing(&self) -> Result<(), Ambiguous> {
        match (self.lengths, self.codings) {
            (0 | 1, 0) | (0, 1) => Ok(()),
            (_, 0) => Err(Ambiguous("more than one Content-Length")),
            (0, _) => Err(Ambiguous("more than one Transfer-Encoding")),
            _ => Err(Ambiguous("Content-Length beside Transfer-Encoding")),
        }
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

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on `text`, read in pieces of `size` bytes.
    fn verdict(text: &str, size: usize) -> Result<(), Ambiguous> {
        let mut guard = Guard::default();
        guard.expect_head();
        text.as_bytes().chunks(size).try_for_each(|piece| guard.look(piece))
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

    #[test]
    fn what_follows_a_head_is_not_looked_at() {
        let mut guard = Guard::default();
        guard.expect_head();
        guard.look(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n").unwrap();
        guard.look(b"GET p\n\n\n\n").unwrap();
        guard.expect_head();
        assert!(guard.look(b"GET p\r\n").is_err());
    }
}
