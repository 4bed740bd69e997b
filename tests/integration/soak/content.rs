//! Bodies that say whose they are: every block of one differs from those of any other and from every
//! other block, so that a cut, a repetition or somebody else's bytes show.

use std::sync::OnceLock;

use super::dice::mix;

/// The bytes from `from` up to and without `to` of the body of this request.
pub fn content(marker: u64, from: u64, to: u64) -> Vec<u8> {
    let first = from / BLOCK;
    let mut bytes = Vec::with_capacity((to - first * BLOCK + BLOCK) as usize);
    let mut index = first;
    while index * BLOCK < to {
        let key = mix(marker ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let start = (key % NOISE) as usize;
        bytes.extend_from_slice(&key.to_be_bytes());
        bytes.extend_from_slice(&noise()[start..start + BLOCK as usize - 8]);
        index += 1;
    }
    bytes.truncate((to - first * BLOCK) as usize);
    bytes.drain(..(from - first * BLOCK) as usize);
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
    if wanted == bytes {
        return None;
    }
    let at = bytes.iter().zip(&wanted).position(|(one, other)| one != other)?;
    let end = bytes.len().min(at + 80);
    Some(format!("foreign bytes at {}: {}", from + at as u64, bytes[at..end].escape_ascii()))
}

const BLOCK: u64 = 1024;
const NOISE: u64 = 64 * 1024;

/// Bytes to take blocks from, because to draw each one would be work for nothing.
fn noise() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| (0..(NOISE + BLOCK) / 8).flat_map(|n| mix(n).to_be_bytes()).collect())
}
