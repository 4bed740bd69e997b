//! Which of several applications gets a request.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::pool::Backend;

/// Picks the application with the fewest exchanges under way; among equals they take turns, which
/// `turn` remembers. One that refused a connection a moment ago, or that is `tried`, is taken only
/// when there is no other.
#[must_use]
pub fn pick<'a>(
    backends: &'a [Rc<Backend>],
    turn: &Cell<usize>,
    tried: Option<&Rc<Backend>>,
) -> Option<&'a Rc<Backend>> {
    if let [only] = backends {
        return Some(only);
    }
    let now = Instant::now();
    let first = turn.get();
    turn.set(first.wrapping_add(1));
    let count = backends.len();
    (0..count).filter_map(|n| backends.get(first.wrapping_add(n) % count)).min_by_key(|backend| {
        let again = tried.is_some_and(|tried| Rc::ptr_eq(tried, backend));
        (again, backend.is_passed_over(now), backend.in_flight())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Target;
    use crate::upstream::h1::Connection;
    use crate::upstream::pool::{Backends, Lease};
    use crate::upstream::testing::pair;
    use crate::worker::deadline::Wheel;

    fn backends(count: u16) -> Vec<Rc<Backend>> {
        let mut all = Backends::default();
        let target = |port| Target::parse(&format!("127.0.0.1:{port}")).unwrap();
        (1..=count).map(|port| all.at(&target(port), None)).collect()
    }

    fn busy(backend: &Rc<Backend>) -> Lease {
        let deadline = Wheel::new(Instant::now()).deadline();
        backend.lease_new(Box::new(Connection::new(pair().0, deadline)))
    }

    /// Which of them is picked, several times in a row.
    fn picked(all: &[Rc<Backend>], turn: &Cell<usize>, tried: Option<usize>) -> Vec<usize> {
        let tried = tried.map(|tried| &all[tried]);
        let place = |picked: &Rc<Backend>| all.iter().position(|one| Rc::ptr_eq(one, picked));
        (0..4).map(|_| pick(all, turn, tried).and_then(place).unwrap()).collect()
    }

    #[test]
    fn equals_take_turns() {
        let turn = Cell::new(usize::MAX - 1);
        let mut seen = picked(&backends(2), &turn, None);
        seen.sort_unstable();
        assert_eq!(seen, [0, 0, 1, 1]);
        assert_eq!(picked(&backends(1), &turn, None), [0; 4]);
        assert!(pick(&[], &turn, None).is_none());
    }

    #[tokio::test]
    async fn who_has_the_least_to_do_is_picked() {
        let (all, turn) = (backends(3), Cell::new(0));
        let leases = [busy(&all[0]), busy(&all[0]), busy(&all[1])];
        assert_eq!(picked(&all, &turn, None), [2; 4]);
        drop(leases);
        assert_ne!(picked(&all, &turn, None), [2; 4]);
    }

    #[tokio::test]
    async fn who_refused_or_was_tried_is_picked_last() {
        let (all, turn) = (backends(2), Cell::new(0));
        let _lease = busy(&all[1]);
        assert_eq!(picked(&all, &turn, Some(0)), [1; 4]);
        all[0].note(Some(Instant::now()));
        assert_eq!(picked(&all, &turn, None), [1; 4]);
        assert_eq!(picked(&all, &turn, Some(1)), [0; 4], "rather than the same again");
        all[0].note(None);
        assert_eq!(picked(&all, &turn, None), [0; 4]);
    }

    proptest! {
        #[test]
        fn nobody_with_less_to_do_is_passed_by(
            load in prop::collection::vec((0..4_usize, any::<bool>()), 1..6), first: usize,
            tried in prop::option::of(0..6_usize),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _entered = runtime.enter();
            let (all, turn) = (backends(u16::try_from(load.len()).unwrap()), Cell::new(first));
            let mut leases = Vec::new();
            for (backend, (busy_with, refused)) in all.iter().zip(&load) {
                leases.extend((0..*busy_with).map(|_| busy(backend)));
                // However slow this test is, it has not passed before the end.
                backend.note(refused.then(|| Instant::now() + Duration::from_secs(3600)));
            }
            let tried = tried.filter(|tried| *tried < all.len());
            let merit = |place: usize| (tried == Some(place), load[place].1, load[place].0);
            let best = (0..all.len()).map(merit).min().unwrap();
            let mut counts = vec![0; all.len()];
            for _ in 0..2 * all.len() {
                let one = pick(&all, &turn, tried.map(|tried| &all[tried])).unwrap();
                let place = all.iter().position(|other| Rc::ptr_eq(one, other)).unwrap();
                prop_assert!(all.len() == 1 || merit(place) == best);
                counts[place] += 1;
            }
            if load.iter().all(|one| *one == load[0]) && tried.is_none() {
                let all_had_it = counts.iter().all(|count| *count > 0);
                prop_assert!(all_had_it, "equals take turns: {counts:?}");
            }
        }
    }
}
