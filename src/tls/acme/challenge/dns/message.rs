//! Messages of the DNS (RFC 1035 §4, RFC 2136 §2): the few that are sent, and what is read of the
//! answers.

use std::fmt;
use std::net::IpAddr;

/// Types of records.
pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
pub(super) const CNAME: u16 = 5;
pub(super) const SOA: u16 = 6;
pub(super) const TXT: u16 = 16;
pub(super) const AAAA: u16 = 28;
pub(super) const TSIG: u16 = 250;
pub(super) const CAA: u16 = 257;

/// Classes.
pub(super) const IN: u16 = 1;
pub(super) const NONE: u16 = 254;
pub(super) const ANY: u16 = 255;

/// How long others may remember the record, in seconds.
const TTL: u32 = 60;

/// A name as it stands in a message, in lower case and not compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// Reads a name without `\` and without anything but ASCII; `None` when it is too long.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.trim_end_matches('.').split('.') {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
            wire.push(length?);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= 255).then_some(Self(wire))
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the root of all names.
    pub(super) fn is_root(&self) -> bool {
        self.0 == [0]
    }

    /// Whether it is `other` or below it.
    pub(super) fn is_within(&self, other: &Name) -> bool {
        let mut rest = &*self.0;
        loop {
            if rest == other.0 {
                return true;
            }
            let Some((length, tail)) = rest.split_first() else { return false };
            let Some(tail) = tail.get(usize::from(*length)..) else { return false };
            rest = tail;
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &*self.0;
        let mut dot = "";
        while let Some((length, tail)) = rest.split_first()
            && let Some((label, tail)) = tail.split_at_checked(usize::from(*length))
            && !label.is_empty()
        {
            write!(f, "{dot}{}", label.escape_ascii())?;
            (rest, dot) = (tail, ".");
        }
        f.write_str(if dot.is_empty() { "." } else { "" })
    }
}

/// Asks for the records of `name` of this type, of a server that knows them itself.
pub(super) fn query(id: u16, name: &Name, kind: u16) -> Vec<u8> {
    let mut message = header(id, 0, 0);
    entry(&mut message, name, kind, IN);
    message
}

/// The same of a server that asks others (RFC 1035 §4.1.1, RD).
pub(super) fn recursive_query(id: u16, name: &Name, kind: u16) -> Vec<u8> {
    let mut message = header(id, 0x0100, 0);
    entry(&mut message, name, kind, IN);
    message
}

/// What is done to a TXT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

/// Changes one TXT record of `zone` (RFC 2136 §2.5.1, §2.5.4); others of that name stay.
pub(super) fn update(id: u16, zone: &Name, name: &Name, text: &str, change: Change) -> Vec<u8> {
    const UPDATE: u16 = 5 << 11;
    let mut message = header(id, UPDATE, 1);
    entry(&mut message, zone, SOA, IN);
    let (class, ttl) = match change {
        Change::Add => (IN, TTL),
        Change::Remove => (NONE, 0),
    };
    entry(&mut message, name, TXT, class);
    message.extend(ttl.to_be_bytes());
    // A proof is 43 characters; a string holds 255.
    let text: Vec<u8> = text.bytes().take(255).collect();
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    message.extend((u16::from(length) + 1).to_be_bytes());
    message.push(length);
    message.extend(text);
    message
}

/// With one question or zone, and so many records in the third section.
fn header(id: u16, flags: u16, updates: u16) -> Vec<u8> {
    [id, flags, 1, 0, updates, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

fn entry(message: &mut Vec<u8>, name: &Name, kind: u16, class: u16) {
    message.extend(name.wire());
    message.extend(kind.to_be_bytes());
    message.extend(class.to_be_bytes());
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) id: [u8; 2],
    /// The code of RFC 1035 §4.1.1 and RFC 2136 §2.2; 0 when all is well.
    pub(super) code: u8,
    /// Records of all sections, in their order.
    pub(super) records: Vec<Record>,
}

/// A record of an answer.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) data: Vec<u8>,
    /// The name that a CNAME or NS record leads to: in its data it may be compressed.
    pub(super) target: Option<Name>,
    /// Where the record begins.
    pub(super) start: usize,
}

impl Record {
    /// The address that it is.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.kind {
            A => <[u8; 4]>::try_from(&*self.data).ok().map(IpAddr::from),
            AAAA => <[u8; 16]>::try_from(&*self.data).ok().map(IpAddr::from),
            _ => None,
        }
    }

    /// Whether it is this text.
    pub(super) fn is_text(&self, text: &str) -> bool {
        let length = u8::try_from(text.len()).ok();
        self.kind == TXT
            && self
                .data
                .split_first()
                .is_some_and(|(first, rest)| Some(*first) == length && rest == text.as_bytes())
    }
}

/// Aliases that are followed at most.
const HOPS: usize = 8;

impl Answer {
    /// Whether this is an answer that was too long for its datagram (RFC 1035 §4.1.1).
    pub(super) fn is_cut(message: &[u8]) -> bool {
        message.get(2).is_some_and(|flags| flags & 0x82 == 0x82)
    }

    /// Where `name` leads, by the aliases of this answer (RFC 1034 §3.6.2).
    pub(super) fn follow(&self, name: &Name) -> Name {
        let mut end = name;
        for _ in 0..HOPS {
            let mut aliases = self.records.iter().filter(|record| record.kind == CNAME);
            let Some(alias) = aliases.find(|record| record.name == *end) else { break };
            end = alias.target.as_ref().unwrap_or(end);
        }
        end.clone()
    }

    /// Reads an answer; `None` when it is none.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut reader = Reader { message, at: 0 };
        let id = reader.take(2)?.try_into().ok()?;
        let flags = reader.u16()?;
        let is_answer = flags & 0x8000 != 0;
        let questions = reader.u16()?;
        let count =
            usize::from(reader.u16()?) + usize::from(reader.u16()?) + usize::from(reader.u16()?);
        for _ in 0..questions {
            reader.name()?;
            reader.take(4)?;
        }
        // Each takes eleven bytes or more, so that a lie ends soon.
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(reader.record()?);
        }
        let code = (flags & 0xf) as u8;
        is_answer.then_some(Self { id, code, records })
    }
}

/// A reader that stops at the end.
pub(super) struct Reader<'m> {
    pub(super) message: &'m [u8],
    pub(super) at: usize,
}

impl<'m> Reader<'m> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name. Each pointer leads further back, so that none goes round (RFC 1035 §4.1.4).
    pub(super) fn name(&mut self) -> Option<Name> {
        let mut wire = Vec::new();
        let mut after = None;
        let mut floor = self.at;
        loop {
            let length = *self.take(1)?.first()?;
            match length {
                0 => break,
                1..=63 => {
                    wire.push(length);
                    let label = self.take(usize::from(length))?;
                    wire.extend(label.iter().map(u8::to_ascii_lowercase));
                }
                0xc0.. => {
                    let low = *self.take(1)?.first()?;
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    if to >= floor {
                        return None;
                    }
                    after.get_or_insert(self.at);
                    (self.at, floor) = (to, to);
                }
                _ => return None,
            }
            if wire.len() > 254 {
                return None;
            }
        }
        wire.push(0);
        self.at = after.unwrap_or(self.at);
        Some(Name(wire))
    }

    fn record(&mut self) -> Option<Record> {
        let start = self.at;
        let name = self.name()?;
        let kind = self.u16()?;
        // The class and the time to live.
        self.take(6)?;
        let length = self.u16()?;
        let mut inside = Reader { message: self.message, at: self.at };
        let target = if matches!(kind, CNAME | NS) { Some(inside.name()?) } else { None };
        let data = self.take(usize::from(length))?.to_vec();
        Some(Record { name, kind, data, target, start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_labels_of_a_length() {
        assert_eq!(name("A.test").wire(), b"\x01a\x04test\0");
        assert_eq!(name("a.test.").to_string(), "a.test");
        for bad in ["", "a..test", &"x".repeat(64), &format!("{}x", "x.".repeat(130))] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
        assert!(name("x.a.test").is_within(&name("a.test")));
        assert!(name("a.test").is_within(&name("a.test")));
        assert!(!name("xa.test").is_within(&name("a.test")));
    }

    #[test]
    fn an_update_changes_one_record() {
        let add = update(7, &name("a.test"), &name("_x.a.test"), "abc", Change::Add);
        assert_eq!(&add[..12], b"\0\x07\x28\0\0\x01\0\0\0\x01\0\0");
        let record = b"\x02_x\x01a\x04test\0\0\x10\0\x01\0\0\0\x3c\0\x04\x03abc";
        assert!(add.ends_with(record), "{}", add.escape_ascii());
        let remove = update(7, &name("a.test"), &name("_x.a.test"), "abc", Change::Remove);
        assert!(remove.ends_with(b"\0\x10\0\xfe\0\0\0\0\0\x04\x03abc"));
    }

    #[test]
    fn an_answer_is_read_with_its_compressed_names() {
        let mut message = query(9, &name("_x.a.test"), TXT);
        message[2] = 0x84;
        message[7] = 1;
        message.extend(b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x04\x03abc");
        let answer = Answer::parse(&message).unwrap();
        assert_eq!((answer.id, answer.code, answer.records.len()), ([0, 9], 0, 1));
        let record = &answer.records[0];
        assert!(record.name == name("_x.a.test") && record.is_text("abc"));
        assert!(!record.is_text("ab") && !record.is_text("abcd"));
        for end in 0..message.len() {
            assert!(Answer::parse(&message[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn a_name_that_leads_round_is_none() {
        let mut message = query(9, &name("a.test"), TXT);
        message[2] = 0x84;
        message[7] = 1;
        let here = u8::try_from(message.len()).unwrap();
        message.extend([0xc0, here]);
        message.extend(b"\0\x10\0\x01\0\0\0\x3c\0\x04\x03abc");
        assert!(Answer::parse(&message).is_none());
    }
}
