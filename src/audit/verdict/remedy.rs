//! Commands that mend things on this host. They are printed, never run.

mod capabilities;

pub(super) use capabilities::fewer;

use crate::audit::inventory::{Holder, Listener, Protocol};

/// One word of a shell command, in quotes where it needs them.
#[must_use]
pub fn quoted(word: &str) -> String {
    crate::shell::quote(word)
}

/// The command that started a program, each word safe in a shell. Only spaces tell its words
/// apart, and what it says of itself need not be true: what is clearly no command line is left
/// to the operator.
pub(super) fn start(holder: &Holder) -> String {
    let command = &holder.command;
    let first = command.split_ascii_whitespace().next().unwrap_or_default();
    let is_title = first.ends_with(':') || first.starts_with(['[', '-']);
    match &holder.exe {
        Some(exe) if is_title || command.contains(['?', '…']) => {
            format!("{} ARGUMENTS", quoted(&exe.to_string_lossy()))
        }
        _ => command.split_ascii_whitespace().map(quoted).collect::<Vec<_>>().join(" "),
    }
}

/// The process's name as systemd takes one for a unit (systemd.unit(5)).
pub(super) fn unit_name(holder: &Holder) -> String {
    let is_taken = |c: char| c.is_ascii_alphanumeric() || ":_.-".contains(c);
    let word = |c: char| if is_taken(c) { c } else { '_' };
    let name: String = holder.comm.trim_start_matches(['-', '.']).chars().map(word).collect();
    if name.is_empty() { format!("pid-{}", holder.pid) } else { name }
}

/// Ends the program and keeps it from starting again.
pub(super) fn stop(listener: &Listener) -> String {
    let Some(holder) = &listener.holder else { return find(listener) };
    if let Some(name) = holder.container.as_deref() {
        return stop_container(name);
    }
    let units: Vec<String> = [&holder.socket_unit, &holder.unit]
        .into_iter()
        .flatten()
        .map(|unit| quoted(unit))
        .collect();
    match (units.is_empty(), &*holder.comm) {
        (_, "inetd" | "inetutils-inetd") => format!(
            "update-inetd --disable {}   # or put a # before its line in /etc/inetd.conf",
            inetd_name(listener.port),
        ),
        (_, "xinetd") => format!(
            "sed -i 's/^\\([ \\t]*disable\\).*/\\1 = yes/' /etc/xinetd.d/{} && systemctl restart xinetd",
            inetd_name(listener.port),
        ),
        (true, _) => format!("kill {}   # and take it out of whatever starts it", holder.pid),
        (false, _) => format!("systemctl disable --now {}", units.join(" ")),
    }
}

/// The word of `/etc/inetd.conf` for a port that inetd serves.
fn inetd_name(port: u16) -> &'static str {
    const NAMES: &[(u16, &str)] = &[
        (7, "echo"),
        (9, "discard"),
        (13, "daytime"),
        (19, "chargen"),
        (21, "ftp"),
        (37, "time"),
        (69, "tftp"),
        (79, "finger"),
        (512, "exec"),
        (513, "login"),
        (514, "shell"),
    ];
    NAMES.iter().find(|(number, _)| *number == port).map_or("telnet", |(_, name)| name)
}

/// Starts the program anew, from the file that is there now.
pub(super) fn restart(holder: &Holder) -> String {
    match (&holder.container, &holder.unit) {
        (Some(container), _) => format!("{} restart {}", engine(container), id(container)),
        (None, Some(unit)) => format!("systemctl restart {}", quoted(unit)),
        (None, None) => {
            format!("kill {}   # and start it again: {}", holder.pid, start(holder))
        }
    }
}

/// Lets nobody but this host in, whatever the program does. Before the translation of addresses,
/// so that it holds for published ports of containers too.
pub(super) fn close(listener: &Listener) -> String {
    if let Some(container) = docker_port(listener) {
        return container;
    }
    let protocol = match listener.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    // A chain of its own that is emptied first: what is run twice is there once.
    let port = listener.port;
    let chain = format!("inet audit {protocol}_{port}");
    format!(
        "nft 'add table inet audit; add chain {chain} {{ type filter hook prerouting priority -150; \
         }}; flush chain {chain}; add rule {chain} iifname != \"lo\" {protocol} dport {port} ct state \
         new drop'   # better: make it listen on 127.0.0.1",
    )
}

/// A container's port is closed where it was published.
fn docker_port(listener: &Listener) -> Option<String> {
    let port = listener.port;
    (listener.holder.as_ref()?.comm == "docker-proxy").then(|| {
        format!(
            "docker ps --filter publish={port}   # then create it anew with -p 127.0.0.1:{port}:…"
        )
    })
}

/// A command of the table of services, for this very unit; else the firewall.
pub(super) fn of_service(template: &str, listener: &Listener) -> String {
    let holder = listener.holder.as_ref();
    let in_container = holder.is_some_and(|holder| holder.container.is_some());
    if template.is_empty() || in_container || docker_port(listener).is_some() {
        return close(listener);
    }
    match holder.and_then(|holder| holder.unit.as_deref()) {
        Some(unit) => template.replace("{unit}", &quoted(unit)),
        None if template.contains("{unit}") => close(listener),
        None => template.to_owned(),
    }
}

/// The lines of a drop-in that lets a unit bind its port without root.
#[must_use]
pub fn drop_in(unit: &str, user: &str, needs_bind: bool) -> Vec<String> {
    let capability = if needs_bind { "CAP_NET_BIND_SERVICE" } else { "" };
    let own: &[&str] = match unit {
        NGINX => &["RuntimeDirectory=nginx", "PIDFile=/run/nginx/nginx.pid"],
        _ => &[],
    };
    let lines = [
        "[Service]",
        &format!("User={user}"),
        &format!("AmbientCapabilities={capability}"),
        &format!("CapabilityBoundingSet={capability}"),
        "NoNewPrivileges=yes",
    ];
    lines.iter().chain(own).map(|line| (*line).to_owned()).collect()
}

const NGINX: &str = "nginx.service";

/// What a unit's files need before it can run as another user, where that is known: Debian's nginx
/// writes its number, its logs and what it buffers as root.
#[must_use]
pub fn preparation(unit: &str, user: &str) -> Option<String> {
    let user = quoted(user);
    (unit == NGINX).then(|| {
        format!(
            "sed -i 's#^pid .*#pid /run/nginx/nginx.pid;#' /etc/nginx/nginx.conf && chown -R {user} \
             /var/log/nginx /var/lib/nginx && sed -i 's/^\\( *create [0-9]* \\)[^ ]*/\\1{user}/' \
             /etc/logrotate.d/nginx"
        )
    })
}

/// Writes a drop-in and starts the unit with it.
pub(super) fn write_drop_in(unit: &str, user: &str, lines: &[String]) -> String {
    let folder = quoted(&format!("/etc/systemd/system/{unit}.d"));
    let lines: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
    let first = preparation(unit, user).map_or_else(String::new, |first| first + " && ");
    let also = if first.is_empty() { "" } else { ", its certificates' keys too" };
    format!(
        "getent passwd {user} >/dev/null || useradd --system --shell /usr/sbin/nologin {user}; \
         {first}mkdir -p {folder} && printf '%s\\n' {} >{folder}/50-unprivileged.conf && systemctl \
         daemon-reload && systemctl restart {unit}   # its files must belong to {user}{also}",
        lines.join(" "),
        user = quoted(user),
        unit = quoted(unit),
    )
}

/// Who it is can be seen with more rights only.
fn find(listener: &Listener) -> String {
    let flag = match listener.protocol {
        Protocol::Tcp => "t",
        Protocol::Udp => "u",
    };
    format!("sudo ss -{flag}lpn 'sport = :{}'   # who holds it; then stop that", listener.port)
}

fn stop_container(container: &str) -> String {
    format!("{} stop {}", engine(container), id(container))
}

/// Shows how a container was made.
pub(super) fn inspect(container: &str) -> String {
    format!("{} inspect {}", engine(container), id(container))
}

/// `docker 0123456789ab`
fn engine(container: &str) -> String {
    quoted(container.split_once(' ').map_or("docker", |(engine, _)| engine))
}

fn id(container: &str) -> String {
    quoted(container.split_once(' ').map_or(container, |(_, id)| id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{held, holder, root, tcp};

    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_it() {
        assert_eq!(quoted("nginx.service"), "nginx.service");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("$(x)'"), "'$(x)'\\'''");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_command_line_is_shown_as_far_as_it_is_one() {
        let of = |command: &str| {
            let mut app = holder("app");
            command.clone_into(&mut app.command);
            start(&app)
        };
        assert_eq!(of("a -x; rm  $(y)"), "a '-x;' rm '$(y)'");
        assert_eq!(of("nginx: master process nginx"), "/usr/sbin/app ARGUMENTS");
        assert_eq!(of("python3 -c import?x"), "/usr/sbin/app ARGUMENTS");
    }

    #[test]
    fn the_command_is_for_this_very_unit() {
        let telnet = held(tcp(23), root("telnetd"));
        assert_eq!(stop(&telnet), "systemctl disable --now telnetd.service");
        let mut bare = telnet.clone();
        bare.holder.as_mut().unwrap().unit = None;
        assert!(stop(&bare).starts_with("kill 812"));
        assert!(stop(&tcp(23)).contains("ss -tlpn"));
        let mut inside = telnet;
        inside.holder.as_mut().unwrap().container = Some("docker 0123456789ab".to_owned());
        assert_eq!(stop(&inside), "docker stop 0123456789ab");
        let redis = held(tcp(6379), holder("redis-server"));
        assert_eq!(of_service("restart {unit}", &redis), "restart redis-server.service");
        assert!(of_service("", &redis).contains("tcp dport 6379"));
        assert!(close(&held(tcp(80), root("docker-proxy"))).contains("-p 127.0.0.1:80:"));
    }

    #[test]
    fn a_port_that_is_closed_twice_has_one_rule() {
        let closed = close(&tcp(6379));
        let at = |part: &str| closed.find(part).unwrap_or_else(|| panic!("{part} in {closed}"));
        assert!(at("add chain inet audit tcp_6379 ") < at("flush chain inet audit tcp_6379;"));
        assert!(at("flush chain inet audit tcp_6379;") < at("add rule inet audit tcp_6379 "));
    }

    #[test]
    fn a_unit_is_given_no_name_that_systemd_refuses() {
        let named = |comm: &str| {
            unit_name(&crate::audit::inventory::Holder { comm: comm.to_owned(), ..holder("app") })
        };
        assert_eq!(named("app-2.1"), "app-2.1");
        assert_eq!(named("a b$(x)/"), "a_b__x__");
        assert_eq!(named("-"), "pid-812");
    }
}
