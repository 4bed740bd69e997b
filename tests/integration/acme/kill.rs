//! A kill at every step: no account is made twice, and what was begun is gone on with.

use super::verbs::{file, told};
use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::relay::Relay;

/// Kills it after each of the first `steps` requests, whose answer it never sees; then lets it
/// finish. Every request is a step: directory, nonce, account, order, authorization, challenge,
/// finalization, certificate. Says how often it was killed.
fn killed_at(steps: impl Iterator<Item = usize>) -> Option<usize> {
    let pebble = Pebbles::new().with("PEBBLE_WFE_NONCEREJECT", "0").start()?;
    let (origin, storage) = (app(), storage());
    let relay = Relay::to(pebble.place());
    let directory = pebble.directory_at(relay.place());
    let setup = pebble.setup_at(&directory, site(&origin)).acme(&kept_in(storage.path()));
    let mut killed = 0;
    for step in steps {
        relay.trap_after(step);
        let mut proxy = setup.clone().start();
        let caught = relay.has_caught(crate::harness::PATIENCE / 2);
        proxy.kill();
        if !caught {
            // There was less to do than that, because what was done before was kept.
            std::fs::read(storage.path().join("acme/shop.test.pem")).unwrap();
            break;
        }
        killed += 1;
    }
    assert!(killed > 0);
    relay.trap_after(usize::MAX / 2);
    let proxy = setup.start();
    expect_issued(&proxy, &pebble);
    assert_eq!(pebble.accounts(), 1, "an account was made twice");
    let (orders, issued) = (pebble.orders(), pebble.issued());
    assert!(issued == 1 && orders <= killed + 1, "{orders} orders, {issued} certificates");
    let left = std::fs::read_dir(storage.path().join("acme")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("order")), "{left:?}");
    Some(killed)
}

#[test]
fn a_kill_at_any_step_loses_nothing() {
    let Some(killed) = killed_at((0..16).step_by(2)) else { return };
    assert!(killed > 3, "only {killed} kills");
}

/// Its order was left lying until the certificate was due, years later.
#[test]
fn a_renewal_that_a_person_asked_for_is_gone_on_with_after_a_kill() {
    let Some(pebble) = Pebbles::new().with("PEBBLE_WFE_NONCEREJECT", "0").start() else { return };
    let (origin, storage) = (app(), storage());
    let relay = Relay::to(pebble.place());
    let directory = pebble.directory_at(relay.place());
    let setup = pebble.setup_at(&directory, site(&origin)).acme(&kept_in(storage.path()));
    let mut proxy = setup.clone().start();
    expect_issued(&proxy, &pebble);
    let order = storage.path().join("acme/shop.test.order.json");
    eventually("the end of the order", || !order.exists());
    relay.trap_after(4);
    told(&file(&proxy), &["renew", NAME, "--force"], 0);
    assert!(relay.has_caught(crate::harness::PATIENCE));
    proxy.kill();
    assert!(order.exists(), "it was killed too early to show anything");
    relay.trap_after(usize::MAX / 2);
    let _proxy = setup.start();
    eventually_within(LONG_PATIENCE, "the other certificate", || {
        pebble.issued() == 2 && !order.exists()
    });
    assert_eq!(pebble.orders(), 2, "it was begun anew");
}

#[test]
#[ignore = "takes minutes"]
fn fifty_kills_lose_nothing() {
    let mut all = 0;
    for round in 0.. {
        let Some(killed) = killed_at((round % 3..20).step_by(1 + round % 2)) else { return };
        all += killed;
        if all >= 50 {
            break;
        }
    }
}
