//! What can be wrong with a model, told all at once.
//!
//! One code per kind of problem ([`Code`]), one [`Diagnostic`] per place, all of a model's problems in one
//! [`Diagnostics`]. A diagnostic names the ONNX node, shows it in ONNX's textual syntax and says what helps.

use std::fmt;
use std::sync::Arc;

use miette::{LabeledSpan, SourceCode};

/// The kind of a problem; [`Code::id`] is stable and may be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// A file cannot be opened or read.
    Io,
    /// The bytes are not a complete ONNX protobuf message.
    NotOnnx,
    /// The graph breaks a rule of the ONNX IR (missing name, value defined twice, …).
    InvalidGraph,
    /// Nodes depend on each other in a circle.
    CyclicGraph,
    /// A node reads a value that nothing defines.
    UndefinedValue,
    /// The model imports no usable version of the operator set.
    Opset,
    /// No importer for this operator.
    UnknownOp,
    /// An attribute is missing, has the wrong type, or is not handled.
    Attribute,
    /// The dtype is not handled here.
    DType,
    /// Shapes do not fit each other, or are absurd.
    Shape,
    /// A dimension has no value.
    UnboundDim,
    /// A value must be known at compile time and is not.
    NotConstant,
    /// External data lies outside the model's folder, or outside its file.
    ExternalData,
    /// An import option names what the model does not have.
    Option,
    /// The result depends on data in its shape.
    DataDependent,
}

impl Code {
    /// The stable identifier, `onnx::…`.
    pub fn id(self) -> &'static str {
        match self {
            Code::Io => "onnx::io",
            Code::NotOnnx => "onnx::not-onnx",
            Code::InvalidGraph => "onnx::invalid-graph",
            Code::CyclicGraph => "onnx::cyclic-graph",
            Code::UndefinedValue => "onnx::undefined-value",
            Code::Opset => "onnx::opset",
            Code::UnknownOp => "onnx::unknown-op",
            Code::Attribute => "onnx::attribute",
            Code::DType => "onnx::dtype",
            Code::Shape => "onnx::shape",
            Code::UnboundDim => "onnx::unbound-dim",
            Code::NotConstant => "onnx::not-constant",
            Code::ExternalData => "onnx::external-data",
            Code::Option => "onnx::option",
            Code::DataDependent => "onnx::data-dependent",
        }
    }
}

/// Where a problem lies: one ONNX node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRef {
    /// The node's name, or `<Op>_<index>` when it has none.
    pub name: String,
    /// The operator, with its domain when that is not ONNX's own.
    pub op_type: String,
    /// The node in ONNX's textual syntax.
    pub text: String,
}

/// One problem.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// What kind of problem.
    pub code: Code,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The node it lies at, if it lies at one.
    pub node: Option<Arc<NodeRef>>,
}

impl Diagnostic {
    /// A problem of kind `code`, told in one sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Diagnostic { code, message: message.into(), help: None, node: None }
    }

    /// Adds what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the node it lies at (the first call wins: the innermost place is the most precise).
    pub fn at(mut self, node: &Arc<NodeRef>) -> Self {
        self.node.get_or_insert_with(|| node.clone());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{} ({}): ", node.name, node.op_type)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code.id()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.node.as_ref().map(|n| &n.text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let node = self.node.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new(None, 0, node.text.len()))))
    }
}

/// All problems of one model, in graph order; never empty when returned as an error.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Adds one problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds all of another collection.
    pub fn append(&mut self, mut other: Diagnostics) {
        self.0.append(&mut other.0);
    }

    /// The problems, in graph order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many problems.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `value`, unless there are problems.
    pub fn or<T>(self, value: T) -> Result<T, Diagnostics> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Diagnostics(vec![diagnostic])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            many => {
                write!(f, "{} problems in the model", many.len())?;
                many.iter().try_for_each(|d| write!(f, "\n  {d} [{}]", d.code.id()))
            }
        }
    }
}

impl std::error::Error for Diagnostics {}

impl miette::Diagnostic for Diagnostics {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match self.0.as_slice() {
            [one] => one.code(),
            _ => Some(Box::new("onnx::model")),
        }
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match self.0.as_slice() {
            [one] => miette::Diagnostic::help(one),
            _ => None,
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.0.len() < 2 {
            return None;
        }
        Some(Box::new(self.0.iter().map(|d| d as &dyn miette::Diagnostic)))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self.0.as_slice() {
            [one] => one.source_code(),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match self.0.as_slice() {
            [one] => one.labels(),
            _ => None,
        }
    }
}
