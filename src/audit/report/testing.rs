//! A report for the tests of its forms.

use super::{Report, showable};
use crate::audit::verdict::testing::{held, holder, host, local, nothing, root, tcp};

/// Telnet, Redis and an application for this host; three findings.
pub(crate) fn report() -> Report {
    let mut app = root("app");
    app.comm = "a|b`<i>".to_owned();
    app.package = None;
    let mut inventory = host(vec![
        held(tcp(23), root("telnetd")),
        held(tcp(6379), holder("redis-server")),
        held(local(8080), app),
    ]);
    inventory.unseen.push("The firewall could not be read. To see it: sudo portcullis".to_owned());
    let mut report = Report::of(&showable(inventory), &nothing());
    let kept = ["clear-text", "exposed-service"];
    report.findings.retain(|f| kept.contains(&f.rule) || f.port == 8080);
    report
}
