//! So many at once, and so many in a time.

use std::time::{Duration, Instant};

/// Tokens that are taken one by one and come back over time.
#[derive(Clone, Debug)]
pub(in crate::tls::acme) struct Bucket {
    most: u32,
    /// For all of them to come back.
    within: Duration,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one of `most` tokens, all of which come back `within` this time.
    pub(in crate::tls::acme) fn new(most: u32, within: Duration, now: Instant) -> Self {
        Self { most, within, left: f64::from(most), at: now }
    }

    /// Takes one, where one is left.
    pub(in crate::tls::acme) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let back = passed / self.within.as_secs_f64() * f64::from(self.most);
        self.left = (self.left + back).min(f64::from(self.most));
        self.at = self.at.max(now);
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }

    /// Holds so many from now on; what was taken stays taken.
    pub(in crate::tls::acme) fn resize(&mut self, most: u32) {
        let taken = f64::from(self.most) - self.left;
        self.left = (f64::from(most) - taken).max(0.0);
        self.most = most;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_over_time() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut bucket = Bucket::new(10, Duration::from_secs(60), now);
        assert_eq!((0..50).filter(|_| bucket.take(at(0))).count(), 10);
        assert!(!bucket.take(at(5)) && bucket.take(at(7)) && !bucket.take(at(7)));
        assert_eq!((0..50).filter(|_| bucket.take(at(3600))).count(), 10, "never more");
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1, Duration::from_secs(60), now + Duration::from_secs(9));
        assert!(bucket.take(now) && !bucket.take(now));
    }

    #[test]
    fn what_was_taken_stays_taken_when_it_holds_more() {
        let now = Instant::now();
        let mut bucket = Bucket::new(2, Duration::from_secs(60), now);
        assert!(bucket.take(now) && bucket.take(now));
        bucket.resize(5);
        assert_eq!((0..9).filter(|_| bucket.take(now)).count(), 3);
        bucket.resize(1);
        assert!(!bucket.take(now));
    }
}
