//! What one client asks for on one connection, stream by stream.

use std::fmt::Write;

use super::tricks;
use crate::harness::h2_frames::{DATA, END_HEADERS, END_STREAM, HEADERS, encode, field_block};
use crate::mutations::dice::Dice;
use crate::mutations::marker::marker;

/// CONTINUATION (RFC 9113 §6.10).
const CONTINUATION: u8 = 9;

/// Field lines.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A stream.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The head, pseudo-header fields included.
    pub fields: Fields,
    /// The body, frame by frame.
    pub data: Vec<Vec<u8>>,
    /// The trailer section.
    pub trailers: Option<Fields>,
    /// Whether END_STREAM comes at the end of it.
    pub ends: bool,
    /// Where the header block is cut for a CONTINUATION frame.
    pub cut: Option<usize>,
    /// Whether anything was done to it.
    pub is_bent: bool,
    /// Whether it is one for which a server may end the connection: it is sent when all the others
    /// are over.
    pub is_last_word: bool,
    /// The mark of who sends it.
    pub marker: String,
}

impl Asked {
    /// The streams of a case.
    pub fn of(seed: u64, case: u32) -> Vec<Self> {
        let dice = &mut Dice::of(!seed, case);
        let quiet = 6 + dice.below(9);
        let bend = |number| {
            let mut asked = Self::valid(dice, case, number);
            asked.is_last_word = number >= quiet;
            if asked.is_last_word {
                tricks::play_last(&mut asked, dice);
            }
            let tricks = if dice.one_in(8) { 0 } else { 1 + dice.below(2) };
            (0..tricks).for_each(|_| tricks::play(&mut asked, dice));
            asked.is_bent = tricks > 0 || asked.is_last_word;
            asked
        };
        (0..quiet + 1).map(bend).collect()
    }

    fn valid(dice: &mut Dice, case: u32, number: usize) -> Self {
        let marker = marker(case, number);
        let text = format!("{marker}+{}", "x".repeat(dice.below(40))).into_bytes();
        let data: Vec<Vec<u8>> = match dice.below(3) {
            0 => Vec::new(),
            _ => text.chunks(1 + dice.below(60)).map(<[u8]>::to_vec).collect(),
        };
        let method = match data.is_empty() {
            true => dice.pick(&["GET", "GET", "HEAD", "OPTIONS", "DELETE"]),
            false => dice.pick(&["POST", "POST", "PUT", "PATCH", "DELETE", "GET"]),
        };
        let path = format!("/{marker}");
        let mut fields: Fields = [
            (":method", method),
            (":scheme", "https"),
            (":path", &path),
            (":authority", "app.test"),
            ("x-marker", &marker),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        if !data.is_empty() && dice.one_in(2) {
            fields.push((b"content-length".to_vec(), text.len().to_string().into()));
        }
        let trailers =
            (!data.is_empty() && dice.one_in(8)).then(|| vec![(b"x-sum".to_vec(), b"1".to_vec())]);
        let cut = dice.one_in(8).then(|| dice.below(60));
        Self {
            fields,
            data,
            trailers,
            ends: true,
            cut,
            is_bent: false,
            is_last_word: false,
            marker,
        }
    }

    /// Its frames on this stream.
    pub fn frames(&self, stream: u32) -> Vec<u8> {
        let last = |is_last: bool| if is_last && self.ends { END_STREAM } else { 0 };
        let has_trailers = self.trailers.is_some();
        let block = field_block(&self.fields);
        let end = last(self.data.is_empty() && !has_trailers);
        let mut frames = match self.cut.filter(|cut| *cut < block.len()) {
            None => encode(HEADERS, END_HEADERS | end, stream, &block),
            Some(cut) => {
                let mut frames = encode(HEADERS, end, stream, &block[..cut]);
                frames.extend(encode(CONTINUATION, END_HEADERS, stream, &block[cut..]));
                frames
            }
        };
        for (place, data) in self.data.iter().enumerate() {
            let end = last(place + 1 == self.data.len() && !has_trailers);
            frames.extend(encode(DATA, end, stream, data));
        }
        if let Some(trailers) = &self.trailers {
            let block = field_block(trailers);
            frames.extend(encode(HEADERS, END_HEADERS | last(true), stream, &block));
        }
        frames
    }

    /// All of it as text.
    pub fn shown(&self) -> String {
        let line = |(name, value): &(Vec<u8>, Vec<u8>)| {
            format!("    {}: {}\n", name.escape_ascii(), value.escape_ascii())
        };
        let mut text: String = self.fields.iter().map(line).collect();
        for data in &self.data {
            writeln!(text, "    DATA {}", data.escape_ascii()).unwrap();
        }
        for field in self.trailers.iter().flatten() {
            write!(text, "    trailer {}", line(field)).unwrap();
        }
        let end = if self.ends { "END_STREAM" } else { "no end" };
        format!("{text}    {end}, cut at {:?}\n", self.cut)
    }

    /// Adds a field behind the pseudo-header fields.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.fields.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
    }

    /// Changes every field of this name, or adds it where there is none.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let mut is_there = false;
        for (_, old) in self.fields.iter_mut().filter(|(key, _)| key == name.as_bytes()) {
            *old = value.to_vec();
            is_there = true;
        }
        if !is_there {
            self.add(name, value);
        }
    }
}
