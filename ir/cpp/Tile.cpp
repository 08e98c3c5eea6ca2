// The dialect `tile`: registration, the buffer type, assembly and verifiers that ODS cannot state.
#include "Tile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include "mlir/CAPI/IR.h"
#include "mlir/CAPI/Registration.h"
using namespace mlir;
using namespace kiln;
using namespace kiln::tile;

//===-- assembly ------------------------------------------------------------------------------===//

static ParseResult parseBufShape(AsmParser &p, SmallVector<int64_t> &shape, Type &element) {
  return failure(p.parseDimensionList(shape, /*allowDynamic=*/false) || p.parseType(element));
}
static void printBufShape(AsmPrinter &p, ArrayRef<int64_t> shape, Type element) {
  for (int64_t d : shape) p << d << 'x';
  p << element;
}

// [file F at OFFSET rows R x BYTES pitch P to OFFSET pitch P, ...]
static constexpr StringLiteral kPartWords[] = {"file", "at", "rows", "x", "pitch", "to", "pitch"};
static ParseResult parseParts(OpAsmParser &p, ArrayAttr &parts) {
  SmallVector<Attribute> list;
  auto one = [&]() -> ParseResult {
    SmallVector<int64_t> numbers(std::size(kPartWords));
    for (size_t i = 0; i < numbers.size(); ++i)
      if (p.parseKeyword(kPartWords[i]) || p.parseInteger(numbers[i])) return failure();
    list.push_back(p.getBuilder().getDenseI64ArrayAttr(numbers));
    return success();
  };
  if (p.parseCommaSeparatedList(OpAsmParser::Delimiter::Square, one)) return failure();
  parts = p.getBuilder().getArrayAttr(list);
  return success();
}
static void printParts(OpAsmPrinter &p, Operation *, ArrayAttr parts) {
  p << '[';
  llvm::interleaveComma(parts, p, [&](Attribute part) {
    auto numbers = cast<DenseI64ArrayAttr>(part);
    for (int64_t i = 0; i < numbers.size(); ++i) p << (i ? " " : "") << kPartWords[i] << ' ' << numbers[i];
  });
  p << ']';
}

// (%a, 2.0, %b): buffers and numbers in order.
static ParseResult parseSources(OpAsmParser &p, SmallVectorImpl<OpAsmParser::UnresolvedOperand> &srcs, DenseF64ArrayAttr &imms,
                                DenseI64ArrayAttr &immAt) {
  SmallVector<double> numbers;
  SmallVector<int64_t> places;
  int64_t count = 0;
  auto one = [&]() -> ParseResult {
    OpAsmParser::UnresolvedOperand operand;
    OptionalParseResult isOperand = p.parseOptionalOperand(operand);
    if (isOperand.has_value()) {
      if (failed(*isOperand)) return failure();
      srcs.push_back(operand);
    } else {
      FloatAttr number;
      if (p.parseAttribute(number, p.getBuilder().getF64Type())) return failure();
      numbers.push_back(number.getValueAsDouble());
      places.push_back(count);
    }
    ++count;
    return success();
  };
  if (p.parseCommaSeparatedList(OpAsmParser::Delimiter::Paren, one)) return failure();
  imms = p.getBuilder().getDenseF64ArrayAttr(numbers);
  immAt = p.getBuilder().getDenseI64ArrayAttr(places);
  return success();
}
static void printSources(OpAsmPrinter &p, Operation *, OperandRange srcs, DenseF64ArrayAttr imms, DenseI64ArrayAttr immAt) {
  auto numbers = imms.asArrayRef();
  auto places = immAt.asArrayRef();
  size_t src = 0, imm = 0, total = srcs.size() + numbers.size();
  p << '(';
  for (size_t i = 0; i < total; ++i) {
    if (i) p << ", ";
    if (imm < places.size() && imm < numbers.size() && (places[imm] == int64_t(i) || src == srcs.size()))
      p.printAttributeWithoutType(FloatAttr::get(Float64Type::get(imms.getContext()), numbers[imm++]));
    else if (src < srcs.size())
      p.printOperand(srcs[src++]);
  }
  p << ')';
}

#include "TileDialect.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "TileTypes.cpp.inc"
#define GET_OP_CLASSES
#include "TileOps.cpp.inc"

void TileDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "TileTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "TileOps.cpp.inc"
      >();
}

ParseResult ForOp::parse(OpAsmParser &p, OperationState &result) {
  OpAsmParser::Argument iv;
  int64_t trip;
  if (p.parseOperand(iv.ssaName) || p.parseEqual() || p.parseInteger(trip)) return failure();
  iv.type = p.getBuilder().getIndexType();
  result.getOrAddProperties<Properties>().trip = p.getBuilder().getI64IntegerAttr(trip);
  return failure(p.parseRegion(*result.addRegion(), iv) || p.parseOptionalAttrDict(result.attributes));
}
void ForOp::print(OpAsmPrinter &p) {
  p << ' ';
  p.printOperand(getBody().getArgument(0));
  p << " = " << getTrip() << ' ';
  p.printRegion(getBody(), /*printEntryBlockArgs=*/false);
  p.printOptionalAttrDict((*this)->getAttrs(), {"trip"});
}
LogicalResult ForOp::verify() {
  if (getBody().getNumArguments() != 1 || !getBody().getArgument(0).getType().isIndex())
    return emitOpError("body must have one argument of type index");
  return success();
}

//===-- the buffer type -----------------------------------------------------------------------===//

LogicalResult BufType::verify(function_ref<InFlightDiagnostic()> err, ArrayRef<int64_t> shape, Type element, Space space,
                              int64_t part) {
  if (part < 0 || part >= int64_t(shape.size())) return err() << "part " << part << " is no axis of a buffer of rank " << shape.size();
  if (llvm::any_of(shape, [](int64_t d) { return d <= 0; })) return err() << "extents of a buffer must be positive";
  bool f32 = element.isF32(), i32 = element.isSignlessInteger(32);
  bool narrow = element.isBF16() || element.isF16() || element.isSignlessInteger(8) || element.isUnsignedInteger(8) ||
                element.isSignlessInteger(16) || element.isUnsignedInteger(16) || element.isUnsignedInteger(32) ||
                isa<Float8E4M3FNType, Float8E5M2Type>(element);
  if (space == Space::Acc && !f32 && !i32) return err() << "acc holds f32 and i32, not " << element;
  if (!f32 && !i32 && !narrow) return err() << element << " is no element type on chip";
  return success();
}

//===-- rules ---------------------------------------------------------------------------------===//

namespace {
BufType buf(Value v) { return cast<BufType>(v.getType()); }
bool isFloat(BufType t) { return isa<FloatType>(t.getElementType()); }

// Buffers whose partition axis has extent 1 lie in partition 0, whatever the axis.
bool samePart(BufType a, BufType b) { return a.getPart() == b.getPart() || (a.partExtent() == 1 && b.partExtent() == 1); }

LogicalResult sameRank(Operation *op, std::initializer_list<BufType> types) {
  for (BufType t : types)
    if (t.getRank() != types.begin()->getRank()) return op->emitOpError() << "ranks differ: " << *types.begin() << " and " << t;
  return success();
}
LogicalResult sameShape(Operation *op, BufType a, BufType b) {
  if (a.getShape() != b.getShape()) return op->emitOpError() << "shapes differ: " << a << " and " << b;
  return success();
}
LogicalResult checkPart(Operation *op, BufType a, BufType b) {
  if (!samePart(a, b)) return op->emitOpError() << "partition axes differ: " << a << " and " << b;
  return success();
}
LogicalResult checkFreeAxis(Operation *op, BufType t, int64_t axis) {
  if (axis >= t.getRank()) return op->emitOpError() << "axis " << axis << " is no axis of " << t;
  if (axis == t.getPart() && t.partExtent() > 1) return op->emitOpError() << "axis " << axis << " is the partition axis of " << t;
  return success();
}

// Loop variables and a coefficient list that has `per` entries for each.
LogicalResult checkIvs(Operation *op, OperandRange ivs, ArrayRef<int64_t> coef, int64_t per) {
  for (Value iv : ivs) {
    auto arg = dyn_cast<BlockArgument>(iv);
    if (!arg || !isa_and_nonnull<ForOp>(arg.getOwner()->getParentOp())) return op->emitOpError("takes loop variables of tile.for only");
  }
  if (int64_t(coef.size()) != int64_t(ivs.size()) * per)
    return op->emitOpError() << "needs " << per << " coefficients for each of " << ivs.size() << " loop variables, not " << coef.size();
  return success();
}
int64_t trip(Value iv) { return cast<ForOp>(cast<BlockArgument>(iv).getOwner()->getParentOp()).getTrip(); }

// The closed interval of values of an affine form, widened term by term.
struct Interval {
  int64_t lo, hi;
  void add(int64_t coef, int64_t extent) { (coef < 0 ? lo : hi) += coef * (extent - 1); }
};

LogicalResult checkAffine(Operation *op, BufType t, ArrayRef<int64_t> axes, OperandRange ivs, ArrayRef<int64_t> coef) {
  if (int64_t(axes.size()) != t.getRank()) return op->emitOpError() << "axes must have one coefficient for each axis of " << t;
  return checkIvs(op, ivs, coef, 1);
}

// A DRAM access stays within the tensor; `rows` and `rowStride` are those of a gather or scatter (1, 0 else).
LogicalResult checkAccess(Operation *op, SymbolTableCollection &symbols, FlatSymbolRefAttr name, int64_t offset,
                          ArrayRef<int64_t> strides, OperandRange ivs, ArrayRef<int64_t> coef, BufType t, int64_t rows,
                          int64_t rowStride, bool writes) {
  auto dram = symbols.lookupNearestSymbolFrom<DramOp>(op, name);
  if (!dram) return op->emitOpError() << "there is no tile.dram " << name;
  if (writes && dram.getKind() != DramKind::k_output && dram.getKind() != DramKind::k_temp)
    return op->emitOpError() << "cannot write to " << name << ", an " << stringifyDramKind(dram.getKind());
  if (int64_t(strides.size()) != t.getRank()) return op->emitOpError() << "strides must have one entry for each axis of " << t;
  if (failed(checkIvs(op, ivs, coef, 1))) return failure();
  Interval at{offset, offset};
  for (auto [iv, c] : llvm::zip_equal(ivs, coef)) at.add(c, trip(iv));
  for (auto [stride, extent] : llvm::zip_equal(strides, t.getShape())) at.add(stride, extent);
  at.add(rowStride, rows);
  int64_t elements = cast<RankedTensorType>(dram.getType()).getNumElements();
  if (at.lo < 0 || at.hi >= elements)
    return op->emitOpError() << "reaches elements " << at.lo << " to " << at.hi << " of the " << elements << " of " << name;
  return success();
}
LogicalResult checkIndex(Operation *op, BufType idx, BufType t) {
  if (!idx.getElementType().isSignlessInteger(32)) return op->emitOpError() << "indices must be i32, not " << idx;
  if (failed(sameRank(op, {idx, t}))) return failure();
  for (auto [i, n] : llvm::zip_equal(idx.getShape(), t.getShape()))
    if (i != n && i != 1) return op->emitOpError() << "indices " << idx << " do not align with " << t;
  return success();
}
} // namespace

//===-- structure -----------------------------------------------------------------------------===//

LogicalResult DramOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getType());
  if (!type || !type.hasStaticShape()) return emitOpError() << "needs a static tensor type, not " << getType();
  if (getFold().has_value() != (getKind() == DramKind::k_fold)) return emitOpError("a fold, and only a fold, names its function");
  if (getParts().has_value() != (getKind() == DramKind::k_weight)) return emitOpError("a weight, and only a weight, has parts");
  ArrayAttr parts = getPartsAttr();
  if (!parts) return success();
  int64_t size = type.getNumElements() * std::max<int64_t>(1, type.getElementTypeBitWidth() / 8);
  for (Attribute a : parts) {
    auto part = dyn_cast<DenseI64ArrayAttr>(a);
    if (!part || part.size() != int64_t(std::size(kPartWords))) return emitOpError("a part has 7 numbers");
    if (llvm::any_of(part.asArrayRef(), [](int64_t v) { return v < 0; })) return emitOpError("numbers of a part must not be negative");
    int64_t rows = part[2], bytes = part[3], to = part[5], pitch = part[6];
    if (rows < 1 || bytes < 1 || (rows > 1 && pitch < bytes)) return emitOpError("rows of a part must not overlap or be empty");
    if (to + (rows - 1) * pitch + bytes > size)
      return emitOpError() << "a part ends at byte " << to + (rows - 1) * pitch + bytes << " of " << size;
  }
  return success();
}

LogicalResult GroupOp::verify() {
  int64_t rank = -1;
  auto result = getBody().walk([&](Operation *op) {
    if (!isa<TileDialect>(op->getDialect())) {
      op->emitOpError("has no place in a tile.group");
      return WalkResult::interrupt();
    }
    if (auto alloc = dyn_cast<AllocOp>(op)) {
      if (rank >= 0 && rank != alloc.getType().getRank()) {
        alloc.emitOpError() << "all buffers of a group have one rank: " << rank << " and " << alloc.getType().getRank();
        return WalkResult::interrupt();
      }
      rank = alloc.getType().getRank();
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

LogicalResult SubOp::verify() {
  BufType from = buf(getSource()), to = getType();
  if (failed(sameRank(*this, {from, to})) || failed(checkIvs(*this, getIvs(), getCoef(), from.getRank()))) return failure();
  if (from.getElementType() != to.getElementType() || from.getSpace() != to.getSpace() || from.getPart() != to.getPart())
    return emitOpError() << "a view keeps element type, space and partition axis: " << from << " and " << to;
  if (int64_t(getOffsets().size()) != from.getRank()) return emitOpError() << "needs one offset for each axis of " << from;
  for (int64_t a = 0; a < from.getRank(); ++a) {
    Interval at{getOffsets()[a], getOffsets()[a]};
    for (auto [j, iv] : llvm::enumerate(getIvs())) at.add(getCoef()[j * from.getRank() + a], trip(iv));
    if (at.lo < 0 || at.hi + to.getShape()[a] > from.getShape()[a])
      return emitOpError() << "axis " << a << " reaches " << at.lo << " to " << at.hi + to.getShape()[a] << " of " << from.getShape()[a];
  }
  return success();
}

//===-- DRAM ----------------------------------------------------------------------------------===//

LogicalResult LoadOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return checkAccess(*this, symbols, getDramAttr(), getOffset(), getStrides(), getIvs(), getCoef(), buf(getDst()), 1, 0, false);
}
LogicalResult StoreOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return checkAccess(*this, symbols, getDramAttr(), getOffset(), getStrides(), getIvs(), getCoef(), buf(getSrc()), 1, 0, true);
}
LogicalResult GatherOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(checkIndex(*this, buf(getIdx()), buf(getDst())))) return failure();
  return checkAccess(*this, symbols, getDramAttr(), getOffset(), getStrides(), getIvs(), getCoef(), buf(getDst()), getRows(),
                     getRowStride(), false);
}
LogicalResult ScatterOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (failed(checkIndex(*this, buf(getIdx()), buf(getSrc())))) return failure();
  return checkAccess(*this, symbols, getDramAttr(), getOffset(), getStrides(), getIvs(), getCoef(), buf(getSrc()), getRows(),
                     getRowStride(), true);
}

//===-- compute -------------------------------------------------------------------------------===//

LogicalResult IotaOp::verify() { return checkAffine(*this, buf(getDst()), getAxes(), getIvs(), getCoef()); }

LogicalResult MatmulOp::verify() {
  BufType acc = buf(getAcc()), s = buf(getS()), x = buf(getX());
  if (failed(sameRank(*this, {acc, s, x}))) return failure();
  if (acc.getSpace() != Space::Acc) return emitOpError() << "acc must be in acc, not " << acc;
  if (s.getSpace() != Space::Spm || x.getSpace() != Space::Spm) return emitOpError("s and x must be in spm");
  if (isFloat(s) != isFloat(x) || isFloat(s) != isFloat(acc))
    return emitOpError() << "floats accumulate in f32, integers in i32: " << acc << ", " << s << ", " << x;
  auto role = [&](int64_t a) -> char {
    bool inAcc = acc.getShape()[a] > 1, inS = s.getShape()[a] > 1, inX = x.getShape()[a] > 1;
    if (inS && inX) return inAcc ? 'b' : 'k';
    if (inAcc) return inS ? 'm' : inX ? 'n' : '?';
    return inS || inX ? '?' : '1';
  };
  for (int64_t a = 0; a < acc.getRank(); ++a) {
    int64_t extent = std::max({acc.getShape()[a], s.getShape()[a], x.getShape()[a]});
    for (BufType t : {acc, s, x})
      if (t.getShape()[a] != 1 && t.getShape()[a] != extent)
        return emitOpError() << "extents of axis " << a << " differ: " << acc << ", " << s << ", " << x;
    if (role(a) == '?') return emitOpError() << "axis " << a << " stands in one operand only: " << acc << ", " << s << ", " << x;
  }
  auto fits = [&](BufType t, StringRef roles) { return t.partExtent() == 1 || roles.contains(role(t.getPart())); };
  if (!fits(acc, "m")) return emitOpError() << "acc's partition axis must be an axis of s alone: " << acc;
  if (!fits(x, "k")) return emitOpError() << "x must have a contracted axis on partitions: " << x;
  if (!fits(s, "km")) return emitOpError() << "s must have a contracted axis or an axis of acc on partitions: " << s;
  return success();
}

LogicalResult MapOp::verify() {
  MapKind kind = getKind();
  StringRef word = stringifyMapKind(kind);
  size_t arity = kind == MapKind::k_select ? 3 : kind < MapKind::k_neg ? 2 : 1;
  size_t given = getSrcs().size() + getImms().size();
  if (given != arity) return emitOpError() << word << " takes " << arity << " sources, not " << given;
  if (getImms().size() != getImmAt().size()) return emitOpError("needs one place for each number");
  for (auto [i, at] : llvm::enumerate(getImmAt()))
    if (at < 0 || at >= int64_t(arity) || (i && at <= getImmAt()[i - 1])) return emitOpError("places of numbers must ascend within the sources");
  BufType dst = buf(getDst());
  for (Value v : getSrcs()) {
    BufType src = buf(v);
    if (failed(sameRank(*this, {dst, src})) || failed(checkPart(*this, dst, src))) return failure();
    for (int64_t a = 0; a < dst.getRank(); ++a) {
      bool free = a != dst.getPart() || dst.partExtent() == 1;
      if (src.getShape()[a] != dst.getShape()[a] && !(src.getShape()[a] == 1 && free))
        return emitOpError() << "axis " << a << " of " << src << " does not broadcast to " << dst;
    }
  }
  bool compares = kind >= MapKind::k_eq && kind <= MapKind::k_ge;
  if (compares && isFloat(dst)) return emitOpError() << word << " gives ui8 or i32, not " << dst;
  return success();
}

LogicalResult CastOp::verify() {
  if (failed(sameShape(*this, buf(getDst()), buf(getSrc())))) return failure();
  return checkPart(*this, buf(getDst()), buf(getSrc()));
}

LogicalResult MaskOp::verify() {
  if (failed(sameShape(*this, buf(getDst()), buf(getSrc()))) || failed(checkPart(*this, buf(getDst()), buf(getSrc())))) return failure();
  return checkAffine(*this, buf(getDst()), getAxes(), getIvs(), getCoef());
}

LogicalResult ReduceOp::verify() {
  BufType dst = buf(getDst()), src = buf(getSrc());
  if (failed(sameRank(*this, {dst, src})) || failed(checkPart(*this, dst, src))) return failure();
  bool arg = getKind() == ReduceKind::k_argmax || getKind() == ReduceKind::k_argmin;
  if (arg && (getAccumulate() || !dst.getElementType().isSignlessInteger(32)))
    return emitOpError() << stringifyReduceKind(getKind()) << " gives i32 and cannot accumulate";
  for (int64_t a = 0; a < dst.getRank(); ++a) {
    if (dst.getShape()[a] == src.getShape()[a]) continue;
    if (dst.getShape()[a] != 1) return emitOpError() << "axis " << a << " of " << src << " does not reduce to " << dst;
    if (a == src.getPart()) return emitOpError() << "cannot reduce the partition axis of " << src;
  }
  return success();
}

LogicalResult TransposeOp::verify() {
  BufType dst = buf(getDst()), src = buf(getSrc());
  if (dst.getSpace() != Space::Acc) return emitOpError() << "dst must be in acc, not " << dst;
  if (isFloat(dst) != isFloat(src)) return emitOpError() << "floats give f32, integers i32: " << dst << " and " << src;
  return sameShape(*this, dst, src);
}

LogicalResult tile::ScanOp::verify() {
  BufType dst = buf(getDst()), src = buf(getSrc());
  if (failed(sameShape(*this, dst, src)) || failed(checkPart(*this, dst, src))) return failure();
  return checkFreeAxis(*this, src, getAxis());
}

LogicalResult tile::TopKOp::verify() {
  BufType values = buf(getValues()), indices = buf(getIndices()), src = buf(getSrc());
  if (failed(sameShape(*this, values, indices)) || failed(sameRank(*this, {values, src})) || failed(checkPart(*this, values, src)) ||
      failed(checkPart(*this, indices, src)) || failed(checkFreeAxis(*this, src, getAxis())))
    return failure();
  if (!indices.getElementType().isSignlessInteger(32)) return emitOpError() << "indices must be i32, not " << indices;
  for (int64_t a = 0; a < src.getRank(); ++a)
    if (values.getShape()[a] > src.getShape()[a] || (a != int64_t(getAxis()) && values.getShape()[a] != src.getShape()[a]))
      return emitOpError() << values << " does not fit " << src << " off the axis " << getAxis();
  return success();
}

LogicalResult ShuffleOp::verify() {
  BufType dst = buf(getDst()), src = buf(getSrc()), idx = buf(getIdx());
  if (failed(sameShape(*this, dst, idx)) || failed(sameRank(*this, {dst, src})) || failed(checkPart(*this, dst, src)) ||
      failed(checkPart(*this, idx, src)) || failed(checkFreeAxis(*this, src, getAxis())))
    return failure();
  if (!idx.getElementType().isSignlessInteger(32)) return emitOpError() << "indices must be i32, not " << idx;
  for (int64_t a = 0; a < src.getRank(); ++a)
    if (a != int64_t(getAxis()) && dst.getShape()[a] != src.getShape()[a])
      return emitOpError() << dst << " and " << src << " differ off the axis " << getAxis();
  return success();
}

//===-- C surface -----------------------------------------------------------------------------===//

extern "C" {
MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Tile, tile, kiln::tile::TileDialect)

// Null when the type breaks a rule (the reason goes to the context's diagnostics).
MlirType kilnBufTypeGet(MlirContext ctx, intptr_t rank, const int64_t *shape, MlirType element, uint32_t space, int64_t part) {
  auto error = mlir::detail::getDefaultDiagnosticEmitFn(UnknownLoc::get(unwrap(ctx)));
  return wrap(Type(BufType::getChecked(error, unwrap(ctx), ArrayRef<int64_t>(shape, rank), unwrap(element), Space(space), part)));
}
bool kilnTypeIsABuf(MlirType t) { return isa<BufType>(unwrap(t)); }
intptr_t kilnBufTypeGetRank(MlirType t) { return cast<BufType>(unwrap(t)).getRank(); }
int64_t kilnBufTypeGetDim(MlirType t, intptr_t i) { return cast<BufType>(unwrap(t)).getShape()[i]; }
MlirType kilnBufTypeGetElement(MlirType t) { return wrap(cast<BufType>(unwrap(t)).getElementType()); }
uint32_t kilnBufTypeGetSpace(MlirType t) { return uint32_t(cast<BufType>(unwrap(t)).getSpace()); }
int64_t kilnBufTypeGetPart(MlirType t) { return cast<BufType>(unwrap(t)).getPart(); }
}
