//! Names that look like what was asked: slips of the fingers.

use std::collections::BTreeMap;

use super::Registry;
use super::knowledge::{Category, Knowledge};

/// Names that are proposed where nothing was found.
const PROPOSED: usize = 5;

/// Beyond this length nothing is a slip of the fingers, in bytes; and comparing is not free.
const LONGEST_NAME: usize = 40;

/// So many changed letters still make the same name, at most.
const MOST_SLIPS: usize = 3;

/// What looks like a word that names nothing.
pub(super) struct Near {
    /// The one that must have been meant.
    pub(super) meant: Option<String>,
    /// The nearest, nearest first.
    pub(super) names: Vec<String>,
}

impl Registry {
    /// Names that look like this one.
    pub(super) fn near(&self, word: &str) -> Near {
        let mut near: BTreeMap<(usize, Rank), Vec<&str>> = BTreeMap::new();
        if word.len() > LONGEST_NAME {
            return Near { meant: None, names: Vec::new() };
        }
        let far = word.len() / 2 + 1;
        let mut weigh = |candidate, rank| {
            if let Some(slips) = slips(word, candidate, far) {
                near.entry((slips, rank)).or_default().push(candidate);
            }
        };
        self.knowledge.iter().flat_map(Knowledge::names).for_each(|name| weigh(name, Rank::Known));
        Category::ALL.iter().for_each(|category| weigh(category.word(), Rank::Known));
        self.assignments.iter().for_each(|one| {
            let low = *one.ports.start() < 1024;
            weigh(one.service, if low { Rank::WellKnown } else { Rank::Other });
        });
        near.values_mut().for_each(|names| {
            names.sort_unstable();
            names.dedup();
        });
        // Of two names that are equally far, neither is what was meant.
        let meant = near.iter().next().and_then(|((slips, _), names)| match names.as_slice() {
            [only] if *slips <= reach(word) => Some((*only).to_owned()),
            _ => None,
        });
        let mut names: Vec<String> = Vec::new();
        for name in near.into_values().flatten().map(str::to_owned) {
            if names.len() < PROPOSED && !names.contains(&name) {
                names.push(name);
            }
        }
        Near { meant, names }
    }
}

/// How well a name is known: of two that are equally far, the better known one is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Known,
    WellKnown,
    Other,
}

/// How many slips make one word of the other; `None` from more than `far` on.
fn slips(word: &str, candidate: &str, far: usize) -> Option<usize> {
    if candidate.is_empty() || word.len().abs_diff(candidate.len()) > far {
        return None;
    }
    let slips = strsim::osa_distance(word, &candidate.to_ascii_lowercase());
    (slips <= far && slips < candidate.len()).then_some(slips)
}

/// So many slips are put right in a word of this length: none in two letters.
fn reach(word: &str) -> usize {
    (word.len() / 3).min(MOST_SLIPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_known_of_two_is_meant() {
        let registry = Registry::read();
        let meant = |word: &str| registry.near(word).meant;
        for (slip, name) in
            [("telent", "telnet"), ("shh", "ssh"), ("htpt", "http"), ("kuberentes", "kubernetes")]
        {
            assert_eq!(meant(slip).as_deref(), Some(name), "{slip}");
        }
        assert_eq!(meant("zx"), None);
        assert_eq!(meant("completely-different"), None);
    }

    #[test]
    fn a_few_names_are_proposed_and_each_once() {
        let registry = Registry::read();
        for word in ["imap5s", "http2s", "zabbbbixxx-agnet", "sqlserverr"] {
            let names = registry.near(word).names;
            assert!(!names.is_empty() && names.len() <= PROPOSED, "{word}: {names:?}");
            let mut distinct = names.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), names.len(), "{word}: {names:?}");
        }
        assert!(registry.near(&"x".repeat(LONGEST_NAME + 1)).names.is_empty());
    }

    #[test]
    fn slips_are_counted_as_fingers_make_them() {
        assert_eq!(slips("telent", "telnet", 3), Some(1));
        assert_eq!(slips("redis", "Redis", 3), Some(0));
        assert_eq!(slips("abc", "abcdefgh", 3), None);
        assert_eq!(slips("abc", "", 3), None);
    }
}
