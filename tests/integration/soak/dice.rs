//! Decisions, all drawn from one seed.

use std::time::Duration;

/// A sequence of numbers that depends on nothing but the seed and the name of who draws.
pub struct Dice(u64);

impl Dice {
    /// The dice of one actor.
    pub fn new(seed: u64, name: &str, number: usize) -> Self {
        let name = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(seed ^ name ^ ((number as u64) << 48))
    }

    /// The next number (SplitMix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from `from` up to and without `to`.
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// Whether one chance in `of` has come.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize]
    }

    /// A pause of a few milliseconds up to so many.
    pub fn pause(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.range(2, most))
    }

    /// A size for a body: mostly small, sometimes none, sometimes large.
    pub fn size(&mut self) -> u64 {
        match self.next() % 40 {
            0 => 0,
            1..=25 => self.range(1, 2_000),
            26..=37 => self.range(2_000, 100_000),
            _ => self.range(100_000, 3_000_000),
        }
    }
}

/// A number that looks like no other's.
pub fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
