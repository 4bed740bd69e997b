//! Every certificate of a configuration with what is to come of it, and what needs a person: one
//! account, which the running server gives and the storage, and from which `status` and
//! `certs list` both take their exit codes.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::acme::damage::damage;
use super::acme::tries::Tries;
use super::acme::vault::Files;
use super::acme::{Standing, Wanted, demand, wanted};
use super::found::Found;
use super::wanted::survey;
use crate::config::Config;

/// All that is known.
#[derive(Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The certificates.
    pub certificates: Vec<Found>,
    /// How those by ACME stand, as [`Tries::tell`] tells it.
    pub standings: Vec<Value>,
    /// What a person is to do something about, a sentence each.
    pub needs_a_person: Vec<String>,
}

impl Overview {
    /// From the files and the storage of a configuration, where no server runs that could tell.
    /// Nothing is written.
    #[must_use]
    pub fn stored(config: &Config, now: SystemTime) -> Self {
        let certificates = survey(config, now);
        let wanted = wanted(config);
        let mut standings = standings(config, &wanted, now);
        let mut needs_a_person = needs_a_person(&certificates, &standings, now);
        needs_a_person.extend(damage(config, wanted.iter().filter_map(first), false));
        standings.extend(standings_on_demand(config, now));
        Self { certificates, standings, needs_a_person }
    }
}

/// What is damaged in the storage of a configuration, a sentence each, for who checks its file: see
/// [`damage`].
#[must_use]
pub fn damaged(config: &Config) -> Vec<String> {
    damage(config, wanted(config).iter().filter_map(first), false)
}

fn first(wanted: &Wanted) -> Option<&str> {
    wanted.names.first().map(String::as_str)
}

/// What of certificates needs a person, a sentence each: `standings` are those of certificates that
/// are not on demand.
#[must_use]
pub fn needs_a_person(certificates: &[Found], standings: &[Value], now: SystemTime) -> Vec<String> {
    let failed = standings.iter().filter_map(|standing| standing.get("needs_a_person")?.as_str());
    let calls = certificates.iter().flat_map(|found| found.calls(now));
    calls.chain(failed.map(str::to_owned)).collect()
}

/// How certificates on demand stand, as they are kept. None of them needs a person: what failed is
/// tried again when clients come, see [`Found::calls`].
#[must_use]
pub fn standings_on_demand(config: &Config, now: SystemTime) -> Vec<Value> {
    let mut standings = standings(config, &demand::kept(config), now);
    for need in standings.iter_mut().filter_map(|standing| standing.get_mut("needs_a_person")) {
        *need = Value::Null;
    }
    standings
}

fn standings(config: &Config, wanted: &[Wanted], now: SystemTime) -> Vec<Value> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let vault = Files::at(&config.acme.storage);
    let tries = Tries::of(&config.acme, &vault);
    let kept = wanted.iter().filter_map(|one| Standing::read(&vault, one).ok());
    kept.map(|standing| tries.tell(&standing, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Ask, TlsSource};
    use crate::tls::acme::ledger::Ledger;
    use crate::tls::acme::schedule::Cost;
    use crate::tls::acme::vault::Vault as _;
    use crate::tls::testing::{config, site};

    /// `certs list --json` called a person in two rows, and nobody in all.
    #[test]
    fn a_failure_on_demand_calls_a_person_neither_in_its_row_nor_in_all() {
        let storage = tempfile::tempdir().unwrap();
        let on_demand = TlsSource::OnDemand(Ask::parse("http://127.0.0.1:1/").unwrap());
        let sites = vec![site(&["*.b.test"], on_demand), site(&["c.test"], TlsSource::Auto)];
        let mut config = config(storage.path(), sites);
        config.acme.authorities[0].directory = "https://ca.test/dir".to_owned();
        let (vault, now) = (Files::at(storage.path()), SystemTime::now());
        let fail = |name: &str| {
            let mut ledger = Ledger::default();
            ledger.fail(("https://ca.test/dir", "no"), Cost::Attempt, None, None, now);
            let held = vault.lock(name).unwrap().unwrap();
            ledger.write(&vault, &[name.to_owned()], &held).unwrap();
        };
        fail("a.b.test");
        let overview = Overview::stored(&config, now);
        let row = &overview.standings[1];
        assert_eq!((&row["names"][0], &row["failures"]), (&"a.b.test".into(), &1.into()), "{row}");
        assert!(row["needs_a_person"].is_null() && row["last_failure"].is_object(), "{row}");
        assert_eq!(overview.needs_a_person, [""; 0]);
        fail("c.test");
        let overview = Overview::stored(&config, now);
        assert_eq!(overview.standings[0]["needs_a_person"], overview.needs_a_person[0]);
    }
}
