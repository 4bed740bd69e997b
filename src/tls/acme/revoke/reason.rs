//! Why a certificate is revoked.

use std::fmt;

use instant_acme::RevocationReason;
use serde::{Deserialize, Serialize};

/// Why a certificate is revoked (RFC 5280 §5.3.1): what authorities let an applicant say. The other
/// reasons are theirs to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// None is given.
    #[default]
    Unspecified,
    /// Somebody else knows the key, or may know it.
    KeyCompromise,
    /// The names or the organisation are others now.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// The names are served no more.
    CessationOfOperation,
}

impl Reason {
    /// All of them, by the names of RFC 5280.
    pub const ALL: [(&str, Self); 5] = [
        ("unspecified", Self::Unspecified),
        ("keyCompromise", Self::KeyCompromise),
        ("affiliationChanged", Self::AffiliationChanged),
        ("superseded", Self::Superseded),
        ("cessationOfOperation", Self::CessationOfOperation),
    ];

    /// The reason of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason)
    }

    /// As it is sent: that none is given is said by giving none (RFC 5280 §5.3.1).
    pub(super) fn code(self) -> Option<RevocationReason> {
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Self::AffiliationChanged => Some(RevocationReason::AffiliationChanged),
            Self::Superseded => Some(RevocationReason::Superseded),
            Self::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
        }
    }

    /// The same as a number (RFC 5280 §5.3.1).
    pub(super) fn number(self) -> Option<u8> {
        Some(match self {
            Self::Unspecified => return None,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, reason)| reason == self);
        f.write_str(named.map_or("unspecified", |(name, _)| name))
    }
}
