//! Chance that can be had again: everything that a seed gives is given by that seed alone.

/// A generator of numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of one case of a seed.
    pub fn of(seed: u64, case: u32) -> Self {
        let mut dice = Self(seed ^ (u64::from(case) << 32 | u64::from(case)));
        dice.roll();
        dice
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, among: &[&'a T]) -> &'a T {
        among[self.below(among.len())]
    }

    /// A byte: mostly one that means something somewhere.
    pub fn byte(&mut self) -> u8 {
        const ODD: &[u8] =
            b"\r\n\0\t :;,=\"'\\/#?%&_.-+\x0b\x0c\x1b\x7f\x80\x85\xa0\xff()<>[]{}|`~0aA";
        if self.one_in(4) { self.roll() as u8 } else { ODD[self.below(ODD.len())] }
    }
}

#[test]
fn a_seed_gives_the_same_again() {
    let rolls = |seed, case| {
        let mut dice = Dice::of(seed, case);
        (0..8).map(|_| dice.roll()).collect::<Vec<_>>()
    };
    assert_eq!(rolls(1, 2), rolls(1, 2));
    assert_ne!(rolls(1, 2), rolls(1, 3));
    assert_ne!(rolls(1, 2), rolls(2, 2));
}
