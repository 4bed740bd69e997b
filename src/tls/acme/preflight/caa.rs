//! Whether the DNS allows an authority to issue for a name (RFC 8659, with the parameters of
//! RFC 8657).

use std::net::SocketAddr;

use crate::tls::acme::challenge::dns::lookup::{self, Unanswered};

/// More steps up the tree are not taken: no name of a site has as many labels.
const STEPS: usize = 12;

/// Who asks for a certificate.
pub(super) struct Asker<'a> {
    /// By which names records call the authority; none where it does not say, `None` where that is
    /// not known.
    pub(super) identities: Option<&'a [String]>,
    /// The URL of the account there.
    pub(super) account: &'a str,
    /// How the name is proved: `http-01`.
    pub(super) method: &'a str,
}

/// What stands in the DNS for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or it cannot be told from here.
    Nothing,
    /// The records of the name, or of the nearest one above that has any (RFC 8659 §3).
    At { domain: String, properties: Vec<Property> },
    /// The name server fails for this name, and an authority must not issue then (§5.1).
    Failing { domain: String },
}

/// One record (RFC 8659 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    /// Whether nobody may issue who does not know the tag.
    is_critical: bool,
    /// In lower case.
    tag: String,
    value: String,
}

impl Property {
    fn parse(data: &[u8]) -> Option<Self> {
        let (flags, rest) = data.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (tag, value) = rest.split_at_checked(usize::from(*length))?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let tag = text(tag).to_ascii_lowercase();
        Some(Self { is_critical: flags & 0x80 != 0, tag, value: text(value) })
    }

    /// The domain of the issuer, empty where nobody is meant, and the parameters (§4.2).
    fn issuer(&self) -> (String, impl Iterator<Item = (&str, &str)>) {
        let mut parts = self.value.split(';');
        let domain = parts.next().unwrap_or_default().trim().trim_end_matches('.');
        let parameters = parts.filter_map(|part| {
            let (key, value) = part.split_once('=')?;
            Some((key.trim(), value.trim()))
        });
        (domain.to_ascii_lowercase(), parameters)
    }
}

impl Found {
    /// Asks for `name`, and for what is above it where it has nothing.
    pub(super) async fn of(name: &str, servers: &[SocketAddr]) -> Self {
        let mut domain = name;
        for _ in 0..STEPS {
            let data = match lookup::caa(servers, domain).await {
                Ok(data) => data,
                Err(Unanswered::Failing) => return Self::Failing { domain: domain.to_owned() },
                Err(Unanswered::Silent) => return Self::Nothing,
            };
            let properties: Vec<_> = data.iter().filter_map(|one| Property::parse(one)).collect();
            if !properties.is_empty() {
                return Self::At { domain: domain.to_owned(), properties };
            }
            let Some((_, parent)) = domain.split_once('.') else { break };
            domain = parent;
        }
        Self::Nothing
    }

    /// Why `asker` gets no certificate for `name`, or `None`.
    pub(super) fn judge(&self, name: &str, asker: &Asker<'_>) -> Option<String> {
        let (domain, properties) = match self {
            Self::Nothing => return None,
            Self::Failing { domain } => {
                return Some(format!(
                    "the name server fails when it is asked for the CAA records of {domain}, and no \
                     authority issues anything then"
                ));
            }
            Self::At { domain, properties } => (domain, properties),
        };
        let known = ["issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail"];
        let odd = |one: &&Property| one.is_critical && !known.contains(&one.tag.as_str());
        if let Some(odd) = properties.iter().find(odd) {
            let tag: String = odd.tag.chars().filter(char::is_ascii_graphic).take(30).collect();
            return Some(format!(
                "a CAA record of {domain} with the tag `{tag}` is critical: who does not know that \
                 issues nothing"
            ));
        }
        let tagged = |tag: &str| properties.iter().filter(|one| one.tag == tag).collect::<Vec<_>>();
        let is_wild = name.starts_with("*.");
        let wild = if is_wild { tagged("issuewild") } else { Vec::new() };
        let (tag, relevant) =
            if wild.is_empty() { ("issue", tagged("issue")) } else { ("issuewild", wild) };
        if relevant.is_empty() {
            return None;
        }
        let refusals: Vec<Option<Refusal>> =
            relevant.iter().map(|property| refusal(property, asker)).collect();
        if refusals.iter().any(Option::is_none) {
            return None;
        }
        let mut told: Vec<Refusal> = refusals.into_iter().flatten().collect();
        // What comes nearest is what is to be mended.
        told.sort_unstable();
        let nearest = told.pop()?;
        Some(nearest.tell(domain, tag, &told, asker))
    }
}

/// Why a record does not allow it, from the farthest to the nearest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    Nobody,
    /// Perhaps: the authority does not say what it is called.
    Unclear(String),
    Other(String),
    Account(String),
    Method(String),
}

/// `None` where the record allows it, or that cannot be told.
fn refusal(property: &Property, asker: &Asker<'_>) -> Option<Refusal> {
    let (issuer, parameters) = property.issuer();
    if issuer.is_empty() {
        return Some(Refusal::Nobody);
    }
    let identities = asker.identities?;
    if identities.is_empty() {
        return Some(Refusal::Unclear(issuer));
    }
    if !identities.contains(&issuer) {
        return Some(Refusal::Other(issuer));
    }
    for (key, value) in parameters {
        // RFC 8657 §3 and §4.
        if key.eq_ignore_ascii_case("accounturi") && value != asker.account {
            return Some(Refusal::Account(value.to_owned()));
        }
        let mut methods = value.split(',').map(str::trim);
        if key.eq_ignore_ascii_case("validationmethods") && !methods.any(|one| one == asker.method)
        {
            return Some(Refusal::Method(value.to_owned()));
        }
    }
    None
}

impl Refusal {
    fn tell(&self, domain: &str, tag: &str, others: &[Refusal], asker: &Asker<'_>) -> String {
        let first = asker.identities.and_then(<[String]>::first);
        let us = first.map_or("this authority", String::as_str);
        let mend = || match first {
            Some(us) => format!(": `{domain}. CAA 0 {tag} \"{us}\"` would"),
            None => String::new(),
        };
        match self {
            Refusal::Nobody => format!(
                "a CAA record of {domain} allows no authority at all, and none allows this one{}",
                mend()
            ),
            Refusal::Unclear(one) => format!(
                "the CAA records of {domain} name only {}; this authority does not tell its own \
                 name, so that it cannot be told from here whether it is one of them",
                names(one, others)
            ),
            Refusal::Other(one) => {
                format!(
                    "the CAA records of {domain} allow {}, and none allows {us}{}",
                    names(one, others),
                    mend()
                )
            }
            Refusal::Account(uri) => format!(
                "a CAA record of {domain} allows {us} for the account {}, and this one is {}",
                plain(uri),
                asker.account
            ),
            Refusal::Method(methods) => format!(
                "a CAA record of {domain} allows {us} to prove names by {}, and not by {}",
                plain(methods),
                asker.method
            ),
        }
    }
}

/// Who is named, one after the other.
fn names(one: &str, others: &[Refusal]) -> String {
    let others = others.iter().filter_map(|other| match other {
        Refusal::Other(name) | Refusal::Unclear(name) => Some(name.as_str()),
        _ => None,
    });
    let all: Vec<String> = std::iter::once(one).chain(others).map(plain).collect();
    all.join(", ")
}

/// What stands in somebody's DNS, as it may stand in a log.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(flags: u8, tag: &str, value: &str) -> Vec<u8> {
        let length = u8::try_from(tag.len()).unwrap();
        [&[flags, length], tag.as_bytes(), value.as_bytes()].concat()
    }

    fn told(name: &str, identities: &[&str], records: &[(u8, &str, &str)]) -> Option<String> {
        let records = records.iter().map(|(flags, tag, value)| data(*flags, tag, value));
        let properties = records.map(|data| Property::parse(&data).unwrap()).collect();
        let identities: Vec<String> = identities.iter().map(|one| (*one).to_owned()).collect();
        let account = "https://ca.test/acct/1";
        let identities = Some(identities.as_slice());
        let asker = Asker { identities, account, method: "http-01" };
        Found::At { domain: "shop.de".to_owned(), properties }.judge(name, &asker)
    }

    const US: &[&str] = &["ca.test", "ca.example"];

    #[test]
    fn who_is_named_may_issue() {
        for value in ["ca.test", " CA.test ", "ca.test.", "ca.example; x=y", "ca.test;"] {
            assert_eq!(told("shop.de", US, &[(0, "ISSUE", value)]), None, "{value}");
        }
        let two = [(0, "issue", "other.test"), (0, "issue", "ca.example")];
        assert_eq!(told("shop.de", US, &two), None);
        assert_eq!(told("shop.de", US, &[(0, "iodef", "mailto:a@shop.de")]), None);
        assert_eq!(
            told("shop.de", US, &[(0, "issuewild", "other.test")]),
            None,
            "not for this name"
        );
        assert_eq!(told("shop.de", US, &[(0, "tbs", "x")]), None, "unknown, and not critical");
    }

    #[test]
    fn an_authority_that_does_not_tell_its_name_is_told_with_who_is_named() {
        let two = [(0, "issue", "other.test"), (0, "issue", "a.test; x=y")];
        let told = told("shop.de", &[], &two).unwrap();
        assert!(told.starts_with("the CAA records of shop.de name only other.test, a.test; this"));
        assert!(told.contains("does not tell its own name"), "{told}");
        let records = [data(0, "issue", "other.test")];
        let properties = records.iter().map(|data| Property::parse(data).unwrap()).collect();
        let asker = Asker { identities: None, account: "", method: "http-01" };
        let found = Found::At { domain: "shop.de".to_owned(), properties };
        assert_eq!(found.judge("shop.de", &asker), None, "it was not reached: nobody can tell");
    }

    #[test]
    fn who_is_not_named_is_told_with_the_record_that_mends_it() {
        let told = told("shop.de", US, &[(0, "issue", "other.test"), (0, "issue", ";")]).unwrap();
        assert_eq!(
            told,
            "the CAA records of shop.de allow other.test, and none allows ca.test: `shop.de. CAA 0 \
             issue \"ca.test\"` would"
        );
    }

    #[test]
    fn nobody_may_issue_where_the_issuer_is_empty() {
        for identities in [US, &[]] {
            let told = told("shop.de", identities, &[(0, "issue", ";")]).unwrap();
            assert!(told.contains("a CAA record of shop.de allows no authority at all"), "{told}");
        }
    }

    #[test]
    fn a_wildcard_has_rules_of_its_own_where_there_are_any() {
        let both = [(0, "issue", "other.test"), (0, "issuewild", "ca.test")];
        assert_eq!(told("*.shop.de", US, &both), None);
        assert!(told("shop.de", US, &both).is_some());
        let both = [(0, "issue", "ca.test"), (0, "issuewild", ";")];
        let words = told("*.shop.de", US, &both).unwrap();
        assert!(words.contains("CAA 0 issuewild \"ca.test\""), "{words}");
        assert_eq!(told("shop.de", US, &both), None);
        assert!(told("*.shop.de", US, &[(0, "issue", "other.test")]).is_some());
    }

    #[test]
    fn a_critical_tag_that_is_unknown_stops_everybody() {
        let both = [(0, "issue", "ca.test"), (128, "future", "x")];
        assert!(told("shop.de", US, &both).unwrap().contains("`future` is critical"));
        assert_eq!(told("shop.de", US, &[(128, "issue", "ca.test")]), None);
    }

    /// RFC 8657.
    #[test]
    fn an_account_and_a_method_may_be_named() {
        let of = |value: &str| told("shop.de", US, &[(0, "issue", value)]);
        assert_eq!(of("ca.test; accounturi=https://ca.test/acct/1"), None);
        let other = of("ca.test; accounturi=https://ca.test/acct/2").unwrap();
        assert!(other.contains("acct/2, and this one is https://ca.test/acct/1"), "{other}");
        assert_eq!(of("ca.test; validationmethods=dns-01,http-01"), None);
        let other = of("ca.test; validationmethods=dns-01").unwrap();
        assert!(other.contains("by dns-01, and not by http-01"), "{other}");
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in [&b""[..], b"\0", b"\0\x09issue"] {
            assert_eq!(Property::parse(bad), None, "{bad:?}");
        }
        let evil = told("shop.de", US, &[(0, "issue", "a\n\u{1b}b.test")]).unwrap();
        assert!(evil.contains("allow ab.test"), "{evil}");
    }
}
