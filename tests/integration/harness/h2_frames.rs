//! HTTP/2 frame by frame (RFC 9113 §4), over TLS, for what a library would hide or refuse.

use std::time::Duration;

use super::wire::{End, Wire};

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
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

impl Frames {
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
