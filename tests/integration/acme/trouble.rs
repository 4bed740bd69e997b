//! Every way in which an authority fails.

use std::net::TcpListener;

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
    expect_call(&proxy, "shop.test could not be proved by tls-alpn-01");
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
    expect_call(&proxy, "could not be proved by tls-alpn-01");
    drop(proxy);
    let orders = pebble.orders();
    assert_eq!(orders, 2, "one for each way to prove it");
    let proxy = setup.start();
    expect_call(&proxy, "could not be proved by tls-alpn-01");
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
