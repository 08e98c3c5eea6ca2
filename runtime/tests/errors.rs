//! What stops a run, each with its message: traps, deadlocks, limits, bindings.

mod bench;

use bench::{f32s, run, run_on, target};
use kiln_machine::tensor::Tensor;
use kiln_runtime::{Options, SimError};
use miette::Diagnostic;

/// The error of a program that must not succeed: its code and its text.
fn error(text: &str, inputs: &[(&str, Tensor)]) -> (String, String) {
    let Err(error) = run(text, inputs) else { panic!("it ran:\n{text}") };
    assert!(error.help().is_some(), "{error} has no help");
    (error.code().map(|code| code.to_string()).unwrap_or_default(), error.to_string())
}

fn trap(text: &str) -> String {
    let (code, text) = error(text, &[]);
    assert_eq!(code, "kiln::sim::trap");
    text
}

#[test]
fn a_read_before_the_write() {
    let text = trap(
        ".origin \"softmax|Softmax\"
        .engine vec
        .from 0:1
            viota spm[2:0x10].f32, 4:1x1x8
            vts add, spm[2:0x20].f32, spm[2:0x10].f32, 1.0f, 4:1x1x9
            halt",
    );
    assert_eq!(
        text,
        "trap in vec at word 2 (cycle 22): uninitialised read: spm partition 2, byte 0x30\n  \
         vts add, spm[2:0x20].f32<0,0,1>, spm[2:0x10].f32<0,0,1>, 1.0f, 4:1x1x9\n  \
         from softmax|Softmax"
    );
    assert!(
        trap(
            ".dram 4096\n.engine q0\napset ap0, f32 @0x80 [1,1,1,2] <0,0,0,1>\ndld spm[0:0x0].f32, ap0\nhalt"
        )
        .contains("uninitialised read: DRAM byte 0x80")
    );
    assert!(
        trap(
            ".engine vec\nviota spm[0:0x0].f32, 4:1x1x4\nsems sem0, n=1\nhalt
            .engine mxu\nsemw sem0, n=1
            ldw spm[0:0x0].f32, k=4, m=4
            mma acc[0:0x0].f32, spm[0:0x0].f32, k=4, m=5, n2=4\nhalt"
        )
        .contains("uninitialised read: stationary row 0, column 4")
    );
}

#[test]
fn operands_outside_memory() {
    // A partition of `edge` has 32 KiB of scratchpad and 4 KiB of accumulators.
    assert!(
        trap(".engine vec\nviota spm[0:0x7ffc].f32, 1:1x1x2\nhalt")
            .contains("out of bounds: bytes 32764..32772 of a spm partition of 32768 bytes")
    );
    assert!(
        trap(".engine vec\nli r1, imm=-8\nviota acc[0:0x4+r1].f32, 1:1x1x1\nhalt")
            .contains("out of bounds: bytes -4..0 of a acc partition of 4096 bytes")
    );
    assert!(
        trap(".engine vec\nviota spm[60:0x0].f32, 5:1x1x1\nhalt")
            .contains("out of bounds: partitions 60..65 of 64 in spm")
    );
    assert!(
        trap(".dram 4096\n.engine q0\nli r1, imm=4092\napset ap0, f32 @0x0 [1,1,1,2] <0,0,0,1>\ndld spm[0:0x0].f32, ap0, reg=r1\nhalt")
            .contains("out of bounds: DRAM bytes 0xffc..0x1004 of 0x1000")
    );
}

#[test]
fn elements_not_at_their_size() {
    assert!(
        trap(".engine vec\nviota spm[0:0x2].f32, 1:1x1x2\nhalt").contains("misaligned: f32 at byte 2 of spm")
    );
    assert!(
        trap(
            ".dram 4096\n.engine q0\napset ap0, f16 @0x3 [1,1,1,2] <0,0,0,1>\ndld spm[0:0x0].f32, ap0\nhalt"
        )
        .contains("misaligned: f16 at DRAM byte 0x3")
    );
}

#[test]
fn a_deadlock_prints_its_cycle() {
    let (code, text) = error(
        ".origin \"a|MatMul\"
        .origin \"b|Exp\"
        .engine vec
        .from 0:1
            semw sem1, n=1
            sems sem0, n=1
            halt
        .engine act
        .from 1:1
            nop
            semw sem0, n=2
            sems sem1, n=1
            halt
        .engine q0
            semw sem2, n=1
            halt
        .engine ctl
            semw sem3, n=1
            sems sem2, n=1
            halt",
        &[],
    );
    assert_eq!(code, "kiln::sim::deadlock");
    assert_eq!(
        text,
        "deadlock at cycle 1:\n  \
         ctl at word 0: semw sem3, n=1  [no origin]\n    \
         sem3 is 0, needs 1, signalled by no instruction\n  \
         … and nothing will signal it"
    );
    let (_, text) = error(
        ".origin \"a|MatMul\"\n.origin \"b|Exp\"
        .engine vec\n.from 0:1\nsemw sem1, n=1\nsems sem0, n=1\nhalt
        .engine act\n.from 1:1\nnop\nsemw sem0, n=2\nsems sem1, n=1\nhalt",
        &[],
    );
    assert_eq!(
        text,
        "deadlock at cycle 1:\n  \
         vec at word 0: semw sem1, n=1  [a|MatMul]\n    \
         sem1 is 0, needs 1, signalled by act\n  \
         act at word 1: semw sem0, n=2  [b|Exp]\n    \
         sem0 is 0, needs 2, signalled by vec\n  \
         … and round again"
    );
}

#[test]
fn a_loop_without_end() {
    let (code, text) =
        error(".origin \"x|Loop\"\n.engine ctl\n.from 0:1\nagain: br al, r0, r0, again\n", &[]);
    assert_eq!(code, "kiln::sim::endless");
    let last = "the program loops for ever: all is as it was when this was last taken\n  ";
    assert_eq!(text, format!("{last}ctl at word 0: br al, r0, r0, @0  [x|Loop]"));
    // Through a loop that ends each time, beside engines that wait, with registers that come round.
    let (code, text) = error(
        ".origin \"x|Loop\"
        .engine vec\nsemw sem0, n=1\nhalt
        .engine ctl\n.from 0:1\nli r1, imm=3
        again: loop count=5, e, step=r2:7\nnop\ne: endl
        alu sub, r1, r0, r1, imm=-3
        br ge, r1, r0, again\nhalt",
        &[],
    );
    assert_eq!(code, "kiln::sim::endless");
    assert!(text.ends_with("ctl at word 5: br ge, r1, r0, @1  [x|Loop]"), "{text}");
}

#[test]
fn a_branch_whose_registers_change_is_not_endless() {
    // A counter up to 1000, in steps of one, and a pattern of its bits.
    let text = ".engine ctl\nli r1\nagain: alu add, r1, r1, r0, imm=1\nalu and, r2, r1, r0, imm=7
        br lt, r1, r3, again\nhalt";
    for limit in [1000, 1] {
        let text = text.replace("li r1\n", &format!("li r1\nli r3, imm={limit}\n"));
        assert_eq!(run(&text, &[]).expect("it runs").1.instructions["br"], limit);
    }
    // An address that grows until it leaves the scratchpad.
    let (code, text) = error(
        ".engine vec\nagain: viota spm[0:0x0+r1].i32, 64:1x1x8\nalu add, r1, r1, r0, imm=4096\nbr al, r0, r0, again",
        &[],
    );
    assert_eq!(code, "kiln::sim::trap", "{text}");
}

#[test]
fn a_program_that_takes_longer_than_it_may() {
    let (code, text) = error(
        ".origin \"x|Loop\"\n.engine ctl\n.from 0:1\nloop count=4000000000, e\nnop\ne: endl\nhalt",
        &[],
    );
    assert_eq!(code, "kiln::sim::cycle_limit");
    let last = "the program is still running after 1000000 cycles:\n  ";
    assert_eq!(text, format!("{last}ctl at word 2: endl  [x|Loop]"));
}

#[test]
fn an_empty_loop_ends_at_once() {
    let report = run(".engine ctl\nli r1, imm=7\nloop count=4000000000, e, step=r1:1\ne: endl\nhalt", &[])
        .expect("it runs")
        .1;
    assert_eq!(report.cycles, 2);
}

#[test]
fn control_flow_that_leads_nowhere() {
    assert!(trap(".engine ctl\nendl\nhalt").contains("loop or branch: no loop is open"));
    assert!(
        trap(".engine ctl\nloop count=2, @1\nnop\nhalt").contains("the loop's end is no `endl` after it")
    );
    assert!(
        trap(".engine ctl\nbr al, r0, r0, @2\napset ap0, f32 @0x0 [1,1,1,1] <0,0,0,0>\nhalt")
            .contains("the target is not the first word of an instruction")
    );
    let nest = |depth: usize| {
        let open: String = (0..depth).map(|i| format!("loop count=1, e{i}\nnop\n")).collect();
        let close: String = (0..depth).rev().map(|i| format!("e{i}: endl\n")).collect();
        format!(".engine ctl\n{open}{close}halt")
    };
    run(&nest(8), &[]).expect("eight loops nest");
    assert!(trap(&nest(9)).contains("more than 8 loops deep"));
    assert!(trap(".engine ctl\nalu mod, r1, r0, r0\nhalt").contains("scalar division by zero"));
    assert!(trap(".engine ctl\ntrap code=17\nhalt").contains("trap instruction, code 17"));
}

#[test]
fn semaphores_overflow_and_have_one_user_on_each_side() {
    let text = trap(".engine ctl\nsems sem9, n=65535\nnop\nsems sem9, n=1\nhalt");
    assert!(text.contains("trap in ctl at word 2"), "{text}");
    assert!(text.contains("semaphore 9 overflows: 65535 + 1"), "{text}");
    let (code, text) = error(".engine ctl\nsems sem0, n=1\nhalt\n.engine vec\nsems sem0, n=1\nhalt", &[]);
    assert_eq!(code, "kiln::sim::shared_semaphore");
    assert_eq!(text, "semaphore 0 has two producers: ctl and vec");
    let mut few = target("edge");
    few.set("semaphores", "4").expect("a number of semaphores");
    let outcome = run_on(".engine ctl\nsems sem4, n=1\nhalt", &few, &[], Options::default());
    assert!(
        outcome
            .expect_err("no semaphore 4")
            .to_string()
            .contains("there is no semaphore 4: the machine has 4")
    );
}

#[test]
fn instructions_that_the_machine_lacks() {
    let mut plain = target("edge");
    plain.set("has_ldwt", "0").expect("a flag");
    let outcome = run_on(".engine mxu\nldwt spm[0:0x0].f32, k=4, m=4\nhalt", &plain, &[], Options::default());
    let error = outcome.expect_err("no ldwt");
    assert_eq!(error.to_string(), "stream mxu, word 0: target `edge` has no `ldwt`");
}

#[test]
fn types_and_extents_that_do_not_fit() {
    let vec = |line: &str| trap(&format!(".engine vec\nviota spm[0:0x0].f32, 4:1x1x4\n{line}\nhalt"));
    assert!(vec("vts and, spm[0:0x0].f32, spm[0:0x0].f32, 1, 4:1x1x4").contains("f32 cannot be used here"));
    assert!(
        vec("vtopk spm[0:0x100].f32, spm[0:0x200].i32, spm[0:0x0].f32, 4:1x1x4, k=5")
            .contains("the operands' extents differ: the 5 first of 4 elements")
    );
    assert!(
        vec("viota spm[0:0x100].i32, 4:1x1x4, c2=2\nvshuf spm[0:0x200].f32, spm[0:0x0].f32, spm[0:0x100].i32, 4:1x1x4, bound=4")
            .contains("index 4 is outside 0..4")
    );
    let store = ".dram 4096\n.engine q0\ndfill spm[0:0x0].f32, 2:1x1x2, 1.0f\napset ap0, f32 @0x0 [2,1,1,2] <0,0,0,1>\ndst ap0, spm[0:0x0].f32\nhalt";
    assert!(trap(store).contains("two elements are stored to one address"));
    let gather = ".dram 4096\n.image @0x0 row=64 zero\n.engine q0\ndfill spm[0:0x0].i32, 1:1x1x1, 16\napset ap0, f32 @0x0 [16,1,1,1] <1,0,0,0>\ndga spm[0:0x4].f32, ap0, spm[0:0x0].i32, parts=1, n0=1\nhalt";
    assert!(trap(gather).contains("index 16 is outside 0..16"));
    let overlap =
        ".engine q0\ndfill spm[0:0x0].f32, 2:1x1x8, 1.0f\ndmv spm[0:0x4].f32, spm[0:0x0].f32, 2:1x1x4\nhalt";
    assert!(trap(overlap).contains("source and destination overlap"));
}

const ADD_ONE: &str = "
    .input  ids i32 [3] @0x0 host=i64 range=0..9
    .output y   i32 [3] @0x40 host=i64
    .engine q0
        apset ap0, i32 @0x0 [1,1,1,3] <0,0,0,1>
        dld spm[0:0x0].i32, ap0
        sems sem0, n=1
        semw sem1, n=1
        apset ap0, i32 @0x40 [1,1,1,3] <0,0,0,1>
        dst ap0, spm[0:0x0].i32
        halt
    .engine vec
        semw sem0, n=1
        vts add, spm[0:0x0].i32, spm[0:0x0].i32, -5, 1:1x1x3
        sems sem1, n=1
        halt";

#[test]
fn bindings_are_checked_and_widened() {
    let ids = |values: &[i64]| ("ids", Tensor::from_i64(vec![values.len()], values).expect("a vector"));
    let (out, _) = run(ADD_ONE, &[ids(&[0, 9, 3])]).expect("it runs");
    assert_eq!(out["y"], Tensor::from_i64(vec![3], &[-5, 4, -2]).expect("a vector"));
    for (inputs, code, text) in [
        (vec![], "kiln::sim::missing_input", "input `ids` is missing"),
        (vec![ids(&[0, 1])], "kiln::sim::input_shape", "input `ids` has shape [2], the program takes [3]"),
        (vec![ids(&[0, 10, 1])], "kiln::sim::input_range", "input `ids`: element 1 is 10, outside 0..=9"),
        (
            vec![("ids", Tensor::from_i32(vec![3], &[1, 2, 3]).expect("a vector"))],
            "kiln::sim::input_dtype",
            "input `ids` is i32, the program takes i64",
        ),
        (
            vec![ids(&[0, 1, 2]), ("mask", f32s(&[1], &[0.0]))],
            "kiln::sim::unknown_input",
            "the program has no input `mask`",
        ),
    ] {
        assert_eq!(error(ADD_ONE, &inputs), (code.to_owned(), text.to_owned()));
    }
}

#[test]
fn integers_that_the_device_cannot_hold() {
    let text = ADD_ONE.replace(" range=0..9", "");
    let inputs = [("ids", Tensor::from_i64(vec![3], &[1, 1 << 31, 0]).expect("a vector"))];
    assert_eq!(
        error(&text, &inputs).1,
        "input `ids`: element 1 is 2147483648, outside -2147483648..=2147483647"
    );
}

#[test]
fn an_output_that_was_not_stored() {
    let (code, text) = error(".output y f32 [4] @0x40\n.engine ctl\nhalt", &[]);
    assert_eq!(code, "kiln::sim::unwritten_output");
    assert_eq!(text, "output `y` was not written: DRAM byte 0x40");
}

#[test]
fn a_program_for_another_target() {
    let program = bench::program(".engine ctl\nhalt", &target("edge"));
    let core = target("core");
    let outcome = kiln_runtime::Simulator::new(&program, &core, Options::default());
    assert!(matches!(outcome.err(), Some(SimError::Program(_))));
}
