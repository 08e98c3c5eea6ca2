//! ONNX's messages, generated from ONNX's own `onnx.proto`, and the few questions asked of them everywhere.

#![allow(missing_docs, clippy::all, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
