//! The borders of a client's HTTP/2 frames (RFC 9113 §4.1), seen on their way to the HTTP library.
//!
//! The library answers for their contents; what it does not tell is that a head has begun and does
//! not end, and that a client says much without asking for anything. Only the nine bytes before
//! each frame are looked at, and what is in heads and trailers ([`FieldBlock`]).

use std::time::Instant;

use super::field_block::{FieldBlock, Malformed};

/// The client's preface (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// Before each frame: length, type, flags, stream.
const HEAD: usize = 9;

/// Frames that ask for nothing which a client may send at once, and how many more each second.
/// A browser sends a dozen in a connection's life, a gRPC client a PING every few seconds.
const BURST: u32 = 1000;
const A_SECOND: u32 = 20;

/// Requests that a client may begin and not see to their end, at once and each second: it cancels
/// them, or has us reset their streams. A browser that leaves a page cancels as many as are open.
const ABANDONED: u32 = 100;
const ABANDONED_A_SECOND: u32 = 10;

/// How many more before it is not asked to go any longer, but left.
const ABANDONED_BEYOND: u32 = 40;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The client says too much without asking for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

/// How far a client is within its frames.
#[derive(Debug)]
pub struct Frames {
    /// What is left of the preface.
    preface: usize,
    /// What is known of a frame's own head.
    head: [u8; HEAD],
    known: usize,
    /// What is left of the payload of the frame that `head` describes.
    left: usize,
    /// Whether a request's head has begun whose last frame has not.
    is_head_open: bool,
    /// Wholes so far, the one that is open counted: frames, but a head in several is one.
    wholes: u64,
    /// Requests' heads so far, the open one counted.
    heads: u64,
    /// Further heads on streams that have one: trailers.
    trailers: u64,
    /// The newest stream.
    newest: u32,
    payload: Payload,
    block: FieldBlock,
    malformed: Option<Malformed>,
    idle: Allowance,
    abandoned: Allowance,
    abandoned_beyond: Allowance,
}

/// What a client that abandons one request after the other is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Nothing.
    Left,
    /// To go.
    Over,
    /// Nothing more.
    LongOver,
}

/// What is in the payload of the frame that is being read, where it is a part of a field block.
#[derive(Debug, Default)]
struct Payload {
    is_block: bool,
    /// Whether its first byte says how much padding there is.
    is_padded: bool,
    /// What comes before the block.
    lead: usize,
    /// What comes after it.
    padding: usize,
}

impl Frames {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            preface: PREFACE,
            head: [0; HEAD],
            known: 0,
            left: 0,
            is_head_open: false,
            wholes: 0,
            heads: 0,
            trailers: 0,
            newest: 0,
            payload: Payload::default(),
            block: FieldBlock::default(),
            malformed: None,
            idle: Allowance::new(BURST, A_SECOND, now),
            abandoned: Allowance::new(ABANDONED, ABANDONED_A_SECOND, now),
            abandoned_beyond: Allowance::new(ABANDONED + ABANDONED_BEYOND, ABANDONED_A_SECOND, now),
        }
    }

    /// Looks at `bytes`, which follow those of the last call.
    ///
    /// # Errors
    /// When the client is to be given up.
    pub fn look(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        skip(&mut self.preface, &mut bytes);
        while !bytes.is_empty() {
            let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= payload.len();
            self.look_within(payload);
            bytes = rest;
            let wanted = (HEAD - self.known).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            if let Some(room) = self.head.get_mut(self.known..self.known + wanted) {
                room.copy_from_slice(head);
            }
            bytes = rest;
            self.wholes += u64::from(self.known == 0 && wanted > 0 && !self.is_head_open);
            self.known += wanted;
            if self.known == HEAD {
                self.known = 0;
                self.begin(now)?;
            }
        }
        Ok(())
    }

    /// The number of what has begun, is short and should be here: a request's head, or a frame
    /// other than a piece of a body. It is one number from the first byte to the last.
    #[must_use]
    pub fn open(&self) -> Option<u64> {
        let [_, _, _, kind, ..] = self.head;
        let is_within = self.is_head_open || self.known > 0 || (self.left > 0 && kind != DATA);
        is_within.then_some(self.wholes)
    }

    /// Whether the client's first frame, which belongs to its preface (RFC 9113 §3.4), is here.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.wholes > 1 || (self.wholes == 1 && self.open().is_none())
    }

    /// Heads of requests and trailers so far, the open one counted.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Requests so far, with the one whose head is open.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.heads - self.trailers
    }

    /// A request has ended before its answer was complete, and not by our fault.
    pub fn abandon(&mut self, now: Instant) -> Patience {
        let (first, last) = (self.abandoned.take(now), self.abandoned_beyond.take(now));
        match (first, last) {
            (Ok(()), _) => Patience::Left,
            (Err(Flood), Ok(())) => Patience::Over,
            (Err(Flood), Err(Flood)) => Patience::LongOver,
        }
    }

    /// What a request has in it that the library would take, if one has.
    #[must_use]
    pub fn malformed(&self) -> Option<Malformed> {
        self.malformed
    }

    /// Looks at a part of a frame's payload, of which `left` is what comes after.
    fn look_within(&mut self, mut bytes: &[u8]) {
        let payload = &mut self.payload;
        if !payload.is_block || self.malformed.is_some() {
            return;
        }
        if let (true, Some((&padding, rest))) = (payload.is_padded, bytes.split_first()) {
            payload.is_padded = false;
            payload.padding = usize::from(padding);
            bytes = rest;
        }
        skip(&mut payload.lead, &mut bytes);
        let padding = payload.padding.saturating_sub(self.left);
        let block = bytes.get(..bytes.len().saturating_sub(padding)).unwrap_or_default();
        self.malformed = self.block.look(block).err();
    }

    /// All of a frame's head is known.
    fn begin(&mut self, now: Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.payload = Payload { is_block: kind == CONTINUATION, ..Payload::default() };
        match kind {
            HEADERS => {
                self.heads += 1;
                self.is_head_open = flags & END_HEADERS == 0;
                let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
                let is_trailers = stream <= self.newest;
                self.block.begin(is_trailers);
                self.newest = self.newest.max(stream);
                self.payload = Payload {
                    is_block: true,
                    is_padded: flags & PADDED != 0,
                    lead: if flags & PRIORITY != 0 { 5 } else { 0 },
                    padding: 0,
                };
                self.trailers += u64::from(is_trailers);
                // One for each request at most.
                if 2 * self.trailers > self.heads {
                    self.idle.take(now)?;
                }
            }
            CONTINUATION if flags & END_HEADERS != 0 => self.is_head_open = false,
            // The library counts these where they do harm, and honest clients send many.
            RST_STREAM | WINDOW_UPDATE => {}
            DATA if self.left > 0 || flags & END_STREAM != 0 => {}
            CONTINUATION if self.left > 0 => {}
            _ => self.idle.take(now)?,
        }
        Ok(())
    }
}

/// So many of something, and more as time passes.
#[derive(Debug)]
struct Allowance {
    left: u32,
    most: u32,
    a_second: u32,
    since: Instant,
}

impl Allowance {
    fn new(most: u32, a_second: u32, now: Instant) -> Self {
        Self { left: most, most, a_second, since: now }
    }

    fn take(&mut self, now: Instant) -> Result<(), Flood> {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(self.a_second);
            self.left = self.left.saturating_add(more).min(self.most);
            self.since = now;
        }
        self.left = self.left.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }
}

/// Goes over what is left of something.
fn skip(left: &mut usize, bytes: &mut &[u8]) {
    let here = (*left).min(bytes.len());
    *left -= here;
    *bytes = bytes.get(here..).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
        bytes.extend(std::iter::repeat_n(0xff, length));
        bytes
    }

    fn opened() -> Frames {
        let mut frames = Frames::new(Instant::now());
        look(&mut frames, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames
    }

    fn look(frames: &mut Frames, bytes: &[u8]) {
        frames.look(bytes, Instant::now()).unwrap();
    }

    #[test]
    fn a_head_is_open_from_its_first_byte_to_its_last() {
        let mut bytes = frame(HEADERS, END_STREAM, 30);
        bytes.extend(frame(CONTINUATION, 0, 10));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 7));
        let mut frames = opened();
        assert_eq!(frames.open(), None);
        let (last, before) = bytes.split_last().unwrap();
        for byte in before {
            look(&mut frames, &[*byte]);
            assert_eq!(frames.open(), Some(1));
        }
        look(&mut frames, &[*last]);
        assert_eq!(frames.open(), None);
        assert_eq!(frames.heads, 1);
    }

    /// A frame's own head had a deadline, and what follows it another.
    #[test]
    fn a_frame_and_what_belongs_to_it_are_one_and_the_next_is_another() {
        let wholes = [
            frame(SETTINGS, 0, 6),
            [frame(HEADERS, 0, 30), frame(CONTINUATION, END_HEADERS, 7)].concat(),
            frame(PING, 0, 8),
            frame(WINDOW_UPDATE, 0, 4),
        ];
        let mut frames = opened();
        assert!(!frames.has_begun());
        for (number, bytes) in (1..).zip(&wholes) {
            let (last, before) = bytes.split_last().unwrap();
            for byte in before {
                look(&mut frames, &[*byte]);
                assert_eq!(frames.open(), Some(number));
                assert_eq!(frames.has_begun(), number > 1);
            }
            look(&mut frames, &[*last]);
            assert_eq!((frames.open(), frames.has_begun()), (None, true));
        }
    }

    #[test]
    fn a_body_may_stop_anywhere_within_a_frame() {
        let mut frames = opened();
        let bytes = frame(DATA, 0, 1000);
        look(&mut frames, &bytes[..8]);
        assert_eq!(frames.open(), Some(1), "the frame's own head has begun");
        look(&mut frames, &bytes[8..500]);
        assert_eq!(frames.open(), None);
        look(&mut frames, &bytes[500..]);
        look(&mut frames, &frame(HEADERS, END_HEADERS, 3));
        assert_eq!(frames.open(), None);
    }

    #[test]
    fn any_cut_gives_the_same() {
        let mut bytes = Vec::new();
        for n in 1..=20 {
            let mut head = frame(HEADERS, END_HEADERS, n);
            head[8] = u8::try_from(n).unwrap() * 2 - 1;
            bytes.extend(head);
            bytes.extend(frame(DATA, 0, n * 7));
            bytes.extend(frame(PING, 0, 8));
        }
        for size in 1..40 {
            let mut frames = opened();
            bytes.chunks(size).for_each(|piece| look(&mut frames, piece));
            assert_eq!((frames.heads, frames.open()), (20, None), "{size}");
            assert_eq!(frames.idle.left, BURST - 20, "{size}");
        }
    }

    #[test]
    fn who_asks_for_nothing_is_given_up() {
        for (kind, length) in [(SETTINGS, 0), (PING, 8), (2, 5), (DATA, 0), (0xfa, 100)] {
            let now = Instant::now();
            let mut frames = Frames::new(now);
            frames.look(&[0; PREFACE], now).unwrap();
            let bytes = frame(kind, 0, length);
            for _ in 0..BURST {
                frames.look(&bytes, now).unwrap();
            }
            let later = now + Duration::from_secs(2);
            for _ in 0..2 * A_SECOND {
                frames.look(&bytes, later).unwrap();
            }
            assert_eq!(frames.look(&bytes, later), Err(Flood), "{kind}");
        }
    }

    /// Trailers on a stream that had ended went on for ever.
    #[test]
    fn who_sends_more_trailers_than_requests_is_given_up() {
        let mut frames = opened();
        for _ in 0..=BURST {
            look(&mut frames, &frame(HEADERS, END_HEADERS, 0));
        }
        let now = Instant::now();
        let flood = (0..=BURST).find_map(|_| frames.look(&frame(HEADERS, 4, 0), now).err());
        assert_eq!(flood, Some(Flood));
    }

    #[test]
    fn who_abandons_every_request_is_told_to_go_and_then_left() {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        let mut told = |count: u32, now| {
            let last = (0..count).map(|_| frames.abandon(now)).last();
            last.unwrap()
        };
        assert_eq!(told(ABANDONED, now), Patience::Left);
        assert_eq!(told(1, now), Patience::Over);
        let later = now + Duration::from_secs(1);
        assert_eq!(told(ABANDONED_A_SECOND, later), Patience::Left);
        assert_eq!(told(ABANDONED_BEYOND - 1, later), Patience::Over);
        assert_eq!(told(1, later), Patience::LongOver);
    }

    #[test]
    fn who_asks_or_sends_is_not() {
        let mut frames = opened();
        for n in 0..10 * u32::from(u16::MAX >> 6) {
            let mut head = frame(HEADERS, END_HEADERS, 20);
            head[5..9].copy_from_slice(&(2 * n + 1).to_be_bytes());
            look(&mut frames, &head);
            look(&mut frames, &frame(DATA, 0, 1));
            look(&mut frames, &frame(DATA, END_STREAM, 0));
            look(&mut frames, &frame(WINDOW_UPDATE, 0, 4));
            look(&mut frames, &frame(RST_STREAM, 0, 4));
        }
    }

    /// What a reader of whole frames counts: heads, whether one is open, and idle frames.
    fn counted(bytes: &[u8]) -> (u64, bool, u32) {
        let (mut heads, mut is_open, mut idle) = (0, false, 0);
        let mut rest = bytes;
        while let [a, b, c, kind, flags, ..] = *rest {
            let Some(body) = rest.get(HEAD..) else { break };
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            match (kind, length) {
                (1, _) => {
                    (heads, is_open) = (heads + 1, flags & 4 == 0);
                    // All are on one stream: after the request and its trailers comes nothing.
                    idle += u32::from(heads > 2);
                }
                (9, length) => {
                    is_open &= flags & 4 == 0;
                    idle += u32::from(length == 0 && flags & 4 == 0);
                }
                (0, 0) => idle += u32::from(flags & 1 == 0),
                (0 | 3 | 8, _) => {}
                _ => idle += 1,
            }
            rest = body.get(length..).unwrap_or_default();
        }
        (heads, is_open, idle)
    }

    proptest! {
        #[test]
        fn whatever_comes_is_the_same_however_it_is_cut(
            wanted in prop::collection::vec((0..12_u8, any::<u8>(), 0..40_usize), 0..30),
            noise in prop::collection::vec(any::<u8>(), 0..30),
            cuts in prop::collection::vec(1..50_usize, 1..10),
        ) {
            let mut bytes: Vec<u8> = wanted.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
            let expected = counted(&bytes);
            let now = Instant::now();
            let mut whole = Frames::new(now);
            whole.look(&[0; PREFACE], now).unwrap();
            whole.look(&bytes, now).unwrap();
            prop_assert_eq!((whole.heads, whole.is_head_open, BURST - whole.idle.left), expected);
            prop_assert_eq!(whole.open().is_some(), expected.1, "between frames only a head is open");
            bytes.extend(noise);
            let mut frames = [Frames::new(now), Frames::new(now)];
            let all = [&[0; PREFACE], &bytes[..]].concat();
            frames[0].look(&all, now).unwrap();
            let (mut rest, mut cuts) = (&all[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                frames[1].look(piece, now).unwrap();
                rest = behind;
            }
            prop_assert_eq!(format!("{:?}", frames[0]), format!("{:?}", frames[1]));
        }

        #[test]
        fn an_allowance_is_never_more_than_was_earned(
            pauses in prop::collection::vec((0..3000_u64, 1..200_u32), 1..40),
        ) {
            let start = Instant::now();
            let mut allowance = Allowance::new(BURST, A_SECOND, start);
            let (mut now, mut taken) = (start, 0);
            for (pause, wanted) in pauses {
                now += Duration::from_millis(pause);
                taken += (0..wanted).take_while(|_| allowance.take(now).is_ok()).count() as u64;
                let most = u64::from(BURST) + now.duration_since(start).as_secs() * u64::from(A_SECOND);
                prop_assert!(taken <= most, "{taken} of {most}");
                prop_assert!(allowance.left <= BURST);
            }
        }
    }
}
