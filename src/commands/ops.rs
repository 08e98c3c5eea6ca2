//! `kiln ops`: the ONNX operators that can be imported.

use crate::error::{Error, exit};
use kiln_frontend::ops::{NEWEST, TABLE, dtypes_text};
use serde_json::json;

/// List the ONNX operators that can be imported, with their opsets and dtypes.
#[derive(clap::Args)]
pub struct Args {
    /// One JSON object an operator.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    for row in TABLE {
        let until = (row.until != NEWEST).then_some(row.until);
        if args.json {
            let object = json!({
                "domain": row.domain, "name": row.name, "since": row.since, "until": until,
                "dtypes": dtypes_text(row.dtypes), "notes": row.notes,
            });
            println!("{object}");
            continue;
        }
        let name =
            if row.domain.is_empty() { row.name.to_string() } else { format!("{}.{}", row.domain, row.name) };
        let opsets = format!("{}–{}", row.since, until.map(|u| u.to_string()).unwrap_or_default());
        let notes = if row.notes.is_empty() { String::new() } else { format!("  {}", row.notes) };
        println!("{name:28} opset {opsets:6} {}{notes}", dtypes_text(row.dtypes));
    }
    Ok(exit::OK)
}
