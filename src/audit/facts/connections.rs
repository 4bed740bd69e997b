//! Who stands in front of whom, as open connections show: whoever holds 80 or 443 and has a
//! connection over loopback to a listener of somebody else is its proxy.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::proxies::Fronted;
use crate::audit::inventory::{Exposure, Holder, Inventory, Listener, Protocol};

/// Listeners that are connected to from a holder of 80 or 443, but for those that are known.
pub(super) fn fronted(inventory: &Inventory, known: &[Fronted]) -> Vec<Fronted> {
    let mut found: Vec<Fronted> = Vec::new();
    let proxies: Vec<&Holder> = proxies(inventory).collect();
    if proxies.is_empty() {
        return found;
    }
    let open: Vec<Open> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|file| open(&fs::read_to_string(file).unwrap_or_default()))
        .collect();
    for proxy in proxies {
        let pids: BTreeSet<u32> = proxy.others.iter().copied().chain([proxy.pid]).collect();
        let held: HashSet<u64> = pids.iter().flat_map(|pid| sockets(*pid)).collect();
        for Open { inode, port } in &open {
            let new = found.iter().chain(known).all(|other| other.port != *port);
            if new && held.contains(inode) && is_listener_of_another(*port, &pids, inventory) {
                let source = "a connection that is open".to_owned();
                found.push(Fronted { port: *port, proxy: proxy.comm.clone(), source });
            }
        }
    }
    found
}

/// Who holds a port of the web for others.
fn proxies(inventory: &Inventory) -> impl Iterator<Item = &Holder> {
    let serves = |listener: &&Listener| {
        listener.protocol == Protocol::Tcp
            && [80, 443].contains(&listener.port)
            && listener.exposure > Exposure::Loopback
            && listener.namespace.is_none()
    };
    inventory.listeners.iter().filter(serves).filter_map(|listener| listener.holder.as_ref())
}

fn is_listener_of_another(port: u16, pids: &BTreeSet<u32>, inventory: &Inventory) -> bool {
    inventory.listeners.iter().any(|listener| {
        let theirs = |holder: &Holder| !pids.contains(&holder.pid);
        listener.port == port
            && listener.protocol == Protocol::Tcp
            && listener.holder.as_ref().is_none_or(theirs)
    })
}

/// A connection to a port of this host.
struct Open {
    inode: u64,
    port: u16,
}

/// The established connections over loopback in one of the kernel's tables (proc_pid_net(5)).
fn open(text: &str) -> Vec<Open> {
    const ESTABLISHED: &str = "01";
    let connection = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, remote, ESTABLISHED, _, _, _, _, _, inode, ..] = columns.as_slice() else {
            return None;
        };
        let (ip, port) = remote.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        address(ip)?
            .to_canonical()
            .is_loopback()
            .then_some(Open { inode: inode.parse().ok()?, port })
    };
    text.lines().skip(1).filter_map(connection).collect()
}

/// 32-bit words in the host's byte order.
fn address(hex: &str) -> Option<IpAddr> {
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(u32::from_str_radix(hex, 16).ok()?.to_ne_bytes()).into());
    }
    let mut bytes = Vec::with_capacity(16);
    for at in [0, 8, 16, 24] {
        bytes.extend(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
}

fn sockets(pid: u32) -> Vec<u64> {
    // A proxy with more descriptors shows its applications in the first ones.
    const MOST: usize = 20_000;
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.take(MOST).filter_map(inode).collect()
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::audit::verdict::testing::{held, holder, host, tcp};

    #[test]
    fn connections_over_loopback_are_read() {
        let text = "header\n\
            0: 0100007F:D431 0100007F:1F90 01 0:0 00:0 0 1000 0 31338 1 0 20 4 30 10 -1\n\
            1: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 1000 0 31337 1 0 100 0 0 10 0\n\
            2: 0700A8C0:D432 08080808:0050 01 0:0 00:0 0 1000 0 31339 1 0 20 4 30 10 -1\n\
            3: 0000000000000000FFFF00000100007F:D4 0000000000000000FFFF00000100007F:0BB8 01 0:0 \
            00:0 0 0 0 5 1\n";
        let found: Vec<_> = open(text).iter().map(|open| (open.inode, open.port)).collect();
        assert_eq!(found, [(31338, 8080), (5, 3000)]);
    }

    #[test]
    fn a_holder_of_443_that_is_connected_to_an_application_is_its_proxy() {
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = app.local_addr().unwrap().port();
        let _connection = TcpStream::connect(app.local_addr().unwrap()).unwrap();
        let mut proxy = holder("nginx");
        proxy.pid = std::process::id();
        let mut other = holder("app");
        other.pid = 1;
        let inventory = host(vec![held(tcp(443), proxy), held(tcp(port), other)]);
        let found = fronted(&inventory, &[]);
        assert!(found.iter().any(|f| f.port == port && f.proxy == "nginx"), "{found:?}");
        let known = [found.into_iter().find(|f| f.port == port).unwrap()];
        assert!(fronted(&inventory, &known).iter().all(|f| f.port != port));
    }
}
