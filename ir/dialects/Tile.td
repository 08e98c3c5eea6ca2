// The dialect `tile`: explicit memory and loops. DRAM tensors, groups, on-chip buffers with a partition axis.

#ifndef KILN_TILE_TD
#define KILN_TILE_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "Kinds.td"

def Tile_Dialect : Dialect {
  let name = "tile";
  let cppNamespace = "::kiln::tile";
  let summary = "explicit memory and loops";
  let description = [{
    A `tile.program` holds DRAM tensors and groups in order. Within a group, buffers have one rank (one position
    for each axis of the group), operands align by position, and loops run over tiles. Masks are `ui8` 0/1.
    Arithmetic is f32 or i32 (when all sources are integers); the destination's type rounds.
  }];
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::kiln::nn::NnDialect"];
}

//===-- types --------------------------------------------------------------------------------===//

def Tile_BufType : TypeDef<Tile_Dialect, "Buf"> {
  let mnemonic = "buf";
  let summary = "an on-chip buffer or a view of one";
  let description = [{
    `!tile.buf<4x128xf32, spm, part 1>`: index `i` along the partition axis lives in partition `i mod P`,
    chunk `i div P`; the chunk is the outermost free dim, the other axes follow in order, dense. `acc` holds
    f32 and i32 only.
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape, "::mlir::Type":$elementType,
                        EnumParameter<Tile_Space>:$space, "int64_t":$part);
  let assemblyFormat = "`<` custom<BufShape>($shape, $elementType) `,` $space `,` `part` $part `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    int64_t getRank() const { return getShape().size(); }
    int64_t partExtent() const { return getShape()[getPart()]; }
  }];
}

//===-- structure ----------------------------------------------------------------------------===//

class Tile_Op<string mnemonic, list<Trait> traits = []> : Op<Tile_Dialect, mnemonic, traits>;

def Tile_ProgramOp : Tile_Op<"program", [IsolatedFromAbove, NoRegionArguments, NoTerminator, SingleBlock,
                                         Symbol, SymbolTable]> {
  let summary = "DRAM tensors, and groups in order";
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name $body attr-dict";
}

def Tile_DramOp : Tile_Op<"dram", [Symbol, HasParent<"ProgramOp">]> {
  let summary = "a dense row-major array in DRAM";
  let description = [{
    `input` and `output` carry `nn.name`, `nn.host_type`, `nn.range`; a `weight` has `parts`: rows of bytes of
    a file of `nn.files` (offset, rows, bytes of a row, pitch) and where they lie in the tensor (offset,
    pitch); `fold` names a function of `nn` without arguments that is evaluated once.
  }];
  let arguments = (ins Tile_DramKind:$kind, SymbolNameAttr:$sym_name, TypeAttr:$type,
                       OptionalAttr<FlatSymbolRefAttr>:$fold, OptionalAttr<ArrayAttr>:$parts);
  let assemblyFormat = [{
    $kind $sym_name `:` $type (`from` $fold^)? (`parts` custom<Parts>($parts)^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Tile_GroupOp : Tile_Op<"group", [IsolatedFromAbove, NoRegionArguments, NoTerminator, SingleBlock, Symbol,
                                     HasParent<"ProgramOp">]> {
  let summary = "loops over tiles; on-chip contents end with the group";
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name $body attr-dict";
  let hasVerifier = 1;
}

def Tile_ForOp : Tile_Op<"for", [NoTerminator, SingleBlock, RecursiveMemoryEffects]> {
  let summary = "`%i` runs from 0 to the trip count";
  let arguments = (ins ConfinedAttr<I64Attr, [IntPositive]>:$trip);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
}

//===-- buffers and views --------------------------------------------------------------------===//

def Tile_AllocOp : Tile_Op<"alloc"> {
  let summary = "a buffer; inside a loop a fresh instance each iteration";
  let description = "The backend gives it a ring of at most `depth` slots.";
  let arguments = (ins ConfinedAttr<I64Attr, [IntPositive]>:$depth);
  let results = (outs Res<Tile_BufType, "", [MemAlloc]>:$result);
  let assemblyFormat = "`depth` $depth attr-dict `:` qualified(type($result))";
}

def Tile_SubOp : Tile_Op<"sub", [Pure]> {
  let summary = "a box of a buffer";
  let description = [{
    Offset of axis a: `offsets[a] + Σ coef[iv][a]·iv` (`coef` holds one row for each iv). Along the partition
    axis an iv's coefficient is a multiple of P, and a view that crosses a chunk starts at one.
  }];
  let arguments = (ins Tile_BufType:$source, Variadic<Index>:$ivs, DenseI64ArrayAttr:$offsets,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$coef);
  let results = (outs Tile_BufType:$result);
  let assemblyFormat = [{
    $source $offsets (`at` `(` $ivs^ `)` `by` $coef)? attr-dict `:` type($source) `->` type($result)
  }];
  let hasVerifier = 1;
}

//===-- DRAM ---------------------------------------------------------------------------------===//

// An access of a DRAM tensor: element address = offset + Σ iv_j·coef_j + Σ_a i_a·strides[a].
class Tile_AccessOp<string mnemonic, list<Trait> traits = []>
    : Tile_Op<mnemonic, [DeclareOpInterfaceMethods<SymbolUserOpInterface>] # traits>;

def Tile_LoadOp : Tile_AccessOp<"load"> {
  let summary = "DMA from DRAM; the element type may convert";
  let arguments = (ins FlatSymbolRefAttr:$dram, I64Attr:$offset, DenseI64ArrayAttr:$strides, Variadic<Index>:$ivs,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$coef, Arg<Tile_BufType, "", [MemWrite]>:$dst);
  let assemblyFormat = [{
    $dram `offset` $offset `strides` $strides (`at` `(` $ivs^ `)` `by` $coef)? `->` $dst attr-dict `:` type($dst)
  }];
}

def Tile_StoreOp : Tile_AccessOp<"store", [MemoryEffects<[MemWrite]>]> {
  let summary = "DMA to DRAM; the element type may convert";
  let arguments = (ins Arg<Tile_BufType, "", [MemRead]>:$src, FlatSymbolRefAttr:$dram, I64Attr:$offset,
                       DenseI64ArrayAttr:$strides, Variadic<Index>:$ivs,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$coef);
  let assemblyFormat = [{
    $src `->` $dram `offset` $offset `strides` $strides (`at` `(` $ivs^ `)` `by` $coef)? attr-dict `:` type($src)
  }];
}

def Tile_GatherOp : Tile_AccessOp<"gather"> {
  let summary = "a load whose address gains idx·row_stride";
  let description = "idx (i32) aligns by position, extent 1 broadcasts; an index outside 0..rows is a trap.";
  let arguments = (ins FlatSymbolRefAttr:$dram, I64Attr:$offset, DenseI64ArrayAttr:$strides, Variadic<Index>:$ivs,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$coef, Arg<Tile_BufType, "", [MemRead]>:$idx,
                       I64Attr:$row_stride, ConfinedAttr<I64Attr, [IntPositive]>:$rows,
                       Arg<Tile_BufType, "", [MemWrite]>:$dst);
  let assemblyFormat = [{
    $dram `offset` $offset `strides` $strides (`at` `(` $ivs^ `)` `by` $coef)?
    `rows` $rows `stride` $row_stride `,` $idx `->` $dst attr-dict `:` type($idx) `,` type($dst)
  }];
}

def Tile_ScatterOp : Tile_AccessOp<"scatter", [MemoryEffects<[MemWrite]>]> {
  let summary = "a store whose address gains idx·row_stride";
  let description = "In ascending lexicographic order of the source: where two elements meet, the last one stays.";
  let arguments = (ins Arg<Tile_BufType, "", [MemRead]>:$src, Arg<Tile_BufType, "", [MemRead]>:$idx,
                       FlatSymbolRefAttr:$dram, I64Attr:$offset, DenseI64ArrayAttr:$strides, Variadic<Index>:$ivs,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$coef, I64Attr:$row_stride,
                       ConfinedAttr<I64Attr, [IntPositive]>:$rows);
  let assemblyFormat = [{
    $src `,` $idx `->` $dram `offset` $offset `strides` $strides (`at` `(` $ivs^ `)` `by` $coef)?
    `rows` $rows `stride` $row_stride attr-dict `:` type($src) `,` type($idx)
  }];
}

//===-- compute ------------------------------------------------------------------------------===//

def Tile_FillOp : Tile_Op<"fill"> {
  let summary = "one value everywhere";
  let arguments = (ins Arg<Tile_BufType, "", [MemWrite]>:$dst, F64Attr:$value);
  let assemblyFormat = "$dst `value` $value attr-dict `:` type($dst)";
}

def Tile_IotaOp : Tile_Op<"iota"> {
  let summary = "base + Σ axes[a]·i_a + Σ coef_j·iv_j";
  let arguments = (ins Arg<Tile_BufType, "", [MemWrite]>:$dst, I64Attr:$base, DenseI64ArrayAttr:$axes,
                       Variadic<Index>:$ivs, DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$coef);
  let assemblyFormat = [{
    $dst `base` $base `axes` $axes (`at` `(` $ivs^ `)` `by` $coef)? attr-dict `:` type($dst)
  }];
  let hasVerifier = 1;
}

def Tile_MatmulOp : Tile_Op<"matmul"> {
  let summary = "contract by position";
  let description = [{
    An axis with extent > 1 in s and x and 1 in acc is contracted; in s and acc: m; in x and acc: n; in all
    three: batch. acc is in ACC, its partition axis is m (s is stationary); x (moving) has a contracted axis on
    partitions; s has a contracted axis (LDW) or m (LDWT) on partitions. One chain in ascending lexicographic
    order of the contracted positions; with `accumulate` it continues from acc. A partition axis of extent 1
    fits everywhere.
  }];
  let arguments = (ins Arg<Tile_BufType, "", [MemRead, MemWrite]>:$acc, Arg<Tile_BufType, "", [MemRead]>:$s,
                       Arg<Tile_BufType, "", [MemRead]>:$x, UnitAttr:$accumulate);
  let assemblyFormat = [{
    $acc `,` $s `,` $x (`accumulate` $accumulate^)? attr-dict `:` type($acc) `,` type($s) `,` type($x)
  }];
  let hasVerifier = 1;
}

def Tile_MapOp : Tile_Op<"map"> {
  let summary = "elementwise by position; a source may be a number";
  let description = [{
    A source's extent of 1 broadcasts along free axes. All sources share dst's partition axis. Kinds are those
    of `nn.map`; masks and results of comparisons are ui8, and `not` of a ui8 is logical.
  }];
  let arguments = (ins Nn_MapKind:$kind, Arg<Tile_BufType, "", [MemWrite]>:$dst,
                       Arg<Variadic<Tile_BufType>, "", [MemRead]>:$srcs,
                       DefaultValuedAttr<DenseF64ArrayAttr, "{}">:$imms,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$imm_at);
  let assemblyFormat = [{
    $kind $dst `,` custom<Sources>($srcs, $imms, $imm_at) attr-dict `:` qualified(type($dst)) (`,` type($srcs)^)?
  }];
  let hasVerifier = 1;
}

def Tile_CastOp : Tile_Op<"cast"> {
  let summary = "conversion of elements, of one shape";
  let arguments = (ins Arg<Tile_BufType, "", [MemWrite]>:$dst, Arg<Tile_BufType, "", [MemRead]>:$src);
  let assemblyFormat = "$dst `,` $src attr-dict `:` type($dst) `,` type($src)";
  let hasVerifier = 1;
}

def Tile_MaskOp : Tile_Op<"mask"> {
  let summary = "src where an affine form is not negative, else a number";
  let description = "dst = (base + Σ axes[a]·i_a + Σ coef_j·iv_j >= 0) ? src : fill";
  let arguments = (ins Arg<Tile_BufType, "", [MemWrite]>:$dst, Arg<Tile_BufType, "", [MemRead]>:$src,
                       I64Attr:$base, DenseI64ArrayAttr:$axes, Variadic<Index>:$ivs,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$coef, F64Attr:$fill);
  let assemblyFormat = [{
    $dst `,` $src `base` $base `axes` $axes (`at` `(` $ivs^ `)` `by` $coef)? `else` $fill
    attr-dict `:` type($dst) `,` type($src)
  }];
  let hasVerifier = 1;
}

def Tile_ReduceOp : Tile_Op<"reduce"> {
  let summary = "over the axes where dst has extent 1";
  let description = "Never over the partition axis; one chain in ascending lexicographic order; `accumulate` continues it.";
  let arguments = (ins Nn_ReduceKind:$kind, Arg<Tile_BufType, "", [MemRead, MemWrite]>:$dst,
                       Arg<Tile_BufType, "", [MemRead]>:$src, UnitAttr:$accumulate);
  let assemblyFormat = "$kind $dst `,` $src (`accumulate` $accumulate^)? attr-dict `:` type($dst) `,` type($src)";
  let hasVerifier = 1;
}

def Tile_TransposeOp : Tile_Op<"transpose"> {
  let summary = "the same elements with another partition axis; dst in ACC";
  let arguments = (ins Arg<Tile_BufType, "", [MemWrite]>:$dst, Arg<Tile_BufType, "", [MemRead]>:$src);
  let assemblyFormat = "$dst `,` $src attr-dict `:` type($dst) `,` type($src)";
  let hasVerifier = 1;
}

def Tile_ScanOp : Tile_Op<"scan"> {
  let summary = "cumulative along a free axis";
  let arguments = (ins Nn_ScanKind:$kind, Arg<Tile_BufType, "", [MemWrite]>:$dst,
                       Arg<Tile_BufType, "", [MemRead]>:$src, Nn_Axis:$axis, UnitAttr:$exclusive,
                       UnitAttr:$reverse);
  let assemblyFormat = [{
    $kind $dst `,` $src `axis` $axis (`exclusive` $exclusive^)? (`reverse` $reverse^)?
    attr-dict `:` type($dst) `,` type($src)
  }];
  let hasVerifier = 1;
}

def Tile_TopKOp : Tile_Op<"topk"> {
  let summary = "the k largest or smallest along a free axis, sorted; k is the axis' extent in dst";
  let arguments = (ins Arg<Tile_BufType, "", [MemWrite]>:$values, Arg<Tile_BufType, "", [MemWrite]>:$indices,
                       Arg<Tile_BufType, "", [MemRead]>:$src, Nn_Axis:$axis, UnitAttr:$largest);
  let assemblyFormat = [{
    $values `,` $indices `,` $src `axis` $axis (`largest` $largest^)?
    attr-dict `:` type($values) `,` type($indices) `,` type($src)
  }];
  let hasVerifier = 1;
}

def Tile_ShuffleOp : Tile_Op<"shuffle"> {
  let summary = "dst[.., i, ..] = src[.., idx[.., i, ..], ..] along a free axis";
  let arguments = (ins Arg<Tile_BufType, "", [MemWrite]>:$dst, Arg<Tile_BufType, "", [MemRead]>:$src,
                       Arg<Tile_BufType, "", [MemRead]>:$idx, Nn_Axis:$axis);
  let assemblyFormat = "$dst `,` $src `,` $idx `axis` $axis attr-dict `:` type($dst) `,` type($src) `,` type($idx)";
  let hasVerifier = 1;
}

#endif
