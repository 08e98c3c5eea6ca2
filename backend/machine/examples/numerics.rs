//! Measures every function of ACT and every narrowing of floats over all f32: the bound with the argument where it is
//! reached. `cargo run --release -p kiln-machine --example numerics [STEP [THREADS [FUNCTION…]]]`: a step for each
//! STEP-th pattern only, so many threads instead of one for each core, and only these functions. All of them take hours
//! of one thread; `RUSTFLAGS="-C target-cpu=native"` makes that some tens of minutes, and changes no bit.
//! Exits with 1 if something is beyond its bound.

#[path = "../tests/numerics/reference.rs"]
mod reference;

use std::ops::RangeInclusive;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut given = std::env::args().skip(1);
    let mut number = || given.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    let step = number().unwrap_or(1);
    let threads = number().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let wanted: Vec<String> = given.collect();
    let mut good = true;
    for (func, truth, bound) in reference::functions() {
        if !wanted.is_empty() && !wanted.contains(&func.to_string()) {
            continue;
        }
        let parts = spread(threads, |range| reference::worst(func, truth, range, step));
        let Some(worst) = parts.into_iter().max_by(|a, b| a.ulps.total_cmp(&b.ulps)) else { continue };
        let reference::Worst { ulps, at } = worst;
        println!("{func:<12} {ulps:>9.6} ULP at {at:e} ({:#010x}), bound {bound}", at.to_bits());
        good &= ulps <= bound;
    }
    if wanted.is_empty() {
        let wrong = spread(threads, |range| reference::first_wrong_narrowing(range, step));
        match wrong.into_iter().flatten().next() {
            None => println!("f16, bf16, f8e4m3, f8e5m2: every f32 rounds as elsewhere"),
            Some(wrong) => {
                println!("{wrong}");
                good = false;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Work on all bit patterns, a part in each thread.
fn spread<T: Send>(threads: usize, work: impl Fn(RangeInclusive<u32>) -> T + Sync) -> Vec<T> {
    let threads = threads as u64;
    let bound = |part: u64| (part << 32) / threads;
    std::thread::scope(|scope| {
        let range = |part| bound(part) as u32..=(bound(part + 1) - 1) as u32;
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn({
                    let work = &work;
                    move || work(range(part))
                })
            })
            .collect();
        parts.into_iter().filter_map(|part| part.join().ok()).collect()
    })
}
