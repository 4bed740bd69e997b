//! When: pure rules that take the time as a value.
//!
//! Every duration is a part of a certificate's life where one is known, so that certificates of
//! ninety days, of six, and of a minute are all renewed in time. Jitter comes from a name, not from
//! chance: the same question has the same answer after a restart.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// When a certificate needs a person who looks, at the latest: so long before its end.
const LOUD: Duration = Duration::from_secs(14 * 86_400);

/// A span of time in which an authority wants a certificate renewed (RFC 9773 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub start: SystemTime,
    /// Its end.
    pub end: SystemTime,
}

/// When to renew a certificate: at a third of its life left, or at a moment within the authority's
/// window, but never with less than a sixth of its life left. Early by up to a twentieth of its
/// life, so that the certificates of a fleet do not all come at once.
#[must_use]
pub fn renewal(
    (not_before, not_after): (SystemTime, SystemTime),
    window: Option<Window>,
    seed: &str,
) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let before_end = |left: Duration| not_after.checked_sub(left).unwrap_or(not_before);
    let part = jitter(seed);
    match window {
        Some(Window { start, end }) => {
            let length = end.duration_since(start).unwrap_or_default();
            (start + length.mul_f64(part)).min(before_end(life / 6))
        }
        None => before_end(life / 3 + (life / 20).mul_f64(part)),
    }
}

/// From when on a certificate that was not renewed needs a person: at fourteen days left, or at a
/// quarter of its life, whichever is less.
#[must_use]
pub fn loud_at(not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    not_after.checked_sub(LOUD.min(life / 4)).unwrap_or(not_before)
}

/// What a failure has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Nothing that an authority counts: it was not reached.
    Nothing,
    /// One of the attempts that authorities count.
    Attempt,
}

/// How long to wait after so many failures in a row, the last of which had this cost. `life` is
/// that of the certificate that is being renewed, where there is one: the waits are so short that
/// several attempts fit into what is left of it.
#[must_use]
pub fn back_off(failures: u32, cost: Cost, life: Option<Duration>, seed: &str) -> Duration {
    let (first, factor, most) = match cost {
        Cost::Nothing => (Duration::from_secs(5), 2_u32, Duration::from_secs(3600)),
        Cost::Attempt => (MINUTE, 3, DAY),
    };
    let (first, most) = match life {
        Some(life) => (first.min(life / 30), most.min(life / 12)),
        None => (first, most),
    };
    let steps = failures.saturating_sub(1).min(20);
    let wait = (0..steps).fold(first, |wait, _| wait.saturating_mul(factor).min(most));
    // Between four fifths and six fifths of it.
    wait.min(most).mul_f64(0.8 + 0.4 * jitter(&format!("{seed} {failures}")))
}

/// How long a certificate that came with `left` to live, the `issued`-th within a week, is good
/// enough, however its dates or the authority's window stand: a clock that is wrong, or a window
/// that always lies in the past, must not have the authority asked without end. Never more than a
/// third of what is left, so that no renewal in its time is late.
#[must_use]
pub fn rest(left: Duration, issued: usize) -> Duration {
    const LEAST: Duration = Duration::from_secs(10);
    let rest = match issued {
        // An authority may have its reasons, once.
        0 | 1 => LEAST,
        2 => DAY,
        3 => 3 * DAY,
        _ => 7 * DAY,
    };
    rest.min(left / 3).max(LEAST)
}

/// How often the storage is looked at for what another process has put there.
#[must_use]
pub fn poll(life: Option<Duration>) -> Duration {
    let most = Duration::from_secs(30);
    life.map_or(Duration::from_secs(5), |life| (life / 60).clamp(Duration::from_secs(1), most))
}

/// A number from 0 to 1, always the same for the same seed.
fn jitter(seed: &str) -> f64 {
    let digest = digest(&SHA256, seed.as_bytes());
    let bytes = digest.as_ref().iter().take(4);
    let number = bytes.fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Four orders a second were made, and all of them issued.
    #[test]
    fn what_is_due_when_it_comes_is_asked_for_seldom() {
        for (life, left) in [(90 * DAY, 20 * DAY), (90 * DAY, 89 * DAY), (2 * MINUTE, MINUTE / 2)] {
            let (mut now, mut issued) = (begin(), Vec::new());
            while now < begin() + 7 * DAY && issued.len() < 100 {
                issued.push(now);
                now += rest(left, issued.len());
            }
            let most = if life > DAY { 4 } else { 100 };
            assert!(issued.len() <= most, "{left:?}: {} in a week", issued.len());
            assert!(issued.windows(2).all(|two| two[1] >= two[0] + Duration::from_secs(10)));
        }
        for life in [90 * DAY, 6 * DAY, HOUR, MINUTE, MINUTE / 2] {
            let due = renewal((begin(), begin() + life), None, "a.test");
            assert!((1..200).all(|issued| begin() + rest(life, issued) <= due), "{life:?} is late");
        }
    }

    fn begin() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_certificate_is_renewed_at_a_third_of_its_life_whatever_that_is() {
        for life in [90 * DAY, 6 * DAY, HOUR, MINUTE] {
            let end = begin() + life;
            for seed in ["a.test", "b.test", "c.test"] {
                let at = renewal((begin(), end), None, seed);
                let left = end.duration_since(at).unwrap();
                assert!(left >= life / 3 && left <= life / 3 + life / 20, "{life:?}: {left:?}");
                assert_eq!(at, renewal((begin(), end), None, seed), "a restart changes nothing");
            }
        }
        let dates = (begin(), begin() + 90 * DAY);
        assert_ne!(renewal(dates, None, "a.test"), renewal(dates, None, "b.test"));
    }

    #[test]
    fn the_window_of_the_authority_is_kept_but_not_to_the_end() {
        let dates = (begin(), begin() + 90 * DAY);
        let window = Window { start: begin() + DAY, end: begin() + 3 * DAY };
        let at = renewal(dates, Some(window), "a.test");
        assert!(at >= window.start && at <= window.end);
        let late = Window { start: begin() + 100 * DAY, end: begin() + 101 * DAY };
        assert_eq!(renewal(dates, Some(late), "a.test"), begin() + 75 * DAY);
        let past = Window { start: begin() - DAY, end: begin() - DAY };
        assert!(renewal(dates, Some(past), "a.test") < begin());
    }

    #[test]
    fn a_person_is_called_at_fourteen_days_or_a_quarter() {
        assert_eq!(loud_at(begin(), begin() + 90 * DAY), begin() + 76 * DAY);
        assert_eq!(loud_at(begin(), begin() + 8 * DAY), begin() + 6 * DAY);
        assert_eq!(loud_at(begin(), begin() + MINUTE), begin() + MINUTE * 3 / 4);
    }

    #[test]
    fn waits_grow_from_a_minute_to_a_day() {
        let wait = |failures| back_off(failures, Cost::Attempt, None, "a.test");
        assert!(wait(1) >= MINUTE * 4 / 5 && wait(1) <= MINUTE * 6 / 5, "{:?}", wait(1));
        for failures in 1..6 {
            assert!(wait(failures + 1) > wait(failures), "{failures}");
        }
        for failures in [10, 100, u32::MAX] {
            assert!(wait(failures) >= DAY * 4 / 5 && wait(failures) <= DAY * 6 / 5);
        }
    }

    #[test]
    fn an_authority_that_is_not_reached_is_asked_again_soon() {
        let wait = |failures| back_off(failures, Cost::Nothing, None, "a.test");
        assert!(wait(1) <= Duration::from_secs(6));
        assert!(wait(30) <= HOUR * 6 / 5 && wait(30) >= HOUR * 4 / 5);
    }

    #[test]
    fn several_attempts_fit_into_the_rest_of_any_life() {
        for life in [90 * DAY, 6 * DAY, HOUR, MINUTE] {
            for cost in [Cost::Nothing, Cost::Attempt] {
                let wait = |failures| back_off(failures, cost, Some(life), "a.test");
                let all: Duration = (1..=3).map(wait).sum();
                assert!(all < life / 3, "{life:?}: {all:?}");
            }
        }
    }

    #[test]
    fn another_process_is_noticed_before_it_matters() {
        assert_eq!(poll(Some(MINUTE)), Duration::from_secs(1));
        assert_eq!(poll(Some(90 * DAY)), Duration::from_secs(30));
    }
}
