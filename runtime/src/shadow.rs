//! One bit for each byte of a memory: has it been written?
//!
//! Reading a byte that nothing wrote is a trap, so every memory of the simulator carries a [`Shadow`].
//! Marks and checks work on whole 64-byte words wherever a run is contiguous, which keeps them far
//! cheaper than the arithmetic they watch.

/// The written-bits of a span of bytes; a view over words owned by the memory itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadow {
    words: Vec<u64>,
}

/// Words needed for the written-bits of `bytes` bytes.
pub(crate) fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(64)
}

/// Mark `start..start + len` as written in `words`.
#[inline]
pub(crate) fn mark(words: &mut [u64], start: usize, len: usize) {
    each_word(start, len, |word, mask| {
        words[word] |= mask;
        true
    });
}

/// The first byte of `start..start + len` that was never written, if there is one.
#[inline]
pub(crate) fn first_unwritten(words: &[u64], start: usize, len: usize) -> Option<usize> {
    let mut found = None;
    each_word(start, len, |word, mask| {
        let missing = mask & !words[word];
        if missing != 0 {
            found = Some(word * 64 + missing.trailing_zeros() as usize);
        }
        missing == 0
    });
    found
}

/// Call `visit(word, mask)` for the words that cover `start..start + len`, until it returns false.
#[inline]
fn each_word(start: usize, len: usize, mut visit: impl FnMut(usize, u64) -> bool) {
    if len == 0 {
        return;
    }
    let (first, last) = (start / 64, (start + len - 1) / 64);
    let head = u64::MAX << (start % 64);
    let tail = u64::MAX >> (63 - (start + len - 1) % 64);
    if first == last {
        visit(first, head & tail);
        return;
    }
    if !visit(first, head) {
        return;
    }
    for word in first + 1..last {
        if !visit(word, u64::MAX) {
            return;
        }
    }
    visit(last, tail);
}

impl Shadow {
    /// Written-bits of `bytes` bytes, none of them set.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { words: vec![0; words_for(bytes)] }
    }

    /// Unset all bits.
    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
    }

    /// See [`mark`].
    #[inline]
    pub(crate) fn mark(&mut self, start: usize, len: usize) {
        mark(&mut self.words, start, len);
    }

    /// See [`first_unwritten`].
    #[inline]
    pub(crate) fn first_unwritten(&self, start: usize, len: usize) -> Option<usize> {
        first_unwritten(&self.words, start, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_plain_set_of_bytes() {
        let mut seed = 7u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let mut shadow = Shadow::new(300);
        let mut plain = [false; 300];
        for _ in 0..400 {
            let start = next(300);
            let len = next(300 - start + 1).min(next(90));
            if next(3) == 0 {
                shadow.mark(start, len);
                plain[start..start + len].fill(true);
            }
            let expected = (start..start + len).find(|&at| !plain[at]);
            assert_eq!(shadow.first_unwritten(start, len), expected, "{start}+{len}");
        }
    }
}
