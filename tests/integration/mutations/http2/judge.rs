//! Whether what came out at the other end is what a client has asked for.

use super::client::Played;
use super::reading::Meant;
use crate::mutations::backend::Seen;

/// What is wrong with a case: what its streams mean, the answers, and what was seen.
pub fn complaints(
    case: u32,
    meant: &[Option<Meant>],
    played: &Played,
    seen: &[Seen],
) -> Vec<String> {
    let mut complaints: Vec<String> = played.complaint.iter().cloned().collect();
    let mut left: Vec<&Meant> = meant.iter().flatten().collect();
    for one in seen {
        if one.markers.iter().any(|marker| *marker != case) {
            complaints.push(format!("marks of other clients: {one:?}"));
        }
        match left.iter().position(|meant| is_of(one, meant)) {
            Some(at) => drop(left.remove(at)),
            None => complaints.push(format!("never asked for, or more than once: {one:?}")),
        }
    }
    for (place, meant) in meant.iter().enumerate() {
        let Some(serial) = played.serial(place) else { continue };
        let told = seen.iter().find(|one| one.is_whole && one.serial == serial);
        let is_own = told.is_some_and(|one| meant.as_ref().is_some_and(|meant| is_of(one, meant)));
        if !is_own {
            complaints.push(format!("stream {place} has another's answer: {told:?}"));
        }
    }
    complaints
}

/// Whether a request that was seen is this one, or as much of it as may have been passed on.
fn is_of(seen: &Seen, meant: &Meant) -> bool {
    let cookies: Vec<&String> = meant.cookies.iter().collect();
    let is_same = seen.method == meant.method
        && seen.target == meant.target
        && seen.cookies.iter().eq(cookies);
    match (seen.is_whole, meant.is_whole) {
        (true, true) => is_same && seen.body == meant.body,
        (true, false) => false,
        (false, _) => is_same && meant.body.starts_with(&seen.body),
    }
}
