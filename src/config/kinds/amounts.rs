//! Sizes, durations and numbers, and the words that stand in their place.

use super::{Wrong, wrong, wrong_but};
use crate::config::duration::Period;
use crate::config::read::{Node, Reader, Text, Value, integer};
use crate::config::size::Size;

impl Text for Size {
    const ALLOWED: &'static str = Size::ALLOWED;

    fn parse(text: &str) -> Result<Self, Wrong> {
        Size::parse(text)
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        u64::try_from(number).map(Size).map_err(|_| None)
    }
}

impl Text for Period {
    const ALLOWED: &'static str = Period::ALLOWED;

    fn parse(text: &str) -> Result<Self, Wrong> {
        Period::parse(text)
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        Err(Some(format!("write it with its unit and in quotes: `\"{number}s\"`")))
    }
}

/// A whole number of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) struct Count(pub u64);

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Value for Count {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        if let Some(count) = integer(node.get_ref()).and_then(|number| u64::try_from(number).ok()) {
            return Some(Self(count));
        }
        let text = node.get_ref().as_str().filter(|text| text.parse::<u64>().is_ok());
        let help = text.map(|text| format!("write `{text}`, without quotes"));
        reader.wrong_type(node, "a whole number, not below 0", help);
        None
    }
}

/// A number of workers, or as many as fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Workers {
    Auto,
    Number(u64),
}

impl Text for Workers {
    const ALLOWED: &'static str = "\"auto\" or a whole number from 1 to 1024";
    const WORDS: &'static [&'static str] = &["auto"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Self::Auto),
            _ if text.parse::<u64>().is_ok() => wrong_but(
                "a number of workers is written without quotes",
                format!("write `{text}`"),
            ),
            _ => wrong(format!("`{text}` is not a number of workers")),
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        match u64::try_from(number) {
            Ok(number @ 1..=1024) => Ok(Self::Number(number)),
            Ok(0) => Err(Some("write `\"auto\"` for one worker per CPU".to_owned())),
            _ => Err(None),
        }
    }
}

/// A size, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum BodySize {
    Off,
    AtMost(Size),
}

impl Text for BodySize {
    const ALLOWED: &'static str = "\"off\" for no limit, or a size from 1: a number of bytes, or a \
        whole number with B, KiB, MiB, GiB (1024) or KB, MB, GB (1000)";
    const WORDS: &'static [&'static str] = &["off"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            _ => match Size::parse(text)? {
                Size(0) => wrong_but("0 is no limit of this kind", "write `\"off\"` for no limit"),
                size => Ok(Self::AtMost(size)),
            },
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        match u64::try_from(number) {
            Ok(0) => {
                Err(Some("0 is no limit of this kind; write `\"off\"` for no limit".to_owned()))
            }
            Ok(number) => Ok(Self::AtMost(Size(number))),
            Err(_) => Err(None),
        }
    }
}
