//! Where the mistakes of one file are gathered.

use std::collections::BTreeSet;

use super::problems::{Place, Problem, Problems, Severity};
use super::source::{Source, Span};

/// More problems than this are counted and not kept: nobody reads them.
const KEPT: usize = 1000;

/// The mistakes found so far.
#[derive(Debug)]
pub(super) struct Report<'s> {
    pub source: &'s Source,
    list: Vec<Problem>,
    unlisted: usize,
    /// Lines whose syntax is broken: what else is said of them would be noise.
    broken: BTreeSet<usize>,
}

impl<'s> Report<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self { source, list: Vec::new(), unlisted: 0, broken: BTreeSet::new() }
    }

    /// Notes a problem at `span`.
    pub(super) fn add(&mut self, span: &Span, problem: Problem) {
        if self.is_full() {
            self.unlisted += 1;
            return;
        }
        let (line, column) = self.source.position(span.start);
        let place = Some(Place { line, column, span: span.clone() });
        self.list.push(Problem { place, ..problem });
    }

    /// Notes that the syntax of a line is broken, one problem a line.
    pub(super) fn add_syntax(&mut self, span: &Span, problem: Problem) {
        if self.broken.insert(self.source.line_of(span.start)) {
            self.add(span, problem);
        }
    }

    /// Counts problems that are not kept.
    pub(super) fn count(&mut self, more: usize) {
        self.unlisted += more;
    }

    /// Whether further problems would only be counted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= KEPT
    }

    /// Forgets that files may not be read.
    pub(super) fn forget_hidden(&mut self) {
        self.list.retain(|problem| !problem.hidden);
    }

    /// The errors and the warnings. Where the syntax was broken, what was said of those lines
    /// and what seems to be missing is left out.
    pub(super) fn finish(self) -> (Problems, Problems) {
        let Self { source, list, unlisted, broken } = self;
        let mut seen = BTreeSet::new();
        let (errors, warnings): (Vec<_>, Vec<_>) = list
            .into_iter()
            .filter(|problem| {
                let line = problem.place.as_ref().map_or(0, |place| place.line);
                let first = seen.insert(line);
                broken.is_empty() || !problem.absence && (first || !broken.contains(&line))
            })
            .partition(|problem| problem.severity == Severity::Error);
        (
            Problems::new(source.clone(), errors, unlisted),
            Problems::new(source.clone(), warnings, 0),
        )
    }
}
