//! A team of threads for work of a few microseconds, for what the simulator is measured against.
//!
//! That is less than waking a thread costs, so the members spin for a while before they sleep. Work is a closure over item numbers; whoever is free claims the
//! next item, the caller among them, so a member that the host does not schedule delays nothing that it has not
//! claimed. Which thread runs an item never shows: items share nothing.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::JoinHandle;

/// Turns that a thread spins before it lets others run: some tens of microseconds.
const SPINS: u32 = 1_000;

/// Items of one piece of work at most: they are counted in 16 bits of a ticket.
const MAX_ITEMS: usize = u16::MAX as usize;

/// The caller's thread and the members that help it.
pub(crate) struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
}

/// A piece of work, for as long as [`Team::each`] runs it.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
}

struct Shared {
    /// Number of the piece of work (32 bits), its items (16), the next one to claim (16).
    ///
    /// A claim is a compare-and-swap of the whole: it fails if the piece is no longer the one that was read.
    ticket: AtomicU64,
    /// Valid from the ticket's publication until all claimed items are done.
    job: AtomicPtr<Job<'static>>,
    /// Items done by members.
    done: AtomicUsize,
    /// Members asleep, or about to be.
    sleeping: AtomicUsize,
    panicked: AtomicBool,
    ended: AtomicBool,
}

impl Team {
    /// A team of `threads` threads, the caller's included.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            done: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let member = |number: usize| {
            let shared = Arc::clone(&shared);
            // A host that gives no more threads makes the team smaller, not wrong.
            std::thread::Builder::new()
                .name(format!("kiln-values-{number}"))
                .spawn(move || shared.serve())
                .ok()
        };
        let members = (1..threads.max(1)).filter_map(member).collect();
        Self { shared, members }
    }

    /// Run `work(item)` for each of `items` items, on any threads in any order; done when it returns.
    pub(crate) fn each(&self, items: usize, work: impl Fn(usize) + Sync) {
        if self.members.is_empty() || !(2..=MAX_ITEMS).contains(&items) {
            (0..items).for_each(work);
            return;
        }
        let shared = &*self.shared;
        let job = Job { work: &work };
        shared.done.store(0, Ordering::Relaxed);
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        let piece = (shared.ticket.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.ticket.store(piece << 32 | (items as u64) << 16, Ordering::Release);
        // Pairs with the fence in `sleep`: either the member sees the ticket or we see it asleep.
        fence(Ordering::SeqCst);
        if shared.sleeping.load(Ordering::Relaxed) > 0 {
            self.members.iter().for_each(|member| member.thread().unpark());
        }
        let mut own = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while let Some(item) = shared.claim_next() {
                own += 1;
                work(item);
            }
        }));
        // After a panic of its own the caller claims what is left, so that no member begins anything more.
        while shared.claim_next().is_some() {
            own += 1;
        }
        let mut turns = 0;
        while shared.done.load(Ordering::Acquire) + own < items {
            turns += 1;
            // A member that the host has set aside needs a processor to end its item.
            if turns < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        assert!(!shared.panicked.load(Ordering::Relaxed), "a thread of the simulator panicked");
    }

    /// Run `work(first index, chunk)` for the chunks of `chunk` elements of a slice.
    pub(crate) fn each_chunk<T: Send>(
        &self,
        slice: &mut [T],
        chunk: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        /// A pointer that members may use: each takes a chunk of its own from it.
        struct Base<T>(*mut T);
        // SAFETY: only disjoint chunks are formed from it, and `T` may be sent.
        unsafe impl<T: Send> Sync for Base<T> {}
        impl<T> Base<T> {
            fn at(&self, index: usize) -> *mut T {
                self.0.wrapping_add(index)
            }
        }
        let (len, base) = (slice.len(), Base(slice.as_mut_ptr()));
        self.each(len.div_ceil(chunk), |item| {
            let first = item * chunk;
            // SAFETY: every item is run once, items are disjoint ranges inside the slice, and `each` returns
            // after the last of them.
            let part = unsafe { std::slice::from_raw_parts_mut(base.at(first), chunk.min(len - first)) };
            work(first, part);
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        for member in self.members.drain(..) {
            member.thread().unpark();
            // A member that panicked has been reported by `each`.
            let _ = member.join();
        }
    }
}

impl Shared {
    /// The next item of the piece of work under way, for the caller.
    fn claim_next(&self) -> Option<usize> {
        loop {
            let ticket = self.ticket.load(Ordering::Acquire);
            let (items, next) = (ticket >> 16 & 0xFFFF, ticket & 0xFFFF);
            if next >= items {
                return None;
            }
            if self.claim(ticket) {
                return Some(next as usize);
            }
        }
    }

    fn claim(&self, ticket: u64) -> bool {
        self.ticket.compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// A member's life.
    fn serve(&self) {
        let mut idle = 0;
        while !self.ended.load(Ordering::Acquire) {
            let ticket = self.ticket.load(Ordering::Acquire);
            let (items, next) = (ticket >> 16 & 0xFFFF, ticket & 0xFFFF);
            if next >= items {
                idle += 1;
                if idle < SPINS {
                    std::hint::spin_loop();
                } else {
                    self.sleep(ticket);
                    idle = 0;
                }
                continue;
            }
            let job = self.job.load(Ordering::Relaxed);
            if !self.claim(ticket) {
                continue;
            }
            idle = 0;
            // SAFETY: the claim succeeded, so the piece of work is still the one of the ticket, whose job was
            // stored before the ticket was published; its caller waits for this item, so the job is alive.
            let work = unsafe { (*job).work };
            if catch_unwind(AssertUnwindSafe(|| work(next as usize))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }

    /// Sleep until there may be work beyond `seen`.
    fn sleep(&self, seen: u64) {
        self.sleeping.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.ticket.load(Ordering::Relaxed) == seen && !self.ended.load(Ordering::Relaxed) {
            std::thread::park();
        }
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_run_once() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads);
            for items in [0, 1, 2, 7, 100, 1000] {
                let mut counts = vec![0u32; items];
                for _ in 0..20 {
                    team.each_chunk(&mut counts, 3, |first, chunk| {
                        assert!(first % 3 == 0 && chunk.len() <= 3);
                        chunk.iter_mut().for_each(|count| *count += 1);
                    });
                }
                assert!(counts.iter().all(|count| *count == 20), "{threads} threads, {items} items");
            }
        }
    }

    #[test]
    fn a_member_that_slept_helps_again() {
        let team = Team::new(3);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let sum = AtomicUsize::new(0);
            team.each(64, |item| {
                sum.fetch_add(item, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 64 * 63 / 2);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let team = Team::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| team.each(50, |item| assert_ne!(item, 20))));
        assert!(outcome.is_err());
    }
}
