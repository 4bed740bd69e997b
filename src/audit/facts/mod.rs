//! What the rules need to know beyond the sockets: answers of this host's own listeners, over
//! loopback only, and a few configuration files.

mod ask;
mod http;
mod tls;
mod old_tls;
mod locks;
mod proxies;
mod command_line;
mod nginx;
mod connections;
mod guards;
mod sshd;
mod needs;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use http::HttpAnswer;
pub use locks::HereOnly;
pub use proxies::{Front, Fronted};
pub use sshd::Sshd;
pub use tls::{Shown, TlsAnswer};

use super::baseline::Comparison;
use super::inventory::Inventory;
use super::registry::Registry;

/// What is known of this host beyond its sockets. What is unknown is empty.
#[derive(Debug)]
pub struct Facts {
    /// What ports are for.
    pub registry: Registry,
    /// When this was gathered.
    pub now: SystemTime,
    /// What listeners of this network namespace answered to plain HTTP, by port.
    pub http: BTreeMap<u16, HttpAnswer>,
    /// What they answered to TLS, by port.
    pub tls: BTreeMap<u16, TlsAnswer>,
    /// Which inner services answered without a password, by port, and what they gave.
    pub open: BTreeMap<u16, &'static str>,
    /// Which asked this host for no password but may refuse others, by port.
    pub here_only: BTreeMap<u16, HereOnly>,
    /// The applications that a proxy of this host fronts.
    pub fronted: Vec<Fronted>,
    /// The names and targets that the proxies' files give.
    pub fronts: Vec<Front>,
    /// What bans who tries passwords at sshd, in a few words.
    pub guard: Option<String>,
    /// What sshd's files allow.
    pub sshd: Sshd,
    /// Socket units that something on this host is known to need.
    pub needed_sockets: BTreeSet<String>,
    /// The users of the system, by name.
    pub users: BTreeSet<String>,
    /// The service units that are installed, by name.
    pub units: BTreeSet<String>,
    /// Whether certbot is installed.
    pub has_certbot: bool,
    /// The program files of listeners that give a capability to whoever starts them.
    pub capable_files: BTreeSet<PathBuf>,
    /// What could not be read and how to read it, a sentence each.
    pub unseen: Vec<String>,
    /// What changed against the baseline, where one was given.
    pub baseline: Option<Comparison>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            registry: Registry::read(),
            now: SystemTime::UNIX_EPOCH,
            http: BTreeMap::new(),
            tls: BTreeMap::new(),
            open: BTreeMap::new(),
            here_only: BTreeMap::new(),
            fronted: Vec::new(),
            fronts: Vec::new(),
            guard: None,
            sshd: Sshd::default(),
            needed_sockets: BTreeSet::new(),
            users: BTreeSet::new(),
            units: BTreeSet::new(),
            has_certbot: false,
            capable_files: BTreeSet::new(),
            unseen: Vec::new(),
            baseline: None,
        }
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Portcullis' own configuration file.
    pub config: PathBuf,
    /// Below what `etc` is looked for; `/` but in tests.
    pub root: PathBuf,
}

/// Gathers all of it. Lasts as long as the slowest answer, at most half a second and a little: all
/// questions are put at once. Only listeners of this network namespace are asked, and only
/// those on loopback or on every address, over loopback: nothing leaves the host.
#[must_use]
pub fn gather(inventory: &Inventory, sources: &Sources) -> Facts {
    let root = sources.root.as_path();
    let fronts = proxies::fronts(&sources.config, &command_line::files(inventory, root), root);
    let names = proxies::names(&fronts);
    let answers = ask::all(inventory, &names);
    let mut unseen = unseen(&sources.config, root);
    unseen.extend(unasked(&answers.unasked));
    let mut fronted = proxies::fronted(&fronts, inventory);
    fronted.extend(connections::fronted(inventory, &fronted));
    Facts {
        registry: Registry::read(),
        now: SystemTime::now(),
        http: answers.http,
        tls: answers.tls,
        open: answers.open,
        here_only: answers.here_only,
        fronted,
        fronts,
        guard: guards::guard(root),
        sshd: sshd::settings(command_line::of_sshd(inventory, root), root),
        needed_sockets: needs::sockets(root),
        users: users(root),
        units: units(root),
        has_certbot: ["usr/bin/certbot", "snap/bin/certbot"]
            .iter()
            .any(|at| root.join(at).exists()),
        capable_files: capable_files(inventory),
        unseen,
        baseline: None,
    }
}

fn units(root: &Path) -> BTreeSet<String> {
    let folders = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)));
    let names =
        entries.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".service")).collect()
}

/// Those with the extended attribute `security.capability` (capabilities(7)).
fn capable_files(inventory: &Inventory) -> BTreeSet<PathBuf> {
    let holders = inventory.listeners.iter().filter_map(|listener| listener.holder.as_ref());
    let here = holders.filter(|holder| holder.container.is_none() && !holder.is_root);
    let files: BTreeSet<&PathBuf> = here.filter_map(|holder| holder.exe.as_ref()).collect();
    let is_capable = |file: &&PathBuf| {
        let mut value = [0; 24];
        rustix::fs::getxattr(*file, "security.capability", value.as_mut_slice()).is_ok()
    };
    files.into_iter().filter(is_capable).cloned().collect()
}

/// Files that say who stands in front of whom, and may not be read.
fn unseen(config: &Path, root: &Path) -> Vec<String> {
    let closed = |file: &Path| {
        std::fs::File::open(file).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let files = [config.to_owned(), root.join("etc/nginx/nginx.conf"), root.join("etc/haproxy")];
    let tell = |file: PathBuf| {
        format!(
            "{} may not be read, so that an application beside its proxy may go unnoticed. To see \
             it: sudo portcullis audit",
            file.display()
        )
    };
    files.into_iter().filter(|file| closed(file)).map(tell).collect()
}

/// Listeners of which there were too many.
fn unasked(ports: &BTreeSet<u16>) -> Option<String> {
    (!ports.is_empty()).then(|| {
        format!(
            "What these speak, and whether it is open, is not known, since at most {} listeners are \
             asked: {}/tcp",
            ask::MOST,
            ranges(ports),
        )
    })
}

/// `8000-8100, 9000`
fn ranges(ports: &BTreeSet<u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => runs.push((*port, *port)),
        }
    }
    let run = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn users(root: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}
