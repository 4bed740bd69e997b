//! What bans who tries passwords: fail2ban with a jail for sshd, or its like.

use std::fs;
use std::path::Path;

use super::proxies::{files, read};

/// What watches over sshd, in a few words; `None` when nothing that is known runs.
pub(super) fn guard(root: &Path) -> Option<String> {
    let running = processes(&root.join("proc"));
    let runs = |name: &str| running.iter().any(|process| process == name);
    if runs("fail2ban-server") && has_jail(&root.join("etc/fail2ban")) {
        return Some("fail2ban with a jail for sshd".to_owned());
    }
    let others = ["sshguard", "crowdsec", "denyhosts"];
    others.into_iter().find(|name| runs(name)).map(ToOwned::to_owned)
}

/// The names of all processes.
fn processes(proc: &Path) -> Vec<String> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let numbers = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    numbers
        .filter_map(|entry| fs::read(entry.path().join("comm")).ok())
        .map(|name| String::from_utf8_lossy(&name).trim_end().to_owned())
        .collect()
}

/// Whether the jail `sshd` is on: the last file that says so wins (jail.conf(5)).
fn has_jail(folder: &Path) -> bool {
    let inner = files(&folder.join("jail.d"));
    let of = |ending: &'static str| {
        inner.iter().filter(move |file| file.extension().is_some_and(|e| e == ending)).cloned()
    };
    let order = [folder.join("jail.conf")]
        .into_iter()
        .chain(of("conf"))
        .chain([folder.join("jail.local")])
        .chain(of("local"));
    let (mut by_default, mut jail) = (None, None);
    for file in order {
        let mut section = String::new();
        for line in read(&file).lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=')
                && key.trim() == "enabled"
            {
                let on = ["true", "yes", "on", "1"].contains(&&*value.trim().to_ascii_lowercase());
                match &*section {
                    "DEFAULT" => by_default = Some(on),
                    "sshd" | "ssh" => jail = Some(on),
                    _ => {}
                }
            }
        }
    }
    jail.or(by_default).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(running: &[&str], jails: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (number, name) in running.iter().enumerate() {
            let folder = root.path().join(format!("proc/{}", number + 100));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
        }
        for (name, text) in jails {
            let file = root.path().join("etc/fail2ban").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn fail2ban_counts_with_its_jail_only() {
        let jail = ("jail.d/defaults-debian.conf", "[sshd]\nenabled = true\n");
        let on = host(&["fail2ban-server"], &[jail]);
        assert!(guard(on.path()).unwrap().contains("fail2ban"));
        assert_eq!(guard(host(&["fail2ban-server"], &[]).path()), None);
        assert_eq!(guard(host(&["sh"], &[jail]).path()), None);
        let off = ("jail.local", "[DEFAULT]\nenabled = true\n[sshd]\nenabled = false\n");
        assert_eq!(guard(host(&["fail2ban-server"], &[jail, off]).path()), None);
    }

    #[test]
    fn others_do_as_well() {
        assert_eq!(guard(host(&["crowdsec"], &[]).path()).as_deref(), Some("crowdsec"));
    }
}
