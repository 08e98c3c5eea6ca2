//! The page of targets, written from the table of keys.

use std::fmt::Write as _;

use super::{KEYS, PRESETS, Target, Unit};

/// The page `docs/targets.md`.
pub fn manual() -> String {
    let presets: Vec<(&str, Option<Target>)> =
        PRESETS.iter().map(|(n, _)| (*n, Target::preset(n).ok())).collect();
    let mut text = String::from(MANUAL_PREFACE);
    let names: Vec<&str> = presets.iter().map(|p| p.0).collect();
    let _ = writeln!(text, "| key | {} | bounds | meaning |", names.join(" | "));
    let _ = writeln!(text, "|---|{}---|---|", "---:|".repeat(presets.len()));
    for k in KEYS {
        let values: Vec<String> = presets
            .iter()
            .map(|(_, t)| {
                t.as_ref().and_then(|t| t.get(k.name)).map_or_else(String::new, |v| in_units(k.unit, v))
            })
            .collect();
        let doc: Vec<&str> = k.doc.lines().map(str::trim).collect();
        let bounds = format!("{} to {} ({})", in_units(k.unit, k.min), in_units(k.unit, k.max), k.reason);
        let _ = writeln!(text, "| `{}` | {} | {bounds} | {} |", k.name, values.join(" | "), doc.join(" "));
    }
    text
}

const MANUAL_PREFACE: &str = "\
# Targets

Written from the table in `backend/machine/src/target.rs` by `cargo test -p kiln-machine`; do not edit. After a change,
`KILN_BLESS=1 cargo test -p kiln-machine manual` rewrites this page.

A target is a TOML file of these keys (`--target my.toml`), all of them, or `base = \"core\"` and those that differ;
`--set key=value` changes one for a run. Values are whole numbers, or strings with a unit: `64K`, `2MiB`, `1.2GHz`,
`68GB/s`, `200ns`, `4pJ`, `3W`. The presets give the reason of each number in `backend/machine/targets/`.

";

/// A value in the largest unit that leaves it whole.
fn in_units(unit: Unit, value: u64) -> String {
    let units: &[(u64, &str)] = match unit {
        Unit::Bytes => &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")],
        Unit::Hertz => &[(1_000_000_000, "GHz"), (1_000_000, "MHz"), (1_000, "kHz"), (1, "Hz")],
        Unit::BytesPerSecond => &[(1_000_000_000, "GB/s"), (1_000_000, "MB/s"), (1_000, "kB/s"), (1, "B/s")],
        Unit::Nanoseconds => &[(1_000_000, "ms"), (1_000, "us"), (1, "ns")],
        Unit::Femtojoule => &[(1_000_000, "nJ"), (1_000, "pJ"), (1, "fJ")],
        Unit::Milliwatt => &[(1_000, "W"), (1, "mW")],
        Unit::Flag => return if value == 0 { "no" } else { "yes" }.to_owned(),
        Unit::Count | Unit::Cycles => return value.to_string(),
    };
    // One decimal place is whole enough to read: 1.2 GHz.
    match units.iter().find(|(size, _)| value >= *size && (value * 10).is_multiple_of(*size)) {
        Some((size, name)) if value.is_multiple_of(*size) => format!("{} {name}", value / size),
        Some((size, name)) => format!("{}.{} {name}", value / size, value * 10 / size % 10),
        None => format!("{value}"),
    }
}
