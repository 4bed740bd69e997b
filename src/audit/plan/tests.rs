//! The plan for hosts of every kind.

use proptest::prelude::*;

use super::*;
use crate::audit::facts::{Front, Fronted, HttpAnswer};
use crate::audit::inventory::Holder;
use crate::audit::report::showable;
use crate::audit::verdict::judge;
use crate::audit::verdict::testing::{held, holder, host, local, nothing, root, tcp, udp};

fn plan(listeners: Vec<Listener>, facts: &Facts) -> String {
    let inventory = showable(host(listeners));
    let findings = judge(&inventory, facts);
    script(&inventory, facts, &findings)
}

fn answers(ports: &[u16]) -> Facts {
    let answer = HttpAnswer { status: 200, ..HttpAnswer::default() };
    Facts { http: ports.iter().map(|port| (*port, answer.clone())).collect(), ..nothing() }
}

/// The file that the script writes.
fn toml_of(script: &str) -> &str {
    let start = script.find("# Proposed by portcullis audit.\n# Look").unwrap();
    script[start..].split("END\n").next().unwrap()
}

fn check(toml: &str) {
    let loaded = crate::config::parse(toml, "plan", std::path::Path::new("/"), &|_| None);
    if let Err(problems) = loaded {
        panic!("{problems}\n{toml}");
    }
}

#[test]
fn what_nobody_needs_is_ended_and_what_strangers_reach_is_closed() {
    let redis = held(tcp(6379), holder("redis-server"));
    let plan = plan(vec![held(tcp(23), root("telnetd")), redis, udp(161)], &nothing());
    assert!(plan.contains("\ndisable_telnetd_service=yes   # end telnetd.service"), "{plan}");
    assert!(plan.contains("        systemctl disable --now telnetd.service\n"), "{plan}");
    assert!(plan.contains("\n        tcp dport { 23, 6379 } drop\n"), "{plan}");
    assert!(plan.contains("\n        udp dport { 161 } drop\n"), "{plan}");
}

#[test]
fn a_plan_saves_before_it_changes() {
    let plan = plan(vec![held(tcp(23), root("telnetd"))], &nothing());
    let at = |part: &str| plan.find(part).unwrap();
    assert!(at("saved=") < at("put()") && at("ruleset.nft") < at("disable --now"));
}

#[test]
fn the_way_in_is_never_touched() {
    let mut sshd = root("sshd");
    sshd.unit = Some("ssh.service".to_owned());
    sshd.exe_state = crate::audit::inventory::ExeState::Replaced;
    // It sits on ports that would be closed, and has rights that would be taken.
    let on = |port| held(tcp(port), sshd.clone());
    let plan = plan(vec![on(22), on(23), on(6379), held(tcp(3306), root("mysqld"))], &nothing());
    assert!(plan.contains("tcp dport { 22, 23, 6379 } accept"), "{plan}");
    assert!(plan.contains("\n        tcp dport { 3306 } drop"), "{plan}");
    let commands = plan.lines().filter(|line| !line.trim_start().starts_with('#'));
    assert!(commands.into_iter().all(|line| !line.contains("ssh")), "{plan}");
}

#[test]
fn a_root_daemon_gets_its_drop_in_when_it_is_wanted() {
    let plan = plan(vec![held(tcp(80), root("app"))], &nothing());
    assert!(plan.contains("\nunprivileged_app_service=no   # app.service as app"), "{plan}");
    assert!(plan.contains("put /etc/systemd/system/app.service.d/50-unprivileged.conf"), "{plan}");
    assert!(plan.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE\n"), "{plan}");
}

#[test]
fn applications_get_a_file_that_check_takes() {
    let mut facts = answers(&[3000, 5000, 8080]);
    facts.fronts.push(Front {
        proxy: "nginx",
        names: vec!["shop.example.com".to_owned(), "www.shop.example.com".to_owned()],
        host: "127.0.0.1".to_owned(),
        port: 5000,
        file: "/etc/nginx/sites-enabled/shop".into(),
    });
    let (proxy, source) = ("nginx".to_owned(), "a file".to_owned());
    facts.fronted.push(Fronted { port: 5000, proxy, source });
    let mut six = tcp(8080);
    six.addresses = vec!["::".parse().unwrap()];
    let listeners = vec![
        held(tcp(80), root("nginx")),
        held(local(3000), holder("node")),
        held(tcp(5000), holder("gunicorn")),
        six,
    ];
    let plan = plan(listeners, &facts);
    let toml = toml_of(&plan);
    check(toml);
    assert!(toml.contains("host = \"node-3000.localhost\"\nto = \"127.0.0.1:3000\""), "{toml}");
    assert!(toml.contains("host = [\"shop.example.com\", \"www.shop.example.com\"]"), "{toml}");
    assert!(toml.contains("to = \"[::1]:8080\"") && toml.contains("a guess"), "{toml}");
    assert!(toml.contains("Port 80 is held by nginx"), "{toml}");
    assert!(plan.contains("tcp dport { 5000 } drop"), "{plan}");
}

#[test]
fn a_clean_host_has_nothing_to_do() {
    let plan = plan(vec![local(8080)], &nothing());
    assert!(plan.contains("# Nothing"), "{plan}");
    assert!(!plan.contains("drop\n"), "{plan}");
}

fn any_holder() -> impl Strategy<Value = Holder> {
    let text = "[ -~\n\u{202e}é]{0,20}";
    let unit = proptest::option::of(text.prop_map(|text| text + ".service"));
    (text, text, unit, any::<bool>()).prop_map(|(comm, command, unit, is_root)| Holder {
        comm,
        command,
        unit,
        is_root,
        capabilities: vec!["CAP_SYS_ADMIN".to_owned()],
        ..holder("x")
    })
}

proptest! {
    /// What a process calls itself stands in comments and quotes only: no line of it is a command.
    #[test]
    fn no_name_becomes_a_command(holders in proptest::collection::vec(any_holder(), 1..4)) {
        let ports = [3000, 23, 80, 6379];
        let listeners = holders.into_iter().zip(ports).map(|(h, port)| held(tcp(port), h));
        let plan = plan(listeners.collect(), &answers(&[3000]));
        check(toml_of(&plan));
        let parsed = std::process::Command::new("sh").args(["-n", "-c", &plan]).output().unwrap();
        prop_assert!(parsed.status.success(), "{:?}\n{}", parsed, plan);
    }
}
