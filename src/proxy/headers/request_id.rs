//! One name per request, the same in the log, at the application and in an error answer.

use std::cell::Cell;
use std::fmt;

use aws_lc_rs::error::Unspecified;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The field that carries it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest identifier that is taken over from a trusted peer, in bytes.
const MAX_LEN: usize = 64;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// 1 to 64 letters, digits, `.`, `_` and `-`; fit for a field, a log line and a page as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; MAX_LEN],
    len: u8,
}

/// Where one worker's identifiers come from: 64 random bits that no other worker or run has, and a
/// count, scrambled so that strangers cannot tell the number of requests from two identifiers.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    key: u64,
    count: Cell<u64>,
}

impl RequestIds {
    /// Draws the random part.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub fn new() -> Result<Self, Unspecified> {
        let (mut prefix, mut key) = ([0; 8], [0; 8]);
        aws_lc_rs::rand::fill(&mut prefix)?;
        aws_lc_rs::rand::fill(&mut key)?;
        Ok(Self::from_parts(u64::from_ne_bytes(prefix), u64::from_ne_bytes(key)))
    }

    /// A fresh identifier of 32 hexadecimal digits.
    pub fn next(&self) -> RequestId {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let number = u128::from(self.prefix) << 64 | u128::from(scramble(count ^ self.key));
        let mut text = [0; MAX_LEN];
        for (place, digit) in text.iter_mut().take(32).enumerate() {
            let nibble = (number >> (124 - 4 * place)) & 0xf;
            *digit = HEX.get(nibble as usize).copied().unwrap_or(b'0');
        }
        RequestId { text, len: 32 }
    }

    /// The identifier of a request: a trusted peer's own where it is sane, else a fresh one.
    pub fn of(&self, headers: &HeaderMap, peer_trusted: bool) -> RequestId {
        if peer_trusted {
            let mut lines = headers.get_all(X_REQUEST_ID).iter();
            if let (Some(line), None) = (lines.next(), lines.next())
                && let Some(id) = RequestId::parse(line.as_bytes())
            {
                return id;
            }
        }
        self.next()
    }

    fn from_parts(prefix: u64, key: u64) -> Self {
        Self { prefix, key, count: Cell::new(0) }
    }
}

impl RequestId {
    /// Takes over an identifier of 1 to 64 letters, digits, `.`, `_` and `-`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let sane = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if bytes.is_empty() || !bytes.iter().all(sane) {
            return None;
        }
        let mut text = [0; MAX_LEN];
        text.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { text, len: u8::try_from(bytes.len()).ok()? })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// As the value of a field.
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

impl AsRef<str> for RequestId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The finaliser of SplitMix64: each number has exactly one image, so that no two counts collide.
fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::collections::HashSet;

    fn with_id(lines: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(X_REQUEST_ID, HeaderValue::from_static(line));
        }
        map
    }

    #[test]
    fn identifiers_are_unique_within_and_across_workers() {
        let workers = [RequestIds::new().unwrap(), RequestIds::new().unwrap()];
        let ids: HashSet<String> =
            (0..20_000).map(|turn| workers[turn % 2].next().to_string()).collect();
        assert_eq!(ids.len(), 20_000);
        for id in &ids {
            assert_eq!(id.len(), 32);
            assert!(id.bytes().all(|byte| HEX.contains(&byte)));
        }
    }

    #[test]
    fn the_form_is_fixed() {
        let ids = RequestIds::from_parts(0x0123_4567_89ab_cdef, 0);
        assert_eq!(ids.next().as_str(), "0123456789abcdef0000000000000000");
        assert_eq!(ids.next().as_str(), "0123456789abcdef5692161d100b05e5");
        assert_eq!(ids.next().to_value().len(), 32);
    }

    #[test]
    fn only_a_trusted_peers_sane_identifier_is_kept() {
        let ids = RequestIds::from_parts(1, 2);
        let sane = with_id(&["req-1.A_b"]);
        assert_eq!(ids.of(&sane, true).as_str(), "req-1.A_b");
        assert_ne!(ids.of(&sane, false).as_str(), "req-1.A_b");
        let long = "a".repeat(65);
        for lines in [&["a b"][..], &[""], &["<x>"], &["a", "b"], &["a\"b"]] {
            assert_eq!(ids.of(&with_id(lines), true).as_str().len(), 32, "{lines:?}");
        }
        assert!(RequestId::parse(long.as_bytes()).is_none());
        assert_eq!(RequestId::parse(&long.as_bytes()[..64]).unwrap().as_str().len(), 64);
    }

    /// The inverse of the steps of [`scramble`], each undone by itself.
    fn unscramble(number: u64) -> u64 {
        let unshift =
            |number: u64, by: u32| (0..64 / by).fold(number, |known, _| number ^ (known >> by));
        let number = unshift(number, 31).wrapping_mul(0x3196_42b2_d24d_8ec3);
        let number = unshift(number, 27).wrapping_mul(0x96de_1b17_3f11_9089);
        unshift(number, 30)
    }

    proptest! {
        #[test]
        fn no_two_counts_have_one_identifier(number: u64) {
            prop_assert_eq!(unscramble(scramble(number)), number);
        }

        #[test]
        fn what_is_taken_over_is_the_same_text(text in "[ -~]{0,70}|[a-zA-Z0-9._-]{0,66}") {
            let sane = (1..=64).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            let id = RequestId::parse(text.as_bytes());
            prop_assert_eq!(id.map(|id| id.to_string()), sane.then_some(text));
        }
    }
}
