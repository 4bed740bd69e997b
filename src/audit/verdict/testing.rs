//! Listeners and hosts for the tests of the rules.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use crate::audit::facts::Facts;
use crate::audit::inventory::{ExeState, Exposure, Holder, Host, Inventory, Listener, Protocol};

/// TCP on all interfaces, the holder unknown.
pub(crate) fn tcp(port: u16) -> Listener {
    Listener {
        protocol: Protocol::Tcp,
        port,
        addresses: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        v6_only: None,
        exposure: Exposure::Public,
        firewall: None,
        namespace: None,
        uid: 0,
        holder: None,
    }
}

/// UDP on all interfaces, the holder unknown.
pub(crate) fn udp(port: u16) -> Listener {
    Listener { protocol: Protocol::Udp, ..tcp(port) }
}

/// TCP on loopback, the holder unknown.
pub(crate) fn local(port: u16) -> Listener {
    Listener {
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        exposure: Exposure::Loopback,
        ..tcp(port)
    }
}

/// An ordinary service of this name: its own user, unit and package, no capability.
pub(crate) fn holder(name: &str) -> Holder {
    Holder {
        pid: 812,
        command: format!("/usr/sbin/{name}"),
        comm: name.chars().take(15).collect(),
        exe: Some(format!("/usr/sbin/{name}").into()),
        exe_state: ExeState::Present,
        uid: 101,
        user: name.to_owned(),
        capabilities: Vec::new(),
        is_root: false,
        unit: Some(format!("{name}.service")),
        socket_unit: None,
        container: None,
        package: Some(name.to_owned()),
        since: None,
        others: Vec::new(),
    }
}

/// The same as root, with the capabilities that matter.
pub(crate) fn root(name: &str) -> Holder {
    Holder {
        uid: 0,
        user: "root".to_owned(),
        is_root: true,
        capabilities: vec!["CAP_NET_BIND_SERVICE".to_owned(), "CAP_SYS_ADMIN".to_owned()],
        ..holder(name)
    }
}

/// `listener`, held by `holder`.
pub(crate) fn held(listener: Listener, holder: Holder) -> Listener {
    Listener { holder: Some(holder), ..listener }
}

/// A host on which these listen.
pub(crate) fn host(listeners: Vec<Listener>) -> Inventory {
    Inventory {
        listeners,
        unseen: Vec::new(),
        host: Host {
            name: "test".to_owned(),
            kernel: "6.1.0".to_owned(),
            is_root: true,
            namespaces: Vec::new(),
            taken: now(),
        },
    }
}

/// Nothing is known beyond the inventory.
pub(crate) fn nothing() -> Facts {
    Facts { now: now(), ..Facts::default() }
}

/// The moment of all tests.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}
