//! One ONNX node as its importer sees it: typed inputs, attributes that must all be used, and the draft.

use std::cell::RefCell;
use std::collections::BTreeSet;

use indexmap::IndexMap;
use kiln_machine::tensor::DType;

use crate::diagnostics::{Code, Diagnostic};
use crate::draft::{Draft, Result, Val};
use crate::model_file::Files;
use crate::onnx::attribute_proto::AttributeType;
use crate::onnx::{AttributeProto, NodeProto};

/// A node being imported.
pub struct Call<'a> {
    /// Where ops are built.
    pub draft: &'a mut Draft,
    /// The node, with attributes already bound where it stood in a function.
    pub node: &'a NodeProto,
    /// Version of the node's operator set.
    pub opset: i64,
    /// Values of the inputs; `None` where an optional input is left out.
    pub inputs: Vec<Option<Val>>,
    /// Files of tensors in attributes.
    pub files: &'a mut Files,
    /// Shapes that the model declares for values, with all dims bound.
    pub declared: &'a IndexMap<String, Vec<usize>>,
    /// Attributes asked for so far.
    pub used: RefCell<BTreeSet<String>>,
}

impl<'a> Call<'a> {
    /// Input `i`, which the operator requires.
    pub fn input(&self, i: usize) -> Result<Val> {
        self.optional(i).ok_or_else(|| {
            Diagnostic::new(Code::InvalidGraph, format!("input {i} is missing"))
                .help("the operator requires this input")
        })
    }

    /// Input `i`, if it is given.
    pub fn optional(&self, i: usize) -> Option<Val> {
        self.inputs.get(i).copied().flatten()
    }

    /// All inputs, each of which must be given.
    pub fn all_inputs(&self) -> Result<Vec<Val>> {
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// True when the node's output `i` is named, that is, wanted.
    pub fn wants(&self, i: usize) -> bool {
        self.node.output.get(i).is_some_and(|name| !name.is_empty())
    }

    /// The shape that the model declares for output `i`: where it would follow from values of the inputs, this is
    /// what the exporter knew of them.
    pub fn declared(&self, i: usize) -> Option<&'a [usize]> {
        self.declared.get(self.node.output.get(i)?).map(Vec::as_slice)
    }

    /// The integers of input `i`, which must be known at import.
    pub fn known_ints(&self, i: usize, what: &str) -> Result<Vec<i64>> {
        let v = self.input(i)?;
        self.draft.ints(v).ok_or_else(|| {
            let name = self.node.input.get(i).map_or("", String::as_str);
            Diagnostic::new(
                Code::NotConstant,
                format!("{what} ({name:?}) depends on the values of the inputs"),
            )
            .help("only what follows from the inputs' shapes is known when the model is compiled")
        })
    }

    /// As [`Call::known_ints`] for an input that may be left out.
    pub fn optional_ints(&self, i: usize, what: &str) -> Result<Option<Vec<i64>>> {
        match self.optional(i) {
            None => Ok(None),
            Some(_) => self.known_ints(i, what).map(Some),
        }
    }

    fn attribute(&self, name: &str, kind: AttributeType) -> Result<Option<&'a AttributeProto>> {
        self.used.borrow_mut().insert(name.to_string());
        let Some(attribute) = self.node.attribute.iter().find(|a| a.name() == name) else { return Ok(None) };
        if attribute.r#type() != kind && attribute.r#type.is_some() {
            return Err(Diagnostic::new(
                Code::Attribute,
                format!("attribute {name} is of type {:?}, not {kind:?}", attribute.r#type()),
            ));
        }
        Ok(Some(attribute))
    }

    /// Integer attribute.
    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.attribute(name, AttributeType::Int)?.map(|a| a.i()))
    }

    /// Integer attribute with a default.
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// Integer attribute that is 0 or 1.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int_or(name, i64::from(default))? != 0)
    }

    /// Float attribute.
    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        Ok(self.attribute(name, AttributeType::Float)?.map(|a| a.f()))
    }

    /// Float attribute with a default.
    pub fn float_or(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// Integers attribute.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|a| a.ints.as_slice()))
    }

    /// Floats attribute.
    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|a| a.floats.as_slice()))
    }

    /// String attribute.
    pub fn string(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(attribute) = self.attribute(name, AttributeType::String)? else { return Ok(None) };
        std::str::from_utf8(attribute.s())
            .map(Some)
            .map_err(|_| Diagnostic::new(Code::Attribute, format!("attribute {name} is not UTF-8")))
    }

    /// Tensor attribute, as a known value.
    pub fn tensor(&mut self, name: &str) -> Result<Option<Val>> {
        let Some(attribute) = self.attribute(name, AttributeType::Tensor)? else { return Ok(None) };
        let Some(proto) = attribute.t.as_ref() else { return Ok(None) };
        let payload = self.files.payload(proto)?;
        Ok(Some(self.draft.payload(payload)))
    }

    /// A required attribute.
    pub fn required<T>(&self, value: Option<T>, name: &str) -> Result<T> {
        value.ok_or_else(|| Diagnostic::new(Code::Attribute, format!("attribute {name} is missing")))
    }

    /// Attributes that change nothing here.
    pub fn ignore(&self, names: &[&str]) {
        self.used.borrow_mut().extend(names.iter().map(|n| n.to_string()));
    }

    /// The first attribute that nobody asked for.
    pub fn unused_attribute(&self) -> Option<&'a str> {
        let used = self.used.borrow();
        self.node.attribute.iter().map(|a| a.name()).find(|name| !used.contains(*name))
    }

    /// `axis` of a tensor of `rank` dims, counted from the end when negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_front = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_front).ok().filter(|&a| a < rank).ok_or_else(|| {
            Diagnostic::new(Code::Shape, format!("axis {axis} does not exist in a tensor of {rank} dims"))
        })
    }

    /// Several axes, sorted, distinct.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut out: Vec<usize> = axes.iter().map(|&a| self.axis(a, rank)).collect::<Result<_>>()?;
        out.sort_unstable();
        if out.windows(2).any(|w| w[0] == w[1]) {
            return Err(Diagnostic::new(Code::Shape, format!("axes {axes:?} name an axis twice")));
        }
        Ok(out)
    }

    /// Extents that the model computes, if they are possible ones.
    pub fn extents(&self, shape: &[i64]) -> Result<Vec<usize>> {
        let elements =
            shape.iter().try_fold(1i64, |n, &d| if d < 0 { None } else { n.checked_mul(d.max(1)) });
        if elements.is_none_or(|n| n > crate::model_file::MAX_ELEMENTS) {
            return Err(Diagnostic::new(Code::Shape, format!("the shape {shape:?} is impossible")));
        }
        Ok(shape.iter().map(|&d| d as usize).collect())
    }

    /// Refuses to compute a table of more entries than a sensible model has.
    pub fn expect_table(&self, entries: &[usize]) -> Result<()> {
        let product = entries.iter().try_fold(1usize, |n, &e| n.checked_mul(e.max(1)));
        match product {
            Some(n) if n <= crate::model_file::MAX_TABLE => Ok(()),
            _ => Err(Diagnostic::new(Code::Shape, format!("a table of {entries:?} entries is absurd"))),
        }
    }

    /// Refuses a dtype outside `allowed`.
    pub fn expect_float(&self, v: Val) -> Result<DType> {
        let dtype = self.draft.dtype(v);
        if crate::fold::is_float(dtype) {
            return Ok(dtype);
        }
        Err(Diagnostic::new(Code::DType, format!("takes floats, not {dtype}")))
    }
}
