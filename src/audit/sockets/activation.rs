//! Which of systemd's socket units listens on an address: systemd holds the socket then, and the
//! process that it starts for it may not even be there (systemd.socket(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Protocol, printable};

/// A socket unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketUnit {
    /// `ssh.socket`
    pub name: String,
    /// The unit that gets the socket: `ssh.service`.
    pub service: String,
}

/// The socket units of this host that listen for connections at this address: those that were
/// started, else the enabled ones, or all where none of them is enabled.
#[must_use]
pub fn units_at(address: SocketAddr) -> Vec<SocketUnit> {
    let units = SocketUnits::read(Path::new("/"));
    units.at(Protocol::Tcp, address).into_iter().cloned().collect()
}

/// The socket units of this host that have a port.
#[derive(Debug, Default)]
pub(crate) struct SocketUnits {
    units: Vec<Unit>,
}

/// Where unit files are, the first place wins (systemd.unit(5)).
const FOLDERS: &[&str] = &[
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
];

/// Where systemd keeps a link for each unit that it has started.
const STARTED: &str = "run/systemd/units";

/// Entries of one folder looked at.
const MOST: usize = 5000;

#[derive(Debug, PartialEq, Eq)]
struct Unit {
    unit: SocketUnit,
    rank: Rank,
    listens: Vec<Listen>,
}

/// How likely a unit is the one that holds a socket; the likeliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Started,
    Enabled,
    There,
}

/// One line `ListenStream=` or `ListenDatagram=` for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listen {
    protocol: Protocol,
    /// `None` is every address.
    ip: Option<IpAddr>,
    port: u16,
}

impl SocketUnits {
    /// Reads the unit files below a root, which is `/` but in tests.
    pub(crate) fn read(root: &Path) -> Self {
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut changes: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
        let mut enabled = BTreeSet::new();
        for path in FOLDERS.iter().flat_map(|folder| entries(&root.join(folder))) {
            let name = name(&path);
            if name.ends_with(".socket") {
                files.entry(name).or_insert(path);
            } else if let Some(unit) = name.strip_suffix(".d").filter(|n| n.ends_with(".socket")) {
                let changes = changes.entry(unit.to_owned()).or_default();
                let parts = entries(&path).filter(|path| self::name(path).ends_with(".conf"));
                parts.for_each(|path| _ = changes.entry(self::name(&path)).or_insert(path));
            } else if name.ends_with(".wants") || name.ends_with(".requires") {
                enabled.extend(entries(&path).map(|path| self::name(&path)));
            }
        }
        let rank = |name: &str| {
            let started = root.join(STARTED).join(format!("invocation:{name}"));
            match (started.symlink_metadata(), enabled.contains(name)) {
                (Ok(_), _) => Rank::Started,
                (Err(_), true) => Rank::Enabled,
                (Err(_), false) => Rank::There,
            }
        };
        // An alias is a link to the unit that it is another name of, a template has no port yet.
        let is_unit = |name: &str, path: &Path| {
            !name.contains("@.") && path.canonicalize().is_ok_and(|real| self::name(&real) == name)
        };
        let units = files.iter().filter(|(name, path)| is_unit(name, path)).map(|(name, path)| {
            let parts = changes.get(name).into_iter().flat_map(BTreeMap::values);
            let text: Vec<String> = std::iter::once(path)
                .chain(parts)
                .filter_map(|f| fs::read_to_string(f).ok())
                .collect();
            let text = text.join("\n");
            let unit = SocketUnit { name: printable(name), service: service(&text, name) };
            Unit { unit, rank: rank(name), listens: listens(&text) }
        });
        SocketUnits { units: units.filter(|unit| !unit.listens.is_empty()).collect() }
    }

    /// The units that name this address, or its port on every address: of them the likeliest.
    pub(crate) fn at(&self, protocol: Protocol, address: SocketAddr) -> Vec<&SocketUnit> {
        let names = |listen: &Listen| {
            listen.protocol == protocol
                && listen.port == address.port()
                && is_same(listen.ip, address.ip())
        };
        let found = || self.units.iter().filter(|unit| unit.listens.iter().any(names));
        let Some(best) = found().map(|unit| unit.rank).min() else { return Vec::new() };
        found().filter(|unit| unit.rank == best).map(|unit| &unit.unit).collect()
    }
}

fn is_same(listen: Option<IpAddr>, ip: IpAddr) -> bool {
    match listen {
        None => ip.is_unspecified(),
        Some(listen) => listen.to_canonical() == ip.to_canonical(),
    }
}

fn listens(text: &str) -> Vec<Listen> {
    let of = |key, protocol| values(text, key).into_iter().filter_map(move |v| listen(protocol, v));
    of("ListenStream", Protocol::Tcp).chain(of("ListenDatagram", Protocol::Udp)).collect()
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

fn service(text: &str, name: &str) -> String {
    let named = values(text, "Service").last().map(|service| printable(service));
    named.unwrap_or_else(|| format!("{}.service", printable(name.trim_end_matches(".socket"))))
}

/// `22`, `127.0.0.1:631`, `[::]:22`, `[fe80::1%eth0]:22`; a path or another family is no port.
fn listen(protocol: Protocol, value: &str) -> Option<Listen> {
    if let Ok(port) = value.trim_start_matches("*:").parse() {
        return Some(Listen { protocol, ip: None, port });
    }
    let without_zone = value
        .split_once('%')
        .and_then(|(before, zone)| Some(format!("{before}]{}", zone.split_once(']')?.1)));
    let address: SocketAddr = without_zone.as_deref().unwrap_or(value).parse().ok()?;
    Some(Listen { protocol, ip: Some(address.ip()), port: address.port() })
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().take(MOST).map(|entry| entry.path())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn unit_of(units: &SocketUnits, protocol: Protocol, address: &str) -> Option<String> {
        let found = units.at(protocol, address.parse().unwrap());
        assert!(found.len() < 2, "{found:?}");
        found.first().map(|unit| unit.name.clone())
    }

    #[test]
    fn a_socket_is_found_by_its_port_and_address() {
        let root = tempfile::tempdir().unwrap();
        let vendor = "usr/lib/systemd/system";
        write(root.path(), &format!("{vendor}/ssh.socket"), "[Socket]\nListenStream=22\n");
        write(
            root.path(),
            &format!("{vendor}/cups.socket"),
            "[Socket]\nListenStream=/run/cups/cups.sock\nListenStream = 127.0.0.1:631\n",
        );
        write(root.path(), &format!("{vendor}/dns.socket"), "[Socket]\nListenDatagram=[::1]:53\n");
        let units = SocketUnits::read(root.path());
        let of = |protocol, address| unit_of(&units, protocol, address);
        assert_eq!(of(Protocol::Tcp, "[::]:22").as_deref(), Some("ssh.socket"));
        assert_eq!(of(Protocol::Tcp, "0.0.0.0:22").as_deref(), Some("ssh.socket"));
        assert_eq!(of(Protocol::Udp, "[::]:22"), None);
        assert_eq!(of(Protocol::Tcp, "127.0.0.1:22"), None);
        assert_eq!(of(Protocol::Tcp, "127.0.0.1:631").as_deref(), Some("cups.socket"));
        assert_eq!(of(Protocol::Tcp, "0.0.0.0:631"), None);
        assert_eq!(of(Protocol::Udp, "[::1]:53").as_deref(), Some("dns.socket"));
    }

    #[test]
    fn the_administrators_files_win() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "lib/systemd/system/ssh.socket", "ListenStream=22\n");
        write(
            root.path(),
            "etc/systemd/system/ssh.socket.d/port.conf",
            "ListenStream=\nListenStream=2222\n",
        );
        write(root.path(), "lib/systemd/system/web.socket", "ListenStream=80\n");
        write(root.path(), "etc/systemd/system/web.socket", "ListenStream=8080\n");
        write(root.path(), "lib/systemd/system/off.socket", "ListenStream=79\n");
        symlink("/dev/null", root.path().join("etc/systemd/system/off.socket")).unwrap();
        let units = SocketUnits::read(root.path());
        let at = |port: u16| unit_of(&units, Protocol::Tcp, &format!("[::]:{port}"));
        assert_eq!((at(22), at(2222).as_deref()), (None, Some("ssh.socket")));
        assert_eq!((at(80), at(8080).as_deref()), (None, Some("web.socket")));
        assert_eq!(at(79), None);
    }

    #[test]
    fn of_several_the_started_one_counts_else_the_enabled_one_and_never_an_alias() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "template@"] {
            write(root.path(), &format!("lib/systemd/system/{name}.socket"), "ListenStream=22\n");
        }
        symlink("c.socket", root.path().join("lib/systemd/system/0.socket")).unwrap();
        let at = || {
            let units = SocketUnits::read(root.path());
            let found = units.at(Protocol::Tcp, "[::]:22".parse().unwrap());
            found.iter().map(|unit| unit.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(at(), ["a.socket", "b.socket", "c.socket"]);
        write(root.path(), "etc/systemd/system/sockets.target.wants/b.socket", "");
        assert_eq!(at(), ["b.socket"]);
        write(root.path(), "run/systemd/units/invocation:c.socket", "");
        assert_eq!(at(), ["c.socket"]);
    }

    #[test]
    fn the_service_is_the_one_of_the_same_name_unless_the_unit_names_another() {
        assert_eq!(service("ListenStream=22", "ssh.socket"), "ssh.service");
        assert_eq!(service("Service=web.service", "http.socket"), "web.service");
    }

    #[test]
    fn a_line_that_is_no_listen_is_passed_over() {
        assert_eq!(listens("#ListenStream=80\nListenStream=/run/x.sock\nAccept=yes"), []);
        assert_eq!(listens("ListenStream=80\nListenStream=\nListenStream=81").len(), 1);
    }

    #[test]
    fn an_address_may_name_an_interface() {
        let zone = listen(Protocol::Tcp, "[fe80::1%eth0]:22").unwrap();
        assert_eq!((zone.ip, zone.port), (Some("fe80::1".parse().unwrap()), 22));
        for no_port in ["/run/x", "@x", "vsock::22", "%i", "[::1%eth0"] {
            assert_eq!(listen(Protocol::Tcp, no_port), None, "{no_port}");
        }
    }
}
