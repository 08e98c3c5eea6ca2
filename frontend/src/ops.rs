//! The table of ONNX operators, and what an operator's importer sees.
//!
//! One file per operator (or family of operators that differ in one word) under `ops/`, one row each here.
//! An importer is a composition of `nn` ops; folding, broadcasting, typing and ranges are the draft's.

mod activation;
mod arg;
mod attention;
mod batch_normalization;
mod bitwise;
mod block_quantized;
mod cast;
mod concat;
mod constant;
mod constant_of_shape;
mod conv;
mod conv_integer;
mod cumsum;
mod data_dependent;
mod depth_to_space;
mod einsum;
mod elementwise;
mod embed_layer_normalization;
mod expand;
mod eye_like;
mod fused_matmul;
mod gather;
mod gather_elements;
mod gather_nd;
mod gelu;
mod gemm;
mod global_pool;
mod group_query_attention;
mod layer_normalization;
mod linear_attention;
mod lp_normalization;
mod matmul;
mod matmul_integer;
mod matmul_nbits;
mod multi_head_attention;
mod one_hot;
mod pad;
mod pool;
mod qlinear;
mod quantize;
mod range;
mod reduce;
mod reshape;
mod resize;
mod rms_normalization;
mod rotary_embedding;
mod scatter;
mod sequence_order;
mod shape;
mod skip_layer_normalization;
mod slice;
mod softmax;
mod split;
mod squeeze;
mod tile;
mod top_k;
mod transpose;
mod trilu;
mod unsqueeze;
mod where_op;

use kiln_ir::nn::MapKind as M;
use kiln_ir::nn::ReduceKind as R;
use kiln_ir::nn::ScanKind as S;

use crate::call::Call;
use crate::draft::{Result, Val};

/// One operator.
pub struct Row {
    /// Operator domain; empty for ONNX's own.
    pub domain: &'static str,
    /// Operator name.
    pub name: &'static str,
    /// First opset version of the domain that this row covers.
    pub since: i64,
    /// Last one; [`NEWEST`] when still current.
    pub until: i64,
    /// Element types of the results' computation: a set of letters, see [`dtypes_text`].
    pub dtypes: &'static str,
    /// What is not handled, or what surprises; empty when all of the operator is.
    pub notes: &'static str,
    /// The composition.
    pub import: fn(&mut Call) -> Result<Vec<Val>>,
}

/// The newest opset of ONNX's own domain that the table was written against.
pub const NEWEST: i64 = 28;

/// The oldest opset of ONNX's own domain that is imported.
pub const OLDEST: i64 = 7;

/// Spells out a row's dtype letters: `f` floats, `i` integers, `b` bool, `x` any dtype, moved as bytes.
pub fn dtypes_text(letters: &str) -> String {
    let word = |c| match c {
        'f' => "float16 bfloat16 float double",
        'i' => "integers",
        'b' => "bool",
        _ => "all",
    };
    letters.chars().map(word).collect::<Vec<_>>().join(", ")
}

/// All operators, by domain and name.
#[rustfmt::skip] // a table
pub const TABLE: &[Row] = &[
    row("Abs",                 1, "fi",  "", |c| elementwise::unary(c, M::Abs)),
    row("Add",                 7, "fi",  "", |c| elementwise::binary(c, M::Add)),
    row("And",                 7, "b",   "", |c| elementwise::binary(c, M::And)),
    row("ArgMax",              1, "fi",  "", |c| arg::import(c, R::Argmax)),
    row("ArgMin",              1, "fi",  "", |c| arg::import(c, R::Argmin)),
    row("Attention",          23, "f",   "softmax in the precision of the operands unless `softmax_precision` says otherwise", attention::import),
    row("AveragePool",         1, "f",   "", pool::average),
    row("BatchNormalization",  7, "f",   "inference only", batch_normalization::batch),
    row("BitShift",           11, "i",   "", bitwise::shift),
    row("BitwiseAnd",         18, "i",   "", |c| bitwise::binary(c, M::And)),
    row("BitwiseNot",         18, "i",   "", bitwise::not),
    row("BitwiseOr",          18, "i",   "", |c| bitwise::binary(c, M::Or)),
    row("BitwiseXor",         18, "i",   "", |c| bitwise::binary(c, M::Xor)),
    row("Cast",                6, "fib", "to and from float16, bfloat16, float, double, integers and bool", cast::import),
    row("CastLike",           15, "fib", "as Cast", cast::import_like),
    row("CausalConvWithState", 27, "f",  "", linear_attention::causal_conv),
    row("Ceil",                6, "f",   "", |c| elementwise::unary(c, M::Ceil)),
    row("Celu",               12, "f",   "", activation::celu),
    row("Clip",                6, "fi",  "", elementwise::clip),
    row("Compress",            9, "x",   "the condition is known at import", data_dependent::compress),
    row("Concat",              4, "x",   "", concat::import),
    row("Constant",            1, "x",   "no strings, no sparse tensors", constant::import),
    row("ConstantOfShape",     9, "x",   "the shape is known at import", constant_of_shape::import),
    row("Conv",                1, "f",   "", conv::import),
    row("ConvInteger",        10, "i",   "", conv_integer::import),
    row("ConvTranspose",       1, "f",   "", conv::transposed),
    row("Cos",                 7, "f",   "", |c| elementwise::unary(c, M::Cos)),
    row("CumProd",            26, "fi",  "", |c| cumsum::import(c, S::Prod)),
    row("CumSum",             11, "fi",  "", |c| cumsum::import(c, S::Sum)),
    row("DepthToSpace",        1, "x",   "", depth_to_space::depth_to_space),
    row("DequantizeLinear",   10, "fi",  "per tensor, per axis and in blocks", quantize::dequantize),
    row("Div",                 7, "fi",  "integers truncate", |c| elementwise::binary(c, M::Div)),
    row("Dropout",             7, "x",   "inference only", elementwise::dropout),
    row("DynamicQuantizeLinear", 11, "f", "", quantize::dynamic),
    row("Einsum",             12, "f",   "", einsum::import),
    row("Elu",                 6, "f",   "", activation::elu),
    row("Equal",               7, "fib", "", |c| elementwise::binary(c, M::Eq)),
    row("Erf",                 9, "f",   "", |c| elementwise::unary(c, M::Erf)),
    row("Exp",                 6, "f",   "", |c| elementwise::unary(c, M::Exp)),
    row("Expand",              8, "x",   "the shape is known at import", expand::import),
    row("EyeLike",             9, "fi",  "", eye_like::import),
    row("Flatten",             1, "x",   "", reshape::flatten),
    row("Floor",               6, "f",   "", |c| elementwise::unary(c, M::Floor)),
    row("Gather",              1, "x",   "", gather::import),
    row("GatherElements",     11, "x",   "", gather_elements::import),
    row("GatherND",           11, "x",   "", gather_nd::import),
    row("Gelu",               20, "f",   "", gelu::import),
    row("Gemm",                7, "fi",  "", gemm::import),
    row("GlobalAveragePool",   1, "f",   "", global_pool::average),
    row("GlobalLpPool",        2, "f",   "", pool::global_lp),
    row("GlobalMaxPool",       1, "f",   "", global_pool::max),
    row("Greater",             7, "fi",  "", |c| elementwise::binary(c, M::Gt)),
    row("GreaterOrEqual",     12, "fi",  "", |c| elementwise::binary(c, M::Ge)),
    row("GroupNormalization", 18, "f",   "statistics in float", batch_normalization::group),
    row("HardSigmoid",         6, "f",   "", activation::hard_sigmoid),
    row("HardSwish",          14, "f",   "", activation::hard_swish),
    row("Hardmax",             1, "fi",  "", lp_normalization::hardmax),
    row("Identity",            1, "x",   "", |c| elementwise::unary(c, M::Identity)),
    row("InstanceNormalization", 6, "f", "statistics in float", batch_normalization::instance),
    row("IsInf",              10, "f",   "", elementwise::is_inf),
    row("IsNaN",               9, "f",   "", |c| elementwise::unary(c, M::IsNan)),
    row("LayerNormalization", 17, "f",   "statistics in float", layer_normalization::import),
    row("LeakyRelu",           6, "f",   "", activation::leaky_relu),
    row("Less",                7, "fi",  "", |c| elementwise::binary(c, M::Lt)),
    row("LessOrEqual",        12, "fi",  "", |c| elementwise::binary(c, M::Le)),
    row("LinearAttention",    27, "f",   "at most 1024 rows", linear_attention::import),
    row("Log",                 6, "f",   "", |c| elementwise::unary(c, M::Log)),
    row("LogSoftmax",          1, "f",   "", softmax::log_softmax),
    row("LpNormalization",     1, "f",   "", lp_normalization::lp),
    row("LpPool",              2, "f",   "", pool::lp),
    row("MatMul",              1, "fi",  "", matmul::import),
    row("MatMulInteger",      10, "i",   "", matmul_integer::import),
    row("Max",                 6, "fi",  "", |c| elementwise::variadic(c, M::Max)),
    row("MaxPool",             1, "fi",  "", pool::max),
    row("Mean",                8, "f",   "", elementwise::mean),
    row("MeanVarianceNormalization", 9, "f", "", lp_normalization::mean_variance),
    row("Min",                 6, "fi",  "", |c| elementwise::variadic(c, M::Min)),
    row("Mish",               18, "f",   "", activation::mish),
    row("Mod",                10, "fi",  "", elementwise::modulo),
    row("Mul",                 7, "fi",  "", |c| elementwise::binary(c, M::Mul)),
    row("Neg",                 6, "fi",  "", |c| elementwise::unary(c, M::Neg)),
    row("NonZero",             9, "x",   "the data are known at import", data_dependent::non_zero),
    row("Not",                 1, "b",   "", |c| elementwise::unary(c, M::Not)),
    row("OneHot",              9, "x",   "the depth is known at import", one_hot::import),
    row("Or",                  7, "b",   "", |c| elementwise::binary(c, M::Or)),
    row("PRelu",               7, "f",   "", activation::prelu),
    row("Pad",                 2, "x",   "the pads are known at import", pad::import),
    row("Pow",                 7, "fi",  "", elementwise::pow),
    row("QLinearConv",        10, "i",   "", conv_integer::qlinear),
    row("QLinearMatMul",      10, "i",   "", matmul_integer::qlinear),
    row("QuantizeLinear",     10, "fi",  "per tensor, per axis and in blocks; to 8 and 16 bits", quantize::quantize),
    row("RMSNormalization",   23, "f",   "statistics in float", rms_normalization::import),
    row("Range",              11, "fi",  "the limits are known at import", range::import),
    row("Reciprocal",          6, "f",   "", |c| elementwise::unary(c, M::Reciprocal)),
    row("ReduceL1",            1, "fi",  "", reduce::l1),
    row("ReduceL2",            1, "f",   "", reduce::l2),
    row("ReduceLogSum",        1, "f",   "", reduce::log_sum),
    row("ReduceLogSumExp",     1, "f",   "", reduce::log_sum_exp),
    row("ReduceMax",           1, "fi",  "", |c| reduce::import(c, R::Max)),
    row("ReduceMean",          1, "f",   "", reduce::mean),
    row("ReduceMin",           1, "fi",  "", |c| reduce::import(c, R::Min)),
    row("ReduceProd",          1, "fi",  "", |c| reduce::import(c, R::Prod)),
    row("ReduceSum",           1, "fi",  "", |c| reduce::import(c, R::Sum)),
    row("ReduceSumSquare",     1, "fi",  "", reduce::sum_square),
    row("Relu",                6, "fi",  "", |c| elementwise::unary(c, M::Relu)),
    row("Reshape",             5, "x",   "the shape is known at import", reshape::import),
    row("Resize",             10, "fi",  "sizes, scales and region are known at import", resize::import),
    row("ReverseSequence",    10, "x",   "", sequence_order::reverse),
    row("RotaryEmbedding",    23, "f",   "", rotary_embedding::import),
    row("Round",              11, "f",   "half to even", |c| elementwise::unary(c, M::Round)),
    row("Scatter",             9, "x",   "as ScatterElements", scatter::elements),
    row("ScatterElements",    11, "x",   "", scatter::elements),
    row("ScatterND",          11, "x",   "", scatter::nd),
    row("Selu",                6, "f",   "", activation::selu),
    row("Shape",               1, "x",   "", shape::import),
    row("Shrink",              9, "fi",  "", activation::shrink),
    row("Sigmoid",             6, "f",   "", |c| elementwise::unary(c, M::Sigmoid)),
    row("Sign",                9, "fi",  "", |c| elementwise::unary(c, M::Sign)),
    row("SimplifiedLayerNormalization", 1, "f", "onnxruntime's; as RMSNormalization", skip_layer_normalization::simplified),
    row("Sin",                 7, "f",   "", |c| elementwise::unary(c, M::Sin)),
    row("Size",                1, "x",   "", shape::size),
    row("Slice",               1, "x",   "starts, ends, axes and steps are known at import", slice::import),
    row("Softmax",             1, "f",   "", softmax::import),
    row("Softplus",            1, "f",   "", |c| elementwise::unary(c, M::Softplus)),
    row("Softsign",            1, "f",   "", activation::softsign),
    row("SpaceToDepth",        1, "x",   "", depth_to_space::space_to_depth),
    row("Split",               2, "x",   "the sizes are known at import", split::import),
    row("Sqrt",                6, "f",   "", |c| elementwise::unary(c, M::Sqrt)),
    row("Squeeze",             1, "x",   "the axes are known at import", squeeze::import),
    row("Sub",                 7, "fi",  "", |c| elementwise::binary(c, M::Sub)),
    row("Sum",                 6, "f",   "", |c| elementwise::variadic(c, M::Add)),
    row("SwiGLU",             28, "f",   "", activation::swiglu),
    row("Swish",              24, "f",   "", |c| activation::swish(c, 1.0)),
    row("Tanh",                6, "f",   "", |c| elementwise::unary(c, M::Tanh)),
    row("TensorScatter",      24, "x",   "", sequence_order::tensor_scatter),
    row("ThresholdedRelu",    10, "f",   "", activation::thresholded_relu),
    row("Tile",                6, "x",   "the repeats are known at import", tile::import),
    row("TopK",                1, "fi",  "`k` is known at import", top_k::import),
    row("Transpose",           1, "x",   "", transpose::import),
    row("Trilu",              14, "x",   "`k` is known at import", trilu::import),
    row("Unsqueeze",           1, "x",   "the axes are known at import", unsqueeze::import),
    row("Upsample",            7, "f",   "until opset 9", resize::upsample),
    row("Where",               9, "x",   "", where_op::import),
    row("Xor",                 7, "b",   "", |c| elementwise::binary(c, M::Xor)),
    microsoft("Attention",         "f",  "", multi_head_attention::attention),
    microsoft("BiasGelu",          "f",  "", |c| activation::bias_gelu(c, gelu::exact)),
    microsoft("DequantizeLinear",  "fi", "", quantize::dequantize),
    microsoft("DynamicQuantizeMatMul", "f", "", matmul_integer::dynamic),
    microsoft("EmbedLayerNormalization", "f", "", embed_layer_normalization::import),
    microsoft("ExpandDims",        "x",  "the axis is known at import", unsqueeze::expand_dims),
    microsoft("FastGelu",          "f",  "", |c| activation::bias_gelu(c, gelu::by_tanh)),
    microsoft("FusedConv",         "f",  "", |c| activation::after(c, conv::fused)),
    microsoft("FusedGemm",         "f",  "", |c| activation::after(c, gemm::import)),
    microsoft("FusedMatMul",       "f",  "without transposed batches", fused_matmul::import),
    microsoft("GatherBlockQuantized", "i", "", block_quantized::gather_rows),
    microsoft("Gelu",              "f",  "", activation::microsoft_gelu),
    microsoft("GroupQueryAttention", "f", "without a quantised cache", group_query_attention::import),
    microsoft("MatMulBnb4",        "f",  "", block_quantized::bnb4),
    microsoft("MatMulIntegerToFloat", "i", "", matmul_integer::to_float),
    microsoft("MatMulNBits",       "f",  "4 and 8 bits, groups in order", matmul_nbits::import),
    microsoft("MultiHeadAttention", "f", "without a shared past buffer", multi_head_attention::multi_head),
    microsoft("Pad",               "x",  "the pads are known at import", pad::import),
    microsoft("QAttention",        "i",  "", multi_head_attention::quantized),
    microsoft("QGemm",             "i",  "", matmul_integer::qgemm),
    microsoft("QLinearAdd",        "i",  "", |c| qlinear::binary(c, M::Add)),
    microsoft("QLinearAveragePool", "i", "", qlinear::average_pool),
    microsoft("QLinearConcat",     "i",  "", qlinear::concat),
    microsoft("QLinearGlobalAveragePool", "i", "", qlinear::global_average_pool),
    microsoft("QLinearLeakyRelu",  "i",  "", qlinear::leaky_relu),
    microsoft("QLinearMul",        "i",  "", |c| qlinear::binary(c, M::Mul)),
    microsoft("QLinearReduceMean", "i",  "", qlinear::reduce_mean),
    microsoft("QLinearSigmoid",    "i",  "", qlinear::sigmoid),
    microsoft("QLinearSoftmax",    "i",  "", qlinear::softmax),
    microsoft("QLinearWhere",      "i",  "", qlinear::choose),
    microsoft("QuantizeLinear",    "fi", "", quantize::quantize),
    microsoft("QuickGelu",         "f",  "", |c| activation::swish(c, 1.702)),
    microsoft("RotaryEmbedding",   "f",  "", multi_head_attention::rotary),
    microsoft("SkipLayerNormalization", "f", "", skip_layer_normalization::skip),
    microsoft("SkipSimplifiedLayerNormalization", "f", "no mean", skip_layer_normalization::skip_simplified),
    microsoft("Trilu",             "x",  "", trilu::import),
];

/// A row of ONNX's own domain, current since opset `since`.
const fn row(
    name: &'static str,
    since: i64,
    dtypes: &'static str,
    notes: &'static str,
    import: fn(&mut Call) -> Result<Vec<Val>>,
) -> Row {
    Row { domain: "", name, since, until: NEWEST, dtypes, notes, import }
}

/// A row of onnxruntime's operators, which have one version.
const fn microsoft(
    name: &'static str,
    dtypes: &'static str,
    notes: &'static str,
    import: fn(&mut Call) -> Result<Vec<Val>>,
) -> Row {
    Row { domain: "com.microsoft", name, since: 1, until: 1, dtypes, notes, import }
}

/// The row of an operator at an opset version of its domain.
pub fn find(domain: &str, name: &str, opset: i64) -> Option<&'static Row> {
    TABLE.iter().find(|r| r.domain == domain && r.name == name && (r.since..=r.until).contains(&opset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_distinct() {
        let key = |r: &Row| (r.domain, r.name, r.since);
        assert!(TABLE.windows(2).all(|w| key(&w[0]) < key(&w[1])));
    }
}
