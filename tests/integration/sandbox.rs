//! What the running program has shut itself in to, from outside.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::setup::write_pair;
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Client, Origin, Proxy, Setup, Site, Wire, eventually, pki, proxy};

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "hello");
    origin
}

fn status(proxy: &Proxy) -> Value {
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&["status", "--json", "-c", file.to_str().unwrap()]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A line of the status of every thread.
fn of_threads(proxy: &Proxy, line: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap();
    let status = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")));
    status
        .flat_map(|text| {
            let text = text.unwrap();
            let found = text.lines().find_map(|text| text.strip_prefix(line));
            found.map(|rest| rest.trim().to_owned())
        })
        .collect()
}

fn tls(folder: &Path) -> String {
    let folder = folder.display();
    format!("tls = {{ cert = '{folder}/a.pem', key = '{folder}/a.key' }}")
}

/// The certificate that it shows.
fn shown(proxy: &Proxy) -> Vec<u8> {
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&[]), proxy::HOST).unwrap();
    wire.session().peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn every_thread_is_inside_and_status_says_what_is_left() {
    let origin = app();
    let proxy = Proxy::to(&origin).admin("metrics = '127.0.0.1:0'").start();
    assert_eq!(proxy.client().get("/").text(), "hello");
    let filtered = of_threads(&proxy, "Seccomp:");
    assert!(filtered.len() >= 5 && filtered.iter().all(|mode| mode == "2"), "{filtered:?}");
    let told = &status(&proxy)["sandbox"];
    assert_eq!((&told["mode"], &told["calls"]), (&"on".into(), &true.into()));
    let folder = proxy.path("certs").display().to_string();
    if told["files"] == true {
        assert!(told["reads"].as_array().unwrap().contains(&folder.as_str().into()), "{told}");
        assert!(!told["writes"].as_array().unwrap().contains(&folder.into()), "{told}");
    }
    if told["ports"] == true {
        assert_eq!(told["connects"], serde_json::json!([origin.port()]));
    }
    proxy.expect_words("the sandbox leaves");
    let page = Client::plain(proxy.metrics(), "localhost").get("/metrics").text();
    assert!(page.contains("portcullis_sandbox{part=\"calls\"} 1"), "{page}");
}

#[test]
fn off_is_said_and_limits_nothing() {
    let origin = app();
    let proxy = Proxy::to(&origin).server("sandbox = 'off'").start();
    proxy.expect_words("WARN the sandbox is off");
    assert_eq!(status(&proxy)["sandbox"]["calls"], false);
}

/// Serves, or says what this kernel lacks.
#[test]
fn require_is_all_or_nothing() {
    let origin = app();
    let mut proxy = Proxy::launch(Proxy::to(&origin).server("sandbox = 'require'"));
    eventually("an answer", || {
        let words = proxy.words();
        words.contains("listening https") || words.contains("server.sandbox is \"require\"")
    });
    if proxy.words().contains("listening") {
        assert_eq!(status(&proxy)["sandbox"]["missing"], serde_json::json!([]));
    } else {
        assert_eq!(proxy.wait_for_exit().code(), Some(77));
    }
}

/// What a start ends with where system calls get `answer` instead of the kernel's.
fn run_with(answer: &str, folder: &Path) -> Option<Output> {
    let mut strace = tools::find("strace")?;
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={answer}")]);
    strace.args([tools::PORTCULLIS, "run", "-c", "portcullis.toml"]);
    Some(tools::run(strace.current_dir(folder)))
}

/// Kernels that lack something, as far as the program can tell.
#[test]
fn what_a_kernel_lacks_is_said_and_refused_where_it_is_required() {
    let folder = proxy::folder();
    let origin = app();
    Proxy::to(&origin).server("sandbox = 'require'").write(folder.path());
    for (answer, words) in [
        ("landlock_create_ruleset:error=ENOSYS", "this kernel has no Landlock"),
        ("landlock_create_ruleset:error=EPERM", "or a filter of system calls"),
        ("landlock_create_ruleset:error=EOPNOTSUPP", "Landlock is switched off"),
        ("landlock_create_ruleset:retval=3:when=1", "TCP ports are not limited (Linux 6.7 can)"),
        ("seccomp:error=EINVAL", "system calls are not limited"),
        ("landlock_restrict_self:error=EPERM", "the sandbox cannot be closed"),
    ] {
        let Some(output) = run_with(answer, folder.path()) else { return };
        assert!(stderr(&output).contains(words), "{words}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(77), "{words}");
    }
}

/// Too few descriptors or threads are no matter of rights, nor of the sandbox.
#[test]
fn limits_that_are_too_low_are_told_by_their_names() {
    let folder = proxy::folder();
    let origin = app();
    Proxy::to(&origin).write(folder.path());
    for (answer, words) in [
        ("landlock_create_ruleset:error=EMFILE:when=2+", "LimitNOFILE"),
        ("epoll_create1:error=EMFILE", "LimitNOFILE"),
        ("clone,clone3:error=EAGAIN:when=3+", "cannot start the threads that serve"),
    ] {
        let Some(output) = run_with(answer, folder.path()) else { return };
        let told = stderr(&output);
        assert!(told.contains(words) && !told.contains("`sandbox = "), "{words}: {told}");
        assert_eq!(output.status.code(), Some(1), "{told}");
    }
}

/// The kernel's word is not taken for it: what it said to have closed is tried, and read back.
#[test]
fn a_sandbox_that_is_not_closed_is_not_believed() {
    let folder = proxy::folder();
    let origin = app();
    Proxy::to(&origin).write(folder.path());
    for (answer, words) in [
        ("seccomp:retval=0", "no filter of system calls"),
        ("landlock_restrict_self:retval=0", "/ can still be listed"),
    ] {
        let Some(output) = run_with(answer, folder.path()) else { return };
        assert!(stderr(&output).contains(words), "{words}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(77), "{words}");
    }
}

#[test]
fn a_reload_that_needs_more_names_every_key_and_changes_nothing() {
    let origin = app();
    let mut proxy = Proxy::to(&origin).start();
    if status(&proxy)["sandbox"]["files"] != true {
        return tools::skip("this kernel has no Landlock");
    }
    let foreign = proxy::folder();
    write_pair(&foreign.path().join("a.pem"), &pki::issue(&[proxy::HOST]));
    let log = format!("access = '{}/logs/access.log'", foreign.path().display());
    std::fs::create_dir(foreign.path().join("logs")).unwrap();
    proxy::open_to_proxy(&foreign.path().join("logs"), 0o755);
    proxy.rewrite(|setup| setup.log(&log).first_site(|site| site.key(&tls(foreign.path()))));
    for arguments in [&["--dry-run"][..], &[]] {
        let output = proxy.reload(arguments);
        assert_eq!(output.status.code(), Some(1));
        let told = stderr(&output);
        assert!(!told.contains("tls.cert"), "the helper opens it: {told}");
        for words in [
            format!("log.access is in {}/logs, which", foreign.path().display()),
            format!("kill -USR2 {}", proxy.pid()),
        ] {
            assert!(told.contains(&words), "{words:?} in {told}");
        }
    }
    assert_eq!(proxy.client().get("/").text(), "hello");
    let needs = status(&proxy)["needs_a_person"].to_string();
    assert!(needs.contains("log.access"), "{needs}");
    let before = shown(&proxy);
    proxy.rewrite(|setup| setup.log("access = 'off'"));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_ne!(shown(&proxy), before, "certificates from a folder that was not named before");
}

/// What can be judged is judged all the same.
#[test]
fn a_reload_to_a_broken_certificate_within_reach_says_what_is_broken() {
    let origin = app();
    let mut proxy = Proxy::to(&origin).start();
    write_pair(&proxy.path("certs/a.pem"), &pki::issue(&[proxy::HOST]));
    std::fs::write(proxy.path("certs/a.key"), "nothing").unwrap();
    let certs = proxy.path("certs");
    proxy.rewrite(|setup| setup.first_site(|site| site.key(&tls(&certs))));
    let output = proxy.reload(&[]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("is not PEM"), "{}", stderr(&output));
}

/// As certbot keeps them: the file in the configuration is a link into another folder, and a
/// renewal makes a new file there and a new link.
#[test]
fn a_link_that_is_renewed_is_followed() {
    let origin = app();
    let folder = proxy::folder();
    let (live, archive) = (folder.path().join("live/a"), folder.path().join("archive/a"));
    std::fs::create_dir_all(&live).unwrap();
    let renew = |number: &str| {
        write_pair(&archive.join(number).with_extension("pem"), &pki::issue(&[proxy::HOST]));
        for kind in ["pem", "key"] {
            let link = live.join(format!("new.{kind}"));
            symlink(format!("../../archive/a/{number}.{kind}"), &link).unwrap();
            std::fs::rename(link, live.join(format!("a.{kind}"))).unwrap();
        }
    };
    renew("1");
    let proxy = Setup::new().site(Site::named(proxy::HOST).to(&origin).key(&tls(&live))).start();
    let first = shown(&proxy);
    renew("2");
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_ne!(shown(&proxy), first);
}

/// As a cluster mounts a secret: a link to a folder that another takes the place of.
#[test]
fn a_folder_behind_a_link_that_is_swapped_is_followed() {
    let origin = app();
    let folder = proxy::folder();
    let mount = folder.path().join("secret");
    let swap = |version: &str| {
        write_pair(&mount.join(version).join("a.pem"), &pki::issue(&[proxy::HOST]));
        symlink(version, mount.join("..tmp")).unwrap();
        std::fs::rename(mount.join("..tmp"), mount.join("..data")).unwrap();
    };
    swap("..1");
    for file in ["a.pem", "a.key"] {
        symlink(format!("..data/{file}"), mount.join(file)).unwrap();
    }
    let proxy = Setup::new().site(Site::named(proxy::HOST).to(&origin).key(&tls(&mount))).start();
    let first = shown(&proxy);
    swap("..2");
    std::fs::remove_dir_all(mount.join("..1")).unwrap();
    assert!(proxy.reload(&[]).status.success());
    assert_ne!(shown(&proxy), first);
}

/// A right belongs to the folder that was there, not to its name: what was renewed by putting
/// another folder in its place was never served.
#[test]
fn a_folder_in_the_place_of_another_is_followed_by_the_helper() {
    let origin = app();
    let folder = proxy::folder();
    let certs = folder.path().join("certs");
    let replace = |was: &str| {
        write_pair(&folder.path().join("next/a.pem"), &pki::issue(&[proxy::HOST]));
        std::fs::rename(&certs, folder.path().join(was)).unwrap();
        std::fs::rename(folder.path().join("next"), &certs).unwrap();
    };
    write_pair(&certs.join("a.pem"), &pki::issue(&[proxy::HOST]));
    let mut proxy =
        Setup::new().site(Site::named(proxy::HOST).to(&origin).key(&tls(&certs))).start();
    if status(&proxy)["sandbox"]["files"] != true {
        return tools::skip("this kernel has no Landlock");
    }
    for was in ["was-1", "was-2"] {
        let before = shown(&proxy);
        replace(was);
        eventually("the new certificate to be shown", || shown(&proxy) != before);
    }
    assert_eq!(status(&proxy)["needs_a_person"], serde_json::json!([]));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    // What is broken there is told as what it is, and the old one serves.
    let before = shown(&proxy);
    std::fs::write(certs.join("a.key"), "nothing").unwrap();
    eventually("the broken key to be told", || {
        status(&proxy)["needs_a_person"].to_string().contains("a.key holds no PEM private key")
    });
    assert_eq!(shown(&proxy), before);
    proxy.stop();
}

/// Nobody opens it then.
#[test]
fn a_folder_in_the_place_of_another_needs_a_person_without_the_helper() {
    let origin = app();
    let folder = proxy::folder();
    let certs = folder.path().join("certs");
    write_pair(&certs.join("a.pem"), &pki::issue(&[proxy::HOST]));
    let mut proxy =
        Setup::new().site(Site::named(proxy::HOST).to(&origin).key(&tls(&certs))).start();
    if status(&proxy)["sandbox"]["files"] != true {
        return tools::skip("this kernel has no Landlock");
    }
    let children = format!("/proc/{0}/task/{0}/children", proxy.pid());
    let helper = std::fs::read_to_string(children).unwrap();
    let helper = Pid::from_raw(helper.trim().parse().unwrap()).unwrap();
    kill_process(helper, Signal::KILL).unwrap();
    proxy.expect_words("the helper process has died");
    std::fs::rename(&certs, folder.path().join("old")).unwrap();
    write_pair(&certs.join("a.pem"), &pki::issue(&[proxy::HOST]));
    proxy.expect_words("a sandbox keeps this process from it, which a restart mends");
    let needs = status(&proxy)["needs_a_person"].to_string();
    assert!(needs.contains("site app.test: tls.cert is in"), "{needs}");
    assert_eq!(proxy.client().get("/").text(), "hello");
    proxy.stop();
}

#[test]
fn the_control_socket_is_removed_and_the_log_written_to_its_end() {
    let origin = app();
    let mut proxy = Proxy::to(&origin).start();
    assert_eq!(proxy.client().get("/last").text(), "hello");
    proxy.stop();
    assert!(!proxy.path("control.sock").exists());
    assert!(proxy.access_log().iter().any(|line| line.contains("/last")));
}

/// A log in a folder that is not opened to the process goes on, and the start says what it costs.
#[test]
fn a_log_in_a_broad_folder_is_opened_alone() {
    let origin = app();
    let name = format!("portcullis-{}-access.log", std::process::id());
    let path = std::env::temp_dir().join(name);
    let log = format!("access = '{}'", path.display());
    let proxy = Proxy::to(&origin).log(&log).start();
    assert_eq!(proxy.client().get("/").text(), "hello");
    proxy.expect_words("log.access is in");
    eventually("the line", || std::fs::read_to_string(&path).unwrap().contains("GET / "));
    drop(proxy);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_application_is_found_by_its_name() {
    let origin = app();
    let target = format!("localhost:{}", origin.port());
    let proxy = Proxy::to(&target).start();
    assert_eq!(proxy.client().get("/").text(), "hello");
    assert_eq!(status(&proxy)["sandbox"]["names"], true);
}

/// By name servers too, of which nothing but the address is known.
#[test]
fn an_application_is_found_by_a_name_server() {
    let script = "serve 8080
        printf 'nameserver 127.0.0.1\\n' >resolv; mount --bind resolv /etc/resolv.conf
        cat >dns.py <<'END'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 53))
while True:
    q, a = s.recvfrom(512)
    end = q.index(0, 12) + 5
    v4 = q[end - 4:end - 2] == b'\\0\\1'
    r = q[:2] + b'\\x81\\x80\\0\\1\\0' + (b'\\1' if v4 else b'\\0') + b'\\0\\0\\0\\0' + q[12:end]
    s.sendto(r + (b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\x7f\\0\\0\\1' if v4 else b''), a)
END
        python3 dns.py & 
        cat >p.toml <<'END'
[server]
http = '127.0.0.1:80'
https = []
user = 'nobody'
[log]
access = 'off'
[[site]]
host = 'app.test'
to = 'app.example:8080'
redirect = 'off'
END
        portcullis run -c p.toml >out 2>&1 & proxy=$!
        until_ok curl -sfo /dev/null -H 'Host: app.test' http://127.0.0.1/
        curl -so /dev/null -w 'answer %{http_code}\\n' -H 'Host: app.test' http://127.0.0.1/
        cat out; kill $proxy; wait $proxy";
    let Some(told) = tools::alone(script) else { return };
    assert!(told.contains("answer 200"), "{told}");
    assert!(told.contains("the sandbox leaves"), "{told}");
}

#[test]
fn check_says_nothing_of_it() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&["check", "-c", file.to_str().unwrap()]);
    assert!(output.status.success() && !stdout(&output).contains("sandbox"));
}
