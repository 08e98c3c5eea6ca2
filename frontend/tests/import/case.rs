//! Cases of operators: how they are written down.

use kiln_machine::tensor::Tensor;

use crate::build::Attr;

/// A case under construction: inputs, then attributes, then outputs.
pub struct Case {
    pub op: &'static str,
    pub domain: &'static str,
    pub inputs: Vec<(Option<Tensor>, bool)>,
    pub attributes: Vec<(&'static str, Attr)>,
    pub outputs: Vec<Tensor>,
}

pub fn case(op: &'static str) -> Case {
    Case { op, domain: "", inputs: vec![], attributes: vec![], outputs: vec![] }
}

pub fn microsoft(op: &'static str) -> Case {
    Case { domain: "com.microsoft", ..case(op) }
}

impl Case {
    /// An input that the caller gives.
    pub fn input(mut self, t: Tensor) -> Self {
        self.inputs.push((Some(t), false));
        self
    }

    /// An input that is an initializer.
    pub fn known(mut self, t: Tensor) -> Self {
        self.inputs.push((Some(t), true));
        self
    }

    /// An optional input left out.
    pub fn skip(mut self) -> Self {
        self.inputs.push((None, false));
        self
    }

    pub fn int(mut self, name: &'static str, v: i64) -> Self {
        self.attributes.push((name, Attr::Int(v)));
        self
    }

    pub fn float(mut self, name: &'static str, v: f32) -> Self {
        self.attributes.push((name, Attr::Float(v)));
        self
    }

    pub fn ints(mut self, name: &'static str, v: &[i64]) -> Self {
        self.attributes.push((name, Attr::Ints(v.to_vec())));
        self
    }

    pub fn text(mut self, name: &'static str, v: &'static str) -> Self {
        self.attributes.push((name, Attr::Text(v)));
        self
    }

    pub fn value(mut self, name: &'static str, v: Tensor) -> Self {
        self.attributes.push((name, Attr::Tensor(v)));
        self
    }

    pub fn gives(mut self, t: Tensor) -> Self {
        self.outputs.push(t);
        self
    }
}
