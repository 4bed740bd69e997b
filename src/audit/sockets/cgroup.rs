//! The unit and the container that `/proc/PID/cgroup` names.

/// Where a process belongs; both by the name that the tools of that side take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The innermost systemd service or scope; `None` for a login session.
    pub(crate) unit: Option<String>,
    /// The container, such as `docker 0123456789ab`.
    pub(crate) container: Option<String>,
}

/// Digits of a container's number that its tools show and take.
const SHOWN: usize = 12;

impl Place {
    /// Reads the file, of version 1, 2, or both together.
    pub(crate) fn parse(cgroup: &str) -> Self {
        let paths = || cgroup.lines().filter_map(path);
        let systemd = cgroup.lines().find_map(|line| {
            line.strip_prefix("0::")
                .filter(|path| *path != "/")
                .or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
        });
        Place { unit: systemd.and_then(unit), container: paths().find_map(container) }
    }
}

/// `number:controllers:path`
fn path(line: &str) -> Option<&str> {
    line.splitn(3, ':').nth(2)
}

fn unit(path: &str) -> Option<String> {
    let manages = |name: &&str| {
        name.ends_with(".service")
            || (name.ends_with(".scope") && !name.starts_with("session-") && *name != "init.scope")
    };
    let unit = path.split('/').rfind(manages)?;
    (!unit.starts_with("user@")).then(|| unit.to_owned())
}

/// The innermost part of the path that some container engine made.
fn container(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    parts.iter().enumerate().rev().find_map(|(at, part)| {
        let above = at.checked_sub(1).and_then(|at| parts.get(at)).copied().unwrap_or_default();
        let is_pod = path.contains("kubepods");
        engine(part, above, is_pod)
    })
}

/// The engine by the names that it gives: with systemd a scope, else a folder below its own.
fn engine(part: &str, above: &str, is_pod: bool) -> Option<String> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(format!("lxc {name}"));
    }
    if matches!(above, "lxc" | "lxc.payload") {
        return Some(format!("lxc {part}"));
    }
    if let Some(name) =
        part.strip_prefix("systemd-nspawn@").and_then(|n| n.strip_suffix(".service"))
    {
        return Some(format!("nspawn {name}"));
    }
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let (maker, number) = name.rsplit_once('-').unwrap_or((above, name));
    // What watches over a container is not in it.
    if !is_number(number) || maker.ends_with("conmon") {
        return None;
    }
    let engine = match maker {
        "docker" => "docker",
        "libpod" => "podman",
        "cri-containerd" | "containerd" => "containerd",
        "crio" | "cri-o" => "cri-o",
        "nerdctl" => "nerdctl",
        _ if is_pod => "kubernetes",
        _ if above == "default" => "containerd",
        _ => return None,
    };
    Some(format!("{engine} {}", number.get(..SHOWN)?))
}

fn is_number(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit_of(text: &str) -> Option<String> {
        Place::parse(text).unit
    }

    #[test]
    fn the_unit_is_the_innermost_service_or_scope() {
        let of = |text: &str| unit_of(text);
        assert_eq!(of("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        let v1 = "12:pids:/x\n1:name=systemd:/system.slice/ssh.service\n";
        assert_eq!(of(v1).as_deref(), Some("ssh.service"));
        let both = "1:name=systemd:/system.slice/ssh.service\n0::/\n";
        assert_eq!(of(both).as_deref(), Some("ssh.service"));
        assert_eq!(
            of("0::/\n1:name=systemd:/system.slice/a.service\n").as_deref(),
            Some("a.service")
        );
        let nested = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n";
        assert_eq!(of(nested).as_deref(), Some("web.service"));
        let container = "0::/system.slice/docker-0a1b.scope/payload\n";
        assert_eq!(of(container).as_deref(), Some("docker-0a1b.scope"));
    }

    #[test]
    fn a_login_session_is_no_unit() {
        assert_eq!(unit_of("0::/user.slice/user-1000.slice/session-3.scope\n"), None);
        assert_eq!(unit_of("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n"), None);
        assert_eq!(unit_of("0::/\n"), None);
        assert_eq!(unit_of(""), None);
    }

    #[test]
    fn a_container_is_named_as_its_tools_name_it() {
        let number = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let cases = [
            ("0::/system.slice/docker-ID.scope", "docker"),
            ("0::/system.slice/docker-ID.scope/payload", "docker"),
            ("9:cpu:/\n8:memory:/docker/ID\n1:name=systemd:/docker/ID", "docker"),
            ("0::/machine.slice/libpod-ID.scope/container", "podman"),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
                "podman",
            ),
            ("0::/libpod_parent/libpod-ID", "podman"),
            ("0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-ID.scope", "containerd"),
            ("0::/kubepods.slice/kubepods-pod1_2.slice/crio-ID.scope", "cri-o"),
            ("0::/kubepods/besteffort/pod7f1c/ID", "kubernetes"),
            ("0::/default/ID", "containerd"),
            ("0::/machine.slice/libpod-conmon-ID.scope", ""),
            ("0::/system.slice/nginx.service", ""),
            ("0::/builds/ID", ""),
        ];
        for (text, engine) in cases {
            let found = Place::parse(&text.replace("ID", number)).container;
            let wanted = (!engine.is_empty()).then(|| format!("{engine} 0123456789ab"));
            assert_eq!(found, wanted, "{text}");
        }
        let named = |text: &str| Place::parse(text).container;
        assert_eq!(named("0::/lxc.payload.web/init.scope").as_deref(), Some("lxc web"));
        assert_eq!(named("4:cpu:/lxc/web").as_deref(), Some("lxc web"));
        let nspawn = "0::/machine.slice/systemd-nspawn@web.service/payload";
        assert_eq!(named(nspawn).as_deref(), Some("nspawn web"));
    }
}
