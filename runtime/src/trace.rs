//! Traces in Perfetto's format, which <https://ui.perfetto.dev> opens: a track for each engine, a slice for each
//! instruction on its unit, named by its mnemonic, with its ONNX nodes as the category.
//!
//! The format is protobuf (`perfetto/trace/trace_packet.proto`); the few messages needed are written here by their
//! field numbers. A track's slices may not overlap, but instructions on one unit do (a product drains while the next one
//! streams), so a slice ends at the latest where the next one of its track begins.

use indexmap::IndexMap;
use kiln_machine::isa::{Engine, Inst};
use kiln_machine::program::{Program, Segment, Stream};
use kiln_machine::target::Target;

use crate::report::{Report, TraceEvent};

/// The kinds of a track event.
const SLICE_BEGIN: u64 = 1;
const SLICE_END: u64 = 2;
/// All packets are of one writer.
const SEQUENCE: u64 = 1;

/// The report's [`trace`](Report::trace) as a file for Perfetto; time is in nanoseconds of the machine.
pub fn perfetto(program: &Program, target: &Target, report: &Report) -> Vec<u8> {
    let mut tracks: IndexMap<Engine, Vec<&TraceEvent>> = IndexMap::new();
    for event in &report.trace {
        tracks.entry(event.engine).or_default().push(event);
    }
    tracks.sort_keys();
    let nanoseconds = |ticks: u64| {
        let scaled = u128::from(ticks) * 1_000_000_000 / u128::from(target.base_clock_hz.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    let mut file = Vec::new();
    for (number, (engine, events)) in tracks.iter().enumerate() {
        let track = number as u64 + 1;
        let mut descriptor = Message::default();
        descriptor.number(1, track).text(2, &engine.to_string());
        let mut packet = Message::default();
        packet.number(10, SEQUENCE).message(60, &descriptor);
        packet.write(&mut file);
        for (i, event) in events.iter().enumerate() {
            let next = events.get(i + 1).map_or(u64::MAX, |next| next.start);
            let (name, nodes) = describe(program, event);
            let mut begin = Message::default();
            begin.number(9, SLICE_BEGIN).number(11, track).text(22, &nodes).text(23, &name);
            let mut end = Message::default();
            end.number(9, SLICE_END).number(11, track);
            for (tick, slice) in [(event.start, begin), (event.end.min(next), end)] {
                let mut packet = Message::default();
                packet.number(8, nanoseconds(tick)).number(10, SEQUENCE).message(11, &slice);
                packet.write(&mut file);
            }
        }
    }
    file
}

/// An event's mnemonic and its ONNX nodes.
fn describe(program: &Program, event: &TraceEvent) -> (String, String) {
    let Some(Segment::Device(segment)) = program.segments.get(event.segment as usize) else {
        return Default::default();
    };
    let Some(Stream { words, origins, .. }) = segment.streams.get(&event.engine) else {
        return Default::default();
    };
    let inst = words.get(event.pc as usize..).and_then(|words| Inst::decode(words).ok());
    let name = inst.map_or_else(String::new, |(inst, _)| inst.mnemonic().to_owned());
    let range = origins.iter().find(|range| (range.start..range.end).contains(&event.pc));
    let shares = range.iter().flat_map(|range| &range.shares);
    let nodes: Vec<&str> =
        shares.filter_map(|share| program.origins.get(share.origin as usize)).map(String::as_str).collect();
    (name, nodes.join(", "))
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
