//! Rust passes behind MLIR's pass objects, pipelines, and mlir-opt's main.

#![allow(unsafe_code)]

use super::{Op, OwnedOp, RawContext, collect_text, registry, str_ref, to_string};
use crate::context::Context;
use crate::module::Module;
use crate::pass::{self, Pass, PassInfo};
use bytes::BytesMut;
use mlir_sys::*;
use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;

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
