//! What a client's bytes are held to on their way to the HTTP library.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Instant;

use super::field_block::Malformed;
use super::frames::{Frames, Patience};
use super::guard::{Ambiguous, Guard};

/// Heads that the library is given in one turn, and bytes with a head in them; and what comes in
/// one piece with the last.
const HEADS_A_TURN: u64 = 8;
const BYTES_A_TURN: usize = 16 * 1024;

/// The scanners of one connection, and what they have found.
#[derive(Debug, Default)]
pub struct Inspection {
    guard: RefCell<Guard>,
    /// What is wrong with a head.
    refused: Cell<Option<Ambiguous>>,
    /// What is wrong with the body that is being read.
    broken: Cell<Option<Ambiguous>>,
    /// Over HTTP/2.
    frames: RefCell<Option<Box<Frames>>>,
    /// How many heads had come when the library was last given a rest, and how many bytes since.
    rested: Cell<u64>,
    since_rest: Cell<usize>,
    is_flooded: Cell<bool>,
    is_unwelcome: Cell<bool>,
    malformed: Cell<Option<Malformed>>,
}

impl Inspection {
    /// No request is under way after `answered` of them: the next byte begins the head of an HTTP/1
    /// request. Whether the library, which was held back, is to be asked to read again.
    pub fn expect_head(&self, answered: u64) -> bool {
        self.guard.borrow_mut().expect_head(answered)
    }

    /// From here on HTTP/2 is spoken.
    pub fn expect_frames(&self) {
        self.frames.replace(Some(Box::new(Frames::new(Instant::now()))));
    }

    /// See [`Frames::open`].
    pub(super) fn open_frame(&self) -> Option<u64> {
        self.frames.borrow().as_ref().and_then(|frames| frames.open())
    }

    /// See [`Frames::has_begun`].
    pub(super) fn has_begun(&self) -> bool {
        self.frames.borrow().as_ref().is_some_and(|frames| frames.has_begun())
    }

    /// Whether so much has come in one turn over HTTP/2 that the requests are to be looked at
    /// before the next ones are read; it asks for that once. The library makes a map of each
    /// head, and a hundred bytes can stand for tens of KiB (RFC 7541 §7.3).
    pub(super) fn needs_rest(&self) -> bool {
        let Some(heads) = self.frames.borrow().as_ref().map(|frames| frames.heads()) else {
            return false;
        };
        let fresh = heads - self.rested.get();
        let needs_rest =
            fresh >= HEADS_A_TURN || (fresh > 0 && self.since_rest.get() >= BYTES_A_TURN);
        if needs_rest {
            self.rested.set(heads);
            self.since_rest.set(0);
        }
        needs_rest
    }

    /// The requests over HTTP/2 so far, with the one whose head is not whole.
    pub fn requests(&self) -> u64 {
        self.frames.borrow().as_ref().map_or(0, |frames| frames.requests())
    }

    /// What the library has of a head that is not whole will be looked at once more.
    pub fn rewind(&self) {
        self.guard.borrow_mut().rewind();
    }

    /// Why a head was refused, if one was.
    pub fn refused(&self) -> Option<Ambiguous> {
        self.refused.get()
    }

    /// Whether the peer floods us with frames that ask for nothing.
    pub fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }

    /// A request over HTTP/2 has ended before its answer was complete. Whether that was one too
    /// many now, so that the driver is to look around.
    pub(super) fn abandon(&self) -> bool {
        let patience = match &mut *self.frames.borrow_mut() {
            Some(frames) => frames.abandon(Instant::now()),
            None => Patience::Left,
        };
        match patience {
            Patience::Left => false,
            Patience::Over => !self.is_unwelcome.replace(true),
            Patience::LongOver => !self.is_flooded.replace(true),
        }
    }

    /// Whether the peer has abandoned so many requests that it is asked to go.
    pub(super) fn is_unwelcome(&self) -> bool {
        self.is_unwelcome.get()
    }

    /// What one of the requests over HTTP/2 has in it that the library takes and we do not.
    pub(super) fn malformed(&self) -> Option<Malformed> {
        self.malformed.get()
    }

    /// Whether the library is given nothing more.
    pub fn is_over(&self) -> bool {
        self.is_flooded() || self.refused().is_some()
    }

    /// What is wrong with the body that is being read, for its reader.
    pub fn broken(&self) -> Option<io::Error> {
        let Ambiguous(why) = self.broken.get()?;
        Some(io::Error::new(io::ErrorKind::InvalidData, why))
    }

    /// Whether what comes is not for the library before it has answered.
    pub fn is_holding(&self) -> bool {
        self.frames.borrow().is_none() && self.guard.borrow().is_holding()
    }

    /// Looks at the next bytes; how many of them the library may have now.
    pub fn look(&self, bytes: &[u8]) -> usize {
        if let Some(frames) = &mut *self.frames.borrow_mut() {
            if frames.look(bytes, Instant::now()).is_err() {
                self.is_flooded.set(true);
            }
            self.malformed.set(frames.malformed());
            self.since_rest.set(self.since_rest.get().saturating_add(bytes.len()));
            return bytes.len();
        }
        match self.guard.borrow_mut().look(bytes) {
            Ok(passed) => passed,
            Err(refusal) => {
                let place = if refusal.is_in_body { &self.broken } else { &self.refused };
                place.set(Some(refusal.why));
                refusal.before
            }
        }
    }
}
