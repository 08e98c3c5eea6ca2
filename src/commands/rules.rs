//! `kiln rules`: the rewrite rules of the algebra, and which of them fire on a model.

use super::model_args::ModelArgs;
use crate::{
    error::{Error, exit},
    survey::{Survey, survey},
};
use kiln_passes::algebra::RULES;
use serde_json::json;
use std::path::{Path, PathBuf};

/// List the rewrite rules: name, grade, equation and condition; or which of them fire on models.
#[derive(clap::Args)]
pub struct Args {
    /// Tell for each of these models which rules fire, and what repeats in it.
    models: Vec<PathBuf>,
    #[command(flatten)]
    compile: ModelArgs,
    /// One JSON object a rule, or a model.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    if args.models.is_empty() {
        list(args.json);
    }
    for model in &args.models {
        let found = survey(&mut args.compile.options(model.clone())?)?;
        if args.json {
            println!("{}", json(model, &found));
        } else {
            print(model, &found);
        }
    }
    Ok(exit::OK)
}

fn list(as_json: bool) {
    for rule in RULES {
        let (right, when) = (rule.right.text(), rule.when.text);
        if as_json {
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
}

/// The model's folder, or its file.
pub(super) fn name(model: &Path) -> String {
    model.file_name().unwrap_or(model.as_os_str()).to_string_lossy().into_owned()
}

fn print(model: &Path, found: &Survey) {
    let report = &found.algebra;
    print!("{}: {} nodes", name(model), found.nodes);
    for repeated in &report.repeated {
        print!(", {} times {}", repeated.instances, repeated.nodes);
    }
    println!("; cost {} to {}, at least {}", report.cost_before, report.cost, report.lower_bound);
    for rule in RULES {
        if let Some(fired) = report.fired.get(rule.name).filter(|f| f.times > 0) {
            println!("  {:20}{:5}", rule.name, fired.times);
        }
    }
}

fn json(model: &Path, found: &Survey) -> serde_json::Value {
    let report = &found.algebra;
    let repeated: Vec<_> =
        report.repeated.iter().map(|r| json!({ "nodes": r.nodes, "instances": r.instances })).collect();
    let fired: serde_json::Map<_, _> = RULES
        .iter()
        .filter_map(|rule| Some((rule, report.fired.get(rule.name).filter(|f| f.times > 0)?)))
        .map(|(rule, fired)| (rule.name.to_string(), json!(fired.times)))
        .collect();
    json!({
        "model": name(model), "nodes": found.nodes, "repeated": repeated, "fired": fired, "terms": report.terms,
        "cost_before": report.cost_before, "cost": report.cost, "lower_bound": report.lower_bound,
    })
}
