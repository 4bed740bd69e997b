//! What became of every request.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

/// The counts. Everything that clients do is of a kind, which is named by a few words.
pub struct Ledger {
    began: Instant,
    counts: Mutex<Counts>,
}

/// A copy of the counts.
#[derive(Clone, Default)]
pub struct Counts {
    /// Right answers to right requests.
    pub right: BTreeMap<&'static str, u64>,
    /// Failures that a fault which was put there on purpose explains, by kind and cause.
    pub explained: BTreeMap<(&'static str, String), u64>,
    /// Failures that nothing explains, by kind and cause.
    pub unexplained: BTreeMap<(&'static str, String), u64>,
    /// Things that clients did that no right client does.
    pub rough: BTreeMap<&'static str, u64>,
    /// Things that the operator did.
    pub operated: BTreeMap<&'static str, u64>,
    /// Right answers whose line in the access log can be told by its path.
    pub logged: u64,
}

/// More than so many unexplained failures of one cause are counted, and no longer told one by one.
const TOLD: u64 = 5;

impl Ledger {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }

    /// A right answer.
    pub fn right(&self, kind: &'static str) {
        *self.counts.lock().unwrap().right.entry(kind).or_default() += 1;
    }

    /// Requests with the mark of the access log were answered.
    pub fn logged(&self, count: u64) {
        self.counts.lock().unwrap().logged += count;
    }

    /// What was to be expected of a fault has come.
    pub fn explained(&self, kind: &'static str, cause: impl Into<String>) {
        *self.counts.lock().unwrap().explained.entry((kind, cause.into())).or_default() += 1;
    }

    /// What should never come has come; `detail` is told the first times.
    pub fn unexplained(&self, kind: &'static str, cause: impl Into<String>, detail: &str) {
        let mut counts = self.counts.lock().unwrap();
        let cause = cause.into();
        let count = counts.unexplained.entry((kind, cause.clone())).or_default();
        *count += 1;
        if *count <= TOLD {
            let at = self.began.elapsed().as_secs_f64();
            println!("soak: {at:.1} s: unexplained: {kind}: {cause}: {detail}");
        }
    }

    /// Something rough was done.
    pub fn rough(&self, kind: &'static str) {
        *self.counts.lock().unwrap().rough.entry(kind).or_default() += 1;
    }

    /// The operator has done something.
    pub fn operated(&self, what: &'static str) {
        *self.counts.lock().unwrap().operated.entry(what).or_default() += 1;
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }
}

impl Counts {
    /// The sum of one table.
    pub fn sum<K>(of: &BTreeMap<K, u64>) -> u64 {
        of.values().sum()
    }
}
