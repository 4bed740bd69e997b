//! The program behind a port: whether it is the one to be expected, and still its file.

use std::time::SystemTime;

use super::reach;
use crate::audit::facts::Facts;
use crate::audit::inventory::{ExeState, Exposure, Holder, Inventory, Listener, Protocol};
use crate::audit::registry::{self, Knowledge, Range};
use crate::audit::verdict::{Severity, Verdict, quoted, remedy};

pub(super) fn unexpected(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let holder = listener.holder.as_ref()?;
    let known = knowledge(listener, facts)?;
    // Who listens for others, and what a container holds, says nothing of the program.
    let is_other = !["systemd", "init", "docker-proxy", "inetd", "inetutils-inetd", "xinetd"]
        .contains(&holder.comm.as_str());
    if !is_other || holder.container.is_some() || is_usual(holder, known) {
        return None;
    }
    let public = match listener.port {
        22 => Severity::High,
        80 | 443 => Severity::Low,
        _ => Severity::Medium,
    };
    let severity = reach::severity(listener, public).unwrap_or(Severity::Low);
    let package = holder.package.as_ref().map_or_else(
        || "of no Debian package that is known".to_owned(),
        |package| format!("of the package {package}"),
    );
    Some(Verdict {
        severity,
        reason: format!(
            "{} ({package}) holds a port that {} usually holds.",
            holder.comm,
            known.holders.first().map_or("nobody", |holder| &holder.program),
        ),
        reference: "RFC 6335 §8.1 (registered ports); MITRE ATT&CK T1036 (masquerading)",
        remedy: format!(
            "ls -l /proc/{0}/exe && tr '\\0' ' ' </proc/{0}/cmdline   # if you do not know it: {1}",
            holder.pid,
            remedy::stop(listener),
        ),
    })
}

/// What the reference of ports knows of a well-known port, where it names programs.
fn knowledge<'f>(listener: &Listener, facts: &'f Facts) -> Option<&'f Knowledge> {
    let protocol = match listener.protocol {
        Protocol::Tcp => registry::Protocol::Tcp,
        Protocol::Udp => registry::Protocol::Udp,
    };
    let entry = facts.registry.lookup(listener.port, protocol);
    let is_well_known = entry.range() == Range::WellKnown;
    entry.knowledge.into_iter().find(|known| is_well_known && !known.holders.is_empty())
}

fn is_usual(holder: &Holder, known: &Knowledge) -> bool {
    let file = holder.exe.as_ref().and_then(|exe| exe.file_name()?.to_str());
    let is_program = [Some(holder.comm.as_str()), file];
    is_program.into_iter().flatten().any(|name| known.expects_program(name))
        || holder.package.as_deref().is_some_and(|package| known.expects_package(package))
}

pub(super) fn replaced(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let holder = listener.holder.as_ref()?;
    let exe = holder.exe.as_ref().map_or_else(String::new, |exe| exe.display().to_string());
    let since = holder.since.map(|since| age(since, facts.now)).unwrap_or_default();
    let name = &holder.comm;
    let (severity, reason) = match holder.exe_state {
        ExeState::Present | ExeState::Unknown => return None,
        ExeState::Replaced => (
            if listener.exposure == Exposure::Loopback { Severity::Low } else { Severity::Medium },
            format!("{name} still runs the program from before its file was replaced{since}."),
        ),
        ExeState::Deleted if exe.starts_with("/memfd:") => {
            (Severity::High, format!("{name} runs a program that never was a file{since}."))
        }
        ExeState::Deleted if is_hidden(&exe) => (
            Severity::High,
            format!(
                "{name} runs a program whose file is gone, from where everybody may write{since}."
            ),
        ),
        ExeState::Deleted => (
            Severity::Medium,
            format!(
                "{name} runs a program whose file is gone{since}: only its copy in memory is left."
            ),
        ),
    };
    let severity = if reach::is_shut(listener) { severity.lower() } else { severity };
    let remedy = match holder.exe_state {
        ExeState::Replaced => remedy::restart(holder),
        _ => format!(
            "sha256sum /proc/{0}/exe && cp /proc/{0}/exe /root/exe-{0}   # look at it first; then: {1}",
            holder.pid,
            again(listener, holder),
        ),
    };
    let reference = match holder.exe_state {
        ExeState::Replaced => {
            "needrestart(1); Debian Reference, \"Restarting services after upgrades\""
        }
        _ => "proc_pid_exe(5); MITRE ATT&CK T1070.004 (file deletion)",
    };
    Some(Verdict { severity, reason, reference, remedy })
}

/// What can be done with a program that has no file to be started from.
fn again(listener: &Listener, holder: &Holder) -> String {
    match (&holder.package, &holder.container) {
        (Some(package), None) => {
            let reinstall = format!("apt-get install --reinstall {}", quoted(package));
            match &holder.unit {
                Some(_) => format!("{reinstall} && {}", remedy::restart(holder)),
                None => format!("{reinstall} && kill {}", holder.pid),
            }
        }
        (None, None) => remedy::stop(listener),
        (_, Some(_)) => remedy::restart(holder),
    }
}

/// Where programs hide: in memory, and in folders that everybody may write.
fn is_hidden(exe: &str) -> bool {
    ["/memfd:", "/dev/shm/", "/tmp/", "/var/tmp/"].iter().any(|place| exe.starts_with(place))
}

/// `, 3 days after it started` is not known; how long it has run is.
fn age(since: SystemTime, now: SystemTime) -> String {
    let days = now.duration_since(since).unwrap_or_default().as_secs() / 86_400;
    match days {
        0 => " (running since today)".to_owned(),
        days => format!(" (running for {days} days)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{held, holder, host, local, nothing, tcp};

    #[test]
    fn the_usual_programs_are_expected_and_others_named() {
        let judged =
            |port, name| unexpected(&held(tcp(port), holder(name)), &host(vec![]), &nothing());
        for (port, name) in [(22, "sshd"), (80, "nginx"), (443, "portcullis"), (53, "named")] {
            assert_eq!(judged(port, name), None, "{port} {name}");
        }
        assert_eq!(judged(22, "python3").unwrap().severity, Severity::High);
        assert_eq!(judged(25, "python3").unwrap().severity, Severity::Medium);
        assert_eq!(judged(80, "python3").unwrap().severity, Severity::Low);
        assert!(judged(22, "python3").unwrap().reason.contains("that sshd usually holds"));
        assert_eq!(judged(8080, "python3"), None);
        assert_eq!(judged(22, "systemd"), None);
    }

    #[test]
    fn a_replaced_program_wants_a_restart_of_its_unit() {
        let mut old = holder("app");
        old.exe_state = ExeState::Replaced;
        let verdict = replaced(&held(tcp(8080), old.clone()), &host(vec![]), &nothing()).unwrap();
        assert_eq!(verdict.severity, Severity::Medium);
        assert_eq!(verdict.remedy, "systemctl restart app.service");
        let within = replaced(&held(local(8080), old.clone()), &host(vec![]), &nothing()).unwrap();
        assert_eq!(within.severity, Severity::Low);
        old.exe_state = ExeState::Present;
        assert_eq!(replaced(&held(tcp(8080), old), &host(vec![]), &nothing()), None);
    }

    #[test]
    fn a_deleted_program_is_looked_at_first() {
        let mut gone = holder("app");
        gone.exe_state = ExeState::Deleted;
        let listener = held(tcp(8080), gone.clone());
        let verdict = replaced(&listener, &host(vec![]), &nothing()).unwrap();
        assert_eq!(verdict.severity, Severity::Medium);
        assert!(verdict.remedy.starts_with("sha256sum /proc/812/exe"), "{verdict:?}");
        gone.exe = Some("/memfd:x".into());
        let verdict = replaced(&held(tcp(8080), gone), &host(vec![]), &nothing()).unwrap();
        assert_eq!(verdict.severity, Severity::High);
    }

    #[test]
    fn a_program_without_a_file_is_not_said_to_start_from_it() {
        let mut gone = holder("app");
        gone.exe_state = ExeState::Deleted;
        (gone.unit, gone.command) = (None, "dd/app -x".to_owned());
        gone.exe = Some("/opt/dd/app".into());
        let judged = |gone: &Holder| {
            replaced(&held(tcp(8080), gone.clone()), &host(vec![]), &nothing()).unwrap()
        };
        assert!(judged(&gone).remedy.ends_with("apt-get install --reinstall app && kill 812"));
        gone.package = None;
        let verdict = judged(&gone);
        assert!(!verdict.remedy.contains("dd/app"), "{verdict:?}");
        assert!(verdict.remedy.contains("then: kill 812   #"), "{verdict:?}");
        assert!(verdict.reason.contains("whose file is gone"), "{verdict:?}");
        gone.exe = Some("/usr/bin/app".into());
        assert!(!judged(&gone).reason.contains("cannot be examined"));
    }
}
