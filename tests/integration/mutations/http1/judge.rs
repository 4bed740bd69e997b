//! Whether what came out at the other end, and what came back, is what a client has sent.

use super::client::Played;
use super::sent::Sent;
use crate::mutations::backend::Seen;

/// What is wrong with a case: its requests as they were sent, the answers, and what was seen.
pub fn complaints(case: u32, sent: &[Sent], played: &Played, seen: &[Seen]) -> Vec<String> {
    let mut complaints: Vec<String> = played.complaint.iter().cloned().collect();
    for one in seen {
        let foreign: Vec<_> = one.markers.iter().filter(|marker| **marker != case).collect();
        if !foreign.is_empty() {
            complaints.push(format!("marks of other clients {foreign:?} in {one:?}"));
        }
    }
    // In their order, each at most once.
    let mut rest = sent;
    for one in seen {
        let Some(at) = rest.iter().position(|sent| is_of(one, sent)) else {
            complaints.push(format!("never sent, or more than once: {one:?}"));
            break;
        };
        rest = &rest[at + usize::from(one.is_whole)..];
    }
    for (place, answer) in played.answers.iter().enumerate() {
        let Some(serial) = answer.serial else { continue };
        let told = seen.iter().find(|one| one.is_whole && one.serial == serial);
        let is_own = told.is_some_and(|one| sent.get(place).is_some_and(|sent| is_of(one, sent)));
        if !is_own {
            complaints.push(format!("answer {place} is to another request: {told:?}"));
        }
    }
    let last = played.answers.iter().position(|answer| answer.closes);
    if last.is_some_and(|last| last + 1 < played.answers.len()) {
        complaints.push(format!("more behind the last answer: {:?}", played.answers));
    }
    if played.answers.len() > sent.len() + 1 {
        complaints.push(format!("to {} requests {:?}", sent.len(), played.answers));
    }
    let expecting = sent.iter().filter(|one| one.expects).count();
    if played.interim > expecting {
        complaints.push(format!("{} interim answers to {expecting}", played.interim));
    }
    complaints
}

/// Whether a request that was seen is this one, or as much of it as may have been passed on.
fn is_of(seen: &Seen, sent: &Sent) -> bool {
    let is_same = sent.may_pass && seen.method == sent.method && seen.target == sent.target;
    match (seen.is_whole, sent.is_whole) {
        (true, true) => is_same && seen.body == sent.body,
        (true, false) => false,
        (false, true) => is_same && sent.body.starts_with(&seen.body),
        (false, false) => is_same,
    }
}
