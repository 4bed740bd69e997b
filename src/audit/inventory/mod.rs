//! What is known of each listener of this host: where it is reached from, and who holds it.

mod exposure;
mod holder;
mod executable;
mod capability;
mod package;

mod namespace;
mod firewall;
mod gather;
mod unseen;
mod moment;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::sockets::Protocol;
pub use executable::ExeState;
pub use exposure::Exposure;
pub use firewall::{Firewall, Passage};
pub use holder::Holder;

use firewall::Firewalls;
use gather::Gathered;
use holder::Processes;
use namespace::Namespaces;
use package::Packages;
use unseen::Obstacles;

/// Everything that listens here, and what could not be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    /// By port, protocol, namespace and address.
    pub listeners: Vec<Listener>,
    /// What could not be seen and how to see it, a sentence each.
    pub unseen: Vec<String>,
    /// Where and when this was taken.
    pub host: Host,
}

/// All sockets of one holder on one port of one protocol and network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Never 0.
    pub port: u16,
    /// Where it listens, each once, IPv4 first; the unspecified address is every address.
    pub addresses: Vec<IpAddr>,
    /// Whether `::` among the addresses leaves IPv4 out. Without `::`, or where that cannot be
    /// seen: `None`, and then it is to be taken as both families.
    pub v6_only: Option<bool>,
    /// From where it can be reached, as far as its addresses say: the widest of them.
    pub exposure: Exposure,
    /// What the local firewall does before it; `None` where that is not known or, on loopback,
    /// does not matter.
    pub firewall: Option<Firewall>,
    /// The network namespace; `None` is this one.
    pub namespace: Option<String>,
    /// The user whose process made the socket, by number.
    pub uid: u32,
    /// Who holds it; `None` when this user may not look, or the kernel itself holds it.
    pub holder: Option<Holder>,
}

/// Where and when an inventory was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The release of its kernel.
    pub kernel: String,
    /// Whether root looked, who sees more.
    pub is_root: bool,
    /// The other network namespaces that were looked at.
    pub namespaces: Vec<String>,
    /// When.
    #[serde(with = "moment")]
    #[schemars(with = "String")]
    pub taken: SystemTime,
}

/// What to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The other network namespaces of this host too (containers, mostly); only root sees them.
    pub all_namespaces: bool,
}

/// Looks at all listening TCP and bound UDP sockets. Reads below `/proc`, `/sys`, `/run`, `/etc`
/// and `/var/lib/dpkg`; starts no program and sends nothing.
///
/// # Errors
/// When the kernel's table of TCP sockets cannot be read.
pub fn take(options: &Options) -> io::Result<Inventory> {
    let is_root = rustix::process::geteuid().is_root();
    let namespaces = Namespaces::see();
    let looked_at = if options.all_namespaces { namespaces.others.as_slice() } else { &[] };
    let mut processes = Processes::new();
    let Gathered { mut listeners, closed, is_cut } = gather::gather(looked_at, &mut processes)?;
    let packages_are_cut = add_packages(&mut listeners, &processes);

    let firewall = add_firewall(&mut listeners);

    let names = |all: &[namespace::Namespace]| all.iter().map(|one| one.name.clone()).collect();
    let unseen = Obstacles {
        is_root,
        closed,
        is_cut,
        namespaces: if options.all_namespaces { Vec::new() } else { names(&namespaces.others) },
        hidden_namespaces: if options.all_namespaces { namespaces.closed } else { 0 },
        packages_are_cut,
        firewall,
    };
    let unseen = unseen.tell(&listeners);
    let system = rustix::system::uname();
    let host = Host {
        name: system.nodename().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        is_root,
        namespaces: names(looked_at),
        taken: SystemTime::now(),
    };
    Ok(Inventory { listeners, unseen, host })
}

/// Whether time was too short for some.
fn add_packages(listeners: &mut [Listener], processes: &Processes) -> bool {
    let files = processes.files();
    let wanted = files.values().cloned().collect();
    let packages = Packages::find(&wanted, Path::new(package::DATABASE));
    for holder in listeners.iter_mut().filter_map(|listener| listener.holder.as_mut()) {
        holder.package = files.get(&holder.pid).and_then(|file| packages.of.get(file)).cloned();
    }
    packages.is_cut
}

/// What is not known of the firewall, where somebody could be kept out.
fn add_firewall(listeners: &mut [Listener]) -> Option<String> {
    if listeners.iter().all(|listener| listener.exposure == Exposure::Loopback) {
        return None;
    }
    match Firewalls::read() {
        Ok(mut firewalls) => {
            for listener in listeners {
                listener.firewall = firewalls.before(listener);
            }
            firewalls.unseen()
        }
        Err(why) => Some(why),
    }
}
