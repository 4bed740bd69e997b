//! A point in time as text: `2026-01-31T12:00:00Z` (RFC 3339).

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de, ser};

/// To whole seconds.
pub(super) fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    text(*at).map_err(ser::Error::custom)?.serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
    moment(&String::deserialize(from)?).map_err(de::Error::custom)
}

fn text(at: SystemTime) -> Result<String, jiff::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
    Ok(Timestamp::try_from(at)?.to_string())
}

fn moment(text: &str) -> Result<SystemTime, jiff::Error> {
    Ok(text.parse::<Timestamp>()?.into())
}

/// The same for a moment that may be unknown: `null`.
pub(super) mod maybe {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        at: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(text).transpose().map_err(ser::Error::custom)?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| moment(&text)).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_way_through_text() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_250);
        assert_eq!(text(at).unwrap(), "2026-01-01T00:00:00Z");
        assert_eq!(
            moment("2026-01-01T00:00:00Z").unwrap(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
        );
        assert!(moment("yesterday").is_err());
    }
}
