//! A node in ONNX's textual syntax, as diagnostics show it.
//!
//! `[name] y = Gather <axis = 0> (data, indices)`: ONNX's own grammar (docs/Syntax.md), with tensors and
//! subgraphs elided.

use std::fmt::Write;

use crate::onnx::attribute_proto::AttributeType;
use crate::onnx::{AttributeProto, NodeProto};

/// Longer attribute lists are cut: a snippet is read, not parsed.
const LIST_LIMIT: usize = 12;

/// The node as one line of text.
pub fn node_text(node: &NodeProto) -> String {
    let mut text = String::new();
    if !node.name().is_empty() {
        let _ = write!(text, "[{}] ", node.name());
    }
    text.push_str(&node.output.join(", "));
    text.push_str(" = ");
    if !node.domain().is_empty() {
        let _ = write!(text, "{}.", node.domain());
    }
    text.push_str(node.op_type());
    if !node.attribute.is_empty() {
        let attributes: Vec<String> = node.attribute.iter().map(attribute_text).collect();
        let _ = write!(text, " <{}>", attributes.join(", "));
    }
    let _ = write!(text, " ({})", node.input.join(", "));
    text
}

fn attribute_text(attribute: &AttributeProto) -> String {
    let value = match attribute.r#type() {
        AttributeType::Float => format!("{:?}", attribute.f()),
        AttributeType::Int => attribute.i().to_string(),
        AttributeType::String => format!("{:?}", String::from_utf8_lossy(attribute.s())),
        AttributeType::Floats => list(attribute.floats.iter().map(|v| format!("{v:?}"))),
        AttributeType::Ints => list(attribute.ints.iter().map(i64::to_string)),
        AttributeType::Strings => {
            list(attribute.strings.iter().map(|s| format!("{:?}", String::from_utf8_lossy(s))))
        }
        AttributeType::Graph => "{…}".to_string(),
        _ if !attribute.ref_attr_name().is_empty() => format!("@{}", attribute.ref_attr_name()),
        _ => "…".to_string(),
    };
    format!("{} = {value}", attribute.name())
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let cut = items.len() > LIST_LIMIT;
    let mut shown: Vec<String> = items.take(LIST_LIMIT).collect();
    if cut {
        shown.push("…".to_string());
    }
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_reads_as_onnx_text() {
        let node = NodeProto {
            name: Some("take".into()),
            op_type: Some("Gather".into()),
            domain: Some("com.example".into()),
            input: vec!["data".into(), "ids".into()],
            output: vec!["y".into()],
            attribute: vec![AttributeProto {
                name: Some("axis".into()),
                r#type: Some(AttributeType::Int as i32),
                i: Some(-1),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(node_text(&node), "[take] y = com.example.Gather <axis = -1> (data, ids)");
    }
}
