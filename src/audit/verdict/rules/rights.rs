//! More rights than the work needs: root, and capabilities.

use super::reach;
use crate::audit::facts::Facts;
use crate::audit::inventory::{Exposure, Holder, Inventory, Listener};
use crate::audit::verdict::{Severity, Verdict, quoted, remedy};

/// Programs whose work needs root (they become other users, or rule the host), or whose first
/// process only is root's while others do the work.
const NEED_ROOT: &[&str] = &[
    "sshd",
    "dropbear",
    "systemd",
    "init",
    "dockerd",
    "docker-proxy",
    "containerd",
    "kubelet",
    "master",
    "dovecot",
    "exim4",
    "sendmail",
    "proftpd",
    "smbd",
    "nmbd",
    "winbindd",
    "cupsd",
    "dhclient",
    "dhcpcd",
    "NetworkManager",
    "libvirtd",
    "xinetd",
    "inetd",
    "inetutils-inetd",
    "rpc.mountd",
    "rpc.statd",
    "nfsd",
    "charon",
    "pluto",
    "openvpn",
    "wpa_supplicant",
    "iscsid",
    "cockpit-tls",
    "login",
    "xrdp-sesman",
    "slapd",
    "keepalived",
    "bgpd",
    "zebra",
    "openvswitch",
    "vsftpd",
    "pure-ftpd",
];

/// The user that Debian's packages make for a daemon.
const USERS: &[(&str, &str)] = &[
    ("nginx", "www-data"),
    ("apache2", "www-data"),
    ("lighttpd", "www-data"),
    ("caddy", "caddy"),
    ("haproxy", "haproxy"),
    ("named", "bind"),
    ("redis-server", "redis"),
    ("snmpd", "Debian-snmp"),
    ("portcullis", "portcullis"),
];

const REFERENCE: &str = "capabilities(7); systemd.exec(5), \"AmbientCapabilities=\"; NIST SP \
    800-123 §4.2 (least privilege)";

pub(super) fn root(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let holder = listener.holder.as_ref().filter(|holder| holder.is_root)?;
    // Root of a container is contained by it, and its units are the container's.
    if NEED_ROOT.contains(&&*holder.comm) || holder.container.is_some() || holder.pid == 1 {
        return None;
    }
    // Root without any right but to bind is root in name only.
    let beyond = holder.capabilities.iter().any(|c| bare(c) != "net_bind_service");
    if !beyond {
        return None;
    }
    let is_low = listener.port < 1024;
    let public = if has_workers(holder) { Severity::Low } else { Severity::Medium };
    let severity = match listener.exposure {
        Exposure::Loopback => Severity::Low,
        _ => reach::severity(listener, public)?,
    };
    let why = if is_low {
        "to bind a low port it needs one capability or a socket from systemd"
    } else {
        "its port needs no right at all"
    };
    let workers = if has_workers(holder) { "The first process of " } else { "" };
    Some(Verdict {
        severity,
        reason: format!("{workers}{} runs as root, though {why}.", holder.comm),
        reference: REFERENCE,
        remedy: unprivileged(listener, holder, facts),
    })
}

/// Servers whose workers leave root by themselves.
fn has_workers(holder: &Holder) -> bool {
    ["nginx", "apache2", "haproxy", "lighttpd", "named", "dnsmasq"].contains(&holder.comm.as_str())
}

/// The user that the daemon should be.
pub(crate) fn user_for(holder: &Holder, facts: &Facts) -> String {
    let known = USERS.iter().find(|(comm, _)| *comm == holder.comm).map(|(_, user)| *user);
    if let Some(user) = known.filter(|user| facts.users.is_empty() || facts.users.contains(*user)) {
        return user.to_owned();
    }
    let unit = holder.unit.as_deref().unwrap_or(&holder.comm);
    let stem = unit.split(['.', '@']).next().unwrap_or(unit).to_ascii_lowercase();
    // useradd(8): letters, digits, `-` and `_`, a letter first, at most 32.
    let word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let user: String = stem.chars().filter(|c| word(*c)).take(24).collect();
    if user.starts_with(|c: char| c.is_ascii_alphabetic()) && user != "root" {
        user
    } else {
        format!("svc-{user}")
    }
}

/// The drop-in for its unit; without a unit, a start that makes one.
fn unprivileged(listener: &Listener, holder: &Holder, facts: &Facts) -> String {
    let is_low = listener.port < 1024;
    let service = holder.unit.as_deref().filter(|unit| unit.ends_with(".service"));
    if let Some(unit) = service {
        let user = user_for(holder, facts);
        return remedy::write_drop_in(unit, &user, &remedy::drop_in(unit, &user, is_low));
    }
    // Started by hand, though its package brings a unit, with a user and folders of its own.
    let own = [Some(&holder.comm), holder.package.as_ref()];
    let own = own.into_iter().flatten().map(|name| format!("{name}.service"));
    if let Some(unit) = own.into_iter().find(|unit| facts.units.contains(unit)) {
        let user = user_for(holder, facts);
        let lines = remedy::drop_in(&unit, &user, is_low);
        let written = remedy::write_drop_in(&unit, &user, &lines);
        return format!("kill {}; systemctl enable {}; {written}", holder.pid, quoted(&unit));
    }
    let bind = if is_low {
        " -p AmbientCapabilities=CAP_NET_BIND_SERVICE -p CapabilityBoundingSet=CAP_NET_BIND_SERVICE"
    } else {
        ""
    };
    format!(
        "systemd-run --unit={} -p DynamicUser=yes -p NoNewPrivileges=yes{bind} -- {}   # after: kill {}",
        remedy::unit_name(holder),
        remedy::start(holder),
        holder.pid,
    )
}

/// Capabilities that are as good as root.
const DANGEROUS: &[&str] = &[
    "sys_admin",
    "sys_ptrace",
    "sys_module",
    "sys_rawio",
    "dac_override",
    "dac_read_search",
    "setuid",
    "setgid",
    "setfcap",
    "chown",
    "fowner",
    "net_admin",
    "bpf",
    "sys_boot",
    "mknod",
];

/// What programs of Debian are given and use.
const USED: &[(&str, &[&str])] = &[
    ("chronyd", &["sys_time", "net_bind_service"]),
    ("ntpd", &["sys_time", "net_bind_service", "ipc_lock"]),
    ("systemd-timesyn", &["sys_time"]),
    ("systemd-network", &["net_admin", "net_bind_service", "net_broadcast", "net_raw", "bpf"]),
    ("systemd-resolve", &["net_raw", "net_bind_service", "setpcap"]),
    (
        "named",
        &["net_bind_service", "sys_resource", "setgid", "setuid", "chown", "dac_read_search"],
    ),
    ("dnsmasq", &["net_bind_service", "net_admin", "net_raw", "chown", "setgid", "setuid"]),
    ("dhclient", &["net_raw", "net_bind_service", "net_admin"]),
    ("openvpn", &["net_admin", "net_bind_service"]),
    ("nmbd", &["net_bind_service"]),
    ("tailscaled", &["net_admin", "net_raw"]),
];

pub(super) fn capabilities(listener: &Listener, _: &Inventory, facts: &Facts) -> Option<Verdict> {
    let holder = listener.holder.as_ref().filter(|holder| !holder.is_root)?;
    let used =
        USED.iter().find(|(comm, _)| *comm == holder.comm).map_or(&[][..], |(_, used)| *used);
    let held: Vec<String> = holder.capabilities.iter().map(|name| bare(name)).collect();
    let beyond: Vec<&String> = held
        .iter()
        .filter(|name| !used.contains(&name.as_str()))
        .filter(|name| *name != "net_bind_service" || listener.port >= 1024)
        .collect();
    if beyond.is_empty() {
        return None;
    }
    let is_dangerous = beyond.iter().any(|name| DANGEROUS.contains(&name.as_str()));
    let public = if is_dangerous { Severity::High } else { Severity::Low };
    let severity = reach::severity(listener, public).unwrap_or(public.lower().lower());
    let list: Vec<String> =
        beyond.iter().map(|name| format!("CAP_{}", name.to_uppercase())).collect();
    let like_root = if is_dangerous { ", which is as good as root" } else { "" };
    Some(Verdict {
        severity,
        reason: format!("{} holds {} beyond its need{like_root}.", holder.comm, list.join(", ")),
        reference: REFERENCE,
        remedy: remedy::fewer(listener, holder, facts),
    })
}

/// `CAP_NET_ADMIN` -> `net_admin`
fn bare(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("cap_").map(ToOwned::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{
        held, holder, host, local, nothing, root as as_root, tcp,
    };

    #[test]
    fn a_daemon_that_needs_no_root_gets_the_drop_in_of_its_unit() {
        let app = held(tcp(80), as_root("app"));
        let verdict = root(&app, &host(vec![]), &nothing()).unwrap();
        assert_eq!(verdict.severity, Severity::Medium);
        assert!(verdict.remedy.contains("/etc/systemd/system/app.service.d"), "{verdict:?}");
        assert!(verdict.remedy.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE"), "{verdict:?}");
        assert!(verdict.remedy.contains("User=app"), "{verdict:?}");
        let high = root(&held(tcp(8080), as_root("app")), &host(vec![]), &nothing()).unwrap();
        assert!(high.reason.contains("needs no right"), "{high:?}");
        assert!(!high.remedy.contains("CAP_NET_BIND_SERVICE"), "{high:?}");
        let mut bare = app;
        bare.holder.as_mut().unwrap().unit = None;
        let bare = root(&bare, &host(vec![]), &nothing()).unwrap();
        assert!(bare.remedy.starts_with("systemd-run --unit=app"), "{bare:?}");
        let units = ["app.service".to_owned()].into();
        let mut by_hand = held(tcp(80), as_root("app"));
        by_hand.holder.as_mut().unwrap().unit = None;
        let verdict = root(&by_hand, &host(vec![]), &Facts { units, ..nothing() }).unwrap();
        assert!(verdict.remedy.starts_with("kill 812; systemctl enable app.service; "));
        assert!(verdict.remedy.contains("User=app"), "{verdict:?}");
    }

    #[test]
    fn nginx_by_hand_gets_a_drop_in_and_is_told_what_it_takes() {
        let units = ["nginx.service".to_owned()].into();
        let mut nginx = as_root("nginx");
        nginx.unit = None;
        let facts = Facts { units, ..nothing() };
        let remedy = root(&held(tcp(80), nginx), &host(vec![]), &facts).unwrap().remedy;
        for part in [
            "User=www-data",
            "PIDFile=/run/nginx/nginx.pid",
            "pid /run/nginx/nginx.pid;",
            "chown -R www-data /var/log/nginx /var/lib/nginx",
            "/etc/systemd/system/nginx.service.d",
            "keys too",
        ] {
            assert!(remedy.contains(part), "{part} in {remedy}");
        }
    }

    #[test]
    fn who_needs_root_or_has_little_of_it_is_left_alone() {
        let judged = |listener| root(&listener, &host(vec![]), &nothing());
        assert_eq!(judged(held(tcp(22), as_root("sshd"))), None);
        assert_eq!(judged(held(tcp(80), holder("app"))), None);
        let mut little = as_root("app");
        little.capabilities = vec!["CAP_NET_BIND_SERVICE".to_owned()];
        assert_eq!(judged(held(tcp(80), little)), None);
        assert_eq!(judged(held(tcp(80), as_root("nginx"))).unwrap().severity, Severity::Low);
        assert_eq!(judged(held(local(80), as_root("app"))).unwrap().severity, Severity::Low);
    }

    #[test]
    fn the_user_of_the_package_is_taken_where_it_exists() {
        let mut facts = nothing();
        assert_eq!(user_for(&as_root("nginx"), &facts), "www-data");
        facts.users.insert("root".to_owned());
        assert_eq!(user_for(&as_root("nginx"), &facts), "nginx");
        let mut odd = as_root("app");
        odd.unit = Some("9$(x)@y.service".to_owned());
        assert_eq!(user_for(&odd, &facts), "svc-9x");
    }

    #[test]
    fn capabilities_beyond_the_bind_are_found() {
        let with = |port, names: &[&str]| {
            let mut app = holder("app");
            app.capabilities = names.iter().map(|name| (*name).to_owned()).collect();
            capabilities(&held(tcp(port), app), &host(vec![]), &nothing())
        };
        assert_eq!(with(80, &["CAP_NET_BIND_SERVICE"]), None);
        assert_eq!(with(8080, &[]), None);
        assert_eq!(with(8080, &["CAP_NET_BIND_SERVICE"]).unwrap().severity, Severity::Low);
        let ruler = with(80, &["CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN"]).unwrap();
        assert_eq!(ruler.severity, Severity::High);
        assert!(ruler.reason.contains("CAP_SYS_ADMIN beyond"), "{ruler:?}");
        let mut clock = holder("chronyd");
        clock.capabilities = vec!["CAP_SYS_TIME".to_owned()];
        assert_eq!(capabilities(&held(tcp(323), clock), &host(vec![]), &nothing()), None);
    }

    #[test]
    fn no_interpreter_is_given_a_capability_and_no_file_loses_what_it_has_not() {
        let remedy = |port, exe: &str, has_attribute: bool| {
            let mut app = holder("app");
            (app.unit, app.exe) = (None, Some(exe.into()));
            app.capabilities = vec!["CAP_NET_BIND_SERVICE".to_owned(), "CAP_NET_RAW".to_owned()];
            let capable_files = has_attribute.then(|| exe.into()).into_iter().collect();
            let facts = Facts { capable_files, ..nothing() };
            capabilities(&held(tcp(port), app), &host(vec![]), &facts).unwrap().remedy
        };
        for exe in ["/usr/bin/python3.11", "/usr/bin/node", "/usr/bin/php-fpm8.2", "/usr/sbin/app"]
        {
            let given = remedy(80, exe, false);
            assert!(!given.contains("setcap"), "{given}");
            assert!(given.contains("CapabilityBoundingSet=CAP_NET_BIND_SERVICE"), "{given}");
            assert!(!remedy(8080, exe, false).contains("setcap"), "{exe}");
            assert!(remedy(8080, exe, true).starts_with("setcap -r "), "{exe}");
        }
        assert!(remedy(80, "/usr/bin/python3.11", true).starts_with("setcap -r "));
        assert!(remedy(80, "/usr/sbin/app", true).starts_with("setcap cap_net_bind_service=ep"));
    }
}
