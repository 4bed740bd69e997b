//! What somebody asks of the registry: `22`, `20-25,80`, `53/udp`, `https`, `mail`.

use std::fmt;
use std::ops::RangeInclusive;

use super::protocol::Protocol;

/// So much text is read as a query, in bytes.
const LONGEST: usize = 2000;

/// A question, in one or more parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// At least one.
    pub items: Vec<Item>,
}

/// One part of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is asked for.
    pub what: What,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
}

/// Numbers or words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// These ports; one, if both ends are the same.
    Ports(RangeInclusive<u16>),
    /// A name, a kind, or words out of a description; never empty, in lower case.
    Words(String),
}

/// Why something is no question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// Nothing but commas and spaces.
    Empty,
    /// More than anybody means.
    TooLong,
    /// A number beyond 65535.
    NoPort(String),
    /// `30-20`
    Backwards(u16, u16),
    /// `20-`, `1-2-3`
    NoRange(String),
    /// `80/icmp`: the port and what was taken for a protocol.
    NoProtocol(String, String),
}

impl Query {
    /// Reads a question: parts with a comma between two, each of them a port, a range, or words;
    /// `/tcp` or a word `tcp` narrows a part. Numbers may also stand with a space between two.
    ///
    /// # Errors
    /// When a part begins like numbers and is none, or there is no part.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > LONGEST {
            return Err(QueryError::TooLong);
        }
        // A dash out of a document is a dash.
        let text = text.replace(['\u{2013}', '\u{2010}', '\u{2011}'], "-").to_lowercase();
        let mut items = Vec::new();
        for part in text.split([',', ';']).map(str::trim).filter(|part| !part.is_empty()) {
            read_part(part, &mut items)?;
        }
        if items.is_empty() { Err(QueryError::Empty) } else { Ok(Self { items }) }
    }
}

fn read_part(part: &str, items: &mut Vec<Item>) -> Result<(), QueryError> {
    let mut words: Vec<&str> = part.split_whitespace().collect();
    let mut protocol = None;
    if words.len() > 1 {
        let named = words.iter().position(|word| Protocol::named(word).is_some());
        protocol = named.and_then(|at| Protocol::named(words.remove(at)));
    }
    if words.iter().all(|word| is_numeric(word)) {
        for word in words {
            let (ports, own) = numbers(word)?;
            items.push(Item { what: What::Ports(ports), protocol: own.or(protocol) });
        }
        return Ok(());
    }
    let phrase = words.join(" ");
    let narrowed = phrase.rsplit_once('/').and_then(|(phrase, name)| {
        let named = Protocol::named(name).filter(|_| !phrase.is_empty());
        named.map(|protocol| (phrase.to_owned(), protocol))
    });
    let (phrase, protocol) = match narrowed {
        Some((phrase, own)) => (phrase, Some(own)),
        None => (phrase, protocol),
    };
    items.push(Item { what: What::Words(phrase), protocol });
    Ok(())
}

/// Whether it is to be read as numbers, right or wrong: `914c-g` is the name of a service.
fn is_numeric(word: &str) -> bool {
    let number = word.split_once('/').map_or(word, |(number, _)| number);
    let number = number.strip_prefix(':').unwrap_or(number);
    number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// `22`, `:22`, `20-25`, each with or without `/tcp`.
fn numbers(word: &str) -> Result<(RangeInclusive<u16>, Option<Protocol>), QueryError> {
    let (number, protocol) = match word.split_once('/') {
        None => (word, None),
        Some((number, name)) => match Protocol::named(name) {
            Some(protocol) => (number, Some(protocol)),
            None => return Err(QueryError::NoProtocol(number.to_owned(), name.to_owned())),
        },
    };
    let number = number.strip_prefix(':').unwrap_or(number);
    let no_range = || QueryError::NoRange(number.to_owned());
    let ports = match number.split_once('-') {
        None => port(number)?..=port(number)?,
        Some((first, last)) if first.is_empty() || last.is_empty() || last.contains('-') => {
            return Err(no_range());
        }
        Some((first, last)) => port(first)?..=port(last)?,
    };
    match ports.is_empty() {
        true => Err(QueryError::Backwards(*ports.start(), *ports.end())),
        false => Ok((ports, protocol)),
    }
}

fn port(digits: &str) -> Result<u16, QueryError> {
    digits.parse().map_err(|_| QueryError::NoPort(digits.to_owned()))
}

/// `20-25/tcp`, `ssh`
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Ports(ports) if ports.start() == ports.end() => write!(f, "{}", ports.start())?,
            What::Ports(ports) => write!(f, "{}-{}", ports.start(), ports.end())?,
            What::Words(words) => f.write_str(words)?,
        }
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::Empty => {
                f.write_str("nothing is asked: give a port, a range, a name or a word")
            }
            QueryError::TooLong => write!(f, "a query has at most {LONGEST} bytes"),
            QueryError::NoPort(number) => {
                write!(f, "{number} is no port: ports are the numbers 0 to 65535")
            }
            QueryError::Backwards(first, last) => {
                write!(f, "{first}-{last} runs backwards: write {last}-{first}")
            }
            QueryError::NoRange(text) => {
                write!(f, "{text} is no range: write both ends and one dash, such as 20-25")
            }
            QueryError::NoProtocol(port, name) => write!(
                f,
                "\"{name}\" is no protocol with ports: write {port}/tcp, {port}/udp, {port}/sctp \
                 or {port}/dccp"
            ),
        }
    }
}

impl std::error::Error for QueryError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> String {
        let items = Query::parse(text).unwrap().items;
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn numbers_ranges_and_lists_are_read() {
        assert_eq!(parsed("22"), "22");
        assert_eq!(parsed(":22"), "22");
        assert_eq!(parsed("20-25,80"), "20-25 | 80");
        assert_eq!(parsed(" 20\u{2013}25 , 80,"), "20-25 | 80");
        assert_eq!(parsed("80 443 8000-8010"), "80 | 443 | 8000-8010");
        assert_eq!(parsed("0-65535"), "0-65535");
        assert_eq!(parsed("00022"), "22");
    }

    #[test]
    fn a_protocol_narrows_its_part() {
        assert_eq!(parsed("53/udp"), "53/udp");
        assert_eq!(parsed("53/UDP,22"), "53/udp | 22");
        assert_eq!(parsed("udp 53"), "53/udp");
        assert_eq!(parsed("20-25 tcp"), "20-25/tcp");
        assert_eq!(parsed("https/udp"), "https/udp");
        assert_eq!(parsed("remote desktop/tcp"), "remote desktop/tcp");
        assert_eq!(parsed("udp"), "udp");
    }

    #[test]
    fn words_are_words_even_with_digits_and_slashes() {
        assert_eq!(parsed("914c-g"), "914c-g");
        assert_eq!(parsed("3com-tsmux,Telnet"), "3com-tsmux | telnet");
        assert_eq!(parsed("EtherNet/IP-1"), "ethernet/ip-1");
        assert_eq!(parsed("remote   desktop"), "remote desktop");
        assert_eq!(parsed("/tcp"), "/tcp");
    }

    #[test]
    fn what_is_no_question_is_explained() {
        let told = |text: &str| Query::parse(text).unwrap_err().to_string();
        assert_eq!(told("70000"), "70000 is no port: ports are the numbers 0 to 65535");
        assert!(told("99999999999999999999").ends_with("0 to 65535"));
        assert_eq!(told("30-20"), "30-20 runs backwards: write 20-30");
        assert_eq!(told("1-70000"), "70000 is no port: ports are the numbers 0 to 65535");
        for half in ["20-", "-20", "1-2-3", "--5"] {
            assert!(told(half).contains("is no range"), "{half}");
        }
        assert!(told("80/icmp").starts_with("\"icmp\" is no protocol"));
        assert!(told("80/tcp/udp").contains("write 80/tcp"));
        for nothing in ["", " ", ",", " , ,"] {
            assert_eq!(Query::parse(nothing), Err(QueryError::Empty));
        }
        assert_eq!(Query::parse(&"9".repeat(3000)), Err(QueryError::TooLong));
    }

    fn protocol() -> impl Strategy<Value = Option<Protocol>> {
        proptest::option::of(proptest::sample::select(&Protocol::ALL[..]))
    }

    fn item() -> impl Strategy<Value = Item> {
        let ports =
            (any::<u16>(), any::<u16>()).prop_map(|(a, b)| What::Ports(a.min(b)..=a.max(b)));
        let words = "[a-z][a-z0-9_.-]{0,12}( [a-z][a-z0-9+]{0,8}){0,2}"
            .prop_filter("a protocol in words narrows", |words| {
                words.split(' ').all(|word| Protocol::named(word).is_none())
            })
            .prop_map(What::Words);
        (prop_oneof![ports, words], protocol()).prop_map(|(what, protocol)| Item { what, protocol })
    }

    proptest! {
        #[test]
        fn a_question_survives_being_written_and_read(
            items in proptest::collection::vec(item(), 1..8),
        ) {
            let text = items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            prop_assert_eq!(Query::parse(&text).unwrap().items, items);
        }

        #[test]
        fn any_text_is_a_question_or_an_error_in_one_line(text in ".{0,80}") {
            match Query::parse(&text) {
                Ok(query) => prop_assert!(!query.items.is_empty()),
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }

        #[test]
        fn what_looks_like_numbers_never_becomes_words(text in "-{0,2}[0-9][0-9-]{0,11}") {
            if let Ok(query) = Query::parse(&text) {
                for item in query.items {
                    prop_assert!(matches!(item.what, What::Ports(ports) if !ports.is_empty()));
                }
            }
        }
    }
}
