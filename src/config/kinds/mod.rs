//! The kinds of value that a key can have, each with what is allowed in words.

mod amounts;
mod addresses;
mod names;
mod redirect;
mod tls;
mod hsts;
mod acme;
mod dns;

pub(super) use acme::{ChallengeWord, HmacKey, KeyId, Profile, Staging};
pub(super) use addresses::Metrics;
pub(super) use amounts::{BodySize, Count, Workers};
pub(super) use dns::{NameServer, TsigName, TsigSecret, Word, Zone};
pub(super) use hsts::{Hsts, HstsWord, MaxAge};
pub(super) use names::{Directory, Email, FilePath, Level, Parameter, User};
pub(super) use tls::{AskUrl, Authentication, OldestTls, Protocol, Tls};

/// What is wrong and, where that is clear, what to do.
type Wrong = (String, Option<String>);

fn wrong<T>(message: impl Into<String>) -> Result<T, Wrong> {
    Err((message.into(), None))
}

fn wrong_but<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Wrong> {
    Err((message.into(), Some(help.into())))
}

/// A port in digits only: no sign, no blank.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
