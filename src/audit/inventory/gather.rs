//! The sockets of all namespaces, joined to their holders and put together by port.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::holder::Processes;
use super::namespace::Namespace;
use super::{Exposure, Listener, Protocol};
use crate::audit::sockets::activation::SocketUnits;
use crate::audit::sockets::{self, Holders, Socket};

/// The listeners, and what was in the way.
pub(super) struct Gathered {
    /// By port, protocol, namespace and holder.
    pub(super) listeners: Vec<Listener>,
    /// Processes whose descriptors may not be read.
    pub(super) closed: usize,
    /// More descriptors than are looked at.
    pub(super) is_cut: bool,
}

/// The process that systemd is, where it is one.
const FIRST: u32 = 1;

/// What the sockets of one listener have in common, in the order of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    port: u16,
    protocol: Protocol,
    namespace: Option<String>,
    pid: Option<u32>,
    /// Tells listeners without a holder apart.
    uid: u32,
}

/// The sockets of this namespace and of others, and who holds them.
pub(super) fn gather(others: &[Namespace], processes: &mut Processes) -> io::Result<Gathered> {
    let sockets = sockets_of(others)?;
    let holders = sockets::holders(&sockets.iter().map(|(_, socket)| socket.inode).collect());
    let mut groups: BTreeMap<Key, Vec<Socket>> = BTreeMap::new();
    for (namespace, socket) in sockets {
        let pids = pids(&holders, &socket);
        // The first may have ended since; one of the others then holds the socket.
        let pid = pids.iter().copied().find(|pid| processes.holder(*pid).is_some());
        let key = Key {
            port: socket.address.port(),
            protocol: socket.protocol,
            namespace,
            pid,
            uid: if pid.is_some() { 0 } else { socket.uid },
        };
        groups.entry(key).or_default().push(socket);
    }
    let v6_only = sockets::v6_only();
    let mut units = None;
    let listeners = groups
        .into_iter()
        .filter_map(|(key, sockets)| {
            let mut listener = listener(&key, &sockets, &v6_only)?;
            let mut holder = key.pid.and_then(|pid| processes.holder(pid)).cloned();
            if let Some(holder) = &mut holder {
                let all: BTreeSet<u32> =
                    sockets.iter().flat_map(|socket| pids(&holders, socket)).copied().collect();
                holder.others = all.iter().copied().filter(|pid| *pid != holder.pid).collect();
                if all.contains(&FIRST) && key.namespace.is_none() {
                    let units = units.get_or_insert_with(|| SocketUnits::read(Path::new("/")));
                    let mut at = sockets.iter().map(|s| units.at(s.protocol, s.address));
                    let unit = at.find_map(|units| units.first().map(|unit| unit.name.clone()));
                    holder.socket_unit = unit;
                }
            }
            listener.holder = holder;
            Some(listener)
        })
        .collect();
    Ok(Gathered { listeners, closed: holders.closed, is_cut: holders.is_cut })
}

/// With the name of the namespace, `None` for this one.
fn sockets_of(others: &[Namespace]) -> io::Result<Vec<(Option<String>, Socket)>> {
    let here = sockets::open("self")?;
    let mut all: Vec<_> = here.into_iter().map(|socket| (None, socket)).collect();
    for Namespace { name, processes } in others {
        // A namespace whose processes have all ended has no sockets any more.
        let tables = processes.iter().find_map(|pid| sockets::open(&pid.to_string()).ok());
        all.extend(tables.into_iter().flatten().map(|socket| (Some(name.clone()), socket)));
    }
    Ok(all)
}

fn pids<'a>(holders: &'a Holders, socket: &Socket) -> &'a [u32] {
    holders.by_inode.get(&socket.inode).map_or(&[], Vec::as_slice)
}

/// `None` only for no sockets at all.
fn listener(key: &Key, sockets: &[Socket], v6_only: &HashMap<u64, bool>) -> Option<Listener> {
    let mut seen = HashSet::new();
    let mut addresses: Vec<IpAddr> = sockets
        .iter()
        .map(|socket| socket.address.ip().to_canonical())
        .filter(|ip| seen.insert(*ip))
        .collect();
    addresses.sort_unstable();
    let wildcards = sockets
        .iter()
        .filter(|socket| socket.address.is_ipv6() && socket.address.ip().is_unspecified());
    // Of several at once the widest counts.
    let v6_only = wildcards.map(|socket| v6_only.get(&socket.inode).copied()).min().flatten();
    Some(Listener {
        protocol: key.protocol,
        port: key.port,
        exposure: addresses.iter().copied().map(Exposure::of).max()?,
        addresses,
        v6_only,
        firewall: None,
        namespace: key.namespace.clone(),
        uid: sockets.first()?.uid,
        holder: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sockets::State;

    fn socket(address: &str, inode: u64) -> Socket {
        let (protocol, state) = (Protocol::Tcp, State::Listens);
        Socket { protocol, address: address.parse().unwrap(), state, inode, uid: 33 }
    }

    fn together(sockets: &[Socket], v6_only: &[(u64, bool)]) -> Listener {
        let key = Key { port: 80, protocol: Protocol::Tcp, namespace: None, pid: None, uid: 33 };
        listener(&key, sockets, &v6_only.iter().copied().collect()).unwrap()
    }

    #[test]
    fn the_sockets_of_a_listener_are_one_entry_as_exposed_as_the_widest() {
        let sockets = [
            socket("[::1]:80", 1),
            socket("10.0.0.1:80", 2),
            socket("127.0.0.1:80", 3),
            socket("127.0.0.1:80", 4),
        ];
        let found = together(&sockets, &[(1, false)]);
        let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "127.0.0.1", "::1"]);
        assert_eq!((found.exposure, found.v6_only, found.uid), (Exposure::Private, None, 33));
    }

    #[test]
    fn ipv4_is_left_out_only_if_every_wildcard_leaves_it_out() {
        let sockets = [socket("[::]:80", 1), socket("[::]:80", 2)];
        assert_eq!(together(&sockets, &[(1, true), (2, true)]).v6_only, Some(true));
        assert_eq!(together(&sockets, &[(1, true), (2, false)]).v6_only, Some(false));
        assert_eq!(together(&sockets, &[(1, true)]).v6_only, None);
        assert_eq!(together(&[socket("0.0.0.0:80", 1)], &[]).v6_only, None);
    }
}
