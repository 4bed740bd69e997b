//! What else has to be right: the user, files and folders, descriptors, the sandbox.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
};
use serde_json::{Value, json};

use super::reach::{as_user, may_read, may_write, may_write_in};
use crate::audit::sockets::printable;
use crate::config::{AccessLog, Config, Sandbox, TlsSource};
use crate::control::files;
use crate::privilege::explain::{Explanation, Host, Rights, Way};
use crate::privilege::identity::{Identity, find};
use crate::privilege::{DEFAULT_USER, PrivilegeError};
use crate::shell::{quote, quote_path};
use crate::tls::files::remedy;

/// One thing that was looked at.
pub(super) struct Check {
    /// What it is about.
    pub(super) name: &'static str,
    /// How it is.
    pub(super) state: State,
    /// The same in words.
    pub(super) words: String,
    /// What helps; empty for nothing.
    remedy: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Well,
    /// In nobody's way, and worth a look.
    Doubtful,
    /// In the way.
    Bad,
}

impl State {
    /// For the margin.
    pub(super) fn word(self) -> &'static str {
        match self {
            State::Well => "ok",
            State::Doubtful => "look",
            State::Bad => "BAD",
        }
    }
}

impl Check {
    fn new(name: &'static str, state: State, words: impl Into<String>) -> Self {
        Self { name, state, words: printable(&words.into()), remedy: String::new() }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    /// What helps, in the form that listeners have it.
    pub(super) fn explanation(&self) -> Explanation {
        let ways = (!self.remedy.is_empty())
            .then(|| Way { command: self.remedy.clone(), note: String::new() });
        Explanation { ways: ways.into_iter().collect(), ..Explanation::default() }
    }

    pub(super) fn to_json(&self) -> Value {
        let remedy = (!self.remedy.is_empty()).then_some(&self.remedy);
        json!({
            "name": self.name,
            "ok": self.state != State::Bad,
            "state": match self.state {
                State::Well => "ok",
                State::Doubtful => "look",
                State::Bad => "bad",
            },
            "why": self.words,
            "remedy": remedy,
        })
    }
}

/// Everything but the listeners.
pub(super) fn all(config: &Config, rights: &Rights, host: &Host) -> Vec<Check> {
    let (user, check) = user(config, rights, host);
    let user = user.as_ref();
    let checks = [
        Some(check),
        certificates(config, user, host),
        storage(config, user, host),
        access_log(config, user, host),
        Some(control_socket(config, host)),
        Some(descriptors(config)),
        Some(sandbox(config)),
    ];
    checks.into_iter().flatten().collect()
}

/// Whom the program becomes, if anybody.
fn user(config: &Config, rights: &Rights, host: &Host) -> (Option<Identity>, Check) {
    let check = |state, words: String| Check::new("user", state, words);
    if rights.uid != 0 {
        return (None, check(State::Well, format!("serves as {}", rights.user())));
    }
    let name = config.server.user.as_deref().unwrap_or(DEFAULT_USER);
    if matches!(name, "root" | "0") {
        let words = "stays root, as `user` says: every file that root owns is open to a break-in";
        let check = check(State::Doubtful, words.to_owned());
        return (None, check.remedy(format!("user = \"{DEFAULT_USER}\"")));
    }
    match find(name) {
        Ok(identity) if as_user(Some(&identity), || ()).is_none() => {
            let words = format!(
                "root cannot be left for {identity} here: that takes the capabilities SETUID and \
                 SETGID, and a user namespace that knows this user"
            );
            let mend = "start it as another user (docker run --user 65532), or: user = \"root\"";
            (Some(identity), check(State::Bad, words).remedy(mend))
        }
        Ok(identity) => {
            let words = format!("binds as root, then becomes {identity}");
            (Some(identity), check(State::Well, words))
        }
        Err(PrivilegeError::UnknownUser(_)) if name == DEFAULT_USER => {
            let nobody = find("nobody").or_else(|_| find("65534")).ok();
            let words = format!("there is no user {DEFAULT_USER}: it becomes nobody instead");
            let make = format!("useradd --system --shell /usr/sbin/nologin {DEFAULT_USER}");
            (nobody, check(State::Doubtful, words).remedy(host.as_root(&[make])))
        }
        Err(error) => (None, check(State::Bad, error.to_string())),
    }
}

/// Keys are read at the start, as root where it is one, and again in each reload.
fn certificates(config: &Config, user: Option<&Identity>, host: &Host) -> Option<Check> {
    let pairs = config.sites.iter().filter_map(|site| match &site.tls {
        TlsSource::Files { cert, key } => Some([cert, key]),
        TlsSource::Auto | TlsSource::Local | TlsSource::OnDemand(_) => None,
    });
    let files: BTreeSet<&Path> = pairs.flatten().map(PathBuf::as_path).collect();
    let hidden = || files.iter().filter(|file| !may_read(file)).copied().collect::<Vec<_>>();
    let hidden = as_user(user, hidden)?;
    let check = |state, words| Some(Check::new("certificates", state, words));
    match (hidden.as_slice(), user) {
        _ if files.is_empty() => None,
        ([], _) => check(State::Well, format!("{} files can be read, now and later", files.len())),
        ([first, rest @ ..], user) => {
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            let who = user.map_or_else(|| "this user".to_owned(), |user| quote(&user.name));
            let then = match user {
                Some(_) => {
                    "a start reads it as root, a reload or a renewed certificate is not taken up"
                }
                None => "no start without it",
            };
            let words = format!("{}{more} cannot be read by {who}: {then}", first.display());
            let mend = match user {
                Some(_) => host.as_root(&[format!("setfacl -m u:{who}:r {}", quote_path(first))]),
                None => remedy(first),
            };
            let state = if user.is_some() { State::Doubtful } else { State::Bad };
            check(state, words).map(|check| check.remedy(mend))
        }
    }
}

/// The local authority's folder; a start as root makes it for the user.
fn storage(config: &Config, user: Option<&Identity>, host: &Host) -> Option<Check> {
    let needs = config.sites.iter().any(|site| !matches!(site.tls, TlsSource::Files { .. }));
    if config.server.https.is_empty() || !needs {
        return None;
    }
    let folder = &config.acme.storage;
    let shown = folder.display();
    if user.is_some() && !folder.exists() && may_write_in(folder) {
        return Some(Check::new("storage", State::Well, format!("{shown} is made at the start")));
    }
    let Some(well) = as_user(user, || may_write_in(folder)) else {
        let words = format!("{shown} cannot be tried as {}, whom root cannot become", owner(user));
        return Some(Check::new("storage", State::Doubtful, words));
    };
    let check = if well {
        Check::new("storage", State::Well, format!("{shown} can be written"))
    } else {
        let who = owner(user);
        let words =
            format!("{shown} cannot be written by {who}, which keeps its certificates there");
        let folder_name = quote_path(folder);
        let mend = if folder.exists() {
            format!("chown -R {who} {folder_name}")
        } else {
            format!("install -d -o {who} -m 0700 {folder_name}")
        };
        Check::new("storage", State::Bad, words).remedy(host.as_root(&[mend]))
    };
    Some(check)
}

/// Opened as the user that the program becomes, and again after each rotation.
fn access_log(config: &Config, user: Option<&Identity>, host: &Host) -> Option<Check> {
    let AccessLog::File(file) = &config.log.access else { return None };
    let well = as_user(user, || may_write(file))?;
    let check = if well {
        Check::new("access log", State::Well, format!("{} can be written", file.display()))
    } else {
        let (who, folder) = (owner(user), file.parent().unwrap_or(Path::new("/")));
        let words = format!("{} cannot be written by {who}", file.display());
        let mend = match (file.exists(), folder.exists()) {
            (true, _) => format!("chown {who} {}", quote_path(file)),
            // The folder may be everybody's, as /var/log is.
            (false, true) => format!("install -o {who} -m 0640 /dev/null {}", quote_path(file)),
            (false, false) => format!("install -d -o {who} {}", quote_path(folder)),
        };
        Check::new("access log", State::Bad, words).remedy(host.as_root(&[mend]))
    };
    Some(check)
}

/// Made before any right is given up. The program serves without it, but nobody can ask it.
fn control_socket(config: &Config, host: &Host) -> Check {
    let socket = &config.admin.socket;
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let shown = socket.display();
    if let Err(error) = UnixStream::connect(socket)
        && error.kind() == ErrorKind::PermissionDenied
    {
        let words = format!(
            "{shown} is there already, and is another user's: `reload` and `status` would find nobody"
        );
        let remove = host.as_root(&[format!("rm {}", quote_path(socket))]);
        return Check::new("control socket", State::Doubtful, words)
            .remedy(format!("if no server has it: {remove}"));
    }
    if may_write_in(folder) {
        return Check::new("control socket", State::Well, format!("{shown} can be made"));
    }
    let words = format!("{shown} cannot be made: `reload` and `status` would find nobody");
    let mend = if folder.exists() {
        "name a place that this user may write in: socket = \"...\" in [admin]".to_owned()
    } else {
        host.as_root(&[format!("install -d -o {} {}", owner(None), quote_path(folder))])
    };
    Check::new("control socket", State::Doubtful, words).remedy(mend)
}

/// Who is to own what is missing.
fn owner(user: Option<&Identity>) -> String {
    let own = || crate::audit::sockets::user_name(rustix::process::geteuid().as_raw());
    quote(user.map_or_else(own, |user| user.name.clone()))
}

fn descriptors(config: &Config) -> Check {
    let wanted = config.limits.connections;
    let carried = files::carried(wanted);
    if carried == wanted {
        let words = format!("enough for {wanted} connections");
        return Check::new("open files", State::Well, words);
    }
    let words = format!(
        "the limit on open files carries {carried} connections: limits.connections is {wanted}"
    );
    let enough = wanted.saturating_mul(2).saturating_add(64);
    Check::new("open files", State::Doubtful, words).remedy(format!(
        "LimitNOFILE={enough} in the unit, or before the start: ulimit -n {enough}"
    ))
}

/// What this kernel can shut the running program in with.
fn sandbox(config: &Config) -> Check {
    if config.server.sandbox == Sandbox::Off {
        return Check::new("sandbox", State::Doubtful, "switched off by the configuration")
            .remedy("sandbox = \"on\"");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let table = [
        (handles(AccessFs::from_all(ABI::V1), None), "files (Landlock, Linux 5.13)"),
        (handles(AccessFs::from_all(ABI::V1), Some(ABI::V4)), "ports (Landlock, Linux 6.7)"),
        (status.contains("\nSeccomp:"), "system calls (seccomp)"),
    ];
    let names = |there| {
        let names: Vec<_> = table.iter().filter(|(is, _)| *is == there).map(|(_, n)| *n).collect();
        names.join(", ")
    };
    let (can, lacks) = (names(true), names(false));
    if lacks.is_empty() {
        return Check::new("sandbox", State::Well, format!("this kernel can limit {can}"));
    }
    let words = format!("this kernel cannot limit {lacks}");
    if config.server.sandbox == Sandbox::Require {
        return Check::new("sandbox", State::Bad, words + ", and the configuration requires it")
            .remedy("sandbox = \"on\"");
    }
    Check::new("sandbox", State::Doubtful, words)
}

/// Whether the kernel's Landlock knows these rights. Nothing is limited by asking.
fn handles(files: landlock::BitFlags<AccessFs>, ports: Option<ABI>) -> bool {
    let ask = || {
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let rules = rules.handle_access(files)?;
        match ports {
            Some(abi) => rules.handle_access(AccessNet::from_all(abi))?.create(),
            None => rules.create(),
        }
    };
    ask().is_ok()
}
