//! The tries that are left at the authorities whose limits are known, for people.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::budget::{Budget, Limits, limits_of};
use super::ledger::{self, Ledger};
use super::standing::Standing;
use super::vault::Vault;
use crate::config::Acme;

/// What was counted, and by whom.
#[derive(Debug)]
pub struct Tries {
    limited: Vec<(String, Limits)>,
    ledgers: Vec<Ledger>,
}

impl Tries {
    /// Reads every ledger, where an authority of `acme` has limits that are known.
    #[must_use]
    pub fn of(acme: &Acme, vault: &dyn Vault) -> Self {
        let limited = acme.authorities.iter().filter_map(|authority| {
            Some((authority.directory.clone(), limits_of(&authority.directory)?))
        });
        let limited: Vec<_> = limited.collect();
        let ledgers = if limited.is_empty() {
            Vec::new()
        } else {
            // What cannot be read counts nothing here; who asks an authority is told.
            let mut ledgers = ledger::all(vault, &[], &Ledger::default()).unwrap_or_default();
            ledgers.retain(|ledger| !ledger.issued.is_empty() || !ledger.unproved.is_empty());
            ledgers
        };
        Self { limited, ledgers }
    }

    /// How a certificate stands, as [`Standing::as_json`] tells it, with the tries in `tries_left`.
    #[must_use]
    pub fn tell(&self, standing: &Standing, now: SystemTime) -> Value {
        let mut told = standing.as_json(now);
        if let Some(told) = told.as_object_mut() {
            told.insert("tries_left".to_owned(), self.left(&standing.names, now));
        }
        told
    }

    fn left(&self, names: &[String], now: SystemTime) -> Value {
        let of = |(directory, limits): &(String, Limits)| {
            let left = Budget { directory, names, ledgers: &self.ledgers }.left(limits, now);
            json!({
                "directory": directory,
                "same_names_this_week": left.duplicates,
                "domain_this_week": left.domain,
                "failed_proofs_this_hour": left.unproved,
                "of": {
                    "same_names_this_week": limits.duplicates.most,
                    "domain_this_week": limits.domain.most,
                    "failed_proofs_this_hour": limits.unproved.most,
                },
            })
        };
        self.limited.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::tls::acme::vault::Files;
    use crate::tls::testing::config;

    const CA: &str = "https://acme-v02.api.letsencrypt.org/directory";

    #[test]
    fn what_is_left_is_told_for_authorities_whose_limits_are_known() {
        let storage = tempfile::tempdir().unwrap();
        let vault = Files::at(storage.path());
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let names = vec!["a.de".to_owned()];
        let held = vault.lock("a.de").unwrap().unwrap();
        let mut ledger = Ledger::default();
        ledger.fail_to_prove(CA, &names, now);
        ledger.succeed(CA, &names, now);
        ledger.write(&vault, &names, &held).unwrap();
        let mut acme = config(Path::new("/s"), Vec::new()).acme;
        acme.authorities[0].directory = CA.to_owned();
        let standing = Standing { names, ..Standing::default() };
        let told = Tries::of(&acme, &vault).tell(&standing, now);
        let left = &told["tries_left"][0];
        assert_eq!((&left["directory"], &left["same_names_this_week"]), (&json!(CA), &json!(4)));
        assert_eq!(left["failed_proofs_this_hour"], 4);
        assert_eq!(
            (&left["domain_this_week"], &left["of"]["domain_this_week"]),
            (&json!(49), &json!(50))
        );
        acme.authorities[0].directory = "https://ca.test/dir".to_owned();
        let told = Tries::of(&acme, &vault).tell(&standing, now);
        assert_eq!(told["tries_left"], json!([]));
    }
}
