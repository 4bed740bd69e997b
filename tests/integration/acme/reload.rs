//! Sites that come and go while it runs.

use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::tools;

#[test]
fn a_site_that_a_reload_brings_gets_its_certificate() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let mut proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    proxy.rewrite(|setup| setup.site(Site::named("new.test").to(&origin).key("tls = 'auto'")));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", tools::stderr(&output));
    proxy.expect_words("has issued a certificate for new.test");
    assert_eq!((pebble.accounts(), pebble.issued()), (1, 2));
}

#[test]
fn a_name_that_a_reload_brings_makes_a_new_certificate_and_the_old_one_serves_meanwhile() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let mut proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    proxy.rewrite(|setup| setup.first_site(|site| site.and("www.shop.test")));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", tools::stderr(&output));
    trusting(&proxy, &pebble.issuer()).connect();
    proxy.expect_words("has issued a certificate for shop.test, www.shop.test");
    trusting(&proxy, &pebble.issuer()).connect();
}

/// The sandbox was closed around the ports of the authorities of the start.
#[test]
fn an_authority_on_another_port_takes_a_restart() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let Some(other) = Pebbles::new().start_beside(Some(&pebble)) else { return };
    let origin = app();
    let mut proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    if proxy.words().contains("this kernel") {
        return tools::skip("the kernel limits no ports");
    }
    proxy.rewrite(|setup| setup.acme(&format!("directory = '{}'", other.directory())));
    let output = proxy.reload(&[]);
    let told = tools::stderr(&output);
    assert!(!output.status.success());
    assert!(told.contains("acme.directory: port") && told.contains("a restart takes it"), "{told}");
}
