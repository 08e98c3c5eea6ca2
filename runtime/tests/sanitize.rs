//! The sanitizer: each finding from a small program, and silence beside it. That it is silent on programs that are right
//! is in `programs.rs`.

mod bench;

use bench::{program, run_on, target};
use kiln_machine::tensor::Tensor;
use kiln_runtime::{FindingKind, Findings, Options, Simulator};

/// What is found in a program on `edge`.
fn findings(text: &str, inputs: &[(&str, Tensor)]) -> Findings {
    let edge = target("edge");
    let program = program(text, &edge);
    let inputs = inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    let options = Options { sanitize: true, cycle_limit: Some(1_000_000), ..Options::default() };
    let mut simulator = Simulator::new(&program, &edge, options).expect("it loads");
    let _ = simulator.run(&inputs);
    simulator.findings().clone()
}

/// The kinds and their texts.
fn told(text: &str) -> Vec<(FindingKind, String)> {
    findings(text, &[]).list.iter().map(|finding| (finding.kind, finding.to_string())).collect()
}

fn kinds(text: &str) -> Vec<FindingKind> {
    told(text).into_iter().map(|(kind, _)| kind).collect()
}

/// A producer on VEC and a consumer on ACT, with this between them.
fn pair(after_write: &str, before_read: &str) -> String {
    format!(
        ".origin \"a|Add\"
        .engine vec
        .from 0:1
            viota spm[0:0x0].f32, 4:1x1x8
            {after_write}
        .from
            halt
        .engine act
            nop\nnop\nnop\nnop
            {before_read}
            act identity, spm[0:0x100].f32, spm[2:0x8].f32, 2:1x1x8
            halt"
    )
}

#[test]
fn a_read_that_only_comes_later_by_chance() {
    // ACT idles until VEC is long done: the values are right.
    let late = "li r1, imm=0\nloop count=200, end\nnop\nnop\nend: endl";
    let text = pair("", "").replace("nop\nnop\nnop\nnop", late);
    let edge = target("edge");
    run_on(&text.replace("spm[2:0x8]", "spm[2:0x0]"), &edge, &[], Options::default()).expect("it runs");
    let found = told(&text.replace("spm[2:0x8]", "spm[2:0x0]"));
    assert_eq!(
        found,
        [(
            FindingKind::ReadAfterWrite,
            "a read races with a write: spm partitions 2..4, bytes 0x0..0x20\n  \
             act word 5: act identity, spm[0:0x100].f32<0,0,1>, spm[2:0x0].f32<0,0,1>, 2:1x1x8  [no origin]\n  \
             vec word 0: viota spm[0:0x0].f32<0,0,1>, 4:1x1x8  [a|Add]"
                .to_owned()
        )]
    );
}

#[test]
fn silence_where_a_semaphore_orders() {
    let ordered = pair("sems sem3, n=1", "semw sem3, n=1").replace("spm[2:0x8]", "spm[2:0x0]");
    assert_eq!(kinds(&ordered), []);
}

#[test]
fn a_read_of_bytes_that_nothing_wrote() {
    let found = told(&pair("sems sem3, n=1", "semw sem3, n=1"));
    let [(FindingKind::Unwritten, text)] = &found[..] else { panic!("{found:?}") };
    assert!(
        text.starts_with("a read of bytes that nothing wrote: spm partitions 2..4, bytes 0x20..0x28\n  act"),
        "{text}"
    );
}

#[test]
fn signals_are_counted_and_not_only_seen() {
    // Two slots of a ring; the second lap of the producer needs the consumer's credit.
    let ring = |credit: &str, give: &str| {
        format!(
            ".engine vec
                loop count=4, end, step=r1:64
                {credit}
                viota spm[0:0x0+r1].i32, 4:1x1x16, base=1
                sems sem0, n=1
                end: endl
                halt
            .engine act
                loop count=4, end, step=r1:64
                semw sem0, n=1
                act identity, spm[0:0x1000+r1].f32, spm[0:0x0+r1].i32, 4:1x1x16
                {give}
                end: endl
                halt"
        )
    };
    assert_eq!(kinds(&ring("nop", "nop")), [], "every slot is its own");
    let wrapped = |text: String| {
        text.replace("viota spm[0:0x0+r1]", "viota spm[0:0x0]")
            .replace("spm[0:0x0+r1].i32, 4", "spm[0:0x0].i32, 4")
    };
    assert_eq!(
        kinds(&wrapped(ring("nop", "nop"))),
        [FindingKind::ReadAfterWrite, FindingKind::WriteAfterRead]
    );
}

#[test]
fn two_writes_of_the_same_bytes() {
    let text = ".engine vec\nviota spm[0:0x0].f32, 4:1x1x8\nhalt
        .engine q0\ndfill spm[3:0x1c].f32, 2:1x1x1, 0.0f\nhalt";
    let found = told(text);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].1.starts_with("two writes race: spm partitions 3..4, bytes 0x1c..0x20\n"),
        "{}",
        found[0].1
    );
    // Bytes between those of a stride are nobody's.
    let strided = ".engine vec\nviota spm[0:0x0].f32<0,0,2>, 4:1x1x8\nhalt
        .engine q0\ndfill spm[0:0x4].f32<0,0,2>, 4:1x1x8, 0.0f\nhalt";
    assert_eq!(kinds(strided), []);
}

#[test]
fn races_in_dram() {
    let text = |signal: &str, wait: &str| {
        format!(
            ".dram 4096
            .engine q0
                dfill spm[0:0x0].f32, 4:1x1x8, 1.0f
                apset ap0, f32 @0x100 [4,1,1,8] <8,0,0,1>
                dst ap0, spm[0:0x0].f32
                {signal}
                halt
            .engine q1
                loop count=300, end
                nop
                end: endl
                apset ap0, f32 @0x104 [1,1,1,4] <0,0,0,1>
                {wait}
                dld spm[0:0x80].f32, ap0
                halt"
        )
    };
    assert_eq!(kinds(&text("sems sem7, n=2", "semw sem7, n=2")), []);
    let found = told(&text("nop", "nop"));
    assert!(found[0].1.starts_with("a read races with a write: DRAM bytes 0x104..0x114\n"), "{found:?}");
}

#[test]
fn a_circle_of_waits_is_a_finding_with_all_of_them() {
    let text = ".engine vec\nsemw sem0, n=1\nsems sem1, n=1\nhalt\n.engine act\nsemw sem1, n=1\nsems sem0, n=1\nhalt";
    let found = findings(text, &[]).list;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, FindingKind::Deadlock);
    let engines: Vec<String> =
        std::iter::once(&found[0].site).chain(&found[0].others).map(|site| site.engine.to_string()).collect();
    assert_eq!(engines, ["vec", "act"]);
    let text = ".engine vec\nsemw sem0, n=2\nhalt\n.engine act\nsems sem0, n=1\nhalt";
    assert_eq!(kinds(text), [FindingKind::SemaphoreUnderflow]);
}

#[test]
fn counts_that_do_not_come_out() {
    let text = ".engine vec\nsemw sem0, n=1\nhalt\n.engine act\nsems sem0, n=3\nhalt";
    let found = told(text);
    assert!(found[0].1.contains("semaphore 0 ends at 2"), "{found:?}");
    // The consumer keeps up this time; nothing makes it.
    let ahead = ".engine vec\nloop count=70000, end\nsems sem0, n=1\nnop\nend: endl\nhalt
        .engine act\nloop count=70000, end\nsemw sem0, n=1\nend: endl\nhalt";
    let found = told(ahead);
    assert!(
        found[0].1.starts_with("a semaphore that may overflow: semaphore 0 may count to 65536 (4465 times)"),
        "{found:?}"
    );
}

#[test]
fn operands_out_of_bounds_and_other_traps() {
    assert_eq!(kinds(".engine vec\nviota spm[0:0x7ffc].f32, 1:1x1x2\nhalt"), [FindingKind::OutOfBounds]);
    assert_eq!(kinds(".engine vec\nviota spm[60:0x0].f32, 5:1x1x1\nhalt"), [FindingKind::OutOfBounds]);
    assert_eq!(kinds(".engine vec\ntrap code=7\nhalt"), [FindingKind::Trap]);
}

#[test]
fn a_wait_that_another_one_implies_is_advice() {
    let text = ".engine vec
            viota spm[0:0x0].f32, 4:1x1x8
            sems sem0, n=1
            sems sem1, n=1
            halt
        .engine act
            semw sem0, n=1
            semw sem1, n=1
            act identity, spm[0:0x100].f32, spm[0:0x0].f32, 4:1x1x8
            halt";
    let found = findings(text, &[]);
    assert_eq!(found.faults().count(), 0);
    assert_eq!(found.list.len(), 1);
    assert_eq!((found.list[0].kind, found.list[0].site.pc), (FindingKind::RedundantWait, 0));
}

#[test]
fn gathers_touch_the_rows_that_their_indices_name() {
    let text = |row: u32, wait: &str| {
        format!(
            ".dram 4096
            .engine q0
                dfill spm[0:0x0].f32, 1:1x1x8, 1.0f
                apset ap0, f32 @0x0 [1,1,8,8] <0,0,8,1>
                dfill spm[0:0x400].f32<0,8,1>, 1:1x8x8, 1.0f
                dst ap0, spm[0:0x400].f32<0,8,1>
                sems sem0, n=2
                apset ap0, f32 @0x60 [1,1,1,8] <0,0,0,1>
                dst ap0, spm[0:0x0].f32
                sems sem0, n=1
                halt
            .engine q1
                loop count=2000, end
                nop
                end: endl
                semw sem0, n=2
                {wait}
                dfill spm[0:0x100].i32, 1:1x1x1, {row}
                apset ap0, f32 @0x0 [8,1,8,1] <8,0,1,0>
                dga spm[0:0x200].f32<8,8,1>, ap0, spm[0:0x100].i32, parts=1, n0=1
                halt"
        )
    };
    let left_over = FindingKind::SemaphoreLeftOver;
    assert_eq!(kinds(&text(2, "nop")), [left_over]);
    assert_eq!(kinds(&text(3, "nop")), [FindingKind::ReadAfterWrite, left_over]);
    assert_eq!(findings(&text(3, "semw sem0, n=1"), &[]).faults().count(), 0);
}

#[test]
fn a_result_that_nothing_reads() {
    let text = |read: &str, more: &str| {
        format!(
            ".dram 4096
            .segment device
            .buffer \"values\" spm parts=0..4 @0x0 bytes=8
            .buffer \"indices\" spm parts=0..4 @0x20 bytes=8
            .buffer \"all\" spm parts=0..4 @0x40 bytes=32
            .buffer \"out\" spm parts=0..4 @0x80 bytes=8
            .buffer \"y\" dram @0x0 bytes=32
            .engine vec
                viota spm[0:0x40].f32, 4:1x1x8 in=[2]
                vtopk spm[0:0x0].f32, spm[0:0x20].i32, spm[0:0x40].f32, 4:1x1x8, k=2 in=[0,1,2]
                vcvt cast, spm[0:0x80].f32, {read}, 4:1x1x2 in=[3,0]
                {more}
                sems sem0, n=1
                halt
            .engine q0
                semw sem0, n=1
                apset ap0, f32 @0x0 [4,1,1,2] <2,0,0,1>
                dst ap0, spm[0:0x80].f32 in=[3,4]
                halt"
        )
    };
    // The indices are what the instruction gives beside the values; nothing asks for them.
    assert_eq!(kinds(&text("spm[0:0x0].f32", "nop")), []);
    // The values are read, but not all of them.
    assert_eq!(kinds(&text("spm[0:0x0].f32<0,0,0>", "nop")), [FindingKind::Unread]);
    // The indices are read by another instruction, beside where they lie.
    let beside = "vcvt cast, spm[0:0xe0].f32, spm[0:0x24].i32, 4:1x1x1 in=[-,1]";
    assert_eq!(kinds(&text("spm[0:0x0].f32", beside)), [FindingKind::Unread]);
    // The only result of an instruction is there to be read.
    let alone = "viota spm[0:0x20].i32, 4:1x1x2 in=[1]";
    assert_eq!(kinds(&text("spm[0:0x0].f32", alone)), [FindingKind::Unread]);
}
