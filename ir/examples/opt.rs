//! speed
use kiln_ir::nn::{ContractDims, FuncBuilder, Port};
use kiln_ir::{Context, DType, Module, Tensor, TensorType};
fn main() {
    let c = Context::new();
    let mut m = Module::new(&c);
    let t = |s: [usize; 2]| (TensorType::new(DType::F32, s), Port::default());
    let mut b = FuncBuilder::new(&c, "main", &[t([512, 768]), t([768, 3072])]).unwrap();
    let y = b.contract(b.arg(0), b.arg(1), &ContractDims::matmul(0)).unwrap();
    b.finish(&mut m, &[(y, Port::default())]).unwrap();
    let f = m.func("main").unwrap();
    let tensor = |s: [usize; 2]| Tensor {
        dtype: DType::F32,
        shape: s.to_vec(),
        data: vec![0u8; s[0] * s[1] * 4].into(),
    };
    let inputs = [tensor([512, 768]), tensor([768, 3072])];
    for _ in 0..3 {
        let s = std::time::Instant::now();
        kiln_ir::eval::nn::eval(&f, &inputs, &Default::default()).unwrap();
        println!("{:.2} GMAC/s", 512.0 * 768.0 * 3072.0 / s.elapsed().as_secs_f64() / 1e9);
    }
}
