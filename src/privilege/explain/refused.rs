//! A port that may not be bound: which right is missing, why it is, and how it is given.

use std::path::Path;

use super::file_capability::OnFile;
use super::host::{Host, Inside};
use super::rights::{Program, Rights};
use super::{Explanation, Wanted};
use crate::audit::sockets::printable;
use crate::shell::{quote, quote_path};

/// How the kernel said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `EACCES`: a missing capability, or a security module.
    Access,
    /// `EPERM`: a filter of system calls, or of binds, as of a unit or a container.
    Filter,
}

/// By which right a port may be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The port needs none.
    Free,
    /// Root has it.
    Root,
    /// The capability is kept across exec, as by `AmbientCapabilities`.
    Ambient,
    /// The program's file gave it.
    File,
    /// It was inherited in another way.
    Held,
}

impl How {
    /// The right by which this port may be bound; `None` where there is none.
    #[must_use]
    pub fn of(rights: &Rights, port: u16) -> Option<Self> {
        let held = rights.allow(port);
        match rights.program.capability {
            _ if port == 0 || port >= rights.free_from => Some(Self::Free),
            _ if !held => None,
            _ if rights.uid == 0 => Some(Self::Root),
            _ if rights.bind.ambient => Some(Self::Ambient),
            OnFile::Given(_) => Some(Self::File),
            _ => Some(Self::Held),
        }
    }

    /// Words for it.
    #[must_use]
    pub fn words(self, free_from: u16) -> String {
        match self {
            Self::Free => format!("ports from {free_from} up need no right"),
            Self::Root => "root has CAP_NET_BIND_SERVICE".to_owned(),
            Self::Ambient => "by CAP_NET_BIND_SERVICE, an ambient capability".to_owned(),
            Self::File => "by CAP_NET_BIND_SERVICE, the file capability of this program".to_owned(),
            Self::Held => "by CAP_NET_BIND_SERVICE, which this process was given".to_owned(),
        }
    }
}

/// Why a capability on the program's file would have no effect on a process like this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hindrance {
    Bounding,
    NoNewPrivs,
    Nosuid,
    Unsupported,
    Traced(u32),
    Loader,
    /// It is good below this user only.
    Foreign(u32),
}

/// Why this port may not be bound, and what gives the right.
#[must_use]
pub fn refused(wanted: Wanted<'_>, rights: &Rights, host: &Host, refusal: Refusal) -> Explanation {
    let port = wanted.listen.port();
    let needs_no_right = port >= rights.free_from || rights.bind.effective || rights.elsewhere;
    let mut explanation = if refusal == Refusal::Filter {
        filtered(rights, host)
    } else if needs_no_right {
        by_a_module(wanted, rights, host)
    } else {
        missing(wanted, rights, host)
    };
    if port < rights.free_from {
        explanation.facts = Some(format!("CAP_NET_BIND_SERVICE, {}", rights.bind));
    }
    explanation
}

/// Why a process that serves may not bind another low port: it has no right left to.
pub(super) fn given_up(wanted: Wanted<'_>) -> Explanation {
    let mut explanation = Explanation::new(format!(
        "Port {} needs a right that the program gave up when it began to serve, as it should: \
         nothing has changed.",
        wanted.listen.port()
    ));
    let unit = Rights::read().place.unit.filter(|unit| unit.ends_with(".service"));
    match unit {
        Some(unit) => {
            let restart = format!("systemctl restart {}", quote(unit));
            explanation.way(Host::read().as_root(&[restart]), "");
        }
        None => explanation.way("stop it and start it again", "a start has the right"),
    }
    explanation
}

impl Rights {
    /// Which right is missing, in one sentence without its full stop.
    #[must_use]
    pub fn missing(&self) -> String {
        let root = if self.uid == 0 { "" } else { "root or " };
        let needs = format!(
            "ports below {} need {root}CAP_NET_BIND_SERVICE, which user {} does not have",
            self.free_from,
            self.user()
        );
        format!("{needs}: {}", self.reason())
    }

    fn reason(&self) -> String {
        let file = printable(&self.program.file.to_string_lossy());
        let hindrance = self.hindrance().map(|hindrance| hindrance.words(self));
        match (self.program.capability, hindrance) {
            (OnFile::Given(_), Some(hindrance)) => {
                format!("the file capability of {file} is ignored, because {hindrance}")
            }
            (OnFile::Given(_), None) => {
                format!("the file capability of {file} was set after this process was started")
            }
            (_, Some(hindrance)) => format!(
                "{file} has no file capability, and one would be ignored, because {hindrance}"
            ),
            (_, None) => format!("{file} has no file capability"),
        }
    }

    fn hindrance(&self) -> Option<Hindrance> {
        let foreign = match self.program.capability {
            OnFile::Given(given) => given.root.map(Hindrance::Foreign),
            _ => None,
        };
        let table = [
            (!self.bind.bounding, Hindrance::Bounding),
            (self.no_new_privs, Hindrance::NoNewPrivs),
            (self.program.nosuid, Hindrance::Nosuid),
            (self.program.capability == OnFile::Unsupported, Hindrance::Unsupported),
            (self.program.by_loader, Hindrance::Loader),
        ];
        let first = table.into_iter().find(|(is_so, _)| *is_so).map(|(_, hindrance)| hindrance);
        first.or(foreign).or(self.tracer.map(Hindrance::Traced))
    }
}

impl Hindrance {
    fn words(self, rights: &Rights) -> String {
        match self {
            Self::Bounding => "the bounding set lacks it".to_owned(),
            Self::NoNewPrivs => "no_new_privs is set on this process".to_owned(),
            Self::Nosuid => "its file system is mounted nosuid".to_owned(),
            Self::Unsupported => "its file system holds no such thing".to_owned(),
            Self::Traced(pid) => format!("this process is traced by process {pid}"),
            Self::Loader => {
                let loader = std::env::current_exe().unwrap_or_default();
                let loader = printable(&loader.to_string_lossy());
                format!("it was started by way of {loader}, whose file counts then")
            }
            Self::Foreign(root) => {
                let below = if rights.below { "another" } else { "a" };
                format!("it is good in {below} user namespace only, whose root is uid {root}")
            }
        }
    }
}

fn missing(wanted: Wanted<'_>, rights: &Rights, host: &Host) -> Explanation {
    let mut words = rights.missing();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut explanation = Explanation::new(words + ".");
    let unit = rights.place.unit.as_deref().filter(|unit| unit.ends_with(".service"));
    let is_container = host.inside.is_some_and(|inside| inside != Inside::System);
    let is_shut = matches!(rights.hindrance(), Some(Hindrance::Bounding | Hindrance::NoNewPrivs));
    match unit {
        _ if is_container && is_shut => {}
        Some(unit) if !rights.place.of_user && !is_container => {
            in_a_unit(&mut explanation, unit, rights, host);
        }
        _ if rights.below => {}
        _ => by_the_file(&mut explanation, rights, host),
    }
    match host.inside {
        Some(inside) if is_container => in_a_container(&mut explanation, inside, rights),
        _ if rights.below => on_the_host(&mut explanation),
        _ => {}
    }
    let can_install = host.systemd && unit.is_none() && host.inside.is_none();
    if can_install {
        let install = host.as_root(&[format!("{} install", quote_path(&rights.program.file))]);
        explanation.way(install, "makes a systemd service with this right and no other");
    }
    if host.inside.is_none() && !rights.below {
        // Of the ports that are below the usual start, 80 is wanted next.
        let port = wanted.listen.port();
        let low = if port < 1024 { port.min(80) } else { port };
        let sysctl = format!("sysctl -w net.ipv4.ip_unprivileged_port_start={low}");
        let note = "for every program of this host, until it boots again";
        explanation.way(host.as_root(&[sysctl]), note);
    }
    explanation.way(wanted.elsewhere(rights.free_from), "another port, which needs no right");
    explanation
}

/// By a capability on the file, where it would have an effect; else by whoever starts it.
fn by_the_file(explanation: &mut Explanation, rights: &Rights, host: &Host) {
    let file = quote_path(&rights.program.file);
    let set = || host.as_root(&host.set_capability(&file));
    let moved = || {
        let usual = Path::new("/usr/local/bin/portcullis");
        let is_there = rights.program.file == usual;
        let there = if is_there { "/usr/bin/portcullis" } else { "/usr/local/bin/portcullis" };
        let mut commands = vec![format!("install -m 0755 {file} {there}")];
        commands.extend(host.set_capability(there));
        host.as_root(&commands)
    };
    let Program { read_only, passing, .. } = rights.program;
    match rights.hindrance() {
        Some(Hindrance::Nosuid | Hindrance::Unsupported) => {
            explanation.way(moved(), "then start it from there");
        }
        Some(Hindrance::NoNewPrivs | Hindrance::Bounding) => {
            from_outside(explanation, rights, host);
        }
        Some(Hindrance::Traced(_)) => {
            explanation.way(format!("{} without the tracer", command(rights)), "");
        }
        Some(Hindrance::Loader) => explanation.way(set(), format!("then: {}", command(rights))),
        Some(Hindrance::Foreign(_)) => explanation.way(set(), "then start it again"),
        None if matches!(rights.program.capability, OnFile::Given(_)) => {
            explanation.way(command(rights), "once more: a process gets it when it starts");
        }
        None if read_only => explanation.way(moved(), "then start it from there"),
        None if passing => {
            explanation.way(set(), "then start it again; the next build or copy loses it");
            explanation.way(moved(), "then start it from there: it lasts");
        }
        None => explanation.way(set(), "then start it again; a new file needs it anew"),
    }
}

/// Where nothing that this process starts can gain a right, not even by sudo.
fn from_outside(explanation: &mut Explanation, rights: &Rights, host: &Host) {
    let what = if rights.bind.bounding { "no_new_privs" } else { "the smaller bounding set" };
    let note = format!("from another login: what is started here keeps {what}, even by sudo or su");
    let user = crate::audit::sockets::user_name(rights.uid);
    let command = command(rights);
    let line = if host.systemd {
        format!(
            "systemd-run --same-dir --uid={user} --property=AmbientCapabilities=CAP_NET_BIND_SERVICE {command}"
        )
    } else {
        let groups = if user.parse::<u32>().is_ok() { "--clear-groups" } else { "--init-groups" };
        format!(
            "setpriv --reuid={} --regid={} {groups} --inh-caps=+net_bind_service \
             --ambient-caps=+net_bind_service {command}",
            rights.uid, rights.gid
        )
    };
    explanation.way(host.as_root(&[line]), note);
}

fn in_a_unit(explanation: &mut Explanation, unit: &str, rights: &Rights, host: &Host) {
    let unit = quote(unit);
    let mut note =
        "and write there:\n  [Service]\n  AmbientCapabilities=CAP_NET_BIND_SERVICE".to_owned();
    if !rights.bind.bounding {
        note.push_str("\n  CapabilityBoundingSet=CAP_NET_BIND_SERVICE");
    }
    let restart = host.as_root(&[format!("systemctl restart {unit}")]);
    explanation
        .way(host.as_root(&[format!("systemctl edit {unit}")]), format!("{note}\nthen: {restart}"));
}

/// By whoever starts the container; the file is the matter of the image.
fn in_a_container(explanation: &mut Explanation, inside: Inside, rights: &Rights) {
    let note = match (rights.uid, rights.no_new_privs) {
        (_, true) => "and without no-new-privileges among its options",
        (0, false) => "",
        _ => "a user other than root needs the file capability too, set in the image",
    };
    let free = "it needs no capability then";
    match inside {
        Inside::Kubernetes => {
            let sysctl = "{ name: net.ipv4.ip_unprivileged_port_start, value: \"0\" }";
            explanation.way(format!("securityContext: {{ sysctls: [{sysctl}] }}"), "of the pod");
            let add = "securityContext: { capabilities: { drop: [ALL], add: [NET_BIND_SERVICE] } }";
            explanation.way(add, note);
        }
        Inside::Docker | Inside::Podman { .. } | Inside::System => {
            let engine = if inside == Inside::Docker { "docker" } else { "podman" };
            let mut ways = [
                ("--sysctl net.ipv4.ip_unprivileged_port_start=0", free),
                ("--cap-add=NET_BIND_SERVICE", note),
            ];
            if rights.uid == 0 {
                ways.reverse();
            }
            for (option, note) in ways {
                explanation.way(format!("{engine} run {option} ..."), note);
            }
        }
    }
    if inside == (Inside::Podman { rootless: true }) {
        explanation.way(
            "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80",
            "on the host: with --network=host, and to publish a low port (-p 80:8000)",
        );
    }
}

/// In a user namespace whose network is somebody else's, no right that it has itself counts.
fn on_the_host(explanation: &mut Explanation) {
    explanation.way(
        "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80",
        "on the host, outside this user namespace, whose own rights do not count for its network",
    );
}

/// The right is there, or not needed, and it is refused all the same.
fn by_a_module(wanted: Wanted<'_>, rights: &Rights, host: &Host) -> Explanation {
    let port = wanted.listen.port();
    let has = if port >= rights.free_from {
        format!("port {port} needs no right here")
    } else {
        "this process has CAP_NET_BIND_SERVICE".to_owned()
    };
    let mut explanation = Explanation::new(String::new());
    let who = if rights.elsewhere && port < rights.free_from {
        on_the_host(&mut explanation);
        explanation.way(wanted.elsewhere(rights.free_from), "another port, which needs no right");
        "the owner of this network namespace, in which the right is not good,".to_owned()
    } else if host.selinux {
        explanation.way(
            host.as_root(&[format!("semanage port -a -t http_port_t -p tcp {port}")]),
            "what it refused: ausearch -m avc -ts recent",
        );
        "SELinux, which is enforcing,".to_owned()
    } else if let Some(profile) = &rights.profile {
        explanation.way(
            host.as_root(&[format!("aa-complain {}", quote(profile))]),
            "or add to the profile: capability net_bind_service, network inet stream, \
             network inet6 stream,",
        );
        format!("the AppArmor profile {profile}")
    } else {
        let note = "a Landlock sandbox around whatever started it leaves no word there";
        explanation.way(host.as_root(&["dmesg | tail -20".to_owned()]), note);
        "a security module (SELinux, AppArmor, Landlock)".to_owned()
    };
    explanation.why = format!("Though {has}, {who} refuses.");
    explanation
}

fn filtered(rights: &Rights, host: &Host) -> Explanation {
    let what = if rights.filtered { "a filter of system calls" } else { "a filter of binds" };
    let mut explanation = Explanation::new(format!(
        "No capability is missing here: {what} refuses, which whoever started this program has set."
    ));
    match rights.place.unit.as_deref() {
        Some(unit) if host.systemd => explanation.way(
            format!("systemctl cat {}", quote(unit)),
            "look for SocketBindDeny=, RestrictAddressFamilies= and SystemCallFilter=",
        ),
        _ if host.inside.is_some() => {
            explanation.way("look at the seccomp profile that the container was started with", "");
        }
        _ => explanation.way(command(rights), "from another login, or by the service manager"),
    }
    explanation
}

/// How this program was started, in words that are good in any folder.
fn command(rights: &Rights) -> String {
    let mut words = vec![quote_path(&rights.program.file)];
    let mut is_file = false;
    for word in &rights.arguments {
        words.push(if is_file { quote_path(Path::new(word)) } else { quote(word) });
        is_file = word == "-c" || word == "--config";
    }
    words.join(" ")
}

#[cfg(test)]
mod tests;
