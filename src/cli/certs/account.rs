//! Who tells of certificates: the running server, and where none does, the storage.

use std::path::Path;
use std::time::SystemTime;

use super::Failure;
use crate::cli::meant::{Answer, Meant};
use crate::control::client::{AskError, Question};
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
        let question = Question::Certificates { name: name.map(str::to_owned) };
        match Meant::of(file).ask(&question, "overview")? {
            Answer::Server(overview) => {
                let unread = |error: serde_json::Error| Failure {
                    message: format!("the server tells of certificates in other words: {error}"),
                    code: exit::FAILED,
                };
                let overview = serde_json::from_value(overview).map_err(unread)?;
                Ok(Self { overview, is_live: true, shortfall: None })
            }
            Answer::Storage(config, shortfall) => {
                let overview = Overview::stored(&config, now);
                Ok(Self { overview, is_live: false, shortfall })
            }
        }
    }
}

/// Why a question that only a server can answer has no answer.
pub(super) fn unanswered(error: &AskError) -> Failure {
    Failure { message: error.to_string(), code: error.code() }
}
