//! The way of a stranger's first packet through the rules.
//!
//! Of the packet some things are known: its family, protocol and destination port, that it begins
//! a connection, and that it is for this host and does not come over loopback. Whatever else a
//! rule asks for may be so or not: what such a rule decides is kept in mind, and the way goes on.

use std::collections::HashMap;

use super::expression::{Comparison, Expression, Loaded, Register, Verdict};
use super::ruleset::{Base, Element, Place, Rule, Ruleset, Set};
use super::{Firewall, Passage, legacy};
use crate::audit::sockets::{Protocol, printable};

/// Of `enum nf_inet_hooks`.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;

/// `NFPROTO_INET`: the table has the packets of both families.
const BOTH: u8 = 1;

/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 8;

/// `RTN_LOCAL`: the packet is for this host.
const LOCAL: u32 = 2;

/// Jumps within each other; the kernel allows as many (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// A stranger's first packet to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Whether a rule is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    No,
    Maybe,
    Yes,
}

impl From<bool> for Truth {
    fn from(is_so: bool) -> Self {
        if is_so { Truth::Yes } else { Truth::No }
    }
}

impl Packet {
    pub(super) fn protocol_number(self) -> u8 {
        match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    fn family_number(self) -> u8 {
        match self.family {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }
}

/// What the rules do with a packet, looking at no more of them than are `left`; `None` when these
/// are too few to tell, or the rules go round.
pub(super) fn judge(rules: &Ruleset, packet: Packet, left: &mut usize) -> Option<Firewall> {
    let mut walk = Walk { rules, packet, left, maybe: HashMap::new() };
    let met = |hook| {
        let family = packet.family_number();
        rules.bases.iter().filter(move |base| {
            base.hook == hook && (base.place.0 == BOTH || base.place.0 == family)
        })
    };
    let said = |passage, rule| Some(Firewall { passage, rule });
    let mut opened = None;
    for base in met(PREROUTING).chain(met(INPUT)) {
        walk.maybe.clear();
        let (end, rule) = walk.base(base)?;
        let forwards = walk.maybe.remove(&End::Forward);
        let accepts = walk.maybe.remove(&End::Accept);
        match (end, forwards, accepts) {
            (End::Forward, ..) => return said(Passage::Forwarded, rule),
            (_, Some(rule), _) => return said(Passage::Forwarded, rule),
            (End::Drop, None, None) => return said(Passage::Closed, rule),
            (End::Drop, None, Some(rule)) => return said(Passage::Partly, rule),
            (End::Accept, None, _) if base.hook == INPUT => opened = Some(rule),
            (End::Accept, None, _) => {}
        }
    }
    said(Passage::Open, opened.unwrap_or_else(|| "no chain of nftables is before it".to_owned()))
}

/// Where a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Accept,
    Drop,
    Forward,
}

/// How a chain is left.
enum Leaving {
    /// For good, by this rule.
    At(End, String),
    /// To where it was jumped from, or at the last rule.
    Back,
}

struct Walk<'a> {
    rules: &'a Ruleset,
    packet: Packet,
    left: &'a mut usize,
    /// The first rule that would end the way so, under a condition.
    maybe: HashMap<End, String>,
}

impl Walk<'_> {
    fn base(&mut self, base: &Base) -> Option<(End, String)> {
        Some(match self.chain(&base.place, DEPTH)? {
            Leaving::At(end, rule) => (end, rule),
            Leaving::Back if base.drops => (End::Drop, name(&base.place, "policy drop")),
            Leaving::Back => (End::Accept, name(&base.place, "policy accept")),
        })
    }

    /// `None` when there are too many rules.
    fn chain(&mut self, place: &Place, depth: usize) -> Option<Leaving> {
        let depth = depth.checked_sub(1)?;
        // Whether the packet is still here for certain: a return under a condition may have been.
        let mut here = Truth::Yes;
        for rule in self.rules.rules.get(place).map_or(&[][..], Vec::as_slice) {
            *self.left = self.left.checked_sub(1)?;
            let (truth, verdict) = self.rule(place, rule);
            let truth = truth.min(here);
            let of_chain = |name: &String| (place.0, place.1.clone(), name.clone());
            let leaving = match &verdict {
                Verdict::Continue => continue,
                Verdict::Return => Leaving::Back,
                Verdict::Accept => self.at(End::Accept, place, rule),
                Verdict::Drop => self.at(End::Drop, place, rule),
                Verdict::Forward => self.at(End::Forward, place, rule),
                Verdict::Ask => {
                    let rule =
                        name(place, &format!("handle {}, which asks a program", rule.handle));
                    self.maybe.entry(End::Accept).or_insert(rule);
                    continue;
                }
                Verdict::Jump(chain) | Verdict::Goto(chain) => {
                    self.chain(&of_chain(chain), depth)?
                }
            };
            match (leaving, truth, verdict) {
                (Leaving::Back, _, Verdict::Jump(_)) => {}
                (leaving, Truth::Yes, _) => return Some(leaving),
                (Leaving::Back, ..) => here = Truth::Maybe,
                (Leaving::At(end, rule), ..) => _ = self.maybe.entry(end).or_insert(rule),
            }
        }
        Some(Leaving::Back)
    }

    fn at(&self, end: End, place: &Place, rule: &Rule) -> Leaving {
        Leaving::At(end, name(place, &format!("handle {}", rule.handle)))
    }

    /// Whether a rule is meant, and what it then does.
    fn rule(&self, place: &Place, rule: &Rule) -> (Truth, Verdict) {
        // The last one written counts; there are a handful.
        let mut registers: Vec<(Register, Known)> = Vec::new();
        let mut truth = Truth::Yes;
        let skipped = (Truth::No, Verdict::Continue);
        for expression in &rule.expressions {
            let of = |wanted: &Register| {
                let found = registers.iter().rfind(|(register, _)| register == wanted);
                found.map_or(&Known::Nothing, |(_, known)| known)
            };
            let step = match expression {
                Expression::Load { to, what } => {
                    registers.push((*to, self.load(what)));
                    continue;
                }
                Expression::Bits { from, to, mask, flip } => {
                    let value = of(from).bits(mask, flip);
                    registers.push((*to, value));
                    continue;
                }
                Expression::Compare { from, how, with } => of(from).compare(*how, with),
                Expression::Range { from, low, high, inverted } => {
                    of(from).within(low, high, *inverted)
                }
                Expression::Lookup { from, set, inverted, is_map } => {
                    let set = self.rules.sets.get(&(place.0, place.1.clone(), set.clone()));
                    match (set, of(from)) {
                        (Some(set), Known::Value(key)) => match (set.find(key), *is_map) {
                            (Some(Element { verdict: Some(verdict), .. }), true) => {
                                return (truth, verdict.clone());
                            }
                            (found, _) => Truth::from(found.is_some() != *inverted),
                        },
                        // The verdicts of a map that cannot be looked into: as if asked.
                        (_, _) if *is_map => return (Truth::Maybe, Verdict::Ask),
                        (_, _) => Truth::Maybe,
                    }
                }
                Expression::Extension { name, info } => legacy::matches(name, info, self.packet),
                Expression::Verdict(verdict) => return (truth, verdict.clone()),
                Expression::Condition => Truth::Maybe,
                Expression::Nothing => Truth::Yes,
            };
            if step == Truth::No {
                return skipped;
            }
            truth = truth.min(step);
        }
        skipped
    }

    fn load(&self, what: &Loaded) -> Known {
        match what {
            Loaded::Protocol => Known::Value(vec![self.packet.protocol_number()]),
            Loaded::Family => Known::Value(vec![self.packet.family_number()]),
            Loaded::Port => Known::Value(self.packet.port.to_be_bytes().to_vec()),
            Loaded::DestinationType => Known::Value(LOCAL.to_ne_bytes().to_vec()),
            Loaded::ConnectionState => Known::Value(NEW.to_ne_bytes().to_vec()),
            Loaded::Value(value) => Known::Value(value.clone()),
            Loaded::Interface => Known::NotLoopback,
            Loaded::Unknown => Known::Nothing,
        }
    }
}

/// What is known of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Value(Vec<u8>),
    /// It is some interface other than loopback.
    NotLoopback,
    Nothing,
}

impl Known {
    fn bits(&self, mask: &[u8], flip: &[u8]) -> Known {
        let Known::Value(value) = self else { return Known::Nothing };
        let bits = value.iter().zip(mask).zip(flip);
        Known::Value(bits.map(|((value, mask), flip)| value & mask ^ flip).collect())
    }

    fn compare(&self, how: Comparison, with: &[u8]) -> Truth {
        // Compared in the order of memory and over the length of the constant, as the kernel does.
        let value = match self {
            Known::Value(value) => value.get(..with.len()),
            Known::NotLoopback if is_loopback(with) => {
                return Truth::from(how == Comparison::Unequal);
            }
            Known::NotLoopback | Known::Nothing => None,
        };
        let Some(value) = value else { return Truth::Maybe };
        Truth::from(match how {
            Comparison::Equal => value == with,
            Comparison::Unequal => value != with,
            Comparison::Less => value < with,
            Comparison::AtMost => value <= with,
            Comparison::Greater => value > with,
            Comparison::AtLeast => value >= with,
        })
    }

    fn within(&self, low: &[u8], high: &[u8], inverted: bool) -> Truth {
        let Known::Value(value) = self else { return Truth::Maybe };
        let is_in = value.as_slice() >= low && value.as_slice() <= high;
        Truth::from(is_in != inverted)
    }
}

/// The first interface of a namespace, or its name.
fn is_loopback(with: &[u8]) -> bool {
    with == 1_u32.to_ne_bytes() || with.starts_with(b"lo\0")
}

impl Set {
    fn find(&self, key: &[u8]) -> Option<&Element> {
        let exact = |element: &&Element| {
            let last = element.last.as_deref().unwrap_or(&element.key);
            !element.ends && element.key.as_slice() <= key && key <= last
        };
        if !self.has_ranges {
            return self.elements.iter().find(exact);
        }
        let before = self.elements.iter().filter(|element| element.key.as_slice() <= key);
        // Where a range ends another may begin.
        let nearest = before.max_by_key(|element| (element.key.as_slice(), !element.ends))?;
        (!nearest.ends).then_some(nearest)
    }
}

/// `inet filter input, handle 7`
fn name((family, table, chain): &Place, what: &str) -> String {
    let family = match *family {
        BOTH => "inet",
        2 => "ip",
        10 => "ip6",
        _ => "nftables",
    };
    format!("{family} {} {}, {what}", printable(table), printable(chain))
}

#[cfg(test)]
mod tests {
    use super::super::ruleset::Alike;
    use super::*;

    fn to(protocol: Protocol, port: u16) -> Packet {
        Packet { family: Family::V4, protocol, port }
    }

    fn place(chain: &str) -> Place {
        (BOTH, "filter".to_owned(), chain.to_owned())
    }

    /// An input chain that drops what these rules leave, and another one that they may jump to.
    fn rules(input: &[&[Expression]], other: &[&[Expression]]) -> Ruleset {
        let numbered = |rules: &[&[Expression]], from: u64| {
            let rules = rules.iter().zip(from..);
            rules.map(|(e, handle)| Rule { handle, expressions: e.to_vec() }).collect()
        };
        let input_base = Base { place: place("input"), hook: INPUT, priority: 0, drops: true };
        Ruleset {
            bases: vec![input_base],
            rules: HashMap::from([
                (place("input"), numbered(input, 1)),
                (place("other"), numbered(other, 101)),
            ]),
            sets: HashMap::new(),
        }
    }

    fn load(what: Loaded) -> Expression {
        Expression::Load { to: 8, what }
    }

    fn equal(with: &[u8]) -> Expression {
        Expression::Compare { from: 8, how: Comparison::Equal, with: with.to_vec() }
    }

    fn port(port: u16) -> [Expression; 2] {
        [load(Loaded::Port), equal(&port.to_be_bytes())]
    }

    const ACCEPT: Expression = Expression::Verdict(Verdict::Accept);
    const RETURN: Expression = Expression::Verdict(Verdict::Return);

    fn said(rules: &Ruleset, port: u16) -> (Passage, String) {
        let found = judge(rules, to(Protocol::Tcp, port), &mut 100).unwrap();
        (found.passage, found.rule)
    }

    #[test]
    fn without_a_chain_every_port_is_open() {
        let (passage, rule) = said(&Ruleset::default(), 80);
        assert_eq!((passage, rule.as_str()), (Passage::Open, "no chain of nftables is before it"));
    }

    #[test]
    fn a_rule_for_the_port_decides_and_the_policy_the_rest() {
        let [load, equal] = port(22);
        let rules = rules(&[&[load, equal, ACCEPT]], &[]);
        assert_eq!(said(&rules, 22), (Passage::Open, "inet filter input, handle 1".to_owned()));
        let policy = "inet filter input, policy drop".to_owned();
        assert_eq!(said(&rules, 80), (Passage::Closed, policy));
    }

    #[test]
    fn what_depends_on_the_source_is_open_to_some() {
        let rules = rules(&[&[load(Loaded::Unknown), equal(&[10, 0, 0, 1]), ACCEPT]], &[]);
        assert_eq!(said(&rules, 22), (Passage::Partly, "inet filter input, handle 1".to_owned()));
    }

    #[test]
    fn loopback_and_known_connections_are_no_strangers() {
        let established = Expression::Bits {
            from: 8,
            to: 8,
            mask: 6_u32.to_ne_bytes().to_vec(),
            flip: vec![0; 4],
        };
        let some = Expression::Compare { from: 8, how: Comparison::Unequal, with: vec![0; 4] };
        let rules = rules(
            &[
                &[load(Loaded::Interface), equal(&1_u32.to_ne_bytes()), ACCEPT],
                &[load(Loaded::Interface), equal(b"lo\0"), ACCEPT],
                &[load(Loaded::ConnectionState), established, some, ACCEPT],
            ],
            &[],
        );
        assert_eq!(said(&rules, 22).0, Passage::Closed);
        let on_one = [load(Loaded::Interface), equal(b"eth0\0"), ACCEPT];
        assert_eq!(said(&self::rules(&[&on_one], &[]), 22).0, Passage::Partly);
    }

    #[test]
    fn a_jump_comes_back_and_a_goto_does_not() {
        let jump = Expression::Verdict(Verdict::Jump("other".to_owned()));
        let goto = Expression::Verdict(Verdict::Goto("other".to_owned()));
        let [load, equal] = port(22);
        let only_22: &[&[Expression]] = &[&[load, equal, ACCEPT], &[RETURN]];
        let rules_with = |way: &Expression| rules(&[std::slice::from_ref(way), &[ACCEPT]], only_22);
        assert_eq!(said(&rules_with(&jump), 22).1, "inet filter other, handle 101");
        assert_eq!(said(&rules_with(&jump), 80).1, "inet filter input, handle 2");
        assert_eq!(said(&rules_with(&goto), 80).0, Passage::Closed);
    }

    #[test]
    fn after_a_return_under_a_condition_nothing_is_certain() {
        let drop = Expression::Verdict(Verdict::Drop);
        let jump = Expression::Verdict(Verdict::Jump("other".to_owned()));
        let other: &[&[Expression]] = &[&[Expression::Condition, RETURN], &[drop]];
        let rules = rules(&[&[jump], &[ACCEPT]], other);
        assert_eq!(said(&rules, 22), (Passage::Open, "inet filter input, handle 2".to_owned()));
    }

    #[test]
    fn a_ruleset_that_goes_round_is_not_understood() {
        let jump = Expression::Verdict(Verdict::Jump("other".to_owned()));
        let round: &[&[Expression]] = &[&[jump]];
        let rules = rules(round, round);
        assert_eq!(judge(&rules, to(Protocol::Udp, 53), &mut 100), None);
    }

    #[test]
    fn a_packet_that_is_sent_elsewhere_does_not_meet_the_input() {
        let mut rules =
            rules(&[], &[&[Expression::Condition, Expression::Verdict(Verdict::Forward)]]);
        let first = Base { place: place("other"), hook: PREROUTING, priority: -100, drops: false };
        rules.bases.insert(0, first);
        assert_eq!(
            said(&rules, 80),
            (Passage::Forwarded, "inet filter other, handle 101".to_owned())
        );
    }

    #[test]
    fn ports_are_alike_where_no_rule_tells_them_apart() {
        let ([load, equal], range) =
            (port(22), [8000_u16, 8010].map(|it| it.to_be_bytes().to_vec()));
        let [low, high] = range;
        let range = Expression::Range { from: 8, low, high, inverted: false };
        let rules = rules(&[&[load.clone(), equal, ACCEPT], &[load, range, ACCEPT]], &[]);
        let alike = Alike::of(&rules);
        for (a, b) in [(0, 21), (23, 7999), (8001, 8009), (8011, 65535)] {
            assert_eq!(alike.number(a), alike.number(b), "{a} {b}");
        }
        for (a, b) in [(21, 22), (22, 23), (7999, 8000), (8010, 8011)] {
            assert_ne!(alike.number(a), alike.number(b), "{a} {b}");
        }
    }

    #[test]
    fn a_set_has_single_keys_or_ranges() {
        let element = |port: u16, ends: bool| Element {
            key: port.to_be_bytes().to_vec(),
            last: None,
            ends,
            verdict: None,
        };
        let single =
            Set { has_ranges: false, elements: vec![element(22, false), element(80, false)] };
        let ranges = Set {
            has_ranges: true,
            elements: vec![
                element(0, true),
                element(22, false),
                element(23, true),
                element(8000, false),
                element(8011, true),
            ],
        };
        let has = |set: &Set, port: u16| set.find(&port.to_be_bytes()).is_some();
        assert!(has(&single, 22) && has(&single, 80) && !has(&single, 23));
        for (port, wanted) in [(21, false), (22, true), (23, false), (8005, true), (8011, false)] {
            assert_eq!(has(&ranges, port), wanted, "{port}");
        }
    }
}
