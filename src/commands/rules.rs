//! `kiln rules`: the rewrite rules of the algebra.

use crate::error::{Error, exit};
use kiln_passes::algebra::RULES;
use serde_json::json;

/// List the rewrite rules: name, grade, equation and condition.
#[derive(clap::Args)]
pub struct Args {
    /// One JSON object a rule.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    for rule in RULES {
        let (right, when) = (rule.right.text(), rule.when.text);
        if args.json {
            let object = json!({
                "name": rule.name, "grade": rule.grade.to_string(), "left": rule.left, "right": right, "when": when,
                "doc": rule.doc,
            });
            println!("{object}");
            continue;
        }
        let when = if when.is_empty() { String::new() } else { format!("  when {when}") };
        println!("{:26} {}  {} => {right}{when}", rule.name, rule.grade, rule.left);
    }
    Ok(exit::OK)
}
