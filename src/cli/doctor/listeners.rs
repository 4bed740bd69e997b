//! Whether each address may be had, by facts alone: to bind a port that belongs to others, even
//! for a moment, would be to stand in the way of whoever starts just then.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::checks::State;
use crate::audit::addresses;
use crate::audit::sockets::{self, Listening, Process, activation};
use crate::cli::DEFAULT_CONFIG;
use crate::config::{Config, Listen};
use crate::control::client;
use crate::privilege::explain::{
    Explanation, Family, Given, Host, How, METRICS, Refusal, Rights, Wanted, absent, refused, taken,
};

/// What is said about one listener.
pub(super) struct Verdict {
    key: &'static str,
    listen: Listen,
    /// By which right it may be had, or who of us has it.
    allowed: Result<String, Explanation>,
    holders: Vec<Listening>,
}

/// Judges every listener of the configuration, which was read from `file`.
pub(super) fn judge(config: &Config, file: &Path, rights: &Rights, host: &Host) -> Vec<Verdict> {
    let http = config.server.http.iter().map(|listen| ("http", *listen));
    let https = config.server.https.iter().map(|listen| ("https", *listen));
    let metrics = config.admin.metrics.map(|address| (METRICS, Listen::Addr(address)));
    let wanted: Vec<_> = http.chain(https).chain(metrics).collect();
    let listens: Vec<Listen> = wanted.iter().map(|(_, listen)| *listen).collect();
    let listens_of: Vec<&str> = wanted.iter().map(|(key, _)| *key).collect();
    let sockets = sockets::in_the_way(&listens, true).unwrap_or_default();
    let socket = &config.admin.socket;
    let serving = if sockets.is_empty() { None } else { client::serving(socket, Some(file)) };
    let ours = |socket: &Listening| match (&serving, &socket.process) {
        (Some(serving), _) if serving.holds(socket) => Some(serving.pid),
        (_, Some(process)) => serves_from(process, file).then_some(process.pid),
        _ => None,
    };
    let judge = |(key, listen): (&'static str, Listen)| {
        let same = listens_of.iter().filter(|of| **of == key).count();
        let given = if same > 1 { Given::Among } else { Given::Alone };
        let wanted = Wanted { given, ..Wanted::new(key, listen) };
        let holders: Vec<Listening> =
            sockets.iter().filter(|socket| socket.collides_with(listen)).cloned().collect();
        let allowed = match by_holders(&holders, ours) {
            Some(words) => Ok(words),
            None => free(wanted, &holders, rights, host),
        };
        Verdict { key, listen, allowed, holders }
    };
    wanted.into_iter().map(judge).collect()
}

/// Where all that stands in the way is ours, or is kept for us: words for it.
fn by_holders(holders: &[Listening], ours: impl Fn(&Listening) -> Option<u32>) -> Option<String> {
    let mut words = None;
    for socket in holders {
        let held_by = socket.process.as_ref().map(|process| process.pid);
        let ours = if held_by == Some(std::process::id()) {
            "a socket was passed for it".to_owned()
        } else if let Some(pid) = ours(socket) {
            format!("held by the running portcullis (pid {pid})")
        } else if held_by == Some(1) {
            let units = activation::units_at(socket.address);
            let unit = units.iter().find(|unit| unit.service.starts_with("portcullis"))?;
            format!("kept by systemd for {} ({})", unit.service, unit.name)
        } else {
            return None;
        };
        words.get_or_insert(ours);
    }
    words
}

/// A port that nobody of us holds.
fn free(
    wanted: Wanted<'_>,
    holders: &[Listening],
    rights: &Rights,
    host: &Host,
) -> Result<String, Explanation> {
    let port = wanted.listen.port();
    if !is_of_this_host(wanted.listen) {
        let all = addresses::all().unwrap_or_default();
        return Err(absent(wanted, &all, &Family::of(wanted.listen), host));
    }
    let missing = || refused(wanted, rights, host, Refusal::Access);
    match (How::of(rights, port), holders) {
        (Some(How::Free), []) if port == 0 => Ok("the kernel chooses a port".to_owned()),
        (Some(how), []) => Ok(how.words(rights.free_from)),
        (None, []) => Err(missing()),
        (Some(_), holders) if are_passing(holders) => {
            Ok(format!("{} A start may be refused for it.", taken(wanted, holders, host).why))
        }
        (Some(_), holders) => Err(taken(wanted, holders, host)),
        (None, holders) => Err(missing().and(taken(wanted, holders, host))),
    }
}

/// Whether nobody listens there. Whether such a socket is in the way is up to an option of its own
/// (`SO_REUSEADDR`), which the kernel does not tell.
fn are_passing(holders: &[Listening]) -> bool {
    holders.iter().all(|socket| socket.state != sockets::State::Listens)
}

/// Whether this address can be bound, tried with a port that the kernel chooses and nobody wants.
fn is_of_this_host(listen: Listen) -> bool {
    let address = match listen {
        Listen::Any(_) => return true,
        Listen::Addr(address) if address.ip().is_unspecified() && address.is_ipv4() => return true,
        Listen::Addr(mut address) => {
            address.set_port(0);
            address
        }
    };
    let bind = || -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())
    };
    bind().is_ok()
}

/// Whether a process is this program and serves from this file.
fn serves_from(process: &Process, file: &Path) -> bool {
    let is_us = process.comm == "portcullis" || process.exe == std::env::current_exe().ok();
    let mut words = process.arguments.iter().map(AsRef::<OsStr>::as_ref).skip(1);
    if !is_us || words.next() != Some(OsStr::new("run")) {
        return false;
    }
    let theirs = match words.find(|word| *word == "-c" || *word == "--config") {
        Some(_) => words.next().map(Path::new),
        None => Some(Path::new(DEFAULT_CONFIG)),
    };
    let Some(theirs) = theirs else { return false };
    let place = format!("/proc/{}/cwd", process.pid);
    let same = |path: &Path| std::fs::canonicalize(path).ok();
    same(&Path::new(&place).join(theirs)).is_some_and(|theirs| Some(theirs) == same(file))
}

impl Verdict {
    pub(super) fn is_allowed(&self) -> bool {
        self.allowed.is_ok()
    }

    pub(super) fn state(&self) -> State {
        match self.is_allowed() {
            false => State::Bad,
            true if !self.holders.is_empty() && are_passing(&self.holders) => State::Doubtful,
            true => State::Well,
        }
    }

    /// `http :80`
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.key, self.listen)
    }

    pub(super) fn why(&self) -> &str {
        match &self.allowed {
            Ok(words) => words,
            Err(explanation) => &explanation.why,
        }
    }

    pub(super) fn explanation(&self) -> Option<&Explanation> {
        self.allowed.as_ref().err()
    }

    pub(super) fn to_json(&self) -> Value {
        let address = match self.listen {
            Listen::Any(port) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            Listen::Addr(address) => address,
        };
        let none = Explanation::default();
        let explanation = self.explanation().unwrap_or(&none);
        let holders: Vec<Value> = self.holders.iter().map(holder).collect();
        let ways = explanation.ways.iter();
        let ways = ways.map(|way| json!({ "command": way.command, "note": way.note }));
        json!({
            "key": self.key,
            "listen": self.listen.to_string(),
            "address": address.ip().to_string(),
            "port": self.listen.port(),
            "allowed": self.is_allowed(),
            "why": self.why(),
            "facts": explanation.facts,
            "remedy": explanation.ways.first().map(|way| &way.command),
            "ways": ways.collect::<Vec<_>>(),
            "holder": holders.first(),
            "holders": holders,
        })
    }
}

fn holder(socket: &Listening) -> Value {
    let process = socket.process.as_ref();
    let place = process.map(|process| &process.place);
    json!({
        "address": socket.address.to_string(),
        "pid": process.map(|process| process.pid),
        "command": process.map(Process::title),
        "user": sockets::user_name(process.and_then(|process| process.uid).unwrap_or(socket.uid)),
        "unit": place.and_then(|place| place.unit.as_ref()),
        "container": place.and_then(|place| place.container.as_ref()).map(ToString::to_string),
    })
}
