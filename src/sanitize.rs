//! What the simulator's sanitizer found, as text and as JSON.

use kiln_runtime::{Finding, Findings, Site};
use serde_json::{Value, json};

/// Findings of one kind that are printed; all are in the JSON.
const PRINTED: usize = 10;

/// The findings as text, faults first; nothing when there are none.
pub fn text(findings: &Findings) -> String {
    let mut text = String::new();
    let (advice, faults): (Vec<&Finding>, Vec<&Finding>) =
        findings.list.iter().partition(|finding| finding.kind.is_advice());
    for (list, what) in [(faults, "fault"), (advice, "advice")] {
        let mut told = std::collections::BTreeMap::new();
        for finding in list {
            let count = told.entry(finding.kind).or_insert(0);
            *count += 1;
            if *count <= PRINTED {
                text += &format!("{what}: {finding}\n  [{}] {}\n", finding.kind.code(), finding.kind.help());
            }
        }
        for (kind, count) in told.into_iter().filter(|(_, count)| *count > PRINTED) {
            text += &format!("{what}: {} more of {}\n", count - PRINTED, kind.code());
        }
    }
    if findings.dropped > 0 {
        text += &format!("{} more findings were not kept\n", findings.dropped);
    }
    if findings.unfollowed > 0 {
        text += &format!(
            "{} gathers and scatters were not followed into DRAM: their indices are values\n",
            findings.unfollowed
        );
    }
    text
}

/// The text, and a line that says how it ended.
pub fn summary(findings: &Findings) -> String {
    let faults = findings.faults().count() as u64 + findings.dropped;
    let advice = findings.list.len() - findings.faults().count();
    let count = |n: u64| if n == 1 { "1 fault".to_owned() } else { format!("{n} faults") };
    format!("{}Sanitizer: {}, {advice} pieces of advice\n", text(findings), count(faults))
}

/// The findings for `--json`.
pub fn json(findings: &Findings) -> Value {
    let site = |site: &Site| {
        json!({
            "core": site.core,
            "engine": site.engine.to_string(),
            "word": site.pc,
            "instruction": site.instruction,
            "origin": site.origin,
        })
    };
    let finding = |finding: &Finding| {
        json!({
            "code": finding.kind.code(),
            "advice": finding.kind.is_advice(),
            "segment": finding.segment,
            "at": site(&finding.site),
            "others": finding.others.iter().map(site).collect::<Vec<_>>(),
            "bytes": finding.bytes.map(|bytes| json!({
                "core": bytes.core,
                "memory": bytes.memory.name(),
                "partitions": [bytes.parts.0, bytes.parts.1],
                "bytes": [bytes.bytes.0, bytes.bytes.1],
            })),
            "detail": finding.detail,
            "times": finding.times,
            "help": finding.kind.help(),
        })
    };
    json!({
        "findings": findings.list.iter().map(finding).collect::<Vec<_>>(),
        "dropped": findings.dropped,
        "unfollowed": findings.unfollowed,
    })
}
