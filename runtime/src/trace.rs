//! Traces in Perfetto's format, which <https://ui.perfetto.dev> opens: a track for each engine with a slice for each
//! instruction on its unit, arrows along the semaphores, and counters of DRAM bandwidth and live scratchpad bytes.
//!
//! A slice is named by its instruction and the first of its ONNX nodes; all nodes are its category, the whole
//! instruction is an argument. The format is protobuf (`perfetto/trace/trace_packet.proto`); the few messages needed are
//! written here by their field numbers. A track's slices may not overlap, but instructions on one unit do (a product
//! drains while the next one streams), so a slice ends at the latest where the next one of its track begins.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use kiln_machine::isa::{Engine, Inst};
use kiln_machine::program::{Program, Segment, Stream};
use kiln_machine::target::Target;

use crate::report::{Report, TraceEvent};

/// The kinds of a track event.
const SLICE_BEGIN: u64 = 1;
const SLICE_END: u64 = 2;
const COUNTER: u64 = 4;
/// All packets are of one writer.
const SEQUENCE: u64 = 1;

/// The report's [`trace`](Report::trace) and [`timeline`](Report::timeline) as a file for Perfetto; time is in
/// nanoseconds of the machine.
pub fn perfetto(program: &Program, target: &Target, report: &Report) -> Vec<u8> {
    let mut tracks: BTreeMap<(u8, Engine), Vec<usize>> = BTreeMap::new();
    for (number, event) in report.trace.iter().enumerate() {
        tracks.entry((event.core, event.engine)).or_default().push(number);
    }
    let nanoseconds = |ticks: u64| {
        let scaled = u128::from(ticks) * 1_000_000_000 / u128::from(target.base_clock_hz.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    // Which way an arrow points is decided by time alone, so those within a nanosecond are left out.
    let start = |number: usize| nanoseconds(report.trace[number].start);
    let mut flows: Vec<(Vec<u64>, Vec<u64>)> = vec![Default::default(); report.trace.len()];
    for (number, flow) in report.timeline.flows.iter().enumerate() {
        if start(flow.from) < start(flow.to) {
            flows[flow.from].0.push(number as u64 + 1);
            flows[flow.to].1.push(number as u64 + 1);
        }
    }
    let mut file = Vec::new();
    let mut names = Names { program, known: IndexMap::new() };
    let mut track = 0;
    for ((core, engine), numbers) in &tracks {
        track += 1;
        let mut descriptor = Message::default();
        let name = if *core == 0 { engine.to_string() } else { format!("{engine} of core {core}") };
        descriptor.number(1, track).text(2, &name);
        describe_track(&mut file, &descriptor);
        for (i, number) in numbers.iter().enumerate() {
            let event = &report.trace[*number];
            let next = numbers.get(i + 1).map_or(u64::MAX, |next| report.trace[*next].start);
            let Name { name, nodes, instruction } = names.of(event);
            let mut argument = Message::default();
            argument.text(10, "instruction").text(6, instruction);
            let mut begin = Message::default();
            begin
                .number(9, SLICE_BEGIN)
                .number(11, track)
                .text(22, nodes)
                .text(23, name)
                .message(4, &argument);
            let (leaving, arriving) = &flows[*number];
            leaving.iter().for_each(|flow| begin.fixed(47, *flow));
            arriving.iter().for_each(|flow| begin.fixed(48, *flow));
            let mut end = Message::default();
            end.number(9, SLICE_END).number(11, track);
            for (tick, slice) in [(event.start, begin), (event.end.min(next).max(event.start), end)] {
                track_event(&mut file, nanoseconds(tick), &slice);
            }
        }
    }
    let timeline = &report.timeline;
    let counters = [
        ("DRAM", "bytes/s", &timeline.dram_bytes_per_second),
        ("live scratchpad", "bytes", &timeline.spm_bytes),
    ];
    for (name, unit, values) in counters.into_iter().filter(|(_, _, values)| !values.is_empty()) {
        track += 1;
        let mut counter = Message::default();
        counter.text(6, unit);
        let mut descriptor = Message::default();
        descriptor.number(1, track).text(2, name).message(8, &counter);
        describe_track(&mut file, &descriptor);
        for (tick, value) in values {
            let mut event = Message::default();
            event.number(9, COUNTER).number(11, track).number(30, *value);
            track_event(&mut file, nanoseconds(*tick), &event);
        }
    }
    file
}

fn describe_track(file: &mut Vec<u8>, descriptor: &Message) {
    let mut packet = Message::default();
    packet.number(10, SEQUENCE).message(60, descriptor);
    packet.write(file);
}

fn track_event(file: &mut Vec<u8>, nanoseconds: u64, event: &Message) {
    let mut packet = Message::default();
    packet.number(8, nanoseconds).number(10, SEQUENCE).message(11, event);
    packet.write(file);
}

/// What a slice is called.
#[derive(Clone, Default)]
struct Name {
    name: String,
    nodes: String,
    instruction: String,
}

/// The names of instructions, each worked out once.
struct Names<'a> {
    program: &'a Program,
    known: IndexMap<(u32, u8, Engine, u32), Name>,
}

impl Names<'_> {
    fn of(&mut self, event: &TraceEvent) -> &Name {
        let program = self.program;
        let key = (event.segment, event.core, event.engine, event.pc);
        self.known.entry(key).or_insert_with(|| describe(program, event))
    }
}

fn describe(program: &Program, event: &TraceEvent) -> Name {
    let Some(Segment::Device(segment)) = program.segments.get(event.segment as usize) else {
        return Name::default();
    };
    let streams = segment.of_core(event.core);
    let Some(Stream { words, origins, .. }) = streams.and_then(|streams| streams.get(&event.engine)) else {
        return Name::default();
    };
    let inst = words.get(event.pc as usize..).and_then(|words| Inst::decode(words).ok());
    let (mnemonic, instruction) =
        inst.map_or_else(Default::default, |(inst, _)| (inst.mnemonic(), inst.to_string()));
    let range = origins.iter().find(|range| (range.start..range.end).contains(&event.pc));
    let shares = range.iter().flat_map(|range| &range.shares);
    let nodes: Vec<&str> =
        shares.filter_map(|share| program.origins.get(share.origin as usize)).map(String::as_str).collect();
    // An origin is a node's name and its type; a node without a name has only that.
    let first = nodes.first().map(|node| match node.split_once('|') {
        Some(("", kind)) => kind,
        Some((name, _)) => name,
        None => node,
    });
    let name = match first {
        Some(node) => format!("{mnemonic} {node}"),
        None => mnemonic.to_owned(),
    };
    Name { name, nodes: nodes.join(", "), instruction }
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, field: u64, value: u64) -> &mut Self {
        varint(&mut self.0, field << 3);
        varint(&mut self.0, value);
        self
    }

    /// Eight bytes whatever the value.
    fn fixed(&mut self, field: u64, value: u64) {
        varint(&mut self.0, field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        varint(&mut self.0, field << 3 | 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(&mut self, field: u64, message: &Message) -> &mut Self {
        self.bytes(field, &message.0)
    }

    /// Append it to a file as a packet.
    fn write(&self, file: &mut Vec<u8>) {
        let mut trace = Message::default();
        trace.bytes(1, &self.0);
        file.append(&mut trace.0);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
