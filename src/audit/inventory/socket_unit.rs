//! Which systemd socket unit opened a socket, from the unit files (systemd.socket(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::audit::sockets::{Protocol, Socket, printable};

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

/// Unit files, and files that change them, read at most.
const MOST: usize = 2000;

/// The socket units of this host.
#[derive(Debug, Default)]
pub(super) struct SocketUnits {
    /// Those that were started first, then those that are enabled, then by name.
    units: Vec<Unit>,
}

#[derive(Debug, PartialEq, Eq)]
struct Unit {
    name: String,
    listens: Vec<Listen>,
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
    pub(super) fn read(root: &Path) -> Self {
        let places: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut changes: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        for path in places.iter().flat_map(|place| entries(place)).take(MOST) {
            let name = name(&path);
            if name.ends_with(".socket") {
                files.entry(name).or_insert(path);
            } else if let Some(unit) = name.strip_suffix(".d").filter(|n| n.ends_with(".socket")) {
                let unit = changes.entry(unit.to_owned()).or_default();
                for path in entries(&path).filter(|path| name_ends(path, ".conf")).take(MOST) {
                    unit.entry(self::name(&path)).or_insert(path);
                }
            } else if name.ends_with(".wants") || name.ends_with(".requires") {
                wanted.extend(entries(&path).map(|path| self::name(&path)));
            }
        }
        let mut units: Vec<Unit> = files
            .iter()
            // An alias is a link to the unit that it is another name of.
            .filter(|(name, path)| {
                path.canonicalize().is_ok_and(|real| self::name(&real) == **name)
            })
            .map(|(name, path)| {
                let parts = changes.get(name).into_iter().flat_map(BTreeMap::values);
                let listens = listens(std::iter::once(path).chain(parts));
                Unit { name: printable(name), listens }
            })
            .filter(|unit| !unit.listens.is_empty())
            .collect();
        let is_started = |name: &str| {
            root.join(STARTED).join(format!("invocation:{name}")).symlink_metadata().is_ok()
        };
        units.sort_by_key(|unit| (!is_started(&unit.name), !wanted.contains(&unit.name)));
        SocketUnits { units }
    }

    /// The unit that names the address of a socket, or its port on every address.
    pub(super) fn of(&self, socket: &Socket) -> Option<&str> {
        let names = |listen: &Listen| {
            listen.protocol == socket.protocol
                && listen.port == socket.address.port()
                && is_same(listen.ip, socket.address.ip())
        };
        let unit = self.units.iter().find(|unit| unit.listens.iter().any(names))?;
        Some(&unit.name)
    }
}

fn is_same(listen: Option<IpAddr>, ip: IpAddr) -> bool {
    match listen {
        None => ip.is_unspecified(),
        Some(listen) => listen.to_canonical() == ip.to_canonical(),
    }
}

/// The last word of the unit file and then of the files that change it; an empty one takes back
/// what was said before.
fn listens<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Vec<Listen> {
    let mut listens = Vec::new();
    for text in files.filter_map(|file| fs::read_to_string(file).ok()) {
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let protocol = match key.trim() {
                "ListenStream" => Protocol::Tcp,
                "ListenDatagram" => Protocol::Udp,
                _ => continue,
            };
            match value.trim() {
                "" => listens.clear(),
                value => listens.extend(listen(protocol, value)),
            }
        }
    }
    listens
}

/// `22`, `127.0.0.1:631`, `[::]:22`, `[fe80::1%eth0]:22`; a path or another family is no port.
fn listen(protocol: Protocol, value: &str) -> Option<Listen> {
    if let Ok(port) = value.parse() {
        return Some(Listen { protocol, ip: None, port });
    }
    let without_zone = value
        .split_once('%')
        .and_then(|(before, zone)| Some(format!("{before}]{}", zone.split_once(']')?.1)));
    let address: SocketAddr = without_zone.as_deref().unwrap_or(value).parse().ok()?;
    Some(Listen { protocol, ip: Some(address.ip()), port: address.port() })
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn name_ends(path: &Path, end: &str) -> bool {
    name(path).ends_with(end)
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
        let socket = Socket { protocol, address: address.parse().unwrap(), inode: 1, uid: 0 };
        units.of(&socket).map(ToOwned::to_owned)
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
    fn of_several_the_started_one_is_named_then_the_enabled_one_and_never_an_alias() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            write(root.path(), &format!("lib/systemd/system/{name}.socket"), "ListenStream=22\n");
        }
        let at = || unit_of(&SocketUnits::read(root.path()), Protocol::Tcp, "[::]:22").unwrap();
        symlink("c.socket", root.path().join("lib/systemd/system/0.socket")).unwrap();
        assert_eq!(at(), "a.socket");
        write(root.path(), "etc/systemd/system/sockets.target.wants/b.socket", "");
        assert_eq!(at(), "b.socket");
        write(root.path(), "run/systemd/units/invocation:c.socket", "");
        assert_eq!(at(), "c.socket");
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
