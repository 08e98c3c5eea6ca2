//! The same bits and the same ticks whatever the host does.

mod bench;

use std::fmt::Write;
use std::num::NonZeroUsize;

use bench::{Noise, Outcome, f32s, run_on, target};
use kiln_machine::asm;
use kiln_machine::tensor::Tensor;
use kiln_runtime::{Options, Simulator};

/// Operations large enough to be spread over threads: loads, products, VEC, ACT, a store.
fn program() -> String {
    "
    .input  x f32 [128,512] @0x0
    .input  w f32 [128,128] @0x40000
    .output y f32 [128,512] @0x80000
    .engine q0
        apset ap0, f32 @0x40000 [128,1,1,128] <128,0,0,1>
        dld spm[0:0x0].f32, ap0
        apset ap1, f32 @0x0 [128,1,1,512] <512,0,0,1>
        dld spm[0:0x400].f32, ap1
        sems sem0, n=1
        semw sem3, n=1
        apset ap2, f32 @0x80000 [128,1,1,512] <512,0,0,1>
        dst ap2, spm[0:0x1000].f32
        halt
    .engine mxu
        semw sem0, n=1
        ldw spm[0:0x0].f32, k=128, m=128
        mma acc[0:0x0].f32, spm[0:0x400].f32, k=128, m=128, n2=512
        sems sem1, n=1
        halt
    .engine act
        semw sem1, n=1
        act tanh, spm[0:0x1000].f32, acc[0:0x0].f32, sum=spm[0:0x2000].f32, over=n2, 128:1x1x512
        sems sem2, n=1
        halt
    .engine vec
        semw sem2, n=1
        vtt div, spm[0:0x1000].f32, spm[0:0x1000].f32, spm[0:0x2000].f32<0,0,0>, 128:1x1x512
        sems sem3, n=1
        halt"
        .to_owned()
}

fn inputs() -> [(&'static str, Tensor); 2] {
    let mut noise = Noise::new(9);
    [("x", f32s(&[128, 512], &noise.f32s(128 * 512))), ("w", f32s(&[128, 128], &noise.f32s(128 * 128)))]
}

fn with_threads(threads: usize) -> Outcome {
    let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
    run_on(&program(), &target("core"), &inputs(), options)
}

#[test]
fn any_number_of_threads_gives_the_same() {
    let one = with_threads(1).expect("it runs");
    for threads in [2, 5] {
        assert_eq!(with_threads(threads).expect("it runs"), one, "{threads} threads");
    }
}

#[test]
fn a_fault_is_the_same_on_any_number_of_threads() {
    // Only partitions from 40 on miss an element.
    let text = ".engine vec
            viota spm[0:0x0].f32, 40:1x1x1024
            viota spm[40:0x0].f32, 24:1x1x1023
            vts add, spm[0:0x0].f32, spm[0:0x0].f32, 1.0f, 64:1x1x1024
            halt";
    for threads in [1, 2, 5] {
        let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
        let outcome = run_on(text, &target("edge"), &[], options);
        let text = outcome.expect_err("a hole").to_string();
        assert!(text.contains("uninitialised read: spm partition 40, byte 0xffc"), "{text}");
    }
}

#[test]
fn a_simulator_runs_again_as_if_new() {
    let core = target("core");
    let program = asm::assemble(&program(), Some(&core)).expect("it assembles");
    let inputs = inputs().into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    let mut simulator =
        Simulator::new(&program, &core, Options { trace: true, ..Options::default() }).expect("it loads");
    let first = simulator.run(&inputs).expect("it runs");
    assert_eq!(simulator.run(&inputs).expect("it runs again"), first);
    let (_, report) = first;
    assert_eq!(report.trace.len(), 7, "two loads, a grid, a product, ACT, VEC and a store");
    let words: u64 = report.instructions.values().sum();
    assert_eq!(words, 22);
}

/// A load of the stationary operand holds what stood there, whatever is written over it before the product: by another
/// engine, or by rows of the program file, which are not copied at once.
#[test]
fn a_load_of_the_grid_keeps_what_it_read() {
    // Rows of the program file are borrowed from 8 KiB on.
    const SIDE: usize = 48;
    let mut noise = Noise::new(3);
    let (x, w) = (noise.f32s(SIDE * SIDE), noise.f32s(SIDE * SIDE));
    let others: String = noise.f32s(SIDE * SIDE).iter().flat_map(|x| (*x as f32).to_le_bytes()).fold(
        String::new(),
        |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string grows");
            text
        },
    );
    let text = format!(
        "
        .input  x f32 [48,48] @0x0
        .input  w f32 [48,48] @0x4000
        .output y f32 [48,192] @0x8000
        .blob {others}
        .image @0x14000 row=9216 blob=0
        .engine q0
            apset ap0, f32 @0x4000 [48,1,1,48] <48,0,0,1>
            dld spm[0:0x0].f32, ap0
            apset ap1, f32 @0x0 [48,1,1,48] <48,0,0,1>
            dld spm[0:0x400].f32, ap1
            sems sem0, n=1
            semw sem3, n=1
            apset ap2, f32 @0x14000 [48,1,1,48] <48,0,0,1>
            dld spm[0:0x0].f32, ap2
            sems sem4, n=1
            semw sem5, n=1
            apset ap3, f32 @0x8000 [48,1,1,192] <192,0,0,1>
            dst ap3, spm[0:0x800].f32
            halt
        .engine mxu
            semw sem0, n=1
            ldwt spm[0:0x0].f32, k=48, m=48
            mma acc[0:0x0].f32, spm[0:0x400].f32, k=48, m=48, n2=48
            sems sem1, n=1
            semw sem2, n=1
            mma acc[0:0xc0].f32, spm[0:0x400].f32, k=48, m=48, n2=48
            ldwt spm[0:0x0].f32, k=48, m=48
            sems sem3, n=1
            semw sem4, n=1
            mma acc[0:0x180].f32, spm[0:0x400].f32, k=48, m=48, n2=48
            ldwt spm[0:0x0].f32, k=48, m=48
            mma acc[0:0x240].f32, spm[0:0x400].f32, k=48, m=48, n2=48
            sems sem1, n=1
            halt
        .engine vec
            semw sem1, n=1
            vts mul, spm[0:0x0].f32, spm[0:0x0].f32, 2.0f, 48:1x1x48
            sems sem2, n=1
            semw sem1, n=1
            vts mul, spm[0:0x800].f32, acc[0:0x0].f32, 1.0f, 48:1x1x192
            sems sem5, n=1
            halt"
    );
    let inputs = [("x", f32s(&[SIDE, SIDE], &x)), ("w", f32s(&[SIDE, SIDE], &w))];
    for threads in [1, 2, 5] {
        let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
        let (outputs, _) = run_on(&text, &target("core"), &inputs, options).expect("it runs");
        let y: Vec<f32> =
            outputs["y"].data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        for (m, row) in y.chunks(4 * SIDE).enumerate() {
            for n in 0..SIDE {
                let chain = (0..SIDE)
                    .fold(0.0f32, |acc, k| (w[m * SIDE + k] as f32).mul_add(x[k * SIDE + n] as f32, acc));
                let found = [row[n], row[SIDE + n], row[2 * SIDE + n]];
                assert_eq!(found, [chain, chain, 2.0 * chain], "{threads} threads, [{m}, {n}]");
                assert_ne!(row[3 * SIDE + n], row[2 * SIDE + n]);
            }
        }
    }
}
