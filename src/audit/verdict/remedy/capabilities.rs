//! Commands that take capabilities away.

use std::path::Path;

use super::{inspect, quoted, start, unit_name};
use crate::audit::facts::Facts;
use crate::audit::inventory::{Holder, Listener};

/// In the unit where there is one; else where the rights come from: the file, or who started it.
pub(in crate::audit::verdict) fn fewer(
    listener: &Listener,
    holder: &Holder,
    facts: &Facts,
) -> String {
    let is_low = listener.port < 1024;
    let keep = if is_low { "CAP_NET_BIND_SERVICE" } else { "" };
    if let Some(container) = &holder.container {
        let add = if is_low { " --cap-add=NET_BIND_SERVICE" } else { "" };
        let inspect = inspect(container);
        return format!("{inspect}   # then create it anew with --cap-drop=ALL{add}");
    }
    if let Some(unit) = holder.unit.as_deref().filter(|unit| unit.ends_with(".service")) {
        let folder = quoted(&format!("/etc/systemd/system/{unit}.d"));
        return format!(
            "mkdir -p {folder} && printf '%s\\n' '[Service]' CapabilityBoundingSet={keep} \
             AmbientCapabilities={keep} >{folder}/50-fewer-capabilities.conf && systemctl \
             daemon-reload && systemctl restart {}",
            quoted(unit),
        );
    }
    let Some(exe) = &holder.exe else {
        return format!("getpcaps {}   # where it has them from", holder.pid);
    };
    let file = quoted(&exe.to_string_lossy());
    let is_interpreter = is_interpreter(exe);
    match (facts.capable_files.contains(exe), is_low) {
        // Whoever may start an interpreter runs any program with its rights.
        (true, true) if !is_interpreter => {
            format!("setcap cap_net_bind_service=ep {file}   # then start it again")
        }
        (true, true) => format!("setcap -r {file}; {}", start_with(holder, keep)),
        (true, false) => format!("setcap -r {file}   # then start it again"),
        (false, _) => format!(
            "{}   # its file gives it none of them: whatever starts it does",
            start_with(holder, keep)
        ),
    }
}

/// Ends it and starts it as its own user with no right but this.
fn start_with(holder: &Holder, keep: &str) -> String {
    format!(
        "kill {}; systemd-run --unit={} -p User={} -p AmbientCapabilities={keep} -p \
         CapabilityBoundingSet={keep} -p NoNewPrivileges=yes -- {}",
        holder.pid,
        unit_name(holder),
        quoted(&holder.user),
        start(holder),
    )
}

/// Whether the file runs programs that other people write: `python3.11`, `node`, `sh`.
fn is_interpreter(exe: &Path) -> bool {
    const NAMES: &[&str] = &[
        "python", "pypy", "perl", "ruby", "node", "nodejs", "deno", "bun", "java", "php",
        "php-fpm", "php-cgi", "lua", "luajit", "tclsh", "guile", "erl", "beam.smp", "mono",
        "dotnet", "sh", "bash", "dash", "zsh", "ksh", "fish", "awk", "gawk", "mawk", "busybox",
        "socat", "R",
    ];
    let name = exe.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    // A version at the end is none of the name.
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || ".-".contains(c));
    NAMES.iter().any(|known| *known == name || *known == stem)
}
