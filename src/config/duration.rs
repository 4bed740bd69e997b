//! Durations as text: `10s`.

use std::fmt;
use std::time::Duration;

/// A length of time, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// Units in milliseconds, the longest first. A year is 365 days, as `max-age` habit has it.
const UNITS: [(&str, u64); 6] = [
    ("y", 365 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Period {
    /// What is allowed, in words.
    pub const ALLOWED: &str = "a duration: whole numbers with ms, s, m, h, d or y, \
        such as \"500ms\", \"10s\" or \"1h30m\"";

    /// So many milliseconds.
    #[must_use]
    pub const fn ms(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// So many seconds.
    #[must_use]
    pub const fn s(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads `10s`, `500ms`, `1h30m`.
    ///
    /// # Errors
    ///
    /// What is wrong with it and, where that is clear, how it would be written.
    pub fn parse(text: &str) -> Result<Self, (String, Option<String>)> {
        let mut rest = text;
        let mut total = 0_u64;
        while !rest.is_empty() || text.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            if number.is_empty() {
                return Err((format!("`{text}` is not a duration"), None));
            }
            if unit.is_empty() {
                let help = format!("write `{text}s` for seconds or `{text}ms` for milliseconds");
                return Err((format!("`{text}` is a duration without its unit"), Some(help)));
            }
            let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                let help = meant(unit).map(|name| format!("write `{number}{name}`"));
                let message =
                    format!("`{text}` is not a duration: its units are ms, s, m, h, d and y");
                return Err((message, help));
            };
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
            total = part
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| (format!("`{text}` is longer than can be counted"), None))?;
            rest = tail;
        }
        Ok(Self::ms(total))
    }
}

/// The unit that a longer word means.
fn meant(unit: &str) -> Option<&'static str> {
    let unit = unit.trim().to_ascii_lowercase();
    let name = match &*unit {
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        "y" | "year" | "years" => "y",
        _ => return None,
    };
    Some(name)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in UNITS {
            if rest >= factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        let periods = [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1y", 31_536_000_000),
            ("1h30m", 5_400_000),
        ];
        for (text, ms) in periods {
            assert_eq!(Period::parse(text), Ok(Period::ms(ms)), "{text}");
            assert_eq!(Period::ms(ms).to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "",
            "s",
            "10",
            "-1s",
            "1.5s",
            "10S",
            "10 s",
            "10sec",
            "1h30",
            "99999999999999999999s",
            "999999999999y",
            "1é",
        ] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn says_how_it_is_written() {
        let help = |text| Period::parse(text).unwrap_err().1;
        assert_eq!(help("10 seconds").as_deref(), Some("write `10s`"));
        assert_eq!(help("10S").as_deref(), Some("write `10s`"));
        assert!(help("10").unwrap().contains("`10s`"));
        assert_eq!(help("10 parsec"), None);
    }

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_is_shown(ms in prop_oneof![any::<u64>(), 0..100_000_000_u64]) {
            let text = Period::ms(ms).to_string();
            prop_assert_eq!(Period::parse(&text), Ok(Period::ms(ms)), "{}", text);
        }

        #[test]
        fn parts_add_up_and_nothing_overflows(parts in prop::collection::vec((0..6_usize, any::<u64>(), 0..64_u32), 1..4)) {
            let parts: Vec<_> = parts.iter().map(|(unit, number, shift)| (UNITS[*unit], number >> shift)).collect();
            let text: String = parts.iter().map(|((name, _), number)| format!("{number}{name}")).collect();
            let exact: u128 = parts.iter().map(|((_, factor), n)| u128::from(*factor) * u128::from(*n)).sum();
            let told = Period::parse(&text).ok().map(|period| period.0.as_millis());
            prop_assert_eq!(told, Some(exact).filter(|ms| *ms <= u128::from(u64::MAX)), "{}", text);
        }

        #[test]
        fn what_is_said_to_be_meant_is_a_duration(text in "[0-9]{0,5} ?[a-zA-Zé]{0,8}|\\PC{0,8}") {
            if let Err((_, Some(help))) = Period::parse(&text) {
                let remedy = help.split('`').nth(1).unwrap();
                prop_assert!(Period::parse(remedy).is_ok(), "{}: {}", text, help);
            }
        }
    }
}
