//! Bit packing of instruction words: fields of up to 64 bits, lowest bit first, across the word boundary.
//!
//! An instruction is at most two 256-bit words, so both sides hold eight 64-bit limbs.

/// One 256-bit instruction word as four little-endian 64-bit limbs.
pub type Word = [u64; 4];

/// Bits of one word.
pub const WORD_BITS: u32 = 256;

/// Limbs of the widest instruction.
const LIMBS: usize = 8;

/// Collects fields from bit 0 upwards.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    limbs: [u64; LIMBS],
    at: u32,
}

impl BitWriter {
    /// Appends the low `bits` bits of `value` (`bits` ≤ 64; higher bits of `value` must be zero).
    pub fn put(&mut self, value: u64, bits: u32) {
        debug_assert!(bits <= 64 && (bits == 64 || value >> bits == 0));
        let (limb, shift) = ((self.at / 64) as usize, self.at % 64);
        self.limbs[limb] |= value << shift;
        if shift + bits > 64 {
            self.limbs[limb + 1] |= value >> (64 - shift);
        }
        self.at += bits;
    }

    /// The words written so far; the instruction's row says how many of the two count.
    pub fn words(&self) -> [Word; 2] {
        let l = &self.limbs;
        [[l[0], l[1], l[2], l[3]], [l[4], l[5], l[6], l[7]]]
    }
}

/// Takes fields off in the order they were put.
#[derive(Clone, Debug)]
pub struct BitReader {
    limbs: [u64; LIMBS],
    at: u32,
}

impl BitReader {
    /// Reads from one or two words (`second` is zero for a one-word instruction).
    pub fn new(first: &Word, second: &Word) -> Self {
        let mut limbs = [0; LIMBS];
        limbs[..4].copy_from_slice(first);
        limbs[4..].copy_from_slice(second);
        Self { limbs, at: 0 }
    }

    /// The next `bits` bits (≤ 64), zero-extended.
    pub fn get(&mut self, bits: u32) -> u64 {
        debug_assert!(bits <= 64);
        if bits == 0 {
            return 0;
        }
        let (limb, shift) = ((self.at / 64) as usize, self.at % 64);
        let mut value = self.limbs[limb] >> shift;
        if shift + bits > 64 {
            value |= self.limbs[limb + 1] << (64 - shift);
        }
        self.at += bits;
        if bits == 64 { value } else { value & ((1 << bits) - 1) }
    }

    /// Whether every bit not yet read is zero.
    pub fn rest_is_zero(&self) -> bool {
        let (limb, shift) = ((self.at / 64) as usize, self.at % 64);
        let mut rest = self.limbs.iter().skip(limb);
        rest.next().is_none_or(|limb| limb >> shift == 0) && rest.all(|limb| *limb == 0)
    }
}

/// Sign-extends the low `bits` bits of `value`.
pub fn sign_extend(value: u64, bits: u32) -> i64 {
    let shift = 64 - bits;
    ((value << shift) as i64) >> shift
}

/// Whether `value` fits a two's-complement field of `bits` bits.
pub fn fits_signed(value: i64, bits: u32) -> bool {
    sign_extend(value as u64, bits) == value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cross_limb_and_word_boundaries() {
        let fields: [(u64, u32); 9] = [
            (5, 3),
            (u64::MAX, 64),
            (0x1234, 61),
            (1, 1),
            (0, 7),
            (u64::MAX >> 4, 60),
            (0xabcdef, 24),
            (9, 40),
            (u64::MAX, 64),
        ];
        let mut w = BitWriter::default();
        for (v, b) in fields {
            w.put(v, b);
        }
        let [a, b] = w.words();
        let mut r = BitReader::new(&a, &b);
        for (v, bits) in fields {
            assert!(!r.rest_is_zero());
            assert_eq!(r.get(bits), v);
        }
        assert!(r.rest_is_zero());
    }

    #[test]
    fn signs() {
        assert_eq!(sign_extend(0xfffff, 20), -1);
        assert!(fits_signed(-(1 << 19), 20) && !fits_signed(1 << 19, 20));
    }
}
