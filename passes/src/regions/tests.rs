//! Toy transformers and what is found to repeat in them.

use kiln_ir::nn::{ContractDims, FuncBuilder, MapKind, Port, ReduceKind, ValueId};
use kiln_ir::{Context, DType, IrError, Module, Tensor, TensorType};

use super::{Region, find};
use crate::axes::{Graph, from_nn};

const TOKENS: usize = 6;
const WIDTH: usize = 8;

/// Builds layers with weights of their own.
pub(crate) struct Toy<'b> {
    pub b: &'b mut FuncBuilder,
    weights: u64,
}

impl Toy<'_> {
    fn weight(&mut self, shape: &[usize]) -> Result<ValueId, IrError> {
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        self.weights += bytes;
        self.b.weight(0, self.weights - bytes, shape, DType::F32)
    }

    fn linear(&mut self, x: ValueId) -> Result<ValueId, IrError> {
        let w = self.weight(&[WIDTH, WIDTH])?;
        self.b.contract(x, w, &ContractDims::matmul(0))
    }

    fn number(&mut self, value: f64) -> Result<ValueId, IrError> {
        self.b.splat(DType::F32, value, &[TOKENS, TOKENS])
    }

    /// h + softmax(mask(Q Kᵀ)) V, then h + act(h W) W′.
    pub(crate) fn layer(
        &mut self,
        h: ValueId,
        mask: ValueId,
        scale: f64,
        act: MapKind,
    ) -> Result<ValueId, IrError> {
        let (q, k, v) = (self.linear(h)?, self.linear(h)?, self.linear(h)?);
        let kt = self.b.transpose(k, &[1, 0])?;
        let scores = self.b.contract(q, kt, &ContractDims::matmul(0))?;
        let factor = self.number(scale)?;
        let scores = self.b.map(MapKind::Mul, &[scores, factor])?;
        let scores = self.b.map(MapKind::Add, &[scores, mask])?;
        let e = self.b.map(MapKind::Exp, &[scores])?;
        let l = self.b.reduce(ReduceKind::Sum, e, &[1])?;
        let l = self.b.broadcast(l, &[0], &[TOKENS, TOKENS])?;
        let p = self.b.map(MapKind::Div, &[e, l])?;
        let o = self.b.contract(p, v, &ContractDims::matmul(0))?;
        let h = self.b.map(MapKind::Add, &[h, o])?;
        let up = self.linear(h)?;
        let up = self.b.map(act, &[up])?;
        let down = self.linear(up)?;
        self.b.map(MapKind::Add, &[h, down])
    }

    /// A lower triangle of ones, `width` wide.
    fn window(&mut self, width: usize) -> Result<ValueId, IrError> {
        let inside = |i: usize, j: usize| j <= i && i < j + width;
        let data: Vec<u8> = (0..TOKENS * TOKENS)
            .flat_map(|n| if inside(n / TOKENS, n % TOKENS) { 0.0f32 } else { -9.0 }.to_le_bytes())
            .collect();
        self.b.constant(&Tensor { dtype: DType::F32, shape: vec![TOKENS, TOKENS], data: data.into() })
    }
}

/// A module whose `main` takes hidden states (T×W) and a bias (T×T).
pub(crate) fn toy(
    build: impl FnOnce(&mut Toy, ValueId, ValueId) -> Result<ValueId, IrError>,
) -> (Module, Graph) {
    let context = Context::new();
    let mut module = Module::new(&context);
    let arg = |name: &str, shape: [usize; 2]| (TensorType::new(DType::F32, shape), Port::named(name));
    let args = [arg("h", [TOKENS, WIDTH]), arg("bias", [TOKENS, TOKENS])];
    let mut b = FuncBuilder::new(&context, "main", &args).unwrap();
    let (h, bias) = (b.arg(0), b.arg(1));
    let mut toy = Toy { b: &mut b, weights: 0 };
    let result = build(&mut toy, h, bias).unwrap();
    let weights: Vec<u8> =
        (0..toy.weights / 4).flat_map(|i| ((i % 7) as f32 / 16.0 - 0.1875).to_le_bytes()).collect();
    module.add_blob(&weights);
    b.finish(&mut module, &[(result, Port::named("y"))]).unwrap();
    let graph = from_nn(&module.func("main").unwrap());
    (module, graph)
}

/// Instances and nodes of each region.
fn sizes(regions: &[Region]) -> Vec<(usize, usize)> {
    regions.iter().map(|r| (r.instances.len(), r.instances[0].nodes.len())).collect()
}

/// Nodes of one layer of [`Toy::layer`].
const LAYER: usize = 18;

#[test]
fn twelve_equal_layers_are_one_region() {
    let (_, graph) = toy(|t, h, bias| (0..12).try_fold(h, |h, _| t.layer(h, bias, 0.5, MapKind::Relu)));
    let regions = find(&graph);
    assert_eq!(sizes(&regions), [(12, LAYER)]);
    assert_eq!(regions[0].outputs, [LAYER - 1]);
    // The hidden states and the bias; the scale is a constant, beside five weights.
    let first = &regions[0].instances[0];
    assert_eq!((first.inputs.len(), first.constants.len()), (2, 6));
    let read: Vec<_> =
        regions[0].instances.iter().map(|i| i.inputs.contains(&graph.inputs[1].node)).collect();
    assert_eq!(read, [true; 12]);
}

#[test]
fn what_all_layers_share_may_stand_inside_the_first() {
    let (_, graph) = toy(|t, h, bias| {
        let mut mask = None;
        (0..3).try_fold(h, |h, _| {
            let h = t.b.map(MapKind::Tanh, &[h])?;
            if mask.is_none() {
                let negated = t.b.map(MapKind::Neg, &[bias])?;
                mask = Some(t.b.map(MapKind::Abs, &[negated])?);
            }
            t.layer(h, mask.unwrap_or(bias), 0.5, MapKind::Relu)
        })
    });
    assert_eq!(sizes(&find(&graph)), [(3, LAYER + 1)]);
}

#[test]
fn a_first_layer_of_another_form_stands_apart() {
    let (_, graph) = toy(|t, h, bias| {
        let h = t.layer(h, bias, 0.5, MapKind::Tanh)?;
        (0..6).try_fold(h, |h, _| t.layer(h, bias, 0.5, MapKind::Relu))
    });
    let regions = find(&graph);
    // Six layers after it; or seven halves of which the first is its end, if that were equal: it is not.
    assert_eq!(sizes(&regions), [(6, LAYER)]);
}

#[test]
fn alternating_windows_repeat_in_pairs() {
    let (_, graph) = toy(|t, h, _| {
        let (near, far) = (t.window(2)?, t.window(TOKENS)?);
        (0..8).try_fold(h, |h, i| t.layer(h, if i % 2 == 0 { near } else { far }, 0.5, MapKind::Relu))
    });
    assert_eq!(sizes(&find(&graph)), [(4, 2 * LAYER)]);
}

#[test]
fn constants_that_differ_make_layers_differ() {
    let (_, graph) =
        toy(|t, h, bias| (0..4).try_fold(h, |h, i| t.layer(h, bias, 0.5 + f64::from(i), MapKind::Relu)));
    // All but the scaling recurs: pieces of layers may be equal, whole layers are not.
    assert!(find(&graph).iter().all(|r| r.instances[0].nodes.len() < LAYER));
}

#[test]
fn one_layer_does_not_repeat() {
    let (_, graph) = toy(|t, h, bias| t.layer(h, bias, 0.5, MapKind::Relu));
    assert!(find(&graph).is_empty());
}
