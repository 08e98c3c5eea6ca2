//! The evaluator of `tile`, op by op against values worked out by hand.

use bytes::Bytes;
use indexmap::IndexMap;
use kiln_ir::eval::{Files, tile};
use kiln_ir::{Context, DType, IrError, Module, Tensor};

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { dtype: DType::F32, shape: shape.to_vec(), data: data.into() }
}

fn ints(shape: &[usize], values: &[i32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { dtype: DType::I32, shape: shape.to_vec(), data: data.into() }
}

fn as_f32(tensor: &Tensor) -> Vec<f32> {
    tensor.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn as_i32(tensor: &Tensor) -> Vec<i32> {
    tensor.data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
}

/// Runs a program whose body is one group; `drams` declares its tensors.
fn run(drams: &str, body: &str, inputs: &[(&str, Tensor)]) -> Result<IndexMap<String, Tensor>, IrError> {
    let text = format!("tile.program @main {{ {drams} tile.group @g {{ {body} }} }}");
    let module = Module::parse(&Context::new(), text)?;
    let inputs = inputs.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect();
    tile::run(&module, &module.program("main")?, &Files::default(), &inputs)
}

const XY: &str = "tile.dram input @x : tensor<2x4xf32> {nn.name = \"x\"}
                  tile.dram output @y : tensor<2x4xf32> {nn.name = \"y\"}";

/// Loads x [2, 4] to %x, runs `ops` with %y of the same type, stores %y.
fn on_x(ops: &str) -> Result<Vec<f32>, IrError> {
    let body = format!(
        "%x = tile.alloc depth 1 : !tile.buf<2x4xf32, spm, part 0>
         %y = tile.alloc depth 1 : !tile.buf<2x4xf32, spm, part 0>
         tile.load @x offset 0 strides [4, 1] -> %x : <2x4xf32, spm, part 0>
         {ops}
         tile.store %y -> @y offset 0 strides [4, 1] : <2x4xf32, spm, part 0>"
    )
    .replace("TT", "!tile.buf<2x4xf32, spm, part 0>")
    .replace("BB", "<2x4xf32, spm, part 0>");
    let x = floats(&[2, 4], &[1.0, 2.0, 3.0, 4.0, -1.0, 5.0, 0.5, -2.0]);
    Ok(as_f32(&run(XY, &body, &[("x", x)])?["y"]))
}

#[test]
fn maps_broadcast_along_free_axes_and_take_numbers() -> Result<(), IrError> {
    let y = on_x(
        "%r = tile.alloc depth 1 : !tile.buf<2x1xf32, spm, part 0>
         tile.reduce max %r, %x : <2x1xf32, spm, part 0>, BB
         tile.map sub %y, (%x, %r) : TT, TT, !tile.buf<2x1xf32, spm, part 0>
         tile.map mul %y, (2.0, %y) : TT, TT",
    )?;
    assert_eq!(y, [-6.0, -4.0, -2.0, 0.0, -12.0, 0.0, -9.0, -14.0]);
    let y = on_x(
        "%m = tile.alloc depth 1 : !tile.buf<2x4xui8, spm, part 0>
         tile.map gt %m, (%x, 0.0) : !tile.buf<2x4xui8, spm, part 0>, TT
         tile.map not %m, (%m) : !tile.buf<2x4xui8, spm, part 0>, !tile.buf<2x4xui8, spm, part 0>
         tile.map select %y, (%m, 9.0, %x) : TT, !tile.buf<2x4xui8, spm, part 0>, TT",
    )?;
    assert_eq!(y, [1.0, 2.0, 3.0, 4.0, 9.0, 5.0, 0.5, 9.0]);
    Ok(())
}

#[test]
fn reductions_continue_and_masks_follow_the_loop() -> Result<(), IrError> {
    // Row sums over two halves of the free axis, then broadcast back.
    let y = on_x(
        "%r = tile.alloc depth 1 : !tile.buf<2x1xf32, spm, part 0>
         tile.fill %r value 100.0 : <2x1xf32, spm, part 0>
         tile.for %i = 2 {
           %h = tile.sub %x [0, 0] at (%i) by [0, 2] : BB -> <2x2xf32, spm, part 0>
           tile.reduce sum %r, %h accumulate : <2x1xf32, spm, part 0>, <2x2xf32, spm, part 0>
         }
         tile.map identity %y, (%r) : TT, !tile.buf<2x1xf32, spm, part 0>",
    )?;
    assert_eq!(y, [110.0, 110.0, 110.0, 110.0, 102.5, 102.5, 102.5, 102.5]);
    // Element (p, i) of half h stays where p + 2 - i - 2h >= 0.
    let y = on_x(
        "tile.for %i = 2 {
           %h = tile.sub %x [0, 0] at (%i) by [0, 2] : BB -> <2x2xf32, spm, part 0>
           %o = tile.sub %y [0, 0] at (%i) by [0, 2] : BB -> <2x2xf32, spm, part 0>
           tile.mask %o, %h base 2 axes [1, -1] at (%i) by [-2] else -1.0 : <2x2xf32, spm, part 0>, <2x2xf32, spm, part 0>
         }",
    )?;
    assert_eq!(y, [1.0, 2.0, 3.0, -1.0, -1.0, 5.0, 0.5, -2.0]);
    Ok(())
}

#[test]
fn casts_transposes_scans_sorts_and_shuffles() -> Result<(), IrError> {
    let y = on_x(
        "%h = tile.alloc depth 1 : !tile.buf<2x4xi32, spm, part 0>
         tile.cast %h, %x : <2x4xi32, spm, part 0>, BB
         %t = tile.alloc depth 1 : !tile.buf<2x4xf32, acc, part 1>
         %s = tile.alloc depth 1 : !tile.buf<2x4xf32, spm, part 0>
         tile.cast %s, %h : BB, <2x4xi32, spm, part 0>
         tile.transpose %t, %s : <2x4xf32, acc, part 1>, BB
         %u = tile.alloc depth 1 : !tile.buf<2x4xf32, acc, part 0>
         tile.transpose %u, %t : <2x4xf32, acc, part 0>, <2x4xf32, acc, part 1>
         tile.scan sum %y, %u axis 1 : BB, <2x4xf32, acc, part 0>",
    )?;
    assert_eq!(y, [1.0, 3.0, 6.0, 10.0, -1.0, 4.0, 4.0, 2.0]);
    // Sorting and then shuffling by reversed positions.
    let y = on_x(
        "%v = tile.alloc depth 1 : !tile.buf<2x4xf32, spm, part 0>
         %i = tile.alloc depth 1 : !tile.buf<2x4xi32, spm, part 0>
         tile.topk %v, %i, %x axis 1 largest : BB, <2x4xi32, spm, part 0>, BB
         tile.iota %i base 3 axes [0, -1] : <2x4xi32, spm, part 0>
         tile.shuffle %y, %v, %i axis 1 : BB, BB, <2x4xi32, spm, part 0>",
    )?;
    assert_eq!(y, [1.0, 2.0, 3.0, 4.0, -2.0, -1.0, 0.5, 5.0]);
    Ok(())
}

#[test]
fn gathers_and_scatters_go_by_rows() -> Result<(), IrError> {
    let drams = "tile.dram input @x : tensor<3x2xf32> {nn.name = \"x\"}
                 tile.dram input @i : tensor<2xi32> {nn.name = \"i\"}
                 tile.dram output @y : tensor<2x2xf32> {nn.name = \"y\"}
                 tile.dram output @p : tensor<2xi32> {nn.name = \"p\"}";
    let body = "%i = tile.alloc depth 1 : !tile.buf<2x1xi32, spm, part 0>
                tile.load @i offset 0 strides [1, 0] -> %i : <2x1xi32, spm, part 0>
                %b = tile.alloc depth 1 : !tile.buf<2x2xf32, spm, part 0>
                tile.gather @x offset 0 strides [0, 1] rows 3 stride 2, %i -> %b : <2x1xi32, spm, part 0>, <2x2xf32, spm, part 0>
                tile.store %b -> @y offset 0 strides [2, 1] : <2x2xf32, spm, part 0>
                %n = tile.alloc depth 1 : !tile.buf<2x1xi32, spm, part 0>
                tile.iota %n base 7 axes [1, 0] : <2x1xi32, spm, part 0>
                tile.map sub %i, (%i, 1.0) : !tile.buf<2x1xi32, spm, part 0>, !tile.buf<2x1xi32, spm, part 0>
                tile.scatter %n, %i -> @p offset 0 strides [0, 0] rows 2 stride 1 : <2x1xi32, spm, part 0>, <2x1xi32, spm, part 0>";
    let x = floats(&[3, 2], &[0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
    let with = |i: &[i32]| run(drams, body, &[("x", x.clone()), ("i", ints(&[2], i))]);
    let outputs = with(&[2, 1])?;
    assert_eq!(as_f32(&outputs["y"]), [20.0, 21.0, 10.0, 11.0]);
    assert_eq!(as_i32(&outputs["p"]), [8, 7]);
    let error = with(&[3, 1]).unwrap_err().to_string();
    assert_eq!(error, "tile.gather in @g: the index 3 lies outside 0..3");
    Ok(())
}

#[test]
fn a_tiled_matmul_has_the_bits_of_a_contract() -> Result<(), IrError> {
    use kiln_ir::nn::{ContractDims, FuncBuilder, MapKind, Port};
    let value = |i: usize| ((i * 7919 % 1013) as f32 - 500.0) / 300.0;
    let x = floats(&[8, 16], &(0..128).map(value).collect::<Vec<_>>());
    let w = floats(&[16, 4], &(0..64).map(|i| value(i + 500)).collect::<Vec<_>>());
    let file: Vec<u8> = [&[0u8; 64][..], &w.data].concat();
    let context = Context::new();
    let mut module = Module::new(&context);
    let number = module.add_file("model.onnx");
    module.put_program(&super::matmul::program())?;
    let mut b = FuncBuilder::new(
        &context,
        "reference",
        &[(kiln_ir::TensorType::new(DType::F32, [8, 16]), Port::named("x"))],
    )?;
    let w = b.weight(number, 64, &[16, 4], DType::F32)?;
    let y = b.contract(b.arg(0), w, &ContractDims::matmul(0))?;
    let least = b.splat(DType::F32, -1.5, &[8, 4])?;
    let y = b.map(MapKind::Max, &[y, least])?;
    b.finish(&mut module, &[(y, Port::named("y"))])?;
    let files = Files::of(&module, vec![Bytes::from(file)]);
    let inputs = IndexMap::from([("x".to_owned(), x.clone())]);
    let tiled = tile::run(&module, &module.program("main")?, &files, &inputs)?;
    let reference = kiln_ir::eval::nn::eval(&module.func("reference")?, &[x], &files)?;
    assert_eq!(tiled["y"], reference[0]);
    Ok(())
}

#[test]
fn folds_are_evaluated_and_unwritten_elements_are_told() -> Result<(), IrError> {
    let text = "func.func private @c() -> tensor<2xf32> {
        %a = nn.constant dense<[1.0, 2.0]> : tensor<2xf32>
        %b = nn.map square %a : (tensor<2xf32>) -> tensor<2xf32>
        return %b : tensor<2xf32>
      }
      tile.program @main {
        tile.dram fold @c : tensor<2xf32> from @c
        tile.dram output @y : tensor<3xf16> {nn.name = \"y\"}
        tile.group @g {
          %b = tile.alloc depth 1 : !tile.buf<2xf32, spm, part 0>
          tile.load @c offset 0 strides [1] -> %b : <2xf32, spm, part 0>
          tile.store %b -> @y offset 1 strides [1] : <2xf32, spm, part 0>
        }
      }";
    let run = |text: &str| -> Result<IndexMap<String, Tensor>, IrError> {
        let module = Module::parse(&Context::new(), text)?;
        tile::run(&module, &module.program("main")?, &Files::default(), &IndexMap::new())
    };
    let error = run(text).unwrap_err().to_string();
    assert_eq!(error, "@y: reads element 0, which nothing has written");
    let y = &run(&text.replace("3xf16", "2xf16").replace("offset 1", "offset 0"))?["y"];
    assert_eq!((y.dtype, &y.data[..]), (DType::F16, &[0x00, 0x3c, 0x00, 0x44][..]));
    Ok(())
}
