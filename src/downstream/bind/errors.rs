//! All that could not be taken at a start, told at once: to mend one fault is to meet the next.

use std::fmt::Write as _;

use super::BindError;
use crate::exit;
use crate::privilege::explain::{self, Given, Serving, Wanted, When};

/// The addresses that could not be taken, at least one.
#[derive(Debug)]
pub struct BindErrors(Vec<BindError>);

impl BindErrors {
    /// `bound` where nothing failed.
    pub(super) fn unless_none<T>(failed: Vec<BindError>, bound: T) -> Result<T, Self> {
        if failed.is_empty() { Ok(bound) } else { Err(Self(failed)) }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &BindError> {
        self.0.iter()
    }

    /// The same of addresses that were given without a file.
    #[must_use]
    pub fn by_options(mut self) -> Self {
        self.0.iter_mut().for_each(|error| error.given = Given::Option);
        self
    }

    /// 77 where a right is missing for one of them, 1 else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let denied = self.iter().any(BindError::is_permission);
        if denied { exit::NOT_PERMITTED } else { exit::FAILED }
    }

    /// What happened and what to do, for the operator; what helps several of them is told once.
    /// `serving` is who serves with the same configuration.
    #[must_use]
    pub fn explain(&self, when: When, serving: Option<&Serving>) -> String {
        let mut text = String::new();
        let mut told: Vec<(String, &BindError)> = Vec::new();
        for error in self.iter() {
            let line = if text.is_empty() { "" } else { "\n" };
            let wanted = Wanted { serving, ..error.wanted() };
            let Some(explanation) = explain::failure(wanted, &error.source, when) else {
                let _ = write!(text, "{line}{error}");
                continue;
            };
            let first = explanation.remedy().to_owned();
            if let Some((_, other)) = told.iter().find(|(remedy, _)| *remedy == first) {
                let (kind, listen) = (other.kind, other.listen);
                let _ = write!(
                    text,
                    "{line}{error}\n{} What helps {kind} {listen} helps here too.",
                    explanation.why
                );
            } else {
                let _ = write!(text, "{line}{error}\n{explanation}");
            }
            told.push((first, error));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::super::ListenerKind;
    use super::*;
    use crate::config::Listen;

    fn error(kind: ListenerKind, address: &str, errno: Errno) -> BindError {
        let listen = Listen::Addr(address.parse().unwrap());
        BindError { kind, listen, given: Given::Alone, source: io::Error::from(errno) }
    }

    #[test]
    fn every_address_that_fails_is_told() {
        let errors = BindErrors(vec![
            error(ListenerKind::Http, "192.0.2.1:80", Errno::ADDRNOTAVAIL),
            error(ListenerKind::Https, "192.0.2.2:443", Errno::ADDRNOTAVAIL),
        ]);
        let text = errors.explain(When::Start, None);
        for words in ["cannot listen on 192.0.2.1:80 for http", "192.0.2.2:443 for https"] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(errors.exit_code(), exit::FAILED);
    }

    #[test]
    fn what_helps_several_is_told_once_and_a_missing_right_decides_the_code() {
        let errors = BindErrors(vec![
            error(ListenerKind::Http, "127.0.0.1:80", Errno::ACCESS),
            error(ListenerKind::Http, "127.0.0.1:80", Errno::ACCESS),
            error(ListenerKind::Http, "127.0.0.1:81", Errno::MFILE),
        ]);
        let text = errors.explain(When::Start, None);
        assert_eq!(text.matches("What helps http 127.0.0.1:80 helps here too.").count(), 1);
        assert!(
            text.ends_with(&error(ListenerKind::Http, "127.0.0.1:81", Errno::MFILE).to_string())
        );
        assert_eq!(errors.exit_code(), exit::NOT_PERMITTED);
    }
}
