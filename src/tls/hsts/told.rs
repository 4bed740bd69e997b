//! What sites tell browsers by `Strict-Transport-Security`, for people.

use std::fmt;

use http::HeaderValue;
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
    /// The value of the field; empty where nothing is sent, `None` where that is not known.
    pub sent: Option<String>,
    /// What a running server sends instead as soon as it has looked at the storage, within
    /// [`super::LOOK`]: empty for nothing, `None` while it sends what the storage says.
    #[serde(default)]
    pub soon: Option<String>,
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
    /// Whether that is only because this process may not read it.
    #[serde(skip)]
    pub is_closed: bool,
}

impl Told {
    /// What every site with `hsts` tells, by what is in the storage: what a start would send. What
    /// may not be read here may be read there.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Self> {
        let kept = |_, setting, progress: Option<&Progress>| header(setting, progress);
        let mut all = Self::each(config, kept);
        all.iter_mut().filter(|told| told.is_closed).for_each(|told| told.sent = None);
        all
    }

    /// The same of a running server, which sends what `sent` has, one for each site of the
    /// configuration, until it looks at the storage again.
    #[must_use]
    pub fn served<'a>(
        config: &Config,
        sent: impl Iterator<Item = Option<&'a HeaderValue>>,
    ) -> Vec<Self> {
        let sent: Vec<_> = sent.collect();
        Self::each(config, |index, _, _| sent.get(index).copied().flatten().cloned())
    }

    fn each(
        config: &Config,
        sent: impl Fn(usize, Hsts, Option<&Progress>) -> Option<HeaderValue>,
    ) -> Vec<Self> {
        if config.server.https.is_empty() {
            return Vec::new();
        }
        let book = Book::of(&config.acme.storage);
        let sites = config.sites.iter().enumerate().filter(|(_, site)| site.hsts != Hsts::Off);
        let of = |(index, site): (usize, &crate::config::Site)| {
            let name = site.name();
            let progress = book.read(&name).filter(|progress| progress.is_of(site.hsts));
            let sent = sent(index, site.hsts, progress.as_ref());
            Self::of(name, site.hsts, progress.as_ref(), sent.as_ref())
        };
        sites.map(of).collect()
    }

    /// What a person is to do about it, where it is damaged.
    #[must_use]
    pub fn call(&self) -> Option<String> {
        let (site, damage, sent) = (&self.site, self.damage.as_ref()?, self.sent.as_ref()?);
        let sent = match self.soon {
            None => "nothing is sent".to_owned(),
            Some(_) => format!("{sent} is sent for a minute at most, then nothing"),
        };
        Some(format!(
            "site {site}: how far its hsts has come cannot be read, and {sent}, because it may have \
             been reset: {damage}; decide by `portcullis certs hsts start {site}` or `portcullis \
             certs hsts reset {site}`"
        ))
    }

    fn of(
        site: String,
        setting: Hsts,
        progress: Option<&Progress>,
        sent: Option<&HeaderValue>,
    ) -> Self {
        let kept = header(setting, progress);
        let text = |sent: Option<&HeaderValue>| {
            sent.and_then(|sent| sent.to_str().ok()).unwrap_or_default().to_owned()
        };
        let soon = (sent != kept.as_ref()).then(|| text(kept.as_ref()));
        let damage = progress.and_then(Progress::damage).map(str::to_owned);
        let is_closed = progress.is_some_and(Progress::is_closed);
        let is_down = progress.is_some_and(Progress::is_reset);
        let reset = is_down && damage.is_none();
        let is_ramp = matches!(setting, Hsts::Ramp { .. }) && !is_down;
        let progress = progress.filter(|_| is_ramp);
        Self {
            site,
            hsts: setting.to_string(),
            sent: Some(text(sent)),
            soon,
            reset,
            // Nothing is known of a ramp before its beginning.
            step: is_ramp.then(|| progress.map_or(1, |progress| progress.step().0)),
            steps: is_ramp.then_some(STEPS.len()),
            seconds_to_next_step: progress.and_then(Progress::left),
            damage,
            is_closed,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.sent.as_deref().map_or("not known", or_nothing);
        write!(f, "{}: {sent} (", self.site)?;
        if let Some(soon) = &self.soon {
            write!(f, "within a minute {}: ", or_nothing(soon))?;
        }
        match (&self.damage, self.reset, self.step, self.steps) {
            (Some(damage), ..) => f.write_str(damage)?,
            (_, true, ..) => f.write_str("reset")?,
            (.., Some(step), Some(steps)) => write!(f, "step {step} of {steps}")?,
            _ => f.write_str("fixed")?,
        }
        if let Some(left) = self.seconds_to_next_step {
            write!(f, ", the next in {} quiet hours", left.div_ceil(3600))?;
        }
        f.write_str(")")
    }
}

fn or_nothing(sent: &str) -> &str {
    if sent.is_empty() { "nothing" } else { sent }
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
            let sent = header(setting, progress);
            Told::of("a.de".to_owned(), setting, progress, sent.as_ref()).to_string()
        };
        assert_eq!(told(ramp, None), "a.de: max-age=300 (step 1 of 5)");
        let begun = Progress::new(ramp, now);
        let words = "a.de: max-age=300 (step 1 of 5, the next in 24 quiet hours)";
        assert_eq!(told(ramp, Some(&begun)), words);
        assert_eq!(told(ramp, Some(&Progress::reset(ramp, now))), "a.de: max-age=0 (reset)");
        let junk = Progress::damaged("junk".to_owned());
        let damaged = Told::of("a.de".to_owned(), ramp, Some(&junk), None);
        assert_eq!(damaged.to_string(), "a.de: nothing (junk)");
        assert!(damaged.call().unwrap().contains("portcullis certs hsts start a.de"));
        let day = Duration::from_secs(86_400);
        let fixed = Hsts::For { max_age: day, include_subdomains: false, preload: false };
        assert_eq!(told(fixed, None), "a.de: max-age=86400 (fixed)");
    }
    /// A server was said to send nothing that had not looked yet.
    #[test]
    fn what_a_server_sends_is_told_with_what_it_will_send() {
        let ramp = Hsts::Ramp { include_subdomains: false };
        let served = HeaderValue::from_static("max-age=300");
        let told =
            |progress: &Progress| Told::of("a.de".to_owned(), ramp, Some(progress), Some(&served));
        let damaged = told(&Progress::damaged("junk".to_owned()));
        assert_eq!(damaged.to_string(), "a.de: max-age=300 (within a minute nothing: junk)");
        assert_eq!(damaged.sent.as_deref(), Some("max-age=300"));
        let call = damaged.call().unwrap();
        assert!(call.contains("max-age=300 is sent for a minute at most, then nothing"), "{call}");
        let reset = told(&Progress::reset(ramp, SystemTime::UNIX_EPOCH));
        assert_eq!(reset.to_string(), "a.de: max-age=300 (within a minute max-age=0: reset)");
    }
}
