//! Walking the tree of a file: every key is looked at, every mistake is noted, and what is right
//! is kept with its place.

use std::borrow::Cow;
use std::ops::Deref;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::env;
use super::problems::Problem;
use super::report::Report;
use super::source::Span;
use super::words::{self, quoted};

/// A value of the tree with its place.
pub(super) type Node<'t> = Spanned<DeValue<'t>>;

/// A value that was read, with its place.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What became of a key.
#[derive(Clone, Debug, Default)]
pub(super) enum Field<T> {
    /// It is not there.
    #[default]
    Absent,
    /// It is there and wrong, and that was said.
    Wrong,
    /// It is there and right.
    Given(At<T>),
}

impl<T> Field<T> {
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Field::Given(at) => Some(at),
            Field::Absent | Field::Wrong => None,
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }
}

/// Something that a value of the tree can be.
pub(super) trait Value: Sized {
    /// Reads it; what is wrong is noted and gives `None`.
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self>;
}

/// Something written as one text.
pub(super) trait Text: Sized {
    /// What is allowed, in words.
    const ALLOWED: &'static str;
    /// The fixed words among what is allowed, for the nearest one.
    const WORDS: &'static [&'static str] = &[];
    /// Whether it must not be shown in what is said of it.
    const IS_SECRET: bool = false;

    /// Reads it; the error is what is wrong and, where that is clear, what to do.
    fn parse(text: &str) -> Result<Self, (String, Option<String>)>;

    /// Takes a whole number where that is as clear as a text; else says how it is written.
    fn from_integer(_: i64) -> Result<Self, Option<String>> {
        Err(None)
    }
}

/// A table with fixed keys.
pub(super) trait Section: Sized {
    /// How the operator knows it: `[limits]`.
    const NAME: &'static str;
    /// Its keys.
    const KEYS: &'static [&'static str];

    /// Reads every key.
    fn read_keys(table: &DeTable<'_>, reader: &mut Reader<'_, '_>) -> Self;
}

/// The hand that reads: the report of what is wrong, and the environment.
pub(super) struct Reader<'r, 's> {
    pub report: &'r mut Report<'s>,
    pub env: &'r dyn Fn(&str) -> Option<String>,
}

impl Reader<'_, '_> {
    /// Reads one key of a table.
    pub(super) fn field<T: Value>(&mut self, table: &DeTable<'_>, name: &str) -> Field<T> {
        let Some((_, node)) = table.iter().find(|(key, _)| key.get_ref() == name) else {
            return Field::Absent;
        };
        match T::read(node, self) {
            Some(value) => Field::Given(At { value, span: node.span() }),
            None => Field::Wrong,
        }
    }

    /// Notes every key that a section does not know.
    pub(super) fn judge_keys<S: Section>(&mut self, table: &DeTable<'_>) {
        for (key, node) in table {
            let name: &str = key.get_ref();
            if !S::KEYS.contains(&name) {
                let section = node.get_ref().is_table() || is_tables(node.get_ref());
                let help = if self.report.is_full() { None } else { words::nearest_key::<S>(name) };
                let what = if section && S::NAME.is_empty() { "section" } else { "key" };
                let place = if S::NAME.is_empty() { "" } else { " in " };
                let message = format!("unknown {what} `{name}`{place}{}", S::NAME);
                let problem = Problem::error(message).allowed(quoted(S::KEYS)).maybe_help(help);
                self.report.add(&key.span(), problem);
            }
        }
    }

    /// A text with the environment put in; `None` if that was not possible.
    pub(super) fn expand<'t>(&mut self, text: &'t str, span: &Span) -> Option<Cow<'t, str>> {
        match env::expand(text, self.env) {
            Ok(text) => Some(text),
            Err(faults) => {
                let raw = self.report.source.slice(span).to_owned();
                let mut from = 0;
                for fault in faults {
                    let rest = raw.get(from..).unwrap_or_default();
                    let at = rest.find(&fault.reference).map(|at| from + at);
                    let place = at.map_or(span.clone(), |at| {
                        from = at + fault.reference.len();
                        span.start + at..span.start + from
                    });
                    let help = "set it, or write `$${` for a literal `${`";
                    self.report.add(&place, Problem::error(fault.message).help(help));
                }
                None
            }
        }
    }

    /// Notes a value of the wrong type.
    pub(super) fn wrong_type(&mut self, node: &Node<'_>, allowed: &str, help: Option<String>) {
        let found = describe(node.get_ref());
        let problem = Problem::error(format!("{found} cannot stand here"));
        let problem = problem.found(found).allowed(allowed).maybe_help(help);
        self.report.add(&node.span(), problem);
    }
}

impl<T: Text> Value for T {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let DeValue::String(text) = node.get_ref() else {
            let number = integer(node.get_ref());
            let from = number.map_or(Err(None), T::from_integer);
            return match from {
                Ok(value) => Some(value),
                Err(help) => {
                    reader.wrong_type(node, T::ALLOWED, help);
                    None
                }
            };
        };
        let span = node.span();
        let text = reader.expand(text, &span)?;
        match T::parse(&text) {
            Ok(value) => Some(value),
            Err((message, help)) => {
                let nearest = || {
                    words::nearest(&text, T::WORDS).map(|word| format!("did you mean `{word}`?"))
                };
                let mut problem = Problem::error(message).allowed(T::ALLOWED);
                if !T::IS_SECRET {
                    problem = problem.found(format!("\"{text}\""));
                }
                reader.report.add(&span, problem.maybe_help(help.or_else(nearest)));
                None
            }
        }
    }
}

impl Value for bool {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        if let DeValue::Boolean(value) = node.get_ref() {
            return Some(*value);
        }
        let help = node.get_ref().as_str().and_then(|text| match text {
            "true" | "on" | "yes" => Some("write `true`, without quotes".to_owned()),
            "false" | "off" | "no" => Some("write `false`, without quotes".to_owned()),
            _ => None,
        });
        reader.wrong_type(node, "`true` or `false`", help);
        None
    }
}

/// One text or a list of them.
#[derive(Clone, Debug)]
pub(super) struct OneOrMany<T> {
    pub items: Vec<At<T>>,
    /// Whether some of the list were wrong and are left out.
    pub partial: bool,
}

impl<T: Text> Value for OneOrMany<T> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        let DeValue::Array(list) = node.get_ref() else {
            let value = T::read(node, reader)?;
            return Some(Self { items: vec![At { value, span: node.span() }], partial: false });
        };
        let read =
            |node: &Node<'_>| T::read(node, reader).map(|value| At { value, span: node.span() });
        let items: Vec<_> = list.iter().filter_map(read).collect();
        let partial = items.len() < list.len();
        Some(Self { items, partial })
    }
}

/// Reads a section from a table.
pub(super) fn read_section<S: Section>(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<S> {
    if let DeValue::Table(table) = node.get_ref() {
        return Some(S::read_keys(table, reader));
    }
    let help =
        is_tables(node.get_ref()).then(|| format!("write the header once, as `{}`", S::NAME));
    reader.wrong_type(node, &format!("the section `{}`", S::NAME), help);
    None
}

/// Sections that may occur several times: `[[site]]`.
#[derive(Debug)]
pub(super) struct Sections<S>(pub Vec<At<S>>);

impl<S: Section> Value for Sections<S> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(list) => {
                let sections = list.iter().filter_map(|node| {
                    let value = read_section(node, reader)?;
                    Some(At { value, span: node.span() })
                });
                Some(Self(sections.collect()))
            }
            DeValue::Table(table) => {
                let help = format!("write `{}`, with two brackets: there may be several", S::NAME);
                reader.wrong_type(node, &format!("`{}`", S::NAME), Some(help));
                // What is inside is judged all the same; the section counts as wrong.
                S::read_keys(table, reader);
                None
            }
            _ => {
                reader.wrong_type(node, &format!("`{}`", S::NAME), None);
                None
            }
        }
    }
}

fn is_tables(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|list| list.first().is_some_and(|node| node.get_ref().is_table()))
}

/// A whole number, where it fits.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What a value is, for people.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("`{value}`"),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(list) if list.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) if is_tables(value) => "a list of tables".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
