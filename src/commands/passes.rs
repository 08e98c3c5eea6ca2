//! `kiln passes`: the passes in the order of the default pipeline, and what they do not model.

use super::{model_args::ModelArgs, rules::name};
use crate::{
    error::{Error, exit},
    survey::survey,
};
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf};

/// List the passes in the order of the default pipeline, with their options.
#[derive(clap::Args)]
pub struct Args {
    /// Tell for each of these models which ops the algebra takes as they are, with their ONNX nodes.
    #[arg(long, value_name = "MODEL", num_args = 1..)]
    coverage: Vec<PathBuf>,
    #[command(flatten)]
    compile: ModelArgs,
    /// One JSON object a pass, or a model.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    if args.coverage.is_empty() {
        list(args.json);
    }
    for model in &args.coverage {
        let found = survey(&mut args.compile.options(model.clone())?)?;
        let mut ops: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for opaque in &found.opaque {
            ops.entry(opaque.op).or_default().push(opaque.origin.join(", "));
        }
        if args.json {
            println!("{}", json!({ "model": name(model), "nodes": found.nodes, "opaque": ops }));
            continue;
        }
        println!("{}: {} nodes, {} opaque", name(model), found.nodes, found.opaque.len());
        for (op, origins) in ops {
            println!("  {op:20}{:5}  {}", origins.len(), origins[0]);
        }
    }
    Ok(exit::OK)
}

fn list(as_json: bool) {
    for pass in kiln_passes::registry() {
        if as_json {
            let options: Vec<_> = pass
                .options
                .iter()
                .map(|o| json!({ "name": o.name, "default": o.default, "description": o.description }))
                .collect();
            println!("{}", json!({ "name": pass.name, "description": pass.description, "options": options }));
            continue;
        }
        println!("{:18} {}", pass.name, pass.description);
        for option in pass.options {
            println!("{:18}   {}={}  {}", "", option.name, option.default, option.description);
        }
    }
}
