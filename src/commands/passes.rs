//! `kiln passes`: the passes in the order of the default pipeline.

use crate::error::{Error, exit};
use serde_json::json;

/// List the passes in the order of the default pipeline, with their options.
#[derive(clap::Args)]
pub struct Args {
    /// One JSON object a pass.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    for pass in kiln_passes::registry() {
        if args.json {
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
    Ok(exit::OK)
}
