//! The chains, rules and sets of nftables, from the kernel.

use std::collections::HashMap;
use std::io;

use rustix::net::netlink::NETFILTER;

use super::expression::{Expression, Verdict, number, text, value, verdict};
use crate::audit::netlink::{attribute, attributes, list};

/// `NFNL_SUBSYS_NFTABLES << 8`, and the questions of `enum nf_tables_msg_types`.
const NFTABLES: u16 = 10 << 8;
const GET_CHAINS: u16 = NFTABLES | 4;
const GET_RULES: u16 = NFTABLES | 7;
const GET_SETS: u16 = NFTABLES | 10;
const GET_ELEMENTS: u16 = NFTABLES | 13;

/// `struct nfgenmsg`, in bytes; its first is the family.
const MESSAGE: usize = 4;

/// Kinds of keys of which a stranger's packet has known ones: `inet_proto`, `inet_service` and
/// `ct_state`, by the numbers that nft gives them.
const KEYS: [u32; 3] = [12, 13, 26];

/// Everything that may decide on a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    /// The chains where packets begin, by hook and then priority.
    pub(super) bases: Vec<Base>,
    /// The rules of all chains.
    pub(super) rules: HashMap<Place, Vec<Rule>>,
    /// Those sets that a packet's known parts may be looked up in.
    pub(super) sets: HashMap<Place, Set>,
}

/// The family (`NFPROTO_`), the table and the name of a chain or a set.
pub(super) type Place = (u8, String, String);

/// A chain that the kernel hands packets to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) place: Place,
    /// `NF_INET_PRE_ROUTING` or `NF_INET_LOCAL_IN`.
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) drops: bool,
}

/// A rule, with the number by which nft names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) handle: u64,
    pub(super) expressions: Vec<Expression>,
}

/// A set or a map to verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// Whether an element begins or ends a range (`NFT_SET_INTERVAL`).
    pub(super) has_ranges: bool,
    pub(super) elements: Vec<Element>,
}

/// One of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// The last key of a range, where the element has it itself.
    pub(super) last: Option<Vec<u8>>,
    /// Whether the key is the first one after a range.
    pub(super) ends: bool,
    pub(super) verdict: Option<Verdict>,
}

impl Ruleset {
    /// # Errors
    /// When this user may not ask (`EPERM`), or the kernel does not know nftables.
    pub(super) fn read() -> io::Result<Self> {
        let mut rules = Ruleset::default();
        // Of every family.
        let all = [0; MESSAGE];
        list(Some(NETFILTER), GET_CHAINS, &all, |row| rules.bases.extend(base(row)))?;
        rules.bases.sort_by_key(|base| (base.hook, base.priority));
        if rules.bases.is_empty() {
            return Ok(rules);
        }
        list(Some(NETFILTER), GET_RULES, &all, |row| {
            let Some((place, rule)) = rule(row) else { return };
            rules.rules.entry(place).or_default().push(rule);
        })?;
        list(Some(NETFILTER), GET_SETS, &all, |row| rules.sets.extend(set(row)))?;
        for ((family, table, name), set) in &mut rules.sets {
            let mut question = vec![*family, 0, 0, 0];
            push_text(&mut question, 1, table);
            push_text(&mut question, 2, name);
            list(Some(NETFILTER), GET_ELEMENTS, &question, |row| {
                set.elements.extend(elements(row));
            })?;
        }
        Ok(rules)
    }
}

/// Ports that no rule tells apart: a rule compares a port with constants, and between two
/// neighbours of these all ports are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alike {
    /// Where something else may begin, in order.
    borders: Vec<u16>,
    /// Whether a rule takes ports apart into bits, and every port is by itself.
    is_fine: bool,
}

impl Alike {
    /// Of these rules.
    pub(super) fn of(rules: &Ruleset) -> Self {
        let mut borders = Vec::new();
        let mut is_fine = false;
        // Every constant counts that could be a port.
        let mut constant = |bytes: &[u8]| {
            if let [high, low] = *bytes {
                borders.push(u16::from_be_bytes([high, low]));
            }
        };
        let expressions = rules.rules.values().flatten().flat_map(|rule| &rule.expressions);
        for expression in expressions {
            match expression {
                Expression::Compare { with, .. } => constant(with),
                Expression::Range { low, high, .. } => {
                    [low, high].into_iter().for_each(|it| constant(it));
                }
                Expression::Bits { mask, .. } => is_fine |= mask.len() == 2,
                Expression::Extension { info, .. } => {
                    let words = info.as_chunks::<2>().0.iter();
                    words.for_each(|word| constant(&u16::from_ne_bytes(*word).to_be_bytes()));
                }
                _ => {}
            }
        }
        for element in rules.sets.values().flat_map(|set| &set.elements) {
            constant(&element.key);
            element.last.iter().for_each(|last| constant(last));
        }
        borders.extend(borders.clone().into_iter().filter_map(|port| port.checked_add(1)));
        borders.sort_unstable();
        borders.dedup();
        Alike { borders, is_fine }
    }

    /// The same number for ports that are alike.
    pub(super) fn number(&self, port: u16) -> usize {
        if self.is_fine {
            return port.into();
        }
        self.borders.partition_point(|border| *border <= port)
    }
}

/// The family and the attributes of a row.
fn row(row: &[u8]) -> Option<(u8, &[u8])> {
    Some((*row.first()?, row.get(MESSAGE..)?))
}

fn base(row: &[u8]) -> Option<Base> {
    let (family, data) = self::row(row)?;
    let hook = attribute(data, 4)?;
    let priority = i32::from_be_bytes(number(hook, 2)?.to_be_bytes());
    Some(Base {
        place: (family, text(data, 1)?, text(data, 3)?),
        hook: number(hook, 1)?,
        priority,
        drops: number(data, 5) == Some(0),
    })
}

fn rule(row: &[u8]) -> Option<(Place, Rule)> {
    let (family, data) = self::row(row)?;
    let handle = u64::from_be_bytes(*attribute(data, 3)?.first_chunk()?);
    let expressions = attributes(attribute(data, 4).unwrap_or_default())
        .map(|(_, one)| {
            let name = text(one, 1).unwrap_or_default();
            Expression::parse(&name, attribute(one, 2).unwrap_or_default())
        })
        .collect();
    Some(((family, text(data, 1)?, text(data, 2)?), Rule { handle, expressions }))
}

fn set(row: &[u8]) -> Option<(Place, Set)> {
    let (family, data) = self::row(row)?;
    if !KEYS.contains(&number(data, 4)?) {
        return None;
    }
    let has_ranges = number(data, 3).unwrap_or_default() & 4 != 0;
    Some(((family, text(data, 1)?, text(data, 2)?), Set { has_ranges, elements: Vec::new() }))
}

fn elements(row: &[u8]) -> Vec<Element> {
    let Some((_, data)) = self::row(row) else { return Vec::new() };
    attributes(attribute(data, 3).unwrap_or_default()).filter_map(|(_, one)| element(one)).collect()
}

fn element(data: &[u8]) -> Option<Element> {
    let verdict = attribute(data, 2).and_then(|value| attribute(value, 2)).and_then(verdict);
    let ends = number(data, 3).unwrap_or_default() & 1 != 0;
    Some(Element { key: value(data, 1)?, last: value(data, 10), ends, verdict })
}

/// Adds an attribute that is a text.
fn push_text(question: &mut Vec<u8>, kind: u16, text: &str) {
    let Ok(length) = u16::try_from(4 + text.len() + 1) else { return };
    question.extend(length.to_ne_bytes());
    question.extend(kind.to_ne_bytes());
    question.extend(text.as_bytes());
    question.push(0);
    question.resize(question.len().next_multiple_of(4), 0);
}
