//! TLS: its version, and what the certificate says.

use std::time::{Duration, SystemTime};

use super::reach;
use crate::audit::facts::{Facts, TlsAnswer};
use crate::audit::inventory::{Inventory, Listener, Protocol};
use crate::audit::verdict::{Severity, Verdict, quoted};
use crate::tls::facts::{date, days_between};

fn answer<'a>(listener: &Listener, facts: &'a Facts) -> Option<&'a TlsAnswer> {
    let asked = listener.protocol == Protocol::Tcp && listener.namespace.is_none();
    facts.tls.get(&listener.port).filter(|_| asked)
}

pub(super) fn version(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let answer = answer(listener, facts)?;
    let (public, reason) = match (answer.is_old, answer.version) {
        (true, None) => {
            (Severity::High, "It speaks TLS 1.0 or 1.1 only, which are broken.".to_owned())
        }
        (true, Some(newest)) => {
            (Severity::Medium, format!("It still accepts TLS 1.0 or 1.1 beside {newest}."))
        }
        _ => return None,
    };
    Some(Verdict {
        severity: reach::severity(listener, public)?,
        reason,
        reference: "RFC 8996; Mozilla Server Side TLS, \"Intermediate\"",
        remedy: newer(listener),
    })
}

fn newer(listener: &Listener) -> String {
    let text = match listener.holder.as_ref().map_or("", |holder| holder.comm.as_str()) {
        "nginx" => {
            "grep -rlZ ssl_protocols /etc/nginx | xargs -0 sed -i --follow-symlinks \
             's/ssl_protocols .*/ssl_protocols TLSv1.2 TLSv1.3;/' && nginx -t && nginx -s reload"
        }
        "apache2" => {
            "sed -i 's/^\\( *SSLProtocol\\).*/\\1 -all +TLSv1.2 +TLSv1.3/' \
             /etc/apache2/mods-available/ssl.conf && systemctl reload apache2"
        }
        "dovecot" => {
            "printf 'ssl_min_protocol = TLSv1.2\\n' >/etc/dovecot/conf.d/99-tls.conf && systemctl \
             reload dovecot"
        }
        "master" => "postconf -e 'smtpd_tls_protocols = >=TLSv1.2' && systemctl reload postfix",
        "haproxy" => {
            "sed -i '/^global/a \\    ssl-default-bind-options ssl-min-ver TLSv1.2' \
             /etc/haproxy/haproxy.cfg && haproxy -c -f /etc/haproxy/haproxy.cfg && \
             systemctl reload haproxy"
        }
        _ => {
            return format!(
                "portcullis up https://localhost:{} --host NAME   # in front of it: TLS 1.2 and 1.3 \
                 only; or set its own lowest version",
                listener.port
            );
        }
    };
    text.to_owned()
}

const WEEK: i64 = 7;

pub(super) fn expiry(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let answer = answer(listener, facts)?;
    let shown = answer.certificate.as_ref()?;
    let left = days_between(facts.now, shown.not_after);
    let life = shown.not_after.duration_since(shown.not_before).unwrap_or_default();
    let until = date(shown.not_after);
    let names = match shown.names.as_slice() {
        [] => "no name".to_owned(),
        [first] => first.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    let whose = format!("The certificate for {names}, from {},", shown.issuer);
    let (public, reason) = match left {
        ..0 => (Severity::High, format!("{whose} ended on {until}.")),
        _ if shown.not_before > facts.now + Duration::from_secs(300) => {
            (Severity::High, format!("{whose} is not valid before {}.", date(shown.not_before)))
        }
        0..=WEEK => (Severity::High, format!("{whose} ends in {left} days, on {until}.")),
        _ if is_late(life, facts.now, shown.not_after) => (
            Severity::Medium,
            format!("{whose} ends in {left} days, on {until}, and was not renewed in time."),
        ),
        _ => {
            let version = answer.version.unwrap_or("TLS");
            (Severity::Info, format!("{version}; {} {left} days are left, until {until}.", &whose))
        }
    };
    let remedy = match (public, listener.holder.as_ref().map(|holder| holder.comm.as_str())) {
        (Severity::Info, _) => "portcullis certs   # nothing to do".to_owned(),
        (_, Some("portcullis")) => "portcullis certs && portcullis reload".to_owned(),
        _ => renew(listener, answer, facts),
    };
    let severity =
        if public == Severity::Info { Some(public) } else { reach::severity(listener, public) };
    Some(Verdict { severity: severity?, reason, reference: "RFC 5280 §4.1.2.5", remedy })
}

/// By the client that is here; what nobody issued, nobody renews.
fn renew(listener: &Listener, answer: &TlsAnswer, facts: &Facts) -> String {
    let is_self_issued = answer.certificate.as_ref().is_some_and(|shown| shown.is_self_issued);
    let is_unknown = ["", "localhost"].contains(&&*answer.name);
    let name = if is_unknown { "NAME" } else { &answer.name };
    match (is_self_issued, facts.has_certbot) {
        (false, true) => "certbot renew && systemctl reload nginx   # or the client that got this \
             certificate"
            .to_owned(),
        (false, false) => format!(
            "portcullis up https://localhost:{} --host {}   # it renews by itself; or with the client \
             that got this certificate, which is not certbot",
            listener.port,
            quoted(name),
        ),
        (true, _) => format!(
            "portcullis up https://localhost:{} --host {}   # an authority's certificate, renewed by \
             itself: this one was issued by itself, which no client renews",
            listener.port,
            quoted(name),
        ),
    }
}

/// Whether less than a fifth of a short life is left: renewal, which is due at a third, has failed.
fn is_late(life: Duration, now: SystemTime, end: SystemTime) -> bool {
    const SHORT: Duration = Duration::from_secs(120 * 86_400);
    const MONTH: Duration = Duration::from_secs(21 * 86_400);
    let left = end.duration_since(now).unwrap_or_default();
    left < if life <= SHORT { life / 5 } else { MONTH }
}

pub(super) fn name(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let answer = answer(listener, facts)?;
    let shown = answer.certificate.as_ref()?;
    let asked = &answer.name;
    let reason = if shown.names.is_empty() {
        "Its certificate has no name of a host: no client takes it for any.".to_owned()
    } else if !shown.covers && asked != "localhost" {
        format!("Who asks for {asked} gets a certificate for {}.", shown.names.join(", "))
    } else {
        // It fits, or nobody said that this name is served here.
        return None;
    };
    let name = if ["", "localhost"].contains(&&**asked) { "NAME" } else { asked };
    let remedy = if facts.has_certbot {
        format!("certbot certonly -d {}   # and name it in the server's file", quoted(name))
    } else {
        renew(listener, answer, facts)
    };
    Some(Verdict {
        severity: reach::severity(listener, Severity::Medium)?,
        reason,
        reference: "RFC 9525 §6 (verification of names)",
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::facts::Shown;
    use crate::audit::verdict::testing::{host, nothing, now, tcp};

    const DAY: Duration = Duration::from_secs(86_400);

    fn facts(answer: TlsAnswer) -> Facts {
        Facts { tls: [(443, answer)].into(), ..nothing() }
    }

    fn ending_in(days: i32, life: u32) -> Facts {
        let distance = DAY * days.unsigned_abs() + DAY / 2;
        let not_after = if days < 0 { now() - distance } else { now() + distance };
        let shown = Shown {
            names: vec!["a.test".to_owned()],
            issuer: "CA".to_owned(),
            not_before: not_after - DAY * life,
            not_after,
            covers: true,
            is_self_issued: false,
        };
        let (name, version) = ("a.test".to_owned(), Some("TLS 1.3"));
        facts(TlsAnswer { name, version, certificate: Some(shown), ..Default::default() })
    }

    #[test]
    fn the_days_that_are_left_decide() {
        let of = |days, life| expiry(&tcp(443), &host(vec![]), &ending_in(days, life)).unwrap();
        assert_eq!(of(-1, 90).severity, Severity::High);
        assert!(of(-1, 90).reason.contains("ended on 2025-12-30"), "{:?}", of(-1, 90));
        assert_eq!(of(5, 90).severity, Severity::High);
        assert_eq!(of(12, 90).severity, Severity::Medium);
        assert_eq!(of(25, 90).severity, Severity::Info);
        assert_eq!(of(15, 365).severity, Severity::Medium);
        assert_eq!(of(300, 365).severity, Severity::Info);
        assert!(of(300, 365).reason.starts_with("TLS 1.3; The certificate for a.test, from CA"));
    }

    #[test]
    fn old_versions_are_found() {
        let of = |is_old, new| {
            let answer = TlsAnswer { is_old, version: new, ..Default::default() };
            version(&tcp(443), &host(vec![]), &facts(answer)).map(|verdict| verdict.severity)
        };
        assert_eq!(of(false, Some("TLS 1.2")), None);
        assert_eq!(of(true, Some("TLS 1.2")), Some(Severity::Medium));
        assert_eq!(of(true, None), Some(Severity::High));
    }

    #[test]
    fn a_certificate_for_another_name_is_found() {
        let mut facts = ending_in(50, 90);
        assert_eq!(name(&tcp(443), &host(vec![]), &facts), None);
        let answer = facts.tls.get_mut(&443).unwrap();
        answer.certificate.as_mut().unwrap().covers = false;
        answer.name = "b.test".to_owned();
        let verdict = name(&tcp(443), &host(vec![]), &facts).unwrap();
        assert_eq!(verdict.reason, "Who asks for b.test gets a certificate for a.test.");
    }

    #[test]
    fn nobody_is_told_to_renew_with_a_client_that_cannot() {
        let mut facts = ending_in(-1, 90);
        let remedy = |facts: &Facts| expiry(&tcp(443), &host(vec![]), facts).unwrap().remedy;
        assert!(!remedy(&facts).contains("certbot renew"), "{}", remedy(&facts));
        facts.has_certbot = true;
        assert!(remedy(&facts).starts_with("certbot renew"), "{}", remedy(&facts));
        let shown = facts.tls.get_mut(&443).unwrap().certificate.as_mut().unwrap();
        shown.is_self_issued = true;
        assert!(!remedy(&facts).contains("certbot"), "{}", remedy(&facts));
    }

    #[test]
    fn a_certificate_without_a_name_is_found_whatever_was_asked() {
        let mut facts = ending_in(50, 90);
        let answer = facts.tls.get_mut(&443).unwrap();
        answer.name = "localhost".to_owned();
        answer.certificate.as_mut().unwrap().names.clear();
        let verdict = name(&tcp(443), &host(vec![]), &facts).unwrap();
        assert!(verdict.reason.contains("no name of a host"), "{verdict:?}");
    }
}
