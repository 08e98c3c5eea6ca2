//! Hand-written assembly programs of transformer parts, run against plain arithmetic in f64.
//!
//! They show that the instruction set says what is needed, without a compiler in between. Each runs on the `edge`
//! preset; what a program does, and why so, stands on top of its text.

use indexmap::IndexMap;
use kiln_machine::asm::{BlobText, assemble, disassemble};
use kiln_machine::random::Rng;
use kiln_machine::target::Target;
use kiln_machine::tensor::Tensor;
use kiln_runtime::{Options, Simulator};

/// Runs a program; the named outputs as f64.
fn run(text: &str, inputs: &[(&str, Tensor)]) -> IndexMap<String, Vec<f64>> {
    let program = assemble(text, None).unwrap();
    let again = assemble(&disassemble(&program, BlobText::Whole), None).unwrap();
    assert_eq!(again, program, "text and program are inverse");
    let target = Target::preset("edge").unwrap();
    let mut simulator = Simulator::new(&program, &target, Options::default()).unwrap();
    let inputs = inputs.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
    let (outputs, report) = simulator.run(&inputs).unwrap();
    assert!(report.cycles > 0);
    outputs.into_iter().map(|(name, t)| (name, t.to_f64_vec())).collect()
}

/// A tensor of values in −1..1, by seed; and the same as f64.
fn random(seed: u64, shape: &[usize]) -> (Tensor, Vec<f64>) {
    let mut rng = Rng::new(seed);
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| (rng.below(1 << 20) as f32 - 524_288.0) / 524_288.0).collect();
    let tensor = Tensor::from_f32(shape.to_vec(), &values).unwrap();
    (tensor, values.into_iter().map(f64::from).collect())
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= 2e-6 + 2e-5 * e.abs(), "element {i}: found {f}, expected {e}");
    }
}

/// a [m, k] times b, which element (k, n) is `b(k, n)`.
fn product(a: &[f64], (m, k, n): (usize, usize, usize), b: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let element = |i: usize| (0..k).map(|j| a[i / n * k + j] * b(j, i % n)).sum();
    (0..m * n).map(element).collect()
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

fn layer_norm(row: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let r = 1.0 / (variance + 1e-5).sqrt();
    row.iter().zip(gamma.iter().zip(beta)).map(|(x, (g, b))| (x - mean) * r * g + b).collect()
}

/// Rows to columns of a matrix of `columns` columns.
fn turned(matrix: &[f64], columns: usize) -> Vec<f64> {
    let rows = matrix.len() / columns;
    (0..matrix.len()).map(|i| matrix[i % rows * columns + i / rows]).collect()
}

#[test]
fn linear_kn() {
    let ((xt, x), (wt, w), (bt, b)) = (random(1, &[64, 128]), random(2, &[128, 96]), random(3, &[96]));
    let out = run(include_str!("assembly/linear_kn.s"), &[("x", xt), ("w", wt), ("b", bt)]);
    let mut expected = product(&x, (64, 128, 96), |k, n| w[k * 96 + n]);
    expected.iter_mut().enumerate().for_each(|(i, y)| *y += b[i % 96]);
    assert_close(&out["y"], &expected);
}

#[test]
fn linear_nk() {
    let ((xt, x), (wt, w), (bt, b)) = (random(1, &[64, 128]), random(2, &[96, 128]), random(3, &[96]));
    let out = run(include_str!("assembly/linear_nk.s"), &[("x", xt), ("w", wt), ("b", bt)]);
    let mut expected = product(&x, (64, 128, 96), |k, n| w[n * 128 + k]);
    expected.iter_mut().enumerate().for_each(|(i, y)| *y += b[i % 96]);
    assert_close(&out["y"], &expected);
}

#[test]
fn layer_norm_rows() {
    let ((xt, x), (gt, g), (bt, b)) = (random(1, &[64, 256]), random(2, &[256]), random(3, &[256]));
    let out = run(include_str!("assembly/layer_norm_rows.s"), &[("x", xt), ("g", gt), ("b", bt)]);
    let expected: Vec<f64> = x.chunks(256).flat_map(|row| layer_norm(row, &g, &b)).collect();
    assert_close(&out["y"], &expected);
}

#[test]
fn layer_norm_columns() {
    let ((xt, x), (gt, g), (bt, b)) = (random(1, &[256, 64]), random(2, &[256]), random(3, &[256]));
    let out = run(include_str!("assembly/layer_norm_columns.s"), &[("x", xt), ("g", gt), ("b", bt)]);
    let rows: Vec<f64> = turned(&x, 64).chunks(256).flat_map(|row| layer_norm(row, &g, &b)).collect();
    assert_close(&out["y"], &turned(&rows, 256));
}

#[test]
fn softmax_of_rows() {
    let (xt, x) = random(1, &[64, 256]);
    let out = run(include_str!("assembly/softmax.s"), &[("x", xt)]);
    assert_close(&out["y"], &x.chunks(256).flat_map(softmax).collect::<Vec<_>>());
}

#[test]
fn attention_head_block() {
    let ((qt, q), (kt, k), (vt, v)) = (random(1, &[64, 64]), random(2, &[128, 64]), random(3, &[128, 64]));
    let out = run(include_str!("assembly/attention.s"), &[("q", qt), ("k", kt), ("v", vt)]);
    let scores = product(&q, (64, 64, 128), |d, key| k[key * 64 + d] / 8.0);
    let mask = |(i, s): (usize, f64)| if i % 128 <= 64 + i / 128 { s } else { f64::NEG_INFINITY };
    let masked: Vec<f64> = scores.into_iter().enumerate().map(mask).collect();
    let probabilities: Vec<f64> = masked.chunks(128).flat_map(softmax).collect();
    assert_close(&out["o"], &product(&probabilities, (64, 128, 64), |key, d| v[key * 64 + d]));
}

#[test]
fn rope() {
    let ((xt, x), (ct, cos), (st, sin)) = (random(1, &[64, 4, 16]), random(2, &[64, 8]), random(3, &[64, 8]));
    let out = run(include_str!("assembly/rope.s"), &[("x", xt), ("cos", ct), ("sin", st)]);
    let rotate = |i: usize| {
        let (token, d) = (i / 64, i % 16);
        let (c, s) = (cos[token * 8 + d % 8], sin[token * 8 + d % 8]);
        if d < 8 { x[i] * c - x[i + 8] * s } else { x[i] * c + x[i - 8] * s }
    };
    assert_close(&out["y"], &(0..64 * 64).map(rotate).collect::<Vec<_>>());
}

#[test]
fn embedding_gather() {
    let ((tt, table), (pt, positions)) = (random(1, &[1000, 48]), random(2, &[64, 48]));
    let mut rng = Rng::new(3);
    let ids: Vec<i64> = (0..64).map(|_| rng.below(1000) as i64).collect();
    let inputs = [("ids", Tensor::from_i64(vec![64], &ids).unwrap()), ("table", tt), ("positions", pt)];
    let out = run(include_str!("assembly/embedding.s"), &inputs);
    let element = |i: usize| table[ids[i / 48] as usize * 48 + i % 48] + positions[i];
    assert_close(&out["y"], &(0..64 * 48).map(element).collect::<Vec<_>>());
}

#[test]
fn decode_one_token() {
    let ((qt, q), (knt, kn), (vnt, vn)) = (random(1, &[64]), random(2, &[64]), random(3, &[64]));
    let ((kt, k), (vt, v)) = (random(4, &[256, 64]), random(5, &[256, 64]));
    for past in [0, 100, 255] {
        let scalar = Tensor::from_i32(vec![], &[past as i32]).unwrap();
        let inputs = [
            ("past", scalar),
            ("q", qt.clone()),
            ("kn", knt.clone()),
            ("vn", vnt.clone()),
            ("k", kt.clone()),
            ("v", vt.clone()),
        ];
        let out = run(include_str!("assembly/decode.s"), &inputs);
        let with_new = |cache: &[f64], new: &[f64]| {
            let mut cache = cache.to_vec();
            cache[past * 64..(past + 1) * 64].copy_from_slice(new);
            cache
        };
        let (keys, values) = (with_new(&k, &kn), with_new(&v, &vn));
        assert_close(&out["k_out"], &keys);
        assert_close(&out["v_out"], &values);
        let scores = product(&q, (1, 64, past + 1), |d, key| keys[key * 64 + d] / 8.0);
        let p = softmax(&scores);
        assert_close(&out["o"], &product(&p, (1, past + 1, 64), |key, d| values[key * 64 + d]));
    }
}

#[test]
fn bias_gelu_epilogue() {
    let ((xt, x), (wt, w), (bt, b)) = (random(1, &[64, 64]), random(2, &[64, 64]), random(3, &[64]));
    let out = run(include_str!("assembly/gelu.s"), &[("x", xt), ("w", wt), ("b", bt)]);
    let erf = |x: f64| {
        // Taylor's series: arguments here are small.
        let (mut sum, mut term) = (x, x);
        for n in 1..300 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        if x.abs() > 4.0 { x.signum() } else { sum * std::f64::consts::FRAC_2_SQRT_PI }
    };
    let gelu = |(i, h): (usize, f64)| {
        let h = h + b[i % 64];
        0.5 * h * (1.0 + erf(h / std::f64::consts::SQRT_2))
    };
    let linear = product(&x, (64, 64, 64), |k, n| w[k * 64 + n]);
    assert_close(&out["y"], &linear.into_iter().enumerate().map(gelu).collect::<Vec<_>>());
}
