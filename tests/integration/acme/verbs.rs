//! What `portcullis certs` tells and does.

use std::process::Output;

use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{eventually, tools};

/// `portcullis certs` with this file.
#[track_caller]
pub(super) fn certs(file: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["certs"];
    all.extend(arguments);
    all.extend(["-c", file.to_str().unwrap()]);
    tools::portcullis(&all)
}

pub(super) fn file(proxy: &Proxy) -> std::path::PathBuf {
    proxy.path("portcullis.toml")
}

/// The text of a verb that ends with this code.
#[track_caller]
pub(super) fn told(file: &Path, arguments: &[&str], code: i32) -> String {
    let output = certs(file, arguments);
    let text = tools::stdout(&output) + &tools::stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

#[test]
fn certs_list_tells_how_a_certificate_by_acme_stands_with_a_server_and_without() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let local = Site::named("local.test").to(&origin).key("tls = 'local'");
    let mut proxy = pebble.setup(site(&origin)).site(local).start();
    expect_issued(&proxy, &pebble);
    let list = |arguments: &[&str]| told(&file(&proxy), arguments, 0);
    let json = || serde_json::from_str::<serde_json::Value>(&list(&["list", "--json"])).unwrap();
    eventually("the renewal", || json()["certificates"][0]["acme"]["not_after"].is_string());
    let live = json()["certificates"][0].clone();
    assert_eq!((&live["key"], &live["state"]), (&"P-256".into(), &"present".into()), "{live}");
    assert_eq!(live["acme"]["server_runs"], true);
    assert_eq!(live["acme"]["directory"], pebble.directory());
    assert!(live["renewal"].is_string() && live["issuer"].as_str().unwrap().contains("Pebble"));
    let text = list(&[]);
    assert!(text.contains("RENEWAL") && text.contains("days left"), "{text}");
    let directory = pebble.directory();
    let named = directory.strip_prefix("https://").unwrap().strip_suffix("/dir").unwrap();
    assert!(text.contains(&format!("acme ({named})")), "{text}");
    assert_eq!(live["authority"], directory);
    let status = tools::portcullis(&["status", "-c", file(&proxy).to_str().unwrap()]);
    let status = tools::stdout(&status);
    assert!(status.contains(&format!("days left, from acme ({named})")), "{status}");
    proxy.stop();
    let alone =
        serde_json::from_str::<serde_json::Value>(&told(&file(&proxy), &["list", "--json"], 0));
    let alone = &alone.unwrap()["certificates"][0];
    assert_eq!(alone["acme"]["server_runs"], false);
    assert_eq!(alone["renewal"], live["renewal"], "the storage says the same");
}

#[test]
fn certs_list_tells_of_a_name_that_waits_and_why() {
    let Some(pebble) = Pebbles::new().start() else { return };
    pebble.names_lead_to("127.0.0.9");
    let origin = app();
    let mut proxy = pebble.setup(site(&origin)).start();
    proxy.expect_words("no certificate for shop.test");
    let file = file(&proxy);
    let is_told = || {
        let output = certs(&file, &["list"]);
        let text = tools::stdout(&output);
        text.contains("acme: site shop.test: failed once")
            && text.contains("shop.test could not be proved by")
            && text.contains("not had yet, see below")
            && text.contains("next try ")
            && !text.contains("made at first start")
            && output.status.code() == Some(1)
    };
    eventually("the reason", is_told);
    let needs = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--json", "-c", file.to_str().unwrap()]);
        let output = tools::portcullis(&all);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), told["needs_a_person"].clone())
    };
    let (status, list) = (needs(&["status"]), needs(&["certs", "list"]));
    assert_eq!(status, list, "of one mind");
    assert!(list.1[0].as_str().unwrap().starts_with("site shop.test: no certificate could be got"));
    proxy.stop();
    assert!(is_told(), "{}", tools::stdout(&certs(&file, &["list"])));
}

#[test]
fn certs_renew_asks_for_what_is_due_and_for_the_rest_when_forced() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let local = Site::named("local.test").to(&origin).key("tls = 'local'");
    let files = Site::named("files.test").to(&origin);
    let mut proxy = pebble.setup(site(&origin)).site(local).site(files).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    eventually("to be at rest", || {
        let text = tools::stdout(&certs(&file, &["renew", NAME]));
        text.contains("shop.test: not due before") && text.contains("--force")
    });
    let issued = pebble.issued();
    assert!(told(&file, &["renew"], 0).contains("not due before"));
    assert_eq!(pebble.issued(), issued);
    let text = told(&file, &["renew", "SHOP.test.", "--force"], 0);
    assert!(text.contains("asking for a certificate for shop.test"), "{text}");
    eventually("another certificate", || pebble.issued() == issued + 1);
    expect_issued(&proxy, &pebble);
    for (name, words) in [
        ("local.test", "the local authority"),
        ("files.test", "files.test.pem"),
        ("other.test", "got by ACME: shop.test"),
    ] {
        let text = told(&file, &["renew", name], 1);
        assert!(text.contains(words), "{name}: {text}");
    }
    proxy.stop();
    let text = told(&file, &["renew", "--force"], 1);
    assert!(text.contains("no server is running") && text.contains("the next start"), "{text}");
}

#[test]
fn certs_show_tells_all_of_a_certificate_and_where_it_lies() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    let text = told(&file, &["show", NAME], 0);
    for words in ["site shop.test, from acme", "P-256", "acme/shop.test.pem", "Pebble", "SHA-256"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json = told(&file, &["show", NAME, "--json"], 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let leaf = &json["certificates"][0]["chain"][0];
    assert_eq!(leaf["names"], serde_json::json!([NAME]));
    assert_eq!(leaf["sha256"].as_str().unwrap().len(), 64);
    assert!(told(&file, &["show", "other.test"], 1).contains("but for shop.test"));
}

#[test]
fn certs_export_gives_the_chain_and_a_key_that_nobody_else_reads() {
    use std::os::unix::fs::PermissionsExt;
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let proxy = pebble.setup(site(&origin)).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    let chain = told(&file, &["export", NAME], 0);
    assert!(chain.starts_with("-----BEGIN CERTIFICATE-----") && !chain.contains("PRIVATE"));
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let both = ["export", NAME, "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    assert_eq!(told(&file, &both, 0), "");
    assert_eq!(std::fs::read_to_string(&cert).unwrap(), chain);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(proxy.path("storage/acme/shop.test.pem")).unwrap();
    let private = std::fs::read_to_string(&key).unwrap();
    let plain = |text: &str| text.replace('\r', "");
    assert!(plain(&kept).contains(plain(&private).trim()), "the key of the storage");
    assert!(told(&file, &both, 1).contains("is there already; --force replaces it"));
}

/// The budget stands before the first byte to an authority: nobody is asked here.
#[test]
fn the_tries_that_are_left_are_told_by_the_server_too() {
    let (origin, folder) = (app(), storage());
    let directory = "https://acme-v02.api.letsencrypt.org/directory";
    let acme = folder.path().join("acme");
    std::fs::create_dir(&acme).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let event = serde_json::json!({
        "at": u64::try_from(now.as_millis()).unwrap(), "directory": directory, "names": [DOMAIN],
    });
    let ledger = serde_json::json!({ "names": [DOMAIN], "issued": vec![event; 5] });
    let place = acme.join(format!("{DOMAIN}.json"));
    std::fs::write(&place, ledger.to_string()).unwrap();
    crate::harness::proxy::open_to_proxy(&acme, 0o700);
    crate::harness::proxy::open_to_proxy(&place, 0o600);
    let site = Site::named(DOMAIN).to(&origin).key("tls = 'auto'");
    let setup = crate::harness::Setup::new().acme(&kept_in(folder.path()));
    let proxy = setup.acme(&format!("directory = '{directory}'")).site(site).start();
    proxy.expect_words("5 certificates for the same names were issued within a week");
    let file = file(&proxy);
    let status = tools::portcullis(&["status", "--json", "-c", file.to_str().unwrap()]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let left = &status["acme"][0]["tries_left"][0];
    assert_eq!((&left["directory"], &left["same_names_this_week"]), (&directory.into(), &0.into()));
    assert_eq!(left["of"]["same_names_this_week"], 5);
    let text = tools::stdout(&certs(&file, &["list"]));
    let words = "tries left at acme-v02.api.letsencrypt.org: 0 of 5 for these names and 45 of 50";
    assert!(text.contains(words), "{text}");
}

/// A name that a public authority could sign; nobody is asked for it.
const DOMAIN: &str = "shop.portcullis-tests.de";
