//! A small seeded generator (SplitMix64) for tests and for whoever draws random instructions.
//!
//! Fixed here, not taken from a crate, so that a seed means the same instructions for ever.

/// Deterministic pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for this seed.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n` (`n` > 0).
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A `bits`-bit pattern, half of the time one where errors live: 0, 1, the largest, the sign bit.
    pub fn edgy(&mut self, bits: u32) -> u64 {
        let mask = u64::MAX >> (64 - bits);
        match self.below(8) {
            0 => 0,
            1 => 1 & mask,
            2 => mask,
            3 => 1 << (bits - 1),
            4 => self.below(16) & mask,
            _ => self.next_u64() & mask,
        }
    }
}
