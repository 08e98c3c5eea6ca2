//! Semaphores: counters that order instructions of different engines.

use std::collections::VecDeque;

use kiln_machine::isa::{Engine, Inst};

use crate::bandwidth::NEVER;
use crate::code::Code;
use crate::error::{SimError, TrapKind};
use crate::queue::Signal as Sent;

/// The highest count.
const MAX_COUNT: u32 = 65535;

/// Who signals a semaphore and who waits for it; a semaphore has one of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Users {
    pub(crate) producer: Option<Engine>,
    pub(crate) consumer: Option<Engine>,
    /// The stream of its consumer.
    pub(crate) waiter: Option<usize>,
}

/// A signal on its way.
#[derive(Clone, Copy, Debug)]
struct Signal {
    tick: u64,
    semaphore: u8,
    n: u16,
    producer: usize,
    pc: u32,
}

/// All counters, and the signals that have not arrived.
///
/// Where streams run [ahead](crate::code::ahead) of the event loop, a signal's arrival is no event: it lies in its
/// semaphore's line, and the consumer counts what has arrived when it looks. A line is in the order of arrival, since a
/// semaphore has one producer.
pub(crate) struct Semaphores {
    counts: Vec<u32>,
    users: Vec<Users>,
    /// By tick; of equal ticks, what was sent first comes first.
    in_flight: VecDeque<Signal>,
    /// Of each semaphore, if streams run ahead.
    lines: Option<Vec<Line>>,
    /// When the last signal of all arrives.
    last: u64,
}

/// Signals of one semaphore that its consumer has not counted: tick of arrival, n.
#[derive(Clone, Default)]
struct Line {
    signals: VecDeque<(u64, u16)>,
    /// All of their units.
    units: u32,
    early: Early,
}

/// Units that a consumer took, maybe before the event loop came to their ticks.
#[derive(Clone, Copy, Default)]
struct Early {
    /// Taken up to `before`, and since then.
    units: [u32; 2],
    before: u64,
    last: u64,
}

impl Early {
    /// Units are taken at the tick `now`; the event loop is at `time`.
    fn take(&mut self, n: u32, now: u64, time: u64) {
        self.forget(time);
        self.units[1] += n;
        self.last = now;
    }

    /// Forget units whose ticks are over.
    fn forget(&mut self, time: u64) {
        if self.before <= time {
            self.units = [self.units[1], 0];
            self.before = self.last;
        }
    }
}

/// A signal that arrived at a full counter: its producer's stream and word.
#[derive(Debug)]
pub(crate) struct Overflow {
    pub(crate) producer: usize,
    pub(crate) pc: u32,
    pub(crate) kind: TrapKind,
}

impl Semaphores {
    /// `count` counters of a core at zero, with the users found in its streams.
    pub(crate) fn new(count: usize, core: u8, codes: &[Code]) -> Result<Self, SimError> {
        let mut users = vec![Users::default(); 256];
        for (stream, code) in codes.iter().enumerate().filter(|(_, code)| code.core == core) {
            for step in &code.steps {
                let (semaphore, role) = match step.inst {
                    Inst::Sems { sem, .. } => (sem.0, "producers"),
                    Inst::Semw { sem, .. } => (sem.0, "consumers"),
                    _ => continue,
                };
                let user = &mut users[usize::from(semaphore)];
                if role == "consumers" {
                    user.waiter = Some(stream);
                }
                let slot = if role == "producers" { &mut user.producer } else { &mut user.consumer };
                match *slot {
                    Some(first) if first != code.engine => {
                        return Err(SimError::SharedSemaphore {
                            semaphore,
                            role,
                            first: first.to_string(),
                            second: code.engine.to_string(),
                        });
                    }
                    _ => *slot = Some(code.engine),
                }
            }
        }
        Ok(Self { counts: vec![0; count], users, in_flight: VecDeque::new(), lines: None, last: 0 })
    }

    /// Streams run ahead from here on.
    pub(crate) fn run_ahead(&mut self) {
        self.lines = Some(vec![Line::default(); self.counts.len()]);
    }

    /// When the last signal of all arrives.
    pub(crate) fn last_arrival(&self) -> u64 {
        self.last
    }

    /// Who uses it.
    pub(crate) fn users(&self, semaphore: u8) -> Users {
        self.users[usize::from(semaphore)]
    }

    /// Its count, when all that is on its way has arrived.
    pub(crate) fn count(&self, semaphore: u8) -> u32 {
        let line = self.lines.as_ref().and_then(|lines| lines.get(usize::from(semaphore)));
        let count = self.counts.get(usize::from(semaphore)).copied().unwrap_or(0);
        count + line.map_or(0, |line| line.units)
    }

    /// Trap unless the machine has this semaphore.
    pub(crate) fn check(&self, semaphore: u8) -> Result<(), TrapKind> {
        if usize::from(semaphore) < self.counts.len() {
            Ok(())
        } else {
            Err(TrapKind::NoSuchSemaphore { semaphore, count: self.counts.len() })
        }
    }

    /// Let a signal arrive at `tick`, while the event loop is at `time`; false if streams run ahead and the counter may
    /// overflow by it.
    pub(crate) fn send(&mut self, tick: u64, signal: Sent, producer: usize, time: u64) -> bool {
        let Sent { semaphore, n, pc, .. } = signal;
        self.last = self.last.max(tick);
        if let Some(lines) = &mut self.lines {
            let line = &mut lines[usize::from(semaphore)];
            line.signals.push_back((tick, n));
            line.units += u32::from(n);
            line.early.forget(time);
            let [before, since] = line.early.units;
            return self.counts[usize::from(semaphore)] + line.units + before + since <= MAX_COUNT;
        }
        let later = self.in_flight.iter().rev().take_while(|signal| signal.tick > tick).count();
        let at = self.in_flight.len() - later;
        self.in_flight.insert(at, Signal { tick, semaphore, n, producer, pc });
        true
    }

    /// When the next signal arrives; `NEVER` if none is on its way, or where streams run ahead.
    #[inline]
    pub(crate) fn next_arrival(&self) -> u64 {
        self.in_flight.front().map_or(NEVER, |signal| signal.tick)
    }

    /// Let the next signal arrive; the semaphore it counted.
    pub(crate) fn arrive(&mut self) -> Result<Option<u8>, Overflow> {
        let Some(signal) = self.in_flight.pop_front() else { return Ok(None) };
        let count = &mut self.counts[usize::from(signal.semaphore)];
        if *count + u32::from(signal.n) > MAX_COUNT {
            return Err(Overflow {
                producer: signal.producer,
                pc: signal.pc,
                kind: TrapKind::SemaphoreOverflow {
                    semaphore: signal.semaphore,
                    count: *count,
                    added: signal.n.into(),
                },
            });
        }
        *count += u32::from(signal.n);
        Ok(Some(signal.semaphore))
    }

    /// Take `n` if there are so many at the tick `now`, while the event loop is at `time`.
    pub(crate) fn take(&mut self, semaphore: u8, n: u16, now: u64, time: u64) -> bool {
        let count = &mut self.counts[usize::from(semaphore)];
        let line = self.lines.as_mut().map(|lines| &mut lines[usize::from(semaphore)]);
        if let Some(line) = line {
            while let Some((_, units)) = line.signals.pop_front_if(|(tick, _)| *tick <= now) {
                *count += u32::from(units);
                line.units -= u32::from(units);
            }
            if *count >= u32::from(n) {
                line.early.take(n.into(), now, time);
            }
        }
        let enough = *count >= u32::from(n);
        if enough {
            *count -= u32::from(n);
        }
        enough
    }

    /// When there will be `n`, by the signals that have been sent; only where streams run ahead.
    #[inline]
    pub(crate) fn enough_at(&self, semaphore: u8, n: u16) -> Option<u64> {
        let line = self.lines.as_ref()?.get(usize::from(semaphore))?;
        let mut count = self.counts[usize::from(semaphore)];
        if count >= u32::from(n) {
            return Some(0);
        }
        if count + line.units < u32::from(n) {
            return None;
        }
        let arrived = line.signals.iter().find(|(_, units)| {
            count += u32::from(*units);
            count >= u32::from(n)
        });
        arrived.map(|(tick, _)| *tick)
    }

    /// What decides the future, relative to `now`: the counts, and (ticks, semaphore, n, producer, word) of what is
    /// on its way.
    pub(crate) fn state(&self, now: u64) -> SemaphoresState {
        (self.counts(now), self.flying(now).collect())
    }

    /// Whether the state is that one.
    pub(crate) fn is_in(&self, (counts, flying): &SemaphoresState, now: u64) -> bool {
        self.counts(now) == *counts && self.flying(now).eq(flying.iter().copied())
    }

    fn flying(&self, now: u64) -> impl Iterator<Item = Flying> {
        let lines = self.lines.iter().flatten().enumerate().filter(|(_, line)| line.units > 0);
        let late = lines.flat_map(move |(semaphore, line)| {
            let late = line.signals.iter().filter(move |(tick, _)| *tick > now);
            late.map(move |(tick, n)| (tick - now, semaphore as u8, *n, 0, 0))
        });
        self.in_flight.iter().map(move |s| (s.tick - now, s.semaphore, s.n, s.producer, s.pc)).chain(late)
    }

    /// The counts at the tick `now`.
    fn counts(&self, now: u64) -> Vec<u32> {
        let mut counts = self.counts.clone();
        let lines = self.lines.iter().flatten().zip(&mut counts);
        for (line, count) in lines.filter(|(line, _)| line.units > 0) {
            let arrived = line.signals.iter().filter(|(tick, _)| *tick <= now);
            *count += arrived.map(|(_, n)| u32::from(*n)).sum::<u32>();
        }
        counts
    }

    /// Let `ticks` pass in which nothing changes.
    pub(crate) fn shift(&mut self, ticks: u64) {
        self.in_flight.iter_mut().for_each(|signal| signal.tick += ticks);
        for line in self.lines.iter_mut().flatten().filter(|line| line.units > 0) {
            line.signals.iter_mut().for_each(|(tick, _)| *tick += ticks);
        }
        self.last += ticks;
    }
}

/// See [`Semaphores::state`].
pub(crate) type SemaphoresState = (Vec<u32>, Vec<Flying>);

/// A signal on its way: ticks until it arrives, semaphore, n, producer, word.
type Flying = (u64, u8, u16, usize, u32);
