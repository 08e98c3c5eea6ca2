//! Steady states: what decides what comes, and the jump over periods that are sure to repeat.

use super::{Clock, Device, NEVER};
use crate::period::{Advice, ClockState, State, StreamState, repetitions};

impl Device<'_> {
    /// An iteration of a loop has ended: look whether a steady state repeats.
    pub(super) fn iteration(&mut self, index: usize) {
        let Some(mut periods) = self.periods.take() else { return };
        let number = self.streams[index].loops.last().map_or(0, |open| open.number);
        let next = |i: usize| relative(self.clocks[i].next, self.now);
        match periods.iteration(index, &self.streams, self.taken, self.now, next) {
            Advice::GoOn => {}
            Advice::Keep => periods.keep(index, number, self.state()),
            Advice::Compare => periods.compare(index, number, self.state()),
            Advice::Finish => {
                let state = self.state();
                if let Some((recording, progress)) = periods.finish(&state) {
                    let period = state.now - recording.start.now;
                    let room = (self.settings.tick_limit - self.now) / period.max(1);
                    let times = repetitions(&progress).min(room);
                    let waited = state.waited.iter().zip(&recording.start.waited);
                    for (stream, (after, before)) in self.counters.streams.iter_mut().zip(waited) {
                        stream.semaphore_ticks += (after.0 - before.0) * times;
                        stream.hazard_ticks += (after.1 - before.1) * times;
                    }
                    for taken in &recording.taken {
                        let stream = &mut self.counters.streams[taken.stream as usize];
                        stream.executed[taken.step as usize] += times;
                        let dynamic = self.codes[taken.stream as usize].steps[taken.step as usize].dynamic;
                        if let (Some(dynamic), Some(sums)) = (dynamic, taken.sums) {
                            stream.sums[dynamic as usize].add(sums, times);
                        }
                    }
                    for (stream, progress) in self.streams.iter_mut().zip(progress) {
                        if let Some(progress) = progress {
                            let open = &mut stream.loops[progress.level];
                            open.left -= progress.iterations * times;
                            open.begun += progress.iterations * times;
                        }
                    }
                    self.taken += recording.taken.len() as u64 * times;
                    self.pass(period * times);
                }
            }
        }
        self.periods = Some(periods);
    }

    /// Let ticks pass in which what is under way stands still.
    fn pass(&mut self, ticks: u64) {
        self.now += ticks;
        self.jumped += ticks;
        for clock in &mut self.clocks {
            if clock.next != NEVER {
                clock.next += ticks;
            }
            clock.complete += ticks;
            if let Some((_, since)) = &mut clock.blocked {
                *since += ticks;
            }
        }
        self.semaphores.iter_mut().for_each(|semaphores| semaphores.shift(ticks));
        self.queues.shift(ticks);
        self.mxu.iter_mut().for_each(|mxu| mxu.shift(ticks));
    }

    /// All that decides what comes.
    fn state(&self) -> State {
        let now = self.now;
        let clock = |clock: &Clock| ClockState {
            next: relative(clock.next, now),
            complete: clock.complete.saturating_sub(now),
            blocked: clock.blocked.map(|(why, since)| (why, now - since)),
        };
        let streams = self.streams.iter().zip(self.codes).zip(&self.clocks);
        let waited = self.counters.streams.iter();
        State {
            now,
            streams: streams.map(|((s, code), c)| StreamState::new(s, code, clock(c))).collect(),
            semaphores: self.semaphores.iter().map(|semaphores| semaphores.state(now)).collect(),
            queues: self.queues.state(now),
            mxu: self.mxu.iter().map(|mxu| mxu.state(now)).collect(),
            waited: waited.map(|stream| (stream.semaphore_ticks, stream.hazard_ticks)).collect(),
        }
    }
}

/// Ticks from `now` to a stream's next instruction; none if it has none.
fn relative(next: u64, now: u64) -> Option<u64> {
    (next != NEVER).then(|| next.saturating_sub(now))
}
