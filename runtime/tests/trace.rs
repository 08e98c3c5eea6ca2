//! Traces for Perfetto, read back by a reader of their own.

mod bench;

use std::collections::BTreeMap;

use bench::{program, target};
use kiln_machine::target::Target;
use kiln_runtime::{Options, Report, Simulator, perfetto};

/// A field's value on the wire.
#[derive(Clone, Debug, PartialEq)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// (field, value) of a message, in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Wire<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Wire::Varint(varint(&mut bytes)),
            1 => {
                let (value, rest) = bytes.split_at(8);
                bytes = rest;
                Wire::Fixed64(u64::from_le_bytes(value.try_into().expect("eight bytes")))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Wire::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn text(message: &[u8], field: u64) -> String {
    let found = fields(message).into_iter().find_map(|(number, value)| match value {
        Wire::Bytes(bytes) if number == field => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn number(message: &[u8], field: u64) -> u64 {
    let found = fields(message).into_iter().find_map(|(number, value)| match value {
        Wire::Varint(value) if number == field => Some(value),
        _ => None,
    });
    found.unwrap_or(0)
}

/// Flow ids in a field; they must be of eight bytes.
fn flows(message: &[u8], field: u64) -> Vec<u64> {
    let of_field = fields(message).into_iter().filter(|(number, _)| *number == field);
    of_field
        .map(|(_, value)| match value {
            Wire::Fixed64(value) => value,
            other => panic!("a flow id on the wire: {other:?}"),
        })
        .collect()
}

#[derive(Clone, Debug, PartialEq)]
struct Slice {
    track: String,
    name: String,
    nodes: String,
    instruction: String,
    begin: u64,
    end: u64,
    leaving: Vec<u64>,
    arriving: Vec<u64>,
}

#[derive(Debug, Default)]
struct Read {
    tracks: Vec<String>,
    slices: Vec<Slice>,
    /// Time and value of each counter.
    counters: BTreeMap<String, Vec<(u64, u64)>>,
}

/// What a file says, checked for what makes a trace one.
fn read(file: &[u8]) -> Read {
    let mut read = Read::default();
    let mut open: Option<Slice> = None;
    for (field, packet) in fields(file) {
        let (1, Wire::Bytes(packet)) = (field, packet) else { panic!("a trace holds packets") };
        assert_eq!(number(packet, 10), 1, "one writer");
        let time = number(packet, 8);
        for (field, value) in fields(packet) {
            let Wire::Bytes(inner) = value else { continue };
            if field == 60 {
                read.tracks.push(text(inner, 2));
                assert_eq!(number(inner, 1), read.tracks.len() as u64, "tracks are numbered");
                continue;
            }
            assert_eq!(field, 11, "a packet describes a track or an event on one");
            let track = read.tracks[number(inner, 11) as usize - 1].clone();
            match number(inner, 9) {
                1 => {
                    assert_eq!(open, None, "slices of a track do not overlap");
                    let argument = fields(inner).into_iter().find_map(|(field, value)| match value {
                        Wire::Bytes(bytes) if field == 4 => Some(bytes),
                        _ => None,
                    });
                    let argument = argument.expect("an argument");
                    assert_eq!(text(argument, 10), "instruction");
                    open = Some(Slice {
                        track,
                        name: text(inner, 23),
                        nodes: text(inner, 22),
                        instruction: text(argument, 6),
                        begin: time,
                        end: 0,
                        leaving: flows(inner, 47),
                        arriving: flows(inner, 48),
                    });
                }
                2 => {
                    let slice = open.take().expect("a slice is open");
                    assert_eq!(slice.track, track);
                    assert!(time >= slice.begin);
                    read.slices.push(Slice { end: time, ..slice });
                }
                4 => read.counters.entry(track).or_default().push((time, number(inner, 30))),
                other => panic!("event of kind {other}"),
            }
        }
    }
    assert_eq!(open, None);
    read
}

fn trace(text: &str, target: &Target, options: Options) -> (Read, Report) {
    let program = program(text, target);
    let options = Options { timing_only: true, trace: true, ..options };
    let mut simulator = Simulator::new(&program, target, options).expect("it loads");
    let (_, report) = simulator.run(&Default::default()).expect("it runs");
    (read(&perfetto(&program, target, &report)), report)
}

const PRODUCTS: &str = ".origin \"node a|Add\"
    .origin \"|Sub\"
    .engine mxu
        ldw spm[0:0x0].bf16, k=64, m=64
        mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
        mma acc[0:0x400].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
        halt
    .engine vec
    .from 0:1 1:1
        viota spm[0:0x0].i32, 64:1x1x100
    .from
        halt";

#[test]
fn every_instruction_is_a_slice_on_its_engines_track() {
    let (found, _) = trace(PRODUCTS, &target("edge"), Options::default());
    assert_eq!(found.tracks[..2], ["mxu", "vec"]);
    let slices: Vec<(&str, &str, &str, u64, u64)> = found
        .slices
        .iter()
        .map(|s| (s.track.as_str(), s.name.as_str(), s.nodes.as_str(), s.begin, s.end))
        .collect();
    // A tick is a nanosecond; the products start at 72 and 172 (see timing.rs), the first one's drain is cut off.
    let expected = [
        ("mxu", "ldw", "", 0, 72),
        ("mxu", "mma", "", 72, 172),
        ("mxu", "mma", "", 172, 408),
        ("vec", "viota node a", "node a|Add, |Sub", 0, 45),
    ];
    assert_eq!(slices, expected);
    assert_eq!(found.slices[3].instruction, "viota spm[0:0x0].i32<0,0,1>, 64:1x1x100");
}

#[test]
fn arrows_lead_from_before_a_signal_to_after_its_wait() {
    let text = ".engine vec
            viota spm[0:0x0].f32, 64:1x1x8
            viota spm[0:0x80].f32, 64:1x1x8
            sems sem4, n=2
            viota spm[0:0x100].f32, 64:1x1x8
            halt
        .engine act
            act identity, spm[0:0x200].f32, spm[0:0x300].f32, 64:1x1x8
            semw sem4, n=1
            act identity, spm[0:0x200].f32, spm[0:0x0].f32, 64:1x1x8
            semw sem4, n=1
            act identity, spm[0:0x200].f32, spm[0:0x80].f32, 64:1x1x8
            halt";
    let (found, report) = trace(text, &target("edge"), Options::default());
    let ends: Vec<(Vec<u64>, Vec<u64>)> =
        found.slices.iter().map(|slice| (slice.leaving.clone(), slice.arriving.clone())).collect();
    let none = || (vec![], vec![]);
    // VEC's three slices, then ACT's: both units came with one signal, behind the second slice.
    assert_eq!(ends, [none(), (vec![1, 2], vec![]), none(), none(), (vec![], vec![1]), (vec![], vec![2])]);
    assert!(report.timeline.flows.iter().all(|flow| flow.semaphore == 4));
    for flow in [1, 2] {
        let from = found.slices.iter().find(|slice| slice.leaving.contains(&flow)).expect("it leaves");
        let to = found.slices.iter().find(|slice| slice.arriving.contains(&flow)).expect("it arrives");
        assert!(from.end <= to.begin, "what is waited for has ended");
    }
}

const TRANSFERS: &str = ".dram 1048576
    .engine q0
        apset ap0, f32 @0x0 [64,1,1,64] <64,0,0,1>
        dld spm[0:0x0].f32, ap0
        dst ap0, spm[0:0x0].f32
        halt
    .engine q1
        apset ap0, f32 @0x8000 [64,1,1,64] <64,0,0,1>
        dld spm[0:0x400].f32, ap0
        halt";

#[test]
fn bandwidth_times_time_is_the_bytes_moved() {
    let edge = target("edge");
    let (found, report) = trace(TRANSFERS, &edge, Options::default());
    let rates = &found.counters["DRAM"];
    assert_eq!(rates.last().expect("it ends").1, 0, "nothing moves in the end");
    assert!(rates.iter().all(|(_, rate)| *rate <= edge.dram_bytes_per_second));
    let bytes: f64 =
        rates.windows(2).map(|pair| (pair[1].0 - pair[0].0) as f64 * 1e-9 * pair[0].1 as f64).sum();
    let moved = (report.dram_read_bytes + report.dram_write_bytes) as f64;
    // The tick in which a transfer ends is rounded up.
    let a_tick = edge.dram_bytes_per_second as f64 * 1e-9 * 3.0;
    assert!(bytes >= moved && bytes <= moved + a_tick, "{bytes} of {moved}");
    // A slice of a queue is the time in which its bytes move: one after another.
    let q0: Vec<(u64, u64)> = found
        .slices
        .iter()
        .filter(|slice| slice.track == "q0")
        .map(|slice| (slice.begin, slice.end))
        .collect();
    assert!(q0.len() == 2 && q0[0].1 <= q0[1].0 && q0[0].0 > 0, "{q0:?}");
}

#[test]
fn live_scratchpad_bytes_are_a_counter() {
    let (found, report) = trace(TRANSFERS, &target("edge"), Options::default());
    let live = &found.counters["live scratchpad"];
    let most = live.iter().map(|(_, bytes)| *bytes).max();
    assert_eq!(most, Some(report.spm_peak_bytes));
    assert_eq!(live.last().map(|(_, bytes)| *bytes), Some(0));
}

#[test]
fn a_window_and_a_limit_bound_the_trace() {
    let edge = target("edge");
    let names = |found: &Read| found.slices.iter().map(|slice| slice.begin).collect::<Vec<_>>();
    let window = |window| Options { trace_window: Some(window), ..Options::default() };
    let (found, report) = trace(PRODUCTS, &edge, window(100..150));
    assert_eq!(names(&found), [72], "what is under way in the window");
    assert_eq!((report.timeline.outside, report.timeline.left_out), (3, 0));
    let (found, report) = trace(PRODUCTS, &edge, window(0..72));
    assert_eq!(names(&found), [0, 0]);
    assert_eq!(report.timeline.outside, 2);
    let (found, report) = trace(PRODUCTS, &edge, Options { trace_limit: Some(3), ..Options::default() });
    assert_eq!(found.slices.len(), 3);
    assert_eq!((report.timeline.left_out, report.timeline.left_out_from), (1, Some(172)));
}
