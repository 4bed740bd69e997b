//! The rights of the running program, in each way to start it: none is left in any thread.

use std::collections::BTreeMap;

use crate::harness::tools;

/// Runs a script in a network, a process list, and users of its own, as root. There it finds
/// `program`, a copy of the program that every user may run, in the folder `/run/way`, which is
/// also where it is; and `portcullis` as a user (uid 4711, also in the group 4712) unless the
/// script calls `forget_user`.
#[track_caller]
fn way(script: &str) -> Option<String> {
    tools::find("setpriv")?;
    tools::alone(&format!("{PROLOGUE}\n{script}"))
}

const PROLOGUE: &str = r#"
    mkdir -m 755 /run/way && cp "$(readlink -f portcullis)" /run/way/program && cd /run/way
    grep -v '^portcullis:' /etc/passwd >others; grep -v '^portcullis:' /etc/group >groups
    { cat others; echo portcullis:x:4711:4711::/:/bin/false; } >passwd
    { cat groups; echo portcullis:x:4711:; echo keys:x:4712:portcullis; } >group
    mount --bind passwd /etc/passwd && mount --bind group /etc/group
    forget_user() { mount --bind /run/way/others /etc/passwd; }
    # configure LINES: the file, with lines for [server]
    configure() {
        cat >way.toml <<END
[server]
workers = 2
grace = '1s'
$1
[log]
access = 'off'
[admin]
metrics = '127.0.0.1:9180'
[[site]]
host = 'localhost'
to = '127.0.0.1:8080'
tls = 'local'
redirect = 'off'
END
    }
    configure ''
    serve 8080
    # start COMMAND: in the background; its words are in the file said, its process in $pid
    start() { "$@" >said 2>&1 & pid=$!; }
    # run_as OPTIONS OF setpriv: without any right that they do not give; stored where it may
    run_as() {
        chown 4000:4000 . && mkdir -m 755 -p /run/portcullis /var/lib/portcullis &&
            chown 4000:4000 /run/portcullis /var/lib/portcullis
        start setpriv --reuid=4000 --regid=4000 --clear-groups "$@" ./program run -c way.toml
    }
    fetch() { curl -sk -o /dev/null -w "$1 %{http_code}\n" --max-time 5 "$1" || echo "$1 fails"; }
    answers() { until_ok curl -sk -o /dev/null --max-time 1 "$1"; fetch "$1"; }
    # held: what the kernel knows of each thread
    held() {
        for thread in /proc/"$pid"/task/*/status; do echo THREAD; cat "$thread"; done
        grep 'core file' /proc/"$pid"/limits
        echo "memory of uid $(stat -c %u /proc/"$pid"/environ)"
        echo END
    }
    stop() { kill "$pid"; wait "$pid"; echo "exit $?"; cat said; }
    ended() { wait "$pid"; echo "exit $?"; cat said; }
"#;

/// What `held` has printed: a map for each thread.
fn threads(said: &str) -> Vec<BTreeMap<String, String>> {
    let (held, _) = said.split_once("END\n").expect("what is held");
    let threads = held.split("THREAD\n").skip(1).map(|thread| {
        let lines = thread.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    });
    threads.collect()
}

const NONE: &str = "0000000000000000";

/// Asserts of every thread that it is this user, with nothing else.
#[track_caller]
fn assert_nothing_held(said: &str, uid: u32, groups: &str) {
    let threads = threads(said);
    assert!(threads.len() > 3, "control, two workers and the acceptor: {said}");
    for thread in threads {
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(thread[set], NONE, "{set} of {thread:?}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "{thread:?}");
        let ids = format!("{uid}\t{uid}\t{uid}\t{uid}");
        assert_eq!(thread["Uid"], ids, "{thread:?}");
        assert_eq!(thread["Groups"], groups, "{thread:?}");
    }
    let core = said.lines().find(|line| line.contains("core file")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    assert!(said.contains("memory of uid 0"), "not dumpable: {said}");
}

#[track_caller]
fn assert_bounding(said: &str, is_empty: bool) {
    for thread in threads(said) {
        assert_eq!(thread["CapBnd"] == NONE, is_empty, "{thread:?}");
    }
}

#[track_caller]
fn assert_says(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "{words:?} in {said}");
    }
}

const SERVES: [&str; 3] = ["http://localhost/ 200", "https://localhost/ 200", "exit 0"];

#[test]
fn root_becomes_the_user_in_every_respect() {
    let script = "start ./program run -c way.toml; answers http://localhost/
        fetch https://localhost/; held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 4711, "4711 4712");
    assert_bounding(&said, true);
    assert_says(
        &said,
        &["privileges: left root for portcullis (uid 4711, gid 4711); no capability in any of "],
    );
}

#[test]
fn where_the_built_in_user_does_not_exist_root_becomes_nobody_and_warns() {
    let script = "forget_user; start ./program run -c way.toml; answers http://localhost/
        fetch https://localhost/; held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 65_534, "65534");
    assert_bounding(&said, true);
    assert_says(&said, &["WARN", "there is no user portcullis", "useradd --system"]);
}

#[test]
fn a_user_that_somebody_wrote_must_exist() {
    let script = "configure \"user = 'prtcullis'\"; start ./program run -c way.toml; ended";
    let Some(said) = way(script) else { return };
    assert_says(&said, &["exit 77", "no user \"prtcullis\""]);
}

/// As in a container that was given few capabilities.
#[test]
fn a_root_that_may_not_become_another_user_says_what_to_do() {
    let script = "few() { start setpriv --bounding-set=-setuid,-setgid,-setpcap \\
            --inh-caps=-setuid,-setgid,-setpcap ./program run -c way.toml; }
        few; ended; configure \"user = 'root'\"; few; answers http://localhost/
        fetch https://localhost/; held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &["exit 77", "root cannot be left", "docker run --user"]);
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 0, &threads(&said)[0]["Groups"]);
    assert_bounding(&said, false);
}

#[test]
fn root_stays_only_when_told_to_and_has_nothing_but_its_files() {
    let script = "configure \"user = 'root'\"; start ./program run -c way.toml
        answers http://localhost/; fetch https://localhost/; held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 0, &threads(&said)[0]["Groups"]);
    assert_bounding(&said, true);
    assert_says(&said, &["WARN", "serving as root", "stays root, as `user` says"]);
}

#[test]
fn a_capability_on_the_file_is_used_and_given_up() {
    if tools::find("setcap").is_none() {
        return;
    }
    for flags in ["p", "ep"] {
        let script = format!(
            "PATH=$PATH:/usr/sbin setcap cap_net_bind_service={flags} program
             run_as --inh-caps=-all; answers http://localhost/; fetch https://localhost/
             held; stop"
        );
        let Some(said) = way(&script) else { return };
        assert_says(&said, &SERVES);
        assert_nothing_held(&said, 4000, "");
        // Nobody but root may shrink it.
        assert_bounding(&said, false);
        assert_says(&said, &["CAP_NET_BIND_SERVICE given up", "gives nothing under"]);
    }
}

/// With `=ep` the kernel would refuse to run it at all.
#[test]
fn with_a_permitted_capability_it_starts_where_the_bounding_set_lacks_it() {
    if tools::find("setcap").is_none() {
        return;
    }
    let script = "PATH=$PATH:/usr/sbin setcap cap_net_bind_service=p program
        configure \"http = ':8000'\nhttps = ':8443'\"
        run_as --inh-caps=-all --bounding-set=-all; answers http://localhost:8000/
        held; stop
        configure ''; run_as --inh-caps=-all --bounding-set=-all; ended";
    let Some(said) = way(script) else { return };
    assert_says(&said, &["http://localhost:8000/ 200", "exit 0"]);
    assert_nothing_held(&said, 4000, "");
    assert_bounding(&said, true);
    assert_says(&said, &["exit 77", "the bounding set lacks it"]);
}

#[test]
fn an_ambient_capability_is_used_and_given_up() {
    let script = "run_as --inh-caps=+net_bind_service --ambient-caps=+net_bind_service
        answers http://localhost/; fetch https://localhost/; held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 4000, "");
    assert_says(&said, &["CAP_NET_BIND_SERVICE given up"]);
}

#[test]
fn a_user_with_many_capabilities_gives_up_all_of_them() {
    let script = "many=+net_bind_service,+setpcap,+setuid,+setgid,+chown,+dac_override,+kill
        run_as --inh-caps=$many --ambient-caps=$many; answers http://localhost/
        fetch https://localhost/; held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 4000, "");
    // One of them was the right to empty this set.
    assert_bounding(&said, true);
    assert_says(&said, &["; 7 capabilities given up; no capability in any of "]);
}

#[test]
fn where_low_ports_are_free_for_all_nothing_is_needed_and_nothing_held() {
    let script = "echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start
        run_as --inh-caps=-all --bounding-set=-all
        answers http://localhost/; fetch https://localhost/; held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 4000, "");
    assert_says(&said, &["privileges: started as 4000 (uid 4000, gid 4000); no capability in any"]);
}

#[test]
fn high_ports_need_nothing_and_nothing_is_held() {
    let script = "configure \"http = ':8000'\nhttps = ':8443'\"
        run_as --inh-caps=-all; answers http://localhost:8000/; fetch https://localhost:8443/
        held; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &["http://localhost:8000/ 200", "https://localhost:8443/ 200", "exit 0"]);
    assert_nothing_held(&said, 4000, "");
}

#[test]
fn without_any_right_low_ports_are_refused_with_a_code_of_their_own() {
    let script = "run_as --inh-caps=-all; ended";
    let Some(said) = way(script) else { return };
    assert_says(&said, &["exit 77", "CAP_NET_BIND_SERVICE", "uid 4000"]);
}

/// It is read at the time that it is asked for, and said in the same words by all who say it.
#[test]
fn status_and_metrics_tell_what_is_held() {
    let script = "start ./program run -c way.toml; answers http://localhost/
        ./program status -c way.toml; ./program status -c way.toml --json >status
        python3 -c 'import json
told = json.load(open(\"status\"))[\"privileges\"]
print(told[\"proved\"], told[\"user\"], told[\"uid\"], told[\"threads\"] > 3, told[\"excess\"])
print(*(f\"{set}={held}\" for set, held in sorted(told[\"capabilities\"].items())))
print(told[\"no_new_privs\"], told[\"memory_is_open\"], told[\"text\"])'
        curl -s http://127.0.0.1:9180/metrics | grep -E '^portcullis_(cap|priv)'; stop";
    let Some(said) = way(script) else { return };
    let text = "left root for portcullis (uid 4711, gid 4711); no capability in any of ";
    assert_says(
        &said,
        &[
            &format!("\nprivileges: {text}"),
            "True portcullis 4711 True []",
            "ambient=[] bounding=[] effective=[] inheritable=[] permitted=[]",
            &format!("True False {text}"),
            "portcullis_privileges_proved 1",
            "portcullis_capabilities_held{set=\"effective\"} 0",
            "portcullis_capabilities_held{set=\"bounding\"} 0",
        ],
    );
}

/// `sockets OPTIONS`: a service whose sockets systemd-socket-activate opens as root; the program has
/// no right at all, and starts when the first client comes.
const SOCKETS: &str = "
    chown 4000:4000 .; mkdir -m 755 -p /run/portcullis /var/lib/portcullis
    chown 4000:4000 /run/portcullis /var/lib/portcullis
    sockets() {
        start systemd-socket-activate \"$@\" setpriv --reuid=4000 --regid=4000 --clear-groups \\
            --inh-caps=-all --bounding-set=-all ./program run -c way.toml
    }";

#[track_caller]
fn by_sockets(script: &str) -> Option<String> {
    tools::find("systemd-socket-activate")?;
    way(&format!("{SOCKETS}\n{script}"))
}

#[test]
fn sockets_with_names_need_no_right() {
    let script = "sockets -l 80 -l 443 --fdname=http:https; answers http://localhost/
        fetch https://localhost/; fetch http://127.0.0.1/; held; stop";
    let Some(said) = by_sockets(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 4000, "");
    assert_bounding(&said, true);
    assert_says(&said, &["http on :80 is served by the passed socket [::]:80"]);
}

#[test]
fn sockets_without_names_go_by_their_ports() {
    let script = "sockets -l 443 -l 80; answers http://localhost/; fetch https://localhost/
        held; stop";
    let Some(said) = by_sockets(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 4000, "");
}

#[test]
fn a_name_may_stand_twice_and_its_socket_wins_over_the_configuration() {
    let script = "sockets -l 127.0.0.1:80 -l '[::1]:80' -l 127.0.0.1:4430 --fdname=http:http:https
        answers http://127.0.0.1/ ; fetch http://[::1]/; fetch https://localhost:4430/
        fetch https://localhost/; held; stop";
    let Some(said) = by_sockets(script) else { return };
    for served in ["http://127.0.0.1/ 404", "http://[::1]/ 404", "https://localhost:4430/ 200"] {
        assert_says(&said, &[served]);
    }
    assert_says(&said, &["https://localhost/ fails", "exit 0"]);
    assert_says(&said, &["https is configured on :443 and served by the passed socket 127.0.0.1"]);
    assert_nothing_held(&said, 4000, "");
}

#[test]
fn a_socket_that_no_listener_wants_is_named_and_closed() {
    let script = "sockets -l 80 -l 443 -l 8081; answers http://localhost/
        fetch https://localhost/; grep -c :1F91 /proc/\"$pid\"/net/tcp6; held; stop";
    let Some(said) = by_sockets(script) else { return };
    assert_says(&said, &SERVES);
    assert_says(&said, &["[::]:8081 is closed: no listener of the configuration wants it"]);
    assert_says(&said, &["200\n0\nTHREAD"]);
}

#[test]
fn a_listener_that_no_socket_serves_is_named() {
    let script =
        "sockets -l 80; until_ok bash -c 'exec 3<>/dev/tcp/127.0.0.1/80' 2>/dev/null; ended
        echo 443 >/proc/sys/net/ipv4/ip_unprivileged_port_start
        sockets -l 80; answers http://localhost/; fetch https://localhost/; held; stop";
    let Some(said) = by_sockets(script) else { return };
    let (refused, bound) = said.split_once("exit 77").expect("a refusal");
    assert!(!refused.contains(" 200"), "{said}");
    assert_says(bound, &["none for https on :443", "FileDescriptorName=https"]);
    assert_says(bound, &SERVES);
    assert_says(bound, &["no socket was passed for https on :443: binding it"]);
    assert_nothing_held(bound, 4000, "");
}

/// A datagram socket on the port of a listener serves nothing.
#[test]
fn a_socket_of_another_kind_is_named_and_refused() {
    let script = "configure \"http = ':8000'\nhttps = []\"
        sockets -d -l 8000 --fdname=http
        until_ok bash -c 'echo x >/dev/udp/127.0.0.1/8000; grep -q Execing said'
        answers http://localhost:8000/; stop";
    let Some(said) = by_sockets(script) else { return };
    assert_says(&said, &["the passed UDP socket \"http\" is closed: a listener takes a TCP"]);
    assert_says(&said, &["http://localhost:8000/ 200", "exit 0"]);
}

/// Made by root and readable for root alone, as many tools that renew certificates leave them.
#[test]
fn a_key_that_only_root_may_read_serves_on_until_it_changes() {
    let script = "pair() {
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 \\
                -subj \"/CN=$1\" -addext subjectAltName=DNS:localhost \\
                -keyout new.key -out new.pem 2>/dev/null
            chmod 600 new.key; mv new.key way.key; mv new.pem way.pem
        }
        shown() { openssl s_client -connect localhost:443 -servername localhost </dev/null \\
            2>/dev/null | sed -n 's/^subject=/shown /p'; }
        shows() { shown | grep -q \"$1\"; }
        pair first
        sed -i \"s/^tls = .*/tls = { cert = 'way.pem', key = 'way.key' }/\" way.toml
        start ./program run -c way.toml; answers http://localhost/
        as_user() { setpriv --reuid=4711 --regid=4711 --clear-groups \"$@\"; }
        as_user ./program reload -c way.toml && shown; echo reloaded $?
        pair second; until_ok grep -q 'has changed and cannot be read' said; shown
        ./program reload -c way.toml; echo refused $?; shown
        as_user ./program status -c way.toml | grep -o 'needs a person: changed cert'
        chgrp portcullis way.key; chmod 640 way.key; until_ok shows second
        ./program reload -c way.toml; echo mended $?; shown; held; stop";
    if tools::find("openssl").is_none() {
        return;
    }
    let Some(said) = way(script) else { return };
    assert_nothing_held(&said, 4711, "4711 4712");
    let told: Vec<&str> = said
        .lines()
        .filter(|line| {
            ["shown", "reloaded", "refused", "mended"].iter().any(|w| line.starts_with(w))
        })
        .filter(|line| !line.contains(':'))
        .collect();
    let first =
        ["shown CN = first", "reloaded 0", "shown CN = first", "refused 1", "shown CN = first"];
    let told: Vec<String> = told.iter().map(|line| line.replace("CN=", "CN = ")).collect();
    assert_eq!(told, [&first[..], &["mended 0", "shown CN = second"]].concat(), "{said}");
    assert_says(&said, &["way.key was read as root and cannot be read again"]);
    assert_says(&said, &["chgrp portcullis /run/way/way.key && ", "needs a person"]);
}

/// As in `/etc/letsencrypt/live`, where one cannot even see whether they have changed.
#[test]
fn a_pair_in_a_folder_that_only_root_may_enter_serves_on() {
    let script = "mkdir -m 700 live; openssl req -x509 -newkey ec -days 9 -nodes \\
            -pkeyopt ec_paramgen_curve:P-256 -subj /CN=hidden -addext subjectAltName=DNS:localhost \\
            -keyout live/way.key -out live/way.pem 2>/dev/null
        sed -i \"s,^tls = .*,tls = { cert = 'live/way.pem'\\, key = 'live/way.key' },\" way.toml
        start ./program run -c way.toml; answers http://localhost/
        ./program reload -c way.toml; echo reload $?; fetch https://localhost/
        ./program status -c way.toml >/dev/null; echo status $?; held; stop";
    if tools::find("openssl").is_none() {
        return;
    }
    let Some(said) = way(script) else { return };
    assert_says(&said, &SERVES);
    assert_nothing_held(&said, 4711, "4711 4712");
    // Its nine days are what needs a person.
    assert_says(&said, &["reload 0", "status 1", "chgrp portcullis /run/way/live && "]);
    assert!(!said.contains("ERROR"), "{said}");
}

/// What a start that stayed root has made belongs to the user afterwards, who makes more of it.
#[test]
fn the_storage_and_the_control_socket_are_handed_over() {
    let script = "configure \"user = 'root'\"; start ./program run -c way.toml
        answers https://localhost/; stop; owners() { stat -c '%u %n' \"$@\"; }
        owners /var/lib/portcullis /var/lib/portcullis/local/*
        configure ''; start ./program run -c way.toml; answers https://localhost/
        owners /var/lib/portcullis /var/lib/portcullis/local/* /run/portcullis/control.sock
        sed -i \"s/'localhost'/['localhost', 'new.localhost']/\" way.toml
        ./program reload -c way.toml; echo reload $?
        curl -sk --resolve new.localhost:443:127.0.0.1 https://new.localhost/ -o /dev/null \\
            -w 'new %{http_code}\n'
        owners /var/lib/portcullis/local/*
        held; stop; ls /run/portcullis | wc -l";
    let Some(said) = way(script) else { return };
    let (before, after) = said.split_once("exit 0").expect("the first to end");
    assert_says(before, &["https://localhost/ 200"]);
    let (owned_by_root, after) = after.split_once("https://localhost/ 200").unwrap();
    assert_says(
        owned_by_root,
        &["0 /var/lib/portcullis\n", "0 /var/lib/portcullis/local/root.key"],
    );
    assert_says(after, &["4711 /var/lib/portcullis\n", "4711 /run/portcullis/control.sock"]);
    assert!(!after.contains("\n0 /"), "{after}");
    assert_says(after, &["reload 0", "new 200", "exit 0"]);
    assert!(after.trim_end().ends_with("\n0"), "the control socket is gone: {after}");
    assert_nothing_held(after, 4711, "4711 4712");
}

#[test]
fn a_log_that_the_user_may_not_write_is_told_with_the_command_that_mends_it() {
    let script = "sed -i \"s/access = 'off'/access = 'access.log'/\" way.toml
        start ./program run -c way.toml; ended
        chown 4711:4711 /run/way; start ./program run -c way.toml; answers http://localhost/; stop";
    let Some(said) = way(script) else { return };
    assert_says(&said, &["exit 77", "it is opened as portcullis", "chown 4711:4711 ", "exit 0"]);
}

#[test]
fn up_leaves_root_for_whoever_called_sudo_or_for_nobody() {
    let script =
        "cd /; forget_user; start_up() { \"$@\" /run/way/program up 8080 >/run/way/said 2>&1 &
            pid=$!; answers https://localhost/; held; kill $pid; wait $pid; echo \"exit $?\"; }
        start_up env -u SUDO_UID; cat /run/way/said; echo SECOND
        start_up env SUDO_UID=4000; cat /run/way/said";
    let Some(said) = way(script) else { return };
    let (first, second) = said.split_once("SECOND").unwrap();
    for (said, uid, groups) in [(first, 65_534, "65534"), (second, 4000, "4000")] {
        assert_says(said, &["https://localhost/ 200", "exit 0"]);
        assert_nothing_held(said, uid, groups);
        assert_bounding(said, true);
    }
}
