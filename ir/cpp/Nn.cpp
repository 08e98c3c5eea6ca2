// The dialect `nn`: registration, type inference, verifiers and folders that ODS cannot state.
#include "Nn.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallBitVector.h"
#include "mlir/CAPI/Registration.h"
using namespace mlir;
using namespace kiln;
using namespace kiln::nn;

#include "NnDialect.cpp.inc"
#include "Kinds.cpp.inc"
#define GET_OP_CLASSES
#include "NnOps.cpp.inc"

extern "C" { MLIR_DEFINE_CAPI_DIALECT_REGISTRATION(Nn, nn, kiln::nn::NnDialect) }

void NnDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "NnOps.cpp.inc"
      >();
}

//===-- dialect attributes on modules and functions -------------------------------------------===//

static LogicalResult verifyPort(Operation *op, NamedAttribute attr) {
  if (attr.getName() == "nn.name" && isa<StringAttr>(attr.getValue())) return success();
  if (attr.getName() == "nn.host_type" && isa<TypeAttr>(attr.getValue())) return success();
  if (attr.getName() == "nn.range") {
    auto range = dyn_cast<DenseI64ArrayAttr>(attr.getValue());
    if (range && range.size() == 2 && range[0] <= range[1]) return success();
    return op->emitError("'nn.range' must be array<i64: lo, hi> with lo <= hi");
  }
  return op->emitError() << "bad attribute '" << attr.getName() << "'";
}
LogicalResult NnDialect::verifyOperationAttribute(Operation *op, NamedAttribute attr) {
  if (attr.getName() != "nn.files") return verifyPort(op, attr);
  auto files = dyn_cast<ArrayAttr>(attr.getValue());
  if (!files || !llvm::all_of(files, [](Attribute a) { return isa<StringAttr>(a); }))
    return op->emitError("'nn.files' must be an array of strings");
  return success();
}
LogicalResult NnDialect::verifyRegionArgAttribute(Operation *op, unsigned, unsigned, NamedAttribute attr) {
  return verifyPort(op, attr);
}
LogicalResult NnDialect::verifyRegionResultAttribute(Operation *op, unsigned, unsigned, NamedAttribute attr) {
  return verifyPort(op, attr);
}

//===-- rules shared by inference and verification --------------------------------------------===//

namespace {
using Shape = SmallVector<int64_t>;
using Err = function_ref<InFlightDiagnostic()>;

RankedTensorType ranked(Value v) { return cast<RankedTensorType>(v.getType()); }
bool isFloat(Type t) { return isa<FloatType>(t); }
bool isBool(Type t) { return t.isInteger(1); }
bool isInt(Type t) { return isa<IntegerType>(t) && !isBool(t); }

// For inference: an error at `loc` when there is one, silent failure else.
struct Infer {
  std::optional<Location> loc;
  StringRef op;
  template <typename... Args> LogicalResult fail(Args &&...args) const {
    return emitOptionalError(loc, "'", op, "' op ", std::forward<Args>(args)...);
  }
};

LogicalResult checkAxes(Infer in, ArrayRef<int64_t> axes, RankedTensorType type) {
  for (size_t i = 0; i < axes.size(); ++i) {
    if (i && axes[i] <= axes[i - 1]) return in.fail("axes must ascend");
    if (axes[i] < 0 || axes[i] >= type.getRank()) return in.fail("axis ", axes[i], " is no dim of ", type);
  }
  return success();
}
LogicalResult checkAxis(Infer in, int64_t axis, RankedTensorType type) { return checkAxes(in, {axis}, type); }
} // namespace

//===-- leaves --------------------------------------------------------------------------------===//

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }
LogicalResult ConstantOp::verify() {
  if (!isa<DenseElementsAttr>(getValue())) return emitOpError("value must be dense elements");
  return success();
}

static int64_t sizeBytes(RankedTensorType t) {
  return t.getNumElements() * std::max<int64_t>(1, t.getElementTypeBitWidth() / 8);
}
LogicalResult WeightOp::verify() {
  auto type = cast<RankedTensorType>(getType());
  if (int64_t(getLength()) != sizeBytes(type))
    return emitOpError() << type << " needs " << sizeBytes(type) << " bytes, not " << getLength();
  auto module = (*this)->getParentOfType<ModuleOp>();
  auto files = module ? module->getAttrOfType<ArrayAttr>("nn.files") : ArrayAttr();
  if (files && getFile() >= files.size())
    return emitOpError() << "file " << getFile() << " is not among the " << files.size() << " of 'nn.files'";
  return success();
}

LogicalResult IotaOp::verify() { return checkAxis({getLoc(), "nn.iota"}, getAxis(), cast<RankedTensorType>(getType())); }

//===-- elementwise ---------------------------------------------------------------------------===//

LogicalResult MapOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.map"};
  MapKind kind = a.getKind();
  StringRef word = stringifyMapKind(kind);
  size_t arity = kind == MapKind::k_select ? 3 : kind < MapKind::k_neg ? 2 : 1;
  auto inputs = a.getInputs();
  if (inputs.size() != arity) return in.fail(word, " takes ", arity, " operands, not ", inputs.size());
  auto values = inputs.drop_front(kind == MapKind::k_select);
  auto first = ranked(inputs[0]), value = ranked(values[0]);
  for (Value v : inputs)
    if (ranked(v).getShape() != first.getShape()) return in.fail(word, ": shapes differ: ", first, " and ", v.getType());
  for (Value v : values)
    if (v.getType() != Type(value)) return in.fail(word, ": element types differ: ", value, " and ", v.getType());
  Type e = value.getElementType();
  bool fits;
  switch (kind) {
  case MapKind::k_select: fits = isBool(first.getElementType()); break;
  case MapKind::k_eq: case MapKind::k_ne: case MapKind::k_identity: fits = true; break;
  case MapKind::k_and: case MapKind::k_or: case MapKind::k_xor: case MapKind::k_not: fits = !isFloat(e); break;
  case MapKind::k_shl: case MapKind::k_shr: fits = isInt(e); break;
  case MapKind::k_add: case MapKind::k_sub: case MapKind::k_mul: case MapKind::k_div: case MapKind::k_max:
  case MapKind::k_min: case MapKind::k_pow: case MapKind::k_mod: case MapKind::k_fmod: case MapKind::k_lt:
  case MapKind::k_le: case MapKind::k_gt: case MapKind::k_ge: case MapKind::k_neg: case MapKind::k_abs:
  case MapKind::k_sign: case MapKind::k_relu: case MapKind::k_square: fits = !isBool(e); break;
  default: fits = isFloat(e);
  }
  if (!fits) return in.fail(word, " is not defined on ", first);
  bool toBool = (kind >= MapKind::k_eq && kind <= MapKind::k_ge) || kind == MapKind::k_is_nan || kind == MapKind::k_is_inf;
  out.push_back(toBool ? value.clone(IntegerType::get(value.getContext(), 1)) : value);
  return success();
}

OpFoldResult CastOp::fold(FoldAdaptor) { return getOperand().getType() == getType() ? getOperand() : OpFoldResult(); }

//===-- contract, reduce, scan, topk, conv ----------------------------------------------------===//

LogicalResult ContractOp::verify() {
  auto l = ranked(getLhs()), r = ranked(getRhs()), result = cast<RankedTensorType>(getType());
  if (getLhsBatch().size() != getRhsBatch().size()) return emitOpError("batch dims do not pair");
  if (getLhsContract().size() != getRhsContract().size()) return emitOpError("contracted dims do not pair");
  Shape shape;
  auto free = [&](RankedTensorType t, ArrayRef<int64_t> batch, ArrayRef<int64_t> contract, Shape &out) -> LogicalResult {
    llvm::SmallBitVector seen(t.getRank());
    for (int64_t d : llvm::concat<const int64_t>(batch, contract)) {
      if (d >= t.getRank()) return emitOpError() << "dim " << d << " is no dim of " << t;
      if (seen[d]) return emitOpError() << "dim " << d << " of " << t << " is named twice";
      seen.set(d);
    }
    for (int64_t d = 0; d < t.getRank(); ++d)
      if (!seen[d]) out.push_back(t.getDimSize(d));
    return success();
  };
  Shape lf, rf;
  if (failed(free(l, getLhsBatch(), getLhsContract(), lf)) || failed(free(r, getRhsBatch(), getRhsContract(), rf)))
    return failure();
  for (auto [a, b] : llvm::zip_equal(getLhsBatch(), getRhsBatch())) {
    if (l.getDimSize(a) != r.getDimSize(b))
      return emitOpError() << "batch extents differ: " << l.getDimSize(a) << " and " << r.getDimSize(b);
    shape.push_back(l.getDimSize(a));
  }
  for (auto [a, b] : llvm::zip_equal(getLhsContract(), getRhsContract()))
    if (l.getDimSize(a) != r.getDimSize(b))
      return emitOpError() << "contracted extents differ: " << l.getDimSize(a) << " and " << r.getDimSize(b);
  shape.append(lf);
  shape.append(rf);
  if (result.getShape() != ArrayRef(shape))
    return emitOpError() << "result must be " << result.clone(shape) << ", not " << result;
  Type le = l.getElementType(), re = r.getElementType(), e = result.getElementType();
  bool wide = getAcc().isF64() && le.isF64() && re.isF64();
  bool floats = isFloat(le) && isFloat(re) && isFloat(e) && (getAcc().isF32() || wide);
  bool ints = isInt(le) && isInt(re) && isInt(e) && getAcc().isSignlessInteger(32);
  if (!floats && !ints)
    return emitOpError() << "operands " << l << " and " << r << " with accumulator " << getAcc() << " and result "
                         << e << ": floats accumulate in f32 (f64 in f64), integers in i32";
  return success();
}

LogicalResult ReduceOp::inferReturnTypes(MLIRContext *c, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.reduce"};
  auto x = ranked(a.getOperand());
  if (failed(checkAxes(in, a.getAxes(), x))) return failure();
  if (isBool(x.getElementType())) return in.fail("has no meaning on ", x);
  bool arg = a.getKind() == ReduceKind::k_argmax || a.getKind() == ReduceKind::k_argmin;
  if (arg && (a.getAxes().size() != 1 || x.getDimSize(a.getAxes()[0]) == 0))
    return in.fail(stringifyReduceKind(a.getKind()), " takes one axis of at least one element");
  Shape shape;
  for (int64_t d = 0; d < x.getRank(); ++d)
    if (!llvm::is_contained(a.getAxes(), d)) shape.push_back(x.getDimSize(d));
  out.push_back(RankedTensorType::get(shape, arg ? Type(IntegerType::get(c, 32)) : x.getElementType()));
  return success();
}

LogicalResult ScanOp::verify() {
  auto x = ranked(getOperand());
  if (isBool(x.getElementType())) return emitOpError() << "has no meaning on " << x;
  return checkAxis({getLoc(), "nn.scan"}, getAxis(), x);
}

LogicalResult TopKOp::inferReturnTypes(MLIRContext *c, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.topk"};
  auto x = ranked(a.getOperand());
  if (failed(checkAxis(in, a.getAxis(), x))) return failure();
  if (isBool(x.getElementType())) return in.fail("has no meaning on ", x);
  if (int64_t(a.getK()) > x.getDimSize(a.getAxis())) return in.fail("k = ", a.getK(), " exceeds the axis of ", x);
  Shape shape(x.getShape());
  shape[a.getAxis()] = a.getK();
  out.assign({x.clone(shape), RankedTensorType::get(shape, IntegerType::get(c, 32))});
  return success();
}

LogicalResult ConvOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.conv"};
  auto x = ranked(a.getData()), w = ranked(a.getKernel());
  if (x.getElementType() != w.getElementType() || !isFloat(x.getElementType()))
    return in.fail("needs data and kernel of one float type, not ", x, " and ", w);
  if (x.getRank() < 3 || w.getRank() != x.getRank()) return in.fail("data ", x, " and kernel ", w, " must have one rank, at least 3");
  size_t spatial = x.getRank() - 2;
  for (ArrayRef<int64_t> v : {a.getStrides(), a.getPadsLow(), a.getPadsHigh(), a.getDilations()})
    if (v.size() != spatial) return in.fail("strides, pads and dilations must have ", spatial, " entries");
  int64_t groups = a.getGroups();
  if (groups <= 0 || x.getDimSize(1) != w.getDimSize(1) * groups || w.getDimSize(0) % groups)
    return in.fail(groups, " groups do not divide the channels of ", x, " and ", w);
  Shape shape{x.getDimSize(0), w.getDimSize(0)};
  for (size_t d = 0; d < spatial; ++d) {
    if (a.getStrides()[d] <= 0 || a.getDilations()[d] <= 0 || w.getDimSize(d + 2) <= 0)
      return in.fail("strides, dilations and kernel extents must be positive");
    int64_t reach = a.getDilations()[d] * (w.getDimSize(d + 2) - 1) + 1;
    int64_t padded = a.getPadsLow()[d] + x.getDimSize(d + 2) + a.getPadsHigh()[d];
    if (padded < reach) return in.fail("the kernel of ", w, " exceeds the padded ", x);
    shape.push_back((padded - reach) / a.getStrides()[d] + 1);
  }
  out.push_back(x.clone(shape));
  return success();
}

//===-- views ---------------------------------------------------------------------------------===//

OpFoldResult ReshapeOp::fold(FoldAdaptor) {
  if (getOperand().getType() == getType()) return getOperand();
  if (auto inner = getOperand().getDefiningOp<ReshapeOp>()) {
    getOperandMutable().assign(inner.getOperand());
    return getResult();
  }
  return {};
}
LogicalResult ReshapeOp::verify() {
  auto x = ranked(getOperand()), y = cast<RankedTensorType>(getType());
  if (x.getElementType() != y.getElementType()) return emitOpError() << "cannot change the element type of " << x;
  if (x.getNumElements() != y.getNumElements())
    return emitOpError() << "cannot view " << x << " as " << y << ": the numbers of elements differ";
  return success();
}

OpFoldResult TransposeOp::fold(FoldAdaptor) {
  for (auto [i, p] : llvm::enumerate(getPerm()))
    if (int64_t(i) != p) return {};
  return getOperand();
}
LogicalResult TransposeOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.transpose"};
  auto x = ranked(a.getOperand());
  llvm::SmallBitVector seen(x.getRank());
  Shape shape;
  for (int64_t p : a.getPerm()) {
    if (p < 0 || p >= x.getRank() || seen[p]) return in.fail("perm is no permutation of the dims of ", x);
    seen.set(p);
    shape.push_back(x.getDimSize(p));
  }
  if (!seen.all()) return in.fail("perm is no permutation of the dims of ", x);
  out.push_back(x.clone(shape));
  return success();
}

OpFoldResult BroadcastOp::fold(FoldAdaptor) { return getOperand().getType() == getType() ? getOperand() : OpFoldResult(); }
LogicalResult BroadcastOp::verify() {
  auto x = ranked(getOperand()), y = cast<RankedTensorType>(getType());
  if (x.getElementType() != y.getElementType()) return emitOpError() << "cannot change the element type of " << x;
  if (int64_t(getDims().size()) != x.getRank()) return emitOpError() << "dims must name each dim of " << x;
  if (failed(checkAxes({getLoc(), "nn.broadcast"}, getDims(), y))) return failure();
  for (auto [i, d] : llvm::enumerate(getDims()))
    if (x.getDimSize(i) != y.getDimSize(d) && x.getDimSize(i) != 1)
      return emitOpError() << "dim " << i << " of " << x << " cannot become dim " << d << " of " << y;
  return success();
}

OpFoldResult SliceOp::fold(FoldAdaptor) { return getOperand().getType() == getType() ? getOperand() : OpFoldResult(); }
LogicalResult SliceOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.slice"};
  auto x = ranked(a.getOperand());
  size_t rank = x.getRank();
  if (a.getOffsets().size() != rank || a.getSizes().size() != rank || a.getStrides().size() != rank)
    return in.fail("offsets, sizes and strides must have one entry for each dim of ", x);
  for (size_t d = 0; d < rank; ++d) {
    int64_t o = a.getOffsets()[d], n = a.getSizes()[d], s = a.getStrides()[d];
    if (s <= 0) return in.fail("stride of dim ", d, " must be positive");
    int64_t end = n ? o + (n - 1) * s + 1 : o;
    if (o < 0 || n < 0 || end > x.getDimSize(d)) return in.fail("dim ", d, " of ", x, " is read up to ", end);
  }
  out.push_back(x.clone(a.getSizes()));
  return success();
}

LogicalResult PadOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.pad"};
  auto x = ranked(a.getOperand());
  if (int64_t(a.getLow().size()) != x.getRank() || int64_t(a.getHigh().size()) != x.getRank())
    return in.fail("low and high must have one entry for each dim of ", x);
  if (isa<FloatAttr>(a.getValue()) != isFloat(x.getElementType()))
    return in.fail("the value must be of the kind of ", x, ": f64 for floats, i64 else");
  Shape shape;
  for (auto [l, n, h] : llvm::zip_equal(a.getLow(), x.getShape(), a.getHigh())) shape.push_back(l + n + h);
  out.push_back(x.clone(shape));
  return success();
}

OpFoldResult ConcatOp::fold(FoldAdaptor) { return getInputs().size() == 1 ? getInputs()[0] : OpFoldResult(); }
LogicalResult ConcatOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.concat"};
  if (a.getInputs().empty()) return in.fail("takes at least one operand");
  auto first = ranked(a.getInputs()[0]);
  int64_t axis = a.getAxis();
  if (failed(checkAxis(in, axis, first))) return failure();
  Shape shape(first.getShape());
  for (Value v : a.getInputs().drop_front()) {
    auto x = ranked(v);
    bool fits = x.getRank() == first.getRank() && x.getElementType() == first.getElementType();
    for (int64_t d = 0; fits && d < x.getRank(); ++d) fits = d == axis || x.getDimSize(d) == first.getDimSize(d);
    if (!fits) return in.fail(first, " and ", x, " differ off the axis ", axis);
    shape[axis] += x.getDimSize(axis);
  }
  out.push_back(first.clone(shape));
  return success();
}

LogicalResult ReverseOp::verify() { return checkAxes({getLoc(), "nn.reverse"}, getAxes(), ranked(getOperand())); }

//===-- gather and scatter --------------------------------------------------------------------===//

LogicalResult GatherOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  auto x = ranked(a.getData()), indices = ranked(a.getIndices());
  if (failed(checkAxis({loc, "nn.gather"}, a.getAxis(), x))) return failure();
  Shape shape(x.getShape().take_front(a.getAxis()));
  llvm::append_range(shape, indices.getShape());
  llvm::append_range(shape, x.getShape().drop_front(a.getAxis() + 1));
  out.push_back(x.clone(shape));
  return success();
}

static LogicalResult checkElementIndices(Infer in, RankedTensorType x, RankedTensorType indices, int64_t axis) {
  if (failed(checkAxis(in, axis, x))) return failure();
  bool fits = indices.getRank() == x.getRank();
  for (int64_t d = 0; fits && d < x.getRank(); ++d) fits = d == axis || indices.getDimSize(d) <= x.getDimSize(d);
  return fits ? success() : in.fail("indices ", indices, " reach past ", x, " off the axis ", axis);
}

LogicalResult GatherElementsOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  auto x = ranked(a.getData()), indices = ranked(a.getIndices());
  if (failed(checkElementIndices({loc, "nn.gather_elements"}, x, indices, a.getAxis()))) return failure();
  out.push_back(x.clone(indices.getShape()));
  return success();
}

// The shape that updates of the tuples in `indices` have (and a gather of them gives).
static FailureOr<Shape> tupleShape(Infer in, RankedTensorType x, RankedTensorType indices, int64_t batch) {
  if (indices.getRank() == 0) return in.fail("indices must have at least one dim");
  int64_t tuple = indices.getShape().back();
  if (batch >= indices.getRank() || batch + tuple > x.getRank())
    return in.fail(batch, " batch dims and tuples of ", tuple, " exceed ", x);
  if (x.getShape().take_front(batch) != indices.getShape().take_front(batch))
    return in.fail("batch dims of ", x, " and ", indices, " differ");
  Shape shape(indices.getShape().drop_back());
  llvm::append_range(shape, x.getShape().drop_front(batch + tuple));
  return shape;
}

LogicalResult GatherNdOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  auto x = ranked(a.getData());
  auto shape = tupleShape({loc, "nn.gather_nd"}, x, ranked(a.getIndices()), a.getBatchDims());
  if (failed(shape)) return failure();
  out.push_back(x.clone(*shape));
  return success();
}

LogicalResult ScatterNdOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.scatter_nd"};
  auto x = ranked(a.getData()), updates = ranked(a.getUpdates());
  auto shape = tupleShape(in, x, ranked(a.getIndices()), 0);
  if (failed(shape)) return failure();
  if (updates != x.clone(*shape)) return in.fail("updates must be ", x.clone(*shape), ", not ", updates);
  out.push_back(x);
  return success();
}

LogicalResult ScatterElementsOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor a, SmallVectorImpl<Type> &out) {
  Infer in{loc, "nn.scatter_elements"};
  auto x = ranked(a.getData()), indices = ranked(a.getIndices()), updates = ranked(a.getUpdates());
  if (failed(checkElementIndices(in, x, indices, a.getAxis()))) return failure();
  if (updates != x.clone(indices.getShape())) return in.fail("updates must be ", x.clone(indices.getShape()), ", not ", updates);
  out.push_back(x);
  return success();
}
