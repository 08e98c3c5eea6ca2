//! The default order of the passes over `nn`, with the reason for each place.

use std::collections::BTreeMap;

use kiln_ir::{IrError, Module, pass};
use kiln_machine::target::Target;

use crate::algebra::{self, AlgebraError, Grade, Weights};
use crate::registry::registry;

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: Target,
    pub grade: Grade,
    pub weights: Weights,
    /// For a group that did not fit, which of its next choices to take.
    pub retries: BTreeMap<String, u32>,
}

/// What the passes over `nn` did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub algebra: algebra::Report,
}

/// Why the passes over `nn` stopped: always a fault of ours.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PassesError {
    #[error(transparent)]
    Ir(#[from] IrError),
    #[error(transparent)]
    Algebra(#[from] AlgebraError),
}

impl PassesError {
    /// Stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            PassesError::Ir(e) => e.code(),
            PassesError::Algebra(_) => "passes::algebra",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            PassesError::Ir(e) => e.help(),
            PassesError::Algebra(_) => {
                "this is a fault of the compiler; `--grade e0` may avoid it, please report it"
            }
        }
    }
}

/// Before algebra: nothing is computed twice, no constant is computed at run time, and every product
/// is a contraction (a convolution is one over views) and every lookup a gather, so that one rule table serves all.
pub const BEFORE_ALGEBRA: &str = "cse,fold-constants,conv-to-contract,decompose-indexing,cse";

/// After algebra: positional copies that only differed by name are one again.
pub const AFTER_ALGEBRA: &str = "cse";

/// Runs the passes over `nn` on function `main`, verifying after each.
///
/// # Errors
/// Internal faults.
pub fn optimise(module: &mut Module, options: &Options) -> Result<Report, PassesError> {
    prepare(module)?;
    rewrite(module, options)
}

/// The passes before algebra: what is left then is what the machine must be able to run.
///
/// # Errors
/// Internal faults.
pub fn prepare(module: &mut Module) -> Result<(), PassesError> {
    pass::register(registry());
    pass::run_pipeline(module, BEFORE_ALGEBRA)?;
    Ok(())
}

/// Algebra and what follows it, on a prepared module.
///
/// # Errors
/// Internal faults.
pub fn rewrite(module: &mut Module, options: &Options) -> Result<Report, PassesError> {
    pass::register(registry());
    let report = algebra::run(module, algebra::Options { grade: options.grade, weights: options.weights })?;
    module.verify()?;
    pass::run_pipeline(module, AFTER_ALGEBRA)?;
    Ok(Report { algebra: report })
}
