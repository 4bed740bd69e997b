//! The table of listeners: one row each, many alike in one.

use super::{Entry, Report};
use crate::audit::inventory::{Exposure, Listener, Passage, Protocol};

/// The names of the columns.
pub(super) const COLUMNS: [&str; 7] =
    ["Port", "Service", "Reached from", "Process", "User", "Unit", "Package"];

/// So many ports of one holder in a row are told together.
const ALIKE: usize = 8;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) cells: [String; 7],
    /// From where it is reached.
    pub(super) exposure: Exposure,
}

/// All of them, by port.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut rest = report.listeners.as_slice();
    while let Some(first) = rest.first() {
        let alike = rest.iter().take_while(|entry| are_alike(first, entry)).count();
        let count = if alike >= ALIKE { alike } else { 1 };
        let (run, others) = rest.split_at(count);
        rows.push(row(first, run.last().unwrap_or(first), count));
        rest = others;
    }
    rows
}

fn are_alike(one: &Entry, other: &Entry) -> bool {
    let (one, other) = (&one.listener, &other.listener);
    let pid = |listener: &Listener| listener.holder.as_ref().map(|holder| holder.pid);
    one.port.min(other.port) >= 1024
        && one.protocol == other.protocol
        && one.exposure == other.exposure
        && one.namespace == other.namespace
        && pid(one) == pid(other)
}

fn row(first: &Entry, last: &Entry, count: usize) -> Row {
    let listener = &first.listener;
    let protocol = protocol(listener.protocol);
    let (port, service) = match count {
        1 => (format!("{}/{protocol}", listener.port), first.service.clone()),
        _ => {
            let ports = format!("{}-{}/{protocol}", listener.port, last.listener.port);
            (ports, Some(format!("{count} ports")))
        }
    };
    let port = match &listener.namespace {
        Some(namespace) => format!("{port} in {namespace}"),
        None => port,
    };
    let dash = || "-".to_owned();
    let [process, user, unit, package] = match &listener.holder {
        Some(holder) => {
            let more = match holder.others.len() {
                0 => String::new(),
                others => format!(" +{others}"),
            };
            let place = holder.container.clone().or_else(|| holder.unit.clone());
            let place = place.or_else(|| holder.socket_unit.clone());
            [
                format!("{} ({}{more})", holder.comm, holder.pid),
                holder.user.clone(),
                place.unwrap_or_else(dash),
                holder.package.clone().unwrap_or_else(dash),
            ]
        }
        None => ["?".to_owned(), crate::audit::sockets::user_name(listener.uid), dash(), dash()],
    };
    let service = service.unwrap_or_else(dash);
    let cells = [port, service, from(listener), process, user, unit, package];
    Row { cells, exposure: listener.exposure }
}

/// `everywhere`, `10.0.0.1`, `this host`; with what the firewall does in brackets: `(closed)`.
fn from(listener: &Listener) -> String {
    let is_every = listener.addresses.iter().any(|ip| ip.to_canonical().is_unspecified());
    let from = match (listener.exposure, &listener.addresses) {
        (Exposure::Loopback, _) => "this host".to_owned(),
        (Exposure::Public, _) if is_every => "everywhere".to_owned(),
        (_, addresses) => {
            let widest = addresses.iter().max_by_key(|ip| (Exposure::of(**ip), ip.is_ipv4()));
            let widest = widest.map_or_else(|| "?".to_owned(), ToString::to_string);
            match addresses.len() {
                0 | 1 => widest,
                count => format!("{widest} +{}", count - 1),
            }
        }
    };
    let passage = listener.firewall.as_ref().map(|firewall| firewall.passage);
    match passage {
        Some(Passage::Closed) => from + " (closed)",
        Some(Passage::Partly) => from + " (partly)",
        Some(Passage::Forwarded) => from + " (forwarded)",
        Some(Passage::Open) | None => from,
    }
}

/// `tcp`
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::report::testing::report;
    use crate::audit::verdict::testing::{held, holder, tcp};

    #[test]
    fn a_row_tells_port_service_exposure_and_holder() {
        let rows = rows(&report());
        assert_eq!(
            rows[0].cells.each_ref().map(String::as_str),
            [
                "23/tcp",
                "telnet",
                "everywhere",
                "telnetd (812)",
                "root",
                "telnetd.service",
                "telnetd"
            ]
        );
        assert_eq!(rows[2].cells[2], "this host");
    }

    #[test]
    fn many_ports_of_one_process_are_one_row() {
        let mut report = report();
        let entry = |port| Entry { service: None, listener: held(tcp(port), holder("many")) };
        report.listeners = (20_000..20_200).map(entry).chain([entry(80), entry(81)]).collect();
        let rows = rows(&report);
        let ports: Vec<&str> = rows.iter().map(|row| row.cells[0].as_str()).collect();
        assert_eq!(ports, ["20000-20199/tcp", "80/tcp", "81/tcp"]);
        assert_eq!(rows[0].cells[1], "200 ports");
    }
}
