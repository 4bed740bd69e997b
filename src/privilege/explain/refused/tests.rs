//! Which remedy fits which missing right: a table.

use super::*;
use crate::audit::sockets::Place;
use crate::config::Listen;
use crate::privilege::explain::file_capability::Given;
use crate::privilege::explain::host::RootBy;
use crate::privilege::explain::rights::Sets;

/// An ordinary user and a program that is installed.
fn rights() -> Rights {
    Rights {
        uid: 4_000_000_123,
        gid: 4_000_000_124,
        bind: Sets { bounding: true, ..Sets::default() },
        no_new_privs: false,
        filtered: false,
        tracer: None,
        below: false,
        elsewhere: false,
        free_from: 1024,
        profile: None,
        place: Place::default(),
        program: Program {
            file: "/opt/portcullis".into(),
            capability: OnFile::Absent,
            nosuid: false,
            read_only: false,
            by_loader: false,
            passing: false,
        },
        arguments: vec!["run".into(), "-c".into(), "/etc/my proxy.toml".into()],
    }
}

fn host() -> Host {
    Host {
        root_by: RootBy::Sudo,
        setcap: true,
        install_setcap: None,
        systemd: false,
        reserved_ports: String::new(),
        selinux: false,
        inside: None,
    }
}

fn given(root: Option<u32>) -> OnFile {
    OnFile::Given(Given { effective: true, root })
}

/// The explanation of a refused port 80, after a change of the facts.
fn told(change: impl FnOnce(&mut Rights, &mut Host)) -> Explanation {
    let (mut rights, mut host) = (rights(), host());
    change(&mut rights, &mut host);
    let wanted = Wanted::new("http", Listen::Any(80));
    refused(wanted, &rights, &host, Refusal::Access)
}

#[test]
fn an_ordinary_user_is_told_to_set_the_file_capability() {
    let expected = "\
Ports below 1024 need root or CAP_NET_BIND_SERVICE, which user 4000000123 (uid 4000000123) does not \
have: /opt/portcullis has no file capability.
(CAP_NET_BIND_SERVICE, effective: no, permitted: no, inheritable: no, bounding: yes, ambient: no)
What helps, the shortest first:
  1. sudo setcap cap_net_bind_service=p /opt/portcullis
     then start it again; a new file needs it anew
  2. sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80
     for every program of this host, until it boots again
  3. http = \":8000\"
     another port, which needs no right";
    assert_eq!(told(|_, _| {}).to_string(), expected);
}

/// What the facts are, words of the reason, and words of the first way out.
type Row = (fn(&mut Rights, &mut Host), &'static str, &'static str);

#[test]
fn every_reason_has_its_own_way_out() {
    let table: &[Row] = &[
        (
            |rights, _| rights.bind.bounding = false,
            "has no file capability, and one would be ignored, because the bounding set lacks it",
            "sudo setpriv --reuid=4000000123 --regid=4000000124 --clear-groups",
        ),
        (
            |rights, _| {
                rights.program.capability = given(None);
                rights.no_new_privs = true;
            },
            "of /opt/portcullis is ignored, because no_new_privs is set on this process",
            "--ambient-caps=+net_bind_service /opt/portcullis run -c '/etc/my proxy.toml'",
        ),
        (
            |rights, host| {
                rights.no_new_privs = true;
                host.systemd = true;
            },
            "no_new_privs",
            "sudo systemd-run --same-dir --uid=4000000123 \
             --property=AmbientCapabilities=CAP_NET_BIND_SERVICE /opt/portcullis run",
        ),
        (
            |rights, _| {
                rights.program.capability = given(None);
                rights.program.nosuid = true;
            },
            "is ignored, because its file system is mounted nosuid",
            "sudo install -m 0755 /opt/portcullis /usr/local/bin/portcullis && \
             sudo setcap cap_net_bind_service=p /usr/local/bin/portcullis",
        ),
        (
            |rights, _| rights.program.capability = OnFile::Unsupported,
            "its file system holds no such thing",
            "sudo install -m 0755 /opt/portcullis /usr/local/bin/portcullis",
        ),
        (
            |rights, _| rights.program.passing = true,
            "has no file capability",
            "sudo setcap cap_net_bind_service=p /opt/portcullis",
        ),
        (
            |rights, _| rights.program.read_only = true,
            "has no file capability",
            "sudo install -m 0755 /opt/portcullis /usr/local/bin/portcullis",
        ),
        (
            |rights, _| rights.program.capability = given(Some(100_000)),
            "it is good in a user namespace only, whose root is uid 100000",
            "sudo setcap cap_net_bind_service=p /opt/portcullis",
        ),
        (
            |rights, _| {
                rights.program.capability = given(None);
                rights.tracer = Some(77);
            },
            "is ignored, because this process is traced by process 77",
            "/opt/portcullis run -c '/etc/my proxy.toml' without the tracer",
        ),
        (
            |rights, _| rights.program.by_loader = true,
            "it was started by way of",
            "sudo setcap cap_net_bind_service=p /opt/portcullis",
        ),
        (
            |rights, _| rights.program.capability = given(None),
            "was set after this process was started",
            "/opt/portcullis run -c '/etc/my proxy.toml'",
        ),
        (
            |rights, _| rights.program.file = "/opt/my proxy".into(),
            "/opt/my proxy has no file capability",
            "sudo setcap cap_net_bind_service=p '/opt/my proxy'",
        ),
        (
            |_, host| host.root_by = RootBy::Su,
            "has no file capability",
            "su - -c 'setcap cap_net_bind_service=p /opt/portcullis'",
        ),
        (
            |_, host| {
                host.setcap = false;
                host.install_setcap = Some("apt-get install libcap2-bin");
            },
            "has no file capability",
            "sudo apt-get install libcap2-bin && sudo setcap cap_net_bind_service=p",
        ),
        (
            |rights, _| rights.place.unit = Some("web.service".to_owned()),
            "has no file capability",
            "sudo systemctl edit web.service",
        ),
        (
            |rights, _| rights.below = true,
            "has no file capability",
            "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80",
        ),
        (
            |rights, host| {
                (rights.uid, host.root_by) = (0, RootBy::Nothing);
                rights.bind.bounding = false;
                host.inside = Some(Inside::Docker);
            },
            "Ports below 1024 need CAP_NET_BIND_SERVICE, which user root (uid 0) does not have",
            "docker run --cap-add=NET_BIND_SERVICE",
        ),
        (
            |_, host| host.inside = Some(Inside::Docker),
            "has no file capability",
            "sudo setcap cap_net_bind_service=p /opt/portcullis",
        ),
        (
            |rights, host| {
                rights.no_new_privs = true;
                host.inside = Some(Inside::Docker);
            },
            "no_new_privs is set",
            "docker run --sysctl net.ipv4.ip_unprivileged_port_start=0",
        ),
        (
            |rights, host| {
                rights.below = true;
                host.inside = Some(Inside::Podman { rootless: true });
            },
            "has no file capability",
            "podman run --sysctl net.ipv4.ip_unprivileged_port_start=0",
        ),
        (
            |rights, host| {
                rights.bind.bounding = false;
                host.inside = Some(Inside::Kubernetes);
            },
            "the bounding set lacks it",
            "securityContext: { sysctls:",
        ),
    ];
    for (change, why, way) in table {
        let explanation = told(change);
        assert!(explanation.why.contains(why), "{why:?} in {explanation}");
        assert!(explanation.remedy().contains(way), "{way:?} in {explanation}");
    }
}

#[test]
fn what_is_advised_can_be_done() {
    let installed = told(|rights, _| {
        rights.program.file = "/usr/local/bin/portcullis".into();
        rights.program.nosuid = true;
    });
    let install = "sudo install -m 0755 /usr/local/bin/portcullis /usr/bin/portcullis && ";
    assert!(installed.remedy().starts_with(install), "{installed}");
    // In another login the folder is another one.
    let here = std::env::current_dir().unwrap().join("c.toml");
    let relative = told(|rights, _| {
        rights.no_new_privs = true;
        rights.arguments = vec!["run".into(), "-c".into(), "c.toml".into()];
    });
    assert!(relative.remedy().contains(&crate::shell::quote(here)), "{relative}");
}

/// Each lower port is one more that any user may take.
#[test]
fn no_more_ports_are_freed_than_it_takes() {
    let mut rights = rights();
    rights.free_from = 9000;
    let wanted = Wanted::new("http", Listen::Any(8000));
    let text = refused(wanted, &rights, &host(), Refusal::Access).to_string();
    assert!(text.contains("ip_unprivileged_port_start=8000\n"), "{text}");
}

#[test]
fn setcap_is_not_advised_where_it_has_no_effect() {
    let text = |change: fn(&mut Rights, &mut Host)| told(change).to_string();
    assert!(!text(|rights, _| rights.bind.bounding = false).contains("setcap"));
    assert!(!text(|rights, _| rights.no_new_privs = true).contains("setcap"));
    assert!(!text(|rights, _| rights.bind.effective = true).contains("setcap"));
}

#[test]
fn a_unit_that_lacks_it_in_the_bounding_set_needs_two_lines() {
    let text = |bounding| {
        told(move |rights, _| {
            rights.place.unit = Some("web.service".to_owned());
            rights.bind.bounding = bounding;
        })
        .to_string()
    };
    assert!(text(true).contains("AmbientCapabilities=CAP_NET_BIND_SERVICE"));
    assert!(!text(true).contains("CapabilityBoundingSet"));
    assert!(text(false).contains("CapabilityBoundingSet=CAP_NET_BIND_SERVICE"));
    assert!(text(false).contains("sudo systemctl restart web.service"));
}

#[test]
fn what_does_not_last_where_it_is_is_set_elsewhere_too() {
    let explanation = told(|rights, _| rights.program.passing = true);
    let second = &explanation.ways[1].command;
    assert!(second.starts_with("sudo install -m 0755 /opt/portcullis /usr/local/bin/"), "{second}");
    assert!(second.ends_with("sudo setcap cap_net_bind_service=p /usr/local/bin/portcullis"));
}

#[test]
fn systemd_is_advised_where_it_is_in_charge() {
    let advised = |systemd| told(move |_, host| host.systemd = systemd).to_string();
    assert!(advised(true).contains("sudo /opt/portcullis install"));
    assert!(!advised(false).contains("install"));
}

#[test]
fn whoever_refuses_although_the_right_is_there_is_named() {
    let explained = |change: fn(&mut Rights, &mut Host)| {
        let explanation = told(|rights, host| {
            rights.bind.effective = true;
            change(rights, host);
        });
        (explanation.why.clone(), explanation.remedy().to_owned())
    };
    let (why, way) = explained(|_, host| host.selinux = true);
    assert!(why.contains("this process has CAP_NET_BIND_SERVICE, SELinux"), "{why}");
    assert_eq!(way, "sudo semanage port -a -t http_port_t -p tcp 80");
    let (why, way) = explained(|rights, _| rights.profile = Some("snap.web".to_owned()));
    assert!(why.contains("AppArmor profile snap.web refuses"), "{why}");
    assert_eq!(way, "sudo aa-complain snap.web");
    let (why, _) = explained(|rights, _| (rights.below, rights.elsewhere) = (true, true));
    assert!(why.contains("owner of this network namespace"), "{why}");
    let (why, _) = explained(|_, _| {});
    assert!(why.contains("Landlock"), "{why}");
}

#[test]
fn a_high_port_that_is_refused_is_no_matter_of_capabilities() {
    let wanted = Wanted::new("http", Listen::Any(8080));
    let explanation = refused(wanted, &rights(), &host(), Refusal::Access);
    assert!(explanation.why.starts_with("Though port 8080 needs no right here,"));
    assert_eq!(explanation.facts, None);
}

#[test]
fn a_filter_is_told_from_a_missing_right() {
    let wanted = Wanted::new("http", Listen::Any(80));
    let mut rights = rights();
    rights.filtered = true;
    rights.place.unit = Some("web.service".to_owned());
    let host = Host { systemd: true, ..host() };
    let explanation = refused(wanted, &rights, &host, Refusal::Filter);
    assert!(explanation.why.contains("a filter of system calls refuses"), "{explanation}");
    assert_eq!(explanation.remedy(), "systemctl cat web.service");
}

#[test]
fn the_right_by_which_a_port_is_had_is_named() {
    let how = |change: fn(&mut Rights)| {
        let mut rights = rights();
        change(&mut rights);
        How::of(&rights, 80)
    };
    assert_eq!(how(|_| {}), None);
    assert_eq!(how(|rights| rights.free_from = 80), Some(How::Free));
    assert_eq!(how(|rights| (rights.uid, rights.bind.effective) = (0, true)), Some(How::Root));
    let by_file = |rights: &mut Rights| {
        rights.program.capability = given(None);
        rights.bind.permitted = true;
    };
    assert_eq!(how(by_file), Some(How::File));
    assert_eq!(
        how(|rights| (rights.bind.permitted, rights.bind.ambient) = (true, true)),
        Some(How::Ambient)
    );
    assert_eq!(how(|rights| rights.bind.permitted = true), Some(How::Held));
    // The root of a user namespace, in the network of the host.
    let elsewhere = |rights: &mut Rights| {
        (rights.uid, rights.bind.effective, rights.elsewhere) = (0, true, true);
    };
    assert_eq!(how(elsewhere), None);
    assert_eq!(How::of(&rights(), 8080), Some(How::Free));
}
