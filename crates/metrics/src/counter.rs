//! Numbers that go up, and numbers that are set. Each count is one relaxed addition: they order nothing and guard nothing.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Only goes up; 0 when the process starts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// So many by now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Zero.
    pub const fn new() -> Gauge {
        Gauge(AtomicI64::new(0))
    }

    /// It is this now.
    pub fn set(&self, to: usize) {
        self.0.store(i64::try_from(to).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// It is this now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The values of a label: all of them, known to the code.
pub trait Labelled: Copy + 'static {
    /// Each, once.
    const ALL: &'static [Self];

    /// As the label says it: lower case, words joined by `_`.
    fn label(self) -> &'static str;

    /// Its place in [`Labelled::ALL`].
    fn place(self) -> usize;
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L: Labelled> {
    counts: Box<[Counter]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labelled> Counters<L> {
    /// All zero.
    pub fn new() -> Counters<L> {
        Counters { counts: L::ALL.iter().map(|_| Counter::new()).collect(), labels: PhantomData }
    }

    /// One more of these.
    pub fn inc(&self, label: L) {
        if let Some(counter) = self.counts.get(label.place()) {
            counter.inc();
        }
    }

    /// So many of these by now.
    pub fn get(&self, label: L) -> u64 {
        self.counts.get(label.place()).map_or(0, Counter::get)
    }
}

impl<L: Labelled> Default for Counters<L> {
    fn default() -> Counters<L> {
        Counters::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Animal {
        Cat,
        Dog,
    }

    impl Labelled for Animal {
        const ALL: &'static [Animal] = &[Animal::Cat, Animal::Dog];

        fn label(self) -> &'static str {
            match self {
                Animal::Cat => "cat",
                Animal::Dog => "dog",
            }
        }

        fn place(self) -> usize {
            self as usize
        }
    }

    #[test]
    fn each_label_has_a_count_of_its_own() {
        let counters = Counters::<Animal>::new();
        counters.inc(Animal::Dog);
        counters.inc(Animal::Dog);
        assert_eq!((counters.get(Animal::Cat), counters.get(Animal::Dog)), (0, 2));
    }

    #[test]
    fn nothing_is_lost_when_many_count_at_once() {
        let counter = Counter::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.inc()));
            }
        });
        assert_eq!(counter.get(), 40_000);
    }
}
