//! Listeners whose holder is not known, on one side or the other: another user looked.

use std::collections::BTreeMap;

use crate::audit::inventory::{Listener, Protocol};

type Key<'a> = (u16, Protocol, Option<&'a str>);

/// What there is to compare.
pub(super) struct Sides<'a> {
    /// Then and now, where each holder is known, or one side has nothing on the port.
    pub(super) sharp: [Vec<&'a Listener>; 2],
    /// Then and now on one port each, where a holder is not known: all holders together, since who
    /// cannot see them sees one.
    pub(super) blurred: Vec<[Listener; 2]>,
}

impl<'a> Sides<'a> {
    pub(super) fn of(then: &'a [Listener], now: &'a [Listener]) -> Self {
        let mut ports: BTreeMap<Key<'a>, [Vec<&'a Listener>; 2]> = BTreeMap::new();
        let key = |it: &'a Listener| (it.port, it.protocol, it.namespace.as_deref());
        for old in then {
            let [before, _] = ports.entry(key(old)).or_default();
            before.push(old);
        }
        for new in now {
            let [_, after] = ports.entry(key(new)).or_default();
            after.push(new);
        }
        let mut sides = Sides { sharp: Default::default(), blurred: Vec::new() };
        for [before, after] in ports.into_values() {
            let is_hidden = before.iter().chain(&after).any(|it| it.holder.is_none());
            match (is_hidden, together(&before), together(&after)) {
                (true, Some(before), Some(after)) => sides.blurred.push([before, after]),
                _ => {
                    let [all_before, all_after] = &mut sides.sharp;
                    all_before.extend(before);
                    all_after.extend(after);
                }
            }
        }
        sides
    }
}

/// One listener in the place of several on a port.
fn together(all: &[&Listener]) -> Option<Listener> {
    let (first, rest) = all.split_first()?;
    let mut whole = Listener::clone(first);
    for other in rest {
        whole.addresses.extend(&other.addresses);
        whole.exposure = whole.exposure.max(other.exposure);
        whole.holder = None;
    }
    whole.addresses.sort();
    whole.addresses.dedup();
    Some(whole)
}
