//! Mistakes and their places, and how they are told.

use std::fmt;

use serde_json::json;

use super::source::{Source, Span};

/// One mistake, or one thing worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// Where; `None` where it is about the file as a whole.
    pub place: Option<Place>,
    /// What is wrong, one sentence without its full stop.
    pub message: String,
    /// What stands there, where the message does not say so.
    pub found: Option<String>,
    /// What may stand there.
    pub allowed: Option<String>,
    /// What to do about it; the nearest known word where one is close.
    pub help: Option<String>,
    /// Whether it says that something is missing: no news in a text that was not read whole.
    pub(super) absence: bool,
    /// Whether it says that this process may not read a file, which another may have read for it.
    pub(super) hidden: bool,
}

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The bytes that are meant.
    pub span: Span,
}

impl Problem {
    /// An error without any of the optional parts.
    #[must_use]
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: None,
            message: message.into(),
            found: None,
            allowed: None,
            help: None,
            absence: false,
            hidden: false,
        }
    }

    /// A warning without any of the optional parts.
    #[must_use]
    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// An error that says that something is missing.
    #[must_use]
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { absence: true, ..Self::error(message) }
    }

    /// Says what stands there.
    #[must_use]
    pub(super) fn found(self, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..self }
    }

    /// Says what may stand there.
    #[must_use]
    pub(super) fn allowed(self, allowed: impl Into<String>) -> Self {
        Self { allowed: Some(allowed.into()), ..self }
    }

    /// Says what to do.
    #[must_use]
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Says what to do, if there is something to say.
    #[must_use]
    pub(super) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help: help.or(self.help), ..self }
    }
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug)]
pub struct Problems {
    pub(super) source: Source,
    list: Vec<Problem>,
    unlisted: usize,
    not_permitted: bool,
}

impl Problems {
    /// Adds a warning about what the file leads to, and not about a place in it.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.list.push(Problem::warning(message));
    }

    /// Orders `list`; `unlisted` more were found and not kept.
    pub(super) fn new(source: Source, mut list: Vec<Problem>, unlisted: usize) -> Self {
        list.sort_by_key(|problem| problem.place.as_ref().map_or(0, |place| place.span.start));
        Self { source, list, unlisted, not_permitted: false }
    }

    /// One problem with a file of which there is nothing to show.
    pub(super) fn unreadable(name: &str, problem: Problem, not_permitted: bool) -> Self {
        Self { not_permitted, ..Self::new(Source::new(name, ""), vec![problem], 0) }
    }

    /// The problems, in the order of the file's lines.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many were found beyond those of the list.
    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name of the file, as the operator gave it.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Whether nothing but a missing right is wrong, on the file or on those that it names, which
    /// has its own exit code.
    #[must_use]
    pub fn not_permitted(&self) -> bool {
        let are_hidden = !self.list.is_empty() && self.list.iter().all(|problem| problem.hidden);
        self.not_permitted || (are_hidden && self.unlisted == 0)
    }

    /// Every problem as an object of `file`, `line`, `column`, `message`, `found`, `allowed` and
    /// `help`; what there is not is `null`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let object = |problem: &Problem| {
            json!({
                "file": self.file(),
                "line": problem.place.as_ref().map(|place| place.line),
                "column": problem.place.as_ref().map(|place| place.column),
                "message": problem.message,
                "found": problem.found,
                "allowed": problem.allowed,
                "help": problem.help,
            })
        };
        self.list.iter().map(object).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
