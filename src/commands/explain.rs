//! `kiln explain MODEL`: what each group of a compiled model does, what it was planned to cost and what it took.

use super::{model_args::ModelArgs, targets::bytes};
use crate::{
    compile::{Compiled, compile},
    error::{Error, exit},
};
use kiln_backend::GroupWords;
use kiln_machine::{
    isa::{Engine, Inst},
    program::Segment,
};
use kiln_runtime::TraceEvent;
use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

/// Say for each group of a compiled model which ONNX nodes it computes, its loops and buffers, what it was planned to
/// cost and what it took in the simulator.
#[derive(clap::Args)]
pub struct Args {
    /// An ONNX file, or a folder with model.onnx.
    model: PathBuf,
    #[command(flatten)]
    compile: ModelArgs,
    /// Only groups that compute an ONNX node whose name contains this.
    #[arg(long, value_name = "TEXT")]
    node: Option<String>,
    /// Only the N groups that took longest, longest first.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Print loops, buffers and transfers too.
    #[arg(long)]
    schedule: bool,
    /// Print the first N instructions of each group too, by their start, with the cycles of start and end.
    #[arg(long, value_name = "N", conflicts_with = "planned")]
    events: Option<usize>,
    /// Do not simulate: planned figures only.
    #[arg(long)]
    planned: bool,
}

/// Names of the resources in [`kiln_passes::lower::GroupReport::busy`].
const RESOURCES: [&str; 5] = ["mxu", "vec", "act", "queues", "dram"];

pub fn run(args: &Args) -> Result<u8, Error> {
    let mut options = args.compile.options(args.model.clone())?;
    let chosen = options.choose_unbound_dims()?;
    let compiled = compile(&options)?;
    if !chosen.is_empty() {
        let dims: Vec<String> = chosen.iter().map(|(name, value)| format!("{name}={value}")).collect();
        println!("Dimensions chosen here (--dim NAME=N changes them): {}", dims.join(", "));
    }
    let trace = if args.planned { Vec::new() } else { compiled.trace()? };
    let spans = (!args.planned).then(|| spans(&compiled, &trace));
    print!("{}", table(args, &compiled, spans.as_deref(), &trace));
    Ok(exit::OK)
}

/// What the simulator saw of a group.
#[derive(Clone, Debug, Default)]
struct Span {
    /// Tick at which its last instruction ended.
    end: u64,
    /// Ticks by engine in which an instruction of it was under way; several of a queue may overlap.
    busy: BTreeMap<Engine, u64>,
}

/// The group that an instruction belongs to, counted over all device segments.
fn group_of(compiled: &Compiled, event: &TraceEvent) -> Option<usize> {
    let is_device = |s: &&Segment| matches!(s, Segment::Device(_));
    let number = compiled.program.segments.iter().take(event.segment as usize).filter(is_device).count();
    let all = &compiled.stats.emitted.group_words;
    let groups = |words: &GroupWords| words.values().map(Vec::len).max().unwrap_or(0);
    let before: usize = all.iter().take(number).map(groups).sum();
    let ranges = all.get(number)?.get(&event.engine)?;
    let group = ranges.partition_point(|&(_, end)| end <= event.pc);
    (group < ranges.len()).then_some(before + group)
}

fn spans(compiled: &Compiled, trace: &[TraceEvent]) -> Vec<Span> {
    let mut spans = vec![Span::default(); compiled.stats.lowered.groups.len()];
    let mut until: BTreeMap<Engine, u64> = BTreeMap::new();
    for event in trace {
        if let Some(span) = group_of(compiled, event).and_then(|group| spans.get_mut(group)) {
            let until = until.entry(event.engine).or_default();
            let start = event.start.max(*until);
            *until = event.end.max(*until);
            *span.busy.entry(event.engine).or_default() += event.end.saturating_sub(start);
            span.end = span.end.max(event.end);
        }
    }
    spans
}

/// The first instructions of a group in order of their start.
fn events(compiled: &Compiled, group: usize, trace: &[TraceEvent], most: usize, text: &mut String) {
    let in_group = |event: &&TraceEvent| group_of(compiled, event) == Some(group);
    let mut events: Vec<&TraceEvent> = trace.iter().filter(in_group).collect();
    events.sort_by_key(|e| (e.start, e.engine));
    for event in events.into_iter().take(most) {
        let stream = match compiled.program.segments.get(event.segment as usize) {
            Some(Segment::Device(device)) => device.streams.get(&event.engine),
            _ => None,
        };
        let inst = stream.and_then(|s| Inst::decode(&s.words[event.pc as usize..]).ok());
        let inst = inst.map_or_else(String::new, |(inst, _)| inst.to_string());
        let cycles = |ticks: u64| ticks / compiled.target.mxu_clock_div.max(1);
        let engine = event.engine.to_string();
        let _ = writeln!(text, "  {:>9} {:>9} {engine:<4} {inst}", cycles(event.start), cycles(event.end));
    }
}

fn table(args: &Args, compiled: &Compiled, spans: Option<&[Span]>, trace: &[TraceEvent]) -> String {
    let groups = &compiled.stats.lowered.groups;
    let cycles = |ticks: u64| ticks / compiled.target.mxu_clock_div.max(1);
    // A group is charged from the end of all before it: transfers made ahead of time cost it nothing.
    let mut end = 0;
    let took: Vec<u64> = (0..groups.len())
        .map(|g| {
            let before = end;
            end = spans.map_or(end, |s| end.max(s[g].end));
            end - before
        })
        .collect();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    if let Some(text) = &args.node {
        order.retain(|&g| groups[g].origin.iter().any(|o| o.contains(text)));
    }
    if let Some(top) = args.top {
        let time = |g: usize| if spans.is_some() { took[g] } else { groups[g].ticks };
        order.sort_by_key(|&g| (std::cmp::Reverse(time(g)), g));
        order.truncate(top);
    }
    let mut text = String::new();
    for g in order {
        let group = &groups[g];
        let _ = write!(text, "{}: planned {} cycles", group.name, cycles(group.ticks));
        if spans.is_some() {
            let _ = write!(text, ", took {}", cycles(took[g]));
        }
        let seen: Vec<String> = spans
            .map(|s| s[g].busy.iter().map(|(e, t)| format!("{e} {}", cycles(*t))).collect())
            .unwrap_or_default();
        let busy: Vec<String> =
            RESOURCES.iter().zip(group.busy).map(|(name, t)| format!("{name} {}", cycles(t))).collect();
        let _ = writeln!(
            text,
            " ({}); DRAM {} of {} compulsory; SPM {}, ACC {} a partition",
            busy.join(", "),
            bytes(group.planned_bytes),
            bytes(group.compulsory_bytes),
            bytes(group.spm_bytes),
            bytes(group.acc_bytes),
        );
        if !seen.is_empty() {
            let _ = writeln!(text, "  under way: {}", seen.join(", "));
        }
        let _ = writeln!(text, "  {}", group.origin.join(", "));
        if args.schedule {
            text.push_str(&group.schedule);
        }
        if let Some(most) = args.events {
            events(compiled, g, trace, most, &mut text);
        }
    }
    let planned: u64 = groups.iter().map(|g| g.ticks).sum();
    let _ = write!(text, "{} groups: planned {} cycles", groups.len(), cycles(planned));
    if spans.is_some() {
        let _ = write!(text, ", took {}", cycles(end));
    }
    let _ = writeln!(text, ", bound {}", compiled.stats.bound.cycles);
    text
}
