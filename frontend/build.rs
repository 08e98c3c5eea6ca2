//! Generates the ONNX message types from ONNX's own `onnx.proto`, without `protoc`.
//!
//! `raw_data` becomes `bytes::Bytes`, so that decoding a memory-mapped model copies no weight.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/onnx.proto");
    let descriptors = protox::compile(["proto/onnx.proto"], ["proto"])?;
    prost_build::Config::new().bytes([".onnx.TensorProto.raw_data"]).compile_fds(descriptors)?;
    Ok(())
}
