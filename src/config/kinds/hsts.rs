//! For how long browsers shall insist on HTTPS.

use super::{Wrong, wrong};
use crate::config::duration::Period;
use crate::config::file::HstsTable;
use crate::config::read::{Node, Reader, Text, Value, read_section};

/// A word or a table.
#[derive(Debug)]
pub(in crate::config) enum Hsts {
    Word(HstsWord),
    Table(HstsTable),
}

/// What is said in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum HstsWord {
    Off,
    Ramp,
    For(MaxAge),
}

/// A duration as browsers count it: in whole seconds, and not for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct MaxAge(pub Period);

impl Value for Hsts {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        if node.get_ref().is_table() {
            return read_section(node, reader).map(Self::Table);
        }
        HstsWord::read(node, reader).map(Self::Word)
    }
}

impl Text for HstsWord {
    const ALLOWED: &'static str = "\"off\", \"ramp\", a duration such as \"1y\", or a table such as \
        { max_age = \"1y\", include_subdomains = true }";
    const WORDS: &'static [&'static str] = &["off", "ramp"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "off" => Ok(Self::Off),
            "ramp" => Ok(Self::Ramp),
            _ => MaxAge::parse(text).map(Self::For),
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        MaxAge::from_integer(number).map(Self::For)
    }
}

impl Text for MaxAge {
    const ALLOWED: &'static str = Period::ALLOWED;

    fn parse(text: &str) -> Result<Self, Wrong> {
        match Period::parse(text)? {
            Period(age) if age.as_millis() % 1000 != 0 => {
                wrong("browsers count this duration in whole seconds")
            }
            age if age > Period::s(100 * 365 * 86_400) => {
                wrong(format!("`{text}` is more than a hundred years"))
            }
            age => Ok(Self(age)),
        }
    }

    fn from_integer(number: i64) -> Result<Self, Option<String>> {
        Period::from_integer(number).map(Self)
    }
}
