//! What is known of each certificate: where it comes from and how long it lives.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::tls::acme::schedule;
use crate::tls::facts::{days_between, renew_at};

/// Files that end sooner than this, in days, should have been renewed.
const DAYS: i64 = 14;

/// One certificate, as `certs list`, `status` and the metrics tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateInfo {
    /// The site's name in logs and metrics.
    pub site: String,
    /// The names that the certificate is for.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// Not valid before this moment.
    pub not_before: SystemTime,
    /// Not valid after this moment.
    pub not_after: SystemTime,
    /// Where it comes from.
    pub source: Source,
}

impl CertificateInfo {
    /// Whole days until the certificate expires; negative once it has.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> i64 {
        days_between(now, self.not_after)
    }

    /// Whether it should have been renewed long ago, at `now`: a person is to look. When others
    /// renew their files is theirs to know: fourteen days are the measure then.
    #[must_use]
    pub fn is_late(&self, now: SystemTime) -> bool {
        match self.source {
            Source::File(_) => self.days_left(now) < DAYS,
            _ => now >= schedule::loud_at(self.not_before, self.not_after),
        }
    }

    /// When the local authority renews its own.
    pub(super) fn renew_at(&self) -> SystemTime {
        renew_at(self.not_before, self.not_after)
    }
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// This PEM file.
    File(PathBuf),
    /// The authority of this host.
    LocalAuthority,
    /// An authority that was asked by ACME.
    Acme,
    /// An authority that was asked by ACME when a client asked for the name.
    OnDemand,
    /// The authority of this host, until one has issued a certificate by ACME.
    StandIn,
    /// The authority of this host, which cannot keep it: another is made every hour.
    Unkept,
    /// Itself, because the authority of this host cannot be had: another is made every hour, and
    /// nobody can trust any of them.
    Makeshift,
}

impl Source {
    /// Whether there is to be one of an authority in its place, or of this host's own.
    #[must_use]
    pub fn is_stopgap(&self) -> bool {
        matches!(self, Source::StandIn | Source::Makeshift)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::LocalAuthority => f.write_str("local authority"),
            Source::Acme => f.write_str("acme"),
            Source::OnDemand => f.write_str("acme, on demand"),
            Source::StandIn => f.write_str("local authority, until there is one by acme"),
            Source::Unkept => f.write_str("local authority, kept nowhere"),
            Source::Makeshift => f.write_str("makeshift"),
        }
    }
}
