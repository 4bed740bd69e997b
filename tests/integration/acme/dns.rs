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

#[test]
fn longer_signatures_are_understood() {
    for algorithm in ["hmac-sha384", "hmac-sha512"] {
        let Some(knot) = Knot::start_with(algorithm, &[(NAME, "")]) else { return };
        let Some(pebble) = Pebbles::new().resolver(knot.place()).start() else { return };
        let keys = format!("algorithm = '{algorithm}', secret");
        let dns = knot.dns(KEY.1).replace("secret", &keys);
        let proxy = pebble.setup(site(&app())).acme("challenges = 'dns-01'").acme(&dns).start();
        expect_issued(&proxy, &pebble);
        assert!(knot.words().contains("DDNS"), "{}", knot.words());
    }
}

#[test]
fn an_alias_is_followed() {
    let alias = "_acme-challenge CNAME proofs.of";
    let Some(knot) = Knot::start_with("hmac-sha256", &[(NAME, alias)]) else { return };
    let Some(pebble) = Pebbles::new().resolver(knot.place()).start() else { return };
    let proxy = by_dns(&pebble, &knot, KEY.1, site(&app())).start();
    expect_issued(&proxy, &pebble);
    eventually("the record to go", || knot.ask("proofs.of.shop.test", "TXT").is_empty());
    assert_eq!(knot.ask(RECORD, "CNAME").trim(), "proofs.of.shop.test.");
}

/// The name's own zone is not written to: it may be that of a registrar. Knot tells no more than
/// the alias itself then, and so the authority finds nothing.
#[test]
fn an_alias_is_followed_to_another_zone_of_the_same_server() {
    let alias = "_acme-challenge CNAME shop.acme.test.";
    let zones = [(NAME, alias), ("acme.test", "")];
    let Some(knot) = Knot::start_with("hmac-sha256", &zones) else { return };
    let Some(pebble) = Pebbles::new().resolver(knot.place()).start() else { return };
    let proxy = by_dns(&pebble, &knot, KEY.1, site(&app())).start();
    proxy.expect_words("shop.test could not be proved by dns-01");
    assert!(pebble.words().contains("validations"), "{}", proxy.words());
    assert!(knot.words().contains("[acme.test.] DDNS"), "{}", knot.words());
    assert!(!knot.words().contains("[shop.test.] DDNS"), "{}", knot.words());
    eventually("the record to go", || knot.ask("shop.acme.test", "TXT").is_empty());
}

/// Whoever is asked for names knows where it leads; the server that is written to does not.
#[test]
fn an_alias_of_a_zone_that_is_elsewhere_is_followed() {
    let alias = "_acme-challenge CNAME shop.acme.test.";
    let Some(theirs) = Knot::start_with("hmac-sha256", &[(NAME, alias)]) else { return };
    let Some(ours) = Knot::start("acme.test") else { return };
    let Some(pebble) = Pebbles::new().resolver(theirs.place()).start() else { return };
    let dns = format!("resolvers = '{}', tsig", theirs.place());
    let dns = ours.dns(KEY.1).replace("tsig", &dns);
    let setup = pebble.setup(site(&app())).acme("challenges = 'dns-01'").acme(&dns);
    let proxy = setup.start();
    // The authority, which asks nobody but them, does not find it there.
    proxy.expect_words("shop.test could not be proved by dns-01");
    assert!(ours.words().contains("[acme.test.] DDNS"), "{}\n{}", ours.words(), proxy.words());
    assert!(pebble.words().contains("validations"), "{}", proxy.words());
    eventually("the record to go", || ours.ask("shop.acme.test", "TXT").is_empty());
}

#[test]
fn an_alias_that_leads_where_nothing_may_be_written_is_told() {
    let alias = "_acme-challenge CNAME shop.acme.test.";
    let Some(knot) = Knot::start_with("hmac-sha256", &[(NAME, alias)]) else { return };
    let Some(pebble) = Pebbles::new().resolver(knot.place()).start() else { return };
    let proxy = by_dns(&pebble, &knot, KEY.1, site(&app())).start();
    proxy.expect_words("_acme-challenge.shop.test leads to shop.acme.test, and the name server");
}
