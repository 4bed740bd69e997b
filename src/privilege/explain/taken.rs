//! An address that somebody else has: who that is, and how to have it free.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::host::Host;
use super::serving::{already, is_portcullis, other};
use super::{Explanation, Wanted};
use crate::audit::sockets::{Listening, Process, State, activation, user_name};
use crate::shell::quote;

/// Programs that are services under the name of their program on every distribution that has them.
const SERVICES: &[&str] =
    &["apache2", "caddy", "haproxy", "httpd", "lighttpd", "nginx", "varnishd"];

/// Helpers of container engines that hold the port which a container publishes.
const PUBLISHERS: &[(&str, &str)] =
    &[("docker-proxy", "docker"), ("rootlessport", "podman"), ("conmon", "podman")];

/// Who holds the address, and how to make room. `sockets` are those that stand in the way, in
/// order; others among them are passed over.
#[must_use]
pub fn taken(wanted: Wanted<'_>, sockets: &[Listening], host: &Host) -> Explanation {
    let port = wanted.listen.port();
    let mut seen = HashSet::new();
    let mut holders: Vec<Listening> =
        sockets.iter().filter(|socket| socket.collides_with(wanted.listen)).cloned().collect();
    holders.retain(|socket| seen.insert(who(socket)));
    if let Some(serving) = wanted.serving.filter(|serving| holders.iter().any(|s| serving.holds(s)))
    {
        return Explanation { holders, ..already(wanted, serving) };
    }
    if holders.is_empty() {
        let mut explanation = Explanation::new(format!(
            "Port {port} is taken, but no socket that this process can see holds it: one that went \
             away just now, or one that is bound without listening, which this kernel does not \
             tell."
        ));
        explanation.way("try again", "");
        return explanation;
    }
    let names: Vec<String> = holders.iter().map(named).collect();
    let mut explanation =
        Explanation::new(format!("Port {port} is held by {}.", names.join(" and by ")));
    for socket in &holders {
        let asked = match &socket.process {
            Some(process) if is_portcullis(process) && !is_ours(socket) => {
                other(&mut explanation, process, host)
            }
            _ => false,
        };
        let before = explanation.ways.len();
        make_room(&mut explanation, socket, host);
        for way in explanation.ways.iter_mut().skip(before).filter(|_| asked) {
            way.note = format!("if it is not meant to serve: {}", way.note);
        }
    }
    explanation.ways.dedup();
    if !holders.iter().any(is_ours) {
        explanation.way(wanted.elsewhere(0), "another port");
    }
    explanation.holders = holders;
    explanation
}

/// What tells one holder from another.
fn who(socket: &Listening) -> (Option<u32>, Option<std::net::SocketAddr>) {
    match &socket.process {
        // Systemd holds the sockets of many.
        Some(process) if process.pid != 1 => (Some(process.pid), None),
        _ => (None, Some(socket.address)),
    }
}

fn is_ours(socket: &Listening) -> bool {
    socket.process.as_ref().is_some_and(|process| process.pid == std::process::id())
}

/// `nginx (pid 812, user root, nginx.service) on [::]:80`
fn named(socket: &Listening) -> String {
    let (holder, address) = (socket.holder(), socket.address);
    match socket.state {
        State::Listens => format!("{holder} on {address}"),
        State::Bound => format!("{holder} on {address}, bound without listening"),
        State::Connected(other) => {
            format!("{holder}, whose connection to {other} goes out from it")
        }
    }
}

fn make_room(explanation: &mut Explanation, socket: &Listening, host: &Host) {
    let port = socket.address.port();
    let root = |command: String| host.as_root(&[command]);
    let Some(process) = &socket.process else {
        return hidden(explanation, socket, host);
    };
    let disable = |units: &str| root(format!("systemctl disable --now {units}"));
    let for_good = "stops it now, and keeps it from starting at boot";
    if let State::Connected(_) = socket.state {
        explanation.way("try again", "when the connection has ended");
        let others = host.reserved_ports.trim();
        let others = if others.is_empty() { String::new() } else { format!("{others},") };
        let reserve = format!("sysctl -w net.ipv4.ip_local_reserved_ports={others}{port}");
        explanation.way(root(reserve), "then the kernel gives this port to no connection");
    } else if is_ours(socket) {
        explanation.way("leave one of them out", "it is this very process: two addresses overlap");
    } else if let Some((_, engine)) = PUBLISHERS.iter().find(|(name, _)| process.comm == *name) {
        let which = format!("{engine} ps --filter publish={port}");
        let note = format!("it publishes the port of {}", container(process));
        if process.uid == Some(0) {
            let stop = format!("{engine} stop $({}{which} -q)", root_word(host));
            explanation.way(root(stop), note);
        } else {
            explanation.way(format!("{engine} stop $({which} -q)"), note + ", as that user");
        }
    } else if let Some(container) = &process.place.container {
        explanation.way(root(container.stop()), "");
    } else if process.pid == 1 {
        match activation::units_at(socket.address).as_slice() {
            [] => explanation.way("systemctl list-sockets", "names the unit whose socket it is"),
            units => {
                let names: Vec<_> = units
                    .iter()
                    .flat_map(|unit| [quote(&unit.name), quote(&unit.service)])
                    .collect();
                explanation.way(disable(&names.join(" ")), for_good);
            }
        }
    } else if let Some(unit) = service(process) {
        let units = with_socket(unit, socket);
        if process.place.of_user {
            explanation.way(of_user(process, &units, host), for_good);
        } else {
            explanation.way(disable(&units), for_good);
        }
    } else if let Some(service) = service_by_script(process, host, Path::new("/run")) {
        explanation.way(root(format!("service {service} stop")), "");
    } else {
        stop(explanation, process, host);
    }
}

/// By the manager of the user whose unit it is.
fn of_user(process: &Process, units: &str, host: &Host) -> String {
    let own = rustix::process::geteuid().as_raw();
    match process.uid.filter(|uid| *uid != own) {
        None => format!("systemctl --user disable --now {units}"),
        Some(uid) => {
            let user = quote(user_name(uid));
            host.as_root(&[format!("systemctl --user -M {user}@ disable --now {units}")])
        }
    }
}

/// A program that nothing is known of.
fn stop(explanation: &mut Explanation, process: &Process, host: &Host) {
    let kill = format!("kill {}", process.pid);
    let is_own = process.uid == Some(rustix::process::geteuid().as_raw());
    explanation.way(if is_own { kill } else { host.as_root(&[kill]) }, "stops that program");
}

/// The holder is out of sight: another user's, another container's, or the kernel's own.
fn hidden(explanation: &mut Explanation, socket: &Listening, host: &Host) {
    let see = format!("ss -ltnp sport = :{}", socket.address.port());
    if host.root_by != super::host::RootBy::Nothing {
        explanation.way(host.as_root(&[see]), "names it");
    } else if host.inside.is_some() {
        explanation.way(format!("sudo {see}"), "on the host, whose network this container shares");
    } else {
        let note = "no process here has it: one in a container with this host's network, or the \
                    kernel itself (NFS)";
        explanation.way(see, note);
    }
}

fn root_word(host: &Host) -> &'static str {
    match host.root_by {
        super::host::RootBy::Sudo => "sudo ",
        super::host::RootBy::Doas => "doas ",
        super::host::RootBy::Nothing | super::host::RootBy::Su => "",
    }
}

/// Of `docker-proxy ... -container-ip 172.17.0.2 -container-port 80`.
fn container(process: &Process) -> String {
    let value = |name: &str| {
        let mut words = process.arguments.iter().skip_while(|word| *word != name).skip(1);
        words.next().map(|value| value.to_string_lossy().into_owned())
    };
    match (value("-container-ip"), value("-container-port")) {
        (Some(ip), Some(port)) => format!("the container at {ip}:{port}"),
        _ => "a container".to_owned(),
    }
}

/// The service without systemd that a process is: by its file, its user and the number that the
/// script of the service would end. The name alone may be that of anything.
fn service_by_script<'a>(process: &'a Process, host: &Host, run: &Path) -> Option<&'a str> {
    let exe = process.exe.as_deref()?;
    let name = exe.file_name()?.to_str().filter(|name| SERVICES.contains(name))?;
    let is_installed = ["/usr", "/sbin", "/bin"].iter().any(|folder| exe.starts_with(folder));
    let pid = |file: PathBuf| std::fs::read_to_string(run.join(file)).ok()?.trim().parse().ok();
    let files = [format!("{name}.pid"), format!("{name}/{name}.pid")];
    let is_ended = files.iter().any(|file| pid(file.into()) == Some(process.pid));
    let is_one = !host.systemd && host.inside.is_none() && process.uid == Some(0);
    (is_one && is_installed && is_ended).then_some(name)
}

fn service(process: &Process) -> Option<&str> {
    process.place.unit.as_deref().filter(|unit| unit.ends_with(".service"))
}

/// A service whose socket systemd would only take again is stopped together with the socket.
fn with_socket(service: &str, socket: &Listening) -> String {
    let units = activation::units_at(socket.address);
    let its = units.iter().find(|unit| unit.service == service);
    let service = quote(service);
    its.map_or_else(|| service.clone(), |unit| format!("{} {service}", quote(&unit.name)))
}

#[cfg(test)]
mod tests;
