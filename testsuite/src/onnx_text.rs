//! ONNX graphs from text, for the goldens: a part of ONNX's own textual syntax (`onnx.parser`).
//!
//! ```text
//! // Rows are normalised.                                comments to the end of the line
//! <opset_import: ["" : 23, "com.microsoft" : 1]>         optional; opset 21 without it
//! rows (float[2,N] x) => (float[2,N] y)
//! <float[1] scale = {0.5}, int64[2] axes = {0, 1}>       optional initializers
//! {
//!     m = ReduceMax <axes = [-1], keepdims = 1> (x)
//!     [last] y = com.microsoft.Gelu (m, , scale)         a node may have a name; empty operands are left out
//! }
//! ```
//!
//! Attributes are integers, floats (with a `.` or an `e`), strings, lists of these, and tensors
//! (`value = float[2] {1, 2}`). A file holds any number of graphs.

use crate::onnx;
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    attribute_proto::AttributeType,
};
use protobuf::{EnumOrUnknown, MessageField};

/// Names of the element types in the syntax, with ONNX's numbers and the width in bytes.
#[rustfmt::skip] // a table
const TYPES: &[(&str, i32, usize)] = &[
    ("float", 1, 4), ("uint8", 2, 1), ("int8", 3, 1), ("uint16", 4, 2), ("int16", 5, 2), ("int32", 6, 4),
    ("int64", 7, 8), ("bool", 9, 1), ("float16", 10, 2), ("double", 11, 8), ("uint32", 12, 4), ("uint64", 13, 8),
    ("bfloat16", 16, 2),
];

const OPSET: i64 = 21;

/// Every graph of a text as a model.
///
/// # Errors
/// The line of the first thing that is not of the syntax, and what was expected.
pub fn parse(text: &str) -> Result<Vec<ModelProto>, String> {
    let mut reader = Reader { text, at: 0 };
    let mut models = Vec::new();
    while !reader.at_end() {
        models.push(reader.model()?);
    }
    Ok(models)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

type Read<T> = Result<T, String>;

impl<'t> Reader<'t> {
    fn model(&mut self) -> Read<ModelProto> {
        let mut opsets = vec![(String::new(), OPSET)];
        if self.eat("<") {
            self.expect("opset_import")?;
            self.expect(":")?;
            opsets = self.list("[", "]", |r| {
                let domain = r.string()?;
                r.expect(":")?;
                Ok((domain, r.integer()?))
            })?;
            self.expect(">")?;
        }
        let graph = self.graph()?;
        let mut model = onnx::model(graph);
        let opset = |(domain, version)| OperatorSetIdProto { domain, version, ..Default::default() };
        model.opset_import = opsets.into_iter().map(opset).collect();
        model.ir_version = 10;
        Ok(model)
    }

    fn graph(&mut self) -> Read<GraphProto> {
        let name = self.word()?;
        let mut graph = GraphProto { name, ..Default::default() };
        graph.input = self.list("(", ")", Self::value)?;
        self.expect("=>")?;
        graph.output = self.list("(", ")", Self::value)?;
        if self.eat("<") {
            self.at -= 1;
            graph.initializer = self.list("<", ">", |r| {
                let (elem_type, size, dims) = r.tensor_type()?;
                let name = r.word()?;
                r.expect("=")?;
                let mut tensor = r.tensor(elem_type, size, dims)?;
                tensor.name = name;
                Ok(tensor)
            })?;
        }
        self.expect("{")?;
        while !self.eat("}") {
            let node = self.node()?;
            graph.node.push(node);
        }
        Ok(graph)
    }

    fn value(&mut self) -> Read<onnx_protobuf::ValueInfoProto> {
        let (elem_type, _, dims) = self.tensor_type()?;
        let name = self.word()?;
        Ok(onnx::value(&name, elem_type, &dims.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// `float[2,N]`: ONNX's number, bytes of an element, dims.
    fn tensor_type(&mut self) -> Read<(i32, usize, Vec<String>)> {
        let name = self.word()?;
        let &(_, number, size) =
            TYPES.iter().find(|row| row.0 == name).ok_or_else(|| self.fault("an element type"))?;
        let dims = if self.ahead("[") { self.list("[", "]", Self::word)? } else { vec![] };
        Ok((number, size, dims))
    }

    fn node(&mut self) -> Read<NodeProto> {
        let name = if self.eat("[") {
            let name = self.word()?;
            self.expect("]")?;
            name
        } else {
            String::new()
        };
        let mut outputs = vec![self.operand()?];
        while self.eat(",") {
            outputs.push(self.operand()?);
        }
        self.expect("=")?;
        let full = self.word()?;
        let (domain, op) = full.rsplit_once('.').unwrap_or(("", full.as_str()));
        let attribute = if self.ahead("<") { self.list("<", ">", Self::attribute)? } else { vec![] };
        let mut input = Vec::new();
        self.expect("(")?;
        while !self.eat(")") {
            if !input.is_empty() {
                self.expect(",")?;
            }
            input.push(self.operand()?);
        }
        Ok(NodeProto {
            name,
            op_type: op.into(),
            domain: domain.into(),
            input,
            output: outputs,
            attribute,
            ..Default::default()
        })
    }

    /// A value's name, or nothing where one is left out.
    fn operand(&mut self) -> Read<String> {
        if self.ahead(",") || self.ahead(")") || self.ahead("=") { Ok(String::new()) } else { self.word() }
    }

    fn attribute(&mut self) -> Read<AttributeProto> {
        let mut attribute = AttributeProto { name: self.word()?, ..Default::default() };
        self.expect("=")?;
        let kind = if self.ahead("\"") {
            attribute.s = self.string()?.into_bytes();
            AttributeType::STRING
        } else if self.ahead("[") {
            let words = self.list("[", "]", Self::literal)?;
            if words.iter().any(|word| is_float(word)) {
                attribute.floats = words.iter().map(|word| self.float(word)).collect::<Read<_>>()?;
                AttributeType::FLOATS
            } else {
                attribute.ints = words.iter().map(|word| self.int(word)).collect::<Read<_>>()?;
                AttributeType::INTS
            }
        } else if TYPES.iter().any(|row| self.ahead(&format!("{}[", row.0))) {
            let (elem_type, size, dims) = self.tensor_type()?;
            attribute.t = MessageField::some(self.tensor(elem_type, size, dims)?);
            AttributeType::TENSOR
        } else {
            let word = self.literal()?;
            if is_float(&word) {
                attribute.f = self.float(&word)?;
                AttributeType::FLOAT
            } else {
                attribute.i = self.int(&word)?;
                AttributeType::INT
            }
        };
        attribute.type_ = EnumOrUnknown::new(kind);
        Ok(attribute)
    }

    /// `{1, 2}` as raw data; one value fills the tensor.
    fn tensor(&mut self, elem_type: i32, size: usize, dims: Vec<String>) -> Read<TensorProto> {
        let dims: Vec<i64> = dims.iter().map(|dim| self.int(dim)).collect::<Read<_>>()?;
        let mut words = self.list("{", "}", Self::literal)?;
        let elements = dims.iter().product::<i64>() as usize;
        if words.len() == 1 {
            words = vec![words[0].clone(); elements];
        }
        if words.len() != elements {
            return Err(self.fault(&format!("{elements} values")));
        }
        let mut raw_data = Vec::new();
        for word in &words {
            match elem_type {
                1 => raw_data.extend(self.float(word)?.to_le_bytes()),
                10 => raw_data.extend(half::f16::from_f32(self.float(word)?).to_le_bytes()),
                11 => raw_data.extend(f64::from(self.float(word)?).to_le_bytes()),
                16 => raw_data.extend(half::bf16::from_f32(self.float(word)?).to_le_bytes()),
                // Little-endian: the low bytes are the narrower integer.
                _ => raw_data.extend(&self.int(word)?.to_le_bytes()[..size]),
            }
        }
        Ok(TensorProto { dims, data_type: elem_type, raw_data, ..Default::default() })
    }

    fn list<T>(
        &mut self,
        open: &str,
        close: &str,
        mut one: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        self.expect(open)?;
        let mut all = Vec::new();
        while !self.eat(close) {
            if !all.is_empty() {
                self.expect(",")?;
            }
            all.push(one(self)?);
        }
        Ok(all)
    }

    fn integer(&mut self) -> Read<i64> {
        let word = self.literal()?;
        self.int(&word)
    }

    fn int(&self, word: &str) -> Read<i64> {
        word.parse().map_err(|_| self.fault("an integer"))
    }

    fn float(&self, word: &str) -> Read<f32> {
        word.parse().map_err(|_| self.fault("a number"))
    }

    /// A number, with its sign.
    fn literal(&mut self) -> Read<String> {
        self.taken("a number", |c| c.is_alphanumeric() || "+-._".contains(c))
    }

    /// A name; `.`, `/` and `:` may be in it.
    fn word(&mut self) -> Read<String> {
        self.taken("a name", |c| c.is_alphanumeric() || "._/-".contains(c))
    }

    fn taken(&mut self, what: &str, belongs: impl Fn(char) -> bool) -> Read<String> {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.fault(what));
        }
        self.at += end;
        Ok(rest[..end].into())
    }

    fn string(&mut self) -> Read<String> {
        self.expect("\"")?;
        let rest = &self.text[self.at..];
        let end = rest.find('"').ok_or_else(|| self.fault("a closing quote"))?;
        self.at += end + 1;
        Ok(rest[..end].into())
    }

    fn ahead(&mut self, token: &str) -> bool {
        self.skip_blanks();
        self.text[self.at..].starts_with(token)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.ahead(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Read<()> {
        if self.eat(token) { Ok(()) } else { Err(self.fault(&format!("`{token}`"))) }
    }

    fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.at == self.text.len()
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest: &'t str = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start().len();
            if blank > 0 {
                self.at += blank;
            } else if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else {
                return;
            }
        }
    }

    fn fault(&self, expected: &str) -> String {
        let line = self.text[..self.at].matches('\n').count() + 1;
        let found: String = self.text[self.at..].chars().take(20).take_while(|c| *c != '\n').collect();
        format!("line {line}: expected {expected}, found `{found}`")
    }
}

fn is_float(word: &str) -> bool {
    word.contains(['.', 'e']) || word.ends_with("inf") || word.ends_with("nan")
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_graph_with_everything() {
        let models = parse(
            "<opset_import: [\"\" : 23, \"com.microsoft\" : 1]>\n// a comment\n\
             g (float[2,N] x, int64 n) => (float[2,3] y)\n<float[3] w = {1, -2.5, inf}, int64[] k = {7}> {\n\
             [a/b] t, = com.microsoft.Gelu <alpha = 1.5, axes = [-1, 2], mode = \"full\"> (x, , w)\n\
             y = Constant <value = int64[2] {3}> () }\nh () => () {}",
        )
        .expect("it is of the syntax");
        assert_eq!(models.len(), 2);
        assert_eq!(models[0].opset_import[0].version, 23);
        let graph = &models[0].graph;
        assert_eq!(graph.input[0].name, "x");
        assert_eq!(graph.initializer[0].raw_data.len(), 12);
        assert_eq!(graph.initializer[1].dims, Vec::<i64>::new());
        let node = &graph.node[0];
        assert_eq!(
            (node.name.as_str(), node.domain.as_str(), node.op_type.as_str()),
            ("a/b", "com.microsoft", "Gelu")
        );
        assert_eq!(node.input, ["x", "", "w"]);
        assert_eq!(node.output, ["t", ""]);
        assert_eq!(node.attribute[0].f, 1.5);
        assert_eq!(node.attribute[1].ints, [-1, 2]);
        assert_eq!(graph.node[1].attribute[0].t.raw_data.len(), 16);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(
            parse("g (float[2] x)\n= (float[2] y) {}").expect_err("`=>` is missing"),
            "line 2: expected `=>`, found `= (float[2] y) {}`"
        );
        assert!(parse("g (quux x) => () {}").is_err());
    }
}
