//! The configuration that a verb is about, however wrong its file: a server may run all the same.

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::Value;

use super::Stop;
use crate::config::{self, Config, Problems};
use crate::control::client::{self, Question};
use crate::exit;

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

    /// Asks the server for what its answer has under `key`. Where it does not answer, that is said
    /// on standard error with what is wrong with the file, and the files and the storage are left
    /// to tell.
    ///
    /// # Errors
    /// When they cannot either.
    pub(super) fn ask(self, question: &Question, key: &str) -> Result<Answer, Stop> {
        let silence = match client::ask(&self.config.admin.socket, question) {
            Ok(mut answer) => match answer.get_mut(key).map(Value::take) {
                Some(told) => {
                    self.warn(THE_SERVER);
                    return Ok(Answer::Server(told));
                }
                None => Some(("the server that runs does not tell".to_owned(), exit::FAILED)),
            },
            Err(error) if error.is_nobody() => None,
            Err(error) => Some((error.to_string(), error.code())),
        };
        if self.says_nothing() {
            let wrong = || (self.problems.to_string(), exit::CONFIG);
            let (text, code) = silence.unwrap_or_else(wrong);
            return Err(Stop { code, text });
        }
        if let Some((why, _)) = &silence {
            let line = format!("{why}; this is what lies in the files and the storage");
            let _ = writeln!(io::stderr(), "portcullis: {line}");
        }
        self.warn("no server answers, and the rest of the file is gone by");
        let is_wrong = !self.problems.is_empty();
        let shortfall = silence.map(|(_, code)| code).or(is_wrong.then_some(exit::CONFIG));
        Ok(Answer::Storage(Box::new(self.config), shortfall))
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

/// Who answers a question.
pub(super) enum Answer {
    /// The running server, with this.
    Server(Value),
    /// The files and the storage of this configuration; and why that may not be the whole truth, as
    /// an exit code.
    Storage(Box<Config>, Option<u8>),
}

/// Who answers where a server does.
pub(super) const THE_SERVER: &str = "the server that runs answers with what it has";
