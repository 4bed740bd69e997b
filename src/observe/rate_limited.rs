//! "Counted, and logged at most once a second."

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Lets a message pass once in an interval and counts those held back. For one thread.
#[derive(Debug)]
pub struct RateLimited {
    interval: Duration,
    last: Cell<Option<Instant>>,
    suppressed: Cell<u64>,
}

impl RateLimited {
    /// At most one message a second.
    #[must_use]
    pub const fn per_second() -> Self {
        Self::every(Duration::from_secs(1))
    }

    /// At most one message in `interval`.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self { interval, last: Cell::new(None), suppressed: Cell::new(0) }
    }

    /// Whether to speak at `now`: then the number of times that was not done since the last one.
    #[must_use]
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let due = self.last.get().is_none_or(|last| now.duration_since(last) >= self.interval);
        if due {
            self.last.set(Some(now));
            Some(self.suppressed.take())
        } else {
            self.suppressed.set(self.suppressed.get().saturating_add(1));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_and_the_next_after_a_second_tells_of_the_others() {
        let limited = RateLimited::per_second();
        let start = Instant::now();
        let at = |millis| limited.pass(start + Duration::from_millis(millis));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1), None);
        assert_eq!(at(999), None);
        assert_eq!(at(1000), Some(2));
        assert_eq!(at(1500), None);
        assert_eq!(at(9000), Some(1));
        assert_eq!(at(10_000), Some(0));
    }
}
