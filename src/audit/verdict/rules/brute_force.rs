//! sshd without anything that bans who tries passwords.

use super::reach;
use crate::audit::facts::Facts;
use crate::audit::inventory::{Inventory, Listener, Protocol};
use crate::audit::verdict::{Severity, Verdict};

const REMEDY: &str = "apt-get install -y fail2ban python3-systemd && printf '[sshd]\\nenabled = \
    true\\nbackend = systemd\\n' >/etc/fail2ban/jail.d/sshd.local && systemctl restart fail2ban";

const KEYS_ONLY: &str = "printf 'PasswordAuthentication no\\nKbdInteractiveAuthentication no\\n' \
    >/etc/ssh/sshd_config.d/00-keys-only.conf && sshd -t && systemctl reload ssh   # only with a \
    key in place";

pub(super) fn check(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let comm = listener.holder.as_ref().map(|holder| holder.comm.as_str());
    let by_systemd = comm == Some("systemd") && listener.port == 22;
    let is_sshd = comm.map_or(listener.port == 22, |comm| ["sshd", "dropbear"].contains(&comm));
    if listener.protocol != Protocol::Tcp || !(is_sshd || by_systemd) {
        return None;
    }
    if facts.guard.is_some() || facts.sshd.penalties {
        return None;
    }
    let (public, how) = match (facts.sshd.root_password, facts.sshd.passwords) {
        (true, _) => (Severity::High, "and lets root in with a password"),
        (false, true) => (Severity::Medium, "and takes passwords"),
        (false, false) => (Severity::Low, "though it takes keys only"),
    };
    let remedy = if facts.sshd.passwords {
        format!("{REMEDY}   # better: {KEYS_ONLY}")
    } else {
        REMEDY.to_owned()
    };
    Some(Verdict {
        severity: reach::severity(listener, public)?,
        reason: format!(
            "sshd is open to {} {how}, and nothing bans who keeps trying: no fail2ban jail, sshguard \
             or crowdsec.",
            reach::who(listener),
        ),
        reference: "CIS Debian Linux Benchmark, section 5.1 (SSH server); sshd_config(5), \
            \"PerSourcePenalties\"",
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::facts::Sshd;
    use crate::audit::verdict::testing::{held, host, local, nothing, root, tcp};

    #[test]
    fn an_sshd_without_a_guard_is_found() {
        let sshd = held(tcp(22), root("sshd"));
        let judged = |facts: &Facts| check(&sshd, &host(vec![]), facts).map(|v| v.severity);
        assert_eq!(judged(&nothing()), Some(Severity::Medium));
        let keys = Sshd { passwords: false, ..Sshd::default() };
        assert_eq!(judged(&Facts { sshd: keys, ..nothing() }), Some(Severity::Low));
        let wide = Sshd { root_password: true, ..Sshd::default() };
        assert_eq!(judged(&Facts { sshd: wide, ..nothing() }), Some(Severity::High));
        let new = Sshd { penalties: true, ..Sshd::default() };
        assert_eq!(judged(&Facts { sshd: new, ..nothing() }), None);
        let guarded = Facts { guard: Some("fail2ban".to_owned()), ..nothing() };
        assert_eq!(judged(&guarded), None);
    }

    #[test]
    fn sshd_is_found_on_other_ports_and_nothing_else_is_sshd() {
        let judged = |listener| check(&listener, &host(vec![]), &nothing());
        assert!(judged(held(tcp(2222), root("sshd"))).is_some());
        assert!(judged(tcp(22)).is_some());
        assert_eq!(judged(held(tcp(80), root("nginx"))), None);
        assert_eq!(judged(held(local(22), root("sshd"))), None);
    }
}
