//! Sentence embeddings on the simulated NPU: sentences in, similarity matrix out.
//!
//! `minilm --model DIR` takes the folder that `examples/minilm/fetch` makes: all-MiniLM-L6-v2 with its
//! published weights and tokenizer. The whole network runs on the device, pooling and normalisation included;
//! the host only makes tokens of the text and multiplies the finished embeddings with each other.
//! `minilm --bundled DIR` runs a small untrained encoder instead, where the weights cannot be had.
#![forbid(unsafe_code)]

mod tokens;

use bytes::Bytes;
use clap::Parser;
use kiln::{CompileOptions, Tensors, compare};
use kiln_machine::{
    target::Target,
    tensor::{DType, Tensor},
};
use miette::{IntoDiagnostic, Result, miette};
use std::{path::PathBuf, time::Instant};
use tokens::Tokens;

const SENTENCES: [&str; 6] = [
    "The cat sits outside",
    "A kitten is resting in the garden",
    "A man is playing guitar",
    "Someone performs music on stage",
    "The new movie is awesome",
    "I enjoyed that film very much",
];

/// Sentences in, similarity matrix out, computed on the simulated NPU.
#[derive(Parser)]
struct Args {
    /// Folder with model.onnx, model.safetensors and tokenizer.json (examples/minilm/fetch makes it).
    #[arg(long, required_unless_present = "bundled")]
    model: Option<PathBuf>,
    /// Folder of a small encoder to run instead; its weights are not trained.
    #[arg(long, conflicts_with = "model")]
    bundled: Option<PathBuf>,
    /// The NPU: a preset (`kiln targets`) or a TOML file.
    #[arg(long, default_value = "core")]
    target: String,
    /// The sentences to compare.
    sentences: Vec<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let sentences = match args.sentences.is_empty() {
        true => SENTENCES.map(String::from).to_vec(),
        false => args.sentences,
    };
    let target = Target::load(&args.target).into_diagnostic()?;
    let (folder, tokens) = match (args.model, args.bundled) {
        (Some(folder), _) => {
            let tokens = tokens::word_piece(&folder.join("tokenizer.json"), &sentences)?;
            (folder, tokens)
        }
        (None, Some(folder)) => {
            println!("A small bundled encoder: it is not trained, so its similarities mean nothing.");
            (folder, tokens::hashed(&sentences))
        }
        (None, None) => return Err(miette!("give --model DIR or --bundled DIR")),
    };

    let mut options = CompileOptions::new(folder.join("model.onnx"), target);
    options.dims.insert("batch".into(), tokens.batch() as i64);
    options.dims.insert("seq".into(), tokens.length() as i64);
    options.device_only = true;
    let start = Instant::now();
    let compiled = kiln::compile(&options)?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let run = compiled.run(&inputs(&tokens))?;
    let run_seconds = start.elapsed().as_secs_f64();

    let output = run.outputs.values().next().ok_or(miette!("the model has no output"))?;
    let embeddings = embeddings(output, &tokens);
    print_matrix(&sentences, &embeddings);
    println!(
        "\n{} sentences, {} tokens each. Compiled in {compile_seconds:.2} s, simulated in {run_seconds:.2} s.\n\
         On {}: {} cycles, {:.1} µs.",
        sentences.len(),
        tokens.length(),
        compiled.target.name,
        run.report.cycles,
        run.report.seconds * 1e6,
    );
    Ok(())
}

fn inputs(tokens: &Tokens) -> Tensors {
    let tensor = |rows: &[Vec<i64>]| Tensor {
        dtype: DType::I64,
        shape: vec![tokens.batch(), tokens.length()],
        data: Bytes::from_iter(rows.iter().flatten().flat_map(|id| id.to_le_bytes())),
    };
    let types = vec![vec![0; tokens.length()]; tokens.batch()];
    Tensors::from_iter([
        ("input_ids".to_string(), tensor(&tokens.ids)),
        ("attention_mask".to_string(), tensor(&tokens.mask)),
        ("token_type_ids".to_string(), tensor(&types)),
    ])
}

/// Unit vectors, one a sentence. `output` is `[batch, width]` from a model that pools, `[batch, length, width]`
/// from one that does not: then the mean over the sentence's tokens is taken here.
fn embeddings(output: &Tensor, tokens: &Tokens) -> Vec<Vec<f64>> {
    let values: Vec<f64> = compare::values(output).collect();
    let width = output.shape.last().copied().unwrap_or(1);
    let rows: Vec<&[f64]> = values.chunks(width).collect();
    let per_sentence = rows.len() / tokens.batch().max(1);
    let mut all = Vec::new();
    for (rows, mask) in rows.chunks(per_sentence.max(1)).zip(&tokens.mask) {
        let mut sum = vec![0.0; width];
        for (row, _) in rows.iter().zip(mask).filter(|(_, mask)| **mask != 0) {
            sum.iter_mut().zip(*row).for_each(|(s, v)| *s += v);
        }
        let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        all.push(sum.iter().map(|v| v / norm).collect());
    }
    all
}

fn print_matrix(sentences: &[String], embeddings: &[Vec<f64>]) {
    let width = sentences.iter().map(|s| s.chars().count()).max().unwrap_or(0).min(48);
    let columns: String = (1..=sentences.len()).map(|n| format!("{n:>7}")).collect();
    println!("{:width$}    {columns}", "");
    for (number, (sentence, a)) in sentences.iter().zip(embeddings).enumerate() {
        let short: String = sentence.chars().take(width).collect();
        let row: String = embeddings
            .iter()
            .map(|b| format!("{:>7.3}", a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>()))
            .collect();
        println!("{:>2}. {short:<width$}{row}", number + 1);
    }
}
