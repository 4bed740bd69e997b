//! The configuration that a verb is about, however wrong its file: a server may run all the same.

use std::io::{self, Write as _};
use std::path::Path;

use crate::config::{self, Config, Problems};

/// A file, as far as it can be read.
pub(super) struct Meant {
    /// Defaults stand for what is wrong or missing.
    pub(super) config: Config,
    /// What is wrong; mostly nothing.
    pub(super) problems: Problems,
}

impl Meant {
    /// Reads the file as far as that goes.
    pub(super) fn of(file: &Path) -> Self {
        let (config, problems) = config::load_as_far(file);
        Self { config, problems }
    }

    /// Whether there is nothing in the file to go by.
    pub(super) fn says_nothing(&self) -> bool {
        self.config.sites.is_empty()
    }

    /// Says in a line on standard error that the file is wrong, where it is, and who answers.
    pub(super) fn warn(&self, who: &str) {
        let Some(first) = self.problems.list().first() else { return };
        let place = first.place.as_ref();
        let place = place.map(|place| format!(":{}:{}", place.line, place.column));
        let more = match (self.problems.list().len() - 1) + self.problems.unlisted() {
            0 => String::new(),
            more => format!(" (and {more} more: `portcullis check` tells them)"),
        };
        let (file, place) = (self.problems.file(), place.unwrap_or_default());
        let found = first.found.as_ref().map(|found| format!(": {found}")).unwrap_or_default();
        let _ = writeln!(
            io::stderr(),
            "portcullis: warning: {file}{place}: {}{found}{more}; {who}",
            first.message
        );
    }
}

/// Who answers where a server does.
pub(super) const THE_SERVER: &str = "the server that runs answers with what it has";
