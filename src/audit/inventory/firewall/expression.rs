//! One expression of a rule, from the kernel's attributes (`linux/netfilter/nf_tables.h`).

use crate::audit::netlink::attribute;

/// What one expression does, as far as it bears on a stranger's first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Puts something into a register.
    Load { to: Register, what: Loaded },
    /// Masks and flips a register.
    Bits { from: Register, to: Register, mask: Vec<u8>, flip: Vec<u8> },
    /// Goes on if a register compares so.
    Compare { from: Register, how: Comparison, with: Vec<u8> },
    /// Goes on if a register is within bounds, or is not.
    Range { from: Register, low: Vec<u8>, high: Vec<u8>, inverted: bool },
    /// Goes on if a set has what a register has, and takes the verdict that a map has for it.
    Lookup { from: Register, set: String, inverted: bool, is_map: bool },
    /// Ends the rule.
    Verdict(Verdict),
    /// Goes on if an extension of iptables says so.
    Extension { name: String, info: Vec<u8> },
    /// Goes on under a condition that is not understood.
    Condition,
    /// Goes on.
    Nothing,
}

/// By its number in 32-bit registers.
pub(super) type Register = u32;

/// What a register gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    /// The protocol above IP.
    Protocol,
    /// The family, as `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    Family,
    /// The destination port.
    Port,
    /// The state of the connection.
    ConnectionState,
    /// What kind of address of this host the packet goes to.
    DestinationType,
    /// The interface on which the packet comes, by number or name.
    Interface,
    /// This.
    Value(Vec<u8>),
    /// What a stranger's packet may have as it likes, or what is not understood.
    Unknown,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    /// To another address or port.
    Forward,
    Continue,
    Return,
    Jump(String),
    Goto(String),
    /// To a program that decides.
    Ask,
}

impl Expression {
    /// A name and the attributes of that kind of expression.
    pub(super) fn parse(name: &str, data: &[u8]) -> Self {
        let parsed = match name {
            "meta" => meta(data),
            "payload" => payload(data),
            "ct" => connection(data),
            "immediate" => immediate(data),
            "fib" => route(data),
            "bitwise" => bits(data),
            "cmp" => compare(data),
            "range" => range(data),
            "lookup" => lookup(data),
            "reject" => Some(Expression::Verdict(Verdict::Drop)),
            "queue" => Some(Expression::Verdict(Verdict::Ask)),
            "nat" | "redir" | "tproxy" => Some(Expression::Verdict(Verdict::Forward)),
            "match" => text(data, 1).map(|name| Expression::Extension {
                name,
                info: attribute(data, 3).unwrap_or_default().to_vec(),
            }),
            "target" => text(data, 1).map(|name| target(&name)),
            "counter" | "log" | "notrack" | "last" | "objref" | "flow_offload" | "ct_timeout"
            | "masq" | "synproxy" => Some(Expression::Nothing),
            // What puts a value that is not understood into a register.
            "byteorder" | "exthdr" | "socket" | "rt" | "osf" | "hash" | "numgen" | "xfrm"
            | "tunnel" => unknown(name, data),
            _ => None,
        };
        parsed.unwrap_or(Expression::Condition)
    }
}

fn meta(data: &[u8]) -> Option<Expression> {
    // A mark or a priority is set, not read.
    let Some(to) = register(data, 1) else { return Some(Expression::Nothing) };
    let what = match number(data, 2)? {
        4 | 6 => Loaded::Interface,
        15 => Loaded::Family,
        16 => Loaded::Protocol,
        _ => Loaded::Unknown,
    };
    Some(Expression::Load { to, what })
}

fn payload(data: &[u8]) -> Option<Expression> {
    let Some(to) = register(data, 1) else { return Some(Expression::Nothing) };
    // The transport header, where the destination port stands at its third octet.
    let what = match (number(data, 2)?, number(data, 3)?, number(data, 4)?) {
        (2, 2, 2) => Loaded::Port,
        _ => Loaded::Unknown,
    };
    Some(Expression::Load { to, what })
}

fn connection(data: &[u8]) -> Option<Expression> {
    let Some(to) = register(data, 1) else { return Some(Expression::Nothing) };
    let what = if number(data, 2)? == 0 { Loaded::ConnectionState } else { Loaded::Unknown };
    Some(Expression::Load { to, what })
}

/// `NFT_FIB_RESULT_ADDRTYPE` of `NFTA_FIB_F_DADDR`, and nothing else of the routes.
fn route(data: &[u8]) -> Option<Expression> {
    let is_type = (number(data, 2)?, number(data, 3)?) == (3, 2);
    let what = if is_type { Loaded::DestinationType } else { Loaded::Unknown };
    Some(Expression::Load { to: register(data, 1)?, what })
}

fn immediate(data: &[u8]) -> Option<Expression> {
    let value = attribute(data, 2)?;
    match attribute(value, 2) {
        Some(verdict) => Some(Expression::Verdict(self::verdict(verdict)?)),
        None => {
            let what = Loaded::Value(attribute(value, 1)?.to_vec());
            Some(Expression::Load { to: register(data, 1)?, what })
        }
    }
}

fn bits(data: &[u8]) -> Option<Expression> {
    let (from, to) = (register(data, 1)?, register(data, 2)?);
    // Shifts have no mask.
    match (value(data, 4), value(data, 5), number(data, 6).unwrap_or_default()) {
        (Some(mask), Some(flip), 0) => Some(Expression::Bits { from, to, mask, flip }),
        _ => Some(Expression::Load { to, what: Loaded::Unknown }),
    }
}

fn compare(data: &[u8]) -> Option<Expression> {
    let how = match number(data, 2)? {
        0 => Comparison::Equal,
        1 => Comparison::Unequal,
        2 => Comparison::Less,
        3 => Comparison::AtMost,
        4 => Comparison::Greater,
        5 => Comparison::AtLeast,
        _ => return None,
    };
    Some(Expression::Compare { from: register(data, 1)?, how, with: value(data, 3)? })
}

fn range(data: &[u8]) -> Option<Expression> {
    let (from, inverted) = (register(data, 1)?, number(data, 2)? == 1);
    Some(Expression::Range { from, low: value(data, 3)?, high: value(data, 4)?, inverted })
}

fn lookup(data: &[u8]) -> Option<Expression> {
    let inverted = number(data, 5).unwrap_or_default() & 1 != 0;
    let is_map = match number(data, 3) {
        None => false,
        Some(0) => true,
        // A map to a value, not to a verdict.
        Some(_) => return Some(Expression::Load { to: register(data, 3)?, what: Loaded::Unknown }),
    };
    Some(Expression::Lookup { from: register(data, 2)?, set: text(data, 1)?, inverted, is_map })
}

/// What an extension of iptables does with the packets that come to it.
fn target(name: &str) -> Expression {
    match name {
        "REJECT" => Expression::Verdict(Verdict::Drop),
        "DNAT" | "REDIRECT" | "TPROXY" => Expression::Verdict(Verdict::Forward),
        "NFQUEUE" => Expression::Verdict(Verdict::Ask),
        _ => Expression::Nothing,
    }
}

fn unknown(name: &str, data: &[u8]) -> Option<Expression> {
    // These have the register that they read before the one that they write.
    let kind = if matches!(name, "byteorder" | "hash") { 2 } else { 1 };
    Some(Expression::Load { to: register(data, kind)?, what: Loaded::Unknown })
}

/// `NFTA_VERDICT_CODE` and `NFTA_VERDICT_CHAIN`.
pub(super) fn verdict(data: &[u8]) -> Option<Verdict> {
    let code = i32::from_be_bytes(*attribute(data, 1)?.first_chunk()?);
    let chain = || text(data, 2);
    Some(match code {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 | -2 => Verdict::Continue,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => Verdict::Ask,
    })
}

/// The four registers of sixteen octets are the sixteen of four octets under older numbers, which
/// begin at 1 and at 8; 0 is the verdict.
fn register(data: &[u8], kind: u16) -> Option<Register> {
    let number = number(data, kind)?;
    Some(if number < 8 { 8 + number.saturating_sub(1) * 4 } else { number })
}

/// An attribute that is a number, in network byte order.
pub(super) fn number(data: &[u8], kind: u16) -> Option<u32> {
    attribute(data, kind)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// An attribute that is a text which ends with a NUL.
pub(super) fn text(data: &[u8], kind: u16) -> Option<String> {
    let bytes = attribute(data, kind)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// An attribute that has a value (`NFTA_DATA_VALUE`) in it.
pub(super) fn value(data: &[u8], kind: u16) -> Option<Vec<u8>> {
    attribute(attribute(data, kind)?, 1).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The kernel's attributes, torn and nested as they may be.
        #[test]
        fn no_expression_panics(
            name in prop::sample::select(vec!["meta", "payload", "ct", "immediate", "fib", "bitwise", "cmp",
                "range", "lookup", "match", "target", "nat", "byteorder", "hash", "new-to-us"]),
            attributes in prop::collection::vec((0..12_u16, prop::collection::vec(any::<u8>(), 0..24)), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut data = Vec::new();
            for (kind, value) in &attributes {
                data.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
                data.extend(kind.to_ne_bytes());
                data.extend(value);
                data.resize(data.len().next_multiple_of(4), 0);
            }
            data.extend(rest);
            let _ = Expression::parse(name, &data);
        }
    }
}
