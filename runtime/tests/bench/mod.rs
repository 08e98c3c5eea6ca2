//! What the simulator's tests share: assembling and running programs, reproducible inputs.
#![allow(dead_code)]

use std::path::Path;

use bytes::Bytes;
use indexmap::IndexMap;
use kiln_machine::asm;
use kiln_machine::program::Program;
use kiln_machine::target::Target;
use kiln_machine::tensor::{DType, Tensor};
use kiln_runtime::{Options, Report, SimError, Simulator};

/// Reproducible values in −0.5..0.5, exact in f32.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn f32s(&mut self, count: usize) -> Vec<f64> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            f64::from((self.0 >> 40) as u32) / f64::from(1 << 24) - 0.5
        };
        (0..count).map(|_| next()).collect()
    }
}

pub fn to_f32(x: f64) -> f64 {
    f64::from(x as f32)
}

pub fn tensor(dtype: DType, shape: &[usize], data: Bytes) -> Tensor {
    Tensor::new(dtype, shape.to_vec(), data).expect("the bytes of the shape")
}

pub fn f32s(shape: &[usize], values: &[f64]) -> Tensor {
    let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    Tensor::from_f32(shape.to_vec(), &values).expect("the elements of the shape")
}

pub fn program(text: &str, target: &Target) -> Program {
    asm::assemble(text, Some(target)).unwrap_or_else(|errors| panic!("{errors}"))
}

pub fn target(name: &str) -> Target {
    Target::preset(name).expect("a preset")
}

pub type Outcome = Result<(IndexMap<String, Tensor>, Report), SimError>;

/// Assemble and run on a machine.
pub fn run_on(text: &str, target: &Target, inputs: &[(&str, Tensor)], options: Options) -> Outcome {
    let program = program(text, target);
    let inputs = inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    Simulator::new(&program, target, options)?.run(&inputs)
}

/// Assemble and run on `edge`, with a generous cycle limit.
pub fn run(text: &str, inputs: &[(&str, Tensor)]) -> Outcome {
    run_on(text, &target("edge"), inputs, Options { cycle_limit: Some(1_000_000), ..Options::default() })
}

/// Text of a hand-written program.
pub fn read_file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testsuite/golden/asm");
    let path = folder.join(format!("{name}.s"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Run a hand-written program that has to succeed, and in which the sanitizer may find nothing.
pub fn run_file<const N: usize>(
    name: &str,
    inputs: [(&str, Tensor); N],
) -> (IndexMap<String, Tensor>, Report) {
    let edge = target("edge");
    let program = program(&read_file(name), &edge);
    let inputs = inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    let options = Options { cycle_limit: Some(1_000_000), sanitize: true, ..Options::default() };
    let mut simulator =
        Simulator::new(&program, &edge, options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let outcome = simulator.run(&inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
    let found: Vec<String> = simulator.findings().list.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{name}: {}", found.join("\n"));
    outcome
}

/// The error function, by its series and, far out, its continued fraction.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..100 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let tail = (1..60).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
        1.0 - (-a * a).exp() / tail / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}
