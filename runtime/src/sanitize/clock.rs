//! Who knows of whom: vector clocks, and the semaphores that carry them.
//!
//! A stream's own time is the number of its signals. What it does at time `t` is known to another stream once that one
//! has waited for the signal that ended time `t`, or for one behind it. A semaphore has one producer and one consumer,
//! so that the unit taken n-th is the one given n-th whatever the timing, and the order told by clocks is exact.
//!
//! Streams are numbered over all cores. Semaphores are a core's own; between cores a barrier carries clocks: each stream
//! that comes to it ends a time of its own, and all go on with what any of them knew.

use std::collections::VecDeque;

/// For each stream, how many of its times are known to be complete; none of those that it does not name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Vec<u64>);

impl Clock {
    /// Whether what the stream did at `time` is known to be complete.
    #[inline]
    pub(crate) fn knows(&self, stream: usize, time: u64) -> bool {
        self.of(stream) > time
    }

    /// How many times of the stream are complete.
    #[inline]
    pub(crate) fn of(&self, stream: usize) -> u64 {
        self.0.get(stream).copied().unwrap_or(0)
    }

    /// Know also what the other knows.
    pub(crate) fn join(&mut self, other: &Clock) {
        self.reach(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(mine, other)| *mine = (*mine).max(*other));
    }

    /// Know only what the other knows too.
    pub(crate) fn meet(&mut self, other: &Clock) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(mine, other)| *mine = (*mine).min(*other));
    }

    /// Whether the other knows nothing more.
    pub(crate) fn covers(&self, other: &Clock) -> bool {
        other.0.iter().enumerate().all(|(stream, time)| self.of(stream) >= *time)
    }

    /// A clock that knows all of so many streams.
    pub(crate) fn all(streams: usize) -> Self {
        Clock(vec![u64::MAX; streams])
    }

    /// Know all of a stream.
    pub(crate) fn complete(&mut self, stream: usize) {
        self.reach(stream + 1);
        self.0[stream] = u64::MAX;
    }

    /// Begin the next time of one's own; what came before is complete as far as oneself is concerned.
    pub(crate) fn tick(&mut self, own: usize) {
        self.reach(own + 1);
        self.0[own] += 1;
    }

    fn reach(&mut self, streams: usize) {
        if self.0.len() < streams {
            self.0.resize(streams, 0);
        }
    }
}

/// A semaphore as a channel of clocks.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// Units given up to and with each signal, and what its producer knew, itself included.
    signals: VecDeque<(u64, Clock)>,
    pub(crate) given: u64,
    pub(crate) taken: u64,
    /// Step of the last signal.
    pub(crate) last: Option<(usize, usize)>,
    /// The consumer's stream.
    consumer: usize,
    /// Units taken up to the consumer's times, oldest first.
    taken_at: VecDeque<(u64, u64)>,
    /// Units that the producer knows to be taken.
    known: u64,
}

impl Channel {
    /// A signal of `n` by whom this clock is. The highest count that some timing could lead to.
    pub(crate) fn give(&mut self, n: u16, clock: &Clock) -> u64 {
        while let Some((time, taken)) = self.taken_at.front()
            && clock.knows(self.consumer, *time)
        {
            self.known = *taken;
            self.taken_at.pop_front();
        }
        self.given += u64::from(n);
        self.signals.push_back((self.given, clock.clone()));
        self.given - self.known
    }

    /// `n` units are taken by a stream at its time; what their producer knew when it gave the last of them.
    pub(crate) fn take(&mut self, n: u16, consumer: usize, time: u64) -> Option<Clock> {
        self.taken += u64::from(n);
        self.consumer = consumer;
        match self.taken_at.back_mut() {
            Some(last) if last.0 == time => last.1 = self.taken,
            _ => self.taken_at.push_back((time, self.taken)),
        }
        // A signal of several units stays until all of them are taken.
        while let Some((given, clock)) = self.signals.front() {
            match (*given).cmp(&self.taken) {
                std::cmp::Ordering::Less => self.signals.pop_front(),
                std::cmp::Ordering::Equal => {
                    let clock = self.signals.pop_front().map(|(_, clock)| clock);
                    return clock.filter(|_| n > 0);
                }
                std::cmp::Ordering::Greater => return (n > 0).then(|| clock.clone()),
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_taken_nth_is_the_one_given_nth() {
        let (mut producer, mut channel) = (Clock::default(), Channel::default());
        for n in [2, 1, 3] {
            producer.tick(4);
            channel.give(n, &producer);
        }
        let mut times = Vec::new();
        for n in [1, 1, 2, 0, 1, 1] {
            times.push(channel.take(n, 5, 0).map(|clock| clock.of(4)));
        }
        assert_eq!(times, [Some(1), Some(1), Some(3), None, Some(3), Some(3)]);
    }

    #[test]
    fn the_count_that_could_be_is_what_the_producer_does_not_know_to_be_taken() {
        let (mut producer, mut consumer) = (Clock::default(), Clock::default());
        let mut channel = Channel::default();
        producer.tick(0);
        assert_eq!(channel.give(5, &producer), 5);
        channel.take(3, 1, 0);
        producer.tick(0);
        assert_eq!(channel.give(1, &producer), 6, "it was not told");
        consumer.tick(1);
        producer.join(&consumer);
        producer.tick(0);
        assert_eq!(channel.give(1, &producer), 4);
    }
}
