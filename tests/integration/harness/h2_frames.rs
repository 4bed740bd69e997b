//! HTTP/2 frame by frame (RFC 9113 §4), over TLS, for what a library would hide or refuse.

use std::time::Duration;

use super::wire::{End, Wire};
use super::{PATIENCE, Proxy, pki};

/// A connection after the preface and both SETTINGS.
pub struct Frames {
    wire: Wire,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type: 0 DATA, 1 HEADERS, 3 RST_STREAM, 4 SETTINGS, 6 PING, 7 GOAWAY, 8 WINDOW_UPDATE.
    pub kind: u8,
    /// The flags: 1 END_STREAM or ACK, 4 END_HEADERS.
    pub flags: u8,
    /// The stream.
    pub stream: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Frame types.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITISED: u8 = 0x20;

/// Error codes (RFC 9113 §7).
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;

/// The head of a plain request.
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "app.test")];

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The whole of an answer has come, with this status.
    Answered(u16),
    /// It was reset, with this error code.
    Reset(u32),
    /// The connection was ended, with this error code in its GOAWAY.
    GoneAway(u32),
    /// The connection was ended without a word.
    Cut,
    /// Nothing, for as long as was waited.
    Open,
}

impl Frames {
    /// A fresh connection to the proxy, over TLS.
    #[track_caller]
    pub fn to(proxy: &Proxy) -> Self {
        Self::over(Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), "app.test").unwrap())
    }

    /// The same, with the preface and what follows it left to the caller.
    #[track_caller]
    pub fn silent_to(proxy: &Proxy) -> Self {
        let wire = Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), "app.test").unwrap();
        Self { wire }
    }

    /// Sends the preface and empty SETTINGS on a fresh connection.
    pub fn over(wire: Wire) -> Self {
        let mut frames = Self { wire };
        frames.wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// Sends a frame.
    #[track_caller]
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(encode(kind, flags, stream, payload));
    }

    /// Sends many frames at once, as bytes; an error when the peer has had enough.
    pub fn try_send_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.wire.try_send(bytes)
    }

    /// Sends a request's head as literals without indexing or Huffman (RFC 7541 §6.2.2).
    #[track_caller]
    pub fn send_head(&mut self, stream: u32, end: bool, fields: &[(&str, &str)]) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &field_block(fields));
    }

    /// The next frame.
    #[track_caller]
    pub fn next(&mut self) -> Frame {
        let head = self.wire.read_exactly(9);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Frame { kind: head[3], flags: head[4], stream, payload: self.wire.read_exactly(length) }
    }

    /// The types of the frames that come within `time`; for a connection on which nothing else is
    /// read.
    pub fn kinds_within(&mut self, time: Duration) -> Vec<u8> {
        let (bytes, _) = self.wire.rest_within(time);
        let mut rest = &bytes[..];
        let mut kinds = Vec::new();
        while let Some((head, more)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            kinds.push(head[3]);
            rest = more.get(length..).unwrap_or_default();
        }
        kinds
    }

    /// The next frame, if one comes in time; how the connection has ended, else.
    pub fn try_next(&mut self, patience: Duration) -> Result<Frame, End> {
        let head = self.wire.try_read_exactly(9, patience)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.wire.try_read_exactly(length, patience)?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// What becomes of a stream; SETTINGS and PING are answered.
    pub fn fate(&mut self, stream: u32) -> Fate {
        self.fate_within(stream, PATIENCE)
    }

    /// The same, when nothing has come for `patience`.
    pub fn fate_within(&mut self, stream: u32, patience: Duration) -> Fate {
        let (mut status, mut goaway) = (None, None);
        loop {
            let frame = match self.try_next(patience) {
                Ok(frame) => frame,
                Err(End::Open) => return Fate::Open,
                Err(_) => return goaway.map_or(Fate::Cut, Fate::GoneAway),
            };
            match frame.kind {
                // With NO_ERROR what has begun goes on.
                GOAWAY if frame.error_code() != 0 => return Fate::GoneAway(frame.error_code()),
                GOAWAY => goaway = Some(0),
                RST_STREAM if frame.stream == stream => match status {
                    // The answer was whole: the rest of the request is not wanted.
                    Some((status, true)) => return Fate::Answered(status),
                    _ => return Fate::Reset(frame.error_code()),
                },
                HEADERS | DATA if frame.stream == stream => {
                    if let (HEADERS, None) = (frame.kind, status) {
                        status = frame.status().map(|status| (status, false));
                    }
                    if let (true, Some((status, _))) = (frame.flags & END_STREAM != 0, status) {
                        return Fate::Answered(status);
                    }
                }
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let payload = if frame.kind == PING { &*frame.payload } else { &[] };
                    let _ = self.try_send_all(&encode(frame.kind, ACK, 0, payload));
                }
                _ => {}
            }
        }
    }

    /// The next frame of this type; others are skipped, SETTINGS and PING answered.
    #[track_caller]
    pub fn next_of(&mut self, kind: u8) -> Frame {
        self.next_matching(|frame| frame.kind == kind)
    }

    /// The next frame that is wanted; others are skipped, SETTINGS and PING answered.
    #[track_caller]
    pub fn next_matching(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next();
            if wanted(&frame) {
                return frame;
            }
            if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
                let payload = if frame.kind == PING { &*frame.payload } else { &[] };
                self.send(frame.kind, ACK, 0, payload);
            }
        }
    }

    /// Waits until the peer has ended the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        self.wire.expect_end();
    }

    /// Everything that still comes until the end of the connection.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        self.wire.rest()
    }
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn error_code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4).and_then(|code| code.try_into().ok());
        u32::from_be_bytes(code.expect("an error code"))
    }

    /// The status in HEADERS, from the first representation of a connection's first answer
    /// (RFC 7541 §6); the digits may be Huffman-coded.
    pub fn status(&self) -> Option<u16> {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        match *self.payload.first()? {
            byte @ 0x88..=0x8e => Some(INDEXED[usize::from(byte - 0x88)]),
            // A literal with the name of entry 8 to 14.
            byte if (8..=14).contains(&(byte & 0x0f)) && byte & 0x80 == 0 => {
                let length = *self.payload.get(1)?;
                let value = self.payload.get(2..2 + usize::from(length & 0x7f))?;
                if length & 0x80 == 0 {
                    return std::str::from_utf8(value).ok()?.parse().ok();
                }
                let bits = value.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
                huffman_digits(bits << (32 - 8 * value.len()))
            }
            _ => None,
        }
    }
}

/// Three digits (RFC 7541 appendix B): 0 to 2 have five bits, the others six.
fn huffman_digits(mut bits: u32) -> Option<u16> {
    let mut number = 0;
    for _ in 0..3 {
        let (digit, length) = match bits >> 27 {
            short @ 0..=2 => (short, 5),
            _ => ((bits >> 26).checked_sub(0b01_1001 - 3)?, 6),
        };
        number = number * 10 + u16::try_from(digit).ok()?;
        bits <<= length;
    }
    Some(number)
}

/// A frame as bytes.
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without indexing or Huffman (RFC 7541 §6.2.2).
pub fn field_block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            push_length(&mut block, text.len());
            block.extend(text);
        }
    }
    block
}

/// The same of text; each character is a byte.
pub fn text_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        push_text(&mut block, name);
        push_text(&mut block, value);
    }
    block
}

/// A length with a prefix of seven bits (RFC 7541 §5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    if length < 0x7f {
        block.push(length as u8);
        return;
    }
    block.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        block.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// The same, each of them added to the dynamic table (RFC 7541 §6.2.1).
pub fn indexed_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x40);
        push_text(&mut block, name);
        push_text(&mut block, value);
    }
    block
}

/// HEADERS that are whole.
pub fn head(stream: u32, is_end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let flags = END_HEADERS | if is_end { END_STREAM } else { 0 };
    encode(HEADERS, flags, stream, &text_block(fields))
}

/// HEADERS that ask for a WebSocket (RFC 8441 §5).
pub fn websocket(stream: u32, path: &str) -> Vec<u8> {
    let protocol = [(":method", "CONNECT"), (":protocol", "websocket")];
    let place = [GET[1], (":path", path), GET[3], ("sec-websocket-version", "13")];
    head(stream, false, &[&protocol[..], &place].concat())
}

/// DATA.
pub fn data(stream: u32, is_end: bool, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    encode(DATA, if is_end { END_STREAM } else { 0 }, stream, bytes.as_ref())
}

/// A string literal (RFC 7541 §5.2), each character of `text` a byte.
fn push_text(block: &mut Vec<u8>, text: &str) {
    push_length(block, text.chars().count());
    block.extend(text.chars().map(|character| u8::try_from(character).unwrap()));
}

#[test]
fn a_status_is_read_in_every_coding() {
    let status = |payload: &[u8]| {
        let payload = payload.to_vec();
        Frame { kind: HEADERS, flags: 0, stream: 1, payload }.status()
    };
    assert_eq!(status(&[0x88]), Some(200));
    assert_eq!(status(&[0x8c, 0x61]), Some(400));
    assert_eq!(status(&[0x48, 3, b'4', b'2', b'1']), Some(421));
    // `302` of RFC 7541 appendix C.6.1.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
}
