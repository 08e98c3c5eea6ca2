//! The one place that touches MLIR's C interface: contexts, attributes, ops, printing, parsing.
//!
//! Everything is `pub(crate)` and works on handles ([`Op`], [`Block`], [`Value`]) that are valid while
//! the module or detached op they came from lives and does not erase them. The rest of the crate keeps
//! to two habits that make this sound: a handle is never stored beyond the borrow of its owner
//! (`Module` reads into owned snapshots at once; a builder owns the op it builds in), and nothing erases
//! single ops. Other crates never see a handle.

#![allow(unsafe_code)]

use crate::context::Context;
use crate::module::Module;
use crate::origin::Origin;
use crate::pass::{self, Pass, PassInfo};
use crate::tile::{BufType, Space};
use crate::types::{DType, TensorType};
use bytes::{Bytes, BytesMut};
use mlir_sys::*;
use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;

unsafe extern "C" {
    fn mlirGetDialectHandle__nn__() -> MlirDialectHandle;
    fn mlirGetDialectHandle__tile__() -> MlirDialectHandle;
    fn kilnBufTypeGet(
        ctx: MlirContext,
        rank: isize,
        shape: *const i64,
        element: MlirType,
        space: u32,
        part: i64,
    ) -> MlirType;
    fn kilnTypeIsABuf(ty: MlirType) -> bool;
    fn kilnBufTypeGetRank(ty: MlirType) -> isize;
    fn kilnBufTypeGetDim(ty: MlirType, axis: isize) -> i64;
    fn kilnBufTypeGetElement(ty: MlirType) -> MlirType;
    fn kilnBufTypeGetSpace(ty: MlirType) -> u32;
    fn kilnBufTypeGetPart(ty: MlirType) -> i64;
}

// ---- strings -----------------------------------------------------------------------------------

/// Borrows `text` for one call into MLIR.
pub(crate) fn str_ref(text: &str) -> MlirStringRef {
    MlirStringRef { data: text.as_ptr().cast(), length: text.len() }
}

fn bytes_ref(bytes: &[u8]) -> MlirStringRef {
    MlirStringRef { data: bytes.as_ptr().cast(), length: bytes.len() }
}

/// Copies text that MLIR owns.
pub(crate) fn to_string(text: MlirStringRef) -> String {
    if text.length == 0 {
        return String::new();
    }
    // SAFETY: MLIR's string refs point to `length` readable bytes for the time of the call we are in.
    let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.length) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// A callback that appends to the `Vec<u8>` behind `data`.
unsafe extern "C" fn append(text: MlirStringRef, data: *mut c_void) {
    if text.length > 0 {
        // SAFETY: every caller here passes a pointer to a live `Vec<u8>`, and MLIR a readable string.
        let (out, bytes) = unsafe {
            (&mut *data.cast::<Vec<u8>>(), std::slice::from_raw_parts(text.data.cast::<u8>(), text.length))
        };
        out.extend_from_slice(bytes);
    }
}

/// Collects what `call` prints through MLIR's string callback.
fn collect(call: impl FnOnce(MlirStringCallback, *mut c_void)) -> Vec<u8> {
    let mut out = Vec::<u8>::new();
    call(Some(append), (&raw mut out).cast());
    out
}

fn collect_text(call: impl FnOnce(MlirStringCallback, *mut c_void)) -> String {
    String::from_utf8_lossy(&collect(call)).into_owned()
}

// ---- contexts ----------------------------------------------------------------------------------

enum Owner {
    /// Ours, destroyed with the last clone.
    Own(#[allow(dead_code, reason = "held for its drop")] melior::Context),
    /// Someone else's (mlir-opt's) for the time of one pass.
    Lent,
}

/// An MLIR context with our dialects; see [`crate::Context`].
pub(crate) struct RawContext {
    raw: MlirContext,
    _owner: Owner,
    diagnostics: Rc<RefCell<Vec<String>>>,
}

/// A registry with the dialects of Kiln and the ones it uses.
pub(crate) fn registry() -> melior::dialect::DialectRegistry {
    use melior::dialect::DialectHandle;
    let registry = melior::dialect::DialectRegistry::new();
    DialectHandle::func().insert_dialect(&registry);
    // SAFETY: the handles are static data of the shim.
    for handle in unsafe { [mlirGetDialectHandle__nn__(), mlirGetDialectHandle__tile__()] } {
        unsafe { DialectHandle::from_raw(handle) }.insert_dialect(&registry);
    }
    registry
}

impl RawContext {
    /// A new context, single-threaded, whose diagnostics are kept for [`RawContext::take_diagnostics`].
    pub(crate) fn new() -> Self {
        let context = melior::Context::new_with_registry(&registry(), false);
        context.load_all_available_dialects();
        let diagnostics = Rc::new(RefCell::new(Vec::new()));
        let sink = diagnostics.clone();
        context.attach_diagnostic_handler(move |diagnostic| {
            sink.borrow_mut().push(describe(&diagnostic));
            true
        });
        RawContext { raw: context.to_raw(), _owner: Owner::Own(context), diagnostics }
    }

    /// A context that `op` lives in, owned elsewhere. Its diagnostics go where its owner sends them.
    pub(crate) fn lent(op: Op) -> Self {
        // SAFETY: `op` is alive, so its context is.
        let raw = unsafe { mlirOperationGetContext(op.0) };
        RawContext { raw, _owner: Owner::Lent, diagnostics: Rc::default() }
    }

    /// True when `op` lives in this context.
    pub(crate) fn holds(&self, op: Op) -> bool {
        // SAFETY: both contexts are alive.
        unsafe { mlirContextEqual(self.raw, mlirOperationGetContext(op.0)) }
    }

    /// The diagnostics since the last call, one an entry, with location and severity.
    pub(crate) fn take_diagnostics(&self) -> Vec<String> {
        std::mem::take(&mut self.diagnostics.borrow_mut())
    }
}

fn describe(diagnostic: &melior::diagnostic::Diagnostic) -> String {
    use melior::diagnostic::DiagnosticSeverity;
    let severity = match diagnostic.severity() {
        DiagnosticSeverity::Error => "error",
        DiagnosticSeverity::Warning => "warning",
        DiagnosticSeverity::Note => "note",
        DiagnosticSeverity::Remark => "remark",
    };
    let location = diagnostic.location().to_string();
    let place = location.strip_prefix("loc(").and_then(|l| l.strip_suffix(')')).unwrap_or(&location);
    let mut text = format!("{}: {severity}: {diagnostic}", place.replace('"', ""));
    for note in (0..diagnostic.note_count()).filter_map(|i| diagnostic.note(i).ok()) {
        let note = note.to_string();
        // MLIR repeats the whole op as a note; that is for a terminal, not for an error value.
        if !note.starts_with("see current operation") {
            text.push_str("\n  ");
            text.push_str(&note);
        }
    }
    text
}

// ---- types and attributes ----------------------------------------------------------------------

/// A type as plain data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ty {
    Tensor(TensorType),
    Buf(BufType),
    Index,
}

/// An attribute as plain data.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attr {
    Unit,
    I32(i64),
    I64(i64),
    F64(f64),
    Dims(Vec<i64>),
    Floats(Vec<f64>),
    Text(String),
    Symbol(String),
    Element(DType),
    TensorType(TensorType),
    List(Vec<Attr>),
    Dict(Vec<(String, Attr)>),
    Dense(TensorType, Bytes),
}

pub(crate) type NamedAttr = (&'static str, Attr);

fn element_type(ctx: MlirContext, dtype: DType) -> MlirType {
    // SAFETY: `ctx` is alive for the call; types live as long as their context.
    unsafe {
        match dtype {
            DType::F32 => mlirF32TypeGet(ctx),
            DType::F16 => mlirF16TypeGet(ctx),
            DType::BF16 => mlirBF16TypeGet(ctx),
            DType::F64 => mlirF64TypeGet(ctx),
            DType::F8E4M3 => mlirFloat8E4M3FNTypeGet(ctx),
            DType::F8E5M2 => mlirFloat8E5M2TypeGet(ctx),
            DType::Bool => mlirIntegerTypeGet(ctx, 1),
            DType::I8 => mlirIntegerTypeGet(ctx, 8),
            DType::I16 => mlirIntegerTypeGet(ctx, 16),
            DType::I32 => mlirIntegerTypeGet(ctx, 32),
            DType::I64 => mlirIntegerTypeGet(ctx, 64),
            DType::U8 => mlirIntegerTypeUnsignedGet(ctx, 8),
            DType::U16 => mlirIntegerTypeUnsignedGet(ctx, 16),
            DType::U32 => mlirIntegerTypeUnsignedGet(ctx, 32),
            DType::U64 => mlirIntegerTypeUnsignedGet(ctx, 64),
        }
    }
}

fn element_of(ty: MlirType) -> Option<DType> {
    // SAFETY: `ty` is a type of a live context.
    unsafe {
        if mlirTypeIsAInteger(ty) {
            let unsigned = mlirIntegerTypeIsUnsigned(ty);
            return Some(match (mlirIntegerTypeGetWidth(ty), unsigned) {
                (1, false) => DType::Bool,
                (8, false) => DType::I8,
                (16, false) => DType::I16,
                (32, false) => DType::I32,
                (64, false) => DType::I64,
                (8, true) => DType::U8,
                (16, true) => DType::U16,
                (32, true) => DType::U32,
                (64, true) => DType::U64,
                _ => return None,
            });
        }
        let tests: [(unsafe extern "C" fn(MlirType) -> bool, DType); 6] = [
            (mlirTypeIsAF32, DType::F32),
            (mlirTypeIsAF16, DType::F16),
            (mlirTypeIsABF16, DType::BF16),
            (mlirTypeIsAF64, DType::F64),
            (mlirTypeIsAFloat8E4M3FN, DType::F8E4M3),
            (mlirTypeIsAFloat8E5M2, DType::F8E5M2),
        ];
        tests.iter().find(|(is, _)| is(ty)).map(|(_, dtype)| *dtype)
    }
}

fn tensor_type(ctx: MlirContext, ty: &TensorType) -> MlirType {
    let shape: Vec<i64> = ty.shape.iter().map(|&d| d as i64).collect();
    // SAFETY: the shape outlives the call; every element type above is legal in a tensor.
    unsafe {
        mlirRankedTensorTypeGet(
            shape.len() as isize,
            shape.as_ptr(),
            element_type(ctx, ty.dtype),
            mlirAttributeGetNull(),
        )
    }
}

/// None for a type that breaks a rule of `!tile.buf`; the reason is in the context's diagnostics.
fn buf_type(ctx: MlirContext, ty: &BufType) -> Option<MlirType> {
    let shape: Vec<i64> = ty.shape.iter().map(|&d| d as i64).collect();
    // SAFETY: the shape outlives the call.
    let raw = unsafe {
        kilnBufTypeGet(
            ctx,
            shape.len() as isize,
            shape.as_ptr(),
            element_type(ctx, ty.dtype),
            ty.space as u32,
            ty.part as i64,
        )
    };
    (!raw.ptr.is_null()).then_some(raw)
}

fn read_buf_type(ty: MlirType) -> Option<BufType> {
    // SAFETY: `ty` is a `!tile.buf` (the caller checked).
    unsafe {
        let dtype = element_of(kilnBufTypeGetElement(ty))?;
        let shape = (0..kilnBufTypeGetRank(ty)).map(|a| kilnBufTypeGetDim(ty, a) as usize).collect();
        let space = Space::from_index(i64::from(kilnBufTypeGetSpace(ty)))?;
        Some(BufType { dtype, shape, space, part: kilnBufTypeGetPart(ty) as usize })
    }
}

fn type_of(ctx: MlirContext, ty: &Ty) -> Option<MlirType> {
    Some(match ty {
        Ty::Tensor(t) => tensor_type(ctx, t),
        Ty::Buf(t) => buf_type(ctx, t)?,
        // SAFETY: `ctx` is alive.
        Ty::Index => unsafe { mlirIndexTypeGet(ctx) },
    })
}

fn types_of(ctx: MlirContext, types: &[Ty]) -> Option<Vec<MlirType>> {
    types.iter().map(|t| type_of(ctx, t)).collect()
}

fn read_type(ty: MlirType) -> Option<Ty> {
    // SAFETY: `ty` is a type of a live context; each accessor is called on the kind of type it is for.
    unsafe {
        if mlirTypeIsARankedTensor(ty) {
            let dtype = element_of(mlirShapedTypeGetElementType(ty))?;
            let shape = (0..mlirShapedTypeGetRank(ty) as isize)
                .map(|d| usize::try_from(mlirShapedTypeGetDimSize(ty, d)).ok())
                .collect::<Option<Vec<_>>>()?;
            return Some(Ty::Tensor(TensorType { dtype, shape }));
        }
        if kilnTypeIsABuf(ty) {
            return read_buf_type(ty).map(Ty::Buf);
        }
        mlirTypeIsAIndex(ty).then_some(Ty::Index)
    }
}

fn identifier(ctx: MlirContext, name: &str) -> MlirIdentifier {
    // SAFETY: `ctx` is alive and copies the name.
    unsafe { mlirIdentifierGet(ctx, str_ref(name)) }
}

fn attribute(ctx: MlirContext, attr: &Attr) -> MlirAttribute {
    // SAFETY: `ctx` is alive; MLIR copies all data passed by pointer.
    unsafe {
        match attr {
            Attr::Unit => mlirUnitAttrGet(ctx),
            Attr::I32(v) => mlirIntegerAttrGet(mlirIntegerTypeGet(ctx, 32), *v),
            Attr::I64(v) => mlirIntegerAttrGet(mlirIntegerTypeGet(ctx, 64), *v),
            Attr::F64(v) => mlirFloatAttrDoubleGet(ctx, mlirF64TypeGet(ctx), *v),
            Attr::Dims(v) => mlirDenseI64ArrayGet(ctx, v.len() as isize, v.as_ptr()),
            Attr::Floats(v) => mlirDenseF64ArrayGet(ctx, v.len() as isize, v.as_ptr()),
            Attr::Text(v) => mlirStringAttrGet(ctx, str_ref(v)),
            Attr::Symbol(v) => mlirFlatSymbolRefAttrGet(ctx, str_ref(v)),
            Attr::Element(dtype) => mlirTypeAttrGet(element_type(ctx, *dtype)),
            Attr::TensorType(ty) => mlirTypeAttrGet(tensor_type(ctx, ty)),
            Attr::List(items) => {
                let items: Vec<_> = items.iter().map(|a| attribute(ctx, a)).collect();
                mlirArrayAttrGet(ctx, items.len() as isize, items.as_ptr())
            }
            Attr::Dict(items) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|(name, a)| mlirNamedAttributeGet(identifier(ctx, name), attribute(ctx, a)))
                    .collect();
                mlirDictionaryAttrGet(ctx, items.len() as isize, items.as_ptr())
            }
            Attr::Dense(ty, bytes) => dense(ctx, ty, bytes),
        }
    }
}

fn dense(ctx: MlirContext, ty: &TensorType, bytes: &[u8]) -> MlirAttribute {
    assert_eq!(bytes.len(), ty.size_bytes(), "inference checked the bytes of {ty}");
    let shaped = tensor_type(ctx, ty);
    if ty.dtype == DType::Bool {
        let bits: Vec<i32> = bytes.iter().map(|&b| i32::from(b != 0)).collect();
        // SAFETY: as many elements as the type has; MLIR copies them.
        return unsafe { mlirDenseElementsAttrBoolGet(shaped, bits.len() as isize, bits.as_ptr()) };
    }
    // SAFETY: `bytes` is a dense array of the type (asserted above); MLIR copies it.
    unsafe { mlirDenseElementsAttrRawBufferGet(shaped, bytes.len(), bytes.as_ptr().cast()) }
}

fn read_dense(attr: MlirAttribute) -> Option<Attr> {
    // SAFETY: `attr` is a dense elements attribute (the caller checked); its data is `elements` (or one,
    // when it is a splat) values of the element type.
    unsafe {
        let Some(Ty::Tensor(ty)) = read_type(mlirAttributeGetType(attr)) else { return None };
        let n = ty.elements();
        if ty.dtype == DType::Bool {
            let bits = (0..n).map(|i| u8::from(mlirDenseElementsAttrGetBoolValue(attr, i as isize)));
            return Some(Attr::Dense(ty, bits.collect::<Vec<u8>>().into()));
        }
        if n == 0 {
            return Some(Attr::Dense(ty, Bytes::new()));
        }
        let size = ty.dtype.size_bytes();
        let stored = if mlirDenseElementsAttrIsSplat(attr) { 1 } else { n };
        let data = mlirDenseElementsAttrGetRawData(attr).cast::<u8>();
        let data = std::slice::from_raw_parts(data, stored * size);
        let bytes = if stored == n { Bytes::copy_from_slice(data) } else { data.repeat(n).into() };
        Some(Attr::Dense(ty, bytes))
    }
}

fn read_attribute(attr: MlirAttribute) -> Option<Attr> {
    // SAFETY: `attr` belongs to a live context; each accessor is guarded by its kind test.
    unsafe {
        if attr.ptr.is_null() {
            return None;
        }
        Some(if mlirAttributeIsAUnit(attr) {
            Attr::Unit
        } else if mlirAttributeIsAInteger(attr) {
            let ty = mlirAttributeGetType(attr);
            if !mlirTypeIsAInteger(ty) {
                return None;
            }
            match mlirIntegerTypeGetWidth(ty) {
                32 => Attr::I32(mlirIntegerAttrGetValueInt(attr)),
                _ => Attr::I64(mlirIntegerAttrGetValueInt(attr)),
            }
        } else if mlirAttributeIsAFloat(attr) {
            Attr::F64(mlirFloatAttrGetValueDouble(attr))
        } else if mlirAttributeIsADenseI64Array(attr) {
            let n = mlirDenseArrayGetNumElements(attr);
            Attr::Dims((0..n).map(|i| mlirDenseI64ArrayGetElement(attr, i)).collect())
        } else if mlirAttributeIsADenseF64Array(attr) {
            let n = mlirDenseArrayGetNumElements(attr);
            Attr::Floats((0..n).map(|i| mlirDenseF64ArrayGetElement(attr, i)).collect())
        } else if mlirAttributeIsAString(attr) {
            Attr::Text(to_string(mlirStringAttrGetValue(attr)))
        } else if mlirAttributeIsAFlatSymbolRef(attr) {
            Attr::Symbol(to_string(mlirFlatSymbolRefAttrGetValue(attr)))
        } else if mlirAttributeIsAType(attr) {
            let ty = mlirTypeAttrGetValue(attr);
            match element_of(ty) {
                Some(dtype) => Attr::Element(dtype),
                None => match read_type(ty)? {
                    Ty::Tensor(ty) => Attr::TensorType(ty),
                    _ => return None,
                },
            }
        } else if mlirAttributeIsAArray(attr) {
            let n = mlirArrayAttrGetNumElements(attr);
            let items = (0..n).map(|i| read_attribute(mlirArrayAttrGetElement(attr, i)));
            Attr::List(items.collect::<Option<_>>()?)
        } else if mlirAttributeIsADictionary(attr) {
            let n = mlirDictionaryAttrGetNumElements(attr);
            let items = (0..n).map(|i| {
                let item = mlirDictionaryAttrGetElement(attr, i);
                Some((to_string(mlirIdentifierStr(item.name)), read_attribute(item.attribute)?))
            });
            Attr::Dict(items.collect::<Option<_>>()?)
        } else if mlirAttributeIsADenseElements(attr) {
            return read_dense(attr);
        } else {
            return None;
        })
    }
}

// ---- locations ---------------------------------------------------------------------------------

fn location(ctx: MlirContext, origin: &Origin) -> MlirLocation {
    // SAFETY: `ctx` is alive; MLIR copies the names.
    unsafe {
        let unknown = mlirLocationUnknownGet(ctx);
        let names: Vec<_> = origin.names().map(|n| mlirLocationNameGet(ctx, str_ref(n), unknown)).collect();
        match names.as_slice() {
            [] => unknown,
            [one] => *one,
            many => mlirLocationFusedGet(ctx, many.len() as isize, many.as_ptr(), mlirAttributeGetNull()),
        }
    }
}

fn collect_names(location: MlirLocation, names: &mut Vec<String>) {
    // SAFETY: `location` belongs to a live context; accessors are guarded by their kind tests.
    unsafe {
        if mlirLocationIsAName(location) {
            names.push(to_string(mlirIdentifierStr(mlirLocationNameGetName(location))));
        } else if mlirLocationIsAFused(location) {
            let n = mlirLocationFusedGetNumLocations(location) as usize;
            let mut parts = vec![MlirLocation { ptr: std::ptr::null() }; n];
            mlirLocationFusedGetLocations(location, parts.as_mut_ptr());
            parts.into_iter().for_each(|part| collect_names(part, names));
        } else if mlirLocationIsACallSite(location) {
            collect_names(mlirLocationCallSiteGetCallee(location), names);
        }
    }
}

// ---- handles -----------------------------------------------------------------------------------

/// A borrowed operation.
#[derive(Clone, Copy)]
pub(crate) struct Op(pub(crate) MlirOperation);

/// A borrowed block.
#[derive(Clone, Copy)]
pub(crate) struct Block(MlirBlock);

/// A borrowed value.
#[derive(Clone, Copy)]
pub(crate) struct Value(MlirValue);

impl Value {
    /// An address that identifies the value while it lives.
    pub(crate) fn key(self) -> usize {
        self.0.ptr as usize
    }

    pub(crate) fn ty(self) -> Option<Ty> {
        // SAFETY: the value is alive (module docs).
        read_type(unsafe { mlirValueGetType(self.0) })
    }
}

// SAFETY (all calls on handles below): the handle's owner is alive and has not erased it; see the module docs.
impl Op {
    pub(crate) fn name(self) -> String {
        to_string(unsafe { mlirIdentifierStr(mlirOperationGetName(self.0)) })
    }

    pub(crate) fn attr(self, name: &str) -> Option<Attr> {
        read_attribute(unsafe { mlirOperationGetAttributeByName(self.0, str_ref(name)) })
    }

    pub(crate) fn set_attr(self, name: &str, attr: &Attr) {
        unsafe {
            let ctx = mlirOperationGetContext(self.0);
            mlirOperationSetAttributeByName(self.0, str_ref(name), attribute(ctx, attr));
        }
    }

    /// Gives `other` the discardable attributes of this op (those that no op definition declares) and no others.
    pub(crate) fn copy_discardable_attrs_to(self, other: Op) {
        unsafe {
            for i in (0..mlirOperationGetNumDiscardableAttributes(other.0)).rev() {
                let item = mlirOperationGetDiscardableAttribute(other.0, i);
                mlirOperationRemoveDiscardableAttributeByName(other.0, mlirIdentifierStr(item.name));
            }
            for i in 0..mlirOperationGetNumDiscardableAttributes(self.0) {
                let item = mlirOperationGetDiscardableAttribute(self.0, i);
                mlirOperationSetDiscardableAttributeByName(
                    other.0,
                    mlirIdentifierStr(item.name),
                    item.attribute,
                );
            }
        }
    }

    pub(crate) fn operands(self) -> Vec<Value> {
        unsafe {
            (0..mlirOperationGetNumOperands(self.0))
                .map(|i| Value(mlirOperationGetOperand(self.0, i)))
                .collect()
        }
    }

    pub(crate) fn results(self) -> Vec<Value> {
        unsafe {
            (0..mlirOperationGetNumResults(self.0))
                .map(|i| Value(mlirOperationGetResult(self.0, i)))
                .collect()
        }
    }

    pub(crate) fn origin(self) -> Origin {
        let mut names = Vec::new();
        collect_names(unsafe { mlirOperationGetLocation(self.0) }, &mut names);
        Origin::from_names(names)
    }

    /// The first block of region `index`, if there is one.
    pub(crate) fn block(self, index: usize) -> Option<Block> {
        unsafe {
            if index as isize >= mlirOperationGetNumRegions(self.0) {
                return None;
            }
            let block = mlirRegionGetFirstBlock(mlirOperationGetRegion(self.0, index as isize));
            (!block.ptr.is_null()).then_some(Block(block))
        }
    }

    /// Moves the blocks of `from`'s region 0 into region 0 of this op, replacing what was there.
    pub(crate) fn take_body(self, from: Op) {
        unsafe { mlirRegionTakeBody(mlirOperationGetRegion(self.0, 0), mlirOperationGetRegion(from.0, 0)) }
    }

    pub(crate) fn verify(self) -> bool {
        unsafe { mlirOperationVerify(self.0) }
    }

    /// Emits an error at this op through the context's diagnostics.
    pub(crate) fn emit_error(self, message: &str) {
        let text = std::ffi::CString::new(message.replace('\0', " ")).unwrap_or_default();
        unsafe { mlirEmitError(mlirOperationGetLocation(self.0), text.as_ptr()) }
    }

    /// The op as text; constants longer than `elide_over` elements become `dense_resource<__elided__>`.
    pub(crate) fn print(self, locations: bool, elide_over: Option<usize>) -> String {
        unsafe {
            let flags = mlirOpPrintingFlagsCreate();
            if locations {
                mlirOpPrintingFlagsEnableDebugInfo(flags, true, false);
            }
            if let Some(n) = elide_over {
                mlirOpPrintingFlagsElideLargeElementsAttrs(flags, n as isize);
            }
            mlirOpPrintingFlagsAssumeVerified(flags);
            let text =
                collect_text(|callback, data| mlirOperationPrintWithFlags(self.0, flags, callback, data));
            mlirOpPrintingFlagsDestroy(flags);
            text
        }
    }

    pub(crate) fn bytecode(self) -> Vec<u8> {
        collect(|callback, data| unsafe { mlirOperationWriteBytecode(self.0, callback, data) })
    }
}

impl Block {
    pub(crate) fn args(self) -> Vec<Value> {
        unsafe {
            (0..mlirBlockGetNumArguments(self.0)).map(|i| Value(mlirBlockGetArgument(self.0, i))).collect()
        }
    }

    pub(crate) fn ops(self) -> Vec<Op> {
        let mut ops = Vec::new();
        unsafe {
            let mut op = mlirBlockGetFirstOperation(self.0);
            while !op.ptr.is_null() {
                ops.push(Op(op));
                op = mlirOperationGetNextInBlock(op);
            }
        }
        ops
    }

    /// Appends an op; the block owns it from now on.
    pub(crate) fn append(self, op: OwnedOp) -> Op {
        let raw = op.release();
        unsafe { mlirBlockAppendOwnedOperation(self.0, raw) };
        Op(raw)
    }

    /// Puts `op` where `old` stands and destroys `old`, which must be in this block.
    pub(crate) fn replace(self, old: Op, op: OwnedOp) -> Op {
        let raw = op.release();
        unsafe {
            mlirBlockInsertOwnedOperationBefore(self.0, old.0, raw);
            mlirOperationDestroy(old.0);
        }
        Op(raw)
    }

    /// Removes and destroys `op`, which must be in this block and unused.
    pub(crate) fn remove(self, op: Op) {
        unsafe { mlirOperationDestroy(op.0) }
    }
}

/// What an op is made of.
pub(crate) struct OpParts<'a> {
    pub(crate) name: &'a str,
    pub(crate) operands: &'a [Value],
    pub(crate) results: &'a [Ty],
    pub(crate) attrs: &'a [NamedAttr],
    /// For each region the types of its one block's arguments.
    pub(crate) regions: &'a [Vec<Ty>],
    pub(crate) origin: &'a Origin,
}

/// A detached operation, destroyed with this unless appended to a block.
pub(crate) struct OwnedOp(MlirOperation);

impl OwnedOp {
    /// Creates an op; `None` when MLIR rejects it (the reason is in the context's diagnostics).
    pub(crate) fn new(context: &RawContext, parts: &OpParts) -> Option<Self> {
        let ctx = context.raw;
        // SAFETY: all arrays outlive `mlirOperationCreate`, which copies them and takes the regions.
        unsafe {
            let loc = location(ctx, parts.origin);
            let mut state = mlirOperationStateGet(str_ref(parts.name), loc);
            let results = types_of(ctx, parts.results)?;
            let blocks = parts.regions.iter().map(|args| types_of(ctx, args)).collect::<Option<Vec<_>>>()?;
            let operands: Vec<_> = parts.operands.iter().map(|v| v.0).collect();
            let attrs: Vec<_> = parts
                .attrs
                .iter()
                .map(|(name, a)| mlirNamedAttributeGet(identifier(ctx, name), attribute(ctx, a)))
                .collect();
            let regions: Vec<_> = blocks
                .iter()
                .map(|types| {
                    let locs = vec![loc; types.len()];
                    let region = mlirRegionCreate();
                    let block = mlirBlockCreate(types.len() as isize, types.as_ptr(), locs.as_ptr());
                    mlirRegionAppendOwnedBlock(region, block);
                    region
                })
                .collect();
            mlirOperationStateAddResults(&mut state, results.len() as isize, results.as_ptr());
            mlirOperationStateAddOperands(&mut state, operands.len() as isize, operands.as_ptr());
            mlirOperationStateAddAttributes(&mut state, attrs.len() as isize, attrs.as_ptr());
            mlirOperationStateAddOwnedRegions(&mut state, regions.len() as isize, regions.as_ptr());
            let raw = mlirOperationCreate(&mut state);
            (!raw.ptr.is_null()).then_some(OwnedOp(raw))
        }
    }

    /// An empty `builtin.module`.
    pub(crate) fn module(context: &RawContext) -> Self {
        // SAFETY: the context is alive.
        OwnedOp(unsafe { mlirModuleGetOperation(mlirModuleCreateEmpty(mlirLocationUnknownGet(context.raw))) })
    }

    /// Parses text or bytecode of one op (a module is put around several); `None` on an error.
    pub(crate) fn parse(context: &RawContext, source: &[u8]) -> Option<Self> {
        // Bytecode wants alignment, text a byte that it may look at past the end.
        let mut aligned = vec![0u128; source.len() / 16 + 1];
        // SAFETY: the buffer holds at least `source.len() + 1` bytes and outlives the call.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(aligned.as_mut_ptr().cast::<u8>(), aligned.len() * 16);
            bytes[..source.len()].copy_from_slice(source);
            let raw = mlirModuleCreateParse(context.raw, bytes_ref(&bytes[..source.len()]));
            if raw.ptr.is_null() { None } else { Some(OwnedOp(mlirModuleGetOperation(raw))) }
        }
    }

    pub(crate) fn get(&self) -> Op {
        Op(self.0)
    }

    /// Sets a function's type.
    pub(crate) fn set_function_type(&self, context: &RawContext, inputs: &[Ty], results: &[Ty]) {
        let ctx = context.raw;
        let (Some(inputs), Some(results)) = (types_of(ctx, inputs), types_of(ctx, results)) else { return };
        // SAFETY: MLIR copies the arrays.
        unsafe {
            let ty = mlirFunctionTypeGet(
                ctx,
                inputs.len() as isize,
                inputs.as_ptr(),
                results.len() as isize,
                results.as_ptr(),
            );
            mlirOperationSetAttributeByName(self.0, str_ref("function_type"), mlirTypeAttrGet(ty));
        }
    }

    fn release(self) -> MlirOperation {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }
}

impl Drop for OwnedOp {
    fn drop(&mut self) {
        // SAFETY: we own the op; nothing else refers to it.
        unsafe { mlirOperationDestroy(self.0) }
    }
}

// ---- passes ------------------------------------------------------------------------------------

#[repr(C)]
struct RawOption {
    name: MlirStringRef,
    description: MlirStringRef,
    value: MlirStringRef,
}

/// The shim's `KilnPass`.
#[repr(C)]
struct RawPass {
    user: *const c_void,
    name: MlirStringRef,
    description: MlirStringRef,
    options: *const RawOption,
    num_options: isize,
    create: extern "C" fn(*const c_void) -> *mut c_void,
    destroy: extern "C" fn(*mut c_void),
    set_option: extern "C" fn(*mut c_void, isize, MlirStringRef, MlirStringCallback, *mut c_void) -> bool,
    run: extern "C" fn(*mut c_void, MlirOperation) -> bool,
}

unsafe extern "C" {
    fn kilnRegisterPass(pass: *const RawPass);
    fn kilnMlirOptMain(
        argc: i32,
        argv: *const *const std::ffi::c_char,
        tool: MlirStringRef,
        registry: MlirDialectRegistry,
    ) -> i32;
}

/// An instance of a Rust pass, behind the pointer that MLIR holds.
struct Instance {
    info: &'static PassInfo,
    pass: Box<dyn Pass>,
}

extern "C" fn create_pass(user: *const c_void) -> *mut c_void {
    // SAFETY: `user` is the `&'static PassInfo` that `register_pass` stored.
    let info = unsafe { &*user.cast::<PassInfo>() };
    Box::into_raw(Box::new(Instance { info, pass: (info.create)() })).cast()
}

extern "C" fn destroy_pass(instance: *mut c_void) {
    // SAFETY: made by `create_pass`, destroyed once by the C++ destructor.
    drop(unsafe { Box::from_raw(instance.cast::<Instance>()) });
}

extern "C" fn set_pass_option(
    instance: *mut c_void,
    index: isize,
    value: MlirStringRef,
    error: MlirStringCallback,
    data: *mut c_void,
) -> bool {
    // SAFETY: made by `create_pass`; MLIR calls one pass object from one thread at a time.
    let instance = unsafe { &mut *instance.cast::<Instance>() };
    let Some(option) = instance.info.options.get(index as usize) else { return false };
    match (instance.pass.set_option(option.name, &to_string(value)), error) {
        (Ok(()), _) => true,
        (Err(reason), Some(callback)) => {
            // SAFETY: the shim's callback copies the text at once.
            unsafe { callback(str_ref(&reason), data) };
            false
        }
        (Err(_), None) => false,
    }
}

extern "C" fn run_pass(instance: *mut c_void, module: MlirOperation) -> bool {
    // SAFETY: as in `set_pass_option`.
    let instance = unsafe { &mut *instance.cast::<Instance>() };
    run_lent(instance, Op(module))
}

/// Moves the body of `op` into an owned module, runs the pass on it, moves the body back.
fn run_lent(instance: &mut Instance, op: Op) -> bool {
    let current = CURRENT.with_borrow(|c| c.as_ref().filter(|(context, _)| context.0.holds(op)).cloned());
    let lent = current.is_none();
    let (context, blob) =
        current.unwrap_or_else(|| (pass::context_of(RawContext::lent(op)), BytesMut::new()));
    let mut module = Module::from_parts(OwnedOp::module(&context.0), &context, blob);
    op.copy_discardable_attrs_to(module.op());
    module.op().take_body(op);
    let mut outcome = pass::run_guarded(&mut *instance.pass, instance.info.name, &mut module);
    if context.0.holds(module.op()) {
        op.take_body(module.op());
        module.op().copy_discardable_attrs_to(op);
    } else {
        outcome = Err(format!("pass '{}' left a module of another context", instance.info.name));
    }
    let blob = module.into_blob();
    if lent {
        // MLIR destroys the context when it likes; a pass that kept a clone of it would dangle.
        if Rc::strong_count(&context.0) != 1 {
            eprintln!("internal error: pass '{}' kept a context that it was lent", instance.info.name);
            std::process::abort();
        }
    } else {
        CURRENT.with_borrow_mut(|c| {
            if let Some((_, kept)) = c {
                *kept = blob;
            }
        });
    }
    if let Err(message) = &outcome {
        op.emit_error(message);
    }
    outcome.is_ok()
}

thread_local! {
    /// Context and in-memory bytes of the module whose pipeline runs on this thread.
    static CURRENT: RefCell<Option<(Context, BytesMut)>> = const { RefCell::new(None) };
}

/// Registers a pass in MLIR's global registry; the caller holds the registry's lock and gives each name once.
pub(crate) fn register_pass(info: &'static PassInfo) {
    let options: Vec<RawOption> = info
        .options
        .iter()
        .map(|o| RawOption {
            name: str_ref(o.name),
            description: str_ref(o.description),
            value: str_ref(o.default),
        })
        .collect();
    let options: &'static [RawOption] = Vec::leak(options);
    let raw = Box::leak(Box::new(RawPass {
        user: (&raw const *info).cast(),
        name: str_ref(info.name),
        description: str_ref(info.description),
        options: options.as_ptr(),
        num_options: options.len() as isize,
        create: create_pass,
        destroy: destroy_pass,
        set_option: set_pass_option,
        run: run_pass,
    }));
    // SAFETY: all of it lives for ever, as the shim demands.
    unsafe { kilnRegisterPass(raw) }
}

/// Registers MLIR's general transformations (`cse`, `canonicalize`, `symbol-dce`, …).
pub(crate) fn register_mlir_passes() {
    // SAFETY: called once, under the registry's lock.
    unsafe { mlirRegisterTransformsPasses() }
}

/// A parsed pipeline.
pub(crate) struct PassManager(MlirPassManager);

impl PassManager {
    /// Parses the elements of a pipeline over `builtin.module`; the error is MLIR's text.
    pub(crate) fn parse(context: &RawContext, pipeline: &str) -> std::result::Result<Self, String> {
        // SAFETY: the context is alive and outlives the manager (its callers hold both).
        unsafe {
            let manager =
                PassManager(mlirPassManagerCreateOnOperation(context.raw, str_ref("builtin.module")));
            mlirPassManagerEnableVerifier(manager.0, true);
            let mut ok = false;
            let message = collect_text(|callback, data| {
                let top = mlirPassManagerGetAsOpPassManager(manager.0);
                ok = mlirOpPassManagerAddPipeline(top, str_ref(pipeline), callback, data).value != 0;
            });
            if ok { Ok(manager) } else { Err(message) }
        }
    }
}

impl Drop for PassManager {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { mlirPassManagerDestroy(self.0) }
    }
}

/// Runs a pipeline on `module`; false when it fails (the reasons are in the context's diagnostics).
pub(crate) fn run_manager(manager: &PassManager, module: &mut Module) -> bool {
    let entry = (module.context().clone(), module.take_blob());
    let outer = CURRENT.with_borrow_mut(|c| c.replace(entry));
    // SAFETY: the module is ours and alive; passes see it through `run_lent` only.
    let ok = unsafe { mlirPassManagerRunOnOp(manager.0, module.op().0).value != 0 };
    let (_, blob) =
        CURRENT.with_borrow_mut(|c| std::mem::replace(c, outer)).unwrap_or_else(|| unreachable!());
    module.put_blob(blob);
    ok
}

/// Runs `mlir-opt` with these arguments.
pub(crate) fn opt_main(args: &[String]) -> i32 {
    let args: Vec<_> =
        args.iter().map(|a| std::ffi::CString::new(a.replace('\0', "")).unwrap_or_default()).collect();
    let mut pointers: Vec<_> = args.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let registry = registry();
    // SAFETY: `argv` is a null-terminated array of C strings; the registry outlives the call.
    unsafe { kilnMlirOptMain(args.len() as i32, pointers.as_ptr(), str_ref("kiln opt\n"), registry.to_raw()) }
}
