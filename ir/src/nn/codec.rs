//! [`OpKind`] ⇄ MLIR attributes, and functions read from a module.

use super::func::{Func, Op, Port, ValueId};
use super::kind::*;
use crate::error::{IrError, Result};
use crate::ffi::{self, Attr, NamedAttr, Ty};
use crate::module::Module;
use crate::types::{DType, Scalar, TensorType};
use std::collections::HashMap;

fn dims(values: &[usize]) -> Attr {
    Attr::Dims(values.iter().map(|&v| v as i64).collect())
}

fn int(value: usize) -> Attr {
    Attr::I64(value as i64)
}

fn flag(attrs: &mut Vec<NamedAttr>, name: &'static str, set: bool) {
    if set {
        attrs.push((name, Attr::Unit));
    }
}

/// The attributes of an op of this kind.
pub(crate) fn encode(kind: &OpKind) -> Vec<NamedAttr> {
    match kind {
        OpKind::Constant { ty, bytes } => vec![("value", Attr::Dense(ty.clone(), bytes.clone()))],
        OpKind::Weight { file, offset, length, .. } => vec![
            ("file", Attr::I32(i64::from(*file))),
            ("offset", Attr::I64(*offset as i64)),
            ("length", Attr::I64(*length as i64)),
        ],
        OpKind::Map { kind } => vec![("kind", Attr::I32(*kind as i64))],
        OpKind::Cast { .. } | OpKind::Reshape { .. } => vec![],
        OpKind::Contract { dims: d, acc, .. } => vec![
            ("lhs_batch", dims(&d.lhs_batch)),
            ("rhs_batch", dims(&d.rhs_batch)),
            ("lhs_contract", dims(&d.lhs_contract)),
            ("rhs_contract", dims(&d.rhs_contract)),
            ("acc", Attr::Element(*acc)),
        ],
        OpKind::Reduce { kind, axes } => vec![("kind", Attr::I32(*kind as i64)), ("axes", dims(axes))],
        OpKind::Transpose { perm } => vec![("perm", dims(perm))],
        OpKind::Broadcast { dims: d, .. } => vec![("dims", dims(d))],
        OpKind::Slice { offsets, sizes, strides } => {
            vec![("offsets", dims(offsets)), ("sizes", dims(sizes)), ("strides", dims(strides))]
        }
        OpKind::Pad { low, high, value } => {
            vec![("low", dims(low)), ("high", dims(high)), ("value", scalar(*value))]
        }
        OpKind::Concat { axis } | OpKind::Iota { axis, .. } => vec![("axis", int(*axis))],
        OpKind::Reverse { axes } => vec![("axes", dims(axes))],
        OpKind::Gather { axis } | OpKind::GatherElements { axis } => vec![("axis", int(*axis))],
        OpKind::GatherNd { batch_dims } => vec![("batch_dims", int(*batch_dims))],
        OpKind::ScatterNd { reduction } => vec![("reduction", Attr::I32(*reduction as i64))],
        OpKind::ScatterElements { axis, reduction } => {
            vec![("axis", int(*axis)), ("reduction", Attr::I32(*reduction as i64))]
        }
        OpKind::Scan { kind, axis, exclusive, reverse } => {
            let mut attrs = vec![("kind", Attr::I32(*kind as i64)), ("axis", int(*axis))];
            flag(&mut attrs, "exclusive", *exclusive);
            flag(&mut attrs, "reverse", *reverse);
            attrs
        }
        OpKind::TopK { k, axis, largest } => {
            let mut attrs = vec![("k", int(*k)), ("axis", int(*axis))];
            flag(&mut attrs, "largest", *largest);
            attrs
        }
        OpKind::Conv { strides, pads_low, pads_high, dilations, groups } => vec![
            ("strides", dims(strides)),
            ("pads_low", dims(pads_low)),
            ("pads_high", dims(pads_high)),
            ("dilations", dims(dilations)),
            ("groups", int(*groups)),
        ],
    }
}

pub(crate) fn scalar(value: Scalar) -> Attr {
    match value {
        Scalar::Float(bits) => Attr::F64(f64::from_bits(bits)),
        Scalar::Int(i) => Attr::I64(i),
    }
}

/// Typed access to one op's attributes; a missing one is an error that names it.
pub(crate) struct Reader {
    pub(crate) op: ffi::Op,
    pub(crate) name: String,
}

impl Reader {
    pub(crate) fn new(op: ffi::Op) -> Self {
        Reader { op, name: op.name() }
    }

    fn missing<T>(&self, attr: &str) -> Result<T> {
        Err(IrError::malformed(format!("{} lacks a usable attribute '{attr}'", self.name)))
    }

    pub(crate) fn int(&self, attr: &str) -> Result<i64> {
        match self.op.attr(attr) {
            Some(Attr::I32(v) | Attr::I64(v)) => Ok(v),
            _ => self.missing(attr),
        }
    }

    pub(crate) fn size(&self, attr: &str) -> Result<usize> {
        usize::try_from(self.int(attr)?).or_else(|_| self.missing(attr))
    }

    pub(crate) fn signed_dims(&self, attr: &str) -> Result<Vec<i64>> {
        match self.op.attr(attr) {
            Some(Attr::Dims(v)) => Ok(v),
            _ => self.missing(attr),
        }
    }

    pub(crate) fn dims(&self, attr: &str) -> Result<Vec<usize>> {
        let values = self.signed_dims(attr)?;
        values.into_iter().map(|v| usize::try_from(v).or_else(|_| self.missing(attr))).collect()
    }

    pub(crate) fn flag(&self, attr: &str) -> bool {
        self.op.attr(attr).is_some()
    }

    pub(crate) fn element(&self, attr: &str) -> Result<DType> {
        match self.op.attr(attr) {
            Some(Attr::Element(dtype)) => Ok(dtype),
            _ => self.missing(attr),
        }
    }

    pub(crate) fn scalar(&self, attr: &str) -> Result<Scalar> {
        match self.op.attr(attr) {
            Some(Attr::F64(v)) => Ok(Scalar::float(v)),
            Some(Attr::I64(v)) => Ok(Scalar::Int(v)),
            _ => self.missing(attr),
        }
    }

    pub(crate) fn text(&self, attr: &str) -> Result<String> {
        match self.op.attr(attr) {
            Some(Attr::Text(v) | Attr::Symbol(v)) => Ok(v),
            _ => self.missing(attr),
        }
    }

    /// An enum case by its index, through `T::from_index`.
    pub(crate) fn case<T>(&self, attr: &str, from_index: fn(i64) -> Option<T>) -> Result<T> {
        from_index(self.int(attr)?).map_or_else(|| self.missing(attr), Ok)
    }
}

/// The kind of `op`, whose results have these types.
fn decode(op: ffi::Op, results: &[TensorType]) -> Result<OpKind> {
    let r = Reader::new(op);
    let foreign = || IrError::malformed(format!("'{}' is no op of nn", r.name));
    let ty = || results.first().cloned().ok_or_else(foreign);
    Ok(match r.name.as_str() {
        "nn.constant" => match op.attr("value") {
            Some(Attr::Dense(ty, bytes)) => OpKind::Constant { ty, bytes },
            _ => return r.missing("value"),
        },
        "nn.weight" => OpKind::Weight {
            ty: ty()?,
            file: r.size("file")? as u32,
            offset: r.size("offset")? as u64,
            length: r.size("length")? as u64,
        },
        "nn.map" => OpKind::Map { kind: r.case("kind", MapKind::from_index)? },
        "nn.cast" => OpKind::Cast { dtype: ty()?.dtype },
        "nn.contract" => OpKind::Contract {
            dims: ContractDims {
                lhs_batch: r.dims("lhs_batch")?,
                rhs_batch: r.dims("rhs_batch")?,
                lhs_contract: r.dims("lhs_contract")?,
                rhs_contract: r.dims("rhs_contract")?,
            },
            acc: r.element("acc")?,
            dtype: ty()?.dtype,
        },
        "nn.reduce" => {
            OpKind::Reduce { kind: r.case("kind", ReduceKind::from_index)?, axes: r.dims("axes")? }
        }
        "nn.reshape" => OpKind::Reshape { shape: ty()?.shape },
        "nn.transpose" => OpKind::Transpose { perm: r.dims("perm")? },
        "nn.broadcast" => OpKind::Broadcast { dims: r.dims("dims")?, shape: ty()?.shape },
        "nn.slice" => OpKind::Slice {
            offsets: r.dims("offsets")?,
            sizes: r.dims("sizes")?,
            strides: r.dims("strides")?,
        },
        "nn.pad" => OpKind::Pad { low: r.dims("low")?, high: r.dims("high")?, value: r.scalar("value")? },
        "nn.concat" => OpKind::Concat { axis: r.size("axis")? },
        "nn.reverse" => OpKind::Reverse { axes: r.dims("axes")? },
        "nn.iota" => OpKind::Iota { ty: ty()?, axis: r.size("axis")? },
        "nn.gather" => OpKind::Gather { axis: r.size("axis")? },
        "nn.gather_elements" => OpKind::GatherElements { axis: r.size("axis")? },
        "nn.gather_nd" => OpKind::GatherNd { batch_dims: r.size("batch_dims")? },
        "nn.scatter_nd" => {
            OpKind::ScatterNd { reduction: r.case("reduction", ScatterReduction::from_index)? }
        }
        "nn.scatter_elements" => OpKind::ScatterElements {
            axis: r.size("axis")?,
            reduction: r.case("reduction", ScatterReduction::from_index)?,
        },
        "nn.scan" => OpKind::Scan {
            kind: r.case("kind", ScanKind::from_index)?,
            axis: r.size("axis")?,
            exclusive: r.flag("exclusive"),
            reverse: r.flag("reverse"),
        },
        "nn.topk" => OpKind::TopK { k: r.size("k")?, axis: r.size("axis")?, largest: r.flag("largest") },
        "nn.conv" => OpKind::Conv {
            strides: r.dims("strides")?,
            pads_low: r.dims("pads_low")?,
            pads_high: r.dims("pads_high")?,
            dilations: r.dims("dilations")?,
            groups: r.size("groups")?,
        },
        _ => return Err(foreign()),
    })
}

// ---- ports -------------------------------------------------------------------------------------

pub(crate) fn encode_port(port: &Port) -> Attr {
    let mut items = Vec::new();
    if let Some(dtype) = port.host_type {
        items.push(("nn.host_type".to_owned(), Attr::Element(dtype)));
    }
    if !port.name.is_empty() {
        items.push(("nn.name".to_owned(), Attr::Text(port.name.clone())));
    }
    if let Some(range) = port.range {
        items.push(("nn.range".to_owned(), Attr::Dims(range.to_vec())));
    }
    Attr::Dict(items)
}

pub(crate) fn decode_port(attr: Option<&Attr>) -> Port {
    let mut port = Port::default();
    let Some(Attr::Dict(items)) = attr else { return port };
    for (name, value) in items {
        match (name.as_str(), value) {
            ("nn.name", Attr::Text(text)) => port.name = text.clone(),
            ("nn.host_type", Attr::Element(dtype)) => port.host_type = Some(*dtype),
            ("nn.range", Attr::Dims(v)) if v.len() == 2 => port.range = Some([v[0], v[1]]),
            _ => {}
        }
    }
    port
}

fn ports(op: ffi::Op, attr: &str, count: usize) -> Vec<Port> {
    let list = match op.attr(attr) {
        Some(Attr::List(items)) => items,
        _ => Vec::new(),
    };
    (0..count).map(|i| decode_port(list.get(i))).collect()
}

// ---- functions ---------------------------------------------------------------------------------

/// Values seen so far while reading a function.
#[derive(Default)]
struct Values {
    ids: HashMap<usize, ValueId>, // looked up only, never iterated
    types: Vec<TensorType>,
}

impl Values {
    fn define(&mut self, value: ffi::Value) -> Result<ValueId> {
        let Some(Ty::Tensor(ty)) = value.ty() else {
            return Err(IrError::malformed(
                "a value of a function is no static tensor of a known element type",
            ));
        };
        let id = ValueId(self.types.len() as u32);
        self.types.push(ty);
        self.ids.insert(value.key(), id);
        Ok(id)
    }

    fn get(&self, value: ffi::Value) -> Result<ValueId> {
        self.ids
            .get(&value.key())
            .copied()
            .ok_or_else(|| IrError::malformed("an operand is used before its op"))
    }
}

impl Module {
    /// Reads the function called `name`.
    ///
    /// # Errors
    /// [`IrError::Malformed`] when there is no such function, it has no body, or it holds foreign ops.
    pub fn func(&self, name: &str) -> Result<Func> {
        let found = self.find(name).filter(|op| op.name() == "func.func");
        let op = found.ok_or_else(|| IrError::malformed(format!("there is no function @{name}")))?;
        let body =
            op.block(0).ok_or_else(|| IrError::malformed(format!("the function @{name} has no body")))?;
        let mut values = Values::default();
        for arg in body.args() {
            values.define(arg)?;
        }
        let args = ports(op, "arg_attrs", values.types.len());
        let mut ops = Vec::new();
        let mut results = Vec::new();
        for inner in body.ops() {
            let operands = inner.operands().into_iter().map(|v| values.get(v)).collect::<Result<Vec<_>>>()?;
            if inner.name() == "func.return" {
                let attrs = ports(op, "res_attrs", operands.len());
                results = operands.into_iter().zip(attrs).collect();
                break;
            }
            let first = values.types.len();
            let ids = inner.results().into_iter().map(|v| values.define(v)).collect::<Result<Vec<_>>>()?;
            let kind = decode(inner, &values.types[first..])?;
            ops.push(Op { kind, operands, results: ids, origin: inner.origin() });
        }
        let private = op.attr("sym_visibility") == Some(Attr::Text("private".into()));
        Ok(Func { name: name.to_owned(), private, args, ops, results, types: values.types })
    }
}
