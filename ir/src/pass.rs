//! Rust passes in MLIR's pass manager: registered by name with options, run by textual pipelines.
//!
//! A pass sees the module as an owned [`Module`] for the time it runs: the trampoline moves the module's body
//! there and back, so a pass may replace the module wholesale, and nothing it keeps can dangle. A panic inside
//! a pass is caught and reported with the pass' name. The verifier runs after every pass.

use crate::context::Context;
use crate::error::{IrError, Result};
use crate::ffi;
use crate::module::Module;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Why a pass fails; its text becomes the diagnostic.
pub type PassError = Box<dyn std::error::Error + Send + Sync>;

/// A pass over a module.
pub trait Pass {
    /// Sets the option called `name`, always called for each declared option before a run.
    ///
    /// # Errors
    /// What is wrong with the value.
    fn set_option(&mut self, name: &str, value: &str) -> std::result::Result<(), String> {
        let _ = value;
        Err(format!("there is no option '{name}'"))
    }

    /// Transforms `module`.
    ///
    /// # Errors
    /// Why it cannot; the pipeline stops.
    fn run(&mut self, module: &mut Module) -> std::result::Result<(), PassError>;
}

/// One option of a pass.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    /// Name in a pipeline: `pass{name=value}`.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Value when none is given.
    pub default: &'static str,
}

/// A row of a pass registry.
#[derive(Clone, Copy, Debug)]
pub struct PassInfo {
    /// Name in a pipeline, a verb with hyphens.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub description: &'static str,
    /// Its options.
    pub options: &'static [OptionInfo],
    /// Makes an instance.
    pub create: fn() -> Box<dyn Pass>,
}

/// Names registered so far; MLIR's registry is global and must not be read while it grows.
static REGISTERED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Makes passes known to pipelines and to [`opt_main`], together with MLIR's own (`cse`, `canonicalize`, …).
/// Registering a name again does nothing.
pub fn register(passes: &'static [PassInfo]) {
    with_registry(|names| {
        for info in passes {
            if names.insert(info.name) {
                ffi::register_pass(info);
            }
        }
    });
}

fn with_registry<T>(work: impl FnOnce(&mut BTreeSet<&'static str>) -> T) -> T {
    // A panic while the lock is held leaves the set as it was, so a poisoned lock is still good.
    let mut names = REGISTERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if names.insert("cse") {
        ffi::register_mlir_passes();
    }
    work(&mut names)
}

/// Runs a pipeline such as `"cse,fold-views{limit=3}"` on a module, verifying after each pass.
///
/// # Errors
/// [`IrError::Pipeline`] when the text names an unknown pass or option, [`IrError::Pass`] with the diagnostics
/// when a pass or the verifier after it fails; the module then holds what the failing pass left.
pub fn run_pipeline(module: &mut Module, pipeline: &str) -> Result<()> {
    let context = module.context().clone();
    context.diagnostics();
    let manager = with_registry(|_| ffi::PassManager::parse(&context.0, pipeline))
        .map_err(|message| IrError::Pipeline { message: message.trim().to_owned() })?;
    if ffi::run_manager(&manager, module) {
        Ok(())
    } else {
        Err(IrError::Pass { message: context.diagnostics() })
    }
}

/// `mlir-opt` with our dialects and the registered passes, as a command: reads, transforms, prints. Gives the
/// exit code. `args[0]` is the tool's name.
pub fn opt_main(args: &[String]) -> i32 {
    with_registry(|_| ());
    ffi::opt_main(args)
}

/// What a run of a pass does with the module it was lent; called by the trampoline.
pub(crate) fn run_guarded(
    pass: &mut dyn Pass,
    name: &str,
    module: &mut Module,
) -> std::result::Result<(), String> {
    let run = std::panic::AssertUnwindSafe(|| pass.run(module));
    match std::panic::catch_unwind(run) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("pass '{name}': {error}")),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(format!("internal error: pass '{name}' panicked: {text}"))
        }
    }
}

/// A context for modules that a pass sees.
pub(crate) fn context_of(raw: ffi::RawContext) -> Context {
    Context(std::rc::Rc::new(raw))
}
