//! Web servers: what goes in clear text, and whether browsers are told not to.

use super::reach;
use crate::audit::facts::{Facts, HttpAnswer};
use crate::audit::inventory::{Exposure, Inventory, Listener, Protocol};
use crate::audit::verdict::{Severity, Verdict, quoted};

/// What this host's listener answered; those of other namespaces were not asked.
fn answer<'a>(listener: &Listener, facts: &'a Facts) -> Option<&'a HttpAnswer> {
    let asked = listener.protocol == Protocol::Tcp && listener.namespace.is_none();
    facts.http.get(&listener.port).filter(|_| asked)
}

pub(super) fn plain_http(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let answer = answer(listener, facts).filter(|_| listener.port == 80)?;
    let (status, host) = (answer.status, &answer.host);
    let (public, reason) = match status {
        _ if answer.leads_to_https() => return None,
        _ if answer.challenges => {
            (Severity::High, format!("It asks for a password in clear text ({status} for {host})."))
        }
        300..400 => {
            let to = answer.location.as_deref().unwrap_or("nowhere");
            let to = shown(to);
            (
                Severity::Medium,
                format!("It redirects, but not to HTTPS ({status} for {host}, to {to})."),
            )
        }
        400..500 => (
            Severity::Low,
            format!("It does not redirect to HTTPS what it does not know ({status} for {host})."),
        ),
        _ => (
            Severity::Medium,
            format!(
                "It serves in clear text and does not redirect to HTTPS ({status} for {host})."
            ),
        ),
    };
    Some(Verdict {
        severity: reach::severity(listener, public)?,
        reason,
        reference: "RFC 6797 §7.2; Mozilla Web Security Guidelines, \"HTTP redirections\"",
        remedy: redirect(listener, &quoted(&answer.host)),
    })
}

/// A location is a stranger's text.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// For the server that it is.
fn redirect(listener: &Listener, name: &str) -> String {
    let comm = listener.holder.as_ref().map_or("", |holder| holder.comm.as_str());
    let name = if name == "localhost" { "NAME" } else { name };
    match comm {
        "nginx" => "sed -i --follow-symlinks 's#^\\( *\\)listen .*\\b80\\b.*;#&\\n\\1if ($scheme = http) { \
             return 308 https://$host$request_uri; }#' /etc/nginx/sites-enabled/* && nginx -t && \
             nginx -s reload   # the files with `listen 80`"
            .to_owned(),
        "apache2" => format!(
            "sed -i --follow-symlinks '/<VirtualHost .*:80>/a Redirect permanent / https://{name}/' \
             /etc/apache2/sites-enabled/*.conf && apachectl configtest && systemctl reload apache2"
        ),
        "portcullis" => {
            "portcullis check   # take `redirect = \"off\"` out of the site; then: portcullis reload"
                .to_owned()
        }
        _ => format!(
            "portcullis up PORT --host {name}   # after it has moved to a high port on 127.0.0.1: \
             Portcullis then redirects 80 to HTTPS"
        ),
    }
}

pub(super) fn plain_application(
    listener: &Listener,
    _: &Inventory,
    facts: &Facts,
) -> Option<Verdict> {
    let answer = answer(listener, facts).filter(|_| listener.port != 80)?;
    let is_fronted = facts.fronted.iter().any(|fronted| fronted.port == listener.port);
    if is_fronted || answer.leads_to_https() {
        return None;
    }
    let public = if answer.challenges { Severity::High } else { Severity::Medium };
    let severity = reach::severity(listener, public)?;
    let (program, who) = (reach::program(listener), reach::who(listener));
    let password = if answer.challenges { ", passwords too" } else { "" };
    Some(Verdict {
        severity,
        reason: format!("{program} speaks plain HTTP to {who}{password}."),
        reference: "RFC 9110 §17.1; OWASP ASVS 9.1 (communication security)",
        remedy: format!(
            "portcullis up {} --host NAME   # HTTPS in front of it; and let it listen on 127.0.0.1",
            listener.port,
        ),
    })
}

pub(super) fn no_hsts(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let asked = listener.protocol == Protocol::Tcp && listener.namespace.is_none();
    let answer = facts.tls.get(&listener.port).filter(|_| asked)?.http.as_ref()?;
    let is_out = listener.exposure > Exposure::Loopback;
    if answer.hsts.is_some() || !(200..400).contains(&answer.status) || !is_out {
        return None;
    }
    let is_ours = listener.holder.as_ref().is_some_and(|holder| holder.comm == "portcullis");
    let remedy = if is_ours {
        "portcullis check && portcullis reload   # with `hsts = \"ramp\"` in the site"
    } else {
        "add_header Strict-Transport-Security \"max-age=31536000\" always;   # nginx' line, in the \
         server; begin with max-age=300"
    };
    Some(Verdict {
        severity: Severity::Info,
        reason: "Browsers are not told to come by HTTPS only: no Strict-Transport-Security."
            .to_owned(),
        reference: "RFC 6797 §7.1",
        remedy: remedy.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::facts::{Fronted, TlsAnswer};
    use crate::audit::verdict::testing::{held, holder, host, local, nothing, tcp};

    fn answering(port: u16, status: u16, location: Option<&str>) -> Facts {
        let location = location.map(ToOwned::to_owned);
        let answer = HttpAnswer { host: "a.test".into(), status, location, ..Default::default() };
        Facts { http: [(port, answer)].into(), ..nothing() }
    }

    #[test]
    fn port_80_has_to_lead_to_https() {
        let judged = |status, location| {
            let facts = answering(80, status, location);
            plain_http(&tcp(80), &host(vec![]), &facts).map(|verdict| verdict.severity)
        };
        assert_eq!(judged(308, Some("https://a.test/")), None);
        assert_eq!(judged(301, Some("http://www.a.test/")), Some(Severity::Medium));
        assert_eq!(judged(200, None), Some(Severity::Medium));
        assert_eq!(judged(404, None), Some(Severity::Low));
        let mut locked = answering(80, 401, None);
        locked.http.get_mut(&80).unwrap().challenges = true;
        let verdict = plain_http(&tcp(80), &host(vec![]), &locked).unwrap();
        assert_eq!(verdict.severity, Severity::High);
        assert_eq!(plain_http(&local(80), &host(vec![]), &locked), None);
        assert_eq!(plain_http(&tcp(80), &host(vec![]), &nothing()), None);
    }

    #[test]
    fn the_line_is_for_the_server_that_it_is() {
        let facts = answering(80, 200, None);
        let remedy =
            |name| plain_http(&held(tcp(80), holder(name)), &host(vec![]), &facts).unwrap().remedy;
        assert!(remedy("nginx").contains("nginx -t"));
        assert!(remedy("python3").contains("portcullis up PORT --host a.test"));
    }

    #[test]
    fn an_application_that_everybody_reaches_wants_a_proxy() {
        let mut facts = answering(3000, 200, None);
        let judged = |facts: &Facts| plain_application(&tcp(3000), &host(vec![]), facts);
        assert_eq!(judged(&facts).unwrap().severity, Severity::Medium);
        assert!(judged(&facts).unwrap().remedy.contains("portcullis up 3000"));
        assert_eq!(plain_application(&local(3000), &host(vec![]), &facts), None);
        let redirects = answering(3000, 308, Some("https://a.test:8443/"));
        assert_eq!(judged(&redirects), None);
        let (proxy, source) = ("nginx".to_owned(), "a file".to_owned());
        facts.fronted.push(Fronted { port: 3000, proxy, source });
        assert_eq!(judged(&facts), None);
    }

    #[test]
    fn a_missing_hsts_is_told() {
        let with = |hsts: Option<&str>| {
            let hsts = hsts.map(ToOwned::to_owned);
            let http = Some(HttpAnswer { status: 200, hsts, ..Default::default() });
            let answer = TlsAnswer { http, ..Default::default() };
            let facts = Facts { tls: [(443, answer)].into(), ..nothing() };
            no_hsts(&tcp(443), &host(vec![]), &facts).map(|verdict| verdict.severity)
        };
        assert_eq!(with(None), Some(Severity::Info));
        assert_eq!(with(Some("max-age=1")), None);
    }
}
