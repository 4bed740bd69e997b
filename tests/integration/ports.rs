//! `portcullis ports`: the reference of ports, and who listens on them here.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::tools::{self, portcullis};

fn told(arguments: &[&str]) -> String {
    let output = portcullis(&[&["ports"], arguments].concat());
    let complaints = tools::stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {complaints}");
    assert_eq!(complaints, "");
    tools::stdout(&output)
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&told(&[&["--json"], arguments].concat())).unwrap()
}

fn refused(arguments: &[&str]) -> (i32, String) {
    let output = portcullis(&[&["ports"], arguments].concat());
    assert_eq!(tools::stdout(&output), "");
    (output.status.code().unwrap(), tools::stderr(&output))
}

#[test]
fn a_port_is_told_on_a_card() {
    let text = told(&["23"]);
    for part in ["23/tcp  telnet", "clear text", "obsolete", "22 (SSH)", "IANA", "Turn it off"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colour in a pipe");
}

#[test]
fn a_question_with_spaces_or_several_protocols_is_understood() {
    assert_eq!(told(&["20", "-", "25"]), told(&["20-25"]));
    assert_eq!(told(&["53/udp,tcp"]), told(&["53/udp,53/tcp"]));
    assert!(told(&["22/sctp"]).contains("SCTP is not looked at: ss -lSnp"));
}

#[test]
fn without_a_question_the_ports_that_matter_are_listed() {
    let text = told(&[]);
    for part in ["\n22/tcp ", "\n443/tcp,udp ", "STARTTLS -> 465", " 3306, ", "portcullis ports 23"]
    {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(text.lines().count() < 100);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn lists_names_and_slips_are_answered() {
    assert!(told(&["20-25,80"]).lines().any(|line| line.starts_with("80/tcp")));
    assert!(told(&["80", "443"]).lines().any(|line| line.starts_with("443/tcp")));
    assert!(told(&["https"]).starts_with("443/tcp,udp  https"));
    assert!(told(&["telent"]).starts_with("\"telent\" is taken for telnet.\n"));
    assert!(told(&["mail"]).contains("993/tcp"));
    assert!(told(&["remote", "desktop"]).starts_with("3389/"));
}

#[test]
fn what_is_not_there_has_its_code_and_what_is_no_question_another() {
    let (code, text) = refused(&["zzqqzz-zzqq"]);
    assert_eq!(code, 1, "{text}");
    let (code, text) = refused(&["zabbbbixxx-agnet"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("near it are zabbix-agent"), "{text}");
    for (wrong, word) in [
        ("70000", "0 to 65535"),
        ("30-20", "write 20-30"),
        ("20-", "is no range"),
        ("80/icmp", "no protocol"),
        ("", "nothing is asked"),
    ] {
        let (code, text) = refused(&[wrong]);
        assert_eq!(code, 2, "{wrong}: {text}");
        assert!(text.contains(word), "{wrong}: {text}");
    }
    let part = portcullis(&["ports", "22,zzqqzz-zzqq"]);
    assert_eq!(part.status.code(), Some(1));
    assert!(tools::stdout(&part).starts_with("22/tcp  ssh"));
}

#[test]
fn json_has_every_port_that_was_asked_for() {
    let answer = json(&["0-1023"]);
    assert_eq!(answer["version"], 1);
    let ports = answer["ports"].as_array().unwrap();
    assert!((0..1024).eq(ports.iter().map(|port| port["port"].as_u64().unwrap())));
    assert_eq!(json(&["--", "telent"])["taken"][0]["answered"], "telnet");
    assert!(json(&[])["ports"].as_array().unwrap().len() > 100);
    let missed = portcullis(&["ports", "--json", "zzqqzz-zzqq"]);
    assert_eq!(missed.status.code(), Some(1));
    let missed: Value = serde_json::from_slice(&missed.stdout).unwrap();
    assert_eq!(missed["ports"], serde_json::json!([]));
}

#[test]
fn whoever_listens_here_is_told() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let me = format!("pid {}", std::process::id());
    let card = told(&[&port]);
    assert!(card.contains(&me) && card.contains("127.0.0.1"), "{card}");
    let table = told(&[&format!("{port},9")]);
    assert!(table.contains("Listening here") && table.contains(&me), "{table}");
    let listening = &json(&[&port])["ports"][0]["listening"][0];
    assert_eq!(listening["pid"], std::process::id());
    assert_eq!(listening["address"], "127.0.0.1");
}

/// Somebody else's processes are not for everybody to see.
#[test]
fn a_holder_that_may_not_be_seen_is_said_to_be_unseen() {
    if !rustix::process::geteuid().is_root() {
        return tools::skip("only root may become somebody else");
    }
    let Some(mut setpriv) = tools::find("setpriv") else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("portcullis");
    // By another process: while this one had it open for writing, it could not be run (ETXTBSY).
    let copied = std::process::Command::new("cp").arg(tools::PORTCULLIS).arg(&program).status();
    assert!(copied.unwrap().success());
    let readable: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    let output = tools::run(setpriv.arg(&program).args(["ports", &port]));
    let text = tools::stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", tools::stderr(&output));
    assert!(text.contains("a process of user root (into which this user may not look)"), "{text}");
    assert!(text.contains(&format!("sudo portcullis ports {port}")), "{text}");
}

/// A release answers within twenty milliseconds; this bound only finds what got much slower.
#[test]
fn an_answer_does_not_keep_anybody_waiting() {
    let begin = Instant::now();
    for question in ["22", "mail", "printing", "telent", "zzqqzz-zzqq"] {
        portcullis(&["ports", question]);
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}
