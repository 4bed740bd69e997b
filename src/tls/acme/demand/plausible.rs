//! Which names anybody could have a certificate for, before it costs a question.

use crate::proxy::headers::host::{Host, HostPattern};
use crate::tls::acme::names::is_reserved_name;
use crate::tls::wanted::is_public;

/// The longest name that is asked for, in bytes: its entries in the storage bear it whole.
const LONGEST: usize = 180;

/// Whether an authority could sign `name`, in lower case: a host name of two labels or more that is
/// no address, in letters, digits and hyphens (RFC 5280 §4.2.1.6), not one of this host's or of a
/// private network's; with `only_public` authorities, none that nobody can own either.
#[must_use]
pub(in crate::tls) fn is_plausible(name: &str, only_public: bool) -> bool {
    let is_spelt =
        |label: &str| !label.starts_with('-') && !label.ends_with('-') && !label.contains('_');
    let Ok(host) = Host::parse(name.as_bytes()) else { return false };
    host.as_str() == name
        && name.len() <= LONGEST
        && name.contains('.')
        && name.split('.').all(is_spelt)
        && is_public(&HostPattern::Exact(host))
        && !(only_public && is_reserved_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_signs_costs_no_question() {
        for (name, plausible) in [
            ("shop.de", true),
            ("a-b.c1.shop.de", true),
            ("xn--mnchen-3ya.de", true),
            ("a.test", true),
            ("shop", false),
            ("shop.localhost", false),
            ("db.internal", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
            ("a_b.shop.de", false),
            ("-a.shop.de", false),
            ("a-.shop.de", false),
            ("Shop.de", false),
            ("shop.de.", false),
            ("*.shop.de", false),
            (".shop.de", false),
            ("a..de", false),
            ("a.de/../b", false),
            ("", false),
        ] {
            assert_eq!(is_plausible(name, false), plausible, "{name}");
        }
        assert!(!is_plausible("a.test", true) && is_plausible("shop.de", true));
        assert!(!is_plausible(&format!("{}.de", "a.".repeat(100)), false));
    }
}
