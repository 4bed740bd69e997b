//! `Strict-Transport-Security`: what is sent, and the way back down.

use std::fs;
use std::io::Read as _;

use crate::harness::setup::write_file;
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Origin, Proxy, Setup, Site};

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

fn sent(proxy: &Proxy, host: &str) -> Option<String> {
    proxy.client_for(host).get("/").header("strict-transport-security")
}

fn certs_hsts(proxy: &Proxy, arguments: &[&str]) -> (Option<i32>, String) {
    let file = proxy.path("portcullis.toml");
    let mut all = vec!["certs", "hsts"];
    all.extend(arguments);
    all.extend(["-c", file.to_str().unwrap()]);
    let output = tools::portcullis(&all);
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn a_site_tells_what_it_is_set_to_and_never_on_plain_http() {
    let origin = app();
    let year = "hsts = { max_age = '1y', include_subdomains = true }";
    let proxy = Setup::new()
        .site(Site::named("off.test").to(&origin))
        .site(Site::named("hour.test").to(&origin).key("hsts = '1h'").on_plain_http())
        .site(Site::named("year.test").to(&origin).key(year))
        .site(Site::named("ramp.test").to(&origin).key("hsts = 'ramp'"))
        .start();
    assert_eq!(sent(&proxy, "off.test"), None);
    assert_eq!(sent(&proxy, "hour.test").as_deref(), Some("max-age=3600"));
    assert_eq!(sent(&proxy, "year.test").as_deref(), Some("max-age=31536000; includeSubDomains"));
    assert_eq!(sent(&proxy, "ramp.test").as_deref(), Some("max-age=300"));
    let file = proxy.path("portcullis.toml");
    let status = stdout(&tools::portcullis(&["status", "-c", file.to_str().unwrap()]));
    let told: Vec<&str> = status.lines().filter(|line| line.starts_with("hsts of ")).collect();
    assert_eq!(told.len(), 3, "{status}");
    assert_eq!(told[0], "hsts of hour.test: max-age=3600 (fixed)");
    assert!(told[2].starts_with("hsts of ramp.test: max-age=300 (step 1 of 5"), "{status}");
    let plain = crate::harness::Client::plain(proxy.http(), "hour.test").get("/");
    assert_eq!((plain.status, plain.header("strict-transport-security")), (200, None));
}

#[test]
fn a_reset_leads_down_at_once_and_over_a_restart() {
    let origin = app();
    let site = |name: &str, key: &str| Site::named(name).and("www.ramp.test").to(&origin).key(key);
    let mut proxy = Setup::new()
        .site(site("ramp.test", "hsts = 'ramp'"))
        .site(Site::named("off.test").to(&origin))
        .start();
    let (code, words) = certs_hsts(&proxy, &["reset", "WWW.ramp.test"]);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(sent(&proxy, "ramp.test").as_deref(), Some("max-age=0"));
    let (_, words) = certs_hsts(&proxy, &[]);
    assert!(words.contains("ramp.test: max-age=0 (reset)"), "{words}");
    assert_eq!(certs_hsts(&proxy, &["reset", "stranger.test"]).0, Some(1));
    let (code, words) = certs_hsts(&proxy, &["reset", "off.test"]);
    assert!(code == Some(1) && words.contains("nothing is sent"), "{words}");
    assert!(proxy.reload(&[]).status.success());
    assert_eq!(sent(&proxy, "ramp.test").as_deref(), Some("max-age=0"));

    // The way back down does not wait until somebody has mended the file.
    let right = std::fs::read_to_string(proxy.path("portcullis.toml")).unwrap();
    proxy.rewrite_raw(&format!(
        "{right}\n[[site]]\nhost = 'new.test'\nto = '${{NOBODY_SET_THIS}}'\n"
    ));
    let (code, words) = certs_hsts(&proxy, &["reset", "ramp.test"]);
    assert!(code == Some(0) && words.contains("NOBODY_SET_THIS"), "{words}");
    let (code, words) = certs_hsts(&proxy, &["list"]);
    assert!(code == Some(0) && words.contains("NOBODY_SET_THIS"), "{words}");
    assert!(words.contains("ramp.test: max-age=0 (reset)"), "{words}");
    proxy.rewrite_raw(&right);

    // Without a server it stands in the storage.
    proxy.stop();
    let (code, words) = certs_hsts(&proxy, &["start", "ramp.test"]);
    assert_eq!(code, Some(0), "{words}");
    let (_, words) = certs_hsts(&proxy, &["list", "--json"]);
    assert!(words.contains("\"sent\": \"max-age=300\""), "{words}");
    let (code, _) = certs_hsts(&proxy, &["reset", "ramp.test"]);
    assert_eq!(code, Some(0));
    let (_, words) = certs_hsts(&proxy, &[]);
    assert!(words.contains("(reset)"), "{words}");
}

/// A step that is far up, as the storage keeps it.
const FAR: &str = r#"{"setting":"ramp","step":3,"quiet":10,"seen":1000,"reset":false}"#;

#[test]
fn a_ramp_goes_on_where_it_was() {
    let origin = app();
    let folder = crate::harness::proxy::folder();
    let storage = folder.path().join("storage");
    let hsts = storage.join("hsts");
    fs::create_dir_all(&hsts).unwrap();
    for path in [&storage, &hsts] {
        crate::harness::proxy::open_to_proxy(path, 0o700);
    }
    write_file(&hsts.join("far.test.json"), FAR, 0o600);
    let proxy = Setup::new()
        .acme(&format!("storage = '{}'", storage.display()))
        .site(Site::named("far.test").to(&origin).key("hsts = 'ramp'"))
        .start();
    assert_eq!(sent(&proxy, "far.test").as_deref(), Some("max-age=2592000"));
    let far = fs::read_to_string(hsts.join("far.test.json")).unwrap();
    assert!(far.contains("\"step\":3"), "{far}");
}

/// A ramp that is half a minute short of a month.
const NEAR: &str = r#"{"setting":"ramp","step":2,"quiet":604770,"seen":1000,"reset":false}"#;

/// A site with [`NEAR`], in a storage of its own; where that is.
fn near(origin: &Origin) -> (tempfile::TempDir, std::path::PathBuf, Setup) {
    let folder = crate::harness::proxy::folder();
    let storage = folder.path().join("storage");
    let hsts = storage.join("hsts");
    fs::create_dir_all(&hsts).unwrap();
    for path in [&storage, &hsts] {
        crate::harness::proxy::open_to_proxy(path, 0o700);
    }
    let place = hsts.join("near.test.json");
    write_file(&place, NEAR, 0o600);
    let setup = Setup::new()
        .acme(&format!("storage = '{}'", storage.display()))
        .site(Site::named("near.test").to(origin).key("hsts = 'ramp'"));
    (folder, place, setup)
}

/// Handshakes of clients that trust nobody.
fn storm(proxy: &Proxy) {
    let config = rustls::ClientConfig::builder_with_protocol_versions(rustls::ALL_VERSIONS);
    let config = config.with_root_certificates(rustls::RootCertStore::empty());
    let config = std::sync::Arc::new(config.with_no_client_auth());
    for _ in 0..30 {
        let name = "near.test".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.clone(), name).unwrap();
        let mut socket = std::net::TcpStream::connect(proxy.https()).unwrap();
        client.complete_io(&mut socket).unwrap_err();
        // Until the server has noticed.
        let _ = socket.read_to_end(&mut Vec::new());
    }
}

fn has_begun_anew(place: &std::path::Path) -> bool {
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(place).unwrap()).unwrap();
    kept["step"] == 2 && kept["quiet"] == 0
}

/// What had not been kept yet was forgotten, and the next process climbed after a minute.
#[test]
fn a_storm_is_kept_over_a_stop_right_after_it() {
    let origin = app();
    let (_folder, place, setup) = near(&origin);
    let mut proxy = setup.start();
    storm(&proxy);
    proxy.stop();
    assert!(has_begun_anew(&place), "{}", fs::read_to_string(&place).unwrap());
}

#[test]
fn a_storm_is_kept_over_an_upgrade_right_after_it() {
    let origin = app();
    let (_folder, place, setup) = near(&origin);
    let proxy = Proxy::start_copy(setup);
    storm(&proxy);
    proxy.upgrade();
    crate::harness::eventually("the ramp begins anew", || has_begun_anew(&place));
}

/// It took as long as ten looks, and another process on the storage climbed meanwhile.
#[test]
fn a_storm_is_kept_while_it_lasts() {
    let origin = app();
    let (_folder, place, setup) = near(&origin);
    let mut proxy = setup.start();
    storm(&proxy);
    crate::harness::eventually("the ramp begins anew", || has_begun_anew(&place));
    proxy.kill();
}

/// What is lost may have been a reset: nobody is bound again by itself.
#[test]
fn a_damaged_state_sends_nothing_until_a_person_decides() {
    let origin = app();
    let setup = Setup::new()
        .site(Site::named("year.test").to(&origin).key("hsts = '1y'"))
        .site(Site::named("ramp.test").to(&origin).key("hsts = 'ramp'"));
    let proxy = setup.start();
    let file = proxy.path("portcullis.toml");
    let status = || tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
    for name in ["year.test", "ramp.test"] {
        assert_eq!(certs_hsts(&proxy, &["reset", name]).0, Some(0));
        assert_eq!(sent(&proxy, name).as_deref(), Some("max-age=0"));
        fs::write(proxy.path(&format!("storage/hsts/{name}.json")), "").unwrap();
    }
    assert!(proxy.reload(&[]).status.success());
    for name in ["year.test", "ramp.test"] {
        assert_eq!(sent(&proxy, name), None, "{name}");
        let (told, words) = (status(), format!("portcullis certs hsts start {name}"));
        assert!(stdout(&told).contains(&words), "{}", stdout(&told));
        assert_eq!(told.status.code(), Some(1));
        let (code, list) = certs_hsts(&proxy, &[]);
        assert!(code == Some(1) && list.contains(&format!("{name}: nothing (")), "{list}");
        assert!(list.contains(&format!("needs a person: site {name}: ")), "{list}");
    }
    assert_eq!(certs_hsts(&proxy, &["start", "year.test"]).0, Some(0));
    assert_eq!(certs_hsts(&proxy, &["reset", "ramp.test"]).0, Some(0));
    assert_eq!(sent(&proxy, "year.test").as_deref(), Some("max-age=31536000"));
    assert_eq!(sent(&proxy, "ramp.test").as_deref(), Some("max-age=0"));
    assert_eq!(status().status.code(), Some(0), "{}", stdout(&status()));
}

/// `status` said that nothing is sent, by what it found in the storage, while the server sent what
/// it had read before.
#[test]
fn status_tells_what_the_server_sends_and_what_it_is_about_to_send() {
    let origin = app();
    let proxy = Setup::new()
        .site(Site::named("year.test").to(&origin).key("hsts = '1y'"))
        .site(Site::named("ramp.test").to(&origin).key("hsts = 'ramp'"))
        .start();
    let file = proxy.path("portcullis.toml");
    let status = || stdout(&tools::portcullis(&["status", "-c", file.to_str().unwrap()]));
    let damage = |name: &str| {
        let state = proxy.path(&format!("storage/hsts/{name}.json"));
        assert_eq!(certs_hsts(&proxy, &["start", name]).0, Some(0));
        fs::write(state, "garbage").unwrap();
    };
    for (name, value) in [("year.test", "max-age=31536000"), ("ramp.test", "max-age=300")] {
        damage(name);
        let told = status();
        assert_eq!(sent(&proxy, name).as_deref(), Some(value));
        assert!(told.contains(&format!("hsts of {name}: {value} (within a minute nothing: ")));
        assert!(told.contains(&format!("{value} is sent for a minute at most, then ")), "{told}");
        assert!(told.contains(&format!("portcullis certs hsts reset {name}")), "{told}");
    }
    assert!(proxy.reload(&[]).status.success());
    for name in ["year.test", "ramp.test"] {
        assert_eq!(sent(&proxy, name), None, "{name}");
        assert!(status().contains(&format!("hsts of {name}: nothing (")), "{}", status());
    }
}

/// It told what the file and the storage say, whatever the server did.
#[test]
fn the_list_is_told_by_the_server_and_without_one_by_the_storage() {
    let origin = app();
    let mut proxy = Setup::new()
        .site(Site::named("hour.test").to(&origin).key("hsts = '1h'"))
        .site(Site::named("ramp.test").to(&origin).key("hsts = 'ramp'"))
        .start();
    let told = |proxy: &Proxy| -> (Option<i32>, serde_json::Value) {
        let (code, words) = certs_hsts(proxy, &["list", "--json"]);
        (code, serde_json::from_str(&words).unwrap())
    };
    let right = fs::read_to_string(proxy.path("portcullis.toml")).unwrap();
    // Nobody has reloaded.
    proxy.rewrite_raw(&right.replace("'1h'", "'2h'"));
    let (code, all) = told(&proxy);
    assert_eq!((code, &all["told_by"]), (Some(0), &"server".into()));
    assert_eq!(all["sites"][0]["sent"], "max-age=3600");
    let wrong = right.replace("'1h'", "'2h'").replace("grace = ", "graze = ");
    proxy.rewrite_raw(&wrong);
    let (code, words) = certs_hsts(&proxy, &[]);
    assert!(code == Some(0) && words.contains("hour.test: max-age=3600 (fixed)"), "{words}");
    assert!(words.contains("graze") && words.contains("the server that runs answers"), "{words}");

    proxy.stop();
    let (code, words) = certs_hsts(&proxy, &[]);
    assert!(code == Some(78) && words.contains("hour.test: max-age=7200 (fixed)"), "{words}");
    proxy.rewrite_raw(&right.replace("'1h'", "'2h'"));
    let (code, all) = told(&proxy);
    assert_eq!((code, &all["told_by"]), (Some(0), &"storage".into()));
    assert_eq!(all["sites"][0]["sent"], "max-age=7200");
    fs::write(proxy.path("storage/hsts/ramp.test.json"), "garbage").unwrap();
    let (code, all) = told(&proxy);
    assert_eq!((code, &all["sites"][1]["sent"]), (Some(1), &"".into()));
    let call = all["needs_a_person"][0].as_str().unwrap();
    assert!(call.contains("portcullis certs hsts start ramp.test"), "{call}");
}

#[test]
fn what_is_damaged_is_said_once() {
    let origin = app();
    let folder = crate::harness::proxy::folder();
    let storage = folder.path().join("storage");
    let hsts = storage.join("hsts");
    fs::create_dir_all(&hsts).unwrap();
    for path in [&storage, &hsts] {
        crate::harness::proxy::open_to_proxy(path, 0o700);
    }
    write_file(&hsts.join("broken.test.json"), &FAR[..30], 0o600);
    let proxy = Setup::new()
        .acme(&format!("storage = '{}'", storage.display()))
        .site(Site::named("broken.test").to(&origin).key("hsts = 'ramp'"))
        .start();
    assert_eq!(sent(&proxy, "broken.test"), None);
    let words = "site broken.test: how far its hsts has come cannot be read";
    proxy.expect_words(words);
    assert!(proxy.reload(&[]).status.success());
    assert_eq!(sent(&proxy, "broken.test"), None);
    assert_eq!(proxy.words().matches(words).count(), 1, "{}", proxy.words());
}

#[test]
fn check_tells_the_danger_and_the_rules_of_the_preload_list() {
    let folder = crate::harness::proxy::folder();
    let file = folder.path().join("portcullis.toml");
    let check = |hsts: &str, keys: &str| {
        let text = format!("[[site]]\nhost = 'shop.test'\nto = '8080'\nhsts = {hsts}\n{keys}\n");
        write_file(&file, &text, 0o644);
        let output = tools::portcullis(&["check", "-c", file.to_str().unwrap()]);
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (code, words) = check("'5m'", "");
    assert!(code == Some(0) && !words.contains(":4:"), "{words}");
    for (hsts, why) in [
        ("'ramp'", "certs hsts reset HOST"),
        ("'1y'", "cannot be taken back"),
        ("{ ramp = true, include_subdomains = true }", "binds every name below"),
        ("{ max_age = '1y', include_subdomains = true, preload = true }", "takes months"),
    ] {
        let (code, words) = check(hsts, "");
        assert!(
            code == Some(0) && words.contains(":4:8") && words.contains(why),
            "{hsts}: {words}"
        );
    }
    let preload = "{ max_age = '1y', include_subdomains = true, preload = true }";
    let (code, words) = check(preload, "redirect = 'off'");
    assert!(code == Some(78) && words.contains("on the same host"), "{words}");
    let (code, words) = check(preload, "tls = 'local'");
    assert!(code == Some(78) && words.contains("every browser trusts"), "{words}");
}
