//! Every way in which an authority fails.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use super::verbs::{certs, file, told};
use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{eventually, tools};

/// What `status` says, and that a person is needed.
#[track_caller]
fn expect_call(proxy: &Proxy, words: &str) {
    let file = proxy.path("portcullis.toml");
    eventually("a call for a person", || {
        let status = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
        let told = tools::stdout(&status);
        let is_told = told.contains("needs a person: site shop.test") && told.contains(words);
        is_told && status.status.code() == Some(1)
    });
}

#[test]
fn an_authority_that_nobody_vouches_for_is_not_believed() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let folder = storage();
    let roots = folder.path().join("other.pem");
    std::fs::write(&roots, other.cert.pem()).unwrap();
    let setup = pebble.setup(site(&origin)).acme(&format!("ca = '{}'", roots.display()));
    let proxy = setup.start();
    proxy.expect_words("is not trusted");
    proxy.expect_words("name the PEM file of its roots as `ca`");
    expect_call(&proxy, "is not trusted");
    assert_eq!(pebble.accounts(), 0);
}

#[test]
fn an_authority_that_is_down_is_asked_again_when_it_is_up() {
    let Some(mut pebble) = Pebbles::new().closed().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    proxy.expect_words("cannot connect to localhost:");
    expect_call(&proxy, "cannot connect to localhost:");
    pebble.open();
    expect_issued(&proxy, &pebble);
}

#[test]
fn an_authority_that_says_nothing_holds_nobody_up() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    origin.route("/", "ok");
    // It takes connections, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = pebble.directory_at(silent.local_addr().unwrap());
    let proxy = pebble.setup_at(&directory, site(&origin)).start();
    let root = std::fs::read_to_string(proxy.path("storage/local/root.pem")).unwrap();
    assert_eq!(trusting(&proxy, &root).get("/").text(), "ok");
    proxy.expect_words("did not answer within 10s");
}

#[test]
fn a_name_that_leads_elsewhere_is_told_as_such() {
    let Some(pebble) = Pebbles::new().start() else { return };
    pebble.names_lead_to("127.0.0.9");
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    proxy.expect_words("is the name's address this host's");
    expect_call(&proxy, "shop.test could not be proved by http-01: ");
    assert_eq!(pebble.issued(), 0);
}

/// A person is called when a quarter of the life is left, with the last error; what there is goes on
/// serving, and nobody has to do anything when the authority is back.
#[test]
fn an_authority_that_goes_away_is_loud_in_time_and_forgiven() {
    let Some(mut pebble) = Pebbles::new().life(20).start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let issuer = pebble.issuer();
    pebble.close();
    proxy.expect_words("the old one serves until");
    trusting(&proxy, &issuer).connect();
    expect_call(&proxy, "cannot connect to localhost:");
    pebble.open();
    expect_issued(&proxy, &pebble);
    let file = proxy.path("portcullis.toml");
    eventually("nobody to be called", || {
        let status = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
        status.status.success()
    });
}

/// What an authority counts is not tried again by a restart.
#[test]
fn a_failure_is_remembered_over_restarts() {
    // It looks at ports where nobody is.
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, storage) = (app(), storage());
    let setup = pebble
        .setup(site(&origin))
        .server("http = '127.0.0.1:0'")
        .server("https = '127.0.0.1:0'")
        .acme(&kept_in(storage.path()));
    let proxy = setup.clone().start();
    proxy.expect_words("no certificate for shop.test");
    expect_call(&proxy, "; by tls-alpn-01: ");
    drop(proxy);
    let orders = pebble.orders();
    assert_eq!(orders, 2, "one for each way to prove it");
    let proxy = setup.start();
    expect_call(&proxy, "; by tls-alpn-01: ");
    assert_eq!(pebble.orders(), orders, "{}", proxy.words());
}

#[test]
fn refused_nonces_are_no_failure() {
    let Some(pebble) = Pebbles::new().with("PEBBLE_WFE_NONCEREJECT", "50").start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin).and("www.shop.test")).start();
    expect_issued(&proxy, &pebble);
    assert_eq!(pebble.accounts(), 1);
}

#[test]
fn the_next_authority_is_asked_when_one_fails() {
    let Some(first) = Pebbles::new().closed().start() else { return };
    let Some(second) = Pebbles::new().start_beside(Some(&first)) else { return };
    let origin = app();
    let one = |pebble: &Pebble| {
        let (directory, roots) = (pebble.directory(), pebble.roots());
        format!("{{ directory = '{directory}', ca = '{}' }}", roots.display())
    };
    let list = format!("authority = [{}, {}]", one(&first), one(&second));
    let setup = first.setup(site(&origin)).without_acme().acme(&list);
    let proxy = setup.start();
    expect_issued(&proxy, &second);
    assert!(proxy.words().contains("cannot connect to localhost:"), "{}", proxy.words());
}

#[test]
fn a_name_that_never_succeeded_is_tried_at_the_staging_directory_first() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let Some(staging) = Pebbles::new().start_beside(Some(&pebble)) else { return };
    let (origin, storage) = (app(), storage());
    let list = format!(
        "authority = [{{ directory = '{}', staging_directory = '{}', ca = '{}' }}]",
        pebble.directory(),
        staging.directory(),
        pebble.roots().display()
    );
    let setup = pebble
        .setup(site(&origin))
        .without_acme()
        .acme(&list)
        .acme("staging = 'first'")
        .acme(&kept_in(storage.path()));
    let proxy = setup.clone().start();
    expect_issued(&proxy, &pebble);
    assert_eq!((staging.issued(), pebble.issued()), (1, 1));
    drop(proxy);
    // What has succeeded once is not tried again.
    std::fs::remove_file(storage.path().join("acme/shop.test.pem")).unwrap();
    let proxy = setup.start();
    expect_issued(&proxy, &pebble);
    assert_eq!((staging.issued(), pebble.issued()), (1, 2));
}

#[test]
fn what_fails_at_the_staging_directory_is_not_asked_of_the_other() {
    let Some(pebble) = Pebbles::new().start() else { return };
    // It looks at other ports.
    let Some(staging) = Pebbles::new().start() else { return };
    let origin = app();
    let list = format!(
        "authority = [{{ directory = '{}', staging_directory = '{}', ca = '{}' }}]",
        pebble.directory(),
        staging.directory(),
        pebble.roots().display()
    );
    let setup = pebble.setup(site(&origin)).without_acme().acme(&list).acme("staging = 'first'");
    let proxy = setup.start();
    proxy.expect_words("no certificate for shop.test");
    expect_call(&proxy, "could not be proved by");
    assert_eq!((pebble.accounts(), pebble.orders()), (0, 0));
    let words = proxy.words();
    assert!(words.contains("by http-01") && words.contains("by tls-alpn-01"), "{words}");
}

/// The last challenge is not the only one that failed, and nobody is to look for the others in a
/// log; a name that no public authority signs is looked at from here all the same.
#[test]
fn each_challenge_is_told_with_its_reason_and_what_is_seen_from_here() {
    // It looks at ports where nobody is.
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let setup = pebble.setup(site(&origin)).server("http = '127.0.0.1:0'");
    let proxy = setup.server("https = '127.0.0.1:0'").start();
    expect_call(&proxy, "shop.test could not be proved by http-01: ");
    expect_call(&proxy, "; by tls-alpn-01: ");
    expect_call(&proxy, "; seen from here: ");
    let output = certs(&file(&proxy), &["list", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failure = &json["certificates"][0]["acme"]["last_failure"];
    for (place, challenge) in ["http-01", "tls-alpn-01"].into_iter().enumerate() {
        let way = &failure["challenges"][place];
        assert_eq!(way["challenge"], challenge, "{failure}");
        assert!(way["error"].as_str().unwrap().contains(challenge), "{failure}");
    }
    let text = tools::stdout(&certs(&file(&proxy), &["list"]));
    assert!(text.contains("by http-01: ") && text.contains("; by tls-alpn-01: "), "{text}");
}

/// A person has asked, and is told when somebody will ask again: nobody, before it is due.
#[test]
fn a_forced_renewal_that_failed_promises_no_try_that_does_not_come() {
    let Some(mut pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    eventually("to be in order", || certs(&file, &["list"]).status.code() == Some(0));
    pebble.close();
    told(&file, &["renew", NAME, "--force"], 0);
    proxy.expect_words("it is not due before ");
    let words = proxy.words();
    let line = words.lines().find(|line| line.contains("it is not due before ")).unwrap();
    assert!(line.contains("cannot connect to localhost:"), "{line}");
    assert!(line.contains("`portcullis certs renew` asks again"), "{line}");
    assert!(!words.contains("the next try is in"), "{words}");
    let text = told(&file, &["list"], 0);
    assert!(text.contains("failed once") && text.contains("it is not due yet"), "{text}");
    pebble.open();
    told(&file, &["renew", NAME], 0);
    expect_issued(&proxy, &pebble);
    eventually("no failure any more", || !told(&file, &["list"], 0).contains("failed once"));
}

/// A folder that nothing can be written to, as a full disk is one.
pub(super) fn close(folder: &Path, is_closed: bool) {
    let mode = if is_closed { 0o500 } else { 0o700 };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_storage_that_takes_nothing_is_told_where_people_look() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let acme = folder.path().join("acme");
    std::fs::create_dir(&acme).unwrap();
    crate::harness::proxy::open_to_proxy(&acme, 0o500);
    let proxy = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    expect_call(&proxy, "the storage does not work");
    let words = format!("{}/", acme.display());
    expect_call(&proxy, &words);
    let file = file(&proxy);
    let text = told(&file, &["list"], 1);
    assert!(text.contains("the storage did not work on ") && text.contains(&words), "{text}");
    assert!(text.contains("next try ") && !text.contains("asking now"), "{text}");
    assert_eq!(pebble.orders(), 0);
    close(&acme, false);
    told(&file, &["renew", NAME], 0);
    expect_issued(&proxy, &pebble);
    eventually("to be in order", || certs(&file, &["list"]).status.code() == Some(0));
}

#[test]
fn a_renewal_that_cannot_be_kept_is_told_where_people_look() {
    let Some(pebble) = Pebbles::new().life(60).start() else { return };
    let (origin, folder) = (app(), storage());
    let proxy = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    expect_issued(&proxy, &pebble);
    let acme = folder.path().join("acme");
    close(&acme, true);
    expect_call(&proxy, "the storage does not work");
    let file = file(&proxy);
    let output = certs(&file, &["list", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = &json["certificates"][0]["acme"];
    let error = told["last_error"].as_str().unwrap();
    assert!(
        error.contains(acme.to_str().unwrap()) && error.contains("Permission denied"),
        "{told}"
    );
    let next: jiff::Timestamp = told["next"].as_str().unwrap().parse().unwrap();
    let wait = next.as_second() - jiff::Timestamp::now().as_second();
    assert!((0..=31).contains(&wait), "the true next try: {told}");
    close(&acme, false);
    let issued = pebble.issued();
    self::told(&file, &["renew", NAME], 0);
    eventually_within(TURNS, "a renewal", || {
        pebble.issued() > issued && certs(&file, &["list"]).status.code() == Some(0)
    });
}
