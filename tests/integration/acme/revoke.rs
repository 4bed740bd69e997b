//! Certificates that are revoked by who got them.

use super::trouble::close;
use super::verbs::{certs, file, told};
use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{eventually, tools};

/// The serial number and the fingerprint of what is kept.
#[track_caller]
fn kept(file: &Path) -> (String, String) {
    let json = told(file, &["show", NAME, "--json"], 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let leaf = &json["certificates"][0]["chain"][0];
    let text = |key: &str| leaf[key].as_str().unwrap().to_owned();
    (text("serial"), text("sha256"))
}

/// The private key that is kept, as it stands there.
fn key_in(storage: &Path) -> String {
    let both = std::fs::read_to_string(storage.join("acme/shop.test.pem")).unwrap();
    both.split("-----BEGIN CERTIFICATE").next().unwrap().to_owned()
}

#[test]
fn what_is_revoked_serves_until_another_with_a_new_key_is_there() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    let ((serial, old), key) = (kept(&file), key_in(&proxy.path("storage")));
    assert_eq!(pebble.status_of(&serial), ("Valid".to_owned(), None));
    let text = told(&file, &["revoke", NAME, "--yes", "--reason", "superseded"], 0);
    assert!(text.contains("has revoked the certificate for shop.test (superseded)"), "{text}");
    assert!(text.contains("with a new key"), "{text}");
    assert_eq!(pebble.status_of(&serial), ("Revoked".to_owned(), Some(4)));
    let client = trusting(&proxy, &pebble.issuer());
    eventually_within(LONG_PATIENCE, "another certificate", || {
        assert!(client.try_connect().is_ok(), "one of the authority at every moment");
        kept(&file).1 != old
    });
    assert_ne!(key_in(&proxy.path("storage")), key, "a new key");
    assert_eq!(pebble.status_of(&kept(&file).0).0, "Valid");
    eventually("to be in order", || certs(&file, &["list"]).status.code() == Some(0));
    assert!(!told(&file, &["list"], 0).contains("revoked"));
    proxy.expect_words("has revoked the certificate for shop.test (superseded), as was asked");
}

#[test]
fn without_another_the_server_shows_what_a_start_would_until_somebody_asks() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let start = || pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    let mut proxy = start();
    expect_issued(&proxy, &pebble);
    let (serial, _) = kept(&file(&proxy));
    let text = told(&file(&proxy), &["revoke", NAME, "--no-renew", "-y"], 0);
    assert!(text.contains("one of this host's own authority from now on"), "{text}");
    assert_eq!(pebble.status_of(&serial).0, "Revoked");
    let root = std::fs::read_to_string(folder.path().join("local/root.pem")).unwrap();
    let stands_in = |proxy: &Proxy| {
        let client = trusting(proxy, &root);
        eventually("one of this host's own", || client.try_connect().is_ok());
        let text = told(&file(proxy), &["list"], 0);
        assert!(
            text.contains("revoked on ") && text.contains("not before `certs renew`"),
            "{text}"
        );
    };
    stands_in(&proxy);
    let issued = pebble.issued();
    proxy.stop();
    let mut proxy = start();
    stands_in(&proxy);
    assert_eq!(pebble.issued(), issued, "nobody was asked");
    let words = proxy.words();
    let held = "the certificate for shop.test was revoked, and no other is asked for before";
    assert!(words.contains(held) && !words.contains("for shop.test yet"), "{words}");
    assert!(told(&file(&proxy), &["revoke", NAME, "-y"], 1).contains("was revoked already, on "));
    assert!(told(&file(&proxy), &["renew", NAME], 0).contains("asking for a certificate"));
    expect_issued(&proxy, &pebble);
    proxy.stop();
}

#[test]
fn without_a_server_the_storage_is_enough() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let start = || pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    let mut proxy = start();
    expect_issued(&proxy, &pebble);
    proxy.stop();
    let file = file(&proxy);
    let (serial, old) = kept(&file);
    let text = told(&file, &["revoke", NAME, "-y", "--reason", "keyCompromise"], 0);
    assert!(text.contains("no server runs: the next start asks for another"), "{text}");
    assert_eq!(pebble.status_of(&serial), ("Revoked".to_owned(), Some(1)));
    assert!(told(&file, &["list"], 0).contains("(keyCompromise); the next start asks for another"));
    let text = told(&file, &["revoke", NAME, "-y"], 1);
    assert!(text.contains("was revoked already, on ") && text.contains("keyCompromise"), "{text}");
    // As if this host had been killed before it could remember.
    let ledger = folder.path().join("acme/shop.test.json");
    let mut remembered: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&ledger).unwrap()).unwrap();
    remembered["revoked"] = serde_json::Value::Null;
    std::fs::write(&ledger, remembered.to_string()).unwrap();
    let text = told(&file, &["revoke", NAME, "-y"], 1);
    assert!(text.contains(&pebble.directory()) && text.contains("was revoked already"), "{text}");
    drop(proxy);
    let proxy = start();
    eventually_within(LONG_PATIENCE, "another certificate", || kept(&self::file(&proxy)).1 != old);
    expect_issued(&proxy, &pebble);
}

#[test]
fn what_cannot_be_revoked_is_told_with_why() {
    let Some(mut pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let local = Site::named("local.test").to(&origin).key("tls = 'local'");
    let files = Site::named("files.test").to(&origin);
    let setup = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).site(local).site(files);
    let mut proxy = setup.start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    let refused = |name: &str| told(&file, &["revoke", name, "--yes"], 1);
    assert!(
        refused("local.test").contains("no certificate by ACME, but signed by this host's own")
    );
    assert!(refused("files.test").contains("files.test.pem"));
    assert!(refused("other.test").contains("got by ACME: shop.test"));
    let text = told(&file, &["revoke", NAME, "--yes", "--reason", "certificateHold"], 2);
    assert!(text.contains("cessationOfOperation"), "what is possible: {text}");
    let text = told(&file, &["revoke", NAME], 2);
    assert!(text.contains("say --yes where nobody can be asked"), "{text}");
    pebble.close();
    let text = refused(NAME);
    assert!(text.contains("nothing was revoked") && text.contains("cannot connect to"), "{text}");
    proxy.stop();
    let text = refused(NAME);
    assert!(text.contains("nothing was revoked") && text.contains("cannot connect to"), "{text}");
    let text = std::fs::read_to_string(&file).unwrap();
    let directory = pebble.directory();
    let other = "https://localhost:1/dir";
    std::fs::write(&file, text.replace(&directory, other)).unwrap();
    let text = refused(NAME);
    assert!(text.contains(&directory) && text.contains("names this authority no more"), "{text}");
    assert!(tools::stdout(&certs(&file, &["show", NAME])).contains("Pebble"), "it is still there");
}

/// Two revocations that had been killed after a minute were done when the server went on.
#[test]
fn a_revocation_that_nobody_waits_for_is_not_done() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    let (serial, _) = kept(&file);
    proxy.signal(rustix::process::Signal::STOP);
    let text = told(&file, &["revoke", NAME, "--yes"], 1);
    proxy.signal(rustix::process::Signal::CONT);
    assert!(text.contains("has not begun with this, and will not"), "{text}");
    proxy.expect_words("nobody waits any more for the answer to Revoke");
    assert_eq!(pebble.status_of(&serial).0, "Valid");
}

/// An account that was whole was written again, which failed; and what needed a person was told no
/// more after it.
#[test]
fn a_storage_that_takes_nothing_forbids_no_revocation_and_stays_told() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let proxy = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    let (serial, _) = kept(&file);
    let acme = folder.path().join("acme");
    close(&acme, true);
    told(&file, &["renew", NAME, "--force"], 0);
    expect_call(&proxy, "the storage does not work");
    let text = told(&file, &["revoke", NAME, "--yes"], 1);
    assert!(text.contains("it was revoked, but that could not be remembered"), "{text}");
    assert_eq!(pebble.status_of(&serial).0, "Revoked");
    told(&file, &["revoke", NAME, "--yes"], 1);
    let text = told(&file, &["list"], 1);
    assert!(text.contains("the storage did not work on "), "{text}");
    close(&acme, false);
    eventually_within(TURNS, "another certificate", || kept(&file).0 != serial);
}

/// RFC 8555 §7.6: who has the key of a certificate may revoke it.
#[test]
fn without_its_account_a_certificate_is_revoked_by_its_own_key() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let Some(other) = Pebbles::new().start_beside(Some(&pebble)) else { return };
    for (kind, is_named) in [("p256", true), ("p384", true), ("rsa2048", false)] {
        let (origin, folder) = (app(), storage());
        let key_type = format!("key_type = '{kind}'");
        let setup = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).acme(&key_type);
        let mut proxy = setup.start();
        expect_issued(&proxy, &pebble);
        let file = file(&proxy);
        let (serial, _) = kept(&file);
        let accounts = std::fs::read_dir(folder.path().join("acme")).unwrap();
        for path in accounts.map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("account@") && name.ends_with(".json") {
                std::fs::remove_file(path).unwrap();
            }
        }
        if !is_named {
            // Nor does the configuration name the authority any more.
            proxy.stop();
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replace(&pebble.directory(), &other.directory());
            std::fs::write(&file, text).unwrap();
        }
        let text = told(&file, &["revoke", NAME, "-y", "--reason", "keyCompromise"], 0);
        assert!(text.contains(&pebble.directory()), "{text}");
        assert_eq!(pebble.status_of(&serial), ("Revoked".to_owned(), Some(1)), "{kind}");
    }
}

/// What was revoked is not good because something else was damaged.
#[test]
fn a_damaged_ledger_does_not_bring_back_what_was_revoked() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let start = || pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    let mut proxy = start();
    expect_issued(&proxy, &pebble);
    proxy.stop();
    let file = file(&proxy);
    let ledger = folder.path().join("acme/shop.test.json");
    let (_, old) = kept(&file);
    told(&file, &["revoke", NAME, "-y"], 0);
    std::fs::write(&ledger, "").unwrap();
    let text = told(&file, &["list"], 1);
    assert!(text.contains("revoked on ") && text.contains("shop.test.json is damaged"), "{text}");
    let mut proxy = start();
    eventually_within(LONG_PATIENCE, "another certificate", || kept(&self::file(&proxy)).1 != old);
    expect_issued(&proxy, &pebble);
    told(&self::file(&proxy), &["revoke", NAME, "-y", "--no-renew"], 0);
    std::fs::write(&ledger, "{").unwrap();
    let issued = pebble.issued();
    proxy.stop();
    let proxy = start();
    proxy.expect_words("shop.test.json is damaged");
    let text = told(&self::file(&proxy), &["list"], 1);
    assert!(text.contains("not before `certs renew`"), "{text}");
    assert!(text.contains("shop.test.json.damaged"), "it is told until it is removed: {text}");
    eventually("the ledger to be mended", || std::fs::read(&ledger).unwrap().len() > 1);
    assert_eq!(pebble.issued(), issued);
}
