//! An address that a portcullis holds already, which is rather to be asked than to be stopped.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::host::Host;
use super::{Explanation, Wanted};
use crate::audit::sockets::{Listening, Process};
use crate::shell::{quote, quote_path};

/// The server that answers behind the control socket of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Its number.
    pub pid: u32,
    /// Where it listens, for metrics too.
    pub addresses: Vec<SocketAddr>,
    /// The file whose control socket it is; `None` for one that was started without a file.
    pub file: Option<PathBuf>,
}

impl Serving {
    /// Whether a socket is one of its own. It is closed to its own user, who sees no holder then.
    #[must_use]
    pub fn holds(&self, socket: &Listening) -> bool {
        match &socket.process {
            Some(process) => process.pid == self.pid,
            None => self.addresses.contains(&socket.address),
        }
    }
}

/// That the address is where it should be: the same configuration is served already.
pub(super) fn already(wanted: Wanted<'_>, serving: &Serving) -> Explanation {
    let (port, pid) = (wanted.listen.port(), serving.pid);
    let mut explanation = Explanation::new(format!(
        "Port {port} is held by the portcullis that is already serving with this configuration \
         (pid {pid})."
    ));
    match &serving.file {
        Some(file) => ask(&mut explanation, &format!(" -c {}", quote_path(file)), None),
        None => {
            explanation.way(wanted.elsewhere(0), "another port");
            explanation.way(format!("kill {pid}"), "if that one is not wanted any more");
        }
    }
    explanation
}

/// How another portcullis is asked; whether it has a file to be asked by.
pub(super) fn other(explanation: &mut Explanation, process: &Process, host: &Host) -> bool {
    let verb = process.arguments.get(1).map(AsRef::<OsStr>::as_ref);
    if verb != Some(OsStr::new("run")) {
        return false;
    }
    let file = config_of(process).map(|file| format!(" -c {}", quote(file))).unwrap_or_default();
    let us = rustix::process::geteuid();
    let is_ours = us.is_root() || process.uid == Some(us.as_raw());
    ask(explanation, &file, (!is_ours).then_some(host));
    true
}

fn ask(explanation: &mut Explanation, file: &str, as_root_of: Option<&Host>) {
    let command = |verb: &str| {
        let command = format!("portcullis {verb}{file}");
        match as_root_of {
            Some(host) => host.as_root(&[command]),
            None => command,
        }
    };
    explanation.way(command("reload"), "it takes its file anew, without being stopped");
    explanation.way(command("status"), "tells how it is");
}

/// Whether a process is this program too.
pub(super) fn is_portcullis(process: &Process) -> bool {
    process.comm == "portcullis"
        || process.exe.as_deref().is_some_and(|exe| exe.file_name() == Some("portcullis".as_ref()))
}

/// The value of `-c` on a command line, from the root where its folder is known.
fn config_of(process: &Process) -> Option<PathBuf> {
    let mut words = process.arguments.iter().map(OsStr::new);
    words.find(|word| *word == "-c" || *word == "--config")?;
    let file = words.next().map(Path::new)?;
    let folder = std::fs::read_link(format!("/proc/{}/cwd", process.pid)).ok();
    Some(folder.map_or_else(|| file.to_owned(), |folder| folder.join(file)))
}
