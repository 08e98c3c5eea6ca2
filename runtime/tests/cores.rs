//! Several cores at once: one small program for each rule of docs/simulator.md, with its ticks worked out by hand.
//!
//! On `edge` with 8 cores in a torus of 2 × 4: links take a byte a tick and 1000 ticks a hop, control takes 1.

mod bench;

use bench::{run_on, target};
use kiln_machine::isa::Engine;
use kiln_machine::target::Target;
use kiln_runtime::{Options, Report};

fn eight() -> Target {
    let mut target = target("edge");
    target.set_all([("cores", "8"), ("torus_rows", "2")]).expect("a machine");
    target
}

/// The report of a program in which only time counts.
fn time(text: &str) -> Report {
    let options = Options { timing_only: true, cycle_limit: Some(1_000_000), ..Options::default() };
    run_on(text, &eight(), &[], options).expect("it runs").1
}

fn error(text: &str) -> String {
    let error = run_on(text, &eight(), &[], Options::default()).expect_err("a fault");
    // Without the frame that it is printed in.
    let text = format!("{:?}", miette::Report::new(error)).replace('│', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// 32 bytes to another core.
fn put(core: u8) -> String {
    format!("cput core={core}, spm[0:0x100].f32, spm[0:0x0].f32, 2:1x1x4\n")
}

#[test]
fn a_message_takes_its_bytes_and_a_latency_a_hop() {
    let cycles = |to| time(&format!(".engine col\n{} halt\n.core {to}\n.engine ctl\n halt", put(to))).cycles;
    assert_eq!((cycles(1), cycles(2), cycles(3)), (1032, 2032, 1032));
    // South, and west then south.
    assert_eq!((cycles(4), cycles(7)), (1032, 2032));
    // To itself: no link.
    assert_eq!(time(&format!(".engine col\n{} halt", put(0))).cycles, 32);
}

#[test]
fn a_stream_goes_on_when_its_message_has_left() {
    // The second starts at 32 on the same link.
    let text = format!(".engine col\n{}{} halt\n.core 1\n.engine ctl\n halt", put(1), put(1));
    assert_eq!(time(&text).cycles, 32 + 32 + 1000);
}

#[test]
fn messages_wait_for_links_in_the_order_of_their_issue() {
    let long = "cput core=2, spm[0:0x100].f32, spm[0:0x0].f32, 10:1x1x50\n"; // 2000 bytes
    let cycles = |wait| {
        let text = format!(
            ".engine col\n{wait}{} halt\n.core 1\n.engine col\n{long} halt\n.core 2\n.engine ctl\n halt",
            put(2)
        );
        time(&text).cycles
    };
    // Core 0 first: its 32 bytes are on the link from 1 to 2 from 1000 to 1032; then the 2000 bytes, and a hop.
    assert_eq!(cycles(""), 1032 + 2000 + 1000);
    // Core 0 a cycle later: that link is taken until 2000, and its message is there a hop after its start, at 1000.
    assert_eq!(cycles("nop\n"), 1000 + 32 + 2000);
}

#[test]
fn a_barrier_ends_a_longest_way_after_the_last_has_come() {
    // Cores 0 and 5 are two hops apart; core 5 comes at 10; the instruction takes 1 more.
    let nops = "nop\n".repeat(10);
    let report = time(&format!(".engine col\n bar\n halt\n.core 5\n.engine col\n{nops} bar\n halt"));
    assert_eq!(report.cycles, 10 + 2000 + 1);
    assert_eq!(report.engines[&Engine::Col].semaphore_ticks, 2010 + 2000);
    // A row waits for its own cores only: 4 and 5 are one hop apart, and 0 is alone in its row.
    let report = time(
        ".engine col\n bar group=1\n halt\n.core 4\n.engine col\n bar group=1\n halt\n.core 5\n.engine col\n bar group=1\n halt",
    );
    assert_eq!(report.cycles, 1001);
    // So does a column.
    let report = time(".engine col\n bar group=2\n halt\n.core 5\n.engine col\n bar group=2\n halt");
    assert_eq!(report.cycles, 1);
}

#[test]
fn a_barrier_waits_for_what_came_before_it() {
    // The message of core 0 arrives at 1032, then both meet.
    let text = format!(".engine col\n{} bar\n halt\n.core 1\n.engine col\n bar\n halt", put(1));
    assert_eq!(time(&text).cycles, 1032 + 1000 + 1);
}

#[test]
fn a_reduction_goes_there_and_back() {
    let cred = "cred sum, spm[0:0x100].f32, spm[0:0x0].f32, 2:1x1x4, group=1\n halt\n";
    let text: String = (0..4).map(|core| format!(".core {core}\n.engine col\n{cred}")).collect();
    // Three hops each way behind 32 bytes.
    assert_eq!(time(&text).cycles, 32 + 6000);
    // The last core comes at 5.
    let text =
        text.replace(".core 3\n.engine col\n", &format!(".core 3\n.engine col\n{}", "nop\n".repeat(5)));
    assert_eq!(time(&text).cycles, 5 + 32 + 6000);
}

#[test]
fn a_reduction_and_a_message_share_links() {
    // Cores 0 and 4 reduce 2000 bytes over the link between them and back; core 3's 32 bytes to core 4 pass core 0.
    let cred = "cred sum, spm[0:0x100].f32, spm[0:0x0].f32, 10:1x1x50, group=2\n halt\n";
    let cycles = |wait| {
        let reduce = format!(".engine col\n{cred}");
        time(&format!("{reduce}.core 3\n.engine col\n{wait}{} halt\n.core 4\n{reduce}", put(4))).cycles
    };
    // Core 3 before core 4 has come: its bytes are on the second link from 1000 to 1032.
    assert_eq!(cycles(""), 1032 + 2000 + 2 * 1000);
    // A cycle later that link is taken until 2000: it is there at 2032 + 1000, before the reduction ends.
    assert_eq!(cycles("nop\n"), 2000 + 2 * 1000);
}

#[test]
fn cores_share_the_dram() {
    let load = ".engine q0\n apset ap0, f32 @0x0 [64,1,1,17] <17,0,0,1>\n dld spm[0:0x0].f32, ap0\n halt\n";
    let cycles = |cores: u8| {
        let text: String = (0..cores).map(|core| format!(".core {core}\n{load}")).collect();
        time(&format!(".dram 65536\n{text}")).cycles
    };
    // 4352 bytes: four queues of 17 a tick are just the DRAM's 68, eight get 8.5 each.
    assert_eq!(
        (cycles(1), cycles(4), cycles(8)),
        (1 + 32 + 200 + 256, 1 + 32 + 200 + 256, 1 + 32 + 200 + 512)
    );
}

/// Core 1 gets 1, 2, 3, 4 from core 0 and stores them; both use semaphores of the same numbers.
#[test]
fn messages_carry_values() {
    let text = "
        .output y f32 [2,2] @0x1000
        .output who i32 [1] @0x2000
        .data @0x0 f32 1, 2, 3, 4
        .engine q0
            apset ap0, f32 @0x0 [2,1,1,2] <2,0,0,1>
            dld spm[0:0x0].f32, ap0
            sems sem0, n=1
            halt
        .engine col
            semw sem0, n=1
            cput core=1, spm[4:0x40].f16, spm[0:0x0].f32, 2:1x1x2
            bar
            halt
        .core 1
        .engine col
            bar
            csr r1, core
            sts r1, spm[9:0x0].i32
            sems sem0, n=1
            halt
        .engine q0
            semw sem0, n=1
            apset ap0, f32 @0x1000 [2,1,1,2] <2,0,0,1>
            dst ap0, spm[4:0x40].f16
            apset ap0, i32 @0x2000 [1,1,1,1] <0,0,0,1>
            dst ap0, spm[9:0x0].i32
            halt";
    let (outputs, report) = run_on(text, &eight(), &[], Options::default()).expect("it runs");
    let values: Vec<f64> = (0..4).map(|i| outputs["y"].element_f64(i)).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(outputs["who"].element_f64(0), 1.0);
    let timing = Options { timing_only: true, ..Options::default() };
    assert_eq!(run_on(text, &eight(), &[], timing).expect("it runs").1.ticks, report.ticks);
}

/// A chain in the order of the cores: ((10⁸ + 1) − 10⁸) + 1 is 1 in f32.
#[test]
fn reductions_chain_in_the_order_of_cores() {
    let cores = [(0, 1e8), (1, 1.0), (5, -1e8), (6, 1.0)];
    let mut text = String::new();
    for (core, value) in cores {
        text += &format!(".output y{core} f32 [1] @{:#x}\n", 0x1000 + 0x100 * core);
        text += &format!(
            ".core {core}
            .engine q0
                dfill spm[0:0x0].f32, 1:1x1x1, {value:?}f
                sems sem0, n=1
                semw sem1, n=1
                apset ap0, f32 @{:#x} [1,1,1,1] <0,0,0,1>
                dst ap0, spm[0:0x40].f32
                halt
            .engine col
                semw sem0, n=1
                cred sum, spm[0:0x40].f32, spm[0:0x0].f32, 1:1x1x1
                sems sem1, n=1
                halt\n",
            0x1000 + 0x100 * core
        );
    }
    let text = text.replace("100000000.0f", "1e8f");
    let (outputs, _) = run_on(&text, &eight(), &[], Options::default()).expect("it runs");
    for (core, _) in cores {
        assert_eq!(outputs[&format!("y{core}")].element_f64(0), 1.0, "core {core}");
    }
}

#[test]
fn what_cannot_be_is_told() {
    let told = error(".engine col\n bar\n halt\n.core 3\n.engine ctl\n halt");
    assert!(told.contains("waits for the other cores of group 0"), "{told}");
    let told = error(".core 2\n.engine col\n bar group=3\n halt");
    assert!(told.contains("col of core 2") && told.contains("another group of cores"), "{told}");
    let told = error(".core 8\n.engine ctl\n halt");
    assert!(told.contains("streams of core 8, but the target has 8 cores"), "{told}");
    let told = error(&format!(".engine col\n{} halt", put(1)));
    assert!(told.contains("a program on the core"), "{told}");
    let reduce = |op| {
        format!(
            ".engine vec\n viota spm[0:0x0].f32, 2:1x1x4\n sems sem0, n=1\n halt\n.engine col\n semw sem0, n=1\n cred {op}, spm[0:0x100].f32, spm[0:0x0].f32, 2:1x1x4\n halt\n"
        )
    };
    let told = error(&format!("{}.core 1\n{}", reduce("sum"), reduce("max")));
    assert!(told.contains("reduce differently"), "{told}");
    let told = error(&format!("{}.core 1\n.engine col\n bar\n halt", reduce("sum")));
    assert!(told.contains("one core of a group reduces, another waits"), "{told}");
    let told = error(&reduce("argmax"));
    assert!(told.contains("argmax or argmin over cores"), "{told}");
}
