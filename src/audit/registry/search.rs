//! From a question to entries of the registry.

use std::collections::BTreeMap;

use serde::Serialize;

use super::knowledge::{Category, Knowledge};
use super::protocol::{Protocol, Protocols};
use super::query::{Item, Query, What};
use super::{Entry, Registry};

/// What other people call a kind.
const KINDS: &[(&str, Category)] = &[
    ("http", Category::Web),
    ("website", Category::Web),
    ("email", Category::Mail),
    ("login", Category::RemoteAccess),
    ("remote", Category::RemoteAccess),
    ("file", Category::Files),
    ("storage", Category::Files),
    ("name-service", Category::Names),
    ("directories", Category::Directory),
    ("auth", Category::Identity),
    ("authentication", Category::Identity),
    ("db", Category::Database),
    ("databases", Category::Database),
    ("cache", Category::Database),
    ("sql", Category::Database),
    ("queue", Category::Messaging),
    ("container", Category::Containers),
    ("metrics", Category::Monitoring),
    ("logs", Category::Logging),
    ("log", Category::Logging),
    ("admin", Category::Administration),
    ("routing", Category::Network),
    ("clock", Category::Time),
    ("tunnel", Category::Vpn),
    ("proxies", Category::Proxy),
    ("voip", Category::Voice),
    ("telephony", Category::Voice),
    ("usenet", Category::News),
    ("print", Category::Printing),
    ("games", Category::Game),
];

/// What a question found.
#[derive(Debug)]
pub struct Found<'r> {
    /// In the order of the ports, each once.
    pub entries: Vec<Entry<'r>>,
    /// Words that were taken for others.
    pub taken: Vec<Taken>,
    /// Words that nothing was found for.
    pub missed: Vec<Missed>,
    /// So many more ports mention the words, and are not among the entries.
    pub mentions: usize,
}

/// A slip that was put right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// What was asked.
    pub asked: String,
    /// What was answered.
    pub answered: String,
}

/// Words without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// What was asked, with its protocol.
    pub asked: String,
    /// Names that look alike, the nearest first.
    pub near: Vec<String>,
}

/// Ports, with the protocols on which they answer the question.
type Hits = BTreeMap<u16, Protocols>;

/// What has been found so far.
#[derive(Default)]
struct Search {
    all: bool,
    hits: Hits,
    mentioned: Hits,
    taken: Vec<Taken>,
    missed: Vec<Missed>,
}

impl Registry {
    /// Answers a question. A word is looked for among the names of services and the kinds; where it
    /// is none of these, in descriptions and names of programs; where it is not there either, among
    /// names that differ by a slip. Several words are one name, or names each, or stand in one
    /// description, or else are looked for one by one. With `all`, descriptions are always looked
    /// at.
    #[must_use]
    pub fn find(&self, query: &Query, all: bool) -> Found<'_> {
        let mut search = Search { all, ..Search::default() };
        for item in &query.items {
            match &item.what {
                What::Ports(ports) => {
                    let protocols = item.protocol.map_or(Protocols::ALL, Protocols::from);
                    ports.clone().for_each(|port| add(&mut search.hits, port, protocols));
                }
                What::Words(words) => self.find_words(words, item.protocol, &mut search),
            }
        }
        let Search { hits, mentioned, taken, missed, .. } = search;
        let mentions = mentioned.keys().filter(|port| !hits.contains_key(port)).count();
        let entries =
            hits.into_iter().map(|(port, protocols)| self.narrowed(port, protocols)).collect();
        Found { entries, taken, missed, mentions }
    }

    fn find_words(&self, words: &str, protocol: Option<Protocol>, search: &mut Search) {
        let named = narrow(self.named(words), protocol);
        let are_names = || words.split(' ').all(|word| !self.named(word).is_empty());
        if named.is_empty() && words.contains(' ') && are_names() {
            return words.split(' ').for_each(|word| self.find_words(word, protocol, search));
        }
        let mentions = narrow(self.mentioning(words), protocol);
        merge(&mut search.mentioned, &mentions);
        if !named.is_empty() || !mentions.is_empty() {
            merge(&mut search.hits, &named);
            if search.all || named.is_empty() {
                merge(&mut search.hits, &mentions);
            }
            return;
        }
        let near = self.near(words);
        let meant = near.meant.map(|name| (narrow(self.named(&name), protocol), name));
        match meant {
            Some((named, answered)) if !named.is_empty() => {
                merge(&mut search.hits, &named);
                search.taken.push(Taken { asked: words.to_owned(), answered });
            }
            _ if words.contains(' ') => {
                words.split(' ').for_each(|word| self.find_words(word, protocol, search));
            }
            _ => {
                let what = What::Words(words.to_owned());
                let asked = Item { what, protocol }.to_string();
                search.missed.push(Missed { asked, near: near.names });
            }
        }
    }

    /// The services of this name, and those of this kind.
    fn named(&self, name: &str) -> Hits {
        let mut hits = Hits::new();
        for one in &self.assignments {
            if same_word(one.service, name) {
                add(&mut hits, *one.ports.start(), one.protocols);
            }
        }
        let category = category(name);
        for known in &self.knowledge {
            let is_meant = known.names().any(|own| same_word(own, name));
            if is_meant || category == Some(known.category) {
                add(&mut hits, known.port, known.protocols);
            }
        }
        hits
    }

    /// The services that mention all of these words.
    fn mentioning(&self, words: &str) -> Hits {
        let mut hits = Hits::new();
        let words: Vec<&str> = words.split(' ').collect();
        for one in &self.assignments {
            let is_meant =
                |word: &&str| contains(one.service, word) || contains(one.description, word);
            if words.iter().all(is_meant) {
                add(&mut hits, *one.ports.start(), one.protocols);
            }
        }
        for known in &self.knowledge {
            if words.iter().all(|word| mentions(known, word)) {
                add(&mut hits, known.port, known.protocols);
            }
        }
        hits
    }
}

fn category(word: &str) -> Option<Category> {
    let named = Category::ALL.iter().copied().find(|category| same_word(category.word(), word));
    let called = || KINDS.iter().find(|(name, _)| same_word(name, word)).map(|(_, kind)| *kind);
    named.or_else(called)
}

/// The same but for case, and for what stands between its parts.
fn same_word(name: &str, word: &str) -> bool {
    fn letters(text: &str) -> impl Iterator<Item = u8> {
        let joins = |byte: &u8| !matches!(byte, b'-' | b'_' | b' ');
        text.bytes().filter(joins).map(|byte| byte.to_ascii_lowercase())
    }
    letters(name).next().is_some() && letters(name).eq(letters(word))
}

fn mentions(known: &Knowledge, word: &str) -> bool {
    let held = known.holders.iter().any(|holder| {
        contains(&holder.program, word)
            || holder.package.as_ref().is_some_and(|package| contains(package, word))
    });
    held || contains(&known.title, word) || known.names().any(|name| contains(name, word))
}

/// Whether `word`, which is in lower case, is part of `text`.
fn contains(text: &str, word: &str) -> bool {
    let Some(first) = word.bytes().next() else { return true };
    let text = text.as_bytes();
    let begins = memchr::memchr2_iter(first, first.to_ascii_uppercase(), text);
    begins.into_iter().any(|at| {
        let part = text.get(at..at + word.len());
        part.is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    })
}

fn add(hits: &mut Hits, port: u16, protocols: Protocols) {
    let known = hits.entry(port).or_default();
    *known = known.with(protocols);
}

fn merge(hits: &mut Hits, more: &Hits) {
    more.iter().for_each(|(port, protocols)| add(hits, *port, *protocols));
}

/// Only what is on this protocol, if one is named.
fn narrow(hits: Hits, protocol: Option<Protocol>) -> Hits {
    let Some(protocol) = protocol else { return hits };
    let on_it = hits.into_iter().filter(|(_, protocols)| protocols.has(protocol));
    on_it.map(|(port, _)| (port, protocol.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<u16> {
        let registry = Registry::read();
        let found = registry.find(&Query::parse(text).unwrap(), false);
        found.entries.iter().map(|entry| entry.port).collect()
    }

    fn found<R>(text: &str, look: impl Fn(&Found<'_>) -> R) -> R {
        let registry = Registry::read();
        look(&registry.find(&Query::parse(text).unwrap(), false))
    }

    #[test]
    fn numbers_are_answered_in_order_and_once() {
        assert_eq!(ports("80,20-25,22"), [20, 21, 22, 23, 24, 25, 80]);
        assert_eq!(ports("0-65535").len(), 65536);
    }

    #[test]
    fn a_service_is_found_by_each_of_its_names() {
        for (name, port) in [
            ("https", 443),
            ("SSH", 22),
            ("www", 80),
            ("whois", 43),
            ("dns", 53),
            ("postgres", 5432),
            ("rdp", 3389),
            ("smtps", 465),
            ("node_exporter", 9100),
            ("active directory", 389),
            ("914c/g", 211),
        ] {
            assert_eq!(ports(name), [port], "{name}");
        }
    }

    #[test]
    fn a_kind_finds_its_services() {
        assert_eq!(ports("mail"), [25, 109, 110, 143, 465, 587, 993, 995, 4190]);
        assert!(ports("directory").contains(&389) && ports("directory").contains(&636));
        assert!(ports("db").contains(&5432) && ports("database").contains(&27017));
        assert!(ports("remote-access").starts_with(&[22, 23]));
        assert_eq!(ports("remote access"), ports("remote-access"));
        assert_eq!(ports("time"), [13, 37, 123, 4460]);
        let registry = Registry::read();
        for category in Category::ALL {
            let of_it = registry.knowledge().iter().any(|known| known.category == *category);
            assert!(of_it && !ports(category.word()).is_empty(), "{category}");
        }
    }

    #[test]
    fn a_word_is_found_in_descriptions_and_programs() {
        assert!(ports("amanda").contains(&10080));
        assert!(ports("openssh-server").starts_with(&[22, 2222]));
        assert!(ports("nginx").starts_with(&[80, 443]));
        assert!(ports("printing protocol").contains(&631));
        assert!(found("ssh", |found| found.mentions > 3));
        let all = Registry::read();
        let all = all.find(&Query::parse("ssh").unwrap(), true);
        assert!(all.entries.len() > 4 && all.mentions == 0);
    }

    #[test]
    fn several_words_are_a_name_or_a_description_or_looked_for_one_by_one() {
        assert_eq!(ports("remote desktop"), [3389]);
        assert_eq!(ports("ssh telnet"), [22, 23]);
        let (taken, missed) = found("ssh qqqzzzxxx", |all| (all.taken.len(), all.missed.len()));
        assert_eq!((taken, missed), (0, 1));
    }

    #[test]
    fn a_slip_is_put_right_and_told() {
        for (slip, name) in [
            ("telent", "telnet"),
            ("htpps", "https"),
            ("postgresqll", "postgresql"),
            ("redsi", "redis"),
        ] {
            let taken = found(slip, |found| found.taken.clone());
            assert_eq!(taken, [Taken { asked: slip.to_owned(), answered: name.to_owned() }]);
            assert_eq!(ports(slip), ports(name));
        }
        assert_eq!(found("telnet", |found| found.taken.clone()), []);
    }

    #[test]
    fn what_is_not_there_is_missed_with_what_is_near() {
        let missed = found("qqqzzzxxx,22", |found| found.missed.clone());
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].asked, "qqqzzzxxx");
        assert_eq!(ports("qqqzzzxxx,22"), [22]);
        let near = found("telxxnet", |found| (found.taken.clone(), found.missed.clone()));
        assert!(near.0.iter().any(|taken| taken.answered == "telnet"), "{near:?}");
        let long = "x".repeat(500);
        assert!(found(&long, |found| found.missed[0].near.is_empty()));
    }

    #[test]
    fn a_protocol_narrows_what_is_found() {
        let lines = found("514/udp", |found| {
            found.entries.iter().flat_map(|entry| entry.knowledge.clone()).count()
        });
        assert_eq!(lines, 1);
        assert_eq!(ports("https/udp"), [443]);
        assert!(ports("ssh/dccp").is_empty());
        assert!(found("syslog", |found| found.entries[0].service() == Some("syslog")));
    }

    /// A dash alone was the name of every line that has none.
    #[test]
    fn what_has_no_letters_names_nothing() {
        for text in ["-", "_", "- -"] {
            assert!(Registry::read().named(text).is_empty() && category(text).is_none(), "{text}");
        }
    }

    #[test]
    fn text_contains_a_word_in_either_case() {
        assert!(contains("The Secure Shell (SSH) Protocol", "ssh"));
        assert!(contains("abab", "bab") && !contains("ab", "abc"));
        assert!(contains("FORTÉ Vision", "vision") && contains("FORTÉ", "\u{c9}"));
    }
}
