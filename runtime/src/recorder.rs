//! What a trace holds while it is recorded: slices, the semaphores between them, and counters.

use std::collections::VecDeque;
use std::ops::Range;

use kiln_machine::isa::Engine;

use crate::report::{Flow, Timeline, TraceEvent};

/// A run's trace under way.
pub(crate) struct Recorder {
    window: Range<u64>,
    most: usize,
    events: Vec<TraceEvent>,
    timeline: Timeline,
    segment: u32,
    streams: Vec<Ends>,
    /// The core of each stream.
    cores: Vec<u8>,
    /// Of all cores, one core's after another's.
    semaphores: Vec<Units>,
}

/// What flows of a stream hang on.
#[derive(Clone, Default)]
struct Ends {
    /// Its last slice, if it was kept.
    last: Option<usize>,
    /// Semaphores that it has waited for since, and the slices before their signals.
    waited: Vec<(u8, usize)>,
}

/// Signals of a semaphore that are not taken: the units given up to each, and the slice before it.
#[derive(Clone, Default)]
struct Units {
    given: u64,
    taken: u64,
    signals: VecDeque<(u64, Option<usize>)>,
}

impl Recorder {
    /// Nothing recorded; slices that meet these ticks are kept, but no more than `most`.
    pub(crate) fn new(window: Range<u64>, most: usize) -> Self {
        Self {
            window,
            most,
            events: Vec::new(),
            timeline: Timeline::default(),
            segment: 0,
            streams: Vec::new(),
            cores: Vec::new(),
            semaphores: Vec::new(),
        }
    }

    /// A device segment begins, with streams of these cores.
    pub(crate) fn begin(&mut self, segment: u32, cores: Vec<u8>) {
        self.segment = segment;
        self.streams = vec![Ends::default(); cores.len()];
        let last = cores.iter().copied().max().unwrap_or(0);
        self.semaphores = vec![Units::default(); 256 * (usize::from(last) + 1)];
        self.cores = cores;
    }

    /// A semaphore of a stream's core.
    fn semaphore(&mut self, stream: usize, semaphore: u8) -> &mut Units {
        &mut self.semaphores[256 * usize::from(self.cores[stream]) + usize::from(semaphore)]
    }

    /// A unit works on an instruction; the slice's number, if it is kept.
    pub(crate) fn event(
        &mut self,
        stream: usize,
        engine: Engine,
        pc: u32,
        start: u64,
        end: u64,
    ) -> Option<usize> {
        let ends = &mut self.streams[stream];
        let waited = std::mem::take(&mut ends.waited);
        ends.last = None;
        // The window's last tick is not in it.
        if start >= self.window.end || end <= self.window.start && end > start {
            self.timeline.outside += 1;
            return None;
        }
        if self.events.len() >= self.most {
            self.timeline.left_out += 1;
            self.timeline.left_out_from.get_or_insert(start);
            return None;
        }
        let number = self.events.len();
        let core = self.cores[stream];
        self.events.push(TraceEvent { core, engine, segment: self.segment, pc, start, end });
        self.timeline.flows.extend(waited.into_iter().map(|(semaphore, from)| Flow {
            semaphore,
            from,
            to: number,
        }));
        ends.last = Some(number);
        Some(number)
    }

    /// A transfer has ended: when it really moved its bytes.
    pub(crate) fn moved(&mut self, number: usize, start: u64, end: u64) {
        if let Some(event) = self.events.get_mut(number) {
            (event.start, event.end) = (start, end);
        }
    }

    /// A stream signals behind its last slice.
    pub(crate) fn signal(&mut self, stream: usize, semaphore: u8, n: u16) {
        let last = self.streams[stream].last;
        let units = self.semaphore(stream, semaphore);
        units.given += u64::from(n);
        units.signals.push_back((units.given, last));
    }

    /// A stream has waited; its next slice hangs on the signal of the last unit taken.
    pub(crate) fn wait(&mut self, stream: usize, semaphore: u8, n: u16) {
        let units = self.semaphore(stream, semaphore);
        units.taken += u64::from(n);
        while units.signals.pop_front_if(|(given, _)| *given < units.taken).is_some() {}
        if let Some((_, Some(from))) = units.signals.front().copied() {
            self.streams[stream].waited.push((semaphore, from));
        }
    }

    /// From this tick on DRAM moves so many bytes a second.
    pub(crate) fn dram_rate(&mut self, tick: u64, bytes_per_second: u64) {
        let rates = &mut self.timeline.dram_bytes_per_second;
        let before = rates.last().map_or(0, |(_, rate)| *rate);
        if before != bytes_per_second && self.window.contains(&tick) && rates.len() < self.most {
            match rates.last_mut() {
                Some(last) if last.0 == tick => last.1 = bytes_per_second,
                _ => rates.push((tick, bytes_per_second)),
            }
        }
    }

    /// All of it; live scratchpad bytes from tick to tick come from elsewhere.
    pub(crate) fn finish(mut self, spm: Vec<(u64, u64)>) -> (Vec<TraceEvent>, Timeline) {
        self.timeline.spm_bytes = spm.into_iter().filter(|(tick, _)| self.window.contains(tick)).collect();
        (self.events, self.timeline)
    }
}
