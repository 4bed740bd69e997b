//! How a certificate stands, for people.

use std::time::SystemTime;

use super::ledger::{Ledger, Trouble};
use super::names::Wanted;
use super::schedule;
use super::stored::Stored;

/// How one certificate stands, for people.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The name of its site.
    pub site: String,
    /// Its names.
    pub names: Vec<String>,
    /// When it is renewed, or asked for again.
    pub next: Option<SystemTime>,
    /// When what is kept ends; `None` while there is none.
    pub not_after: Option<SystemTime>,
    /// From when on a certificate that was not renewed needs a person.
    pub loud_at: Option<SystemTime>,
    /// Failures since the last success.
    pub failures: u32,
    /// The last of them.
    pub trouble: Option<Trouble>,
    /// The directory that issued what is kept.
    pub directory: Option<String>,
    /// Whether an authority is being asked.
    pub is_asking: bool,
}

impl Standing {
    /// From what is kept; `due` is when the certificate is to be asked for.
    pub(super) fn of(
        wanted: &Wanted,
        stored: Option<&Stored>,
        ledger: &Ledger,
        due: SystemTime,
    ) -> Self {
        let facts = stored.map(|stored| &stored.facts);
        Self {
            site: wanted.site.clone(),
            names: wanted.names.clone(),
            next: Some(due),
            not_after: facts.map(|facts| facts.not_after),
            loud_at: facts.map(|facts| schedule::loud_at(facts.not_before, facts.not_after)),
            failures: ledger.failures,
            trouble: ledger.trouble.clone(),
            directory: ledger.directory.clone(),
            is_asking: false,
        }
    }

    /// What an operator is to know of a certificate that could not be got: at once where there is
    /// none, and for another in time before it ends.
    #[must_use]
    pub fn call(&self, now: SystemTime) -> Option<String> {
        let trouble = self.trouble.as_ref()?;
        let is_late = self.loud_at.is_none_or(|at| now >= at);
        is_late.then(|| {
            format!(
                "site {}: no certificate could be got for {} ({} failures): {}: {}",
                self.site,
                self.names.join(", "),
                self.failures,
                trouble.directory,
                trouble.words
            )
        })
    }
}
