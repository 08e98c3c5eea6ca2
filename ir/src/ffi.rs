//! The one place that touches MLIR's C interface: contexts, attributes, ops, printing, parsing.
//!
//! Everything is `pub(crate)` and works on handles ([`Op`], [`Block`], [`Value`]) that are valid while
//! the module or detached op they came from lives and does not erase them. The rest of the crate keeps
//! to two habits that make this sound: a handle is never stored beyond the borrow of its owner
//! (`Module` reads into owned snapshots at once; a builder owns the op it builds in), and nothing erases
//! single ops. Other crates never see a handle.

#![allow(unsafe_code)]

use crate::origin::Origin;
use mlir_sys::*;
use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;

mod attrs;
mod passes;

pub(crate) use attrs::{Attr, NamedAttr, Ty};
use attrs::{attribute, collect_names, identifier, location, read_attribute, read_type, types_of};
pub(crate) use passes::{PassManager, opt_main, register_mlir_passes, register_pass, run_manager};

unsafe extern "C" {
    fn mlirGetDialectHandle__nn__() -> MlirDialectHandle;
    fn mlirGetDialectHandle__tile__() -> MlirDialectHandle;
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
