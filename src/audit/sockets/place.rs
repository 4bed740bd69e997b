//! From a process's control groups to the systemd unit or the container that it belongs to.

use std::fmt;

use crate::shell::quote;

/// Where a process belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The systemd service or container scope; `None` for a login session.
    pub unit: Option<String>,
    /// Whether that unit is one of a user's own manager (`systemctl --user`).
    pub of_user: bool,
    /// The container.
    pub container: Option<Container>,
}

/// A container and what runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// `docker`, `podman`, `lxc`, `machine` (systemd-machined), `kubernetes` or `containerd`.
    pub engine: &'static str,
    /// Its short id or its name.
    pub id: String,
}

impl Container {
    /// The command that stops it, without the right to do so.
    #[must_use]
    pub fn stop(&self) -> String {
        let (engine, id) = (self.engine, quote(&self.id));
        match engine {
            "lxc" => format!("lxc-stop -n {id}"),
            "machine" => format!("machinectl stop {id}"),
            "kubernetes" => format!("crictl stop {id}"),
            "containerd" => format!("ctr tasks kill {id}"),
            engine => format!("{engine} stop {id}"),
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.engine {
            "machine" => write!(f, "machine {}", self.id),
            engine => write!(f, "{engine} container {}", self.id),
        }
    }
}

impl Place {
    /// Of a process; of one that has ended, nothing.
    pub(crate) fn of(pid: u32) -> Self {
        super::text(pid, "cgroup").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// From the text of `/proc/PID/cgroup` (cgroups(7)).
    #[must_use]
    pub fn parse(cgroup: &str) -> Self {
        let paths = || cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let container = paths().find_map(|path| container(&path.split('/').collect::<Vec<_>>()));
        let systemd = cgroup.lines().find_map(|line| {
            // Empty where systemd keeps its own hierarchy beside the unified one.
            line.strip_prefix("0::")
                .filter(|path| *path != "/")
                .or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
        });
        let (unit, of_user) = systemd.map_or((None, false), unit);
        Self { unit, of_user, container }
    }
}

/// The service or scope, in the unified hierarchy or systemd's own: the outermost part of the path
/// that is no slice, and below a user's own manager the next such part. What is inside a unit is
/// named by whoever runs there, and is no unit (systemd's `cg_path_get_unit`).
fn unit(path: &str) -> (Option<String>, bool) {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && !part.ends_with(".slice"));
    let first = parts.next();
    let of_user = first.is_some_and(is_manager);
    let unit = if of_user { parts.next() } else { first };
    let manages = |name: &&str| {
        name.ends_with(".service")
            || (name.ends_with(".scope") && !name.starts_with("session-") && *name != "init.scope")
    };
    (unit.filter(manages).filter(|name| is_unit_name(name)).map(str::to_owned), of_user)
}

/// The manager of a user's own units: `user@1000.service`.
fn is_manager(part: &str) -> bool {
    part.starts_with("user@")
}

/// Whether systemd would have a unit of this name (systemd.unit(5)).
fn is_unit_name(name: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || r":-_.\@".contains(c);
    // UNIT_NAME_MAX, the zero at the end counted.
    name.len() < 256 && name.chars().all(is_valid)
}

/// The innermost container of a path's parts. Below a user's own manager it is that user who names
/// the parts, and no engine of the host knows them.
fn container(parts: &[&str]) -> Option<Container> {
    if parts.iter().any(|part| is_manager(part)) {
        return None;
    }
    let under = |at: usize| at.checked_sub(1).and_then(|at| parts.get(at)).copied().unwrap_or("");
    let of = |engine, id: &str| Some(Container { engine, id: super::printable(id) });
    let is_lxc = |folder: &str| matches!(folder, "lxc" | "lxc.payload");
    let hex = |text: &str| {
        let is_id = text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| text.get(..12).unwrap_or(text).to_owned())
    };
    parts.iter().enumerate().rev().find_map(|(at, part)| {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        if let Some((engine, id)) = name.rsplit_once('-').and_then(|(e, id)| Some((e, hex(id)?))) {
            match engine {
                "docker" => return of("docker", &id),
                "libpod" => return of("podman", &id),
                "cri-containerd" | "crio" => return of("kubernetes", &id),
                _ => {}
            }
        }
        if let Some(id) = hex(name) {
            match under(at) {
                "docker" => return of("docker", &id),
                "libpod_parent" => return of("podman", &id),
                // The namespace in which `ctr` and `nerdctl` put containers.
                "default" => return of("containerd", &id),
                pod if pod.starts_with("pod") || pod.contains("-pod") => {
                    return of("kubernetes", &id);
                }
                _ => {}
            }
        }
        let lxc = name.strip_prefix("lxc.payload.").or(is_lxc(under(at)).then_some(name));
        if let Some(lxc) = lxc {
            return of("lxc", lxc);
        }
        let machine = name.strip_prefix("machine-").filter(|_| part.ends_with(".scope"));
        let service = || name.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
        let machine = machine.or_else(service);
        machine.and_then(|machine| of("machine", &machine.replace("\\x2d", "-")))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit_of(text: &str) -> Option<String> {
        Place::parse(text).unit
    }

    #[test]
    fn the_unit_is_the_outermost_service_or_scope() {
        let nginx = Place::parse("0::/system.slice/nginx.service\n");
        assert_eq!((nginx.unit.as_deref(), nginx.of_user), (Some("nginx.service"), false));
        let v1 = "12:pids:/x\n1:name=systemd:/system.slice/ssh.service\n0::/\n";
        assert_eq!(unit_of(v1).as_deref(), Some("ssh.service"));
        let first = "0::/\n1:name=systemd:/system.slice/ssh.service\n";
        assert_eq!(unit_of(first).as_deref(), Some("ssh.service"));
        let nested = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n";
        let nested = Place::parse(nested);
        assert_eq!((nested.unit.as_deref(), nested.of_user), (Some("web.service"), true));
        let container = "0::/system.slice/docker-0a1b.scope/payload\n";
        assert_eq!(unit_of(container).as_deref(), Some("docker-0a1b.scope"));
    }

    #[test]
    fn a_login_session_is_no_unit() {
        assert_eq!(unit_of("0::/user.slice/user-1000.slice/session-3.scope\n"), None);
        assert_eq!(unit_of("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n"), None);
        assert_eq!(unit_of("0::/\n"), None);
        assert_eq!(unit_of(""), None);
    }

    #[test]
    fn a_container_is_known_by_its_path() {
        let id = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
        let table = [
            (format!("0::/system.slice/docker-{id}.scope"), "docker container 0a1b2c3d4e5f"),
            (format!("4:memory:/docker/{id}\n0::/"), "docker container 0a1b2c3d4e5f"),
            (format!("0::/machine.slice/libpod-{id}.scope/x"), "podman container 0a1b2c3d4e5f"),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/\
                     cri-containerd-{id}.scope"
                ),
                "kubernetes container 0a1b2c3d4e5f",
            ),
            (format!("0::/kubepods/besteffort/pod12/{id}"), "kubernetes container 0a1b2c3d4e5f"),
            ("0::/lxc.payload.web/system.slice/nginx.service".to_owned(), "lxc container web"),
            ("3:cpu:/lxc/web".to_owned(), "lxc container web"),
            (format!("0::/default/{id}"), "containerd container 0a1b2c3d4e5f"),
            ("0::/machine.slice/systemd-nspawn@web.service/payload".to_owned(), "machine web"),
            (r"0::/machine.slice/machine-my\x2dbox.scope".to_owned(), "machine my-box"),
        ];
        for (text, expected) in table {
            let container = Place::parse(&text).container.map(|container| container.to_string());
            assert_eq!(container.as_deref(), Some(expected), "{text}");
        }
        let monitor = format!("0::/machine.slice/libpod-conmon-{id}.scope");
        for none in [
            monitor.as_str(),
            "0::/system.slice/docker.service",
            "0::/user.slice/session-1.scope",
            "0::/",
        ] {
            assert_eq!(Place::parse(none).container, None, "{none}");
        }
    }

    #[test]
    fn a_name_that_somebody_chose_in_a_cgroup_of_his_own_is_no_unit_and_no_container() {
        let below = "0::/user.slice/user-1501.slice/user@1501.service/app.slice";
        let id = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
        for name in ["x$(id>&2).service", "a b;id.service", "x`id`.scope", "x'.service"] {
            assert_eq!(unit_of(&format!("{below}/{name}\n")), None, "{name}");
            assert_eq!(unit_of(&format!("0::/system.slice/{name}\n")), None, "{name}");
        }
        let of_engine = Place::parse(&format!("{below}/docker-{id}.scope\n"));
        assert_eq!((of_engine.container, of_engine.of_user), (None, true));
        // What runs in a unit may have cgroups of its own there, and names them as it likes.
        let within = "0::/system.slice/web.service/ssh.service\n";
        assert_eq!(unit_of(within).as_deref(), Some("web.service"));
        let payload = "0::/machine.slice/box.scope/payload/system.slice/nginx.service\n";
        assert_eq!(unit_of(payload).as_deref(), Some("box.scope"));
    }

    #[test]
    fn each_engine_has_its_command() {
        let stop = |engine| Container { engine, id: "x".to_owned() }.stop();
        assert_eq!(stop("docker"), "docker stop x");
        assert_eq!(stop("lxc"), "lxc-stop -n x");
        assert_eq!(stop("machine"), "machinectl stop x");
        let strange = Container { engine: "lxc", id: "x;$(id)".to_owned() };
        assert_eq!(strange.stop(), "lxc-stop -n 'x;$(id)'");
    }

    proptest! {
        /// Whoever names a folder names no unit with it that a shell or a terminal would mind.
        #[test]
        fn what_is_named_is_a_name(parts in prop::collection::vec(
            "[a-z]{1,3}\\.(service|slice|scope)|user@1000.service|docker|lxc|[0-9a-f]{12,64}|\\PC{0,6}|-[;$ ]\\.service", 0..6),
            start in prop::sample::select(vec!["0::/", "1:name=systemd:/", "0::", "x", "4:memory:/"]),
        ) {
            let place = Place::parse(&format!("{start}{}\n", parts.join("/")));
            let is_valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
            prop_assert!(place.unit.iter().all(|unit| unit.chars().all(is_valid) && unit.len() < 256));
            if let Some(container) = &place.container {
                prop_assert_eq!(crate::audit::sockets::printable(&container.id), container.id.as_str());
            }
            prop_assert!(!(parts.iter().any(|part| part.starts_with("user@")) && place.container.is_some()));
        }
    }
}
