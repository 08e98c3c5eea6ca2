//! Semaphores: counters that order instructions of different engines.

use std::collections::VecDeque;

use kiln_machine::isa::{Engine, Inst};

use crate::code::Code;
use crate::error::{SimError, TrapKind};

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
pub(crate) struct Semaphores {
    counts: Vec<u32>,
    users: Vec<Users>,
    /// By tick; of equal ticks, what was sent first comes first.
    in_flight: VecDeque<Signal>,
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
        Ok(Self { counts: vec![0; count], users, in_flight: VecDeque::new() })
    }

    /// Who uses it.
    pub(crate) fn users(&self, semaphore: u8) -> Users {
        self.users[usize::from(semaphore)]
    }

    /// Its count now.
    pub(crate) fn count(&self, semaphore: u8) -> u32 {
        self.counts.get(usize::from(semaphore)).copied().unwrap_or(0)
    }

    /// Trap unless the machine has this semaphore.
    pub(crate) fn check(&self, semaphore: u8) -> Result<(), TrapKind> {
        if usize::from(semaphore) < self.counts.len() {
            Ok(())
        } else {
            Err(TrapKind::NoSuchSemaphore { semaphore, count: self.counts.len() })
        }
    }

    /// Let a signal arrive at `tick`.
    pub(crate) fn send(&mut self, tick: u64, semaphore: u8, n: u16, producer: usize, pc: u32) {
        let later = self.in_flight.iter().rev().take_while(|signal| signal.tick > tick).count();
        let at = self.in_flight.len() - later;
        self.in_flight.insert(at, Signal { tick, semaphore, n, producer, pc });
    }

    /// When the next signal arrives.
    #[inline]
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        self.in_flight.front().map(|signal| signal.tick)
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

    /// Take `n` if there are so many.
    pub(crate) fn take(&mut self, semaphore: u8, n: u16) -> bool {
        let count = &mut self.counts[usize::from(semaphore)];
        let enough = *count >= u32::from(n);
        if enough {
            *count -= u32::from(n);
        }
        enough
    }

    /// What decides the future, relative to `now`: the counts, and (ticks, semaphore, n, producer, word) of what is
    /// on its way.
    pub(crate) fn state(&self, now: u64) -> SemaphoresState {
        (self.counts.clone(), self.flying(now).collect())
    }

    /// Whether the state is that one.
    pub(crate) fn is_in(&self, (counts, flying): &SemaphoresState, now: u64) -> bool {
        self.counts == *counts && self.flying(now).eq(flying.iter().copied())
    }

    fn flying(&self, now: u64) -> impl Iterator<Item = Flying> {
        self.in_flight.iter().map(move |s| (s.tick - now, s.semaphore, s.n, s.producer, s.pc))
    }

    /// Let `ticks` pass in which nothing changes.
    pub(crate) fn shift(&mut self, ticks: u64) {
        self.in_flight.iter_mut().for_each(|signal| signal.tick += ticks);
    }
}

/// See [`Semaphores::state`].
pub(crate) type SemaphoresState = (Vec<u32>, Vec<Flying>);

/// A signal on its way: ticks until it arrives, semaphore, n, producer, word.
type Flying = (u64, u8, u16, usize, u32);
