//! What this host has to mend a missing right with, and how its commands are written.

use std::fs;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

use crate::shell::quote;

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
    /// The ports that the kernel gives to no connection by itself, as it tells them.
    pub reserved_ports: String,
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
    /// `su - -c`: with the path of root, which has the folders of administration in it. It begins
    /// in root's home.
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
            reserved_ports: read("/proc/sys/net/ipv4/ip_local_reserved_ports"),
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
            RootBy::Su => format!("su - -c {}", quote(each(""))),
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

/// The first namespaces of their kinds (`PROC_UTS_INIT_INO`, `PROC_IPC_INIT_INO` of the kernel's
/// `nsfs.h`): a process in both is in no container, whatever the image has left lying about.
const FIRST: [(&str, &str); 2] =
    [("/proc/self/ns/uts", "uts:[4026531838]"), ("/proc/self/ns/ipc", "ipc:[4026531839]")];

impl Inside {
    fn read() -> Option<Self> {
        let is_first = |(link, name): &(&str, &str)| {
            fs::read_link(link).is_ok_and(|link| link == Path::new(name))
        };
        if FIRST.iter().all(is_first) {
            return None;
        }
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
            (RootBy::Su, r"su - -c 'a b && c '\''d'\'''"),
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
}
