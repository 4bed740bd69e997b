//! Who reaches a listener, as the severity of a finding sees it.

use crate::audit::inventory::{Exposure, Listener};
use crate::audit::verdict::Severity;

/// How urgent a finding is that is `public` when everybody reaches the listener: one step less
/// when only a private network does, or a firewall is in the way; `None` on loopback.
pub(super) fn severity(listener: &Listener, public: Severity) -> Option<Severity> {
    match listener.exposure {
        Exposure::Loopback => None,
        Exposure::Private if is_shut(listener) => Some(public.lower().lower()),
        Exposure::Public if !is_shut(listener) => Some(public),
        Exposure::Private | Exposure::Public => Some(public.lower()),
    }
}

/// Whether the local firewall is seen to let nobody in.
pub(super) fn is_shut(listener: &Listener) -> bool {
    listener.firewall.as_deref().is_some_and(|said| SHUT.iter().any(|word| said.contains(word)))
}

const SHUT: &[&str] = &["drop", "reject"];

/// `everybody`, `a private network`.
pub(super) fn who(listener: &Listener) -> &'static str {
    match listener.exposure {
        Exposure::Loopback => "this host",
        Exposure::Private => "its private network",
        Exposure::Public => "every network",
    }
}

/// The program that holds it, in a word or two.
pub(super) fn program(listener: &Listener) -> String {
    listener.holder.as_ref().map_or_else(|| "a program".to_owned(), |holder| holder.comm.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{local, tcp};

    #[test]
    fn the_fewer_reach_it_the_less_urgent_it_is() {
        let of = |listener: &Listener| severity(listener, Severity::High);
        assert_eq!(of(&tcp(1)), Some(Severity::High));
        assert_eq!(of(&local(1)), None);
        let private = Listener { exposure: Exposure::Private, ..tcp(1) };
        assert_eq!(of(&private), Some(Severity::Medium));
        let shut = |listener| Listener { firewall: Some("drop".to_owned()), ..listener };
        assert_eq!(of(&shut(tcp(1))), Some(Severity::Medium));
        assert_eq!(of(&shut(private)), Some(Severity::Low));
    }
}
