//! Traces for Perfetto, read back by a reader of their own.

mod bench;

use bench::{program, target};
use kiln_runtime::{Options, Simulator, perfetto};

/// (field, number or bytes) of a message, in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
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
        let value = varint(&mut bytes);
        let mut inner: &[u8] = &[];
        if key & 7 == 2 {
            (inner, bytes) = bytes.split_at(value as usize);
        }
        found.push((key >> 3, value, inner));
    }
    found
}

#[test]
fn every_instruction_is_a_slice_on_its_engines_track() {
    let edge = target("edge");
    let text = ".origin \"node a|Add\"
        .engine mxu
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
            mma acc[0:0x400].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
            halt
        .engine vec
        .from 0:1
            viota spm[0:0x0].i32, 64:1x1x100
        .from
            halt";
    let program = program(text, &edge);
    let options = Options { timing_only: true, trace: true, ..Options::default() };
    let mut simulator = Simulator::new(&program, &edge, options).expect("it loads");
    let (_, report) = simulator.run(&Default::default()).expect("it runs");
    let file = perfetto(&program, &edge, &report);

    let (mut tracks, mut slices, mut open) = (Vec::new(), Vec::new(), None);
    for (field, _, packet) in fields(&file) {
        assert_eq!(field, 1, "a trace holds packets");
        let mut time = 0;
        for (field, value, inner) in fields(packet) {
            let text = |wanted| {
                let found = fields(inner).into_iter().find(|(field, ..)| *field == wanted);
                found.map(|(.., bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
            };
            let number = |wanted| fields(inner).iter().find(|(f, ..)| *f == wanted).map_or(0, |(_, n, _)| *n);
            match field {
                8 => time = value,
                60 => tracks.push(text(2)),
                11 if number(9) == 1 => open = Some((number(11), time, text(23), text(22))),
                11 => {
                    let (track, begin, name, nodes) = open.take().expect("slices of a track do not overlap");
                    assert_eq!(track, number(11));
                    slices.push((track, name, nodes, begin, time));
                }
                _ => {}
            }
        }
    }
    assert_eq!(tracks, ["mxu", "vec"]);
    // A tick is a nanosecond; the products start at 72 and 172 (see timing.rs), the first one's drain is cut off.
    let slice =
        |track, name: &str, nodes: &str, begin, end| (track, name.to_owned(), nodes.to_owned(), begin, end);
    let expected = [
        slice(1, "ldw", "", 0, 72),
        slice(1, "mma", "", 72, 172),
        slice(1, "mma", "", 172, 408),
        slice(2, "viota", "node a|Add", 0, 45),
    ];
    assert_eq!(slices, expected);
}
