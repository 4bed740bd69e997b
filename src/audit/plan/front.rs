//! A portcullis.toml that fronts the web applications that were found.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use super::{Case, Step, one_line};
use crate::audit::inventory::{Listener, Protocol};
use crate::proxy::headers::host::HostPattern;

/// The first line, by which the script knows its own file again.
const MARK: &str = "# Proposed by portcullis audit.";

/// One application.
struct App<'a> {
    listener: &'a Listener,
    /// As a target is written.
    to: String,
    names: Vec<String>,
    /// Where the names come from.
    origin: String,
    status: u16,
}

/// One step: to write the file, which starts nothing.
pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    let apps = apps(case);
    if apps.is_empty() {
        return Vec::new();
    }
    let ports: Vec<String> = apps.iter().map(|app| app.listener.port.to_string()).collect();
    vec![Step {
        switch: "propose_portcullis_toml".to_owned(),
        is_on: true,
        title: format!("write a portcullis.toml in front of {}", ports.join(", ")),
        why: vec![
            "It starts nothing. A file of your own stays; then this one is beside it, .proposed."
                .to_owned(),
        ],
        body: format!(
            "    file=/etc/portcullis/portcullis.toml\n\
             \x20   if [ -e \"$file\" ] && ! grep -qxF '{MARK}' \"$file\"; then\n\
             \x20       file=$file.proposed\n    fi\n    put \"$file\" <<'END' || true\n{}END\n\
             \x20   if command -v portcullis >/dev/null; then\n\
             \x20       portcullis check -c \"$file\"\n    fi\n",
            toml(case, &apps)
        ),
        mends: Vec::new(),
    }]
}

/// Who fronts others is no application.
const PROXIES: &[&str] =
    &["portcullis", "nginx", "caddy", "haproxy", "traefik", "envoy", "varnishd"];

fn apps<'a>(case: &Case<'a>) -> Vec<App<'a>> {
    let mut taken = BTreeSet::new();
    let mut apps = Vec::new();
    for (port, answer) in case.facts.http.iter().filter(|(port, _)| **port != 80) {
        let Some(listener) = case.listeners.get(&(*port, Protocol::Tcp)).copied() else { continue };
        let comm = listener.holder.as_ref().map_or("", |holder| holder.comm.as_str());
        if PROXIES.contains(&comm) || answer.leads_to_https() {
            continue;
        }
        let known = case.facts.fronts.iter().filter(|front| front.port == *port);
        let known: Vec<_> = known.filter(|front| !front.names.is_empty()).collect();
        let mut names: Vec<String> = known.iter().flat_map(|f| f.names.iter().cloned()).collect();
        names.retain(|name| HostPattern::parse(name).is_ok() && taken.insert(name.clone()));
        let mut origin = known.first().map_or_else(String::new, |front| {
            format!("The names are those of {} ({}).", front.proxy, front.file.display())
        });
        if names.is_empty() {
            let name = guess(&case.inventory.host.name, comm, *port);
            taken.insert(name.clone());
            names.push(name);
            "The name is a guess: put yours in its place.".clone_into(&mut origin);
        }
        let (to, status) = (target(listener), answer.status);
        apps.push(App { listener, to, names, origin, status });
    }
    apps
}

/// A name below the host's own where that is one of the internet, else one for this host.
fn guess(host: &str, comm: &str, port: u16) -> String {
    let word = |c: &char| c.is_ascii_alphanumeric();
    let comm: String = comm.chars().filter(word).take(20).collect::<String>().to_lowercase();
    let label = if comm.is_empty() { format!("app-{port}") } else { format!("{comm}-{port}") };
    let below = format!("{label}.{}", host.to_lowercase());
    let is_name = host.contains('.') && HostPattern::parse(&below).is_ok();
    if is_name { below } else { format!("{label}.localhost") }
}

/// Over loopback where it listens there.
fn target(listener: &Listener) -> String {
    let port = listener.port;
    let reached = |ip: &IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("127.0.0.1:{port}"),
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("[::1]:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    };
    listener.addresses.first().map_or_else(|| format!("127.0.0.1:{port}"), reached)
}

fn toml(case: &Case<'_>, apps: &[App<'_>]) -> String {
    let mut out = format!("{MARK}\n# Look at the names before you start it: portcullis run\n");
    for port in [80, 443] {
        let holder = case.listeners.get(&(port, Protocol::Tcp));
        let holder = holder.and_then(|listener| listener.holder.as_ref());
        if let Some(holder) = holder.filter(|holder| holder.comm != "portcullis") {
            let comm = one_line(&holder.comm);
            let _ = writeln!(out, "# Port {port} is held by {comm} now, which has to leave it.");
        }
    }
    for app in apps {
        let who = app.listener.holder.as_ref().map_or_else(
            || "a program that could not be seen".to_owned(),
            |holder| {
                let unit = holder.unit.as_ref().map(|unit| format!(", {unit}"));
                format!("{}{}", holder.comm, unit.unwrap_or_default())
            },
        );
        let _ = writeln!(out, "\n# {}: answers {} to GET /.", one_line(&who), app.status);
        let _ = writeln!(out, "# {}", one_line(&app.origin));
        let names: Vec<String> = app.names.iter().map(|name| format!("\"{name}\"")).collect();
        let host = match names.as_slice() {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let _ = writeln!(out, "[[site]]\nhost = {host}\nto = \"{}\"", app.to);
    }
    out
}
