//! Why there is no response that could be shown.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::tls::facts::date;

/// Why a responder's answer is not shown to clients, or why there is none.
#[derive(Debug)]
pub enum Fault {
    /// The responder's name has no address.
    Name(io::Error),
    /// Nobody could be asked.
    Connect(io::Error),
    /// It does not speak HTTP.
    Http(String),
    /// Another status than 200.
    Status(StatusCode),
    /// It took too long.
    Slow(Duration),
    /// It refused to answer (RFC 6960 §4.2.1).
    Refused(&'static str),
    /// It is no response, or not one for this certificate.
    Unreadable(&'static str),
    /// It is not signed by whom it would have to be.
    Unsigned,
    /// The certificate is revoked.
    Revoked(SystemTime),
    /// The responder does not know the certificate.
    Unknown,
    /// It is from the future.
    Early(SystemTime),
    /// Its time is over.
    Over(SystemTime),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Name(error) => write!(f, "its name has no address: {error}"),
            Fault::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot connect: {error}; the sandbox was closed before this certificate was \
                 there: a restart lets the process connect to its responder"
            ),
            Fault::Connect(error) => write!(f, "cannot connect: {error}"),
            Fault::Http(error) => write!(f, "it does not speak HTTP well: {error}"),
            Fault::Status(status) => write!(f, "it answered {status}"),
            Fault::Slow(limit) => write!(f, "it did not answer within {limit:?}"),
            Fault::Refused(why) => write!(f, "it refused to answer: {why}"),
            Fault::Unreadable(what) => write!(f, "its answer {what}"),
            Fault::Unsigned => f.write_str(
                "its answer is signed neither by the issuer of the certificate nor by a delegate \
                 of that issuer, or in a way that is not known here",
            ),
            Fault::Revoked(since) => write!(
                f,
                "the certificate was REVOKED on {}: clients that ask refuse it; get another",
                date(*since)
            ),
            Fault::Unknown => f.write_str("it does not know the certificate"),
            Fault::Early(from) => write!(
                f,
                "its answer holds from {} on only; is this host's clock right?",
                date(*from)
            ),
            Fault::Over(until) => write!(f, "its answer was good until {} only", date(*until)),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Fault::Name(error) | Fault::Connect(error) => Some(error),
            _ => None,
        }
    }
}
