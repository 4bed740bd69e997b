//! Who is in the way, and what is advised for whom.

use super::*;
use crate::audit::sockets::{Container, Place};
use crate::config::Listen;
use crate::privilege::explain::Serving;
use crate::privilege::explain::host::RootBy;

fn host() -> Host {
    Host {
        root_by: RootBy::Sudo,
        setcap: true,
        install_setcap: None,
        systemd: true,
        reserved_ports: "8080\n".to_owned(),
        selinux: false,
        inside: None,
    }
}

fn wanted() -> Wanted<'static> {
    Wanted::new("http", Listen::Any(80))
}

fn process(pid: u32, command: &str) -> Process {
    let mut words = command.split(' ');
    let program = words.next().unwrap();
    Process {
        pid,
        comm: Path::new(program).file_name().unwrap().to_string_lossy().into_owned(),
        exe: Some(program.into()),
        uid: Some(0),
        arguments: command.split(' ').map(Into::into).collect(),
        place: Place::default(),
    }
}

fn held_by(process: Process) -> Listening {
    Listening {
        // No unit of any host listens at this address.
        address: "0.0.0.0:80".parse().unwrap(),
        v6_only: false,
        state: State::Listens,
        inode: 9,
        uid: 0,
        process: Some(process),
    }
}

fn in_unit(process: Process, unit: &str) -> Process {
    let place = Place { unit: Some(unit.to_owned()), ..Place::default() };
    Process { place, ..process }
}

fn told(process: Process) -> Explanation {
    taken(wanted(), &[held_by(process)], &host())
}

#[test]
fn the_holder_is_named_with_the_way_to_stop_it() {
    let text = told(in_unit(process(812, "/usr/sbin/nginx"), "nginx.service")).to_string();
    let expected = "\
Port 80 is held by nginx (pid 812, user root, nginx.service) on 0.0.0.0:80.
What helps, the shortest first:
  1. sudo systemctl disable --now nginx.service
     stops it now, and keeps it from starting at boot
  2. http = \":8000\"
     another port";
    assert_eq!(text, expected);
}

#[test]
fn every_kind_of_holder_has_its_own_way_out() {
    let id = Container { engine: "docker", id: "0a1b2c3d4e5f".to_owned() };
    let in_container = Place { container: Some(id), ..Place::default() };
    let proxy = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 \
                 -container-ip 172.17.0.2 -container-port 8080";
    let of_user = Place { unit: Some("web.service".to_owned()), of_user: true, ..Place::default() };
    let own = Process { uid: Some(rustix::process::geteuid().as_raw()), ..process(99, "/x/app") };
    let table = [
        (
            in_unit(process(7, "/usr/sbin/apache2 -k start"), "apache2.service"),
            "sudo systemctl disable --now apache2.service",
        ),
        (own, "kill 99"),
        (Process { uid: Some(4_000_000_001), ..process(99, "/x/app") }, "sudo kill 99"),
        (process(7, proxy), "sudo docker stop $(sudo docker ps --filter publish=80 -q)"),
        (
            Process { uid: Some(1000), ..process(7, "/usr/bin/rootlessport") },
            "podman stop $(podman ps --filter publish=80 -q)",
        ),
        (
            Process { place: in_container, ..process(7, "/usr/sbin/nginx") },
            "sudo docker stop 0a1b2c3d4e5f",
        ),
        (
            Process { place: of_user, uid: Some(4_000_000_001), ..process(7, "/x/app") },
            "sudo systemctl --user -M 4000000001@ disable --now web.service",
        ),
        (process(std::process::id(), "/x/app"), "leave one of them out"),
    ];
    for (process, way) in table {
        let explanation = told(process);
        assert_eq!(explanation.remedy(), way, "{explanation}");
    }
    let explanation = told(process(7, proxy));
    assert!(explanation.to_string().contains("the container at 172.17.0.2:8080"));
}

#[test]
fn without_systemd_a_service_is_stopped_as_such_where_it_is_one() {
    let run = tempfile::tempdir().unwrap();
    std::fs::create_dir(run.path().join("haproxy")).unwrap();
    std::fs::write(run.path().join("haproxy/haproxy.pid"), "7\n").unwrap();
    let host = Host { systemd: false, root_by: RootBy::Nothing, ..host() };
    let script = |process: &Process, host: &Host| {
        service_by_script(process, host, run.path()).map(str::to_owned)
    };
    let service = process(7, "/usr/sbin/haproxy -f x");
    assert_eq!(script(&service, &host).as_deref(), Some("haproxy"));
    // By hand, by another user, from elsewhere, or by name alone.
    let others = [
        process(8, "/usr/sbin/haproxy -f x"),
        Process { uid: Some(1501), ..service.clone() },
        process(7, "/tmp/haproxy -f x"),
        Process { exe: Some("/usr/bin/python3".into()), ..service.clone() },
        Process { exe: None, ..service.clone() },
    ];
    for other in others {
        assert_eq!(script(&other, &host), None, "{other:?}");
        let text = taken(wanted(), &[held_by(other)], &host).to_string();
        assert!(text.contains("1. kill "), "{text}");
    }
    assert_eq!(script(&service, &Host { systemd: true, ..host.clone() }), None);
}

#[test]
fn another_portcullis_may_be_meant_to_serve() {
    let other = process(7, "/usr/local/bin/portcullis run -c /etc/x.toml");
    let text = told(other).to_string();
    assert!(text.contains("1. portcullis reload -c /etc/x.toml"), "{text}");
    assert!(text.contains("2. portcullis status -c /etc/x.toml"), "{text}");
    assert!(text.contains("if it is not meant to serve: stops"), "{text}");
}

/// To stop it would be to take the site down.
#[test]
fn a_server_of_the_same_configuration_is_asked_and_not_stopped() {
    let serving = Serving {
        pid: 7,
        addresses: vec!["0.0.0.0:80".parse().unwrap()],
        file: Some("/etc/my file.toml".into()),
    };
    let wanted = Wanted { serving: Some(&serving), ..wanted() };
    let expected = "\
Port 80 is held by the portcullis that is already serving with this configuration (pid 7).
What helps, the shortest first:
  1. portcullis reload -c '/etc/my file.toml'
     it takes its file anew, without being stopped
  2. portcullis status -c '/etc/my file.toml'
     tells how it is";
    let seen = held_by(in_unit(process(7, "/x/portcullis run"), "portcullis.service"));
    let unseen = Listening { process: None, ..seen.clone() };
    for socket in [seen, unseen] {
        assert_eq!(taken(wanted, &[socket], &host()).to_string(), expected);
    }
    let another = held_by(in_unit(process(8, "/usr/sbin/nginx"), "nginx.service"));
    let remedy = taken(wanted, &[another], &host()).remedy().to_owned();
    assert_eq!(remedy, "sudo systemctl disable --now nginx.service");
}

#[test]
fn several_holders_are_all_named_each_once() {
    let second = Listening { address: "[::1]:80".parse().unwrap(), ..held_by(process(7, "/x/a")) };
    let third = Listening { address: "[::2]:80".parse().unwrap(), ..held_by(process(8, "/x/b")) };
    let apart = Listening { address: "[::2]:81".parse().unwrap(), ..held_by(process(9, "/x/c")) };
    let sockets = [held_by(process(7, "/x/a")), second, third, apart];
    let explanation = taken(wanted(), &sockets, &host());
    let why = "Port 80 is held by a (pid 7, user root) on 0.0.0.0:80 \
               and by b (pid 8, user root) on [::2]:80.";
    assert_eq!(explanation.why, why);
    let kills = explanation.ways.iter().filter(|way| way.command.contains("kill")).count();
    assert_eq!(kills, 2, "{explanation}");
}

#[test]
fn a_holder_out_of_sight_is_said_to_be_so() {
    let hidden = || Listening { process: None, ..held_by(process(1, "/x")) };
    let text = taken(wanted(), &[hidden()], &host()).to_string();
    assert!(
        text.contains("into which this user may not look") && text.contains("sudo ss -ltnp"),
        "{text}"
    );
    let root = Host { root_by: RootBy::Nothing, ..host() };
    let text = taken(wanted(), &[hidden()], &root).to_string();
    assert!(text.contains("no process here has it"), "{text}");
    let nobody = taken(wanted(), &[], &host());
    assert!(nobody.why.contains("no socket that this process can see"), "{nobody}");
}

#[test]
fn a_connection_that_goes_out_from_the_port_is_told_from_a_listener() {
    let other = State::Connected("192.0.2.9:443".parse().unwrap());
    let socket = Listening { state: other, ..held_by(process(7, "/usr/bin/curl x")) };
    let text = taken(wanted(), &[socket], &host()).to_string();
    assert!(text.contains("whose connection to 192.0.2.9:443 goes out from it"), "{text}");
    assert!(text.contains("sudo sysctl -w net.ipv4.ip_local_reserved_ports=8080,80\n"), "{text}");
}

#[test]
fn a_bound_socket_is_told_from_a_listener() {
    let socket = Listening { state: State::Bound, ..held_by(process(7, "/usr/bin/app")) };
    let why = taken(wanted(), &[socket], &host()).why;
    assert!(why.ends_with("on 0.0.0.0:80, bound without listening."), "{why}");
}

#[test]
fn a_unit_of_systemd_that_has_a_backslash_in_its_name_is_one_word() {
    let explanation = told(in_unit(process(7, "/x/app"), r"my\x2dweb@1.service"));
    let way = r"sudo systemctl disable --now 'my\x2dweb@1.service'";
    assert_eq!(explanation.remedy(), way, "{explanation}");
}

/// Root pastes what is advised, and the holder chose every one of these names.
#[test]
fn what_the_holder_chose_is_no_command_of_the_shell() {
    let place = Place::parse("0::/user.slice/user@1501.service/app.slice/x$(id>&2).service");
    let explanation = told(Process { place, ..process(99, "/x/app") });
    let kill = if rustix::process::geteuid().is_root() { "kill 99" } else { "sudo kill 99" };
    assert_eq!(explanation.remedy(), kill);
    let file = "/x/portcullis run -c /tmp/$(id)";
    let text = told(process(99, file)).to_string();
    assert!(text.contains("portcullis reload -c '/tmp/$(id)'"), "{text}");
}
