// Attributes of both dialects: axes, numbers, and the kinds of ops.
// The order of a list of kinds is the order of its Rust enum (src/nn/kind.rs, src/tile/program.rs).

#ifndef KILN_KINDS_TD
#define KILN_KINDS_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/EnumAttr.td"

def Nn_Axis : ConfinedAttr<I64Attr, [IntNonNegative]>;
def Nn_Dims : ConfinedAttr<DenseI64ArrayAttr, [DenseArrayNonNegative<DenseI64ArrayAttr>]>;
def Nn_Scalar : AnyAttrOf<[F64Attr, I64Attr], "an f64 or i64 number">;

class Kinds<string name, string summary, list<string> words>
    : I32EnumAttr<name, summary, !foreach(i, !range(!size(words)), I32EnumAttrCase<"k_" # words[i], i, words[i]>)> {
  let cppNamespace = "::kiln";
}

def Nn_MapKind : Kinds<"MapKind", "kind of an elementwise op", [
  "add", "sub", "mul", "div", "max", "min", "pow", "mod", "fmod", "and", "or", "xor", "shl", "shr",
  "eq", "ne", "lt", "le", "gt", "ge",
  "neg", "abs", "sign", "not", "exp", "log", "sqrt", "rsqrt", "reciprocal", "tanh", "erf", "sigmoid",
  "sin", "cos", "floor", "ceil", "round", "relu", "square", "is_nan", "is_inf", "identity", "softplus",
  "select"]>;
def Nn_ReduceKind : Kinds<"ReduceKind", "kind of a reduction", ["sum", "max", "min", "prod", "argmax", "argmin"]>;
def Nn_ScanKind : Kinds<"ScanKind", "kind of a cumulative op", ["sum", "max", "prod"]>;
def Nn_ScatterReduction : Kinds<"ScatterReduction", "what a scatter does with the old element",
                                ["none", "add", "mul", "max", "min"]>;

def Tile_DramKind : Kinds<"DramKind", "role of a DRAM tensor", ["input", "output", "weight", "fold", "temp"]>;

def Tile_Spm : I32EnumAttrCase<"Spm", 0, "spm">;
def Tile_Acc : I32EnumAttrCase<"Acc", 1, "acc">;
def Tile_Space : I32EnumAttr<"Space", "on-chip memory", [Tile_Spm, Tile_Acc]> {
  let cppNamespace = "::kiln";
  let genSpecializedAttr = 0;
}

#endif
