//! Which of systemd's socket units listens on an address: systemd holds the socket then, and the
//! process that it starts for it may not even be there.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// Where units stand, the first of a name before the later ones (systemd.unit(5)).
const FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where an enabled socket unit has its link.
const ENABLED: &[&str] =
    &["/etc/systemd/system/sockets.target.wants", "/run/systemd/generator/sockets.target.wants"];

/// A socket unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketUnit {
    /// `ssh.socket`
    pub name: String,
    /// The unit that gets the socket: `ssh.service`.
    pub service: String,
}

/// The socket units of this host that listen at this address: the enabled ones, or all where none
/// of them is enabled.
#[must_use]
pub fn units_at(address: SocketAddr) -> Vec<SocketUnit> {
    let mut found: Vec<SocketUnit> = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_known = found.iter().any(|unit| unit.name == name);
            if !name.ends_with(".socket") || name.contains('@') || is_known {
                continue;
            }
            let text = with_drop_ins(&entry.path(), &name);
            if listens_at(&text, address) {
                found.push(SocketUnit { service: service(&text, &name), name });
            }
        }
    }
    let is_enabled = |unit: &SocketUnit| {
        ENABLED.iter().any(|folder| Path::new(folder).join(&unit.name).exists())
    };
    if found.iter().any(is_enabled) {
        found.retain(is_enabled);
    }
    found
}

/// The text of a unit and of what an operator has added to it.
fn with_drop_ins(unit: &Path, name: &str) -> String {
    let mut text = fs::read_to_string(unit).unwrap_or_default();
    for folder in FOLDERS {
        let folder = Path::new(folder).join(format!("{name}.d"));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            text.push('\n');
            text.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    text
}

/// The values of a key, in order; an empty one takes back those before it (systemd.syntax(7)).
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        match (name.trim() == key, value.trim()) {
            (false, _) => {}
            (true, "") => values.clear(),
            (true, value) => values.push(value),
        }
    }
    values
}

fn listens_at(text: &str, address: SocketAddr) -> bool {
    values(text, "ListenStream").into_iter().any(|value| {
        let port = value.parse::<u16>().is_ok_and(|port| port == address.port());
        let at = value.parse::<SocketAddr>().is_ok_and(|at| at == address);
        let any = value.strip_prefix("*:").is_some_and(|port| port.parse() == Ok(address.port()));
        // A bare port is a socket on [::], or on 0.0.0.0 where there is no IPv6.
        at || ((port || any) && address.ip().is_unspecified())
    })
}

fn service(text: &str, name: &str) -> String {
    let named = values(text, "Service").last().map(|service| (*service).to_owned());
    named.unwrap_or_else(|| format!("{}.service", name.trim_end_matches(".socket")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, address: &str) -> bool {
        listens_at(text, address.parse().unwrap())
    }

    #[test]
    fn a_unit_listens_where_its_text_says() {
        assert!(at("[Socket]\nListenStream=22\n", "[::]:22"));
        assert!(at("ListenStream = 0.0.0.0:80\nListenStream=[::]:80", "0.0.0.0:80"));
        assert!(!at("ListenStream=80", "127.0.0.1:80"));
        assert!(!at("ListenStream=/run/x.sock\nListenDatagram=80", "[::]:80"));
        assert!(!at("#ListenStream=80", "[::]:80"));
        assert!(!at("ListenStream=80\nListenStream=\nListenStream=81", "[::]:80"));
    }

    #[test]
    fn the_service_is_the_one_of_the_same_name_unless_the_unit_names_another() {
        assert_eq!(service("ListenStream=22", "ssh.socket"), "ssh.service");
        assert_eq!(service("Service=web.service", "http.socket"), "web.service");
    }
}
