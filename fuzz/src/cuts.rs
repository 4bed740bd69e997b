//! Where bytes are cut on their way: any way, but the same for the same seed.

/// A stream of numbers that looks random.
#[derive(Clone, Copy, Debug)]
pub struct Cuts(u64);

impl Cuts {
    /// The numbers of `seed`; those of 0 cut nothing.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self(u64::from(seed) << 32 | u64::from(seed))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The pieces of `bytes`: mostly short, sometimes long.
    pub fn pieces(mut self, mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let number = self.number();
            let size = match number % 8 {
                _ if self.0 == 0 => bytes.len(),
                0 => bytes.len(),
                1 | 2 => 1,
                3 | 4 => 1 + (number >> 8) as usize % 8,
                _ => 1 + (number >> 8) as usize % 64,
            };
            let (piece, rest) = bytes.split_at(size.min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}
