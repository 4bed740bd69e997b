//! USR2: a new program takes the sockets over, and nobody who is connected or connecting notices.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::load::Load;
use crate::harness::proxy::{copy_program, open_to_proxy};
use crate::harness::setup::write_pair;
use crate::harness::socket::{Socket, echo_at};
use crate::harness::tools::{self, stderr};
use crate::harness::{Client, Origin, Proxy, Site, eventually, pki};

fn app(text: &'static str) -> Origin {
    let origin = Origin::start();
    origin.route("*", text);
    origin
}

fn status(proxy: &Proxy) -> Value {
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&["status", "--json", "-c", file.to_str().unwrap()]);
    let status = serde_json::from_slice(&output.stdout);
    status.unwrap_or_else(|_| panic!("no status: {}", stderr(&output)))
}

fn needs_a_person(proxy: &Proxy) -> String {
    status(proxy)["needs_a_person"].to_string()
}

/// The helper of a process: its child of that name.
fn helper_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let is_helper = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.starts_with("portcullis: helper"))
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_helper)
}

/// Whether a process runs; one that has ended and that nobody has asked about does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']))
}

/// Puts a script in the program's place.
fn replace_by(proxy: &Proxy, script: &str) {
    let draft = proxy.path("draft");
    fs::write(&draft, script).unwrap();
    open_to_proxy(&draft, 0o755);
    fs::rename(draft, proxy.path("program")).unwrap();
}

#[test]
fn twenty_upgrades_under_load_cost_nobody_a_request() {
    let origin = app("ok");
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&origin).admin("metrics = '127.0.0.1:0'"));
    let first = proxy.pid();
    let load = Load::start(&proxy);
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let environment = |pid| fs::read(format!("/proc/{pid}/environ")).unwrap().len();
    let mut sizes = Vec::new();
    let mut helpers = Vec::new();
    for n in 0..20 {
        helpers.extend(helper_of(proxy.pid()));
        let goal = load.answers() + 50;
        eventually("some answers in between", || load.answers() >= goal);
        copy_program(&proxy.path("program"));
        let pid = proxy.upgrade();
        assert_ne!(pid, first);
        if n == 0 || n == 19 {
            eventually("the control socket", || status(&proxy)["pid"] == pid);
            sizes.push((descriptors(pid), environment(pid)));
        }
    }
    let (answers, failures) = load.stop();
    assert!(failures.is_empty(), "{} of {answers} failed: {:?}", failures.len(), &failures[..1]);
    assert_eq!(needs_a_person(&proxy), "[]");
    let (few, many) = (sizes[0], sizes[1]);
    assert!(many.0 <= few.0 + 8, "descriptors: {sizes:?}");
    assert!(many.1 <= few.1 + 8, "the environment: {sizes:?}");
    let page = Client::plain(proxy.metrics(), "localhost").get("/metrics").text();
    assert!(page.contains("portcullis_"), "{page}");
    assert!(proxy.path("control.sock").exists());
    proxy.stop();
    assert!(!proxy.path("control.sock").exists(), "it goes with the last");
    assert_eq!(helpers.len(), 20);
    eventually("every helper to end", || !helpers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn the_new_process_serves_from_the_new_file() {
    let (old, new) = (app("old"), app("new"));
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&old));
    let address = proxy.http();
    assert_eq!(proxy.client().get("/").text(), "old");
    proxy.rewrite(|setup| setup.first_site(|site| site.to(&new)));
    proxy.upgrade();
    eventually("the new file", || proxy.client().get("/").text() == "new");
    assert_eq!(proxy.http(), address);
    assert_eq!(proxy.listening("http"), [address, address], "port 0 is the port that it was");
}

/// What the new program says must reach whoever asked for it.
#[track_caller]
fn expect_failure(proxy: &Proxy, words: &[&str]) {
    let pid = proxy.pid();
    let before = proxy.words().matches("the upgrade failed").count();
    proxy.signal(Signal::USR2);
    eventually("the upgrade to fail", || {
        proxy.words().matches("the upgrade failed").count() > before
    });
    let told = needs_a_person(proxy);
    for text in words {
        assert!(told.contains(text), "{text:?} in {told}");
    }
    assert_eq!(proxy.pid(), pid, "the old one goes on");
    assert_eq!(proxy.client().get("/").text(), "ok");
}

#[test]
fn a_program_that_does_not_come_up_leaves_the_old_one_serving_and_says_why() {
    let origin = app("ok");
    let proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    let mut kept = proxy.client().connect();
    assert_eq!(kept.get("/").text(), "ok");
    let program = proxy.path("program");
    let path = program.display().to_string();

    replace_by(&proxy, "#!/bin/sh\nexit 7\n");
    expect_failure(&proxy, &["said nothing", "exit status: 7"]);
    replace_by(&proxy, "#!/nowhere/interpreter\n");
    expect_failure(&proxy, &["cannot run", &path, "the interpreter or loader"]);
    replace_by(&proxy, "text");
    expect_failure(&proxy, &["cannot run", &path, "it is no program"]);
    let mut foreign = fs::read(tools::PORTCULLIS).unwrap();
    foreign.truncate(4096);
    foreign[18] ^= 0xff;
    fs::write(proxy.path("draft"), &foreign).unwrap();
    open_to_proxy(&proxy.path("draft"), 0o755);
    fs::rename(proxy.path("draft"), &program).unwrap();
    expect_failure(&proxy, &["a program for another machine"]);
    copy_program(&program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    expect_failure(&proxy, &["cannot run", "Permission denied"]);
    fs::remove_file(&program).unwrap();
    expect_failure(&proxy, &["cannot run", "No such file"]);

    assert_eq!(kept.get("/").text(), "ok", "who was connected has noticed nothing");
    copy_program(&program);
    let pid = proxy.upgrade();
    eventually("the control socket", || status(&proxy)["pid"] == pid);
    assert_eq!(needs_a_person(&proxy), "[]");
    assert_eq!(proxy.client().get("/").text(), "ok");
}

#[test]
fn a_broken_file_leaves_the_old_one_serving_and_its_mistakes_are_told() {
    let origin = app("ok");
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    proxy.rewrite_raw("[server]\nhtpp = ':80'\n");
    let told = "portcullis.toml:2:1";
    proxy.signal(Signal::USR2);
    proxy.expect_words("the upgrade failed");
    // `status` finds its way by the file.
    proxy.rewrite(|setup| setup);
    let needs = needs_a_person(&proxy);
    for text in [told, "htpp", "exit status: 78"] {
        assert!(needs.contains(text), "{text} in {needs}");
    }
    assert_eq!(proxy.client().get("/").text(), "ok");
    proxy.upgrade();
    assert_eq!(proxy.client().get("/").text(), "ok");
}

#[test]
fn a_listener_that_the_new_one_cannot_have_leaves_the_old_one_serving() {
    let origin = app("ok");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap();
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    proxy.rewrite(|setup| setup.server(&format!("http = ['127.0.0.1:0', '{place}']")));
    expect_failure(&proxy, &[&place.to_string()]);
}

#[test]
fn listeners_move_with_the_file() {
    let origin = app("ok");
    let first = std::net::SocketAddr::from(([127, 0, 0, 1], tools::own_port()));
    let setup = Proxy::plain_to(&origin).server(&format!("http = '{first}'"));
    let mut proxy = Proxy::start_copy(setup);
    proxy.rewrite(|setup| setup.server(&format!("http = ':{}'", first.port())));
    proxy.upgrade();
    let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 2], first.port()));
    for place in [first, elsewhere] {
        eventually("an answer", || Client::plain(place, "app.test").try_connect().is_ok());
        assert_eq!(Client::plain(place, "app.test").get("/").text(), "ok", "{place}");
    }
    proxy.rewrite(|setup| setup.server("http = '127.0.0.3:0'"));
    proxy.upgrade();
    eventually("the old listener to go", || std::net::TcpStream::connect(first).is_err());
    let last = proxy.listening("http").pop().unwrap();
    assert_eq!(last.ip().to_string(), "127.0.0.3");
    assert_eq!(Client::plain(last, "app.test").get("/").text(), "ok");
}

#[test]
fn a_second_signal_waits_and_so_does_a_reload() {
    let origin = app("ok");
    let proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    let pipe = proxy.path("pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    open_to_proxy(&pipe, 0o600);
    // A program that takes its time: until the test writes.
    replace_by(&proxy, &format!("#!/bin/sh\nread line <{}\nexit 3\n", pipe.display()));
    proxy.signal(Signal::USR2);
    proxy.expect_words("upgrading: process ");
    proxy.signal(Signal::USR2);
    proxy.expect_words("WARN an upgrade is under way");
    let output = proxy.reload(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("an upgrade is under way"), "{}", stderr(&output));
    assert_eq!(proxy.client().get("/").text(), "ok");
    fs::write(&pipe, "go\n").unwrap();
    proxy.expect_words("exit status: 3");
    assert!(proxy.reload(&[]).status.success());
    copy_program(&proxy.path("program"));
    proxy.upgrade();
}

#[test]
fn a_stop_during_an_upgrade_ends_both() {
    let origin = app("ok");
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    replace_by(&proxy, "#!/bin/sh\necho $$ >started\nexec sleep 1000\n");
    proxy.signal(Signal::USR2);
    let started = proxy.path("started");
    let mut pid = None;
    eventually("the new program", || {
        pid = fs::read_to_string(&started).ok().and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    proxy.stop();
    assert!(proxy.words().contains("the upgrade is given up"), "{}", proxy.words());
    eventually("the new program to end", || !is_alive(pid.unwrap()));
}

/// It kept the ports, and nobody served on them.
#[test]
fn a_kill_during_an_upgrade_ends_the_one_that_is_not_ready() {
    let origin = app("ok");
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    let place = proxy.http();
    replace_by(&proxy, "#!/bin/sh\necho $$ >started\nsleep 600\n");
    proxy.signal(Signal::USR2);
    let started = proxy.path("started");
    let mut pid = None;
    eventually("the new program", || {
        pid = fs::read_to_string(&started).ok().and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    proxy.signal(Signal::KILL);
    eventually("the end of the new process", || !is_alive(pid.unwrap()));
    eventually("the port to be free", || std::net::TcpListener::bind(place).is_ok());
    proxy.wait_for_exit();
}

#[test]
fn a_websocket_lives_through_an_upgrade_until_grace_is_over() {
    let origin = Origin::start();
    origin.route("/", "ok");
    echo_at(&origin, "/ws");
    let proxy = Proxy::start_copy(Proxy::plain_to(&origin).server("grace = '2s'"));
    let mut sockets =
        [Socket::open(&proxy.plain_client(), "/ws"), Socket::open(&proxy.client(), "/ws")];
    let start = Instant::now();
    proxy.upgrade();
    while start.elapsed() < Duration::from_millis(1500) {
        for socket in &mut sockets {
            assert_eq!(socket.ask("here"), "here", "after {:?}", start.elapsed());
        }
        assert_eq!(proxy.client().get("/").text(), "ok", "the new one serves meanwhile");
    }
    for socket in &mut sockets {
        socket.expect_end();
    }
    assert!(start.elapsed() >= Duration::from_millis(1800), "{:?}", start.elapsed());
}

#[test]
fn a_helper_that_has_died_is_told_once_and_costs_no_request() {
    let origin = app("ok");
    let proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    let mut helper = None;
    eventually("the helper", || {
        helper = helper_of(proxy.pid());
        helper.is_some()
    });
    let pid = Pid::from_raw(helper.unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    proxy.expect_words("the helper process has died");
    assert_eq!(proxy.client().get("/").text(), "ok");
    assert!(needs_a_person(&proxy).contains("the helper process has died"));
    proxy.signal(Signal::USR2);
    proxy.expect_words("the upgrade failed");
    let output = proxy.reload(&[]);
    assert!(stderr(&output).contains("takes a restart"), "{}", stderr(&output));
    assert_eq!(proxy.client().get("/").text(), "ok");
    assert_eq!(proxy.words().matches("ERROR the helper process has died").count(), 1);
}

#[test]
fn the_helper_is_as_unprivileged_as_the_server_and_ends_with_it() {
    let origin = app("ok");
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    let (server, mut helper) = (proxy.pid(), None);
    eventually("the helper", || {
        helper = helper_of(server);
        helper.is_some()
    });
    let helper = helper.unwrap();
    let line = |pid: u32, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let found = status.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap().trim().to_owned()
    };
    assert_eq!(line(helper, "Name:"), "portcullis-help");
    for name in ["Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:"] {
        assert_eq!(line(helper, name), line(server, name), "{name}");
    }
    assert_eq!(line(helper, "CapPrm:"), "0000000000000000");
    assert_eq!(line(helper, "NoNewPrivs:"), "1");
    // Nobody but root may look into it: its memory is not its user's.
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(format!("/proc/{helper}/environ")).unwrap().uid();
    eventually("the helper to shut itself off", || {
        owner == 0 || !rustix::process::geteuid().is_root()
    });
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(Pid::from_raw(helper.try_into().unwrap()).unwrap(), signal).unwrap();
    }
    assert_eq!(proxy.client().get("/").text(), "ok");
    assert!(is_alive(helper), "it ends with the server and not before");
    proxy.signal(Signal::KILL);
    proxy.wait_for_exit();
    eventually("the helper to end", || !is_alive(helper));
}

#[test]
fn a_reload_takes_new_ports_that_the_sandbox_does_not_know() {
    let (old, new) = (app("old"), app("new"));
    let named = |origin: &Origin| {
        let target = format!("http://localhost:{}", origin.port());
        Site::named("named.test").to(&target).on_plain_http()
    };
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&old).site(named(&old)));
    // Held for the moment, so that it is a port of its own.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = free.local_addr().unwrap();
    drop(free);
    proxy.rewrite(|setup| {
        let setup = setup.server(&format!("http = ['127.0.0.1:0', '{place}']"));
        let setup = setup.without_sites().admin("metrics = '127.0.0.1:0'");
        setup.site(Site::named("app.test").to(&new).on_plain_http()).site(named(&new))
    });
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(proxy.client().get("/").text(), "new");
    assert_eq!(Client::plain(place, "app.test").get("/").text(), "new");
    assert_eq!(Client::plain(place, "named.test").get("/").text(), "new");
    assert_eq!(Client::plain(proxy.metrics(), "localhost").get("/metrics").status, 200);
    assert_eq!(status(&proxy)["pid"], proxy.pid(), "it is the same process");
    let sandbox = &status(&proxy)["sandbox"];
    if sandbox["ports"] == true {
        let connects = sandbox["connects"].as_array().unwrap();
        assert!(!connects.contains(&new.port().into()), "it would not need the helper: {sandbox}");
    } else {
        tools::skip("this kernel limits no ports");
    }
}

#[test]
fn the_file_may_be_anywhere_for_a_reload() {
    let (old, new) = (app("old"), app("new"));
    let mut proxy = Proxy::start_copy(Proxy::plain_to(&old));
    fs::remove_file(proxy.path("portcullis.toml")).unwrap();
    proxy.signal(Signal::HUP);
    proxy.expect_words("there is no such file");
    proxy.rewrite(|setup| setup.first_site(|site| site.to(&new)));
    proxy.signal(Signal::HUP);
    eventually("the new app", || proxy.client().get("/").text() == "new");
    let mode = |mode| fs::set_permissions(proxy.path("portcullis.toml"), mode).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(proxy.path("portcullis.toml"), Some(0), Some(0)).unwrap();
        mode(fs::Permissions::from_mode(0o600));
        proxy.signal(Signal::HUP);
        proxy.expect_words("this user may not read the file");
    }
}

/// As certbot leaves them.
#[test]
fn keys_that_only_root_could_read_are_handed_on() {
    if !rustix::process::geteuid().is_root() {
        return tools::skip("takes root");
    }
    let origin = app("ok");
    let for_root = |path: &std::path::Path| {
        std::os::unix::fs::chown(path, Some(0), Some(0)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let proxy = Proxy::start_copy_after(Proxy::plain_to(&origin), |folder| {
        for_root(&folder.join("certs/app.test.key"));
    });
    for _ in 0..3 {
        proxy.upgrade();
        assert_eq!(proxy.client().get("/").text(), "ok");
    }
    assert_eq!(proxy.words().matches("was read as root").count(), 4, "{}", proxy.words());
    // A renewed one belongs to nobody's past.
    let renewed = pki::issue(&["app.test"]);
    write_pair(&proxy.path("certs/app.test.pem"), &renewed);
    for_root(&proxy.path("certs/app.test.key"));
    expect_failure(&proxy, &["app.test.key has changed and cannot be read"]);
}

/// The successor could not say whom the authority is verified against, and got no certificate.
#[test]
fn roots_of_an_authority_that_only_root_could_read_are_handed_on() {
    if !rustix::process::geteuid().is_root() {
        return tools::skip("takes root");
    }
    let origin = app("ok");
    let nobody = format!("directory = 'https://127.0.0.1:{}/dir'", tools::own_port());
    let setup = Proxy::plain_to(&origin).acme(&nobody).acme("ca = 'certs/roots.pem'");
    let setup = setup.site(Site::named("b.test").to(&origin).key("tls = 'auto'"));
    let proxy = Proxy::start_copy_after(setup, |folder| {
        let roots = folder.join("certs/roots.pem");
        fs::copy(folder.join("certs/app.test.pem"), &roots).unwrap();
        std::os::unix::fs::chown(&roots, Some(0), Some(0)).unwrap();
        fs::set_permissions(&roots, fs::Permissions::from_mode(0o600)).unwrap();
    });
    for tries in 2..4 {
        proxy.upgrade();
        eventually("the successor to ask the authority", || {
            proxy.words().matches("site b.test: no certificate for b.test").count() >= tries
        });
        assert!(!proxy.words().contains("cannot read the roots"), "{}", proxy.words());
    }
}

/// Low ports, which the new process has no right to bind.
#[test]
fn what_was_bound_with_a_right_is_passed_on_without_it() {
    let script = "
        cat >low.toml <<END
[server]
http = ':80'
https = ':443'
user = 'nobody'
[log]
access = 'off'
[[site]]
host = 'localhost'
to = '127.0.0.1:8080'
tls = 'local'
redirect = 'off'
END
        serve 8080
        cp \"$(readlink -f portcullis)\" program
        echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start
        fetch() { curl -sk -o /dev/null -w \"$1 %{http_code}\\n\" --max-time 5 \"$1\"; }
        serving() { ./program status -c low.toml --json | tr -d ' ' | grep -o '\"pid\":[0-9]*' | cut -d: -f2; }
        upgrade() {
            old=$(serving)
            kill -USR2 \"$old\"
            until_ok eval '[ \"$(serving)\" != \"'$old'\" ]'
            fetch http://localhost/; fetch https://localhost/
            grep CapPrm /proc/\"$(serving)\"/status
        }
        way() {
            \"$@\" ./program run -c low.toml >said 2>&1 &
            until_ok curl -sk -o /dev/null https://localhost/
            upgrade; upgrade
            last=$(serving)
            kill \"$last\"
            until_ok eval '! kill -0 '\"$last\"' 2>/dev/null'
            cat said
        }
        echo WAY; way env
        chown -R nobody . /run /var/lib
        setcap cap_net_bind_service=p program
        echo WAY; way setpriv --reuid=65534 --regid=65534 --clear-groups
        setcap -r program
        if command -v systemd-socket-activate >/dev/null; then
            sockets() {
                systemd-socket-activate -l 80 -l 443 --fdname=http:https \
                    setpriv --reuid=65534 --regid=65534 --clear-groups \
                    --inh-caps=-all --bounding-set=-all \"$@\"
            }
            echo WAY; way sockets
        fi
    ";
    let Some(text) = tools::alone(script) else { return };
    let ways: Vec<&str> = text.split("WAY\n").skip(1).collect();
    assert!(ways.len() >= 2, "{text}");
    for way in ways {
        assert_eq!(way.matches("http://localhost/ 200").count(), 2, "{text}");
        assert_eq!(way.matches("https://localhost/ 200").count(), 2, "{text}");
        assert_eq!(way.matches("CapPrm:\t0000000000000000").count(), 2, "{text}");
        assert_eq!(way.matches("upgraded: process").count(), 2, "{text}");
    }
}

/// It was told to write a socket unit, where a start again is enough.
#[test]
fn a_low_port_that_only_a_start_may_take_is_told_as_such() {
    let script = "
        cat >low.toml <<END
[server]
http = '127.0.0.1:80'
https = []
[log]
access = 'off'
[[site]]
host = 'localhost'
to = '127.0.0.1:8080'
redirect = 'off'
END
        echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start
        cp \"$(readlink -f portcullis)\" program
        chown -R nobody . /run /var/lib; setcap cap_net_bind_service=p program
        setpriv --reuid=65534 --regid=65534 --clear-groups ./program run -c low.toml >said 2>&1 &
        until_ok grep -q listening said
        sed -i \"s/'127.0.0.1:80'/['127.0.0.1:80', '127.0.0.1:81']/\" low.toml
        kill -USR2 $!; until_ok grep -q 'upgrade failed' said; kill $!; wait $!; cat said
    ";
    let Some(text) = tools::alone(script) else { return };
    assert!(text.contains("a start has the right"), "{text}");
    assert!(!text.contains("socket unit") && !text.contains("no_new_privs is"), "{text}");
}

/// The end of process 1 is the end of its container.
#[test]
fn process_1_is_not_upgraded() {
    let script = "
        cat >one.toml <<END
[server]
http = '127.0.0.1:8081'
https = []
user = 'nobody'
[[site]]
host = 'localhost'
to = '127.0.0.1:8080'
redirect = 'off'
END
        serve 8080
        cp \"$(readlink -f portcullis)\" program
        unshare --pid --fork --kill-child --mount-proc ./program run -c one.toml >said 2>&1 &
        until_ok grep -q listening said
        nsenter --target \"$(pgrep -P $!)\" --pid --mount kill -USR2 1
        until_ok grep -q 'upgrade failed' said
        curl -s -o /dev/null -w 'answer %{http_code}\\n' http://localhost:8081/
        cat said
        kill %2
    ";
    let Some(text) = tools::alone(script) else { return };
    assert!(text.contains("answer 200"), "{text}");
    assert!(text.contains("this is process 1, with which its container ends"), "{text}");
}

#[test]
fn up_and_demo_are_upgraded_too() {
    let origin = app("ok");
    let target = origin.to_string();
    for verb in [&["up", &target][..], &["demo"]] {
        let arguments = [verb, &["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"]].concat();
        let mut proxy = Proxy::launch_verb(&arguments);
        proxy.expect_listening();
        let places = (proxy.http(), proxy.https());
        proxy.upgrade();
        let root = proxy.local_root();
        let client = Client::plain(places.1, "localhost").trusting(root, "localhost");
        assert_eq!(client.get("/healthz").text().trim(), "ok");
        assert_eq!((proxy.http(), proxy.https()), places);
        proxy.stop();
    }
}

/// Whoever types the hidden verbs is told that they are none of his.
#[test]
fn the_hidden_verbs_do_nothing_for_people() {
    let output = tools::portcullis(&["__helper", "/bin/true", ""]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("portcullis run"), "{}", stderr(&output));
    let output = tools::portcullis(&["__launch", "/nowhere/program"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot run /nowhere/program"), "{}", stderr(&output));
}

#[test]
fn a_program_behind_a_link_is_looked_for_by_the_link() {
    let origin = app("ok");
    let proxy = Proxy::start_copy(Proxy::plain_to(&origin));
    let next = proxy.path("next");
    copy_program(&next);
    let link = proxy.path("link");
    std::os::unix::fs::symlink(&next, &link).unwrap();
    fs::rename(&link, proxy.path("program")).unwrap();
    let pid = proxy.upgrade();
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap(), next);
    // Called by a link now, it follows that link again.
    let last = proxy.path("last");
    copy_program(&last);
    std::os::unix::fs::symlink(&last, &link).unwrap();
    fs::rename(&link, proxy.path("program")).unwrap();
    let pid = proxy.upgrade();
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap(), last);
}
