//! Tasks in rectangles of small memories, whatever runs at once.

use super::*;

fn touch(parts: (usize, usize), bytes: (usize, usize), writes: bool, field: u8) -> Touch {
    Touch { memory: 0, rect: Rect { parts, bytes }, writes, field }
}

/// Adds one rectangle to another, whose numbers depend on the order of all such tasks.
fn add(flow: &Flow, from: (usize, usize), to: (usize, usize), size: (usize, usize)) {
    let rect = |(part, byte): (usize, usize)| ((part, part + size.0), (byte, byte + size.1));
    let ((from_parts, from_bytes), (to_parts, to_bytes)) = (rect(from), rect(to));
    let touches = [touch(from_parts, from_bytes, false, 0), touch(to_parts, to_bytes, true, 1)];
    let work = move |granted: &mut Granted<'_>| {
        for row in 0..size.0 {
            let line = granted.row(0, from.0 + row).0.to_vec();
            let (out, first) = granted.row_mut(1, to.0 + row);
            assert_eq!(first, to.1);
            out.iter_mut().zip(line).for_each(|(out, x)| *out = out.wrapping_mul(3).wrapping_add(x + 1));
        }
        Ok(())
    };
    flow.submit(Some(to.0), touches.into_iter().collect(), Span::NONE, Work::once(work));
}

/// The same between bytes of the same partitions, in each of them by itself.
fn add_by_rows(flow: &Flow, parts: (usize, usize), from: usize, to: usize, len: usize) {
    let rect = |byte: usize| (byte, byte + len);
    let touches = [touch(parts, rect(from), false, 0), touch(parts, rect(to), true, 1)];
    let work = move |granted: &mut Granted<'_>, rows: Range<usize>, end: usize| {
        assert!(rows.end <= end && end == parts.1 - parts.0 + 3);
        for row in rows {
            let part = parts.0 + row - 3;
            let line = granted.row(0, part).0.to_vec();
            let out = granted.row_mut(1, part).0;
            out.iter_mut().zip(line).for_each(|(out, x)| *out = out.wrapping_mul(5).wrapping_add(x + 1));
        }
    };
    // Rows are counted as the instruction does, not as the memory.
    let work = Work::Rows(3..parts.1 - parts.0 + 3, Box::new(work));
    flow.submit(Some(parts.0), touches.into_iter().collect(), Span::NONE, work);
}

fn bytes(flow: &Flow) -> Vec<u8> {
    flow.now(&[touch((0, 24), (0, 64), false, 0)], |granted| {
        (0..24).flat_map(|part| granted.row(0, part).0.to_vec()).collect()
    })
}

#[test]
fn any_number_of_threads_gives_what_one_gives() {
    let run = |threads: usize| {
        let flow = Flow::new(threads, vec![Arena::new(24, 64)]);
        let mut seed = 5u64;
        let mut below = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        for _ in 0..4000 {
            // Tasks of few different partitions, so that some may be run along with one another.
            if below(4) > 0 {
                let (parts, len) = ([(0, 12), (12, 24), (4, 21)][below(3)], 1 + below(24));
                add_by_rows(&flow, parts, below(65 - len), below(65 - len), len);
                continue;
            }
            let size = (1 + below(4), 1 + below(24));
            let mut place = || (below(25 - size.0), below(65 - size.1));
            let (from, to) = (place(), place());
            add(&flow, from, to, size);
        }
        (bytes(&flow), flow.finish())
    };
    let alone = run(1);
    assert!(alone.0.iter().any(|byte| *byte != alone.0[0]));
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), alone, "{threads} threads");
    }
}

#[test]
fn the_first_failure_is_told() {
    for threads in [1, 2, 4] {
        let flow = Flow::new(threads, vec![Arena::new(4, 16)]);
        for number in 0..200u32 {
            flow.set_tag(Tag { stream: 1, pc: number, tick: u64::from(number) * 2 });
            let fails = number % 50 == 37;
            let part = number as usize % 4;
            let touches = [touch((part, part + 1), (0, 16), true, 0)];
            let outcome = if fails { Err(TrapKind::Absent("anything")) } else { Ok(()) };
            flow.submit(None, touches.into_iter().collect(), Span::NONE, Work::once(move |_| outcome));
        }
        let tag = Tag { stream: 1, pc: 37, tick: 74 };
        assert_eq!(flow.finish(), Some((tag, TrapKind::Absent("anything"))), "{threads} threads");
        assert_eq!(flow.finish(), None);
    }
}

#[test]
fn a_panic_reaches_the_caller() {
    let flow = Flow::new(2, vec![Arena::new(1, 16)]);
    flow.submit(None, Touches::new(), Span::NONE, Work::once(|_| panic!("a task")));
    assert!(catch_unwind(AssertUnwindSafe(|| flow.drain())).is_err());
}

#[test]
#[should_panic(expected = "has not named operand 1")]
fn what_was_not_named_is_out_of_reach() {
    let flow = Flow::new(1, vec![Arena::new(1, 16)]);
    flow.now(&[touch((0, 1), (0, 8), false, 0)], |granted| granted.row(1, 0).0.len());
}
