//! Sizes as text: `32KiB`.

use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units that are powers of 1024 first: a size is shown in the first that divides it.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// What is allowed, in words.
    pub const ALLOWED: &str = "a size: a number of bytes, or a whole number with B, \
        KiB, MiB, GiB (1024) or KB, MB, GB (1000)";

    /// Reads `32KiB`, `10MB` or a plain number of bytes; the case of the unit is free.
    ///
    /// # Errors
    ///
    /// What is wrong with it and, where that is clear, how it would be written.
    pub fn parse(text: &str) -> Result<Self, (String, Option<String>)> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err((format!("`{text}` is not a size"), None));
        }
        let known = |(name, _): &&(&str, u64)| {
            unit.is_empty() && *name == "B" || unit.eq_ignore_ascii_case(name)
        };
        let Some((_, factor)) = UNITS.iter().find(known) else {
            let blank = unit.starts_with(char::is_whitespace) && meant(number, unit).is_some();
            let why = match unit.trim() {
                _ if blank => "nothing stands between number and unit".to_owned(),
                unit => format!("the unit `{unit}` is not known"),
            };
            return Err((format!("`{text}` is not a size: {why}"), meant(number, unit)));
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
        bytes.map(Self).ok_or_else(|| (format!("`{text}` is more than can be counted"), None))
    }
}

/// How a size in the habit of other programs (`10k`, `10 MiB`) is written here.
fn meant(number: &str, unit: &str) -> Option<String> {
    let unit = unit.trim_start();
    let letter = unit.chars().next()?.to_ascii_uppercase();
    let (name, _) = UNITS.iter().find(|(name, _)| name.starts_with(letter))?;
    let rest = unit.get(1..)?.to_ascii_lowercase();
    let same = |(name, _): &&(&str, u64)| unit.eq_ignore_ascii_case(name);
    let name = UNITS.iter().find(same).map_or(*name, |(name, _)| *name);
    matches!(&*rest, "" | "i" | "ib" | "b" | "bytes" | "yte" | "ytes")
        .then(|| format!("write `{number}{name}`"))
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (name, factor) = UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        let sizes = [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("32KiB", 32 << 10),
            ("100MiB", 100 << 20),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
            ("10KB", 10_000),
            ("10MB", 10_000_000),
            ("3GB", 3_000_000_000),
            ("1kib", 1024),
        ];
        for (text, bytes) in sizes {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in [
            "",
            "KiB",
            "-1",
            "1.5MiB",
            "1 MiB",
            "10k",
            "ten",
            "1KiBs",
            "99999999999999999999",
            "99999999TiB",
        ] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn says_how_the_habit_of_other_programs_is_written() {
        let help = |text| Size::parse(text).unwrap_err().1;
        assert_eq!(help("10k").as_deref(), Some("write `10KiB`"));
        assert_eq!(help("10m").as_deref(), Some("write `10MiB`"));
        assert_eq!(help("10 MB").as_deref(), Some("write `10MB`"));
        assert_eq!(help("10 parsec"), None);
    }

    #[test]
    fn shows_the_shortest_form() {
        for text in ["32KiB", "100MiB", "10MB", "17B", "0B", "1GiB", "1025B"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn a_size_is_read_as_it_is_shown(bytes in prop_oneof![any::<u64>(), 0..5000_u64], shift in 0..40_u32) {
            for bytes in [bytes, bytes.wrapping_shl(shift)] {
                let text = Size(bytes).to_string();
                prop_assert_eq!(Size::parse(&text), Ok(Size(bytes)), "{}", text);
                prop_assert_eq!(Size::parse(&bytes.to_string()), Ok(Size(bytes)));
            }
        }

        #[test]
        fn what_is_read_is_the_number_times_the_unit(number: u64, unit in 0..9_usize) {
            let (name, factor) = UNITS[unit];
            let exact = u128::from(number) * u128::from(factor);
            let told = Size::parse(&format!("{number}{name}")).ok().map(|size| u128::from(size.0));
            prop_assert_eq!(told, Some(exact).filter(|bytes| *bytes <= u128::from(u64::MAX)));
        }

        /// The remedy that is offered is one.
        #[test]
        fn what_is_said_to_be_meant_is_a_size(text in "[0-9]{0,5} {0,2}[a-zA-Zé]{0,6}|\\PC{0,8}") {
            if let Err((_, Some(help))) = Size::parse(&text) {
                let remedy = help.split('`').nth(1).unwrap();
                prop_assert!(Size::parse(remedy).is_ok(), "{}: {}", text, help);
            }
        }
    }
}
