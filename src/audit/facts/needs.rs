//! Which socket units of systemd this host has a use for, as far as files tell.

use std::collections::BTreeSet;
use std::path::Path;

use super::proxies::read;

/// The units, of those that the rules ask about, for which there is work.
pub(super) fn sockets(root: &Path) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    let mounts = read(&root.join("proc/self/mounts"));
    let mounts_nfs = mounts
        .lines()
        .any(|line| line.split_ascii_whitespace().nth(2).is_some_and(|kind| kind == "nfs"));
    if mounts_nfs || says_something(&root.join("etc/exports")) {
        needed.insert("rpcbind.socket".to_owned());
    }
    if read(&root.join("etc/cups/printers.conf")).contains("<Printer") {
        needed.insert("cups.socket".to_owned());
    }
    if says_something(&root.join("etc/rsyncd.conf")) {
        needed.insert("rsync.socket".to_owned());
    }
    needed
}

fn says_something(file: &Path) -> bool {
    read(file).lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_is_needed() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(sockets(root.path()), BTreeSet::new());
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/exports"), "# nothing\n\n").unwrap();
        assert_eq!(sockets(root.path()), BTreeSet::new());
        std::fs::write(root.path().join("etc/exports"), "/srv *(ro)\n").unwrap();
        assert!(sockets(root.path()).contains("rpcbind.socket"));
    }
}
