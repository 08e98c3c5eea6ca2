// The dialect `nn`: pure value semantics on statically shaped tensors, positional axes.
// Everything an ONNX graph says is a composition of these few ops; there is no softmax, norm or attention.

#ifndef KILN_NN_TD
#define KILN_NN_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "Kinds.td"

def Nn_Dialect : Dialect {
  let name = "nn";
  let cppNamespace = "::kiln::nn";
  let summary = "pure tensor algebra with positional axes";
  let description = [{
    A model is one `func.func @main` of these ops. All are `Pure`; types are static ranked tensors
    (zero extents are legal). Argument and result attributes: `nn.name`, `nn.host_type`, `nn.range`.
    Module attribute: `nn.files`, the files that `nn.weight` refers to; the entry `""` is in memory.
  }];
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
}

//===-- types --------------------------------------------------------------------------------===//

def Nn_Element : AnyTypeOf<[F32, F16, BF16, F64, I1, I8, UI8, I16, UI16, I32, UI32, I64, UI64,
                            F8E4M3FN, F8E5M2], "an element type of nn">;
def Nn_Tensor : StaticShapeTensorOf<[Nn_Element]>;
def Nn_Index : StaticShapeTensorOf<[I32]>;

//===-- ops ----------------------------------------------------------------------------------===//

class Nn_Op<string mnemonic, list<Trait> traits = []> : Op<Nn_Dialect, mnemonic, [Pure] # traits>;

// An op whose result type follows from operands and attributes.
class Nn_InferredOp<string mnemonic, list<Trait> traits = []>
    : Nn_Op<mnemonic, [InferTypeOpAdaptor] # traits>;

def Nn_ConstantOp : Nn_Op<"constant", [ConstantLike, AllTypesMatch<["value", "result"]>]> {
  let summary = "a small constant";
  let description = "At most 64 KiB by convention; larger ones are `nn.weight`.";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$value attr-dict";
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Nn_WeightOp : Nn_Op<"weight"> {
  let summary = "bytes of a file";
  let description = "`length` bytes at `offset` of file number `file` of the module's `nn.files`: dense, row-major, little-endian.";
  let arguments = (ins ConfinedAttr<I32Attr, [IntNonNegative]>:$file,
                       ConfinedAttr<I64Attr, [IntNonNegative]>:$offset,
                       ConfinedAttr<I64Attr, [IntNonNegative]>:$length);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "`file` $file `offset` $offset `length` $length attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Nn_MapOp : Nn_InferredOp<"map"> {
  let summary = "elementwise";
  let description = [{
    1 to 3 operands of one shape. Comparisons give `i1`; `select` takes a mask and two values. f16 and bf16
    operands compute in f32 and round once. Integer div truncates; `mod` has the divisor's sign, `fmod`
    the dividend's; `max` and `min` propagate NaN; `round` rounds halves to even.
  }];
  let arguments = (ins Nn_MapKind:$kind, Variadic<Nn_Tensor>:$inputs);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$kind $inputs attr-dict `:` functional-type($inputs, $result)";
}

def Nn_CastOp : Nn_Op<"cast", [SameOperandsAndResultShape]> {
  let summary = "element conversion";
  let description = "float to int truncates toward zero; to `i1` is `!= 0`; narrowing an int wraps.";
  let arguments = (ins Nn_Tensor:$operand);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$operand attr-dict `:` type($operand) `->` type($result)";
  let hasFolder = 1;
}

def Nn_ContractOp : Nn_Op<"contract"> {
  let summary = "generalised matrix product";
  let description = [{
    Result dims: batch, lhs free, rhs free. The value is one chain `acc = fma(a, b, acc)` from 0 in ascending
    lexicographic order of the contracted dims as listed, in `acc` (f32 for floats, f64 for f64, i32 for
    integers), then rounded to the result type. A chain of one product is that product, a zero's sign included.
  }];
  let arguments = (ins Nn_Tensor:$lhs, Nn_Tensor:$rhs, Nn_Dims:$lhs_batch, Nn_Dims:$rhs_batch,
                       Nn_Dims:$lhs_contract, Nn_Dims:$rhs_contract, TypeAttr:$acc);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = [{
    $lhs `,` $rhs `batch` $lhs_batch `x` $rhs_batch `contract` $lhs_contract `x` $rhs_contract `acc` $acc
    attr-dict `:` functional-type(operands, $result)
  }];
  let hasVerifier = 1;
}

def Nn_ReduceOp : Nn_InferredOp<"reduce"> {
  let summary = "reduction; the axes are removed";
  let description = [{
    Sum and prod are one chain in ascending order, in f32 (i32 for integers up to 32 bits, else i64; f64 for
    f64), then rounded; of one element they are that element. argmax and argmin take one axis and give i32; the
    first index wins.
  }];
  let arguments = (ins Nn_ReduceKind:$kind, Nn_Tensor:$operand, Nn_Dims:$axes);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$kind $operand `axes` $axes attr-dict `:` type($operand) `->` type($result)";
}

def Nn_ReshapeOp : Nn_Op<"reshape"> {
  let summary = "the same elements in row-major order under another shape";
  let arguments = (ins Nn_Tensor:$operand);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$operand attr-dict `:` type($operand) `->` type($result)";
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Nn_TransposeOp : Nn_InferredOp<"transpose"> {
  let summary = "result dim i is operand dim perm[i]";
  let arguments = (ins Nn_Tensor:$operand, Nn_Dims:$perm);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$operand `perm` $perm attr-dict `:` type($operand) `->` type($result)";
  let hasFolder = 1;
}

def Nn_BroadcastOp : Nn_Op<"broadcast"> {
  let summary = "repetition along new or unit dims";
  let description = "`dims` (ascending) says which result dim each operand dim becomes; an operand extent of 1 stretches.";
  let arguments = (ins Nn_Tensor:$operand, Nn_Dims:$dims);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$operand `dims` $dims attr-dict `:` type($operand) `->` type($result)";
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Nn_SliceOp : Nn_InferredOp<"slice"> {
  let summary = "a strided box";
  let arguments = (ins Nn_Tensor:$operand, Nn_Dims:$offsets, Nn_Dims:$sizes, Nn_Dims:$strides);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = [{
    $operand `offsets` $offsets `sizes` $sizes `strides` $strides attr-dict `:` type($operand) `->` type($result)
  }];
  let hasFolder = 1;
}

def Nn_PadOp : Nn_InferredOp<"pad"> {
  let summary = "constant padding";
  let arguments = (ins Nn_Tensor:$operand, Nn_Dims:$low, Nn_Dims:$high, Nn_Scalar:$value);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$operand `value` $value `low` $low `high` $high attr-dict `:` type($operand) `->` type($result)";
}

def Nn_ConcatOp : Nn_InferredOp<"concat"> {
  let summary = "operands one after another along an axis";
  let arguments = (ins Variadic<Nn_Tensor>:$inputs, Nn_Axis:$axis);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$inputs `axis` $axis attr-dict `:` functional-type($inputs, $result)";
  let hasFolder = 1;
}

def Nn_ReverseOp : Nn_Op<"reverse", [SameOperandsAndResultType]> {
  let summary = "order reversed along axes";
  let arguments = (ins Nn_Tensor:$operand, Nn_Dims:$axes);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$operand `axes` $axes attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Nn_IotaOp : Nn_Op<"iota"> {
  let summary = "the index along an axis";
  let arguments = (ins Nn_Axis:$axis);
  let results = (outs StaticShapeTensorOf<[I32, F32]>:$result);
  let assemblyFormat = "`axis` $axis attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Nn_GatherOp : Nn_InferredOp<"gather"> {
  let summary = "numpy's take along an axis";
  let description = "Indices are non-negative; one out of range is an error when run.";
  let arguments = (ins Nn_Tensor:$data, Nn_Index:$indices, Nn_Axis:$axis);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$data `,` $indices `axis` $axis attr-dict `:` functional-type(operands, $result)";
}

def Nn_GatherElementsOp : Nn_InferredOp<"gather_elements"> {
  let summary = "one index for each result element (ONNX GatherElements)";
  let arguments = (ins Nn_Tensor:$data, Nn_Index:$indices, Nn_Axis:$axis);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$data `,` $indices `axis` $axis attr-dict `:` functional-type(operands, $result)";
}

def Nn_GatherNdOp : Nn_InferredOp<"gather_nd"> {
  let summary = "index tuples (ONNX GatherND)";
  let arguments = (ins Nn_Tensor:$data, Nn_Index:$indices, Nn_Axis:$batch_dims);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$data `,` $indices `batch_dims` $batch_dims attr-dict `:` functional-type(operands, $result)";
}

def Nn_ScatterNdOp : Nn_InferredOp<"scatter_nd"> {
  let summary = "updates at index tuples (ONNX ScatterND)";
  let arguments = (ins Nn_Tensor:$data, Nn_Index:$indices, Nn_Tensor:$updates, Nn_ScatterReduction:$reduction);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = "$reduction $data `,` $indices `,` $updates attr-dict `:` functional-type(operands, $result)";
}

def Nn_ScatterElementsOp : Nn_InferredOp<"scatter_elements"> {
  let summary = "one index for each update (ONNX ScatterElements)";
  let arguments = (ins Nn_Tensor:$data, Nn_Index:$indices, Nn_Tensor:$updates, Nn_Axis:$axis,
                       Nn_ScatterReduction:$reduction);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = [{
    $reduction $data `,` $indices `,` $updates `axis` $axis attr-dict `:` functional-type(operands, $result)
  }];
}

def Nn_ScanOp : Nn_Op<"scan", [SameOperandsAndResultType]> {
  let summary = "cumulative along an axis";
  let arguments = (ins Nn_ScanKind:$kind, Nn_Tensor:$operand, Nn_Axis:$axis, UnitAttr:$exclusive, UnitAttr:$reverse);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = [{
    $kind $operand `axis` $axis (`exclusive` $exclusive^)? (`reverse` $reverse^)? attr-dict `:` type($result)
  }];
  let hasVerifier = 1;
}

def Nn_TopKOp : Nn_InferredOp<"topk"> {
  let summary = "the k largest or smallest along an axis, sorted";
  let description = "The lower index comes first on ties; NaN counts as largest.";
  let arguments = (ins Nn_Tensor:$operand, Nn_Axis:$k, Nn_Axis:$axis, UnitAttr:$largest);
  let results = (outs Nn_Tensor:$values, Nn_Index:$indices);
  let assemblyFormat = [{
    $operand `k` $k `axis` $axis (`largest` $largest^)? attr-dict `:` functional-type(operands, results)
  }];
}

def Nn_ConvOp : Nn_InferredOp<"conv"> {
  let summary = "convolution: N,C,spatial… with O,I/groups,kernel…";
  let description = "A pass turns it into views and a contract. The chain runs over I/groups, then the kernel dims, ascending.";
  let arguments = (ins Nn_Tensor:$data, Nn_Tensor:$kernel, Nn_Dims:$strides, Nn_Dims:$pads_low,
                       Nn_Dims:$pads_high, Nn_Dims:$dilations, ConfinedAttr<I64Attr, [IntPositive]>:$groups);
  let results = (outs Nn_Tensor:$result);
  let assemblyFormat = [{
    $data `,` $kernel `strides` $strides `pads` $pads_low `x` $pads_high `dilations` $dilations `groups` $groups
    attr-dict `:` functional-type(operands, $result)
  }];
}

#endif
