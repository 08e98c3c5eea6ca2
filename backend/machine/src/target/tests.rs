//! Presets, values, messages.

use super::*;

#[test]
fn presets_are_whole_and_distinct() {
    let (edge, core) = (Target::preset("edge").unwrap(), Target::preset("core").unwrap());
    assert_eq!((core.spm_partition_bytes(), core.acc_bank_entries()), (192 << 10, 512));
    assert_eq!((edge.spm_partition_bytes(), edge.acc_bank_entries()), (32 << 10, 256));
    assert_ne!(edge.digest(), core.digest());
    for target in [&edge, &core] {
        // One exp for every 2·d MACs of attention at d = 64 must not be the bottleneck of the array.
        let macs = target.partitions * target.partitions * target.mxu_bf16_macs_per_4_cycles / 4;
        let exps = target.act_lanes * target.mxu_clock_div;
        assert!(exps * 2 * 64 * 2 >= macs * target.act_clock_div, "{}", target.name);
    }
}

#[test]
fn values_take_units() {
    let mut t = Target::preset("edge").unwrap();
    t.set("spm_bytes", "64K").unwrap();
    assert_eq!(t.spm_bytes, 65536);
    t.set("base_clock_hz", "1.2GHz").unwrap();
    assert_eq!(t.base_clock_hz, 1_200_000_000);
    t.set("has_ldwt", "false").unwrap();
    assert_eq!(t.has_ldwt, 0);
    t.set_all([("partitions", "32"), ("spm_bytes", "1MiB"), ("row_groups", "1")]).unwrap();
    assert_eq!(t.spm_partition_bytes(), 32 << 10);
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    let mut t = Target::preset("edge").unwrap();
    let before = t.clone();
    let mut error = |key, value| t.set(key, value).unwrap_err().to_string();
    assert_eq!(error("spm_byts", "1"), "no key `spm_byts`");
    assert_eq!(error("spm_bytes", "2 parsecs"), "spm_bytes = 2 parsecs: unknown unit `parsecs`");
    assert_eq!(error("spm_bytes", "0.0001K"), "spm_bytes = 0.0001K: does not come out whole");
    assert_eq!(error("spm_bytes", "99999999999999999999"), "spm_bytes = 99999999999999999999: not a number");
    assert_eq!(error("dma_queues", "17"), "dma_queues = 17: must be 1 to 16");
    assert!(error("partitions", "48").contains("does not divide into 48 partitions"));
    assert!(error("row_groups", "3").contains("bands of 1, 2 or 4"));
    assert_eq!(t, before);
}

#[test]
fn files_start_from_a_preset_or_give_everything() {
    let t = Target::from_toml("mine", "base = \"core\"\nspm_bytes = \"12MiB\"\nhas_mmax = true").unwrap();
    assert_eq!((t.name.as_str(), t.spm_bytes, t.has_mmax), ("mine", 12 << 20, 1));
    let missing = Target::from_toml("mine", "spm_bytes = 65536").unwrap_err();
    assert!(missing.to_string().starts_with("missing keys: base_clock_hz, mxu_clock_div"));
    assert!(matches!(Target::from_toml("mine", "spm_bytes = ["), Err(TargetError::Toml { .. })));
    assert!(matches!(Target::from_toml("mine", "base = 3"), Err(TargetError::Value { .. })));
    assert!(matches!(Target::load("nowhere"), Err(TargetError::Unknown { .. })));
    assert!(matches!(Target::load("nowhere.toml"), Err(TargetError::Read { .. })));
    for (name, _) in PRESETS {
        let t = Target::preset(name).unwrap();
        assert_eq!(Target::from_toml("copy", &t.canonical()).unwrap().digest(), t.digest());
    }
}

#[test]
fn the_manual_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/targets.md");
    if std::env::var_os("KILN_BLESS").is_some() {
        std::fs::write(path, manual()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == manual(),
        "docs/targets.md is stale; run KILN_BLESS=1 cargo test -p kiln-machine manual"
    );
}
