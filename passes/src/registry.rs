//! The passes over `nn`, as MLIR's pass manager knows them.

use kiln_ir::Module;
use kiln_ir::pass::{OptionInfo, Pass, PassError, PassInfo};

use crate::algebra::{self, Weights};
use crate::conv_to_contract::conv_to_contract;
use crate::decompose_indexing::decompose_indexing;
use crate::fold_constants::fold_constants;
use crate::lower::lower;
use kiln_machine::target::Target;

/// All passes, in the order of the default pipeline. Names are verbs; pass `fold-constants` lives in
/// `fold_constants.rs` and its golden is `testsuite/golden/passes/fold-constants.mlir`.
pub fn registry() -> &'static [PassInfo] {
    PASSES
}

#[rustfmt::skip] // a table
const PASSES: &[PassInfo] = &[
    PassInfo {
        name: "fold-constants",
        description: "Evaluate what depends on small constants only",
        options: &[OptionInfo { name: "limit", description: "largest result in elements", default: "4096" }],
        create: || Box::new(FoldConstants { limit: 4096 }),
    },
    PassInfo {
        name: "conv-to-contract",
        description: "Write convolutions as views and contractions",
        options: &[],
        create: || Box::new(ConvToContract),
    },
    PassInfo {
        name: "decompose-indexing",
        description: "Write index tuples and scatters as lookups and selections",
        options: &[],
        create: || Box::new(DecomposeIndexing),
    },
    PassInfo {
        name: "algebra",
        description: "Rewrite the program over named axes by the rule table and extract the cheapest equal one",
        options: &[
            OptionInfo { name: "grade", description: "what rules may change in the numbers: e0, e1, e2 or e3", default: "e1" },
            OptionInfo { name: "weights", description: "`rewritten` where it saves work, or `by-reference`", default: "rewritten" },
        ],
        create: || Box::new(Algebra(algebra::Options::default())),
    },
    PassInfo {
        name: "group-and-tile",
        description: "Merge ops into groups, tile each for a target, and write them as a `tile.program`",
        options: &[
            OptionInfo { name: "target", description: "a preset or the path of a .toml file", default: "core" },
            OptionInfo { name: "spm-bytes", description: "scratchpad of the target, its own when empty", default: "" },
        ],
        create: || Box::new(GroupAndTile { target: "core".into(), spm_bytes: String::new() }),
    },
];

struct FoldConstants {
    limit: usize,
}

impl Pass for FoldConstants {
    fn set_option(&mut self, _: &str, value: &str) -> Result<(), String> {
        self.limit = value.parse().map_err(|_| format!("`{value}` is no number of elements"))?;
        Ok(())
    }

    fn run(&mut self, module: &mut Module) -> Result<(), PassError> {
        Ok(fold_constants(module, self.limit)?)
    }
}

struct ConvToContract;

impl Pass for ConvToContract {
    fn run(&mut self, module: &mut Module) -> Result<(), PassError> {
        Ok(conv_to_contract(module)?)
    }
}

struct DecomposeIndexing;

impl Pass for DecomposeIndexing {
    fn run(&mut self, module: &mut Module) -> Result<(), PassError> {
        Ok(decompose_indexing(module)?)
    }
}

struct Algebra(algebra::Options);

impl Pass for Algebra {
    fn set_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        match (name, value) {
            ("grade", _) => self.0.grade = value.parse()?,
            (_, "rewritten") => self.0.weights = Weights::Rewritten,
            (_, "by-reference") => self.0.weights = Weights::ByReference,
            _ => return Err(format!("`{value}` is neither `rewritten` nor `by-reference`")),
        }
        Ok(())
    }

    fn run(&mut self, module: &mut Module) -> Result<(), PassError> {
        algebra::run(module, self.0)?;
        Ok(())
    }
}

struct GroupAndTile {
    target: String,
    spm_bytes: String,
}

impl Pass for GroupAndTile {
    fn set_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "target" => self.target = value.to_string(),
            _ => self.spm_bytes = value.to_string(),
        }
        Ok(())
    }

    fn run(&mut self, module: &mut Module) -> Result<(), PassError> {
        let mut target = Target::load(&self.target)?;
        if !self.spm_bytes.is_empty() {
            target.set("spm_bytes", &self.spm_bytes)?;
        }
        lower(module, &target)?;
        Ok(())
    }
}
