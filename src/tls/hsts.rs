//! `Strict-Transport-Security` (RFC 6797): what is sent, and the ramp that leads to a year.
//!
//! A ramp climbs from five minutes over a day, a week and a month to a year. On each step it stays
//! for as long as that step's own `max-age`, and at least a day, of quiet time: time in which this
//! program ran, no storm of failed handshakes was seen, no certificate of the site was late, and no
//! renewal failed. Trouble does not lead down, which would take nothing back that browsers were
//! told, but the step begins anew. Time is counted by what passes between two looks, so that a
//! clock that is set forward skips nothing and one that is set back costs one look.

pub mod book;
pub mod told;

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::storage::StorageError;
use crate::config::Hsts;

const DAY: u64 = 86_400;

/// The `max-age` of each step, in seconds.
pub const STEPS: [u64; 5] = [300, DAY, 7 * DAY, 30 * DAY, 365 * DAY];

/// How often to look: what passes between two looks counts when it is no longer than twice this.
pub const LOOK: Duration = Duration::from_secs(60);

/// How far a site has come, as it is kept in storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What the configuration said when this began, in words: with another it begins anew.
    setting: String,
    /// The place in [`STEPS`].
    step: usize,
    /// Quiet seconds on this step.
    quiet: u64,
    /// The last look, in seconds since 1970.
    seen: u64,
    /// When this step last began anew, in seconds since 1970: two processes on one storage tell by
    /// it that the other has seen trouble.
    #[serde(default)]
    anew: u64,
    /// Whether `max-age=0` is sent instead.
    reset: bool,
    /// Why what was kept cannot be read. It may have been a reset: nothing is sent then, which
    /// binds nobody to more, nor frees who was bound, until a person decides.
    #[serde(skip)]
    damage: Option<String>,
    /// Whether that is only because this process may not read it.
    #[serde(skip)]
    is_closed: bool,
}

impl Progress {
    /// The beginning, under this setting.
    #[must_use]
    pub fn new(setting: Hsts, now: SystemTime) -> Self {
        Self {
            setting: setting.to_string(),
            step: 0,
            quiet: 0,
            seen: seconds(now),
            anew: seconds(now),
            reset: false,
            damage: None,
            is_closed: false,
        }
    }

    /// What was kept and cannot be read, for this reason: it stands for any setting.
    #[must_use]
    pub fn damaged(why: String) -> Self {
        let before = SystemTime::UNIX_EPOCH;
        Self { damage: Some(why), ..Self::reset(Hsts::Off, before) }
    }

    /// What was kept, for all that is known, and cannot be read because of this.
    #[must_use]
    pub fn unreadable(error: &StorageError) -> Self {
        Self { is_closed: error.is_permission(), ..Self::damaged(error.to_string()) }
    }

    /// Whether what was kept cannot be read because this process may not.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Why what was kept cannot be read.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// The way down: browsers are told to forget, until the setting is another or
    /// [`Progress::new`] takes its place.
    #[must_use]
    pub fn reset(setting: Hsts, now: SystemTime) -> Self {
        Self { reset: true, ..Self::new(setting, now) }
    }

    /// Whether it is about this setting.
    #[must_use]
    pub fn is_of(&self, setting: Hsts) -> bool {
        self.damage.is_some() || self.setting == setting.to_string()
    }

    /// Whether the way down was taken, or may have been.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.reset
    }

    /// The step, counted from 1, of how many.
    #[must_use]
    pub fn step(&self) -> (usize, usize) {
        (self.step.min(STEPS.len() - 1) + 1, STEPS.len())
    }

    /// What was kept, for a process that begins to look `now`: what passed before counts for
    /// nothing, because nobody here knows what was seen in it.
    #[must_use]
    pub fn taken_up(self, now: SystemTime) -> Self {
        Self { seen: seconds(now), ..self }
    }

    /// Whether `other` tells of the same step, begun at the same time.
    #[must_use]
    pub fn is_abreast_of(&self, other: &Self) -> bool {
        (self.step(), self.anew) == (other.step(), other.anew)
    }

    /// Whether trouble would take anything from it.
    #[must_use]
    pub fn has_quiet(&self) -> bool {
        self.quiet > 0
    }

    /// Takes a look at `now`. Whether the step is another afterwards.
    pub fn look(&mut self, now: SystemTime, is_quiet: bool) -> bool {
        let now = seconds(now);
        let passed = now.checked_sub(self.seen).filter(|passed| *passed <= 2 * LOOK.as_secs());
        self.seen = now;
        if self.reset {
            return false;
        }
        if !is_quiet {
            (self.quiet, self.anew) = (0, now);
            return false;
        }
        let Some(passed @ 1..) = passed else { return false };
        self.quiet = self.quiet.saturating_add(passed);
        if self.step + 1 >= STEPS.len() || self.quiet < self.needed() {
            return false;
        }
        self.step += 1;
        (self.quiet, self.anew) = (0, now);
        true
    }

    /// Quiet seconds that the next step takes; `None` on the last one.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        (self.step + 1 < STEPS.len() && !self.reset)
            .then(|| self.needed().saturating_sub(self.quiet))
    }

    fn needed(&self) -> u64 {
        self.max_age().max(DAY)
    }

    /// What is sent on this step, in seconds.
    #[must_use]
    pub fn max_age(&self) -> u64 {
        if self.reset {
            return 0;
        }
        STEPS.get(self.step).or(STEPS.last()).copied().unwrap_or(0)
    }
}

/// The value of the field for a setting, with what is known of how far it has come (RFC 6797 §6.1).
/// A ramp of which nothing is known is at its beginning.
#[must_use]
pub fn header(setting: Hsts, progress: Option<&Progress>) -> Option<HeaderValue> {
    let progress = progress.filter(|progress| progress.is_of(setting));
    if progress.is_some_and(|progress| progress.damage.is_some()) {
        return None;
    }
    if setting != Hsts::Off && progress.is_some_and(Progress::is_reset) {
        return Some(HeaderValue::from_static("max-age=0"));
    }
    let (max_age, include_subdomains, preload) = match setting {
        Hsts::Off => return None,
        Hsts::For { max_age, include_subdomains, preload } => {
            (max_age.as_secs(), include_subdomains, preload)
        }
        Hsts::Ramp { include_subdomains } => {
            (progress.map_or(STEPS[0], Progress::max_age), include_subdomains, false)
        }
    };
    let mut text = format!("max-age={max_age}");
    text.push_str(if include_subdomains { "; includeSubDomains" } else { "" });
    text.push_str(if preload { "; preload" } else { "" });
    HeaderValue::try_from(text).ok()
}

/// So many failures are a storm when they are a fifth of all handshakes too: browsers that refuse a
/// certificate come back again and again, and a stranger who tries this and that is no storm.
const STORM: u64 = 20;

/// Whether handshakes fail as they do where something is wrong with a certificate or the rules.
#[must_use]
pub fn is_storm(succeeded: u64, failed: u64) -> bool {
    failed >= STORM && failed.saturating_mul(5) >= succeeded.saturating_add(failed)
}

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAMP: Hsts = Hsts::Ramp { include_subdomains: false };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 + seconds)
    }

    /// Looks once a minute from `from` for so many seconds.
    fn watch(progress: &mut Progress, from: u64, seconds: u64, is_quiet: bool) -> u64 {
        for minute in 1..=seconds / 60 {
            progress.look(at(from + minute * 60), is_quiet);
        }
        from + seconds
    }

    #[test]
    fn a_ramp_climbs_to_a_year_and_each_step_lasts_as_long_as_it_binds() {
        let mut progress = Progress::new(RAMP, at(0));
        let mut now = 0;
        for (step, lasts) in [(300, DAY), (DAY, DAY), (7 * DAY, 7 * DAY), (30 * DAY, 30 * DAY)] {
            assert_eq!((progress.max_age(), progress.left()), (step, Some(lasts)));
            now = watch(&mut progress, now, lasts - 60, true);
            assert_eq!(progress.max_age(), step, "not a minute earlier");
            now = watch(&mut progress, now, 60, true);
        }
        assert_eq!((progress.max_age(), progress.left()), (365 * DAY, None));
        watch(&mut progress, now, DAY, true);
        assert_eq!(progress.step(), (5, 5));
    }

    #[test]
    fn trouble_begins_a_step_anew_and_leads_nowhere_down() {
        let mut progress = Progress::new(RAMP, at(0));
        let now = watch(&mut progress, 0, DAY, true);
        let now = watch(&mut progress, now, DAY - 60, true);
        let now = watch(&mut progress, now, 60, false);
        assert_eq!((progress.max_age(), progress.left()), (DAY, Some(DAY)));
        watch(&mut progress, now, DAY, true);
        assert_eq!(progress.max_age(), 7 * DAY);
    }

    #[test]
    fn a_clock_that_jumps_skips_nothing_and_harms_nothing() {
        let mut progress = Progress::new(RAMP, at(1000));
        assert!(!progress.look(at(1000 + 400 * DAY), true), "set forward by a year");
        assert_eq!(progress.left(), Some(DAY));
        assert!(!progress.look(at(0), true), "and back");
        assert_eq!(progress.left(), Some(DAY));
        watch(&mut progress, 0, DAY, true);
        assert_eq!(progress.max_age(), DAY, "from here it goes on");
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let mut progress = Progress::new(RAMP, at(0));
        let now = watch(&mut progress, 0, DAY / 2, true);
        watch(&mut progress, now + 3 * DAY, DAY / 2 - 60, true);
        assert_eq!(progress.max_age(), 300);
    }

    #[test]
    fn a_reset_sends_zero_until_the_setting_is_another() {
        let mut reset = Progress::reset(RAMP, at(0));
        watch(&mut reset, 0, 3 * DAY, true);
        let sent = |setting, progress: &Progress| header(setting, Some(progress)).unwrap();
        assert_eq!(sent(RAMP, &reset), "max-age=0");
        let year = Hsts::For {
            max_age: Duration::from_secs(365 * DAY),
            include_subdomains: true,
            preload: true,
        };
        assert_eq!(sent(year, &reset), "max-age=31536000; includeSubDomains; preload");
        assert_eq!(sent(year, &Progress::reset(year, at(0))), "max-age=0");
        let wide = Hsts::Ramp { include_subdomains: true };
        assert_eq!(sent(wide, &reset), "max-age=300; includeSubDomains");
        assert_eq!(header(Hsts::Off, Some(&reset)), None);
    }

    #[test]
    fn a_place_beyond_the_steps_is_the_last_step() {
        let damaged = Progress { step: 99, ..Progress::new(RAMP, at(0)) };
        assert_eq!((damaged.max_age(), damaged.step()), (365 * DAY, (5, 5)));
    }

    #[test]
    fn a_few_failures_are_no_storm() {
        assert!(!is_storm(0, 19));
        assert!(is_storm(0, 20));
        assert!(!is_storm(1000, 200));
        assert!(is_storm(800, 200));
    }
}
