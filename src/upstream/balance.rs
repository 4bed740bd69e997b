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
