//! `kiln targets`: the presets, or every number of one target.

use super::model_args::{load_target, pair};
use crate::error::{Error, exit};
use kiln_machine::target::{KEYS, PRESETS};
use serde_json::{Map, Value, json};

/// List the targets, or show every number of one.
///
/// A target is a TOML file; `base = "core"` starts from a preset and changes some keys.
#[derive(clap::Args)]
pub struct Args {
    /// A preset or a TOML file to show; all presets without it.
    target: Option<String>,
    /// Change a value before showing, e.g. spm_bytes=64K.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// One JSON object a target.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<u8, Error> {
    let names: Vec<&str> = match &args.target {
        Some(name) => vec![name],
        None => PRESETS.iter().map(|(name, _)| *name).collect(),
    };
    for name in names {
        let target = load_target(name, &args.set)?;
        if args.json {
            let mut object = Map::from_iter([("name".to_string(), json!(target.name))]);
            object.extend(KEYS.iter().map(|key| (key.name.to_string(), json!(target.get(key.name)))));
            println!("{}", Value::Object(object));
        } else if args.target.is_some() {
            println!("# {}", target.name);
            for key in KEYS {
                let doc = key.doc.lines().map(str::trim).collect::<Vec<_>>().join(" ");
                println!("{} = {}  # {}", key.name, target.get(key.name).unwrap_or_default(), doc.trim());
            }
        } else {
            let mhz = target.base_clock_hz / target.mxu_clock_div / 1_000_000;
            println!(
                "{:6} {p}×{p} array at {mhz} MHz, SPM {}, ACC {}, DRAM {} at {} GB/s, {} DMA queues",
                target.name,
                bytes(target.spm_bytes),
                bytes(target.acc_bytes),
                bytes(target.dram_bytes),
                target.dram_bytes_per_second / 1_000_000_000,
                target.dma_queues,
                p = target.partitions,
            );
        }
    }
    Ok(exit::OK)
}

/// A size in the largest unit of 1024 that keeps it above 1.
pub fn bytes(size: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (size as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 {
        format!("{value} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}
