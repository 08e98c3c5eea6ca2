//! Steady states: what decides what comes, and the jump over periods that are sure to repeat.

use super::{Clock, Device, NEVER};
use crate::code::Code;
use crate::period::{Advice, ClockState, Progress, Recording, State, StreamState, repetitions};

impl Device<'_> {
    /// An iteration of a loop has ended: look whether a steady state repeats.
    pub(super) fn iteration(&mut self, index: usize) {
        let Some(mut periods) = self.periods.take() else { return };
        let number = self.streams[index].loops.last().map_or(0, |open| open.number);
        let next = |i: usize| relative(self.clocks[i].next, self.now);
        match periods.iteration(index, &self.streams, self.taken, self.now, next) {
            Advice::GoOn => {}
            Advice::Keep => periods.keep(index, number, self.state()),
            Advice::Compare => {
                let kept = periods.kept(index, number);
                let again =
                    kept.and_then(|kept| Some((self.now - kept.now, self.progress(kept, |a, b| a == b)?)));
                match again {
                    Some((ticks, progress)) if ticks > 0 && repetitions(&progress) > 1 => {
                        periods.record(index, number, self.state(), ticks);
                    }
                    _ if periods.keeps(index, number) => periods.keep(index, number, self.state()),
                    _ => {}
                }
            }
            Advice::Finish => {
                if let Some(progress) = periods.start().and_then(|start| self.progress(start, |a, b| a == b))
                    && let Some(recording) = periods.finish()
                {
                    self.jump(&recording, progress);
                }
            }
        }
        self.periods = Some(periods);
    }

    /// Go on by as many periods as are sure to come.
    fn jump(&mut self, recording: &Recording, progress: Vec<Option<Progress>>) {
        let start = &recording.start;
        let period = self.now - start.now;
        // Instructions that were taken ahead are within the limit too.
        let next = self.clocks.iter().map(|clock| clock.next).filter(|next| *next != NEVER);
        let latest = next.fold(self.latest, u64::max);
        let room = self.settings.tick_limit.saturating_sub(latest) / period.max(1);
        let times = repetitions(&progress).min(room);
        for (stream, before) in self.counters.streams.iter_mut().zip(&start.waited) {
            stream.semaphore_ticks += (stream.semaphore_ticks - before.0) * times;
            stream.hazard_ticks += (stream.hazard_ticks - before.1) * times;
        }
        for taken in &recording.taken {
            let stream = &mut self.counters.streams[taken.stream as usize];
            stream.executed[taken.step as usize] += taken.times * times;
            self.taken += taken.times * times;
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
        self.pass(period * times);
    }

    /// A stream has branched back: whether all is as it was at such a branch before, so that all will be so for ever.
    pub(super) fn is_endless(&mut self, index: usize) -> bool {
        let Some(mut branches) = self.branches.take() else { return false };
        let (kept, keep) = branches[index].back();
        // How long a stream has waited decides nothing, but when it will begin to does.
        let alike = |a: &ClockState, b: &ClockState| {
            let why = |clock: &ClockState| clock.blocked.map(|(why, since)| (why, since.max(0)));
            (a.next, a.complete, why(a)) == (b.next, b.complete, why(b))
        };
        let progress = kept.and_then(|kept| self.progress(kept, alike));
        let endless = progress.is_some_and(|progress| progress.iter().all(Option::is_none));
        if keep && !endless {
            branches[index].keep(self.state());
        }
        self.branches = Some(branches);
        endless
    }

    /// Let ticks pass in which what is under way stands still.
    fn pass(&mut self, ticks: u64) {
        for tick in [&mut self.now, &mut self.time, &mut self.latest, &mut self.jumped] {
            *tick += ticks;
        }
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
        let streams = self.streams.iter().zip(self.codes).zip(&self.clocks);
        let waited = self.counters.streams.iter();
        State {
            now,
            streams: streams
                .map(|((s, code), c)| StreamState::new(s, code, self.decisive(code), c.state(now)))
                .collect(),
            semaphores: self.semaphores.iter().map(|semaphores| semaphores.state(now)).collect(),
            queues: self.queues.state(now),
            mxu: self.mxu.iter().map(|mxu| mxu.state(now)).collect(),
            waited: waited.map(|stream| (stream.semaphore_ticks, stream.hazard_ticks)).collect(),
        }
    }

    /// Registers of a stream that decide what comes; where there are values, a wrong address ends the run.
    fn decisive(&self, code: &Code) -> u32 {
        if self.settings.values { u32::MAX } else { code.control_registers }
    }

    /// What each stream did since a state, if the device is in that state again and will do the same again.
    /// `alike` compares the clocks of a stream.
    fn progress(
        &self,
        before: &State,
        alike: impl Fn(&ClockState, &ClockState) -> bool,
    ) -> Option<Vec<Option<Progress>>> {
        let now = self.now;
        let mut clocks = self.clocks.iter().zip(&before.streams);
        let same = clocks.all(|(clock, stream)| alike(&stream.clock, &clock.state(now)))
            && self.queues.is_in(&before.queues, now)
            && self.semaphores.iter().zip(&before.semaphores).all(|(one, state)| one.is_in(state, now))
            && self.mxu.iter().zip(&before.mxu).all(|(one, state)| one.is_in(state, now));
        if !same {
            return None;
        }
        let streams = before.streams.iter().zip(&self.streams).zip(self.codes);
        streams.map(|((before, stream), code)| before.progress(stream, self.decisive(code))).collect()
    }
}

impl Clock {
    /// Relative to `now`.
    fn state(&self, now: u64) -> ClockState {
        ClockState {
            next: relative(self.next, now),
            complete: self.complete.saturating_sub(now),
            blocked: self.blocked.map(|(why, since)| (why, since.wrapping_sub(now).cast_signed())),
        }
    }
}

/// Ticks from `now` to a stream's next instruction; none if it has none.
fn relative(next: u64, now: u64) -> Option<u64> {
    (next != NEVER).then(|| next.saturating_sub(now))
}
