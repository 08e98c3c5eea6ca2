//! What runs together on chip, by structure alone: nothing in the compiler knows attention or a normalisation. Each
//! graph is one group without traffic for its middle tensors, however it is written, and falls apart where the
//! scratchpad is too small for that. The bits stay the same.

use kiln::{CompileOptions, Compiled, Tensors, inputs::fill};
use kiln_machine::target::Target;
use kiln_testsuite::onnx_text;
use onnx_protobuf::Message;
use std::{fs, path::Path};

/// 2 heads of 48 queries and 512 keys, 16 features.
const QKV: &str = "(float[2,48,16] q, float[2,512,16] k, float[2,512,16] v) => (float[2,48,16] y)";

fn with_qkv(name: &str, body: &str) -> String {
    format!("{name} {QKV} <float scale = {{0.25}}, float two = {{2.0}}, float zero = {{0.0}}, int64[1] last = {{-1}}> {{
        kt = Transpose <perm = [0, 2, 1]> (k)
        {body}
    }}")
}

fn softmax() -> Vec<String> {
    vec![
        with_qkv(
            "softmax",
            "s = MatMul (q, kt)
             t = Mul (s, scale)
             p = Softmax <axis = -1> (t)
             y = MatMul (p, v)",
        ),
        with_qkv(
            "spelled_out",
            "s = MatMul (q, kt)
             t = Mul (s, scale)
             m = ReduceMax (t, last)
             d = Sub (t, m)
             e = Exp (d)
             n = ReduceSum (e, last)
             p = Div (e, n)
             y = MatMul (p, v)",
        ),
        // Keys by queries, and the division behind the second product.
        with_qkv(
            "turned_and_delayed",
            "qt = Transpose <perm = [0, 2, 1]> (q)
             s = MatMul (k, qt)
             u = Transpose <perm = [0, 2, 1]> (s)
             t = Mul (scale, u)
             m = ReduceMax (t, last)
             d = Sub (t, m)
             e = Exp (d)
             n = ReduceSum (e, last)
             w = MatMul (e, v)
             y = Div (w, n)",
        ),
    ]
}

fn relu_squared() -> Vec<String> {
    vec![
        with_qkv(
            "relu_times_itself",
            "s = MatMul (q, kt)
             r = Relu (s)
             p = Mul (r, r)
             y = MatMul (p, v)",
        ),
        with_qkv(
            "power",
            "s = MatMul (q, kt)
             r = Max (s, zero)
             p = Pow (r, two)
             y = MatMul (p, v)",
        ),
        with_qkv(
            "where",
            "qt = Transpose <perm = [0, 2, 1]> (q)
             s = MatMul (k, qt)
             u = Transpose <perm = [0, 2, 1]> (s)
             c = Greater (u, zero)
             r = Where (c, u, zero)
             p = Mul (r, r)
             y = MatMul (p, v)",
        ),
    ]
}

/// (A·B + bias)·C with the rows between them brought to mean 0 and variance 1.
fn norm_between() -> Vec<String> {
    vec![
        "norm (float[96,32] a, float[32,512] b, float[512] bias, float[512,32] c) => (float[96,32] y)
        <float eps = {1e-5}, int64[1] last = {-1}> {
            h = MatMul (a, b)
            i = Add (h, bias)
            m = ReduceMean (i, last)
            d = Sub (i, m)
            s = Mul (d, d)
            v = ReduceMean (s, last)
            w = Add (v, eps)
            r = Sqrt (w)
            n = Div (d, r)
            y = MatMul (n, c)
        }"
        .into(),
    ]
}

fn compiled(text: &str, spm: &str, folder: &Path) -> Option<Compiled> {
    let path = folder.join("model.onnx");
    let model = onnx_text::parse(text).expect("a graph").remove(0);
    fs::write(&path, model.write_to_bytes().expect("bytes")).expect("a file");
    let mut target = Target::preset("edge").expect("a preset");
    target.set("spm_bytes", spm).expect("a size");
    let mut options = CompileOptions::new(path, target);
    options.device_only = true;
    match kiln::compile(&options) {
        Ok(compiled) => Some(compiled),
        Err(error) if error.in_one_line().contains("does not fit") => None,
        Err(error) => panic!("{text}\n{}", error.in_one_line()),
    }
}

/// Outputs, groups and bytes written to DRAM.
fn run(compiled: &Compiled) -> (Tensors, usize, u64) {
    let mut given = Tensors::new();
    fill(&compiled.wanted(), &mut given, 1);
    let run = compiled.run(&given).unwrap_or_else(|e| panic!("{}", e.in_one_line()));
    (run.outputs, compiled.stats.lowered.groups.len(), run.report.dram_write_bytes)
}

/// Each of `texts` is one group that writes its output and nothing else, and more groups where the scratchpad is small.
fn check(texts: &[String]) {
    let folder = tempfile::tempdir().expect("a folder");
    for text in texts {
        let name = text.split_whitespace().next().unwrap_or("");
        let whole = compiled(text, "2M", folder.path()).expect("2 MiB are enough");
        let (expected, groups, written) = run(&whole);
        assert_eq!(groups, 1, "{name} is not one group");
        let outputs: usize = expected.values().map(|tensor| tensor.data.len()).sum();
        assert_eq!(written, outputs as u64, "{name} writes more than its output");
        assert_eq!(whole.stats.emitted.temp_bytes, 0, "{name} keeps middle tensors in DRAM");
        let mut most = 1;
        for spm in ["256K", "128K", "64K", "32K"] {
            let Some(small) = compiled(text, spm, folder.path()) else { break };
            let (outputs, groups, _) = run(&small);
            assert!(outputs == expected, "{name} has other bits in {spm}");
            most = most.max(groups);
        }
        assert!(most > 1, "{name} stays one group however small the scratchpad is");
    }
}

#[test]
fn softmax_attention_in_three_ways() {
    check(&softmax());
}

#[test]
fn squared_relu_attention_in_three_ways() {
    check(&relu_squared());
}

#[test]
fn a_row_norm_between_two_products() {
    check(&norm_between());
}
