//! Why an address could not be had, and whether what is advised helps: in a network, a mount and a
//! process namespace of its own, on the real ports.

use crate::harness::tools;

/// An installed copy for everybody, a file for port 80, and words for what the tests do.
const PROLOGUE: &str = r#"
    mkdir -p /run/bin && cp "$(readlink -f portcullis)" /run/bin/portcullis && cd /run
    listen() {
        printf '[server]\nhttp = "%s"\nhttps = []\n' "$1"
        printf '[admin]\nsocket = "/run/x.sock"\n[log]\naccess = "off"\n'
        printf '[[site]]\nhost = "a.test"\nto = "127.0.0.1:8080"\n'
    }
    listen :80 >/run/c.toml; chmod -R a+rX /run/bin /run/c.toml
    # as_nobody [OPTION...] COMMAND: with no right at all
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"; }
    # tell COMMAND: what it says, and its exit code
    tell() { timeout 20 "$@" 2>&1; echo "exit $?"; }
    # first: the first thing that is advised
    first() { sed -n 's/^  1\. //p' | head -n 1; }
    # serves COMMAND: whether it comes to listen on port 80
    serves() {
        "$@" >/run/out 2>&1 & server=$!
        until_ok grep -q 'listening http://' /run/out
        kill $server 2>/dev/null; wait $server; cat /run/out
    }
    # hold ADDRESS PORT [LINE]: a socket of somebody else
    hold() {
        python3 -c "import socket,time
s = socket.socket(socket.AF_INET6 if ':' in '$1' else socket.AF_INET)
s.bind(('$1', $2))
${3-s.listen()}
print('there', flush=True)
time.sleep(60)" >/run/held & holder=$!
        until_ok grep -q there /run/held
    }
"#;

/// What a script in that world says; `None` where such a world cannot be made.
fn alone(script: &str) -> Option<String> {
    tools::find("setpriv")?;
    tools::find("setcap")?;
    tools::alone(&format!("{PROLOGUE}\n{script}"))
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

const RUN: &str = "/run/bin/portcullis run -c /run/c.toml";

#[test]
fn a_taken_port_is_told_with_its_holder() {
    let script = format!("hold 127.0.0.1 80; tell {RUN}; echo holder $holder.");
    let Some(said) = alone(&script) else { return };
    let holder = said.split("holder ").nth(1).and_then(|rest| rest.split('.').next()).unwrap();
    assert_says(
        &said,
        &[
            "cannot listen on :80 for http: Address already in use",
            "Port 80 is held by python3 -c import socket,time",
            &format!("(pid {holder}, user root"),
            "on 127.0.0.1:80.",
            &format!("1. kill {holder}"),
            "http = \":8000\"",
            "exit 1",
        ],
    );
}

#[test]
fn the_advised_command_frees_a_taken_port() {
    let script = format!("hold 0.0.0.0 80; bash -c \"$({RUN} 2>&1 | first)\"; serves {RUN}");
    let Some(said) = alone(&script) else { return };
    assert_says(&said, &["listening http://"]);
}

#[test]
fn every_holder_of_a_port_is_told() {
    let script =
        format!("hold 127.0.0.1 80; one=$holder; hold ::1 80; tell {RUN}; echo pids $one $holder");
    let Some(said) = alone(&script) else { return };
    let pids = said.split("pids ").nth(1).unwrap();
    for pid in pids.split_ascii_whitespace() {
        assert_says(&said, &[&format!("(pid {pid}, user root"), &format!("kill {pid}")]);
    }
    assert_says(&said, &[" and by "]);
}

#[test]
fn a_holder_that_this_user_may_not_look_into_is_told_as_such() {
    let script = format!(
        "sysctl -qw net.ipv4.ip_unprivileged_port_start=0; hold 0.0.0.0 80; tell as_nobody {RUN}"
    );
    let script = script.replace("tell as_nobody", "as_nobody timeout 20");
    let Some(said) = alone(&format!("{script} 2>&1; echo exit $?")) else { return };
    assert_says(
        &said,
        &[
            "Port 80 is held by a process of user root (into which",
            "ss -ltnp sport = :80",
            "exit 1",
        ],
    );
}

/// To stop it, as other holders are, would be to take the site down.
#[test]
fn a_second_start_is_told_that_the_first_one_serves() {
    let script = format!(
        "{RUN} >/run/first 2>&1 & until_ok grep -q 'listening http://' /run/first; tell {RUN}"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "held by the portcullis that is already serving with this configuration (pid ",
            "1. portcullis reload -c /run/c.toml",
            "2. portcullis status -c /run/c.toml",
            "exit 1",
        ],
    );
    for word in ["kill ", "disable", "service "] {
        assert!(!said.contains(word), "{word:?} in {said}");
    }
}

#[test]
fn a_portcullis_of_another_configuration_is_asked_before_it_is_stopped() {
    let script = format!(
        "sed s/x.sock/y.sock/ /run/c.toml >/run/d.toml; cd /; /run/bin/portcullis run -c run/d.toml \
         >/run/first 2>&1 & until_ok grep -q 'listening http://' /run/first; tell {RUN}"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &["held by portcullis (pid ", "1. portcullis reload -c /run/d.toml", "3. kill ", "exit 1"],
    );
}

#[test]
fn every_listener_that_fails_is_told_at_once() {
    let script = format!(
        "printf '[server]\nhttp = [\":80\", \"192.0.2.1:81\"]\nhttps = []\n[admin]\n\
         socket = \"/run/x.sock\"\nmetrics = \"192.0.2.1:9090\"\n[log]\naccess = \"off\"\n[[site]]\n\
         host = \"a.test\"\nto = \"127.0.0.1:8080\"\n' >/run/c.toml\n\
         hold 127.0.0.1 80; tell {RUN}"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "cannot listen on :80 for http: Address already in use",
            "cannot listen on 192.0.2.1:81 for http: Cannot assign requested address",
            "admin.metrics: cannot listen on 192.0.2.1:9090",
            "exit 1",
        ],
    );
}

#[test]
fn a_socket_that_is_bound_and_does_not_listen_is_found() {
    let script = format!("hold 127.0.0.1 80 pass; tell {RUN}; uname -r");
    let Some(said) = alone(&script) else { return };
    // Kernels before 6.8 do not tell who it is.
    let names = said.contains("bound without listening.") && said.contains("python3 -c");
    assert!(names || said.contains("which this kernel does not tell"), "{said}");
    assert_says(&said, &["exit 1"]);
}

#[test]
fn a_connection_that_goes_out_from_the_port_is_found() {
    let line = "s.connect(('127.0.0.1', 8080))";
    let script = format!("serve 8080; hold 127.0.0.1 80 \"{line}\"; tell {RUN}");
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "whose connection to 127.0.0.1:8080 goes out from it",
            "ip_local_reserved_ports=80",
            "exit 1",
        ],
    );
}

/// The first process of the namespace stands in for systemd.
#[test]
fn a_socket_that_systemd_keeps_is_told_by_its_unit() {
    let script = format!(
        "mkdir -p /run/systemd/system
         printf '[Socket]\\nListenStream=80\\nService=shop.service\\n' >/run/systemd/system/web.socket
         exec python3 -c \"import socket,subprocess
s = socket.socket(socket.AF_INET6); s.bind(('::', 80)); s.listen()
print('exit', subprocess.run('{RUN}'.split(), stderr=subprocess.STDOUT).returncode)\""
    );
    let Some(said) = alone(&script) else { return };
    let remedy = "systemctl disable --now web.socket shop.service";
    assert_says(&said, &["(pid 1, user root", "on [::]:80", remedy, "exit 1"]);
}

#[test]
fn a_user_without_the_right_is_told_which_and_how_to_give_it() {
    let script = format!("as_nobody {RUN} 2>&1; echo exit $?");
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "cannot listen on :80 for http: Permission denied",
            "Ports below 1024 need root or CAP_NET_BIND_SERVICE, which user nobody (uid 65534)",
            "/run/bin/portcullis has no file capability.",
            "effective: no, permitted: no, inheritable: no, bounding: yes, ambient: no",
            "setcap cap_net_bind_service=p /run/bin/portcullis",
            "net.ipv4.ip_unprivileged_port_start=80",
            "http = \":8000\"",
            "exit 77",
        ],
    );
}

#[test]
fn the_advised_command_gives_the_right() {
    let script = format!(
        "bash -c \"$(as_nobody {RUN} 2>&1 | first)\"; getcap /run/bin/*; serves as_nobody {RUN}"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(&said, &["/run/bin/portcullis cap_net_bind_service=p", "listening http://"]);
}

#[test]
fn a_bounding_set_without_it_is_told_and_the_way_around_it_helps() {
    let script = format!(
        "setcap cap_net_bind_service=p /run/bin/portcullis\n\
         as_nobody --bounding-set=-net_bind_service {RUN} >/run/said 2>&1; echo exit $?; cat /run/said\n\
         serves bash -c \"exec $(first </run/said)\""
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "exit 77",
            "the file capability of /run/bin/portcullis is ignored, because the bounding set lacks it",
            "bounding: no",
            "setpriv --reuid=65534 --regid=65534",
            "listening http://",
        ],
    );
    assert!(!said.contains("1. setcap"), "{said}");
}

/// What the documentation says of `=ep`: the program is not even started then.
#[test]
fn a_file_capability_in_force_at_once_keeps_the_program_from_starting_without_the_bounding_set() {
    let script = format!(
        "setcap cap_net_bind_service=ep /run/bin/portcullis\n\
         as_nobody --bounding-set=-net_bind_service {RUN} 2>&1; echo exit $?"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(&said, &["Operation not permitted"]);
    assert!(!said.contains("CAP_NET_BIND_SERVICE"), "{said}");
}

#[test]
fn a_file_capability_that_no_new_privs_makes_void_is_told() {
    let script = format!(
        "setcap cap_net_bind_service=ep /run/bin/portcullis\n\
         as_nobody setpriv --no-new-privs {RUN} 2>&1; echo exit $?"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "is ignored, because no_new_privs is set on this process",
            "from another login",
            "exit 77",
        ],
    );
}

#[test]
fn a_file_capability_on_a_nosuid_mount_is_told() {
    let script = format!(
        "cp /run/bin/portcullis /run/kept; mount -t tmpfs -o nosuid none /run/bin\n\
         cp /run/kept /run/bin/portcullis; setcap cap_net_bind_service=p /run/bin/portcullis\n\
         as_nobody {RUN} 2>&1; echo exit $?"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "is ignored, because its file system is mounted nosuid",
            "install -m 0755 /run/bin/portcullis /usr/local/bin/portcullis",
            "setcap cap_net_bind_service=p /usr/local/bin/portcullis",
            "exit 77",
        ],
    );
}

#[test]
fn a_start_by_way_of_the_loader_is_told() {
    let script = format!(
        "loader=$(ls /lib64/ld-linux-*.so.* /lib/ld-musl-*.so.* /lib/ld-linux-*.so.* 2>/dev/null | head -n 1)\n\
         setcap cap_net_bind_service=p /run/bin/portcullis\n\
         as_nobody $loader {RUN} 2>&1; echo exit $?"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "the file capability of /run/bin/portcullis is ignored, because it was started by way of",
            "then: /run/bin/portcullis run -c /run/c.toml",
            "exit 77",
        ],
    );
}

#[test]
fn a_file_capability_that_a_tracer_makes_void_is_told() {
    if tools::find("strace").is_none() {
        return;
    }
    let script = format!(
        "setcap cap_net_bind_service=p /run/bin/portcullis\n\
         as_nobody strace -f -o /dev/null {RUN} 2>&1; echo exit $?"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "is ignored, because this process is traced by process ",
            "without the tracer",
            "exit 77",
        ],
    );
}

#[test]
fn a_file_capability_of_another_user_namespace_is_told() {
    let script = format!(
        "chown -R 65534:65534 /run/bin; as_nobody unshare --user --map-root-user \
         setcap cap_net_bind_service=p /run/bin/portcullis && as_nobody {RUN} 2>&1; echo exit $?"
    );
    let Some(said) = alone(&script) else { return };
    if !said.contains("Ports below") {
        return tools::skip("this host does not let users make user namespaces");
    }
    let why = "it is good in a user namespace only, whose root is uid 65534";
    assert_says(
        &said,
        &[why, "1. ", "setcap cap_net_bind_service=p /run/bin/portcullis", "exit 77"],
    );
}

#[test]
fn a_right_that_is_not_good_for_this_network_is_told() {
    let script = format!("as_nobody unshare --user --map-root-user {RUN} 2>&1; echo exit $?");
    let Some(said) = alone(&script) else { return };
    if !said.contains("cannot listen") {
        return tools::skip("this host does not let users make user namespaces");
    }
    assert_says(
        &said,
        &["the owner of this network namespace", "on the host, outside this user", "exit 77"],
    );
}

/// Lets a command bind no TCP port, by a sandbox that leaves no trace in `/proc`.
const SHUT_IN: &str = "import ctypes,os,struct,sys
call = ctypes.CDLL(None, use_errno=True).syscall
rules = ctypes.create_string_buffer(struct.pack('=QQ', 0, 1))
fence = call(444, rules, 16, 0)
if fence < 0: sys.exit('no Landlock')
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
call(446, fence, 0)
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn a_security_module_that_refuses_is_told_from_a_missing_right() {
    let script = format!("tell python3 -c \"{SHUT_IN}\" {RUN}");
    let Some(said) = alone(&script) else { return };
    if said.contains("no Landlock") {
        return tools::skip("this kernel has no Landlock for ports");
    }
    assert_says(
        &said,
        &[
            "Though this process has CAP_NET_BIND_SERVICE, a security module",
            "Landlock",
            "effective: yes",
            "exit 77",
        ],
    );
}

#[test]
fn a_lower_start_of_the_free_ports_is_enough() {
    let script = format!(
        "sysctl -qw net.ipv4.ip_unprivileged_port_start=80; as_nobody /run/bin/portcullis doctor \
         -c /run/c.toml; serves as_nobody {RUN}"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(&said, &["ports from 80 up need no right", "listening http://"]);
}

#[test]
fn an_address_of_another_host_is_told_with_those_of_this_one() {
    let script = format!("listen 192.0.2.1:80 >/run/c.toml; tell {RUN}");
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "cannot listen on 192.0.2.1:80 for http: Cannot assign requested address",
            "This host has no address 192.0.2.1; it has 127.0.0.1 (lo).",
            "1. http = \":80\"",
            "sysctl -w net.ipv4.ip_nonlocal_bind=1",
            "exit 1",
        ],
    );
}

#[test]
fn ipv6_that_is_switched_off_is_told_and_every_address_does_without() {
    let script = format!(
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1\n\
         listen [::1]:80 >/run/c.toml; tell {RUN}; listen :80 >/run/c.toml; serves {RUN}"
    );
    let Some(said) = alone(&script) else { return };
    assert_says(
        &said,
        &[
            "::1 is an address of IPv6, which is switched off on this host",
            "sysctl -w net.ipv6.conf.lo.disable_ipv6=0",
            "exit 1",
            "listening http://",
        ],
    );
}
