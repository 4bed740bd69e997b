//! What sites tell browsers by `Strict-Transport-Security`, for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::book::Book;
use super::{Progress, STEPS, header};
use crate::config::{Config, Hsts};

/// What one site tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The name of the site.
    pub site: String,
    /// As it is set.
    pub hsts: String,
    /// The value of the field.
    pub sent: String,
    /// Whether a person has led it down.
    pub reset: bool,
    /// The step of a ramp, from 1.
    pub step: Option<usize>,
    /// How many steps a ramp has.
    pub steps: Option<usize>,
    /// Quiet seconds that the next step takes.
    pub seconds_to_next_step: Option<u64>,
    /// Why how far it has come cannot be read: nothing is sent.
    #[serde(default)]
    pub damage: Option<String>,
}

impl Told {
    /// What every site with `hsts` tells, by what is in the storage.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Self> {
        let book = Book::of(&config.acme.storage);
        let sites = config.sites.iter().filter(|site| site.hsts != Hsts::Off);
        let of = |site: &crate::config::Site| {
            let name = site.name();
            let progress = book.read(&name).filter(|progress| progress.is_of(site.hsts));
            Self::of(name, site.hsts, progress.as_ref())
        };
        sites.map(of).collect()
    }

    /// What a person is to do about it, where it is damaged.
    #[must_use]
    pub fn call(&self) -> Option<String> {
        let (site, damage) = (&self.site, self.damage.as_ref()?);
        Some(format!(
            "site {site}: how far its hsts has come cannot be read, and nothing is sent, because it \
             may have been reset: {damage}; decide by `portcullis certs hsts start {site}` or \
             `portcullis certs hsts reset {site}`"
        ))
    }

    fn of(site: String, setting: Hsts, progress: Option<&Progress>) -> Self {
        let sent = header(setting, progress);
        let sent = sent.as_ref().and_then(|sent| sent.to_str().ok()).unwrap_or_default();
        let damage = progress.and_then(Progress::damage).map(str::to_owned);
        let is_down = progress.is_some_and(Progress::is_reset);
        let reset = is_down && damage.is_none();
        let is_ramp = matches!(setting, Hsts::Ramp { .. }) && !is_down;
        let progress = progress.filter(|_| is_ramp);
        Self {
            site,
            hsts: setting.to_string(),
            sent: sent.to_owned(),
            reset,
            // Nothing is known of a ramp before its beginning.
            step: is_ramp.then(|| progress.map_or(1, |progress| progress.step().0)),
            steps: is_ramp.then_some(STEPS.len()),
            seconds_to_next_step: progress.and_then(Progress::left),
            damage,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(damage) = &self.damage {
            return write!(f, "{}: nothing ({damage})", self.site);
        }
        write!(f, "{}: {} (", self.site, self.sent)?;
        match (self.reset, self.step, self.steps) {
            (true, ..) => f.write_str("reset")?,
            (_, Some(step), Some(steps)) => write!(f, "step {step} of {steps}")?,
            _ => f.write_str("fixed")?,
        }
        if let Some(left) = self.seconds_to_next_step {
            write!(f, ", the next in {} quiet hours", left.div_ceil(3600))?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_site_is_told_with_its_step() {
        let ramp = Hsts::Ramp { include_subdomains: false };
        let now = SystemTime::UNIX_EPOCH;
        let told = |setting, progress: Option<&Progress>| {
            Told::of("a.de".to_owned(), setting, progress).to_string()
        };
        assert_eq!(told(ramp, None), "a.de: max-age=300 (step 1 of 5)");
        let begun = Progress::new(ramp, now);
        let words = "a.de: max-age=300 (step 1 of 5, the next in 24 quiet hours)";
        assert_eq!(told(ramp, Some(&begun)), words);
        assert_eq!(told(ramp, Some(&Progress::reset(ramp, now))), "a.de: max-age=0 (reset)");
        let damaged =
            Told::of("a.de".to_owned(), ramp, Some(&Progress::damaged("junk".to_owned())));
        assert_eq!(damaged.to_string(), "a.de: nothing (junk)");
        assert!(damaged.call().unwrap().contains("portcullis certs hsts start a.de"));
        let day = Duration::from_secs(86_400);
        let fixed = Hsts::For { max_age: day, include_subdomains: false, preload: false };
        assert_eq!(told(fixed, None), "a.de: max-age=86400 (fixed)");
    }
}
