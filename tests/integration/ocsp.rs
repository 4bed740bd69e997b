//! OCSP stapling, with OpenSSL as the responder and as the client.

use std::path::Path;

use crate::harness::responder::Responder;
use crate::harness::setup::{Site, write_pair};
use crate::harness::tools::{self, stdout};
use crate::harness::{Origin, Proxy, Setup, eventually, pki};

const HOST: &str = "app.test";

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

/// What OpenSSL says of the response that comes with a handshake.
fn stapled(proxy: &Proxy) -> String {
    let place = proxy.https().to_string();
    let mut openssl = tools::find("openssl").expect("the responder is one, too");
    openssl.args(["s_client", "-connect", &place, "-servername", HOST, "-status"]);
    stdout(&tools::run(&mut openssl))
}

const NONE: &str = "OCSP response: no response sent";

/// A site whose certificate names the responder, with its storage in `storage`.
fn launch(origin: &Origin, pair: &pki::Pair, storage: &Path, server: &str) -> Proxy {
    let setup = Setup::new()
        .server(server)
        .acme(&format!("storage = '{}'", storage.display()))
        .site(Site::named(HOST).to(origin));
    let proxy = Proxy::launch_after(setup, |folder| {
        write_pair(&folder.join("certs/app.test.pem"), pair);
    });
    proxy.expect_listening();
    proxy
}

#[test]
fn what_the_authority_says_is_stapled_and_kept_for_the_next_start() {
    let (origin, storage) = (app(), crate::harness::proxy::folder());
    let port = tools::own_port();
    let pair = pki::issue_asking(&[HOST], port);
    let Some(responder) = Responder::start(port, &[(&pair, true)]) else { return };
    let proxy = launch(&origin, &pair, storage.path(), "ocsp = true");
    eventually("a response to be stapled", || stapled(&proxy).contains("Cert Status: good"));
    assert!(stapled(&proxy).contains("OCSP Response Status: successful"));
    proxy.expect_words("an OCSP response is shown until");
    assert_eq!(proxy.client().get("/").text(), "ok");
    drop((proxy, responder));
    let again = launch(&origin, &pair, storage.path(), "ocsp = true");
    assert!(stapled(&again).contains("Cert Status: good"), "from the storage");
    assert!(!again.words().contains("no OCSP response"), "it is good for half its life");
}

/// Root's own empty folder was left to root, and the answer was in memory alone.
#[test]
fn a_storage_that_nothing_else_needs_is_handed_over_for_what_is_stapled() {
    let (origin, home) = (app(), crate::harness::proxy::folder());
    let storage = home.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let port = tools::own_port();
    let pair = pki::issue_asking(&[HOST], port);
    let Some(_responder) = Responder::start(port, &[(&pair, true)]) else { return };
    let proxy = launch(&origin, &pair, &storage, "ocsp = true");
    eventually("a response to be stapled", || stapled(&proxy).contains("Cert Status: good"));
    assert_eq!(std::fs::read_dir(storage.join("ocsp")).unwrap().count(), 2, "it, and the lock");
    assert!(!proxy.words().contains("kept in memory alone"), "{}", proxy.words());
}

/// What a command of the program says of the server's configuration, and how it ends.
fn told_by(command: &[&str], proxy: &Proxy) -> (Option<i32>, String) {
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&[command, &["-c", file.to_str().unwrap()]].concat());
    (output.status.code(), stdout(&output) + &tools::stderr(&output))
}

/// The log had one line of it, and nothing else did.
#[test]
fn a_revoked_certificate_calls_for_a_person_until_it_is_good_again() {
    let (origin, storage) = (app(), crate::harness::proxy::folder());
    let port = tools::own_port();
    let pair = pki::issue_asking(&[HOST], port);
    let Some(responder) = Responder::start(port, &[(&pair, false)]) else { return };
    let proxy = launch(&origin, &pair, storage.path(), "ocsp = true");
    proxy.expect_words("the certificate was REVOKED on 2026-01-01");
    for command in [&["status"][..], &["certs", "list"]] {
        let (code, words) = told_by(command, &proxy);
        assert_eq!(code, Some(1), "{command:?}: {words}");
        assert!(words.contains("the certificate was REVOKED on 2026-01-01"), "{words}");
    }
    assert!(told_by(&["check"], &proxy).1.contains("REVOKED"));
    drop((proxy, responder));

    let Some(_responder) = Responder::start(port, &[(&pair, true)]) else { return };
    let proxy = launch(&origin, &pair, storage.path(), "ocsp = true");
    proxy.expect_words("an OCSP response is shown until");
    for command in [&["status"][..], &["certs", "list"]] {
        let (code, words) = told_by(command, &proxy);
        assert_eq!(code, Some(0), "{command:?}: {words}");
    }
}

#[test]
fn a_revoked_certificate_and_a_silent_responder_are_told_and_serve() {
    let (origin, storage) = (app(), crate::harness::proxy::folder());
    let port = tools::own_port();
    let pair = pki::issue_asking(&[HOST], port);
    let silent = launch(&origin, &pair, storage.path(), "ocsp = true");
    silent.expect_words(&format!("no OCSP response for app.test from 127.0.0.1:{port}: "));
    assert_eq!(silent.client().get("/").text(), "ok");
    assert!(stapled(&silent).contains(NONE));
    drop(silent);
    let Some(_responder) = Responder::start(port, &[(&pair, false)]) else { return };
    let proxy = launch(&origin, &pair, storage.path(), "ocsp = true");
    proxy.expect_words("the certificate was REVOKED on 2026-01-01");
    assert_eq!(proxy.client().get("/").text(), "ok");
    assert!(stapled(&proxy).contains(NONE));
}

/// Its port is none that the sandbox leaves open, either.
#[test]
fn nobody_is_asked_where_it_is_off() {
    let (origin, storage) = (app(), crate::harness::proxy::folder());
    let port = tools::own_port();
    let pair = pki::issue_asking(&[HOST], port);
    let connects = |proxy: &Proxy| {
        let file = proxy.path("portcullis.toml");
        let status = tools::portcullis(&["status", "--json", "-c", file.to_str().unwrap()]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["sandbox"]["connects"].as_array().unwrap().contains(&port.into())
    };
    let off = launch(&origin, &pair, storage.path(), "ocsp = false");
    assert!(!connects(&off));
    let on = launch(&origin, &pair, storage.path(), "ocsp = true");
    assert!(connects(&on));
    assert!(!off.words().contains("OCSP"), "{}", off.words());
}

#[test]
fn check_tells_of_a_certificate_that_insists_where_there_is_no_response() {
    let origin = app();
    let setup = Setup::new().site(Site::named(HOST).to(&origin));
    let folder = crate::harness::proxy::folder();
    setup.write(folder.path());
    let pair = pki::issue_insisting(&[HOST], tools::own_port());
    write_pair(&folder.path().join("certs/app.test.pem"), &pair);
    let file = folder.path().join("portcullis.toml");
    let output = tools::portcullis(&["check", "-c", file.to_str().unwrap()]);
    let told = stdout(&output) + &tools::stderr(&output);
    assert!(told.contains("must-staple") && told.contains("none is kept yet"), "{told}");
}
