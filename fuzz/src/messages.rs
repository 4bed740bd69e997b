//! The messages that the guard sees in a stream of bytes, and what they say when they are read as
//! simply as can be.

use std::ops::Range;

use crate::downstream::guard::{Ambiguous, Guard};

/// One message as the guard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The bytes of its head, empty lines before it counted.
    pub head: Range<usize>,
    /// Those of its body, as they are on the wire.
    pub body: Range<usize>,
    /// Whether the body has ended.
    pub is_whole: bool,
}

/// All that the guard makes of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// The messages whose heads are whole.
    pub list: Vec<Message>,
    /// Why no more are taken, and whether it was for what stands in a body.
    pub refused: Option<(Ambiguous, bool)>,
}

impl Messages {
    /// Has a guard look at `stream` byte by byte; every request is answered at once.
    #[must_use]
    pub fn of(stream: &[u8]) -> Self {
        let (mut guard, mut messages) = (Guard::default(), Self::default());
        let mut begin = 0;
        for (at, byte) in stream.iter().enumerate() {
            guard.expect_head(guard.heads());
            if let Err(refusal) = guard.look(std::slice::from_ref(byte)) {
                messages.refused = Some((refusal.why, refusal.is_in_body));
                break;
            }
            let end = at + 1;
            if guard.heads() > messages.list.len() as u64 {
                let is_whole = !guard.is_within_body();
                messages.list.push(Message { head: begin..end, body: end..end, is_whole });
                begin = end;
            } else if let Some(last) = messages.list.last_mut().filter(|last| !last.is_whole) {
                last.body.end = end;
                last.is_whole = !guard.is_within_body();
                begin = end;
            }
        }
        messages
    }

    /// What a guard makes of the same bytes in other pieces.
    #[must_use]
    pub fn refused_in_pieces(pieces: &[&[u8]]) -> (u64, Option<(Ambiguous, bool)>) {
        let mut guard = Guard::default();
        for piece in pieces {
            let mut rest = *piece;
            loop {
                guard.expect_head(guard.heads());
                match guard.look(rest) {
                    Ok(passed) => {
                        assert!(passed <= rest.len(), "more is passed than there is");
                        assert!(passed > 0 || rest.is_empty(), "an answered guard passes nothing");
                        rest = &rest[passed..];
                    }
                    Err(refusal) => {
                        assert!(refusal.before <= rest.len());
                        return (guard.heads(), Some((refusal.why, refusal.is_in_body)));
                    }
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
        (guard.heads(), None)
    }
}

/// A head, read word by word.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    /// Names in lower case and values without the white space around them, sorted by name.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Plain {
    /// Reads a head whose lines end with CRLF.
    #[must_use]
    pub fn read(head: &[u8]) -> Self {
        let mut lines = head
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| !line.is_empty());
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let mut word = || words.next().unwrap_or_default().to_vec();
        let (method, target) = (word(), word());
        let mut fields: Vec<_> = lines
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
                let value = line.get(colon + 1..).unwrap_or_default();
                (line[..colon].to_ascii_lowercase(), value.trim_ascii().to_vec())
            })
            .collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Self { method, target, fields }
    }

    /// Whether a body comes in chunks.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        self.fields.iter().any(|(name, _)| name == b"transfer-encoding")
    }
}

/// The data of a chunked body, as far as there is any.
#[must_use]
pub fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(end) = body.iter().position(|byte| *byte == b'\n') {
        let digits = body.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let text = std::str::from_utf8(&body[..digits]).unwrap_or_default();
        let Ok(size) = u64::from_str_radix(text, 16) else { break };
        if size == 0 {
            break;
        }
        let rest = &body[end + 1..];
        let here = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        data.extend_from_slice(&rest[..here]);
        body = rest.get(here + 2..).unwrap_or_default();
    }
    data
}
