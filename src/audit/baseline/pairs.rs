//! Which listener of now is which of then.

use std::collections::HashMap;

use super::{differences, program};
use crate::audit::inventory::{Listener, Protocol};

/// From here on the kernel and many libraries choose ports by chance (RFC 6335 §6 has 49152, Linux
/// begins at 32768).
const BY_CHANCE: u16 = 32768;

/// How well two have to fit, the best first: what is the same must not be taken by another.
#[derive(Clone, Copy)]
enum Fit {
    /// The same port, and nothing is different.
    Same,
    /// Nothing but the port is different.
    Alike,
    /// The nearest that is left.
    Nearest,
}

/// For each of now the index of the one that it was then; each of then is given once, so that a
/// second socket of a known program is new.
pub(super) fn pairs(then: &[&Listener], now: &[&Listener]) -> Vec<Option<usize>> {
    let mut free: HashMap<Place<'_>, Vec<usize>> = HashMap::new();
    for (index, old) in then.iter().enumerate() {
        free.entry(Place::of(old)).or_default().push(index);
    }
    let mut found = vec![None; now.len()];
    for fit in [Fit::Same, Fit::Alike, Fit::Nearest] {
        for (listener, found) in now.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            let Some(free) = free.get_mut(&Place::of(listener)) else { continue };
            *found = choose(then, free, listener, fit).map(|at| free.remove(at));
        }
    }
    found
}

/// The position in `free` of the one that fits.
fn choose(then: &[&Listener], free: &[usize], listener: &Listener, fit: Fit) -> Option<usize> {
    let mut old = free.iter().map(|index| then.get(*index).copied());
    let is_at = |old: &Listener| old.port == listener.port;
    let is_same = |old: &Listener| differences(old, listener).is_empty();
    match fit {
        Fit::Same => old.position(|old| old.is_some_and(|old| is_at(old) && is_same(old))),
        Fit::Alike => old.position(|old| old.is_some_and(is_same)),
        Fit::Nearest => {
            let far = |old: &Listener| (!is_at(old), differences(old, listener).len());
            let all = old.enumerate().filter_map(|(at, old)| old.map(|old| (far(old), at)));
            all.min().map(|(_, at)| at)
        }
    }
}

/// By what a listener is known again: its port, or, for datagrams to a port that was chosen by
/// chance, its program.
#[derive(PartialEq, Eq, Hash)]
struct Place<'a> {
    protocol: Protocol,
    namespace: Option<&'a str>,
    at: Result<u16, String>,
}

impl<'a> Place<'a> {
    fn of(listener: &'a Listener) -> Self {
        let by_chance = listener.protocol == Protocol::Udp && listener.port >= BY_CHANCE;
        let program = listener.holder.as_ref().filter(|_| by_chance).map(program);
        Self {
            protocol: listener.protocol,
            namespace: listener.namespace.as_deref(),
            at: program.map_or(Ok(listener.port), Err),
        }
    }
}
