//! A client of one HTTP/2 connection: it asks for everything at once and reads what comes.

use std::collections::HashMap;

use super::asked::Asked;
use crate::harness::Wire;
use crate::harness::h2_frames::{
    ACK, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, encode,
};

/// What became of the streams, by their place.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Bodies of answers: the numbers of requests, where an application answered.
    pub bodies: HashMap<usize, Vec<u8>>,
    /// Streams that are over: answered, or reset.
    pub over: Vec<usize>,
    /// Whether the peer ended the connection.
    pub is_ended: bool,
    /// What went wrong at the client itself.
    pub complaint: Option<String>,
}

/// Asks and takes all that comes.
pub fn play(mut wire: Wire, asked: &[Asked]) -> Played {
    let mut played = Played::default();
    let mut unread = Vec::new();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(encode(SETTINGS, 0, 0, &[]));
    for is_last_word in [false, true] {
        for (stream, one) in (1..).step_by(2).zip(asked) {
            if one.is_last_word == is_last_word {
                bytes.extend(one.frames(stream));
            }
        }
        let _ = wire.try_send(std::mem::take(&mut bytes));
        let is_open = |played: &Played, (place, one): (usize, &Asked)| {
            one.is_last_word == is_last_word && one.ends && !played.over.contains(&place)
        };
        while asked.iter().enumerate().any(|one| is_open(&played, one)) {
            if !played.take_some(&mut unread, &mut wire) {
                return played;
            }
        }
    }
    played
}

impl Played {
    /// Takes what comes; false when nothing does.
    fn take_some(&mut self, unread: &mut Vec<u8>, wire: &mut Wire) -> bool {
        match wire.take_some() {
            Ok(bytes) if !bytes.is_empty() => unread.extend(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.complaint = Some(format!("silence: over are {:?}", self.over));
                return false;
            }
            Ok(_) | Err(_) => {
                self.is_ended = true;
                return false;
            }
        }
        while self.take(unread, wire) {}
        true
    }

    /// Takes one frame off `unread`; false when there is no whole one.
    fn take(&mut self, unread: &mut Vec<u8>, wire: &mut Wire) -> bool {
        let Some(head) = unread.get(..9) else { return false };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        if unread.len() < 9 + length {
            return false;
        }
        let payload: Vec<u8> = unread.drain(..9 + length).skip(9).collect();
        let place = (stream / 2) as usize;
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let payload = if kind == PING { &*payload } else { &[] };
                let _ = wire.try_send(encode(kind, ACK, 0, payload));
            }
            DATA => self.bodies.entry(place).or_default().extend(payload),
            GOAWAY => self.is_ended = true,
            _ => {}
        }
        let is_last = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if (is_last || kind == RST_STREAM) && !self.over.contains(&place) {
            self.over.push(place);
        }
        true
    }

    /// The number of the request that was answered on the stream at `place`; `None` where the proxy
    /// itself has answered.
    pub fn serial(&self, place: usize) -> Option<u64> {
        str::from_utf8(self.bodies.get(&place)?).ok()?.parse().ok()
    }
}
