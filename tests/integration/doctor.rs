//! `portcullis doctor`: what stands in the way, before anything is tried.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::tools::{self, portcullis, stderr, stdout};
use crate::harness::{Origin, Proxy};

/// Files for the ports 80 and 443 in a world of its own.
const PROLOGUE: &str = r#"
    mkdir -p /run/bin && cp "$(readlink -f portcullis)" /run/bin/portcullis && cd /run
    printf '[server]\nhttp = ":80"\nhttps = []\nuser = "nobody"\n[admin]\nsocket = "/run/x.sock"
[log]\naccess = "off"\n[[site]]\nhost = "a.test"\nto = "127.0.0.1:8080"\n' >/run/c.toml
    chmod -R a+rX /run/bin /run/c.toml
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"; }
    doctor() { /run/bin/portcullis doctor -c /run/c.toml "$@" 2>&1; echo "exit $?"; }
"#;

fn alone(script: &str) -> Option<String> {
    tools::find("setpriv")?;
    tools::alone(&format!("{PROLOGUE}\n{script}"))
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

/// The JSON object between other words.
#[track_caller]
fn object(said: &str) -> Value {
    let (start, end) = (said.find('{').expect(said), said.rfind('}').expect(said));
    serde_json::from_str(&said[start..=end]).expect(said)
}

#[test]
fn root_may_have_everything() {
    let Some(said) = alone("doctor") else { return };
    assert_says(
        &said,
        &[
            "/run/c.toml, as root (uid 0):",
            "ok    http :80",
            "root has CAP_NET_BIND_SERVICE",
            "binds as root, then becomes nobody (uid 65534",
            "exit 0",
        ],
    );
}

#[test]
fn a_user_without_the_right_learns_it_beforehand() {
    let Some(said) = alone("as_nobody /run/bin/portcullis doctor -c /run/c.toml; echo exit $?")
    else {
        return;
    };
    assert_says(
        &said,
        &[
            "BAD   http :80",
            "/run/bin/portcullis has no file capability",
            "setcap cap_net_bind_service=p /run/bin/portcullis",
            "One thing stands in the way.",
            "exit 1",
        ],
    );
}

#[test]
fn the_capability_of_the_file_is_seen() {
    if tools::find("setcap").is_none() {
        return;
    }
    let script = "setcap cap_net_bind_service=p /run/bin/portcullis\n\
                  as_nobody /run/bin/portcullis doctor -c /run/c.toml; echo exit $?";
    let Some(said) = alone(script) else { return };
    assert_says(&said, &["ok    http :80", "the file capability of this program", "exit 0"]);
}

#[test]
fn the_defaults_are_looked_at_where_there_is_no_file() {
    let script = "mount -t tmpfs none /etc/portcullis 2>/dev/null; /run/bin/portcullis doctor; \
                  echo exit $?";
    let Some(said) = alone(script) else { return };
    assert_says(
        &said,
        &["There is no /etc/portcullis/portcullis.toml", "http :80", "https :443", "exit 0"],
    );
}

#[test]
fn a_taken_port_is_told_as_json_with_its_holder() {
    let Some(said) = alone("serve 80; doctor --json") else { return };
    assert_says(&said, &["exit 1"]);
    let told = object(&said);
    assert_eq!((&told["version"], &told["ok"]), (&Value::from(1), &Value::from(false)));
    let listener = &told["listeners"][0];
    assert_eq!(listener["port"], 80);
    assert_eq!(listener["address"], "::");
    assert_eq!(listener["allowed"], false);
    assert_eq!(listener["holder"]["user"], "root");
    let pid = listener["holder"]["pid"].as_u64().unwrap();
    assert_eq!(listener["remedy"], format!("kill {pid}"));
    assert!(listener["why"].as_str().unwrap().contains("python3 -m http.server 80"), "{said}");
    assert!(told["checks"].as_array().unwrap().iter().any(|check| check["name"] == "user"));
}

#[test]
fn the_running_server_is_in_nobodys_way() {
    let script = "/run/bin/portcullis run -c /run/c.toml >/run/out 2>&1 & server=$!\n\
                  until_ok grep -q 'listening http://' /run/out; doctor\n\
                  as_nobody /run/bin/portcullis doctor -c /run/c.toml; doctor --json\n\
                  kill $server; wait $server; echo server $? pid $server.";
    let Some(said) = alone(script) else { return };
    let pid = said.split(" pid ").nth(1).and_then(|rest| rest.split('.').next()).unwrap();
    let words = format!("held by the running portcullis (pid {pid})");
    // Root can see it; the user that it runs as may not look into it, and it answers to its socket.
    assert!(said.matches(&words).count() >= 2, "{said}");
    assert_says(&said, &["exit 0", "server 0"]);
}

/// A program that is closed to others is closed to its own user too: who that is, it has to say.
#[test]
fn the_user_who_serves_is_told_that_he_does() {
    let script = "printf '[server]\\nhttp = \":8080\"\\nhttps = []\\n[admin]\\n\
        socket = \"/run/own/x.sock\"\\nmetrics = \"127.0.0.1:9090\"\\n[log]\\naccess = \"off\"\\n\
        [[site]]\\nhost = \"a.test\"\\nto = \"127.0.0.1:8000\"\\n' >/run/c.toml\n\
        install -d -o 65534 /run/own\n\
        as_nobody /run/bin/portcullis run -c /run/c.toml >/run/out 2>&1 & server=$!\n\
        until_ok grep -q 'listening http://' /run/out\n\
        as_nobody /run/bin/portcullis doctor -c /run/c.toml; echo exit $?\n\
        kill $server; wait $server";
    let Some(said) = alone(script) else { return };
    assert_eq!(said.matches("held by the running portcullis (pid ").count(), 2, "{said}");
    assert_says(&said, &["exit 0"]);
}

/// To bind a port for a moment would be to stand in the way of whoever starts just then.
#[test]
fn no_port_of_the_configuration_is_bound_to_find_out() {
    if tools::find("strace").is_none() {
        return;
    }
    let script = "strace -f -e trace=bind,listen /run/bin/portcullis doctor -c /run/c.toml";
    let Some(said) = alone(script) else { return };
    assert_says(&said, &["http :80"]);
    assert!(!said.contains("htons(80)") && !said.contains("listen("), "{said}");
}

#[test]
fn a_passed_socket_is_seen() {
    if tools::find("systemd-socket-activate").is_none() {
        return;
    }
    let script = "systemd-socket-activate -l 80 /run/bin/portcullis doctor -c /run/c.toml >out 2>&1 &\n\
                  until_ok bash -c 'exec 3<>/dev/tcp/127.0.0.1/80' 2>/dev/null\n\
                  until_ok grep -q http out; cat out";
    let Some(said) = alone(script) else { return };
    assert_says(&said, &["ok    http :80", "a socket was passed for it"]);
}

#[test]
fn what_its_user_cannot_reach_is_told() {
    let script = "printf '[log]\\naccess = \"/run/closed/access.log\"\\n[server]\\nuser = \"nobody\"\n\
        [admin]\\nsocket = \"/run/x.sock\"\\n[[site]]\\nhost = \"a.test\"\\nto = \"127.0.0.1:8080\"\\n\
        [acme]\\nstorage = \"/run/closed\"\\n' >/run/c.toml\n\
        mkdir -m 0700 /run/closed; doctor";
    let Some(said) = alone(script) else { return };
    assert_says(
        &said,
        &[
            "/run/closed/access.log cannot be written by nobody",
            "/run/closed cannot be written by nobody",
            "2 things stand in the way.",
            "exit 1",
        ],
    );
}

#[test]
fn a_wrong_file_is_told_as_check_tells_it() {
    let origin = Origin::start();
    let proxy = Proxy::to(&origin).start();
    let file = proxy.path("portcullis.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    proxy.rewrite_raw(&good.replace("workers", "wrkers"));
    let file = file.to_str().unwrap();
    let output = portcullis(&["doctor", "-c", file]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("did you mean `workers`"), "{}", stderr(&output));
    let output = portcullis(&["doctor", "-c", file, "--json"]);
    assert_eq!(output.status.code(), Some(78));
    let told = object(&stdout(&output));
    assert_eq!(told["problems"].as_array().unwrap().len(), 1);
    proxy.rewrite_raw(&good);
    let missing = portcullis(&["doctor", "-c", "/no/such/file.toml"]);
    assert_eq!(missing.status.code(), Some(78));
}

/// A key that only root may read is read at the start, and never again.
#[test]
fn a_key_that_only_root_may_read_is_worth_a_look() {
    if !rustix::process::geteuid().is_root() {
        return tools::skip("only root has keys that others may not read");
    }
    let origin = Origin::start();
    let proxy = Proxy::to(&origin).start();
    let key = proxy.path("certs/app.test.key");
    std::os::unix::fs::chown(&key, Some(0), Some(0)).unwrap();
    let file = proxy.path("portcullis.toml");
    let output = portcullis(&["doctor", "-c", file.to_str().unwrap()]);
    let said = stdout(&output);
    assert_says(
        &said,
        &["look  certificates", "cannot be read by nobody", "setfacl -m u:nobody:r"],
    );
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// One thing of several to be mended, and mended by what is advised.
#[test]
fn a_key_that_this_user_may_not_read_is_told_among_the_rest() {
    if tools::find("openssl").is_none() {
        return;
    }
    let script = "mkdir '/run/a b' && cd '/run/a b' && openssl req -x509 -newkey ec -pkeyopt \
        ec_paramgen_curve:P-256 -nodes -subj /CN=a.test -addext subjectAltName=DNS:a.test \
        -keyout key.pem -out cert.pem 2>/dev/null; chmod 600 key.pem; chmod 644 cert.pem\n\
        printf '[server]\\nhttp = []\\nhttps = \":8443\"\\n[admin]\\nsocket = \"/run/x.sock\"\\n\
        [log]\\naccess = \"off\"\\n[[site]]\\nhost = \"a.test\"\\nto = \"127.0.0.1:8000\"\\n\
        tls = { cert = \"/run/a b/cert.pem\", key = \"/run/a b/key.pem\" }\\n' >/run/c.toml; cd /\n\
        as_nobody /run/bin/portcullis doctor -c /run/c.toml >/run/said; echo exit $?; cat /run/said\n\
        as_nobody /run/bin/portcullis run -c /run/c.toml; echo run $?\n\
        bash -c \"$(sed -n 's/^ *1\\. \\(.*chgrp\\)/\\1/p' /run/said | sed 's/sudo //g')\"\n\
        as_nobody /run/bin/portcullis doctor -c /run/c.toml; echo then $?";
    let Some(said) = alone(script) else { return };
    assert_says(
        &said,
        &["exit 77", "ok    https :8443", "BAD   certificates", "'/run/a b/key.pem'", "run 77"],
    );
    assert!(said.contains("su - -c") || said.contains("then 0"), "{said}");
}

#[test]
fn a_connection_that_goes_out_from_the_port_is_worth_a_look() {
    let script = "serve 8080; python3 -c \"import socket,time
s = socket.socket(); s.bind(('127.0.0.1', 80)); s.connect(('127.0.0.1', 8080))
print('there', flush=True); time.sleep(60)\" >/run/held &
until_ok grep -q there /run/held; doctor";
    let Some(said) = alone(script) else { return };
    assert_says(&said, &["look  http :80", "whose connection to 127.0.0.1:8080", "exit 0"]);
}

/// What a start would meet, doctor meets beforehand.
#[test]
fn a_root_that_cannot_become_a_user_is_told() {
    let script = "setpriv --bounding-set=-setuid,-setgid --inh-caps=-all \
        /run/bin/portcullis doctor -c /run/c.toml; echo exit $?\n\
        setpriv --bounding-set=-setuid,-setgid /run/bin/portcullis run -c /run/c.toml; echo run $?";
    let Some(said) = alone(script) else { return };
    assert_says(&said, &["BAD   user", "root cannot be left for nobody", "exit 1", "run 77"]);
}

#[test]
fn a_right_that_is_not_good_for_this_network_is_told_beforehand() {
    let script = "as_nobody unshare --user --map-root-user /run/bin/portcullis doctor \
        -c /run/c.toml; echo exit $?; as_nobody unshare --user true || echo not allowed";
    let Some(said) = alone(script) else { return };
    if said.contains("not allowed") {
        return tools::skip("this host does not let users make user namespaces");
    }
    assert_says(&said, &["BAD   http :80", "the owner of this network namespace", "exit 1"]);
}

#[test]
fn the_sandbox_is_shown_to_bite() {
    let Some(said) = alone("doctor --sandbox; doctor --sandbox --json") else { return };
    let without_landlock = said.contains("has no Landlock");
    assert!(without_landlock || said.matches("exit 0").count() == 2, "{said}");
    assert_says(&said, &["The sandbox, closed around this process:", "ok    exec", "ok    read"]);
    let told = object(said.split_once("exit ").unwrap().1);
    let probes = told["sandbox"].as_array().unwrap();
    let exec = probes.iter().find(|probe| probe["name"] == "exec").unwrap();
    assert_eq!(exec["verdict"], "refused");
}

#[test]
fn it_is_quick() {
    let origin = Origin::start();
    let proxy = Proxy::to(&origin).start();
    let file = proxy.path("portcullis.toml");
    let took = || {
        let start = Instant::now();
        portcullis(&["doctor", "-c", file.to_str().unwrap()]);
        start.elapsed()
    };
    let best = (0..5).map(|_| took()).min().unwrap();
    assert!(best < Duration::from_millis(500), "{best:?}");
}
