//! Lowers models and compares the tile evaluator with the stored outputs: `lowering TARGET[,KEY=VALUE..] DIR..`.
use indexmap::IndexMap;
use kiln_frontend::{ImportOptions, import};
use kiln_machine::target::Target;

fn main() {
    let mut args = std::env::args().skip(1);
    let spec = args.next().expect("a folder in the ONNX layout");
    let mut parts = spec.split(',');
    let mut target = Target::preset(parts.next().expect("a folder in the ONNX layout"))
        .expect("a folder in the ONNX layout");
    for p in parts {
        let (k, v) = p.split_once('=').expect("a folder in the ONNX layout");
        target.set(k, v).expect("a folder in the ONNX layout");
    }
    let print = std::env::var("PRINT").is_ok();
    let eval = std::env::var("NOEVAL").is_err();
    for dir in args {
        let dir = std::path::Path::new(&dir);
        let name = dir.file_name().expect("a folder in the ONNX layout").to_string_lossy().to_string();
        let mut options = ImportOptions::default();
        let mut inputs = IndexMap::new();
        for i in 0.. {
            let p = dir.join("test_data_set_0").join(format!("input_{i}.pb"));
            if !p.exists() {
                break;
            }
            let (n, t) = kiln_frontend::tensor_pb::read(&p).expect("a folder in the ONNX layout");
            options.input_shapes.insert(n.clone(), t.shape.iter().map(|&d| d as _).collect());
            inputs.insert(n, t);
        }
        if let Ok(d) = std::env::var("DIMS") {
            for p in d.split(',') {
                let (k, v) = p.split_once('=').expect("a folder in the ONNX layout");
                options.dims.insert(k.into(), v.parse().expect("a folder in the ONNX layout"));
            }
        }
        let t0 = std::time::Instant::now();
        let imported = match import(&dir.join("model.onnx"), &options) {
            Ok(i) => i,
            Err(e) => {
                println!("{name}: IMPORT {e:?}");
                continue;
            }
        };
        let mut module = imported.module;
        let files =
            kiln_ir::eval::Files::of(&module, imported.files.iter().map(|f| f.bytes.clone()).collect());
        let t1 = std::time::Instant::now();
        let func = module.func("main").expect("a folder in the ONNX layout");
        match kiln_passes::lower::lower(&mut module, &target) {
            Ok(l) => {
                let t2 = t1.elapsed();
                let c: u64 = l.groups.iter().map(|g| g.compulsory_bytes).sum();
                let p: u64 = l.groups.iter().map(|g| g.planned_bytes).sum();
                let t: u64 = l.groups.iter().map(|g| g.ticks).sum();
                println!(
                    "{name}: {} nn ops, {} groups, {} problems, {c} -> {p} bytes, {t} ticks, import {:?} lower {t2:?}",
                    func.ops.len(),
                    l.groups.len(),
                    l.problems,
                    t1 - t0
                );
                if print {
                    for g in &l.groups {
                        println!(
                            "  {} ticks {} bytes {} spm {} {:?}",
                            g.name, g.ticks, g.planned_bytes, g.spm_bytes, g.origin
                        );
                    }
                    println!("{}", module.print());
                }
                if !eval {
                    continue;
                }
                let mut device = IndexMap::new();
                for (v, port) in func.arg_values().zip(&func.args) {
                    let t = &inputs[&port.name];
                    let want = func.ty(v).dtype;
                    let data = match (t.dtype, want) {
                        (kiln_ir::DType::I64, kiln_ir::DType::I32) => t
                            .data
                            .chunks_exact(8)
                            .flat_map(|c| {
                                (i64::from_le_bytes(c.try_into().expect("a folder in the ONNX layout"))
                                    as i32)
                                    .to_le_bytes()
                            })
                            .collect::<Vec<u8>>()
                            .into(),
                        _ => t.data.clone(),
                    };
                    device.insert(
                        port.name.clone(),
                        kiln_ir::Tensor { dtype: want, shape: t.shape.clone(), data },
                    );
                }
                let program = module.program("main").expect("a folder in the ONNX layout");
                let list: Vec<_> = device.values().cloned().collect();
                let reference = kiln_ir::eval::nn::eval(&func, &list, &files);
                match kiln_ir::eval::tile::run(&module, &program, &files, &device) {
                    Err(e) => println!("   EVAL {e}"),
                    Ok(out) => {
                        for (i, (_, port)) in func.results.iter().enumerate() {
                            let got = &out[&port.name];
                            let f = |t: &kiln_ir::Tensor| -> Vec<f64> {
                                match t.dtype {
                                    kiln_ir::DType::F32 => t
                                        .data
                                        .chunks_exact(4)
                                        .map(|c| {
                                            f32::from_le_bytes(
                                                c.try_into().expect("a folder in the ONNX layout"),
                                            ) as f64
                                        })
                                        .collect(),
                                    kiln_ir::DType::F16 => t
                                        .data
                                        .chunks_exact(2)
                                        .map(|c| {
                                            half::f16::from_le_bytes(
                                                c.try_into().expect("a folder in the ONNX layout"),
                                            )
                                            .to_f64()
                                        })
                                        .collect(),
                                    kiln_ir::DType::I32 => t
                                        .data
                                        .chunks_exact(4)
                                        .map(|c| {
                                            i32::from_le_bytes(
                                                c.try_into().expect("a folder in the ONNX layout"),
                                            ) as f64
                                        })
                                        .collect(),
                                    kiln_ir::DType::I64 => t
                                        .data
                                        .chunks_exact(8)
                                        .map(|c| {
                                            i64::from_le_bytes(
                                                c.try_into().expect("a folder in the ONNX layout"),
                                            ) as f64
                                        })
                                        .collect(),
                                    _ => t.data.iter().map(|&b| b as f64).collect(),
                                }
                            };
                            let diff = |a: &[f64], b: &[f64]| {
                                a.iter()
                                    .zip(b)
                                    .map(|(x, y)| {
                                        if x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()) {
                                            0.0
                                        } else {
                                            (x - y).abs()
                                        }
                                    })
                                    .fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m })
                            };
                            let p = dir.join("test_data_set_0").join(format!("output_{i}.pb"));
                            let stored = kiln_frontend::tensor_pb::read(&p).map(|t| diff(&f(got), &f(&t.1)));
                            let nn = reference.as_ref().map(|r| diff(&f(got), &f(&r[i])));
                            println!(
                                "   {}: stored {:?} nn {:?}",
                                port.name,
                                stored.ok(),
                                nn.map_err(|e| e.to_string())
                            );
                        }
                    }
                }
            }
            Err(e) => println!("{name}: LOWER {e} {e:?}"),
        }
    }
}
