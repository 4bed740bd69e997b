//! Counters that one thread writes and any thread may read.
//!
//! An addition is a plain load and a plain store, without the locked instruction that a shared
//! counter costs; therefore each counter belongs to one thread.

use std::sync::atomic::{AtomicU64, Ordering};

use super::label::Label;

/// A number that only grows. Single writer: two threads adding at once lose additions.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only for the thread that owns this counter.
    pub fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// The number as of now, from any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for rare events that happen on several threads.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `n`, from any thread.
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The number as of now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are. Single writer, as [`Counter`].
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The number as of now, from any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn raise(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    pub(super) fn lower(&self) {
        self.0.store(self.get().saturating_sub(1), Ordering::Relaxed);
    }
}

/// One counter for each value of a label; `N` is the number of values.
#[derive(Debug)]
pub struct Family<const N: usize>([Counter; N]);

impl<const N: usize> Default for Family<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Family<N> {
    /// Counts one `label`. Single writer, as [`Counter`].
    pub fn count(&self, label: impl Label) {
        if let Some(counter) = self.0.get(label.index()) {
            counter.add(1);
        }
    }

    /// The number of `label` so far.
    #[must_use]
    pub fn get(&self, label: impl Label) -> u64 {
        self.0.get(label.index()).map_or(0, Counter::get)
    }
}
