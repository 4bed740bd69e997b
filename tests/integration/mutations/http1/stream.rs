//! What one client sends on one connection: requests one behind the other, some of them bent.

use super::draft::Draft;
use super::tricks;
use crate::mutations::dice::Dice;

/// All bytes of a connection, and how they are sent.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where a piece ends that is written at once.
    pub writes: Vec<usize>,
    /// Of each request, whether anything was done to it.
    pub mutated: Vec<bool>,
    /// Whether it goes over TLS.
    pub is_sealed: bool,
}

impl Stream {
    /// The stream of a case.
    pub fn of(seed: u64, case: u32) -> Self {
        let dice = &mut Dice::of(seed, case);
        let mut stream =
            Self { bytes: Vec::new(), writes: Vec::new(), mutated: Vec::new(), is_sealed: false };
        for number in 0..1 + dice.below(10) {
            let mut draft = Draft::valid(dice, case, number);
            let tricks = if dice.one_in(8) { 0 } else { 1 + dice.below(2) };
            for _ in 0..tricks {
                let is_taken = !dice.one_in(9);
                tricks::play(&mut draft, dice, is_taken);
            }
            let mut bytes = draft.bytes();
            let is_torn = dice.one_in(24);
            if is_torn {
                tear(&mut bytes, dice);
            }
            stream.bytes.extend(bytes);
            stream.mutated.push(tricks > 0 || is_torn);
        }
        if dice.one_in(12) {
            stream.bytes.truncate(dice.below(stream.bytes.len()) + 1);
            stream.mutated.fill(true);
        }
        stream.writes = splits(stream.bytes.len(), dice);
        stream.is_sealed = dice.one_in(16);
        stream
    }

    /// Whether every server has to take all of it.
    pub fn is_untouched(&self) -> bool {
        !self.mutated.contains(&true)
    }
}

/// Changes bytes wherever they are.
fn tear(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(bytes.len());
        let end = at + dice.below(24).min(bytes.len() - at);
        match dice.below(5) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.byte(),
            2 => bytes.insert(at, dice.byte()),
            3 if end - at < bytes.len() => drop(bytes.drain(at..end)),
            _ => {
                let slice = bytes[at..end].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, slice);
            }
        }
    }
}

/// Mostly at once, sometimes in pieces, seldom byte by byte at some place.
fn splits(length: usize, dice: &mut Dice) -> Vec<usize> {
    let mut splits: Vec<usize> = match dice.below(8) {
        0 => (0..3).map(|_| 1 + dice.below(length)).collect(),
        1 => {
            let from = dice.below(length);
            (from..length.min(from + 6)).collect()
        }
        _ => Vec::new(),
    };
    splits.push(length);
    splits.sort_unstable();
    splits
}
