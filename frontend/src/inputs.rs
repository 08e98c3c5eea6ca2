//! The inputs a model declares, and the binding of their dims.

use indexmap::IndexMap;
use kiln_machine::tensor::DType;

use crate::diagnostics::{Code, Diagnostic, Diagnostics};
use crate::dims::DimSpec;
use crate::model_file::{MAX_ELEMENTS, dtype_from_onnx, onnx_type_name};
use crate::onnx::{GraphProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::tensor_pb::is_four_bit;

/// An input as the model declares it.
#[derive(Debug, Clone)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: DType,
    /// Its dims; `None` when the model does not even say how many.
    pub dims: Option<Vec<DimSpec>>,
}

/// The inputs that a caller must give: initializers that are listed as inputs are constants.
pub(crate) fn declared(graph: &GraphProto) -> Result<Vec<InputSpec>, Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut specs: Vec<InputSpec> = Vec::new();
    for info in &graph.input {
        if graph.initializer.iter().any(|t| t.name() == info.name()) {
            continue;
        }
        match spec(info) {
            Ok(spec) if specs.iter().any(|s| s.name == spec.name) => {
                let message = format!("the model has two inputs called {:?}", spec.name);
                problems.push(Diagnostic::new(Code::InvalidGraph, message));
            }
            Ok(spec) => specs.push(spec),
            Err(problem) => problems.push(problem),
        }
    }
    problems.or(specs)
}

fn spec(info: &ValueInfoProto) -> Result<InputSpec, Diagnostic> {
    let name = info.name().to_string();
    let value = info.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Err(Diagnostic::new(Code::DType, format!("input {name:?} is not a tensor"))
            .help("sequences, maps, optionals and sparse tensors are not handled"));
    };
    let whole_bytes = Some(tensor.elem_type()).filter(|&t| !is_four_bit(t));
    let dtype = whole_bytes.and_then(dtype_from_onnx).ok_or_else(|| {
        let message =
            format!("input {name:?} is of {}, which is not handled", onnx_type_name(tensor.elem_type()));
        Diagnostic::new(Code::DType, message)
    })?;
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim_spec).collect());
    Ok(InputSpec { name, dtype, dims })
}

fn dim_spec(dim: &tensor_shape_proto::Dimension) -> DimSpec {
    match &dim.value {
        Some(tensor_shape_proto::dimension::Value::DimValue(n)) if *n >= 0 => DimSpec::Fixed(*n),
        Some(tensor_shape_proto::dimension::Value::DimParam(text)) => DimSpec::parse(text),
        _ => DimSpec::Unnamed,
    }
}

/// The shape that the model declares for a value, if the bound dims give each of its extents.
pub(crate) fn declared_shape(info: &ValueInfoProto, bound: &IndexMap<String, i64>) -> Option<Vec<usize>> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    let extent = |dim: &tensor_shape_proto::Dimension| match dim_spec(dim) {
        DimSpec::Fixed(n) => usize::try_from(n).ok(),
        DimSpec::Expr(expr) => expr.eval(bound).ok().and_then(|n| usize::try_from(n).ok()),
        DimSpec::Unnamed => None,
    };
    let shape: Vec<usize> = tensor.shape.as_ref()?.dim.iter().map(extent).collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1i64, |n, &d| n.checked_mul(d.max(1) as i64))?;
    (elements <= MAX_ELEMENTS).then_some(shape)
}

/// The values of dim names, and the shapes of all inputs.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    /// Name → size, in order of binding.
    pub dims: IndexMap<String, i64>,
    /// Input → shape, in the model's order.
    pub shapes: IndexMap<String, Vec<usize>>,
}

/// Gives each dim of each input its size, from `dims` and from the `shapes` of inputs that are at hand.
///
/// # Errors
/// [`Code::UnboundDim`] for each dim without a value, [`Code::Shape`] where a given shape contradicts the
/// model or a binding, [`Code::Option`] for names the model does not have.
pub(crate) fn bind(
    specs: &[InputSpec],
    dims: &IndexMap<String, i64>,
    shapes: &IndexMap<String, Vec<usize>>,
) -> Result<Binding, Diagnostics> {
    let mut problems = Diagnostics::default();
    for name in shapes.keys().filter(|n| !specs.iter().any(|s| s.name == **n)) {
        let inputs: Vec<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        problems.push(
            Diagnostic::new(Code::Option, format!("the model has no input {name:?}"))
                .help(format!("its inputs are {}", inputs.join(", "))),
        );
    }
    let known = dim_names(specs);
    for name in dims.keys().filter(|n| !known.contains(n)) {
        problems.push(
            Diagnostic::new(Code::Option, format!("the model has no dim {name:?}"))
                .help(format!("its dims are {}", known.join(", "))),
        );
    }
    let mut bound = dims.clone();
    // Plain names first: expressions are checked against them.
    for (spec, shape) in specs.iter().filter_map(|s| Some((s, shapes.get(&s.name)?))) {
        let Some(declared) = &spec.dims else { continue };
        if declared.len() != shape.len() {
            problems.push(Diagnostic::new(
                Code::Shape,
                format!(
                    "input {:?} has {} dims, not the {} of {shape:?}",
                    spec.name,
                    declared.len(),
                    shape.len()
                ),
            ));
            continue;
        }
        for (axis, (dim, &n)) in declared.iter().zip(shape).enumerate() {
            let name = match dim {
                DimSpec::Expr(e) => e.as_name().map(str::to_string),
                DimSpec::Unnamed => Some(unnamed(&spec.name, axis)),
                DimSpec::Fixed(_) => None,
            };
            if let Some(name) = name {
                bound.entry(name).or_insert(n as i64);
            }
        }
    }
    let mut binding = Binding { dims: bound, shapes: IndexMap::new() };
    for spec in specs {
        match shape_of(spec, &binding.dims, shapes.get(&spec.name), &mut problems) {
            Some(shape) => {
                binding.shapes.insert(spec.name.clone(), shape);
            }
            None => debug_assert!(!problems.is_empty()),
        }
    }
    problems.or(binding)
}

/// The name by which a dim without one can be bound.
fn unnamed(input: &str, axis: usize) -> String {
    format!("{input}.{axis}")
}

/// All names that can be bound, in order of appearance.
pub(crate) fn dim_names(specs: &[InputSpec]) -> Vec<String> {
    let mut names = indexmap::IndexSet::new();
    for spec in specs {
        for (axis, dim) in spec.dims.iter().flatten().enumerate() {
            match dim {
                DimSpec::Expr(e) => names.extend(e.names().into_iter().map(str::to_string)),
                DimSpec::Unnamed => names.extend([unnamed(&spec.name, axis)]),
                DimSpec::Fixed(_) => {}
            }
        }
    }
    names.into_iter().collect()
}

fn shape_of(
    spec: &InputSpec,
    bound: &IndexMap<String, i64>,
    given: Option<&Vec<usize>>,
    problems: &mut Diagnostics,
) -> Option<Vec<usize>> {
    let Some(declared) = &spec.dims else {
        if given.is_none() {
            let message = format!("the model does not say how many dims input {:?} has", spec.name);
            problems
                .push(Diagnostic::new(Code::UnboundDim, message).help("give the input itself, with --input"));
        }
        return given.cloned();
    };
    if given.is_some_and(|g| g.len() != declared.len()) {
        return None;
    }
    let before = problems.len();
    let mut shape = Vec::with_capacity(declared.len());
    for (axis, dim) in declared.iter().enumerate() {
        let given = given.map(|g| g[axis] as i64);
        let value = match dim {
            DimSpec::Fixed(n) => Ok(*n),
            DimSpec::Unnamed => {
                let name = unnamed(&spec.name, axis);
                bound.get(&name).copied().ok_or(Some(name))
            }
            DimSpec::Expr(e) => e.eval(bound),
        };
        let text = match dim {
            DimSpec::Expr(e) => format!(" ({e})"),
            _ => String::new(),
        };
        match (value, given) {
            (Ok(n), Some(g)) if n != g => problems.push(
                Diagnostic::new(
                    Code::Shape,
                    format!(
                        "input {:?} has {g} elements along axis {axis}{text}, where the model wants {n}",
                        spec.name
                    ),
                )
                .help("the input's shape, the bound dims and the model must agree"),
            ),
            (Ok(n), _) if !(0..=MAX_ELEMENTS).contains(&n) => problems.push(Diagnostic::new(
                Code::Shape,
                format!("axis {axis}{text} of input {:?} would have {n} elements", spec.name),
            )),
            (Ok(n), _) => shape.push(n as usize),
            // An expression over names that nothing else binds: the given input says what it is.
            (Err(_), Some(g)) => shape.push(g as usize),
            (Err(Some(name)), None) => problems.push(
                Diagnostic::new(
                    Code::UnboundDim,
                    format!(
                        "axis {axis}{text} of input {:?} has no size: dim {name:?} is not bound",
                        spec.name
                    ),
                )
                .help(format!("bind it with --dim {name}=N, or give the inputs themselves")),
            ),
            (Err(None), None) => problems.push(Diagnostic::new(
                Code::Shape,
                format!("axis {axis}{text} of input {:?} divides by zero or overflows", spec.name),
            )),
        }
    }
    let elements = shape.iter().try_fold(1i64, |n, &d| n.checked_mul(d.max(1) as i64));
    if elements.is_none_or(|n| n > MAX_ELEMENTS) {
        problems.push(Diagnostic::new(
            Code::Shape,
            format!("input {:?} would have the impossible shape {shape:?}", spec.name),
        ));
    }
    (problems.len() == before).then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dims: &[&str]) -> InputSpec {
        InputSpec {
            name: name.into(),
            dtype: DType::F32,
            dims: Some(dims.iter().map(|d| DimSpec::parse(d)).collect()),
        }
    }

    fn map<T: Clone>(entries: &[(&str, T)]) -> IndexMap<String, T> {
        entries.iter().map(|(k, v)| (k.to_string(), v.clone())).collect()
    }

    #[test]
    fn names_come_from_flags_or_from_shapes() -> Result<(), Diagnostics> {
        let specs = [spec("x", &["batch", "seq"]), spec("mask", &["batch", "past + seq"])];
        let flags = bind(&specs, &map(&[("batch", 2), ("seq", 3), ("past", 4)]), &map(&[]))?;
        assert_eq!(flags.shapes["mask"], [2, 7]);
        let shapes = bind(&specs, &map(&[]), &map(&[("x", vec![2, 3]), ("mask", vec![2, 9])]))?;
        assert_eq!((shapes.dims["seq"], &shapes.shapes["mask"]), (3, &vec![2, 9]));
        Ok(())
    }

    #[test]
    fn every_problem_is_told_with_its_name() {
        let specs = [spec("x", &["batch", ""]), spec("y", &["batch", "4"])];
        let codes = |dims: &[(&str, i64)], shapes: &[(&str, Vec<usize>)]| {
            bind(&specs, &map(dims), &map(shapes))
                .err()
                .map(|p| p.iter().map(|d| (d.code, d.help.clone().unwrap_or_default())).collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let unbound = codes(&[("batch", 1)], &[]);
        assert_eq!(unbound.len(), 1);
        assert!(unbound[0].0 == Code::UnboundDim && unbound[0].1.contains("--dim x.1=N"));
        assert_eq!(codes(&[("b", 1)], &[("x", vec![1, 1]), ("y", vec![1, 5])]).len(), 2);
        assert_eq!(codes(&[], &[("x", vec![1, 1]), ("y", vec![2, 4])])[0].0, Code::Shape);
        assert_eq!(codes(&[], &[("x", vec![1]), ("z", vec![2, 4])])[0].0, Code::Option);
    }
}
