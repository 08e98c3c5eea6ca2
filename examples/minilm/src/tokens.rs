//! Text to token ids, padded to the longest sentence.

use miette::{Result, miette};
use std::path::Path;
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer};

/// Ids and attention mask, `[batch][length]`.
pub struct Tokens {
    pub ids: Vec<Vec<i64>>,
    pub mask: Vec<Vec<i64>>,
}

impl Tokens {
    pub fn batch(&self) -> usize {
        self.ids.len()
    }

    pub fn length(&self) -> usize {
        self.ids.first().map_or(0, Vec::len)
    }
}

/// By the model's own tokenizer; sentences are cut at its limit.
pub fn word_piece(file: &Path, sentences: &[String]) -> Result<Tokens> {
    let fault = |e: tokenizers::Error| miette!("{}: {e}", file.display());
    let mut tokenizer = Tokenizer::from_file(file).map_err(fault)?;
    // The file asks for a fixed length of 128; shorter is the same embedding in less time.
    let strategy = PaddingStrategy::BatchLongest;
    let padding = tokenizer.get_padding().cloned().unwrap_or_default();
    tokenizer.with_padding(Some(PaddingParams { strategy, ..padding }));
    let encoded = tokenizer.encode_batch(sentences.to_vec(), true).map_err(fault)?;
    let widen = |values: &[u32]| values.iter().map(|&v| i64::from(v)).collect();
    Ok(Tokens {
        ids: encoded.iter().map(|e| widen(e.get_ids())).collect(),
        mask: encoded.iter().map(|e| widen(e.get_attention_mask())).collect(),
    })
}

/// For a model without a tokenizer: each word's id is a hash of its letters, between 1 and 499.
pub fn hashed(sentences: &[String]) -> Tokens {
    let id = |word: &str| {
        let hash = word.to_lowercase().bytes().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        (hash % 499 + 1) as i64
    };
    let words: Vec<Vec<i64>> = sentences.iter().map(|s| s.split_whitespace().map(id).collect()).collect();
    let length = words.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let padded = |row: &Vec<i64>, value: Option<i64>| {
        (0..length).map(|i| row.get(i).map_or(0, |&id| value.unwrap_or(id))).collect()
    };
    Tokens {
        ids: words.iter().map(|row| padded(row, None)).collect(),
        mask: words.iter().map(|row| padded(row, Some(1))).collect(),
    }
}
