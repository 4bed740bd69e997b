//! The network namespaces of this host (network_namespaces(7)).

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use crate::audit::sockets::{self, printable};

/// Where `ip netns` keeps the namespaces that it named.
const NAMED: &str = "/run/netns";

/// Processes kept for each namespace: one that ends before its table is read is no loss then.
const WITNESSES: usize = 8;

/// A network namespace that is not this process's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    /// The name that `ip netns` gave it, or the kernel's: `net:[4026532208]`.
    pub(super) name: String,
    /// Some processes in it.
    pub(super) processes: Vec<u32>,
}

/// The network namespaces that this process may see.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// By name.
    pub(super) others: Vec<Namespace>,
    /// Processes whose namespace may not be seen.
    pub(super) closed: usize,
}

impl Namespaces {
    /// Looks at every process.
    pub(super) fn see() -> Self {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
        let ours = of("self").ok();
        let mut found: HashMap<String, Vec<u32>> = HashMap::new();
        let mut closed = 0;
        for pid in sockets::pids() {
            match of(&pid.to_string()) {
                Ok(link) if Some(&link) == ours.as_ref() => {}
                Ok(link) => {
                    let witnesses = found.entry(link.to_string_lossy().into_owned()).or_default();
                    witnesses.extend((witnesses.len() < WITNESSES).then_some(pid));
                }
                Err(error) => closed += usize::from(error.kind() == ErrorKind::PermissionDenied),
            }
        }
        let names = if found.is_empty() { HashMap::new() } else { names() };
        let mut others: Vec<Namespace> = found
            .into_iter()
            .map(|(link, processes)| Namespace {
                name: number(&link).and_then(|it| names.get(&it).cloned()).unwrap_or(link),
                processes,
            })
            .collect();
        others.sort_by(|a, b| a.name.cmp(&b.name));
        Namespaces { others, closed }
    }
}

/// `net:[4026532208]`
fn number(link: &str) -> Option<u64> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The names that `ip netns` gave, by the numbers of the namespaces.
fn names() -> HashMap<u64, String> {
    let Ok(entries) = fs::read_dir(NAMED) else { return HashMap::new() };
    let named = entries.flatten().filter_map(|entry| {
        let number = fs::metadata(entry.path()).ok()?.ino();
        Some((number, printable(&entry.file_name().to_string_lossy())))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_numbers_namespaces() {
        assert_eq!(number("net:[4026532208]"), Some(4_026_532_208));
        assert_eq!(number("mnt:[1]"), None);
    }

    #[test]
    fn this_namespace_is_not_among_the_others() {
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        let seen = Namespaces::see();
        assert!(seen.others.iter().all(|other| Some(other.name.as_str()) != ours.to_str()));
        let us = std::process::id();
        assert!(seen.others.iter().all(|other| !other.processes.contains(&us)));
    }
}
