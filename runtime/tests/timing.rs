//! One small program for each timing rule of docs/simulator.md, with its ticks worked out by hand.
//!
//! All on `edge`, where every clock is the base clock, so that ticks are cycles and nanoseconds: control 1,
//! semaphore latency 4; VEC 20 + n/4, ACT 40 + n for n elements in each partition; the array takes a bf16 column in
//! 1 and drains in 8 + 64 + 64 = 136, a load takes a row in 1 and 8 more to arrive; DMA issues in 32, waits 200 for
//! DRAM, and moves 17 bytes a tick from DRAM and 68 on chip; the DRAM gives 68 in all.

mod bench;
mod systolic;

use bench::{run_on, target};
use kiln_machine::isa::Engine;
use kiln_runtime::{Options, Report};

/// Cycles of a program; time does not depend on values, so there are none.
fn time(text: &str) -> Report {
    let options = Options { timing_only: true, cycle_limit: Some(100_000), ..Options::default() };
    run_on(text, &target("edge"), &[], options).unwrap_or_else(|error| panic!("{error}")).1
}

#[test]
fn control_takes_a_cycle_and_the_loop_back_none() {
    // li at 0, loop at 1, nop five times from 2 to 7.
    let report = time(
        ".engine ctl
            li r1, imm=3
            loop count=2, rc=r1, end
            nop
        end: endl
            halt",
    );
    assert_eq!(report.cycles, 7);
    assert_eq!(report.instructions["nop"], 5);
}

#[test]
fn vec_starts_up_and_then_takes_four_elements_a_cycle() {
    // 20 + 100/4 = 45; the second follows: 45 + 20 + 2/4 rounded up = 66.
    let report = time(
        ".engine vec
            viota spm[0:0x0].i32, 64:1x1x100
            viota spm[0:0x0].i32, 64:1x1x2
            halt",
    );
    assert_eq!(report.cycles, 66);
    assert_eq!(report.engines[&Engine::Vec].busy_ticks, 66);
}

#[test]
fn a_signal_arrives_after_completion_and_its_latency() {
    // VEC is done at 45, the signal arrives at 49, the wait takes 1, ACT takes 40 + 100: 190.
    let report = time(
        ".engine vec
            viota spm[0:0x0].i32, 64:1x1x100
            sems sem3, n=1
            halt
        .engine act
            semw sem3, n=1
            act exp, spm[0:0x200].f32, spm[0:0x0].i32, 64:1x1x100
            halt",
    );
    assert_eq!(report.cycles, 190);
    assert_eq!(report.engines[&Engine::Act].semaphore_ticks, 49);
    assert_eq!(report.engines[&Engine::Act].busy_ticks, 140);
}

#[test]
fn a_product_waits_for_its_load_and_drains() {
    // The load is complete at 64 + 8 = 72; 100 columns until 172, drained 136 later.
    let report = time(
        ".engine mxu
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
            halt",
    );
    assert_eq!(report.cycles, 308);
    assert_eq!(report.engines[&Engine::Mxu].hazard_ticks, 71, "from 1 to 72");
    assert_eq!(report.macs, 64 * 64 * 100);
}

#[test]
fn f32_takes_four_cycles_a_column() {
    let report = time(
        ".engine mxu
            ldw spm[0:0x0].f32, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].f32, k=64, m=64, n2=100
            halt",
    );
    assert_eq!(report.cycles, 72 + 400 + 136);
}

#[test]
fn a_load_hides_behind_a_product() {
    // The second load is issued at 73 and complete at 145; the array is free at 172: 172 + 100 + 136.
    let report = time(
        ".engine mxu
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x400].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
            halt",
    );
    assert_eq!(report.cycles, 408);
    // Behind a short product it does not: complete at 145 all the same, so 145 + 10 + 136.
    let report = time(
        ".engine mxu
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=10
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x400].f32, spm[0:0x0].bf16, k=64, m=64, n2=10
            halt",
    );
    assert_eq!(report.cycles, 291);
}

#[test]
fn loads_share_one_port() {
    // The second load starts when the first has left the port, at 64: complete at 136.
    let report = time(
        ".engine mxu
            ldw spm[0:0x0].bf16, k=64, m=32
            ldw spm[0:0x0].bf16, k=64, m=32, col=32
            halt",
    );
    assert_eq!(report.cycles, 136);
}

/// Two products after one load, the second on a given accumulator.
fn two_products(second: &str) -> u64 {
    let text = format!(
        ".engine mxu
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
            mma {second}, cont=1
            halt"
    );
    time(&text).cycles
}

#[test]
fn a_chain_waits_for_the_first_result() {
    // The first product runs from 72. On its own region the next one starts 136 later, at 208 (the array is free
    // at 172): 208 + 100 + 136.
    let same = two_products("acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=100");
    assert_eq!(same, 444);
    // On another region it starts when the array is free.
    let other = two_products("acc[0:0x400].f32, spm[0:0x0].bf16, k=64, m=64, n2=100");
    assert_eq!(other, 408);
    // On a region that overlaps in another way it waits for the last result, at 308.
    let shifted = two_products("acc[0:0x4].f32, spm[0:0x0].bf16, k=64, m=64, n2=100");
    assert_eq!(shifted, 308 + 100 + 136);
}

#[test]
fn a_long_chain_hides_its_drain() {
    // 256 columns take longer than the drain: the second starts when the array is free, at 72 + 256.
    let report = time(
        ".engine mxu
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=256
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=256, cont=1
            halt",
    );
    assert_eq!(report.cycles, 72 + 256 + 256 + 136);
}

#[test]
fn products_on_two_row_bands_overlap() {
    // Bands of 32 rows: the loads are complete at 40 and, behind it on the port, at 72. The first product runs from
    // 40, the second, on the other band, from 72 and not from 140.
    let report = time(
        ".engine mxu
            ldw spm[0:0x0].bf16, k=32, m=64
            ldw spm[32:0x0].bf16, k=32, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=32, m=64, n2=100
            mma acc[0:0x400].f32, spm[32:0x0].bf16, k=32, m=64, n2=100
            halt",
    );
    assert_eq!(report.cycles, 72 + 100 + 136);
}

/// 64 rows of 17 f32 in one run: 4352 bytes, 68 bursts, 256 ticks of a queue.
const LOAD: &str = "
            apset ap0, f32 @0x0 [64,1,1,17] <17,0,0,1>
            dld spm[0:0x0].f32, ap0";

#[test]
fn a_transfer_issues_waits_and_moves() {
    // apset until 1; then 32 + 200 + 256.
    let report = time(&format!(".dram 65536\n.engine q0 {LOAD}\n halt"));
    assert_eq!(report.cycles, 1 + 32 + 200 + 256);
    assert_eq!(report.dram_read_bytes, 4352);
}

#[test]
fn latency_is_hidden_behind_the_transfer_before() {
    // The second is issued at 33; its data phase follows the first's, which ends at 489.
    let report = time(&format!(".dram 65536\n.engine q0 {LOAD}\n dld spm[0:0x100].f32, ap0\n halt"));
    assert_eq!(report.cycles, 489 + 256);
}

#[test]
fn queues_share_the_bandwidth_of_dram() {
    let queues = |count: usize| {
        let streams: Vec<String> = (0..count).map(|q| format!(".engine q{q} {LOAD}\n halt\n")).collect();
        time(&format!(".dram 65536\n{}", streams.concat())).cycles
    };
    // Four queues of 17 bytes a tick are just the DRAM's 68.
    assert_eq!(queues(4), 1 + 32 + 200 + 256);
    // Eight get 8.5 each: 4352 / 8.5 = 512.
    assert_eq!(queues(8), 1 + 32 + 200 + 512);
    // Six get 68/6: 4352 · 6 / 68 = 384.
    assert_eq!(queues(6), 1 + 32 + 200 + 384);
}

#[test]
fn every_run_costs_whole_bursts() {
    // 64 runs of 4 bytes are 64 bursts: 4096 bytes, 241 ticks.
    let report = time(
        ".dram 65536
        .engine q0
            apset ap0, f32 @0x0 [64,1,1,1] <100,0,0,0>
            dld spm[0:0x0].f32, ap0
            halt",
    );
    assert_eq!((report.cycles, report.dram_read_bytes), (1 + 32 + 200 + 241, 4096));
}

#[test]
fn the_chip_side_bounds_a_broadcast() {
    // One row of 6400 bytes is read once, and written 64 times: 409600 bytes at 68 a tick are 6024 ticks.
    let report = time(
        ".dram 65536
        .engine q0
            apset ap0, f32 @0x0 [64,1,1,1600] <0,0,0,1>
            dld spm[0:0x0].f32, ap0
            halt",
    );
    assert_eq!((report.cycles, report.dram_read_bytes), (1 + 32 + 200 + 6024, 6400));
}

#[test]
fn on_chip_transfers_wait_for_no_dram() {
    // 25600 bytes at 68 a tick: 377.
    let report = time(
        ".engine q0
            dfill spm[0:0x0].f32, 64:1x1x100, 1.0f
            halt",
    );
    assert_eq!((report.cycles, report.dram_read_bytes), (32 + 377, 0));
}

#[test]
fn a_signal_behind_a_transfer_leaves_at_its_end() {
    // The transfer ends at 489, the signal arrives at 493, the wait takes 1, VEC 20 + 5.
    let report = time(&format!(
        ".dram 65536
        .engine q0 {LOAD}
            sems sem0, n=1
            halt
        .engine vec
            semw sem0, n=1
            vts add, spm[0:0x0].f32, spm[0:0x0].f32, 1.0f, 64:1x1x17
            halt"
    ));
    assert_eq!(report.cycles, 489 + 4 + 1 + 25);
}

#[test]
fn a_fence_waits_for_the_streams_own_work() {
    // Without it the second fill would be issued at 32; with it at 409 + 1, and takes 32 + 377 again.
    let report = time(
        ".engine q0
            dfill spm[0:0x0].f32, 64:1x1x100, 1.0f
            fence
            dfill spm[0:0x200].f32, 64:1x1x100, 1.0f
            halt",
    );
    assert_eq!(report.cycles, 410 + 409);
    assert_eq!(report.engines[&Engine::Queue(0)].hazard_ticks, 409 - 32);
}

#[test]
fn clocks_of_engines_divide_the_base_clock() {
    // `core`: VEC runs at a fifth of 4.8 GHz, the array at half of it. 40 + 100/4 = 65 cycles of 5 ticks are
    // 325 ticks, rounded up to 163 cycles of the array.
    let text = ".engine vec\n viota spm[0:0x0].i32, 128:1x1x100\n halt";
    let options = Options { timing_only: true, ..Options::default() };
    let report = run_on(text, &target("core"), &[], options).expect("it runs").1;
    assert_eq!((report.ticks, report.cycles), (325, 163));
    assert!((report.seconds - 325.0 / 4.8e9).abs() < 1e-18);
}

#[test]
fn time_is_the_same_with_and_without_values() {
    let fill = ".dram 65536\n.image @0x0 row=4352 zero\n";
    let text = format!(
        "{fill}.engine q0 {LOAD}\n sems sem0, n=1\n halt\n.engine act\n semw sem0, n=1
        act exp, spm[0:0x0].f32, spm[0:0x0].f32, 64:1x1x17\n halt"
    );
    let full = run_on(&text, &target("edge"), &[], Options::default()).expect("it runs").1;
    assert_eq!(full, time(&text));
}

#[test]
fn energy_is_work_and_bytes_at_the_targets_numbers() {
    let edge = target("edge");
    let text = ".dram 65536
        .origin \"a\"
        .origin \"b\"
        .engine vec
        .from 0:1 1:3
            viota spm[0:0x0].i32, 64:1x1x100
        .from
            halt
        .engine mxu
        .from 0:1
            ldw spm[0:0x0].bf16, k=64, m=64
            mma acc[0:0x0].f32, spm[0:0x0].bf16, k=64, m=64, n2=100
        .from
            halt
        .engine q0
            apset ap0, f32 @0x0 [64,1,1,17] <17,0,0,1>
            dld spm[0:0x0].f32, ap0
            halt";
    let report = time(text);
    let vec = 6400 * edge.vec_element_fj + 6400 * 4 * edge.spm_byte_fj;
    // The load reads 64 × 64 of two bytes; the product reads 64 × 100 of two and writes as many of four.
    let macs = 64 * 64 * 100 * edge.mac_bf16_fj;
    let mxu = macs + (64 * 64 * 2 + 6400 * 2 + 6400 * 4) * edge.spm_byte_fj;
    // 4352 bytes are 68 whole bursts.
    let queue = 4352 * (edge.dram_byte_fj + edge.spm_byte_fj);
    assert_eq!(report.engines[&Engine::Vec].energy_fj, vec);
    assert_eq!(report.engines[&Engine::Mxu].energy_fj, mxu);
    assert_eq!(report.engines[&Engine::Queue(0)].energy_fj, queue);
    assert_eq!(
        (report.origins["a"].energy_fj, report.origins["b"].energy_fj),
        (vec / 4 + mxu, vec - vec / 4)
    );
    let static_joules = edge.static_mw as f64 * 1e-3 * report.seconds;
    assert_eq!(report.static_joules, static_joules);
    assert_eq!(report.energy_joules, (vec + mxu + queue) as f64 * 1e-15 + static_joules);
}

#[test]
fn the_high_water_counts_live_bytes_only() {
    // Two groups use opposite ends of the scratchpad, one after the other: never both at once.
    let text = ".engine vec
            viota spm[0:0x0].f32, 64:1x1x64
            vts add, spm[0:0x1000].f32, spm[0:0x0].f32, 1.0f, 64:1x1x64
            viota spm[0:0x7000].f32, 64:1x1x64
            vts add, spm[0:0x6000].f32, spm[0:0x7000].f32, 1.0f, 64:1x1x64
            halt";
    // Results that nobody reads are not live: 256 bytes in 64 partitions.
    assert_eq!(time(text).spm_peak_bytes, 256 * 64);
}
