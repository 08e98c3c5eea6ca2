//! Jumping over repetitions of a steady state changes no figure of the report.

mod bench;

use std::fmt::Write as _;

use bench::{run_on, target};
use kiln_machine::random::Rng;
use kiln_runtime::{Options, Report, SimError};

fn time(text: &str, every_period: bool, cycle_limit: Option<u64>) -> Result<Report, SimError> {
    time_on("edge", text, every_period, cycle_limit)
}

fn time_on(
    preset: &str,
    text: &str,
    every_period: bool,
    cycle_limit: Option<u64>,
) -> Result<Report, SimError> {
    let options = Options { timing_only: true, every_period, cycle_limit, ..Options::default() };
    let report = run_on(text, &target(preset), &[], options)?.1;
    // Looked at in ticks that were simulated, so it may fall between other moments.
    Ok(Report { spm_peak_bytes: 0, ..report })
}

/// One of a few.
fn pick<'a>(rng: &mut Rng, choice: &[&'a str]) -> &'a str {
    choice[rng.below(choice.len() as u64) as usize]
}

/// The work of one engine in one round.
fn work(rng: &mut Rng, engine: &str) -> String {
    let n = 1 + rng.below(300);
    match engine {
        "q0" | "q1" | "q2" => format!(
            "    {}\n",
            pick(
                rng,
                &[
                    "dld spm[0:0x0+r2].f32, ap0, reg=r1",
                    "dst ap1, spm[0:0x800].f32",
                    "dld spm[0:0x400].f32, ap1"
                ]
            )
        ),
        "mxu" => format!(
            "    ldw spm[0:0x0+r1].bf16, k={}, m=64\n    mma acc[0:{:#x}+r3].f32, spm[0:0x0].bf16, k=32, m=64, n2={n}, cont={}\n",
            32 << rng.below(2),
            rng.below(3) * 0x80,
            rng.below(2)
        ),
        "vec" => format!("    vts add, spm[0:0x0+r1].f32, spm[0:0x800].f32, 1.0f, 64:1x1x{n}\n"),
        _ => format!("    act exp, spm[0:0x0+r1].f32, spm[0:0x800].f32, 64:1x1x{n}\n"),
    }
}

/// Engines in a ring of semaphores, each with loops of its own; what the ring holds differs, so some run ahead.
fn program(rng: &mut Rng, rounds: u64) -> String {
    let engines: Vec<&str> =
        ["q0", "mxu", "vec", "q1", "act", "q2"].into_iter().filter(|_| rng.below(4) > 0).collect();
    let count = engines.len();
    let mut text = ".dram 65536\n".to_owned();
    for (i, engine) in engines.iter().enumerate() {
        let (full, empty) = (i, count + i);
        let (before, before_empty) = ((i + count - 1) % count, count + (i + count - 1) % count);
        let _ = writeln!(text, ".engine {engine}");
        if engine.starts_with('q') {
            let (a, b) = (1 + rng.below(64), 1 + rng.below(40));
            let _ = writeln!(text, "    apset ap0, f32 @0x0 [64,1,1,{a}] <64,0,0,1>");
            let _ = writeln!(text, "    apset ap1, f32 @0x4000 [{b},1,2,16] <64,0,17,1>");
        }
        if i > 0 {
            let _ = writeln!(text, "    sems sem{before_empty}, n={}", 1 + rng.below(3));
        }
        // An accumulator address that comes round again every other time.
        let _ = writeln!(text, "    loop count={rounds}, E{i}, step=r1:64");
        if i > 0 {
            let _ = writeln!(text, "    semw sem{before}, n=1");
        }
        // Between the work and its signals a transfer may end.
        let waits_late = rng.below(3) == 0;
        if i + 1 < count && !waits_late {
            let _ = writeln!(text, "    semw sem{empty}, n=1");
        }
        if *engine == "mxu" {
            text += "    alu sub, r3, r0, r3, imm=-512\n";
        }
        if rng.below(2) == 0 {
            let _ = writeln!(text, "    loop count={}, I{i}, step=r2:4", 1 + rng.below(5));
            text += &work(rng, engine);
            let _ = writeln!(text, "I{i}:\n    endl");
        }
        for _ in 0..1 + rng.below(3) {
            text += &work(rng, engine);
        }
        if rng.below(5) == 0 {
            text += "    fence\n";
        }
        if i + 1 < count && waits_late {
            let _ = writeln!(text, "    semw sem{empty}, n=1");
        }
        if i + 1 < count {
            let _ = writeln!(text, "    sems sem{full}, n=1");
        }
        if i > 0 {
            let _ = writeln!(text, "    sems sem{before_empty}, n=1");
        }
        let _ = writeln!(text, "E{i}:\n    endl\n    halt");
    }
    text
}

#[test]
fn random_programs_count_the_same() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let rounds = 200 + rng.below(1000);
        let text = program(&mut rng, rounds);
        let plain = time(&text, true, None).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let jumped = time(&text, false, None).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(jumped, plain, "seed {seed}:\n{text}");
        // The limit stops both at the same instructions.
        let limit = Some(1 + rng.below(plain.cycles));
        let plain = time(&text, true, limit).expect_err("the limit").to_string();
        let jumped = time(&text, false, limit).expect_err("the limit").to_string();
        assert_eq!(jumped, plain, "seed {seed}:\n{text}");
    }
}

#[test]
fn random_programs_that_stop_do_so_alike() {
    let mut stopped = 0;
    for seed in 100..140 {
        let mut rng = Rng::new(seed);
        let rounds = 20 + rng.below(200);
        let text = program(&mut rng, rounds);
        // One engine goes on for some rounds more, or comes to its end before the others.
        let other = if rng.below(2) == 0 { rounds + 1 + rng.below(5) } else { rounds - 1 - rng.below(5) };
        let at = text.match_indices("loop count").nth(rng.below(3) as usize).map_or(0, |(at, _)| at);
        let loops = format!("loop count={rounds},");
        let text = text[..at].to_owned() + &text[at..].replacen(&loops, &format!("loop count={other},"), 1);
        let plain = outcome(&text, true);
        assert_eq!(outcome(&text, false), plain, "seed {seed}:\n{text}");
        stopped += usize::from(plain.is_err());
    }
    assert!(stopped > 10, "{stopped} runs stop");
}

#[test]
fn cores_that_share_the_dram_count_the_same() {
    for seed in 200..220 {
        let mut rng = Rng::new(seed);
        let mut text = ".dram 65536\n".to_owned();
        for core in 0..2 {
            let rounds = 20 + rng.below(200);
            let _ = writeln!(text, ".core {core}");
            text += program(&mut rng, rounds).trim_start_matches(".dram 65536\n");
        }
        let [plain, ahead] = [true, false].map(|every_period| {
            time_on("chip", &text, every_period, None).unwrap_or_else(|error| panic!("{error}\n{text}"))
        });
        assert_eq!(ahead, plain, "seed {seed}:\n{text}");
    }
}

/// VEC and ACT take turns.
fn turns(rounds: u64) -> String {
    format!(
        ".engine vec
            loop count={rounds}, E
            viota spm[0:0x0].i32, 64:1x1x100
            sems sem0, n=1
            semw sem1, n=1
        E:  endl
            halt
        .engine act
            loop count={rounds}, F
            semw sem0, n=1
            act exp, spm[0:0x0].f32, spm[0:0x0].i32, 64:1x1x100
            sems sem1, n=1
        F:  endl
            halt"
    )
}

/// A ring of the matrix engine and VEC, which begins each round of the former at another time; nests of loads and
/// products whose operands move from round to round.
fn nests(rng: &mut Rng) -> String {
    let step = 64 * (3 + rng.below(2));
    let mut text = format!(".engine mxu\n    loop count=40, E, step=r4:{step}\n    semw sem0, n=1\n");
    for nest in 0..3 {
        let (outer, inner) = (1 + rng.below(6), 1 + rng.below(6));
        let acc = pick(rng, &["0x0+r3", "0x0", "0x80+r2"]);
        let (k, n) = (32 << rng.below(2), 1 + rng.below(60));
        let _ = write!(
            text,
            "    loop count={outer}, A{nest}, step=r1:{} r2:256
                mma acc[0:{acc}].f32, spm[0:0x0+r4].bf16, k={k}, m=64, n2={}
                ldw spm[0:0x0+r4].bf16, k={k}, m=64
                loop count={inner}, B{nest}, step=r1:{} r5:128
                ldw spm[0:0x100+r1].bf16, k={k}, m=64
                mma acc[0:{acc}].f32, spm[0:0x400+r5].bf16, k={k}, m=64, n2={n}, cont=1
                B{nest}: endl
                mma acc[0:0x0+r2].f32, spm[0:0x40+r4].bf16, k={k}, m=64, n2={n}
                A{nest}: endl\n",
            8 << rng.below(6),
            1 + rng.below(60),
            8 << rng.below(6),
        );
    }
    text += "    alu sub, r3, r0, r3, imm=-512\n    sems sem1, n=1\nE: endl\n    halt\n.engine vec\n    sems sem0, n=2\n    loop count=40, F\n";
    let _ = write!(
        text,
        "    sems sem0, n=1
            viota spm[0:0x0].i32, 64:1x1x{}
            semw sem1, n=1
            alu xor, r1, r1, r0, imm={}
            loop count=1, rc=r1, G
            nop
            G: endl
            F: endl
            halt",
        1 + rng.below(100),
        rng.below(8),
    );
    text
}

#[test]
fn nests_count_the_same() {
    for seed in 0..40 {
        let text = nests(&mut Rng::new(seed));
        let plain = time(&text, true, None).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let taken = time(&text, false, None).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(taken, plain, "seed {seed}:\n{text}");
        // The limit stops both at the same instructions.
        let limit = Some(plain.cycles / 2);
        let plain = time(&text, true, limit).expect_err("the limit").to_string();
        let taken = time(&text, false, limit).expect_err("the limit").to_string();
        assert_eq!(taken, plain, "seed {seed}:\n{text}");
    }
}

/// The outcome of a run, or its error.
fn outcome(text: &str, every_period: bool) -> Result<Report, String> {
    time(text, every_period, None).map_err(|error| error.to_string())
}

#[test]
fn counters_overflow_the_same() {
    let (mut fine, mut over) = (0, 0);
    for delay in (0..80).step_by(4) {
        // ACT takes ten units: before the last one comes, or later.
        let text = format!(
            ".engine vec
                sems sem0, n=65535
                viota spm[0:0x0].i32, 64:1x1x200
                sems sem0, n=1
                viota spm[0:0x0].i32, 64:1x1x200
                halt
            .engine act
                act exp, spm[0:0x800].f32, spm[0:0x400].i32, 64:1x1x{}
                semw sem0, n=10
                semw sem0, n=10
                act exp, spm[0:0x800].f32, spm[0:0x400].i32, 64:1x1x10
                halt",
            1 + delay
        );
        let plain = outcome(&text, true);
        assert_eq!(outcome(&text, false), plain, "{text}");
        *if plain.is_ok() { &mut fine } else { &mut over } += 1;
    }
    assert!(fine > 2 && over > 2, "{fine} runs end well, {over} do not");
}

#[test]
fn a_billion_rounds_take_no_time() {
    let few = time(&turns(1_000), true, None).expect("it runs");
    let more = time(&turns(2_000), true, None).expect("it runs");
    let many = time(&turns(1_000_000_000), false, None).expect("it runs");
    let round = (more.ticks - few.ticks) / 1_000;
    assert_eq!(many.ticks, few.ticks + round * (1_000_000_000 - 1_000));
    assert_eq!(many.instructions["viota"], 1_000_000_000);
}

#[test]
fn the_cycle_limit_stops_at_the_same_place() {
    let limit = Some(123_457);
    let plain = time(&turns(1_000_000), true, limit).expect_err("the limit").to_string();
    let jumped = time(&turns(1_000_000), false, limit).expect_err("the limit").to_string();
    assert_eq!(plain, jumped);
}
