//! The hand-written programs of `testsuite/golden/asm`, each against a plain reference in f64.

mod bench;

use bench::{Noise, f32s, run_file};
use kiln_machine::tensor::Tensor;

/// `|a − b| ≤ 1e-5 (1 + |b|)` everywhere.
fn assert_close(found: &Tensor, expected: &[f64]) {
    let found = found.to_f64_vec();
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "element {i}: {a}, expected {b}");
    }
}

/// Row-major `rows × cols` from a function.
fn matrix(rows: usize, cols: usize, f: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..rows * cols).map(|i| f(i / cols, i % cols)).collect()
}

/// The softmax of a row.
fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

#[test]
fn linear_with_weights_by_rows_of_k() {
    let mut noise = Noise::new(1);
    let (x, w) = (noise.f32s(48 * 96), noise.f32s(96 * 80));
    let (out, report) = run_file("linear-kn", [("x", f32s(&[48, 96], &x)), ("w", f32s(&[96, 80], &w))]);
    assert_close(&out["y"], &matrix(48, 80, |i, j| (0..96).map(|k| x[i * 96 + k] * w[k * 80 + j]).sum()));
    assert_eq!(report.macs, 48 * 80 * 96);
    // Each row of 384 bytes is six bursts of 64, each of 320 bytes five; nothing is read twice.
    assert_eq!(report.dram_read_bytes, (48 * 96 + 96 * 80) * 4);
    assert_eq!(report.dram_write_bytes, 48 * 80 * 4);
}

#[test]
fn linear_with_weights_by_rows_of_n() {
    let mut noise = Noise::new(2);
    let (x, w) = (noise.f32s(48 * 96), noise.f32s(80 * 96));
    let (out, report) = run_file("linear-nk", [("x", f32s(&[48, 96], &x)), ("w", f32s(&[80, 96], &w))]);
    assert_close(&out["y"], &matrix(48, 80, |i, j| (0..96).map(|k| x[i * 96 + k] * w[j * 96 + k]).sum()));
    assert_eq!(report.dram_read_bytes, (48 * 96 + 80 * 96) * 4, "no byte is read twice");
}

/// Layer norm of each row, epsilon 1e-5.
fn layer_norm(x: &[f64], features: usize, gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(features) {
        let mean = row.iter().sum::<f64>() / features as f64;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / features as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        y.extend(row.iter().enumerate().map(|(i, x)| (x - mean) * scale * gamma[i] + beta[i]));
    }
    y
}

#[test]
fn layer_norm_along_either_axis() {
    for (file, features) in [("layer-norm-free", 96), ("layer-norm-part", 64)] {
        let mut noise = Noise::new(3);
        let (x, gamma, beta) = (noise.f32s(40 * features), noise.f32s(features), noise.f32s(features));
        let (out, _) = run_file(
            file,
            [
                ("x", f32s(&[40, features], &x)),
                ("gamma", f32s(&[features], &gamma)),
                ("beta", f32s(&[features], &beta)),
            ],
        );
        assert_close(&out["y"], &layer_norm(&x, features, &gamma, &beta));
    }
}

#[test]
fn softmax_over_the_free_axis() {
    let x: Vec<f64> = Noise::new(4).f32s(48 * 100).iter().map(|x| 20.0 * x).map(bench::to_f32).collect();
    let (out, _) = run_file("softmax", [("x", f32s(&[48, 100], &x))]);
    assert_close(&out["y"], &x.chunks(100).flat_map(softmax).collect::<Vec<_>>());
}

#[test]
fn attention_of_one_head_block() {
    let mut noise = Noise::new(5);
    let (q, k, v) = (noise.f32s(32 * 16), noise.f32s(40 * 16), noise.f32s(40 * 16));
    let inputs = [("q", f32s(&[32, 16], &q)), ("k", f32s(&[40, 16], &k)), ("v", f32s(&[40, 16], &v))];
    let (out, report) = run_file("attention", inputs);
    let probabilities: Vec<Vec<f64>> = (0..32)
        .map(|i| {
            let score = |j: usize| (0..16).map(|d| q[i * 16 + d] * k[j * 16 + d]).sum::<f64>() / 4.0;
            let seen = |j: usize| if j <= i + 8 { score(j) } else { f64::NEG_INFINITY };
            softmax(&(0..40).map(seen).collect::<Vec<_>>())
        })
        .collect();
    assert_close(
        &out["o"],
        &matrix(32, 16, |i, d| (0..40).map(|j| probabilities[i][j] * v[j * 16 + d]).sum()),
    );
    assert_eq!(
        report.dram_read_bytes + report.dram_write_bytes,
        (32 + 40 + 40 + 32) * 16 * 4,
        "scores and probabilities stay on chip"
    );
}

#[test]
fn rotary_embedding_over_halves() {
    let mut noise = Noise::new(6);
    let (x, cos, sin) = (noise.f32s(32 * 64), noise.f32s(32 * 32), noise.f32s(32 * 32));
    let inputs = [("x", f32s(&[32, 64], &x)), ("cos", f32s(&[32, 32], &cos)), ("sin", f32s(&[32, 32], &sin))];
    let (out, _) = run_file("rope", inputs);
    let expected = matrix(32, 64, |t, i| {
        let (c, s) = (cos[t * 32 + i % 32], sin[t * 32 + i % 32]);
        let (first, second) = (x[t * 64 + i % 32], x[t * 64 + 32 + i % 32]);
        if i < 32 { first * c - second * s } else { second * c + first * s }
    });
    assert_close(&out["y"], &expected);
}

#[test]
fn embedding_gathers_rows() {
    let table: Vec<f64> = (0..50 * 40).map(|i| f64::from(i % 97) / 8.0).collect();
    let ids: Vec<i64> = (0..24).map(|i| (i * 37 + 5) % 50).collect();
    let halves = table.iter().flat_map(|x| half::f16::from_f64(*x).to_le_bytes()).collect();
    let inputs = [
        ("ids", Tensor::from_i64(vec![24], &ids).expect("24 ids")),
        ("table", bench::tensor(kiln_machine::tensor::DType::F16, &[50, 40], halves)),
    ];
    let (out, _) = run_file("embedding", inputs);
    assert_close(&out["y"], &matrix(24, 40, |t, i| table[ids[t] as usize * 40 + i]));
}

#[test]
fn decoding_with_a_cache_of_any_length() {
    for past in [0, 7, 63] {
        let mut noise = Noise::new(7);
        let (q, k, v) = (noise.f32s(4 * 16), noise.f32s(16), noise.f32s(16));
        let (mut keys, mut values) = (noise.f32s(64 * 16), noise.f32s(64 * 16));
        let inputs = [
            ("past", Tensor::from_i32(vec![], &[past as i32]).expect("one scalar")),
            ("q", f32s(&[4, 16], &q)),
            ("k", f32s(&[16], &k)),
            ("v", f32s(&[16], &v)),
            ("k_cache", f32s(&[64, 16], &keys)),
            ("v_cache", f32s(&[64, 16], &values)),
        ];
        let (out, _) = run_file("decode", inputs);
        keys[past * 16..][..16].copy_from_slice(&k);
        values[past * 16..][..16].copy_from_slice(&v);
        let expected = (0..4).flat_map(|head| {
            let score = |j: usize| (0..16).map(|d| q[head * 16 + d] * keys[j * 16 + d]).sum::<f64>() / 4.0;
            let p = softmax(&(0..=past).map(score).collect::<Vec<_>>());
            let values = &values;
            (0..16)
                .map(move |d| (0..=past).map(|j| p[j] * values[j * 16 + d]).sum::<f64>())
                .collect::<Vec<_>>()
        });
        assert_close(&out["o"], &expected.collect::<Vec<_>>());
        assert_close(&out["k_next"], &keys);
        assert_close(&out["v_next"], &values);
    }
}

#[test]
fn bias_and_gelu_as_epilogue() {
    let mut noise = Noise::new(8);
    let (x, w, b) = (noise.f32s(40 * 64), noise.f32s(64 * 48), noise.f32s(48));
    let inputs = [("x", f32s(&[40, 64], &x)), ("w", f32s(&[64, 48], &w)), ("b", f32s(&[48], &b))];
    let (out, report) = run_file("bias-gelu", inputs);
    let expected = matrix(40, 48, |i, j| {
        let h = (0..64).map(|k| x[i * 64 + k] * w[k * 48 + j]).sum::<f64>() + b[j];
        h * 0.5 * (1.0 + bench::erf(h / 2f64.sqrt()))
    });
    assert_close(&out["y"], &expected);
    assert_eq!(report.origins["fc|MatMul"].macs, 40 * 64 * 48);
    assert_eq!(report.origins["gelu|Gelu"].mxu_ticks, 0);
    assert!(report.origins["gelu|Gelu"].act_ticks > 0);
}
