//! The proxies that are compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    #[value(skip)]
    Portcullis,
    Nginx,
    Haproxy,
    Caddy,
}

impl Peer {
    /// Portcullis first, then the peers.
    pub(crate) const ALL: [Peer; 4] = [Peer::Portcullis, Peer::Nginx, Peer::Haproxy, Peer::Caddy];

    /// The name as its makers write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Portcullis => "Portcullis",
            Peer::Nginx => "nginx",
            Peer::Haproxy => "HAProxy",
            Peer::Caddy => "Caddy",
        }
    }

    /// Where the program is, or `None` if it is not installed; `portcullis` is our own.
    pub(crate) fn program(self, portcullis: &Path) -> Option<PathBuf> {
        match self {
            Peer::Portcullis => portcullis.is_file().then(|| portcullis.to_path_buf()),
            Peer::Nginx => installed("nginx"),
            Peer::Haproxy => installed("haproxy"),
            Peer::Caddy => installed("caddy"),
        }
    }

    /// The program's version as it tells it: the first word that starts with a digit.
    pub(crate) fn version(self, program: &Path) -> Option<String> {
        let flag = match self {
            Peer::Portcullis => "--version",
            Peer::Nginx | Peer::Haproxy => "-v",
            Peer::Caddy => "version",
        };
        let said = Command::new(program).arg(flag).output().ok()?;
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split([' ', '\t', '\n', '/']).map(|word| word.trim_start_matches('v'));
        let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        version.split(['-', '+']).next().map(str::to_owned)
    }
}

/// Looks `program` up on the search path and where Debian keeps servers, which is not on the
/// search path of an ordinary user.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    directories.map(|directory| directory.join(program)).find(|file| file.is_file())
}
