//! What an inventory does not show, and how to see it, in sentences.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Listener;
use crate::audit::sockets::user_name;

/// What was in the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Obstacles {
    pub(super) is_root: bool,
    /// Processes whose descriptors may not be read.
    pub(super) closed: usize,
    /// More descriptors than are looked at.
    pub(super) is_cut: bool,
    /// Network namespaces that were not looked at, by name.
    pub(super) namespaces: Vec<String>,
    /// Processes whose network namespace may not be seen, where that was asked for.
    pub(super) hidden_namespaces: usize,
    /// The time for the lists of dpkg ended.
    pub(super) packages_are_cut: bool,
    /// Why the firewall is not known.
    pub(super) firewall: Option<String>,
}

impl Obstacles {
    /// A sentence each.
    pub(super) fn tell(&self, listeners: &[Listener]) -> Vec<String> {
        let mut told = Vec::new();
        told.extend(self.without_holder(listeners));
        if !self.namespaces.is_empty() {
            told.push(format!(
                "{} of this host {} not looked at: {}. To see {}: sudo portcullis audit \
                 --all-namespaces",
                count(self.namespaces.len(), "other network namespace"),
                if self.namespaces.len() == 1 { "was" } else { "were" },
                some(&self.namespaces),
                if self.namespaces.len() == 1 { "it" } else { "them" },
            ));
        }
        if self.hidden_namespaces > 0 {
            let how = if self.is_root {
                "run this outside of the container, or with CAP_SYS_PTRACE"
            } else {
                "sudo portcullis audit --all-namespaces"
            };
            told.push(format!(
                "The network namespaces of {} could not be seen. To see them: {how}",
                count(self.hidden_namespaces, "process")
            ));
        }
        if self.packages_are_cut {
            told.push(
                "The package of some programs was not found in time. To see it: dpkg -S FILE"
                    .to_owned(),
            );
        }
        told.extend(self.firewall.clone());
        told
    }

    fn without_holder(&self, listeners: &[Listener]) -> Option<String> {
        let mut users: BTreeMap<u32, usize> = BTreeMap::new();
        for listener in listeners.iter().filter(|listener| listener.holder.is_none()) {
            *users.entry(listener.uid).or_default() += 1;
        }
        let all = users.values().sum();
        if all == 0 {
            return None;
        }
        let mut who = String::new();
        for (uid, number) in users {
            let comma = if who.is_empty() { "" } else { ", " };
            let _ = write!(who, "{comma}{} {number}", user_name(uid));
        }
        let all = count(all, "listener");
        Some(if self.is_cut {
            format!(
                "The holders of {all} were not looked for: the processes here hold more \
                 descriptors than an inventory looks at. To see them: sudo ss -Htulpn"
            )
        } else if !self.is_root {
            format!(
                "The holders of {all} (by user: {who}) are processes that this user may not look \
                 into. To see them: sudo portcullis audit"
            )
        } else if self.closed > 0 {
            format!(
                "The holders of {all} (by user: {who}) may be among {} that did not let even root \
                 look. To see them: run this outside of the container, or with CAP_SYS_PTRACE",
                count(self.closed, "process")
            )
        } else {
            format!(
                "The holders of {all} (by user: {who}) are no processes that show here: the \
                 kernel itself (WireGuard, VXLAN, NFS), or a process outside of this container. \
                 To see them: run this outside of it"
            )
        })
    }
}

/// `1 process`, `2 processes`
fn count(number: usize, what: &str) -> String {
    let ending = match (number, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {what}{ending}")
}

/// The first few names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Exposure, Protocol};
    use super::*;

    fn hidden(uid: u32) -> Listener {
        Listener {
            protocol: Protocol::Tcp,
            port: 80,
            addresses: vec!["0.0.0.0".parse().unwrap()],
            v6_only: None,
            exposure: Exposure::Public,
            firewall: None,
            namespace: None,
            uid,
            holder: None,
        }
    }

    #[test]
    fn nothing_in_the_way_is_nothing_to_tell() {
        assert_eq!(Obstacles::default().tell(&[]), [""; 0]);
    }

    #[test]
    fn an_ordinary_user_is_told_to_ask_as_root() {
        let told = Obstacles::default().tell(&[hidden(0), hidden(0), hidden(4_000_000_123)]);
        assert_eq!(
            told,
            ["The holders of 3 listeners (by user: root 2, 4000000123 1) are processes that this \
              user may not look into. To see them: sudo portcullis audit"]
        );
    }

    #[test]
    fn root_is_told_what_even_root_does_not_see() {
        let tell = |obstacles: Obstacles| {
            Obstacles { is_root: true, ..obstacles }.tell(&[hidden(0)]).join("\n")
        };
        assert!(tell(Obstacles::default()).contains("the kernel itself (WireGuard"));
        let closed = tell(Obstacles { closed: 2, ..Obstacles::default() });
        assert!(closed.contains("among 2 processes that did not let even root"), "{closed}");
        let cut = tell(Obstacles { is_cut: true, ..Obstacles::default() });
        assert!(cut.contains("more descriptors than"), "{cut}");
    }

    #[test]
    fn namespaces_are_named_up_to_a_few() {
        let namespaces = (1..=7).map(|n| format!("ns{n}")).collect();
        let told = Obstacles { namespaces, ..Obstacles::default() }.tell(&[]).join("\n");
        assert!(told.contains("7 other network namespaces of this host were not"), "{told}");
        assert!(told.contains("ns1, ns2, ns3, ns4, ns5 and 2 more."), "{told}");
        assert!(told.ends_with("sudo portcullis audit --all-namespaces"), "{told}");
    }
}
