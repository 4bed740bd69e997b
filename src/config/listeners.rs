//! Which addresses can be bound together, and which peers may be believed.

use std::net::IpAddr;

use ipnet::IpNet;

use super::problems::Problem;
use super::read::{At, Field, OneOrMany};
use super::report::Report;
use super::resolve::values;
use super::source::Span;
use super::{Listen, file};

/// What a key says, or every address with the port that is its default.
pub(super) fn listeners(field: &Field<OneOrMany<Listen>>, port: u16) -> Vec<Listen> {
    if field.is_absent() { vec![Listen::Any(port)] } else { values(field) }
}

/// Two listeners that cannot both be bound, and none at all.
pub(super) fn judge_listeners(
    file: &file::Server,
    place: &Span,
    http: &[Listen],
    https: &[Listen],
    report: &mut Report<'_>,
) {
    let whole = |field: &Field<OneOrMany<Listen>>| {
        !matches!(field, Field::Wrong) && field.value().is_none_or(|list| !list.partial)
    };
    if http.is_empty() && https.is_empty() && whole(&file.http) && whole(&file.https) {
        let span = file.https.given().map_or(place, |at| &at.span);
        let problem = Problem::error("`http` and `https` are both empty: nothing would be served")
            .help("leave one of them out to have its default, `\":80\"` and `\":443\"`");
        report.add(span, problem);
    }
    let written = [("http", &file.http, http), ("https", &file.https, https)];
    let mut taken: Vec<(&str, Listen)> = Vec::new();
    for (key, field, list) in written {
        for (index, listen) in list.iter().enumerate() {
            if let Some((other, first)) = taken.iter().find(|(_, first)| overlap(*first, *listen)) {
                let at = field.value().and_then(|list| list.items.get(index)).map(|at| &at.span);
                // The default of `https` collides with what was written for `http`.
                let at = at.or_else(|| file.http.given().map(|at| &at.span));
                let problem = Problem::error(format!(
                    "`{listen}` in `{key}` is taken by `{first}` in `{other}`"
                ))
                .allowed("every address once; `:PORT` is every address with that port");
                report.add(at.unwrap_or(place), problem);
            }
            taken.push((key, *listen));
        }
    }
}

/// Whether two listeners cannot be bound at the same time. Port 0 is a new port each time.
pub(super) fn overlap(a: Listen, b: Listen) -> bool {
    let (ip_a, port_a) = parts(a);
    let (ip_b, port_b) = parts(b);
    let meets = match (ip_a, ip_b) {
        (Some(a), Some(b)) => {
            a == b
                || a.is_unspecified() && a.is_ipv4() == b.is_ipv4()
                || b.is_unspecified() && a.is_ipv4() == b.is_ipv4()
        }
        (None, _) | (_, None) => true,
    };
    port_a == port_b && port_a != 0 && meets
}

fn parts(listen: Listen) -> (Option<IpAddr>, u16) {
    match listen {
        Listen::Any(port) => (None, port),
        Listen::Addr(address) => (Some(address.ip()), address.port()),
    }
}

/// Trust in everybody, and PROXY headers that nobody may send.
pub(super) fn judge_trust(file: &file::Server, report: &mut Report<'_>) {
    let list = file.trusted_proxies.value();
    for At { value, span } in list.map(|list| &*list.items).unwrap_or_default() {
        if IpNet::prefix_len(value) == 0 {
            let problem = Problem::warning(format!(
                "`{value}` believes everybody: any client can name any address as its own"
            ))
            .help("name the networks of the proxies in front");
            report.add(span, problem);
        }
    }
    if let Some(At { value: true, span }) = file.proxy_protocol.given()
        && list.is_none_or(|list| list.items.is_empty() && !list.partial)
    {
        let problem = Problem::warning("`proxy_protocol` has no effect: no proxy is trusted")
            .help("name the networks of the proxies in `trusted_proxies`");
        report.add(span, problem);
    }
}
