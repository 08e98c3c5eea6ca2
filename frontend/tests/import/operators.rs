//! One case or more for each operator of the table: inputs, attributes, and what must come out.

use std::collections::BTreeSet;
use std::f64::consts::{E, LN_2, LN_10, SQRT_2};

use kiln_frontend::ops;
use kiln_machine::tensor::{DType, Tensor};

use crate::build::{b, f, i, node, numbers, one_node, run, tensor};
use crate::case::{Case, case, microsoft};
use crate::{contrib, spatial, sundry};

/// A case of an operator on one float vector.
fn unary(op: &'static str, x: &[f64], y: &[f64]) -> Case {
    case(op).input(f(&[x.len()], x)).gives(f(&[y.len()], y))
}

fn floats(op: &'static str, x: &[f64], y: &[f64], z: &[f64]) -> Case {
    case(op).input(f(&[x.len()], x)).input(f(&[y.len()], y)).gives(f(&[z.len()], z))
}

fn compares(op: &'static str, z: &[f64]) -> Case {
    case(op).input(f(&[3], &[1., 2., 3.])).input(f(&[1], &[2.])).gives(b(&[3], z))
}

fn logic(op: &'static str, z: &[f64]) -> Case {
    case(op).input(b(&[4], &[0., 0., 1., 1.])).input(b(&[4], &[0., 1., 0., 1.])).gives(b(&[4], z))
}

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn elementwise() -> Vec<Case> {
    vec![
        unary("Abs", &[-1.5, 0., 2.], &[1.5, 0., 2.]),
        floats("Add", &[1., 2.], &[10.], &[11., 12.]),
        logic("And", &[0., 0., 0., 1.]),
        case("Cast").input(f(&[3], &[-1.7, 0., 2.5])).int("to", 7).gives(i(&[3], &[-1., 0., 2.])),
        case("Cast").input(f(&[3], &[-1.7, 0., NAN])).int("to", 9).gives(b(&[3], &[1., 0., 1.])),
        case("CastLike").input(i(&[2], &[3., -4.])).known(f(&[1], &[0.])).gives(f(&[2], &[3., -4.])),
        unary("Ceil", &[-1.5, 0.2], &[-1., 1.]),
        case("Clip")
            .input(f(&[3], &[-3., 0.5, 9.]))
            .known(f(&[], &[-1.]))
            .known(f(&[], &[2.]))
            .gives(f(&[3], &[-1., 0.5, 2.])),
        case("Clip").input(f(&[2], &[-3., 9.])).skip().known(f(&[], &[2.])).gives(f(&[2], &[-3., 2.])),
        unary("Cos", &[0., 1.], &[1., 0.540302306]),
        floats("Div", &[1., 9.], &[2., 3.], &[0.5, 3.]),
        case("Div").input(i(&[2], &[7., -7.])).known(i(&[1], &[2.])).gives(i(&[2], &[3., -3.])),
        case("Dropout").input(f(&[2], &[1., 2.])).gives(f(&[2], &[1., 2.])),
        unary("Elu", &[-1., 2.], &[-0.632120559, 2.]),
        compares("Equal", &[0., 1., 0.]),
        unary("Erf", &[0., 0.5, -2.], &[0., 0.520499878, -0.995322265]),
        unary("Exp", &[0., 1.], &[1., E]),
        unary("Floor", &[-1.5, 0.2], &[-2., 0.]),
        unary("Gelu", &[-1., 0., 2.], &[-0.158655254, 0., 1.954499736]),
        unary("Gelu", &[-1., 2.], &[-0.158808009, 1.954597694]).text("approximate", "tanh"),
        compares("Greater", &[0., 0., 1.]),
        compares("GreaterOrEqual", &[0., 1., 1.]),
        unary("HardSigmoid", &[-9., 1., 9.], &[0., 0.7, 1.]),
        unary("HardSwish", &[-4., 1., 4.], &[0., 0.666666667, 4.]),
        unary("Identity", &[1., 2.], &[1., 2.]),
        case("IsInf").input(f(&[3], &[INF, -INF, 1.])).gives(b(&[3], &[1., 1., 0.])),
        case("IsInf")
            .input(f(&[3], &[INF, -INF, 1.]))
            .int("detect_positive", 0)
            .gives(b(&[3], &[0., 1., 0.])),
        case("IsNaN").input(f(&[2], &[NAN, INF])).gives(b(&[2], &[1., 0.])),
        unary("LeakyRelu", &[-2., 3.], &[-0.2, 3.]).float("alpha", 0.1),
        compares("Less", &[1., 0., 0.]),
        compares("LessOrEqual", &[1., 1., 0.]),
        unary("Log", &[1., 10.], &[0., LN_10]),
        floats("Max", &[1., 5.], &[3.], &[3., 5.]),
        floats("Mean", &[1., 5.], &[3.], &[2., 4.]),
        floats("Min", &[1., 5.], &[3.], &[1., 3.]),
        unary("Mish", &[0., 1.], &[0., 0.865098388]),
        case("Mod").input(i(&[2], &[7., -7.])).known(i(&[1], &[3.])).gives(i(&[2], &[1., 2.])),
        case("Mod")
            .input(i(&[2], &[7., -7.]))
            .known(i(&[1], &[3.]))
            .int("fmod", 1)
            .gives(i(&[2], &[1., -1.])),
        floats("Mul", &[1., 2.], &[10.], &[10., 20.]),
        unary("Neg", &[1., -2.], &[-1., 2.]),
        case("Not").input(b(&[2], &[0., 1.])).gives(b(&[2], &[1., 0.])),
        logic("Or", &[0., 1., 1., 1.]),
        floats("PRelu", &[-2., 3.], &[0.5], &[-1., 3.]),
        floats("Pow", &[2., 4.], &[3., 0.5], &[8., 2.]),
        case("Pow").input(f(&[2], &[3., -3.])).known(f(&[], &[2.])).gives(f(&[2], &[9., 9.])),
        unary("Reciprocal", &[2., -4.], &[0.5, -0.25]),
        unary("Relu", &[-2., 3.], &[0., 3.]),
        unary("Round", &[0.5, 1.5, -2.5], &[0., 2., -2.]),
        unary("Sigmoid", &[0., 1.], &[0.5, 0.731058579]),
        unary("Sign", &[-2., 0., 3.], &[-1., 0., 1.]),
        unary("Sin", &[0., 1.], &[0., 0.841470985]),
        unary("Softplus", &[0., 1.], &[LN_2, 1.313261688]),
        unary("Softsign", &[-1., 3.], &[-0.5, 0.75]),
        unary("Sqrt", &[4., 2.], &[2., SQRT_2]),
        floats("Sub", &[1., 2.], &[10.], &[-9., -8.]),
        floats("Sum", &[1., 2.], &[10.], &[11., 12.]),
        unary("Swish", &[1., -1.], &[0.731058579, -0.268941421]),
        unary("Tanh", &[0., 1.], &[0., 0.761594156]),
        case("Where")
            .input(b(&[2, 1], &[1., 0.]))
            .input(f(&[2], &[1., 2.]))
            .known(f(&[], &[-INF]))
            .gives(f(&[2, 2], &[1., 2., -INF, -INF])),
        logic("Xor", &[0., 1., 1., 0.]),
    ]
}

fn movement() -> Vec<Case> {
    let grid = || f(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    vec![
        case("Concat")
            .input(grid())
            .input(f(&[2, 1], &[7., 8.]))
            .int("axis", -1)
            .gives(f(&[2, 4], &[1., 2., 3., 7., 4., 5., 6., 8.])),
        case("Concat").input(f(&[0, 3], &[])).input(grid()).int("axis", 0).gives(grid()),
        case("Constant").value("value", grid()).gives(grid()),
        case("Constant").ints("value_ints", &[3, 4]).gives(i(&[2], &[3., 4.])),
        case("ConstantOfShape")
            .known(i(&[2], &[2., 1.]))
            .value("value", i(&[1], &[5.]))
            .gives(i(&[2, 1], &[5., 5.])),
        case("DepthToSpace")
            .input(f(&[1, 4, 1, 1], &[1., 2., 3., 4.]))
            .int("blocksize", 2)
            .gives(f(&[1, 1, 2, 2], &[1., 2., 3., 4.])),
        case("Expand")
            .input(f(&[2, 1], &[1., 2.]))
            .known(i(&[3], &[2., 1., 2.]))
            .gives(f(&[2, 2, 2], &[1., 1., 2., 2., 1., 1., 2., 2.])),
        case("Flatten")
            .input(f(&[1, 2, 2], &[1., 2., 3., 4.]))
            .int("axis", 2)
            .gives(f(&[2, 2], &[1., 2., 3., 4.])),
        case("Gather")
            .input(grid())
            .input(i(&[2], &[-1., 0.]))
            .int("axis", 1)
            .gives(f(&[2, 2], &[3., 1., 6., 4.])),
        case("Gather").input(grid()).known(i(&[], &[-1.])).gives(f(&[3], &[4., 5., 6.])),
        case("Gather")
            .input(grid())
            .known(i(&[2], &[2., 0.]))
            .int("axis", 1)
            .gives(f(&[2, 2], &[3., 1., 6., 4.])),
        case("GatherElements")
            .input(grid())
            .input(i(&[2, 1], &[-1., 1.]))
            .int("axis", 1)
            .gives(f(&[2, 1], &[3., 5.])),
        case("GatherND").input(grid()).input(i(&[2, 2], &[0., 2., -1., 0.])).gives(f(&[2], &[3., 4.])),
        // The walk [k, b] over the data is its transpose, repeated.
        case("GatherND")
            .input(f(&[2, 2], &[1., 2., 3., 4.]))
            .known(i(&[2, 1, 2, 2], &[0., 0., 1., 0., 0., 1., 1., 1.]))
            .gives(f(&[2, 1, 2], &[1., 3., 2., 4.])),
        case("OneHot")
            .input(i(&[2], &[1., -1.]))
            .known(i(&[], &[3.]))
            .known(f(&[2], &[0., 5.]))
            .gives(f(&[2, 3], &[0., 5., 0., 0., 0., 5.])),
        case("Pad")
            .input(f(&[2], &[1., 2.]))
            .known(i(&[2], &[1., -1.]))
            .known(f(&[], &[9.]))
            .gives(f(&[2], &[9., 1.])),
        case("Range")
            .known(i(&[], &[5.]))
            .known(i(&[], &[0.]))
            .known(i(&[], &[-2.]))
            .gives(i(&[3], &[5., 3., 1.])),
        case("Reshape").input(grid()).known(i(&[2], &[0., -1.])).gives(grid()),
        case("Reshape").input(grid()).known(i(&[1], &[-1.])).gives(f(&[6], &[1., 2., 3., 4., 5., 6.])),
        case("ScatterElements")
            .input(grid())
            .input(i(&[1, 2], &[1., -2.]))
            .input(f(&[1, 2], &[8., 9.]))
            .gives(f(&[2, 3], &[1., 9., 3., 8., 5., 6.])),
        case("ScatterND")
            .input(grid())
            .input(i(&[1, 1], &[-1.]))
            .input(f(&[1, 3], &[7., 8., 9.]))
            .text("reduction", "add")
            .gives(f(&[2, 3], &[1., 2., 3., 11., 13., 15.])),
        case("Shape").input(grid()).int("start", -1).gives(i(&[1], &[3.])),
        case("Size").input(grid()).gives(i(&[], &[6.])),
        case("Slice")
            .input(grid())
            .known(i(&[1], &[-1.]))
            .known(i(&[1], &[-9223372036854775807.]))
            .known(i(&[1], &[1.]))
            .known(i(&[1], &[-2.]))
            .gives(f(&[2, 2], &[3., 1., 6., 4.])),
        case("Slice")
            .input(grid())
            .known(i(&[2], &[0., 1.]))
            .known(i(&[2], &[1., 9.]))
            .gives(f(&[1, 2], &[2., 3.])),
        case("SpaceToDepth")
            .input(f(&[1, 1, 2, 2], &[1., 2., 3., 4.]))
            .int("blocksize", 2)
            .gives(f(&[1, 4, 1, 1], &[1., 2., 3., 4.])),
        case("Split")
            .input(grid())
            .known(i(&[2], &[1., 2.]))
            .int("axis", 1)
            .gives(f(&[2, 1], &[1., 4.]))
            .gives(f(&[2, 2], &[2., 3., 5., 6.])),
        case("Squeeze").input(f(&[1, 2, 1], &[1., 2.])).known(i(&[1], &[-1.])).gives(f(&[1, 2], &[1., 2.])),
        case("Tile")
            .input(f(&[1, 2], &[1., 2.]))
            .known(i(&[2], &[2., 2.]))
            .gives(f(&[2, 4], &[1., 2., 1., 2., 1., 2., 1., 2.])),
        case("Transpose").input(grid()).gives(f(&[3, 2], &[1., 4., 2., 5., 3., 6.])),
        case("Trilu")
            .input(f(&[2, 2], &[1., 2., 3., 4.]))
            .int("upper", 0)
            .gives(f(&[2, 2], &[1., 0., 3., 4.])),
        case("Trilu")
            .input(f(&[2, 2], &[1., 2., 3., 4.]))
            .known(i(&[], &[1.]))
            .gives(f(&[2, 2], &[0., 2., 0., 0.])),
        case("Unsqueeze")
            .input(f(&[2], &[1., 2.]))
            .known(i(&[2], &[0., -1.]))
            .gives(f(&[1, 2, 1], &[1., 2.])),
    ]
}

fn reductions() -> Vec<Case> {
    let grid = || f(&[2, 2], &[1., -2., 3., 4.]);
    let over_rows = |op| case(op).input(grid()).known(i(&[1], &[1.])).int("keepdims", 0);
    vec![
        case("ArgMax").input(grid()).int("axis", 1).gives(i(&[2, 1], &[0., 1.])),
        case("ArgMax")
            .input(f(&[3], &[5., 1., 5.]))
            .int("select_last_index", 1)
            .int("keepdims", 0)
            .gives(i(&[], &[2.])),
        case("ArgMin").input(grid()).int("axis", 0).int("keepdims", 0).gives(i(&[2], &[0., 0.])),
        case("CumSum")
            .input(f(&[3], &[1., 2., 3.]))
            .known(i(&[], &[0.]))
            .int("exclusive", 1)
            .int("reverse", 1)
            .gives(f(&[3], &[5., 3., 0.])),
        case("GlobalAveragePool").input(f(&[1, 1, 2, 2], &[1., 2., 3., 6.])).gives(f(&[1, 1, 1, 1], &[3.])),
        case("GlobalMaxPool").input(f(&[1, 1, 2, 2], &[1., 2., 3., 6.])).gives(f(&[1, 1, 1, 1], &[6.])),
        over_rows("ReduceL1").gives(f(&[2], &[3., 7.])),
        over_rows("ReduceL2").gives(f(&[2], &[2.236067977, 5.])),
        case("ReduceLogSum")
            .input(f(&[1, 2], &[1., 2.]))
            .known(i(&[1], &[1.]))
            .gives(f(&[1, 1], &[1.098612289])),
        case("ReduceLogSumExp").input(f(&[2], &[100., 100.])).gives(f(&[1], &[100.693147181])),
        over_rows("ReduceMax").gives(f(&[2], &[1., 4.])),
        over_rows("ReduceMean").gives(f(&[2], &[-0.5, 3.5])),
        over_rows("ReduceMin").gives(f(&[2], &[-2., 3.])),
        over_rows("ReduceProd").gives(f(&[2], &[-2., 12.])),
        over_rows("ReduceSum").gives(f(&[2], &[-1., 7.])),
        case("ReduceSum").input(grid()).gives(f(&[1, 1], &[6.])),
        over_rows("ReduceSumSquare").gives(f(&[2], &[5., 25.])),
        case("TopK")
            .input(f(&[4], &[3., 9., 9., 1.]))
            .known(i(&[1], &[2.]))
            .gives(f(&[2], &[9., 9.]))
            .gives(i(&[2], &[1., 2.])),
    ]
}

fn products() -> Vec<Case> {
    let (a, w) = (|| f(&[2, 2], &[1., 2., 3., 4.]), || f(&[2, 2], &[5., 6., 7., 8.]));
    vec![
        case("Conv")
            .input(f(&[1, 1, 3], &[1., 2., 3.]))
            .known(f(&[1, 1, 2], &[1., 10.]))
            .known(f(&[1], &[100.]))
            .ints("pads", &[1, 0])
            .gives(f(&[1, 1, 3], &[110., 121., 132.])),
        case("Conv")
            .input(f(&[1, 1, 3], &[1., 2., 3.]))
            .known(f(&[1, 1, 2], &[1., 10.]))
            .text("auto_pad", "SAME_UPPER")
            .gives(f(&[1, 1, 3], &[21., 32., 3.])),
        case("Einsum")
            .input(a())
            .input(w())
            .text("equation", "ij,kj->ki")
            .gives(f(&[2, 2], &[17., 39., 23., 53.])),
        case("Gemm")
            .input(a())
            .input(w())
            .known(f(&[2], &[1., 2.]))
            .int("transB", 1)
            .float("alpha", 2.)
            .float("beta", 10.)
            .gives(f(&[2, 2], &[44., 66., 88., 126.])),
        case("Gemm").input(a()).input(w()).int("transA", 1).gives(f(&[2, 2], &[26., 30., 38., 44.])),
        case("MatMul").input(a()).input(w()).gives(f(&[2, 2], &[19., 22., 43., 50.])),
        case("MatMul").input(f(&[2], &[1., 2.])).input(w()).gives(f(&[2], &[19., 22.])),
        case("MatMul")
            .input(f(&[2, 1, 2], &[1., 2., 3., 4.]))
            .input(f(&[1, 2, 1], &[1., 10.]))
            .gives(f(&[2, 1, 1], &[21., 43.])),
        case("MatMul")
            .input(f(&[1, 1, 2], &[1., 2.]))
            .input(f(&[2, 2, 1], &[1., 10., 100., 1000.]))
            .gives(f(&[2, 1, 1], &[21., 2100.])),
        case("MatMulInteger")
            .input(tensor(DType::U8, &[1, 2], &[130., 127.]))
            .known(tensor(DType::I8, &[2, 1], &[3., -4.]))
            .known(tensor(DType::U8, &[], &[128.]))
            .gives(tensor(DType::I32, &[1, 1], &[10.])),
        case("QLinearMatMul")
            .input(tensor(DType::U8, &[1, 2], &[130., 126.]))
            .known(f(&[], &[0.5]))
            .known(tensor(DType::U8, &[], &[128.]))
            .known(tensor(DType::I8, &[2, 1], &[3., -5.]))
            .known(f(&[], &[2.]))
            .known(tensor(DType::I8, &[], &[0.]))
            .known(f(&[], &[4.]))
            .known(tensor(DType::U8, &[], &[10.]))
            .gives(tensor(DType::U8, &[1, 1], &[14.])),
        microsoft("FusedMatMul")
            .input(a())
            .input(w())
            .int("transB", 1)
            .float("alpha", 2.)
            .gives(f(&[2, 2], &[34., 46., 78., 106.])),
        // Codes 0x21 → 1, 2 and 0x43 → 3, 4; less 8, times 0.5.
        microsoft("MatMulNBits")
            .input(f(&[1, 4], &[1., 1., 1., 1.]))
            .known(tensor(DType::U8, &[1, 1, 2], &[33., 67.]))
            .known(f(&[1], &[0.5]))
            .int("K", 4)
            .int("N", 1)
            .int("bits", 4)
            .int("block_size", 4)
            .gives(f(&[1, 1], &[-11.])),
    ]
}

fn normalisations() -> Vec<Case> {
    let row = || f(&[1, 2], &[1., 3.]);
    let (two, one) = (|| f(&[2], &[2., 2.]), || f(&[2], &[1., 1.]));
    vec![
        case("BatchNormalization")
            .input(f(&[1, 2], &[3., 5.]))
            .known(two())
            .known(one())
            .known(f(&[2], &[1., 1.]))
            .known(f(&[2], &[4., 16.]))
            .float("epsilon", 0.)
            .gives(f(&[1, 2], &[3., 3.])),
        case("GroupNormalization")
            .input(f(&[1, 2, 1], &[1., 3.]))
            .known(two())
            .known(one())
            .int("num_groups", 1)
            .float("epsilon", 0.)
            .gives(f(&[1, 2, 1], &[-1., 3.])),
        case("InstanceNormalization")
            .input(f(&[1, 1, 2], &[1., 3.]))
            .known(f(&[1], &[2.]))
            .known(f(&[1], &[1.]))
            .float("epsilon", 0.)
            .gives(f(&[1, 1, 2], &[-1., 3.])),
        case("LayerNormalization")
            .input(row())
            .known(two())
            .known(one())
            .float("epsilon", 0.)
            .gives(f(&[1, 2], &[-1., 3.]))
            .gives(f(&[1, 1], &[2.]))
            .gives(f(&[1, 1], &[1.])),
        case("LogSoftmax").input(row()).gives(f(&[1, 2], &[-2.126928011, -0.126928011])),
        case("RMSNormalization")
            .input(f(&[1, 2], &[3., 4.]))
            .known(two())
            .float("epsilon", 0.)
            .gives(f(&[1, 2], &[1.697056275, 2.2627417])),
        case("SimplifiedLayerNormalization")
            .input(f(&[1, 2], &[3., 4.]))
            .known(two())
            .float("epsilon", 0.)
            .gives(f(&[1, 2], &[1.697056275, 2.2627417])),
        case("Softmax")
            .input(f(&[2, 2], &[1., 3., -INF, 0.]))
            .gives(f(&[2, 2], &[0.119202922, 0.880797078, 0., 1.])),
        case("Softmax")
            .input(f(&[2, 1], &[1., 3.]))
            .int("axis", 0)
            .gives(f(&[2, 1], &[0.119202922, 0.880797078])),
        microsoft("SkipLayerNormalization")
            .input(f(&[1, 2], &[0., 1.]))
            .input(f(&[1, 2], &[1., 2.]))
            .known(two())
            .known(one())
            .float("epsilon", 0.)
            .gives(f(&[1, 2], &[-1., 3.])),
        microsoft("SkipSimplifiedLayerNormalization")
            .input(f(&[1, 2], &[1., 1.]))
            .input(f(&[1, 2], &[2., 3.]))
            .known(two())
            .float("epsilon", 0.)
            .gives(f(&[1, 2], &[1.697056275, 2.2627417])),
        microsoft("BiasGelu")
            .input(f(&[2], &[-2., 1.]))
            .known(one())
            .gives(f(&[2], &[-0.158655254, 1.954499736])),
        microsoft("FastGelu").input(f(&[2], &[-1., 2.])).gives(f(&[2], &[-0.158808009, 1.954597694])),
        microsoft("Gelu").input(f(&[2], &[-1., 2.])).gives(f(&[2], &[-0.158655254, 1.954499736])),
        microsoft("QuickGelu").input(f(&[1], &[1.])).gives(f(&[1], &[0.845795726])),
    ]
}

fn quantised() -> Vec<Case> {
    let codes = |v: &[f64]| tensor(DType::U8, &[v.len()], v);
    let zero = |v: f64| tensor(DType::U8, &[], &[v]);
    let binary = |op| {
        microsoft(op)
            .input(codes(&[12., 14.]))
            .known(f(&[], &[0.5]))
            .known(zero(10.))
            .input(codes(&[3., 4.]))
            .known(f(&[], &[2.]))
            .known(zero(0.))
            .known(f(&[], &[1.]))
            .known(zero(1.))
    };
    vec![
        case("DequantizeLinear")
            .input(codes(&[0., 3., 255.]))
            .known(f(&[], &[2.]))
            .known(zero(3.))
            .gives(f(&[3], &[-6., 0., 504.])),
        case("DequantizeLinear")
            .input(tensor(DType::I8, &[2, 2], &[1., 2., 3., -4.]))
            .known(f(&[2], &[1., 10.]))
            .int("axis", 0)
            .gives(f(&[2, 2], &[1., 2., 30., -40.])),
        case("DequantizeLinear")
            .input(tensor(DType::I8, &[1, 4], &[1., 2., 3., 4.]))
            .known(f(&[1, 2], &[1., 10.]))
            .int("axis", 1)
            .int("block_size", 2)
            .gives(f(&[1, 4], &[1., 2., 30., 40.])),
        case("DynamicQuantizeLinear")
            .input(f(&[3], &[-1., 0., 4.1]))
            .gives(codes(&[0., 50., 255.]))
            .gives(f(&[], &[0.02]))
            .gives(zero(50.)),
        case("QuantizeLinear")
            .input(f(&[4], &[-9., 0., 3., 1000.]))
            .known(f(&[], &[2.]))
            .known(zero(3.))
            .gives(codes(&[0., 3., 5., 255.])),
        binary("QLinearAdd").gives(codes(&[8., 11.])),
        binary("QLinearMul").gives(codes(&[7., 17.])),
        microsoft("QLinearConcat")
            .known(f(&[], &[1.]))
            .known(zero(1.))
            .input(codes(&[12.]))
            .known(f(&[], &[0.5]))
            .known(zero(10.))
            .input(codes(&[3.]))
            .known(f(&[], &[2.]))
            .known(zero(0.))
            .int("axis", 0)
            .gives(codes(&[2., 7.])),
        microsoft("QLinearSigmoid")
            .input(codes(&[10.]))
            .known(f(&[], &[0.5]))
            .known(zero(10.))
            .known(f(&[], &[0.0625]))
            .known(zero(1.))
            .gives(codes(&[9.])),
        microsoft("QLinearSoftmax")
            .input(codes(&[10., 10.]))
            .known(f(&[], &[0.5]))
            .known(zero(10.))
            .known(f(&[], &[0.0625]))
            .known(zero(0.))
            .gives(codes(&[8., 8.])),
    ]
}

fn attention() -> Vec<Case> {
    let q = || f(&[1, 1, 2, 1], &[1., 2.]);
    let v = || f(&[1, 1, 2, 1], &[10., 20.]);
    let one = || case("Attention").input(q()).input(f(&[1, 1, 2, 1], &[0., 0.])).input(v());
    vec![
        one().gives(f(&[1, 1, 2, 1], &[15., 15.])),
        one().int("is_causal", 1).gives(f(&[1, 1, 2, 1], &[10., 15.])),
        one().input(b(&[2, 2], &[0., 1., 0., 0.])).gives(f(&[1, 1, 2, 1], &[20., 0.])),
        one().input(f(&[1, 2], &[-INF, 0.])).gives(f(&[1, 1, 2, 1], &[20., 20.])),
        // Two query heads share one key head; a past of one key comes first.
        case("Attention")
            .input(f(&[1, 2, 1, 1], &[0., 5.]))
            .input(f(&[1, 1, 1, 1], &[0.]))
            .input(f(&[1, 1, 1, 1], &[10.]))
            .skip()
            .input(f(&[1, 1, 1, 1], &[0.]))
            .input(f(&[1, 1, 1, 1], &[30.]))
            .int("is_causal", 1)
            .gives(f(&[1, 2, 1, 1], &[20., 20.]))
            .gives(f(&[1, 1, 2, 1], &[0., 0.]))
            .gives(f(&[1, 1, 2, 1], &[30., 10.])),
        case("RotaryEmbedding")
            .input(f(&[1, 1, 1, 4], &[1., 2., 3., 4.]))
            .known(f(&[1, 1, 2], &[0., 1.]))
            .known(f(&[1, 1, 2], &[1., 0.]))
            .gives(f(&[1, 1, 1, 4], &[-3., 2., 1., 4.])),
        case("RotaryEmbedding")
            .input(f(&[1, 1, 1, 4], &[1., 2., 3., 4.]))
            .known(f(&[1, 1, 2], &[0., 1.]))
            .known(f(&[1, 1, 2], &[1., 0.]))
            .int("interleaved", 1)
            .gives(f(&[1, 1, 1, 4], &[-2., 1., 3., 4.])),
        // One valid key before the new one, in a past of two: the present holds 30, 10 and a leftover.
        microsoft("GroupQueryAttention")
            .input(f(&[1, 1, 1], &[0.]))
            .input(f(&[1, 1, 1], &[0.]))
            .input(f(&[1, 1, 1], &[10.]))
            .input(f(&[1, 1, 2, 1], &[0., 0.]))
            .input(f(&[1, 1, 2, 1], &[30., 99.]))
            .input(tensor(DType::I32, &[1], &[1.]))
            .known(tensor(DType::I32, &[], &[2.]))
            .int("num_heads", 1)
            .int("kv_num_heads", 1)
            .gives(f(&[1, 1, 1], &[20.])),
    ]
}

fn cases() -> Vec<Case> {
    let here =
        [elementwise(), movement(), reductions(), products(), normalisations(), quantised(), attention()];
    let elsewhere = [contrib::cases(), spatial::cases(), sundry::cases()];
    here.into_iter().chain(elsewhere).flatten().collect()
}

#[test]
fn every_operator_gives_what_onnx_says() {
    for case in cases() {
        let rows = ops::TABLE.iter().filter(|r| r.domain == case.domain && r.name == case.op);
        let since = rows.map(|r| r.since).max().unwrap_or_else(|| panic!("no row for {}", case.op));
        let mut n = node(case.op, &[], &[], &case.attributes);
        n.domain = Some(case.domain.into());
        let graph = one_node(n, &case.inputs, case.outputs.len());
        let given: Vec<Tensor> =
            case.inputs.iter().filter(|(_, known)| !known).filter_map(|(t, _)| t.clone()).collect();
        let opset = if case.domain.is_empty() { since.max(21) } else { 21 };
        let got = run(graph, opset, &given).unwrap_or_else(|e| panic!("{}: {e}", case.op));
        assert_eq!(got.len(), case.outputs.len(), "{}: results", case.op);
        for (got, want) in got.iter().zip(&case.outputs) {
            assert_eq!((got.dtype, &got.shape), (want.dtype, &want.shape), "{}", case.op);
            let (a, b) = (numbers(got), numbers(want));
            let close = |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 2e-6 * b.abs().max(1.0);
            assert!(a.iter().zip(&b).all(close), "{}: {a:?} instead of {b:?}", case.op);
        }
    }
}

#[test]
fn every_row_of_the_table_has_a_case() {
    let tested: BTreeSet<(&str, &str)> = cases().iter().map(|c| (c.domain, c.op)).collect();
    let missing: Vec<&str> =
        ops::TABLE.iter().filter(|r| !tested.contains(&(r.domain, r.name))).map(|r| r.name).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
