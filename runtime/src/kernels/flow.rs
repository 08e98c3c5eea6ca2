//! Values in the order of their data: a program's instructions as tasks that many threads run.
//!
//! The event loop issues instructions one after another, and each gives the flow a task or some: what it touches, and
//! what it does with that. A task runs as soon as every earlier one is done that writes what it touches or touches what
//! it writes. So results are those of one thread that runs task after task, whatever runs at once, and an engine's work
//! overlaps with that of the others as it would on the machine. The caller's thread runs tasks itself when many wait.
//!
//! A task that fails stops the run; of several the first in the program's order is told, since every task before it has
//! been run by then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use smallvec::SmallVec;

use super::ahead::Span;
use super::arena::{Arena, Granted, Rect};
use crate::error::TrapKind;

/// Tasks that may wait before the caller runs some itself.
const WINDOW: usize = 96;
/// Tasks that are run along with one another at most.
const TOGETHER: usize = 6;
/// Partitions that each of them works in before the next one does.
const BLOCK: usize = 8;
/// Turns that a thread without work spins before it sleeps: some tens of microseconds.
const SPINS: u32 = 1_000;

/// What a task touches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    /// Which memory: the number of an arena, or a number of [`Flow::other`].
    pub(crate) memory: usize,
    pub(crate) rect: Rect,
    pub(crate) writes: bool,
    /// The operand as which the task gets it, if it is in an arena.
    pub(crate) field: u8,
}

/// What one task touches.
pub(crate) type Touches = SmallVec<[Touch; 4]>;

/// Where in the program a task comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Stream and word.
    pub(crate) stream: u32,
    pub(crate) pc: u32,
    pub(crate) tick: u64,
}

/// What a task does.
pub(crate) enum Work {
    Once(Box<dyn FnOnce(&mut Granted<'_>) -> Result<(), TrapKind> + Send>),
    /// Something in each of these partitions that depends on nothing in others.
    Rows(Range<usize>, Box<RowsWork>),
}

/// Work in some partitions, and one past the last of those that it will be given.
pub(crate) type RowsWork = dyn Fn(&mut Granted<'_>, Range<usize>, usize) + Send;

impl Work {
    /// Something that is done at once.
    pub(crate) fn once(work: impl FnOnce(&mut Granted<'_>) -> Result<(), TrapKind> + Send + 'static) -> Self {
        Self::Once(Box::new(work))
    }

    fn run(self, granted: &mut Granted<'_>) -> Result<(), TrapKind> {
        match self {
            Self::Once(work) => work(granted),
            Self::Rows(rows, work) => {
                let end = rows.end;
                work(granted, rows, end);
                Ok(())
            }
        }
    }
}

/// The tasks under way, and who runs them.
pub(crate) struct Flow {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
    tag: AtomicU64,
    tick: AtomicU64,
}

struct Shared {
    arenas: Vec<Arena>,
    state: Mutex<State>,
    wake: Condvar,
    /// Tasks that may run now, as far as is quickly seen.
    ready: AtomicUsize,
    failed: AtomicBool,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Number of the first task that is kept.
    first: u64,
    tasks: VecDeque<Task>,
    /// Numbers of those that may run, the earliest first: of those meant for each thread, and of those for any.
    ready: Vec<BinaryHeap<Reverse<u64>>>,
    /// What the tasks that are not done touch in each memory.
    under_way: Vec<Users>,
    unfinished: usize,
    sleeping: usize,
    /// The first task that failed.
    failure: Option<(u64, Tag, TrapKind)>,
    panicked: bool,
}

/// The touches of tasks that are not done.
#[derive(Default)]
struct Users {
    readers: Vec<UnderWay>,
    writers: Vec<UnderWay>,
}

/// A touch of a task that is not done.
struct UnderWay {
    rect: Rect,
    task: u64,
}

impl Users {
    /// Those that touch in the same way.
    fn like(&mut self, writes: bool) -> &mut Vec<UnderWay> {
        if writes { &mut self.writers } else { &mut self.readers }
    }

    /// Those that a touch has to wait for.
    fn before<'a>(&'a self, touch: &Touch) -> impl Iterator<Item = &'a UnderWay> + use<'a> {
        let (rect, readers) = (touch.rect, if touch.writes { &self.readers[..] } else { &[] });
        self.writers.iter().chain(readers).filter(move |earlier| earlier.rect.meets(&rect))
    }
}

struct Task {
    touches: Touches,
    tag: Tag,
    /// The queue that it waits in.
    queue: usize,
    work: Option<Work>,
    /// The partitions of all that it touches, if it works in each by itself.
    parts: Option<(usize, usize)>,
    /// What it reads first.
    first_read: Span,
    /// How many tasks this one waits for, and which wait for it.
    waits: usize,
    after: Vec<u64>,
    done: bool,
}

impl Flow {
    /// A flow in these memories, run by `threads` threads, the caller's included.
    pub(crate) fn new(threads: usize, arenas: Vec<Arena>) -> Self {
        let queues = (0..threads.max(1) + 1).map(|_| BinaryHeap::new()).collect();
        let shared = Arc::new(Shared {
            arenas,
            state: Mutex::new(State { ready: queues, ..State::default() }),
            wake: Condvar::new(),
            ready: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let member = |number: usize| {
            let shared = Arc::clone(&shared);
            // A host that gives no more threads makes the flow slower, not wrong.
            std::thread::Builder::new()
                .name(format!("kiln-values-{number}"))
                .spawn(move || shared.serve(number))
                .ok()
        };
        let members = (1..threads.max(1)).filter_map(member).collect();
        Self { shared, members, tag: AtomicU64::new(0), tick: AtomicU64::new(0) }
    }

    /// Threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.members.len() + 1
    }

    /// The arena of this number.
    pub(crate) fn arena(&self, number: usize) -> &Arena {
        &self.shared.arenas[number]
    }

    /// The number of the `n`-th memory that is no arena: tasks that touch it are only kept in order.
    pub(crate) fn other(&self, n: usize) -> usize {
        self.shared.arenas.len() + n
    }

    /// The tasks to come are of this place in the program.
    pub(crate) fn set_tag(&self, tag: Tag) {
        self.tag.store(u64::from(tag.stream) << 32 | u64::from(tag.pc), Ordering::Relaxed);
        self.tick.store(tag.tick, Ordering::Relaxed);
    }

    fn tag(&self) -> Tag {
        let both = self.tag.load(Ordering::Relaxed);
        Tag { stream: (both >> 32) as u32, pc: both as u32, tick: self.tick.load(Ordering::Relaxed) }
    }

    /// Whether a task has failed; its failure is known after [`Self::finish`].
    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Run a task when what it touches is free: at once if there is no other thread. One thread only may submit.
    ///
    /// Tasks of one `piece` are best run by one thread, since they touch the same bytes. The task before it may ask the
    /// host for what it reads first.
    pub(crate) fn submit(&self, piece: Option<usize>, touches: Touches, first_read: Span, work: Work) {
        let tag = self.tag();
        if self.members.is_empty() {
            if let Err(kind) = work.run(&mut self.shared.grant(&touches, Span::NONE)) {
                self.shared.fail(0, tag, kind);
            }
            return;
        }
        let mut state = self.shared.lock();
        let number = state.first + state.tasks.len() as u64;
        let (first, mut waits) = (state.first, 0);
        let State { tasks, under_way, .. } = &mut *state;
        for touch in &touches {
            if under_way.len() <= touch.memory {
                under_way.resize_with(touch.memory + 1, Users::default);
            }
            for earlier in under_way[touch.memory].before(touch) {
                let after = &mut tasks[(earlier.task - first) as usize].after;
                // A task of which several touches are in the way is waited for once.
                if after.last() != Some(&number) {
                    after.push(number);
                    waits += 1;
                }
            }
        }
        for Touch { memory, rect, writes, .. } in touches.iter().copied() {
            under_way[memory].like(writes).push(UnderWay { rect, task: number });
        }
        let parts = match (&work, &touches[..]) {
            (Work::Rows(..), [first, rest @ ..]) => {
                let parts = first.rect.parts;
                rest.iter().all(|touch| touch.rect.parts == parts).then_some(parts)
            }
            _ => None,
        };
        let (work, after) = (Some(work), Vec::new());
        let queue = piece.map_or(self.threads(), |piece| piece % self.threads());
        tasks.push_back(Task { touches, tag, queue, work, parts, first_read, waits, after, done: false });
        state.unfinished += 1;
        if waits == 0 {
            self.shared.make_ready(&mut state, number);
        }
        if state.unfinished >= WINDOW {
            drop(self.shared.help_until(state, |state| state.unfinished < WINDOW));
        }
    }

    /// Whether fewer tasks may run now than there are threads.
    pub(crate) fn is_short_of_work(&self) -> bool {
        self.shared.ready.load(Ordering::Relaxed) < self.threads()
    }

    /// Whether no task is under way that writes there.
    pub(crate) fn is_settled(&self, memory: usize, rect: &Rect) -> bool {
        let state = self.shared.lock();
        let mut writers = state.under_way.get(memory).into_iter().flat_map(|users| &users.writers);
        !writers.any(|earlier| earlier.rect.meets(rect))
    }

    /// Run what is left; then no task is under way.
    ///
    /// # Panics
    /// If a task has panicked.
    pub(crate) fn drain(&self) {
        if self.members.is_empty() {
            return;
        }
        let state = self.shared.help_until(self.shared.lock(), |state| state.unfinished == 0);
        assert!(!state.panicked, "a thread of the simulator panicked");
    }

    /// Run what is left: the first task in the program's order that failed. Then nothing has failed any more.
    pub(crate) fn finish(&self) -> Option<(Tag, TrapKind)> {
        self.drain();
        self.shared.failed.store(false, Ordering::Relaxed);
        self.shared.lock().failure.take().map(|(_, tag, kind)| (tag, kind))
    }

    /// Run `work` on these touches now that nothing else is under way.
    pub(crate) fn now<R>(&self, touches: &[Touch], work: impl FnOnce(&mut Granted<'_>) -> R) -> R {
        self.drain();
        work(&mut self.shared.grant(touches, Span::NONE))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Whoever looked before that sleeps by now, or has not got the lock yet.
        drop(self.shared.lock());
        self.shared.wake.notify_all();
        for member in self.members.drain(..) {
            // A task that panicked has been told by `drain`.
            let _ = member.join();
        }
    }
}

/// A task that a thread runs.
struct Taken {
    number: u64,
    tag: Tag,
    touches: Touches,
    work: Option<Work>,
}

/// Tasks that a thread runs one after another, or along with one another.
type Batch = SmallVec<[Taken; 1]>;

impl State {
    fn any_ready(&self) -> bool {
        self.ready.iter().any(|queue| !queue.is_empty())
    }

    /// The queue whose earliest task a thread should run next.
    fn next_queue(&self, thread: usize) -> Option<usize> {
        let any = self.ready.len() - 1;
        let earliest = |queues: &[usize]| -> Option<usize> {
            let of = |queue: &usize| self.ready[*queue].peek().map(|number| (number.0, *queue));
            queues.iter().filter_map(of).min().map(|(_, queue)| queue)
        };
        earliest(&[thread, any]).or_else(|| {
            (0..any)
                .filter(|queue| !self.ready[*queue].is_empty())
                .max_by_key(|queue| self.ready[*queue].len())
        })
    }

    /// Take the number of the task that a thread should run next.
    fn next_ready(&mut self, thread: usize) -> Option<u64> {
        let queue = self.next_queue(thread)?;
        self.ready[queue].pop().map(|Reverse(number)| number)
    }

    fn task(&mut self, number: u64) -> &mut Task {
        &mut self.tasks[(number - self.first) as usize]
    }

    /// Take a task that may run.
    fn take(&mut self, number: u64) -> Taken {
        let task = self.task(number);
        let (touches, work) = (std::mem::take(&mut task.touches), task.work.take());
        Taken { number, tag: task.tag, touches, work }
    }

    /// Take a task that may run, and those that may be run along with it, partitions by partitions: all of them work in
    /// the same partitions, each by itself, and wait for nothing but one another.
    fn take_with_rest(&mut self, number: u64) -> Batch {
        let mut batch = Batch::new();
        batch.push(self.take(number));
        let Some(parts) = self.task(number).parts else { return batch };
        let mut candidates: SmallVec<[u64; 16]> = SmallVec::from_slice(&self.task(number).after);
        let mut considered = number;
        while batch.len() < TOGETHER {
            let Some(next) = candidates.iter().copied().filter(|next| *next > considered).min() else {
                break;
            };
            considered = next;
            let Task { waits, parts: its_parts, .. } = *self.task(next);
            let before = batch.iter().filter(|taken| self.task(taken.number).after.contains(&next)).count();
            if its_parts == Some(parts) && waits == before {
                batch.push(self.take(next));
                candidates.extend_from_slice(&self.task(next).after);
            }
        }
        batch
    }

    /// What a thread will read first when it has run a task, as far as is known: the earliest task will be next of those
    /// that may run by then.
    fn next_read(&self, thread: usize, after: &[u64]) -> Span {
        let task = |number: u64| &self.tasks[(number - self.first) as usize];
        let ready = self.next_queue(thread).and_then(|queue| self.ready[queue].peek());
        let freed = after.iter().copied().filter(|number| {
            let Task { waits, queue, .. } = task(*number);
            *waits == 1 && [thread, self.ready.len() - 1].contains(queue)
        });
        let next = freed.chain(ready.map(|Reverse(number)| *number)).min();
        next.map_or(Span::NONE, |number| task(number).first_read)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_ready(&self, state: &mut State, number: u64) {
        let queue = state.tasks[(number - state.first) as usize].queue;
        state.ready[queue].push(Reverse(number));
        self.ready.fetch_add(1, Ordering::Release);
        if state.sleeping > 0 {
            self.wake.notify_one();
        }
    }

    /// What a task has named.
    fn grant(&self, touches: &[Touch], next: Span) -> Granted<'_> {
        let mut granted = Granted::none(next);
        for touch in touches {
            if let Some(arena) = self.arenas.get(touch.memory) {
                // SAFETY: tasks that conflict never run at once, and `now` waits for all of them.
                unsafe { granted.add(touch.field, arena, touch.rect, touch.writes) };
            }
        }
        granted
    }

    /// Note a failure, if it is the first in the program's order.
    fn fail(&self, number: u64, tag: Tag, kind: TrapKind) {
        let mut state = self.lock();
        if state.failure.as_ref().is_none_or(|(first, _, _)| number < *first) {
            state.failure = Some((number, tag, kind));
        }
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Run a task, or some by blocks of their partitions: what one leaves is near when the next one wants it.
    fn run(&self, batch: &mut Batch, next: Span) -> Result<(), TrapKind> {
        if let [Taken { touches, work, .. }] = &mut batch[..] {
            return work.take().map_or(Ok(()), |work| work.run(&mut self.grant(touches, next)));
        }
        let len = |taken: &Taken| if let Some(Work::Rows(rows, _)) = &taken.work { rows.len() } else { 0 };
        let len = batch.iter().map(len).max().unwrap_or(0);
        for start in (0..len).step_by(BLOCK) {
            for Taken { touches, work, .. } in batch.iter() {
                if let Some(Work::Rows(rows, work)) = work {
                    let first = rows.start + start;
                    work(&mut self.grant(touches, next), first..(first + BLOCK).min(rows.end), rows.end);
                }
            }
        }
        Ok(())
    }

    /// Run a task that may run, if there is one: the earliest of those for this thread or any, else of another's.
    fn run_one<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        thread: usize,
    ) -> (MutexGuard<'a, State>, bool) {
        let Some(number) = state.next_ready(thread) else { return (state, false) };
        self.ready.fetch_sub(1, Ordering::Relaxed);
        let mut batch = state.take_with_rest(number);
        let next = state.next_read(thread, &state.tasks[(number - state.first) as usize].after);
        drop(state);
        match catch_unwind(AssertUnwindSafe(|| self.run(&mut batch, next))) {
            Ok(Ok(())) => {}
            Ok(Err(kind)) => self.fail(number, batch[0].tag, kind),
            Err(_) => {
                self.lock().panicked = true;
                self.failed.store(true, Ordering::Relaxed);
            }
        }
        let mut state = self.lock();
        for Taken { number, touches, .. } in &batch {
            for touch in touches {
                let under_way = state.under_way[touch.memory].like(touch.writes);
                if let Some(at) = under_way.iter().position(|other| other.task == *number) {
                    under_way.swap_remove(at);
                }
            }
            let task = state.task(*number);
            task.done = true;
            for later in std::mem::take(&mut task.after) {
                let task = state.task(later);
                task.waits -= 1;
                if task.waits == 0 && task.work.is_some() {
                    self.make_ready(&mut state, later);
                }
            }
        }
        let was_full = state.unfinished >= WINDOW;
        state.unfinished -= batch.len();
        while state.tasks.front().is_some_and(|task| task.done) {
            state.tasks.pop_front();
            state.first += 1;
        }
        if state.sleeping > 0 && (state.unfinished == 0 || (was_full && state.unfinished < WINDOW)) {
            self.wake.notify_all();
        }
        (state, true)
    }

    /// Run tasks until `reached`.
    fn help_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        reached: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        while !reached(&state) {
            let ran;
            (state, ran) = self.run_one(state, 0);
            if !ran && !reached(&state) {
                drop(state);
                self.await_ready();
                state = self.lock();
                if !state.any_ready() && !reached(&state) {
                    state = self.sleep(state);
                }
            }
        }
        state
    }

    /// Spin for a while, or until there is something to do.
    fn await_ready(&self) {
        for _ in 0..SPINS {
            if self.ready.load(Ordering::Acquire) > 0 || self.ended.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn sleep<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.sleeping += 1;
        state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.sleeping -= 1;
        state
    }

    /// A member's life.
    fn serve(&self, thread: usize) {
        let mut state = self.lock();
        while !self.ended.load(Ordering::Acquire) {
            let ran;
            (state, ran) = self.run_one(state, thread);
            if !ran {
                drop(state);
                self.await_ready();
                state = self.lock();
                if !state.any_ready() && !self.ended.load(Ordering::Acquire) {
                    state = self.sleep(state);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
