//! Who reaches a listener, as the severity of a finding sees it.

use crate::audit::inventory::{Exposure, Listener, Passage};
use crate::audit::verdict::Severity;

/// How urgent a finding is that is `public` when everybody reaches the listener: one step less
/// for each of what keeps some away, a private network or a firewall that asks where one comes
/// from, and two for a firewall that lets nobody in; `None` on loopback.
pub(super) fn severity(listener: &Listener, public: Severity) -> Option<Severity> {
    let behind = match listener.exposure {
        Exposure::Loopback => return None,
        Exposure::Private => public.lower(),
        Exposure::Public => public,
    };
    Some(match passage(listener) {
        Some(Passage::Closed) => behind.lower().lower(),
        Some(Passage::Partly) => behind.lower(),
        Some(Passage::Forwarded | Passage::Open) | None => behind,
    })
}

/// Whether the local firewall is seen to let nobody in.
pub(super) fn is_shut(listener: &Listener) -> bool {
    passage(listener) == Some(Passage::Closed)
}

fn passage(listener: &Listener) -> Option<Passage> {
    listener.firewall.as_ref().map(|firewall| firewall.passage)
}

/// Whose hosts reach it: the end of "is open to …".
pub(super) fn who(listener: &Listener) -> &'static str {
    match (listener.exposure, passage(listener)) {
        (Exposure::Loopback, _) => "this host",
        (_, Some(Passage::Closed)) => "whoever passes the firewall, which lets nobody in now",
        (Exposure::Private, _) => "its private network",
        (Exposure::Public, Some(Passage::Partly)) => "those whom the firewall lets in",
        (Exposure::Public, _) => "every network",
    }
}

/// The program that holds it, in a word or two.
pub(super) fn program(listener: &Listener) -> String {
    listener.holder.as_ref().map_or_else(|| "a program".to_owned(), |holder| holder.comm.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::inventory::Firewall;
    use crate::audit::verdict::testing::{local, tcp};

    #[test]
    fn the_fewer_reach_it_the_less_urgent_it_is() {
        let of = |listener: &Listener| severity(listener, Severity::High);
        assert_eq!(of(&tcp(1)), Some(Severity::High));
        assert_eq!(of(&local(1)), None);
        let private = Listener { exposure: Exposure::Private, ..tcp(1) };
        assert_eq!(of(&private), Some(Severity::Medium));
        let behind = |passage, listener| {
            let rule = "inet filter input".to_owned();
            Listener { firewall: Some(Firewall { passage, rule }), ..listener }
        };
        assert_eq!(of(&behind(Passage::Open, tcp(1))), Some(Severity::High));
        assert_eq!(of(&behind(Passage::Forwarded, tcp(1))), Some(Severity::High));
        assert_eq!(of(&behind(Passage::Partly, tcp(1))), Some(Severity::Medium));
        assert_eq!(of(&behind(Passage::Closed, tcp(1))), Some(Severity::Low));
        assert_eq!(of(&behind(Passage::Partly, private)), Some(Severity::Low));
    }
}
