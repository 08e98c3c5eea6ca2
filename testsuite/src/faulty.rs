//! Small ONNX files, right and wrong.

use crate::onnx::{elem, int_attribute, model, node, value, weight};
use onnx_protobuf::{GraphProto, Message, StringStringEntryProto, tensor_proto::DataLocation};
use protobuf::EnumOrUnknown;
use std::{fs, io, path::Path};

/// `y = x · w`, x: `[2, 4]`, w: `[4, 3]`: the model from which the wrong ones differ in one thing each.
pub fn matmul() -> GraphProto {
    GraphProto {
        name: "matmul".into(),
        node: vec![node("product", "MatMul", &["x", "w"], &["y"])],
        input: vec![value("x", elem::F32, &["2", "4"])],
        output: vec![value("y", elem::F32, &["2", "3"])],
        initializer: vec![weight("w", &[4, 3], (0..12u8).map(|i| f32::from(i) / 8.0))],
        ..Default::default()
    }
}

/// Rows of a table by ids, x: i64 `[2]`, table: `[5, 3]`.
pub fn lookup() -> GraphProto {
    GraphProto {
        name: "lookup".into(),
        node: vec![node("row", "Gather", &["table", "ids"], &["y"])],
        input: vec![value("ids", elem::I64, &["2"])],
        output: vec![value("y", elem::F32, &["2", "3"])],
        initializer: vec![weight("table", &[5, 3], (0..15u8).map(f32::from))],
        ..Default::default()
    }
}

/// `y = relu(float((x · w)²))`, the square in double: the middle is the host's.
pub fn mixed() -> GraphProto {
    let cast = |name: &str, from: &str, to: &str, dtype: i64| {
        let mut cast = node(name, "Cast", &[from], &[to]);
        cast.attribute.push(int_attribute("to", dtype));
        cast
    };
    GraphProto {
        name: "mixed".into(),
        node: vec![
            node("product", "MatMul", &["x", "w"], &["p"]),
            cast("widen", "p", "d", 11),
            node("square", "Mul", &["d", "d"], &["s"]),
            cast("narrow", "s", "n", 1),
            node("relu", "Relu", &["n"], &["y"]),
        ],
        ..matmul()
    }
}

/// Writes every file that the error goldens name into `folder`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let write = |name: &str, graph: GraphProto| -> io::Result<()> {
        let bytes = model(graph).write_to_bytes().map_err(io::Error::other)?;
        fs::write(folder.join(format!("{name}.onnx")), bytes)
    };
    write("matmul", matmul())?;
    write("lookup", lookup())?;
    write("mixed", mixed())?;
    let good = fs::read(folder.join("matmul.onnx"))?;
    fs::write(folder.join("truncated.onnx"), &good[..good.len() - 9])?;
    fs::write(folder.join("empty.onnx"), [])?;
    fs::write(folder.join("text.onnx"), "This is not a model.\n")?;

    // Two unknown ops and a missing input: all are told at once.
    let mut unknown = matmul();
    unknown.node = vec![
        node("first", "Frobnicate", &["x"], &["f"]),
        node("second", "Defenestrate", &["f"], &["g"]),
        node("product", "MatMul", &["g", "w"], &["y"]),
    ];
    write("unknown_op", unknown)?;
    let mut unknown_attribute = lookup();
    unknown_attribute.node[0].attribute.push(int_attribute("sideways", 1));
    write("unknown_attribute", unknown_attribute)?;
    let mut dangling = matmul();
    dangling.node[0].input[1] = "nowhere".into();
    write("dangling_input", dangling)?;
    let mut mismatch = matmul();
    mismatch.input = vec![value("x", elem::F32, &["2", "5"])];
    write("shape_mismatch", mismatch)?;
    let mut dynamic = matmul();
    dynamic.input = vec![value("x", elem::F32, &["rows", "4"])];
    dynamic.output = vec![value("y", elem::F32, &["rows", "3"])];
    write("dynamic", dynamic)?;
    let mut complex = matmul();
    complex.input = vec![value("x", elem::COMPLEX64, &["2", "4"])];
    write("complex", complex)?;
    let mut old = model(matmul());
    old.opset_import[0].version = 3;
    fs::write(folder.join("old_opset.onnx"), old.write_to_bytes().map_err(io::Error::other)?)?;

    fs::write(folder.join("weights.bin"), [0; 48])?;
    for (name, location, length) in [
        ("external_outside", "../weights.bin", "48"),
        ("external_absolute", "/etc/hostname", "48"),
        ("external_missing", "nowhere.bin", "48"),
        ("external_short", "weights.bin", "4800"),
    ] {
        let mut graph = matmul();
        graph.initializer[0].raw_data = Default::default();
        graph.initializer[0].data_location = EnumOrUnknown::new(DataLocation::EXTERNAL);
        for (key, value) in [("location", location), ("offset", "0"), ("length", length)] {
            let entry = StringStringEntryProto { key: key.into(), value: value.into(), ..Default::default() };
            graph.initializer[0].external_data.push(entry);
        }
        write(name, graph)?;
    }

    npy(folder, "x_right", "<f4", "(2, 4)", 32)?;
    npy(folder, "x_wrong_shape", "<f4", "(2, 5)", 40)?;
    npy(folder, "x_wrong_dtype", "<i8", "(2, 4)", 64)?;
    npy(folder, "x_short", "<f4", "(2, 4)", 20)?;
    fs::write(folder.join("x_text.npy"), "1 2 3\n")?;
    // Row 7 of a table of 5.
    npy(folder, "ids_zero", "<i8", "(2,)", 16)?;
    let mut ids = fs::read(folder.join("ids_zero.npy"))?;
    let at = ids.len() - 8;
    ids[at] = 7;
    fs::write(folder.join("ids_out_of_range.npy"), ids)?;
    Ok(())
}

/// A file of zeros as NumPy would write it.
fn npy(folder: &Path, name: &str, descr: &str, shape: &str, data_bytes: usize) -> io::Result<()> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(vec![0; data_bytes]);
    fs::write(folder.join(format!("{name}.npy")), file)
}
