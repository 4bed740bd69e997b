//! How long a client is waited for within its request's body: it may neither be silent for too
//! long nor drip.

use std::time::{Duration, Instant};

use super::request_body::RequestBodyError;

/// How long a client may be slow before its rate counts: a phone between two cells is not an
/// attack.
const GRACE: Duration = Duration::from_secs(10);

/// The account of one body. Only the time in which we wait for the client counts: that an
/// application takes nothing is not the client's fault.
#[derive(Clone, Debug)]
pub struct Patience {
    /// The longest silence.
    idle: Duration,
    /// Bytes in a second, at least; `None` for no such limit.
    rate: Option<u64>,
    taken: u64,
    /// How long the client was waited for before `since`.
    waited: Duration,
    /// Since when it is waited for now.
    since: Option<Instant>,
}

impl Patience {
    /// Nothing has come, nothing is waited for.
    #[must_use]
    pub fn new(idle: Duration, rate: Option<u64>) -> Self {
        Self { idle, rate, taken: 0, waited: Duration::ZERO, since: None }
    }

    /// `taken` bytes of the body are here in all, and more is waited for, or it is not.
    pub fn update(&mut self, taken: u64, is_waiting: bool, now: Instant) {
        let since = std::mem::replace(&mut self.since, is_waiting.then_some(now));
        self.waited += since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.taken = taken;
    }

    /// How long the next byte may take from the last update on, and what it is if it takes longer.
    #[must_use]
    pub fn left(&self) -> (Duration, RequestBodyError) {
        let earned = |rate: u64| {
            let time = self.taken.saturating_mul(1000).checked_div(rate);
            GRACE.saturating_add(time.map_or(Duration::MAX, Duration::from_millis))
        };
        match self.rate.map(|rate| earned(rate).saturating_sub(self.waited)) {
            Some(left) if left < self.idle => (left, RequestBodyError::Slow),
            _ => (self.idle, RequestBodyError::Idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_client_has_the_grace_first() {
        let mut patience = Patience::new(IDLE, Some(1024));
        patience.update(0, true, Instant::now());
        assert!(matches!(patience.left(), (left, RequestBodyError::Slow) if left == GRACE));
        let mut patient = Patience::new(IDLE, None);
        patient.update(0, true, Instant::now());
        assert!(matches!(patient.left(), (left, RequestBodyError::Idle) if left == IDLE));
    }

    #[test]
    fn what_has_come_buys_time() {
        let start = Instant::now();
        let mut patience = Patience::new(IDLE, Some(1024));
        patience.update(0, true, start);
        patience.update(5 * 1024, true, at(start, 12));
        assert_eq!(patience.left().0, Duration::from_secs(3));
        patience.update(1024 * 1024, true, at(start, 13));
        assert!(matches!(patience.left(), (left, RequestBodyError::Idle) if left == IDLE));
    }

    #[test]
    fn a_drip_is_too_slow_in_the_end() {
        let start = Instant::now();
        let mut patience = Patience::new(IDLE, Some(1024));
        for second in 0..=10 {
            patience.update(second, true, at(start, second));
        }
        let (left, error) = patience.left();
        assert!(left < Duration::from_millis(20), "{left:?}");
        assert!(matches!(error, RequestBodyError::Slow));
    }

    #[test]
    fn time_that_the_application_takes_does_not_count() {
        let start = Instant::now();
        let mut patience = Patience::new(IDLE, Some(1024));
        patience.update(64, true, start);
        patience.update(128, false, at(start, 1));
        patience.update(128, true, at(start, 3600));
        assert_eq!(patience.left().0, GRACE + Duration::from_millis(125) - Duration::from_secs(1));
    }
}
