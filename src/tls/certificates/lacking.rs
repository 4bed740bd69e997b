//! What could not be had at the start, so that something lesser is shown.

use std::fmt;

use super::{CertificateError, Source};

/// A site whose certificate could not be had, or not be kept.
#[derive(Debug)]
pub(super) struct Lacking {
    /// Why.
    pub(super) error: CertificateError,
    /// What is shown instead.
    pub(super) shown: Source,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, shown } = self;
        match shown {
            Source::Unkept => write!(f, "{error}; {UNKEPT}"),
            _ => write!(f, "{error}; until it is mended {MAKESHIFT}"),
        }
    }
}

/// What is done where the authority of this host cannot be had.
const MAKESHIFT: &str = "a certificate is shown that nobody can trust";

/// What is done where it signs, and what it has signed cannot be kept; and what helps.
pub(in crate::tls) const UNKEPT: &str = "until it can be kept there, the local authority signs another at each start and every hour; \
     move away what lies in its place, or make room";
