//! What this host has to mend a missing right with, and how its commands are written.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

/// What this host has to mend things with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// How this user gets root's rights.
    pub root_by: RootBy,
    /// Whether `setcap` is there.
    pub setcap: bool,
    /// How `setcap` is installed.
    pub install_setcap: Option<&'static str>,
    /// Whether systemd is in charge.
    pub systemd: bool,
    /// Whether SELinux refuses, rather than only noting.
    pub selinux: bool,
    /// What this process is shut in by, where the host is not the machine.
    pub inside: Option<Inside>,
}

/// How a command is run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootBy {
    /// As it is.
    Nothing,
    /// `sudo` in front of it.
    Sudo,
    /// `doas` in front of it.
    Doas,
    /// `su -c`.
    Su,
}

/// What a container is run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// `docker`
    Docker,
    /// `podman`; whether without root's rights on the host.
    Podman {
        /// Whether its root is an ordinary user of the host.
        rootless: bool,
    },
    /// A pod.
    Kubernetes,
    /// LXC, systemd-nspawn or another that runs a whole system.
    System,
}

/// What installs packages, and `setcap` by it.
const PACKAGES: &[(&str, &str)] = &[
    ("apt-get", "apt-get install libcap2-bin"),
    ("dnf", "dnf install libcap"),
    ("yum", "yum install libcap"),
    ("apk", "apk add libcap"),
    ("zypper", "zypper install libcap-progs"),
    ("pacman", "pacman -S libcap"),
];

/// Where the administration's programs are, which the path of a user may leave out.
const FOLDERS: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];

impl Host {
    /// Looks at it. A thing that cannot be seen is not there.
    #[must_use]
    pub fn read() -> Self {
        let root_by = match () {
            () if rustix::process::geteuid().is_root() => RootBy::Nothing,
            () if has("sudo") => RootBy::Sudo,
            () if has("doas") => RootBy::Doas,
            () => RootBy::Su,
        };
        let install = PACKAGES.iter().find(|(manager, _)| has(manager)).map(|(_, how)| *how);
        Self {
            root_by,
            setcap: has("setcap"),
            install_setcap: install,
            systemd: Path::new("/run/systemd/system").is_dir(),
            selinux: read("/sys/fs/selinux/enforce").trim() == "1",
            inside: Inside::read(),
        }
    }

    /// The commands, one after the other, with root's rights.
    #[must_use]
    pub fn as_root(&self, commands: &[String]) -> String {
        let each = |word: &str| {
            let each: Vec<_> = commands.iter().map(|command| format!("{word}{command}")).collect();
            each.join(" && ")
        };
        match self.root_by {
            RootBy::Nothing => each(""),
            RootBy::Sudo => each("sudo "),
            RootBy::Doas => each("doas "),
            RootBy::Su => format!("su -c {}", quote(each(""))),
        }
    }

    /// The commands that give a file the capability.
    #[must_use]
    pub fn set_capability(&self, file: &str) -> Vec<String> {
        let set = format!("setcap cap_net_bind_service=p {file}");
        match self.install_setcap {
            Some(install) if !self.setcap => vec![install.to_owned(), set],
            _ => vec![set],
        }
    }
}

impl Inside {
    fn read() -> Option<Self> {
        let podman = read("/run/.containerenv");
        let variable = std::env::var("container").unwrap_or_default();
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            Some(Self::Kubernetes)
        } else if !podman.is_empty()
            || variable == "podman"
            || Path::new("/run/.containerenv").exists()
        {
            Some(Self::Podman { rootless: podman.contains("rootless=1") })
        } else if Path::new("/.dockerenv").exists() || variable == "docker" {
            Some(Self::Docker)
        } else {
            (!variable.is_empty()).then_some(Self::System)
        }
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(Into::into));
    folders.map(|folder| folder.join(program)).any(|file| {
        file.is_file()
            && rustix::fs::accessat(CWD, &file, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    })
}

/// A word as a shell takes it for one.
#[must_use]
pub fn quote(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(root_by: RootBy) -> Host {
        Host { root_by, setcap: true, ..Host::read() }
    }

    #[test]
    fn commands_get_roots_rights_in_the_way_that_the_host_has() {
        let commands = ["a b".to_owned(), "c 'd'".to_owned()];
        let table = [
            (RootBy::Nothing, "a b && c 'd'"),
            (RootBy::Sudo, "sudo a b && sudo c 'd'"),
            (RootBy::Doas, "doas a b && doas c 'd'"),
            (RootBy::Su, r"su -c 'a b && c '\''d'\'''"),
        ];
        for (by, expected) in table {
            assert_eq!(host(by).as_root(&commands), expected);
        }
    }

    #[test]
    fn a_missing_setcap_is_installed_first() {
        let mut host = host(RootBy::Sudo);
        assert_eq!(host.set_capability("x"), ["setcap cap_net_bind_service=p x"]);
        host.setcap = false;
        host.install_setcap = Some("apt-get install libcap2-bin");
        let both = host.as_root(&host.set_capability("x"));
        let expected = "sudo apt-get install libcap2-bin && sudo setcap cap_net_bind_service=p x";
        assert_eq!(both, expected);
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_expand_them() {
        assert_eq!(quote("/opt/portcullis-1.0"), "/opt/portcullis-1.0");
        assert_eq!(quote("/opt/my proxy"), "'/opt/my proxy'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("$HOME"), "'$HOME'");
        assert_eq!(quote(""), "''");
    }
}
