//! Who tells of certificates: the running server, and where none does, the storage.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use super::{Failure, wrong};
use crate::cli::meant::{Meant, THE_SERVER};
use crate::control::client::{self, AskError, Question};
use crate::exit;
use crate::tls::overview::Overview;

/// What is told, and by whom.
pub(super) struct Account {
    pub(super) overview: Overview,
    /// Whether by the running server.
    pub(super) is_live: bool,
    /// Why the storage tells it although it may not be the whole truth: an exit code.
    pub(super) shortfall: Option<u8>,
}

impl Account {
    /// Asks the server of the configuration `file`, for all of what `name` means, see
    /// [`Question::Certificates`]. Where it does not answer, what lies in the files and the storage
    /// tells; that is said on standard error, and what is wrong with the file.
    ///
    /// # Errors
    /// When neither tells anything.
    pub(super) fn of(file: &Path, name: Option<&str>, now: SystemTime) -> Result<Self, Failure> {
        let meant = Meant::of(file);
        let question = Question::Certificates { name: name.map(str::to_owned) };
        let silence = match client::ask(&meant.config.admin.socket, &question) {
            Ok(mut answer) => match answer.get_mut("overview").map(Value::take) {
                Some(overview) => {
                    meant.warn(THE_SERVER);
                    let unread = |error: serde_json::Error| Failure {
                        message: format!(
                            "the server tells of certificates in other words: {error}"
                        ),
                        code: exit::FAILED,
                    };
                    let overview = serde_json::from_value(overview).map_err(unread)?;
                    return Ok(Self { overview, is_live: true, shortfall: None });
                }
                None => Some(("the server that runs does not tell".to_owned(), exit::FAILED)),
            },
            Err(error) if error.is_nobody() => None,
            Err(error) => Some((error.to_string(), error.code())),
        };
        if meant.says_nothing() {
            return Err(silence.map_or_else(
                || wrong(&meant.problems),
                |(message, code)| Failure { message, code },
            ));
        }
        if let Some((why, _)) = &silence {
            tell(&format!("{why}; this is what lies in the files and the storage"));
        }
        meant.warn("no server answers, and the rest of the file is gone by");
        let overview = Overview::stored(&meant.config, now);
        let is_wrong = !meant.problems.is_empty();
        let shortfall = silence.map(|(_, code)| code).or(is_wrong.then_some(exit::CONFIG));
        Ok(Self { overview, is_live: false, shortfall })
    }
}

/// Why a question that only a server can answer has no answer.
pub(super) fn unanswered(error: &AskError) -> Failure {
    Failure { message: error.to_string(), code: error.code() }
}

fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "portcullis: {line}");
}
