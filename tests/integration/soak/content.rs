//! Bodies that say whose they are: every piece of one differs from that of any other and from every
//! other piece, so that a cut, a repetition or somebody else's bytes show.

use super::dice::mix;

/// The bytes from `from` up to and without `to` of the body of this request.
pub fn content(marker: u64, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((to - from + WORD) as usize);
    let first = from / WORD;
    let mut word = first;
    while word * WORD < to {
        bytes.extend(mix(marker ^ word.wrapping_mul(0x9e37_79b9)).to_be_bytes());
        word += 1;
    }
    let skipped = (from - first * WORD) as usize;
    bytes.drain(..skipped);
    bytes.truncate((to - from) as usize);
    bytes
}

/// What is wrong with this body of this request.
pub fn fault(marker: u64, size: u64, bytes: &[u8]) -> Option<String> {
    if bytes.len() as u64 != size {
        return Some(format!("{} bytes instead of {size}", bytes.len()));
    }
    piece_fault(marker, 0, bytes)
}

/// What is wrong with a piece of it that begins at `from`.
pub fn piece_fault(marker: u64, from: u64, bytes: &[u8]) -> Option<String> {
    let wanted = content(marker, from, from + bytes.len() as u64);
    let at = bytes.iter().zip(&wanted).position(|(one, other)| one != other)?;
    let end = bytes.len().min(at + 80);
    Some(format!("foreign bytes at {}: {}", from + at as u64, bytes[at..end].escape_ascii()))
}

const WORD: u64 = 8;
