//! `portcullis certs` and the server that runs: who tells, who is asked, and for how long.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::proxy::{folder, unprivileged};
use crate::harness::setup::write_pair;
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Origin, Proxy, Setup, Site, eventually, pki};

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

fn verb(proxy: &Proxy, arguments: &[&str]) -> Output {
    let file = proxy.path("portcullis.toml");
    let mut all = arguments.to_vec();
    all.extend(["-c", file.to_str().unwrap()]);
    tools::portcullis(&all)
}

/// What a verb says, and its exit code.
fn said(proxy: &Proxy, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = verb(proxy, arguments);
    (output.status.code(), stdout(&output), stderr(&output))
}

/// One that nobody has set in the shell, or one certificate file that is gone, hid all certificates
/// of the server that runs.
#[test]
fn verbs_about_certificates_ask_the_server_past_a_broken_file() {
    let origin = app();
    let mut proxy = Setup::new()
        .site(Site::named("a.test").to(&origin))
        .site(Site::named("b.test").to(&origin))
        .site(Site::named("c.test").to(&origin).key("tls = 'local'"))
        .start();
    let file = proxy.path("portcullis.toml");
    let right = std::fs::read_to_string(&file).unwrap();
    for (wrong, why) in [
        (format!("{right}\n[acme.dns]\nexec = ['/bin/true', '${{NOBODY_SET}}']\n"), "NOBODY_SET"),
        (right.replace("certs/a.test.pem", "certs/gone.pem"), "gone.pem"),
        (right.replace("grace = '3s'", "graze = '3s'"), "graze"),
        (right.replace("['b.test']", "['b..test']"), "b..test"),
    ] {
        assert_ne!(wrong, right, "{why}");
        proxy.rewrite_raw(&wrong);
        let (code, list, complaints) = said(&proxy, &["certs", "list"]);
        assert_eq!(code, Some(0), "{why}: {list}{complaints}");
        assert!(["a.test", "b.test", "c.test"].iter().all(|name| list.contains(name)), "{list}");
        assert_eq!(complaints.lines().count(), 1, "{complaints}");
        assert!(complaints.contains("warning") && complaints.contains(why), "{complaints}");
        for name in ["a.test", "b.test", "c.test"] {
            let (code, show, words) = said(&proxy, &["certs", "show", name]);
            assert!(code == Some(0) && show.contains("SHA-256"), "{show}{words}");
            let (code, chain, words) = said(&proxy, &["certs", "export", name]);
            assert!(code == Some(0) && chain.starts_with("-----BEGIN CERT"), "{chain}{words}");
        }
        let (code, _, words) = said(&proxy, &["certs", "revoke", "a.test", "--yes"]);
        assert!(code == Some(1) && words.contains("who asked for it revokes it"), "{words}");
    }
    // Without the server what is right is told, and that the file is wrong.
    let wrong = right.replace("certs/a.test.pem", "certs/gone.pem");
    proxy.rewrite_raw(&wrong);
    proxy.stop();
    let (code, list, words) = said(&proxy, &["certs", "list"]);
    assert!(code == Some(78) && words.contains("gone.pem"), "{words}");
    assert!(list.contains("c.test") && list.contains("days left"), "{list}");
    for (name, ends) in [("a.test", 1), ("b.test", 0), ("c.test", 0)] {
        let (code, show, words) = said(&proxy, &["certs", "show", name]);
        assert_eq!(code, Some(ends), "{show}{words}");
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// `status` and `certs list` each had a mind of their own.
#[test]
fn list_and_status_agree_on_what_needs_a_person() {
    let now = SystemTime::now();
    for (from, until, words) in [
        (now - DAY, now + 60 * DAY, None),
        (now - DAY, now + 5 * DAY, Some("the certificate of site app.test ends in")),
        (now + 2 * DAY, now + 60 * DAY, Some("site app.test: the certificate is not valid before")),
        (now - 9 * DAY, now - DAY, Some("site app.test: the certificate expired on")),
    ] {
        let origin = app();
        let setup = Setup::new().site(Site::named("app.test").to(&origin));
        let mut proxy = Proxy::launch_after(setup, |folder| {
            let pair = pki::issue_between(&["app.test"], (from, until));
            write_pair(&folder.join("certs/app.test.pem"), &pair);
        });
        proxy.expect_listening();
        let needs = |arguments: &[&str]| -> (Option<i32>, Value) {
            let (code, told, complaints) = said(&proxy, arguments);
            let told: Value = serde_json::from_str(&told).expect(&complaints);
            (code, told["needs_a_person"].clone())
        };
        eventually("the server to answer", || verb(&proxy, &["status"]).stderr.is_empty());
        let (status, listed) = (needs(&["status", "--json"]), needs(&["certs", "list", "--json"]));
        assert_eq!(status, listed);
        let text = said(&proxy, &["certs", "list"]).1;
        match words {
            None => assert_eq!(listed, (Some(0), json!([])), "{text}"),
            Some(words) => {
                assert_eq!(listed.0, Some(1), "{text}");
                assert!(listed.1[0].as_str().unwrap().starts_with(words), "{:?}", listed.1);
                assert!(text.contains(words), "{text}");
            }
        }
        proxy.stop();
        let (code, told, _) = said(&proxy, &["certs", "list", "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["told_by"], "storage");
        assert_eq!(
            (code, &told["needs_a_person"]),
            (listed.0, &listed.1),
            "the storage says so too"
        );
    }
}

/// A certificate that nobody can trust was told to come from the local authority, with its renewal;
/// one of the local authority that cannot be kept, to be one that nobody can trust; and `check` had
/// nothing to say of either.
#[test]
fn what_is_shown_for_want_of_the_local_authority_is_told_as_what_it_is() {
    let is_leaf = |path: &PathBuf| path.to_string_lossy().contains("/app.localhost-");
    let into_folder = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    };
    let damages: [Damage<'_>; 3] = [
        ("makeshift", &|local| into_folder(&local.join("root.key"))),
        ("makeshift", &|local| {
            std::fs::remove_dir_all(local).unwrap();
            std::fs::write(local, "").unwrap();
        }),
        ("local authority, kept nowhere", &|local| {
            let files = std::fs::read_dir(local).unwrap().map(|entry| entry.unwrap().path());
            files.filter(is_leaf).for_each(|path| into_folder(&path));
        }),
    ];
    for (source, damage) in damages {
        let (origin, home) = (app(), folder());
        let storage = home.path().join("storage");
        let start = || {
            let storage = format!("storage = '{}'", storage.display());
            let site = Site::named("app.localhost").to(&origin).key("tls = 'local'");
            Setup::new().acme(&storage).site(site).start()
        };
        drop(start());
        damage(&storage.join("local"));
        let proxy = start();
        let is_makeshift = source == "makeshift";
        let words = if is_makeshift { "nobody can trust" } else { "move away what lies" };
        for arguments in [&["check"][..], &["status"], &["certs", "list"]] {
            let (code, told, complaints) = said(&proxy, arguments);
            assert_eq!(code, Some(i32::from(arguments != ["check"])), "{told}{complaints}");
            let told = told + &complaints;
            assert!(told.contains(words), "{arguments:?}: {told}");
            assert_eq!(told.contains("nobody can trust"), is_makeshift, "{arguments:?}: {told}");
            assert!(!is_makeshift || !told.contains("days left"), "{arguments:?}: {told}");
        }
        let json = |arguments: &[&str]| -> Value {
            serde_json::from_str(&said(&proxy, arguments).1).unwrap()
        };
        let (listed, status) = (json(&["certs", "list", "--json"]), json(&["status", "--json"]));
        assert_eq!(listed["needs_a_person"], status["needs_a_person"]);
        let row = &listed["certificates"][0];
        assert_eq!((&row["source"], &row["renewal"]), (&json!(source), &Value::Null), "{row}");
        assert_eq!(row["state"], if is_makeshift { "makeshift" } else { "present" });
        assert_eq!(status["certificates"][0]["source"], source);
        let (code, shown, words) = said(&proxy, &["certs", "show", "app.localhost"]);
        assert!(code == Some(0) && !shown.contains("key in"), "{shown}{words}");
    }
}

/// What is shown as the source of a certificate after something was done to the folder `local`.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

/// Verbs waited without an end, and what they had asked for was done after they had been killed.
#[test]
fn a_server_that_hangs_is_told_of_and_does_nothing_behind_ones_back() {
    let origin = app();
    let proxy = Setup::new().site(Site::named("app.test").to(&origin).key("hsts = '1h'")).start();
    proxy.signal(Signal::STOP);
    let all: [&[&str]; 8] = [
        &["status"],
        &["reload"],
        &["certs", "list"],
        &["certs", "show", "app.test"],
        &["certs", "renew"],
        &["certs", "revoke", "app.test", "--yes"],
        &["certs", "hsts", "list"],
        &["certs", "hsts", "reset", "app.test"],
    ];
    let told = std::thread::scope(|scope| {
        let proxy = &proxy;
        let started: Vec<_> =
            all.iter().map(|verb| (verb, scope.spawn(|| said(proxy, verb)))).collect();
        started.into_iter().map(|(verb, run)| (verb, run.join().unwrap())).collect::<Vec<_>>()
    });
    proxy.signal(Signal::CONT);
    for (verb, (code, output, complaints)) in told {
        let silent = format!("the server (process {}) does not answer within", proxy.pid());
        assert!(complaints.contains(&silent), "{verb:?}: {complaints}");
        assert!(complaints.contains("waiting for the server"), "{verb:?}: {complaints}");
        let is_shown = verb.contains(&"show");
        assert_eq!(code, Some(i32::from(!is_shown)), "{verb:?}: {output}{complaints}");
        if is_shown || verb.contains(&"list") {
            assert!(complaints.contains("what lies in the files and the storage"), "{complaints}");
            assert!(output.contains("app.test"), "{output}");
        }
    }
    for question in ["Reload", "Renew", "Revoke", "Hsts {"] {
        proxy.expect_words(&format!("nobody waits any more for the answer to {question}"));
    }
    let sent = proxy.client_for("app.test").get("/").header("strict-transport-security");
    assert_eq!(sent.as_deref(), Some("max-age=3600"));
    assert!(!proxy.words().contains("reloaded"), "{}", proxy.words());
}

/// What could not be read was told as if it were not there.
#[test]
fn who_may_not_ask_nor_read_is_told_so() {
    if !rustix::process::geteuid().is_root() {
        tools::skip("only root may be somebody else");
        return;
    }
    let origin = app();
    let proxy = Setup::new()
        .acme("directory = 'https://127.0.0.1:1/directory'")
        .site(Site::named("acme.test").to(&origin).key("tls = 'auto'"))
        .site(Site::named("local.test").to(&origin).key("tls = 'local'").key("hsts = '1h'"))
        .start();
    let home = folder();
    let as_stranger = |arguments: &[&str]| -> (Option<i32>, String) {
        let file = proxy.path("portcullis.toml");
        let output = run(unprivileged(home.path()).args(arguments).arg("-c").arg(&file));
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    for arguments in [
        &["certs", "list"][..],
        &["certs", "show", "acme.test"],
        &["certs", "show", "local.test"],
        &["certs", "export", "local.test"],
        &["certs", "renew"],
        &["certs", "revoke", "acme.test", "--yes"],
        &["certs", "hsts", "list"],
        &["certs", "hsts", "reset", "local.test"],
        &["status"],
        &["reload"],
    ] {
        let (code, told) = as_stranger(arguments);
        assert_eq!(code, Some(77), "{arguments:?}: {told}");
        assert!(told.contains("is not yours to use"), "{arguments:?}: {told}");
        assert!(!told.contains("not had yet") && !told.contains("there is no"), "{told}");
        if ["list", "show", "export"].iter().any(|verb| arguments.contains(verb)) {
            assert!(told.contains("Permission denied"), "{arguments:?}: {told}");
        }
        assert!(!arguments.contains(&"hsts") || !told.contains(": nothing"), "{told}");
    }
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}
