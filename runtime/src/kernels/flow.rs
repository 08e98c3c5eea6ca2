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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::arena::{Arena, Granted, Rect};
use crate::error::TrapKind;

/// Tasks that may wait before the caller runs some itself.
const WINDOW: usize = 96;
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
pub(crate) type Touches = smallvec::SmallVec<[Touch; 4]>;

/// Where in the program a task comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Stream and word.
    pub(crate) stream: u32,
    pub(crate) pc: u32,
    pub(crate) tick: u64,
}

/// What a task does.
pub(crate) type Work = Box<dyn FnOnce(&mut Granted<'_>) -> Result<(), TrapKind> + Send>;

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
    /// Tasks of one `piece` are best run by one thread, since they touch the same bytes.
    pub(crate) fn submit(&self, piece: Option<usize>, touches: Touches, work: Work) {
        let tag = self.tag();
        if self.members.is_empty() {
            if let Err(kind) = work(&mut self.shared.grant(&touches)) {
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
        let (work, after) = (Some(work), Vec::new());
        let queue = piece.map_or(self.threads(), |piece| piece % self.threads());
        tasks.push_back(Task { touches, tag, queue, work, waits, after, done: false });
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
        work(&mut self.shared.grant(touches))
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

impl State {
    fn any_ready(&self) -> bool {
        self.ready.iter().any(|queue| !queue.is_empty())
    }

    /// Take the number of the task that a thread should run next.
    fn next_ready(&mut self, thread: usize) -> Option<u64> {
        let any = self.ready.len() - 1;
        let earliest = |queues: &[usize]| -> Option<usize> {
            let of = |queue: &usize| self.ready[*queue].peek().map(|number| (number.0, *queue));
            queues.iter().filter_map(of).min().map(|(_, queue)| queue)
        };
        let queue = match earliest(&[thread, any]) {
            Some(queue) => queue,
            None => (0..any)
                .filter(|queue| !self.ready[*queue].is_empty())
                .max_by_key(|queue| self.ready[*queue].len())?,
        };
        self.ready[queue].pop().map(|Reverse(number)| number)
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
    fn grant(&self, touches: &[Touch]) -> Granted<'_> {
        let mut granted = Granted::none();
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

    /// Run a task that may run, if there is one: the earliest of those for this thread or any, else of another's.
    fn run_one<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        thread: usize,
    ) -> (MutexGuard<'a, State>, bool) {
        let Some(number) = state.next_ready(thread) else { return (state, false) };
        self.ready.fetch_sub(1, Ordering::Relaxed);
        let first = state.first;
        let task = &mut state.tasks[(number - first) as usize];
        let (tag, touches, work) = (task.tag, std::mem::take(&mut task.touches), task.work.take());
        drop(state);
        if let Some(work) = work {
            match catch_unwind(AssertUnwindSafe(|| work(&mut self.grant(&touches)))) {
                Ok(Ok(())) => {}
                Ok(Err(kind)) => self.fail(number, tag, kind),
                Err(_) => {
                    self.lock().panicked = true;
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
        }
        let mut state = self.lock();
        for touch in &touches {
            let under_way = state.under_way[touch.memory].like(touch.writes);
            if let Some(at) = under_way.iter().position(|other| other.task == number) {
                under_way.swap_remove(at);
            }
        }
        let first = state.first;
        let task = &mut state.tasks[(number - first) as usize];
        task.done = true;
        let after = std::mem::take(&mut task.after);
        for later in after {
            let task = &mut state.tasks[(later - first) as usize];
            task.waits -= 1;
            if task.waits == 0 {
                self.make_ready(&mut state, later);
            }
        }
        state.unfinished -= 1;
        while state.tasks.front().is_some_and(|task| task.done) {
            state.tasks.pop_front();
            state.first += 1;
        }
        if state.sleeping > 0 && (state.unfinished == 0 || state.unfinished + 1 == WINDOW) {
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
mod tests {
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
        flow.submit(Some(to.0), touches.into_iter().collect(), Box::new(work));
    }

    fn bytes(flow: &Flow) -> Vec<u8> {
        flow.now(&[touch((0, 8), (0, 64), false, 0)], |granted| {
            (0..8).flat_map(|part| granted.row(0, part).0.to_vec()).collect()
        })
    }

    #[test]
    fn any_number_of_threads_gives_what_one_gives() {
        let run = |threads: usize| {
            let flow = Flow::new(threads, vec![Arena::new(8, 64)]);
            let mut seed = 5u64;
            let mut below = |n: usize| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) as usize % n
            };
            for _ in 0..2000 {
                let size = (1 + below(4), 1 + below(24));
                let mut place = || (below(9 - size.0), below(65 - size.1));
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
                flow.submit(None, touches.into_iter().collect(), Box::new(move |_| outcome));
            }
            let tag = Tag { stream: 1, pc: 37, tick: 74 };
            assert_eq!(flow.finish(), Some((tag, TrapKind::Absent("anything"))), "{threads} threads");
            assert_eq!(flow.finish(), None);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let flow = Flow::new(2, vec![Arena::new(1, 16)]);
        flow.submit(None, Touches::new(), Box::new(|_| panic!("a task")));
        assert!(catch_unwind(AssertUnwindSafe(|| flow.drain())).is_err());
    }

    #[test]
    #[should_panic(expected = "has not named operand 1")]
    fn what_was_not_named_is_out_of_reach() {
        let flow = Flow::new(1, vec![Arena::new(1, 16)]);
        flow.now(&[touch((0, 1), (0, 8), false, 0)], |granted| granted.row(1, 0).0.len());
    }
}
