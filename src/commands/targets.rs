//! `kiln targets`: the presets, or every number of one target.

use super::model_args::{load_target, pair};
use crate::error::{Error, exit};
use kiln_machine::isa::Dt;
use kiln_machine::target::{KEYS, PRESETS, Peaks, Target};
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
            object.insert("peaks".into(), derived_json(&target));
            println!("{}", Value::Object(object));
        } else if args.target.is_some() {
            println!("# {}", target.name);
            print!("{}", derived(&target));
            for key in KEYS {
                let doc = key.doc.lines().map(str::trim).collect::<Vec<_>>().join(" ");
                println!("{} = {}  # {}", key.name, target.get(key.name).unwrap_or_default(), doc.trim());
            }
        } else {
            let mhz = target.base_clock_hz / target.mxu_clock_div / 1_000_000;
            println!(
                "{:6} {}{p}×{p} array at {mhz} MHz, SPM {}, ACC {}, DRAM {} at {} GB/s, {} DMA queues",
                target.name,
                if target.cores > 1 { format!("{} cores of ", target.cores) } else { String::new() },
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

/// Peak rates and balances of one core, as comments of the TOML that follows.
fn derived(target: &Target) -> String {
    let peaks = Peaks::of(target);
    let tera = |rate: u64| rate as f64 / 1e12;
    let tops: Vec<String> =
        peaks.macs.iter().map(|(dt, macs)| format!("{dt} {:.1}", 2.0 * tera(*macs))).collect();
    let ridge = |dt| peaks.ridge_tenths(dt) as f64 / 10.0;
    let mut text = format!("# peak TOPS (a MAC is two operations): {}", tops.join(", "));
    if target.cores > 1 {
        text += &format!(", on each of {} cores", target.cores);
    }
    text += &format!(
        "\n# DRAM for one core: {} GB/s; array and DRAM balance at {:.1} MACs a byte in f32, {:.1} in bf16\n",
        peaks.dram_bytes / 1_000_000_000,
        ridge(Dt::F32),
        ridge(Dt::Bf16),
    );
    text += &format!(
        "# VEC {:.3} T elements/s, ACT {:.3} T exp/s\n",
        tera(peaks.vec_elements),
        tera(peaks.act_elements)
    );
    text + &format!(
        "# attention in bf16 (an exp for 2·d MACs): exp keeps up from heads of d = {}; {:.2} times what d = 64 needs\n",
        peaks.least_head(Dt::Bf16),
        peaks.exp_slack_hundredths(Dt::Bf16, 64) as f64 / 100.0,
    )
}

/// The same for programs.
fn derived_json(target: &Target) -> Value {
    let peaks = Peaks::of(target);
    let macs: Map<String, Value> =
        peaks.macs.iter().map(|(dt, macs)| (dt.to_string(), json!(macs))).collect();
    json!({
        "macs_per_second": macs,
        "vec_elements_per_second": peaks.vec_elements,
        "act_elements_per_second": peaks.act_elements,
        "dram_bytes_per_second_of_a_core": peaks.dram_bytes,
        "ridge_macs_per_byte_bf16": peaks.ridge_tenths(Dt::Bf16) as f64 / 10.0,
        "least_attention_head_bf16": peaks.least_head(Dt::Bf16),
        "exp_slack_d64_bf16": peaks.exp_slack_hundredths(Dt::Bf16, 64) as f64 / 100.0,
    })
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
