//! Names that are proved by a record in the DNS of a name server of another make.

use super::*;
use crate::harness::Setup;
use crate::harness::knot::{KEY, Knot};
use crate::harness::pebble::Pebbles;

const RECORD: &str = "_acme-challenge.shop.test";

/// A name server and an authority that believes it.
fn both() -> Option<(Knot, Pebble)> {
    let knot = Knot::start(NAME)?;
    let pebble = Pebbles::new().resolver(knot.place()).start()?;
    Some((knot, pebble))
}

fn by_dns(pebble: &Pebble, knot: &Knot, secret: &str, site: Site) -> Setup {
    pebble.setup(site).acme("challenges = 'dns-01'").acme(&knot.dns(secret))
}

/// Both names have their record at the same place.
#[test]
fn a_wildcard_is_proved_by_the_dns_and_nothing_is_left_there() {
    let Some((knot, pebble)) = both() else { return };
    let origin = app();
    origin.route("/", "ok");
    let site = Site::named(NAME).and("*.shop.test").to(&origin);
    let proxy = by_dns(&pebble, &knot, KEY.1, site).start();
    let root = pebble.issuer();
    for name in [NAME, "www.shop.test"] {
        let client = Client::plain(proxy.https(), name).trusting(root.clone(), name);
        eventually_within(LONG_PATIENCE, "a certificate of the authority", || {
            client.try_connect().is_ok()
        });
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(knot.ask(RECORD, "TXT"), "");
    assert!(knot.words().contains("DDNS"), "it was there: {}", knot.words());
}

/// Without a choice: the wildcard takes the DNS, a name that can be proved here is.
#[test]
fn a_wildcard_takes_the_dns_by_itself() {
    let Some((knot, pebble)) = both() else { return };
    let origin = app();
    let site = Site::named("*.shop.test").to(&origin);
    let proxy = pebble.setup(site).acme(&knot.dns(KEY.1)).start();
    let client = Client::plain(proxy.https(), "a.shop.test");
    let client = client.trusting(pebble.issuer(), "a.shop.test");
    eventually_within(LONG_PATIENCE, "a certificate of the authority", || {
        client.try_connect().is_ok()
    });
    assert!(!proxy.words().contains("could not be proved"), "{}", proxy.words());
}

#[test]
fn a_wrong_secret_is_told_in_words() {
    let Some((knot, pebble)) = both() else { return };
    let origin = app();
    let wrong = KEY.1.replace("MDEy", "MDEz");
    let proxy = by_dns(&pebble, &knot, &wrong, site(&origin)).start();
    proxy.expect_words("has another secret or algorithm for the key `acme-key`");
    expect_call(&proxy, "has another secret or algorithm for the key `acme-key`");
    assert!(!proxy.words().contains(&wrong));
    assert_eq!(knot.ask(RECORD, "TXT"), "");
}

#[test]
fn a_name_server_that_is_down_is_told_in_words() {
    let Some((mut knot, pebble)) = both() else { return };
    knot.close();
    let origin = app();
    let proxy = by_dns(&pebble, &knot, KEY.1, site(&origin)).start();
    expect_call(&proxy, &format!("the name server {} is not reached", knot.place()));
}

#[test]
fn a_zone_that_the_server_does_not_have_is_told_in_words() {
    let Some((knot, pebble)) = both() else { return };
    let origin = app();
    let proxy = by_dns(&pebble, &knot, KEY.1, Site::named("other.test").to(&origin)).start();
    proxy.expect_words("other.test could not be proved by dns-01: the name server");
}

/// The authority looks elsewhere, and finds nothing.
#[test]
fn a_record_goes_after_a_failure_too() {
    let Some(knot) = Knot::start(NAME) else { return };
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = by_dns(&pebble, &knot, KEY.1, site(&origin)).start();
    proxy.expect_words("shop.test could not be proved by dns-01");
    assert_eq!(knot.ask(RECORD, "TXT"), "");
    assert!(knot.words().contains("DDNS"), "it was there: {}", knot.words());
}
