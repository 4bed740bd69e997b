//! A WebSocket that sends back what it gets (RFC 6455), as a machine from bytes to bytes.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};

/// The longest message, in bytes, and with it the most that one connection keeps.
pub(super) const MESSAGE: usize = 64 << 10;

/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Why a connection is closed (RFC 6455 §7.4.1).
const PROTOCOL_ERROR: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// The value of `Sec-WebSocket-Accept` for a request that asks for a WebSocket as RFC 6455 §4.2.1
/// wants it; `None` for any other request.
pub(super) fn accept(headers: &HeaderMap) -> Option<String> {
    let lists = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let whole = STANDARD.decode(key).is_ok_and(|key| key.len() == 16);
    let wanted = lists(UPGRADE, "websocket") && lists(CONNECTION, "upgrade");
    if !whole || !wanted || headers.get(SEC_WEBSOCKET_VERSION)? != "13" {
        return None;
    }
    let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    Some(STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text)))
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// Bytes that are no whole frame yet.
    pending: Vec<u8>,
    /// The message whose fragments are arriving.
    message: Option<Message>,
    /// Nothing is read after a close frame.
    pub(super) closed: bool,
}

#[derive(Debug)]
struct Message {
    opcode: u8,
    payload: Vec<u8>,
}

struct Frame {
    last: bool,
    opcode: u8,
    payload: Vec<u8>,
}

impl Echo {
    /// Takes what arrived and appends to `answer` what is to be sent.
    pub(super) fn receive(&mut self, bytes: &[u8], answer: &mut Vec<u8>) {
        self.pending.extend_from_slice(bytes);
        while !self.closed {
            let handled = match self.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.handle(frame, answer),
                Err(code) => Err(code),
            };
            if let Err(code) = handled {
                self.close(&code.to_be_bytes(), answer);
            }
        }
    }

    /// The next frame, unmasked; `None` while it is not whole.
    fn next_frame(&mut self) -> Result<Option<Frame>, u16> {
        let Some((&[first, second], rest)) = self.pending.split_first_chunk() else {
            return Ok(None);
        };
        let (last, opcode, reserved) = (first & 0x80 != 0, first & 0x0f, first & 0x70);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let control = opcode & 0x8 != 0;
        // A client must mask (§5.1), and nobody agreed on an extension that uses reserved bits.
        if reserved != 0 || !masked || (control && (!last || usize::from(short) > CONTROL)) {
            return Err(PROTOCOL_ERROR);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let before = self.message.as_ref().map_or(0, |message| message.payload.len());
        let room = if control { CONTROL } else { MESSAGE - before.min(MESSAGE) };
        let length =
            usize::try_from(length).ok().filter(|length| *length <= room).ok_or(TOO_BIG)?;
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let frame = Frame { last, opcode, payload: payload.collect() };
        self.pending = rest.to_vec();
        Ok(Some(frame))
    }

    fn handle(&mut self, frame: Frame, answer: &mut Vec<u8>) -> Result<(), u16> {
        let Frame { last, opcode, payload } = frame;
        let message = match (opcode, self.message.take()) {
            (PING, message) => {
                self.message = message;
                write(PONG, &payload, answer);
                return Ok(());
            }
            (PONG, message) => {
                self.message = message;
                return Ok(());
            }
            (CLOSE, _) => {
                // The code comes back as it came; one byte is no code (§5.5.1).
                if payload.len() == 1 {
                    return Err(PROTOCOL_ERROR);
                }
                let code = payload.first_chunk::<2>().map_or(&[][..], |code| code);
                self.close(code, answer);
                return Ok(());
            }
            (TEXT | BINARY, None) => Message { opcode, payload },
            (CONTINUATION, Some(mut message)) => {
                message.payload.extend_from_slice(&payload);
                message
            }
            _ => return Err(PROTOCOL_ERROR),
        };
        if !last {
            self.message = Some(message);
            return Ok(());
        }
        if message.opcode == TEXT && std::str::from_utf8(&message.payload).is_err() {
            return Err(NOT_UTF8);
        }
        write(message.opcode, &message.payload, answer);
        Ok(())
    }

    fn close(&mut self, code: &[u8], answer: &mut Vec<u8>) {
        write(CLOSE, code, answer);
        self.closed = true;
    }
}

/// One whole frame from the server's side: never masked (§5.1).
fn write(opcode: u8, payload: &[u8], answer: &mut Vec<u8>) {
    answer.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => answer.push(length),
        (_, Ok(length)) => {
            answer.push(126);
            answer.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            answer.push(127);
            answer.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    answer.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut unmasked = Vec::new();
        write(0, payload, &mut unmasked);
        let header = unmasked.len() - payload.len();
        let mut frame = vec![first, unmasked[1] | 0x80];
        frame.extend_from_slice(&unmasked[2..header]);
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn answer(input: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        Echo::default().receive(input, &mut answer);
        answer
    }

    fn closed_with(code: u16) -> Vec<u8> {
        [&[0x88, 2][..], &code.to_be_bytes()].concat()
    }

    #[test]
    fn the_example_of_the_rfc_is_echoed() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(answer(&hello), b"\x81\x05Hello");
    }

    #[test]
    fn the_handshake_of_the_rfc_is_accepted() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            assert_eq!(accept(&headers), None, "before {name}");
            headers.insert(name, value.parse().unwrap());
        }
        assert_eq!(accept(&headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.insert("sec-websocket-key", "c2hvcnQ=".parse().unwrap());
        assert_eq!(accept(&headers), None);
    }

    #[test]
    fn bytes_may_arrive_one_by_one_and_many_frames_at_once() {
        let input = [frame(0x81, b"one"), frame(0x82, &[0, 255]), frame(0x81, b"")].concat();
        let expected = b"\x81\x03one\x82\x02\x00\xff\x81\x00";
        assert_eq!(answer(&input), expected);
        let (mut echo, mut slowly) = (Echo::default(), Vec::new());
        for byte in input {
            echo.receive(&[byte], &mut slowly);
        }
        assert_eq!(slowly, expected);
    }

    #[test]
    fn fragments_are_joined_and_a_ping_between_them_is_answered() {
        let input = [frame(0x01, b"Hel"), frame(0x89, b"?"), frame(0x80, b"lo")].concat();
        assert_eq!(answer(&input), b"\x8a\x01?\x81\x05Hello");
    }

    #[test]
    fn a_close_is_answered_and_ends_the_conversation() {
        let bye = [&1000_u16.to_be_bytes()[..], b"bye"].concat();
        let input = [frame(0x88, &bye), frame(0x81, b"after")].concat();
        assert_eq!(answer(&input), closed_with(1000));
        assert_eq!(answer(&frame(0x88, b"")), b"\x88\x00");
        assert_eq!(answer(&frame(0x88, b"x")), closed_with(PROTOCOL_ERROR));
    }

    #[test]
    fn the_longest_message_is_echoed_and_a_longer_one_refused_before_it_arrives() {
        for length in [125, 126, 65_535, MESSAGE] {
            let payload = vec![b'a'; length];
            let mut expected = Vec::new();
            write(TEXT, &payload, &mut expected);
            assert!(answer(&frame(0x81, &payload)) == expected, "{length}");
        }
        let too_long = frame(0x81, &vec![b'a'; MESSAGE + 1]);
        assert_eq!(answer(&too_long[..10]), closed_with(TOO_BIG));
        let halves = [frame(0x01, &vec![b'a'; MESSAGE]), frame(0x80, b"b")].concat();
        assert_eq!(answer(&halves), closed_with(TOO_BIG));
        let enormous = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes()].concat();
        assert_eq!(answer(&enormous), closed_with(TOO_BIG));
    }

    #[test]
    fn what_the_protocol_forbids_is_refused() {
        let unmasked = b"\x81\x05Hello";
        assert_eq!(answer(unmasked), closed_with(PROTOCOL_ERROR));
        for forbidden in [
            frame(0xc1, b"reserved bit"),
            frame(0x83, b"unknown opcode"),
            frame(0x09, b"fragmented ping"),
            frame(0x89, &[0; 126]),
            frame(0x80, b"continues nothing"),
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
        ] {
            let answer = answer(&forbidden);
            assert_eq!(answer, closed_with(PROTOCOL_ERROR), "{forbidden:02x?}");
        }
        assert_eq!(answer(&frame(0x81, &[0xff, 0xfe])), closed_with(NOT_UTF8));
    }
}
