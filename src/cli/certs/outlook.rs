//! What is to come of certificates by ACME: from the running server, else from the storage.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::tls::acme::names::authority_name;
use crate::tls::facts::instant;

/// What is known of every certificate by ACME.
pub(super) struct Outlooks {
    /// As [`crate::tls::acme::tries::Tries::tell`] tells it.
    standings: Vec<Value>,
    /// Whether a server runs.
    is_live: bool,
}

/// What is known of one of them.
pub(super) struct Outlook<'a> {
    standing: &'a Value,
    is_live: bool,
}

/// When one is asked for that was revoked for good.
const HELD: &str = "not before `certs renew`";

impl Outlooks {
    /// Takes what the server tells, or the storage.
    pub(super) fn of(standings: Vec<Value>, is_live: bool) -> Self {
        Self { standings, is_live }
    }

    /// Why persons are needed.
    pub(super) fn calls(&self) -> impl Iterator<Item = &str> {
        self.standings.iter().filter_map(|standing| standing.get("needs_a_person")?.as_str())
    }

    /// What is known of the certificate for these names.
    pub(super) fn find(&self, names: &[String]) -> Option<Outlook<'_>> {
        let named = json!(names);
        let standing = self.standings.iter().find(|it| it.get("names") == Some(&named))?;
        Some(Outlook { standing, is_live: self.is_live })
    }
}

impl Outlook<'_> {
    /// When it is asked for, in words; `has_one` says whether there is one to renew.
    pub(super) fn next(&self, has_one: bool, now: SystemTime) -> String {
        if self.standing.get("asking") == Some(&Value::Bool(true)) {
            return "asking now".to_owned();
        }
        if self.is_held() {
            return HELD.to_owned();
        }
        let Some(at) = moment(self.standing.get("next")) else { return "at once".to_owned() };
        let is_due = at <= now;
        match (has_one, is_due, self.is_live) {
            (_, true, true) => "at once".to_owned(),
            (_, true, false) => "at the next start".to_owned(),
            (true, ..) => instant(at, now),
            (false, ..) => format!("next try {}", instant(at, now)),
        }
    }

    /// The same for one that is got when clients ask for it, and renewed while they come.
    pub(super) fn next_on_demand(&self, now: SystemTime) -> String {
        if self.is_held() {
            return HELD.to_owned();
        }
        let at = moment(self.standing.get("next")).filter(|at| *at > now);
        at.map_or_else(|| "when clients come".to_owned(), |at| instant(at, now))
    }

    /// When it is asked for, for programs.
    pub(super) fn when(&self) -> Value {
        self.standing.get("next").cloned().unwrap_or_default()
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u64 {
        self.standing.get("failures").and_then(Value::as_u64).unwrap_or_default()
    }

    /// Whether it was revoked, and no other is asked for by itself.
    pub(super) fn is_held(&self) -> bool {
        self.standing.pointer("/revoked/renews") == Some(&Value::Bool(false))
    }

    /// A revocation, in a sentence.
    fn revocation(&self, is_on_demand: bool, now: SystemTime) -> Option<String> {
        let revoked = self.standing.get("revoked").filter(|it| it.is_object())?;
        let at = moment(revoked.get("at")).map_or_else(String::new, |at| instant(at, now));
        let reason = revoked.get("reason").and_then(Value::as_str).unwrap_or_default();
        let next = match (self.is_held(), self.is_live) {
            (false, _) if is_on_demand => "another is got when clients come",
            (true, _) => "no other is asked for before `portcullis certs renew`",
            (false, true) => "another is being asked for",
            (false, false) => "the next start asks for another",
        };
        Some(format!("revoked on {at} ({reason}); {next}"))
    }

    /// A revocation, the last failure and the tries that are left, a sentence each.
    pub(super) fn notes(&self, is_on_demand: bool, now: SystemTime) -> Vec<String> {
        let mut notes: Vec<String> = self.revocation(is_on_demand, now).into_iter().collect();
        if let Some(trouble) = self.standing.get("last_failure").filter(|it| it.is_object()) {
            let word = |key| trouble.get(key).and_then(Value::as_str).unwrap_or_default();
            let at = moment(trouble.get("at")).map_or_else(String::new, |at| instant(at, now));
            let (times, directory, why) = (self.failures(), word("directory"), word("error"));
            let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
            let next = match trouble.get("early") == Some(&Value::Bool(true)) {
                true => "; it is not due yet: `portcullis certs renew` asks again before",
                false => "",
            };
            notes.push(format!("failed {times}, last on {at}: {directory}: {why}{next}"));
        }
        if let Some(fault) = self.standing.get("storage_failure").filter(|it| it.is_object()) {
            let at = moment(fault.get("at")).map_or_else(String::new, |at| instant(at, now));
            let why = fault.get("error").and_then(Value::as_str).unwrap_or_default();
            notes.push(format!("the storage did not work on {at}: {why}"));
        }
        let tries = self.standing.get("tries_left").and_then(Value::as_array);
        for left in tries.into_iter().flatten() {
            let number = |place: &str| left.pointer(place).and_then(Value::as_u64);
            let of =
                |key: &str| Some((number(&format!("/{key}"))?, number(&format!("/of/{key}"))?));
            let all = (of("same_names_this_week"), of("domain_this_week"));
            let ((Some(one), Some(domain)), Some(proof)) = (all, of("failed_proofs_this_hour"))
            else {
                continue;
            };
            let is_full = [one, domain, proof].iter().all(|(left, of)| left == of);
            if is_full && notes.is_empty() {
                continue;
            }
            let directory = left.get("directory").and_then(Value::as_str).unwrap_or_default();
            notes.push(format!(
                "tries left at {}: {} of {} for these names and {} of {} for the domain this week; \
                 {} of {} failed proofs this hour",
                authority_name(directory),
                one.0,
                one.1,
                domain.0,
                domain.1,
                proof.0,
                proof.1
            ));
        }
        notes
    }

    /// The directory of the authority that has issued what is kept.
    pub(super) fn authority(&self) -> Option<&str> {
        self.standing.get("directory")?.as_str()
    }

    /// For programs: what the server tells.
    pub(super) fn as_json(&self) -> Value {
        let mut all = self.standing.clone();
        if let Some(all) = all.as_object_mut() {
            all.remove("site");
            all.remove("names");
            all.insert("server_runs".to_owned(), self.is_live.into());
        }
        all
    }
}

fn moment(stamp: Option<&Value>) -> Option<SystemTime> {
    let stamp: jiff::Timestamp = stamp?.as_str()?.parse().ok()?;
    Some(stamp.into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const CA: &str = "https://acme-v02.api.letsencrypt.org/directory";

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn outlooks(standing: Value, is_live: bool) -> Outlooks {
        Outlooks::of(vec![standing], is_live)
    }

    fn left(failed_proofs: u64) -> Value {
        json!([{
            "directory": CA,
            "same_names_this_week": 5, "domain_this_week": 50,
            "failed_proofs_this_hour": failed_proofs,
            "of": {
                "same_names_this_week": 5, "domain_this_week": 50, "failed_proofs_this_hour": 5,
            },
        }])
    }

    #[test]
    fn what_failed_is_told_with_the_tries_that_are_left() {
        let names = vec!["a.de".to_owned()];
        let standing = json!({
            "names": names, "tries_left": left(4), "failures": 2, "next": "2027-01-15T08:10:00Z", "asking": false,
            "last_failure": { "at": "2027-01-15T08:00:00Z", "directory": CA, "error": "no" },
        });
        let all = outlooks(standing, true);
        assert!(all.find(&["b.de".to_owned()]).is_none());
        let one = all.find(&names).unwrap();
        assert_eq!(one.next(false, now()), "next try 2027-01-15 08:10:00 UTC");
        assert_eq!(
            one.notes(false, now()),
            [
                format!("failed 2 times, last on 2027-01-15 08:00:00 UTC: {CA}: no"),
                "tries left at acme-v02.api.letsencrypt.org: 5 of 5 for these names and 50 of 50 \
                 for the domain this week; 4 of 5 failed proofs this hour"
                    .to_owned(),
            ]
        );
        assert_eq!(one.as_json()["tries_left"][0]["failed_proofs_this_hour"], 4);
    }

    /// A name under a site on demand that was revoked for good was promised to who comes.
    #[test]
    fn what_was_revoked_on_demand_promises_only_what_comes() {
        let names = vec!["a.od.de".to_owned()];
        for (renews, next, words) in [
            (false, HELD, "no other is asked for before `portcullis certs renew`"),
            (true, "when clients come", "another is got when clients come"),
        ] {
            let revoked =
                json!({ "at": "2027-01-15T08:00:00Z", "reason": "superseded", "renews": renews });
            let all = outlooks(json!({ "names": names, "revoked": revoked }), true);
            let one = all.find(&names).unwrap();
            assert_eq!((one.next_on_demand(now()).as_str(), one.is_held()), (next, !renews));
            let notes = one.notes(true, now());
            assert!(notes[0].contains(words), "{notes:?}");
        }
    }

    #[test]
    fn what_is_due_is_done_at_once_or_by_the_next_start() {
        let names = vec!["a.de".to_owned()];
        let due = json!({ "names": names, "tries_left": left(5), "next": "2027-01-15T08:00:00Z" });
        for (is_live, words) in [(true, "at once"), (false, "at the next start")] {
            let all = outlooks(due.clone(), is_live);
            let one = all.find(&names).unwrap();
            assert_eq!(one.next(true, now()), words);
            assert!(one.notes(false, now()).is_empty(), "nothing was used up");
        }
        let asking = json!({ "names": names, "asking": true });
        let all = outlooks(asking, true);
        assert_eq!(all.find(&names).unwrap().next(false, now()), "asking now");
    }
}
