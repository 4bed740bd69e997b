//! Certificate files that change while they are served.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

use crate::harness::proxy::{folder, open_to_proxy};
use crate::harness::setup::{write_file, write_pair};
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Origin, Proxy, Setup, Site, Wire, eventually, pki};

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

/// The certificate that is shown for `name`.
fn shown(proxy: &Proxy, name: &str) -> CertificateDer<'static> {
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&[]), name).unwrap();
    wire.session().peer_certificates().unwrap()[0].clone()
}

fn tls(folder: &Path) -> String {
    let folder = folder.display();
    format!("tls = {{ cert = '{folder}/site.pem', key = '{folder}/site.key' }}")
}

fn status(proxy: &Proxy) -> (Option<i32>, String) {
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
    (output.status.code(), stdout(&output))
}

/// Whether the look came by inotify: sooner than the slow one may come.
#[test]
fn a_new_pair_is_shown_at_once() {
    let origin = app();
    let proxy = Setup::new().site(Site::named("app.test").to(&origin)).start();
    let mut soonest = Duration::MAX;
    // The slow look comes once in five seconds: it cannot be what was seen three times in a row.
    for _ in 0..3 {
        let before = shown(&proxy, "app.test");
        let written = Instant::now();
        write_pair(&proxy.path("certs/app.test.pem"), &pki::issue(&["app.test"]));
        eventually("the new certificate to be shown", || shown(&proxy, "app.test") != before);
        soonest = soonest.min(written.elapsed());
    }
    assert!(soonest < Duration::from_secs(3), "{soonest:?}");
}

/// The new certificate of one site waited for the broken one of another.
#[test]
fn a_broken_pair_holds_back_no_other_site() {
    let origin = app();
    let proxy = Setup::new()
        .site(Site::named("a.test").to(&origin))
        .site(Site::named("b.test").to(&origin))
        .start();
    let (a, b) = (shown(&proxy, "a.test"), shown(&proxy, "b.test"));
    write_file(&proxy.path("certs/a.test.pem"), "damaged", 0o644);
    proxy.expect_words("changed certificates cannot be used");
    write_pair(&proxy.path("certs/b.test.pem"), &pki::issue(&["b.test"]));
    eventually("the other site's to be shown", || shown(&proxy, "b.test") != b);
    assert_eq!(shown(&proxy, "a.test"), a, "the last good one");
    let (code, words) = status(&proxy);
    assert_eq!(code, Some(1));
    assert!(words.contains("site a.test") && !words.contains("site b.test: "), "{words}");
    write_pair(&proxy.path("certs/a.test.pem"), &pki::issue(&["a.test"]));
    eventually("the mended one to be shown", || shown(&proxy, "a.test") != a);
    eventually("status to be content", || !status(&proxy).1.contains("changed certificates"));
}

#[test]
fn what_clients_would_refuse_does_not_take_the_place_of_what_they_accept() {
    let origin = app();
    let proxy = Setup::new().site(Site::named("app.test").to(&origin)).start();
    let before = shown(&proxy, "app.test");
    let cert = proxy.path("certs/app.test.pem");
    write_pair(&cert, &pki::expired(&["app.test"]));
    proxy.expect_words("expired on");
    write_pair(&cert, &pki::issue(&["other.test"]));
    proxy.expect_words("is not for app.test, and the one that it would replace is");
    write_file(&cert.with_extension("key"), &pki::issue(&["app.test"]).key, 0o600);
    proxy.expect_words("they come from different pairs");
    assert_eq!(shown(&proxy, "app.test"), before);
}

/// certbot keeps files in `archive` and puts links in `live` in each other's place.
#[test]
fn links_are_swapped_as_certbot_does_it() {
    let (origin, home) = (app(), folder());
    let (live, archive) = (home.path().join("live/app.test"), home.path().join("archive/app.test"));
    let pair = |number: u8| {
        let pair = pki::issue(&["app.test"]);
        fs::create_dir_all(&archive).unwrap();
        write_file(&archive.join(format!("site{number}.pem")), &pair.cert, 0o644);
        write_file(&archive.join(format!("key{number}.pem")), &pair.key, 0o600);
    };
    let link = |number: u8| {
        for (name, target) in [("site.pem", "site"), ("site.key", "key")] {
            let _ = fs::remove_file(live.join(name));
            symlink(format!("../../archive/app.test/{target}{number}.pem"), live.join(name))
                .unwrap();
        }
    };
    fs::create_dir_all(&live).unwrap();
    pair(1);
    link(1);
    for path in ["live", "live/app.test", "archive", "archive/app.test"] {
        open_to_proxy(&home.path().join(path), 0o755);
    }
    let proxy = Setup::new().site(Site::named("app.test").to(&origin).key(&tls(&live))).start();
    let before = shown(&proxy, "app.test");
    pair(2);
    link(2);
    eventually("the new certificate to be shown", || shown(&proxy, "app.test") != before);
}

/// Kubernetes puts the link `..data` to another folder in the place of the old one.
#[test]
fn a_linked_folder_is_swapped_as_kubernetes_does_it() {
    let (origin, home) = (app(), folder());
    let at = |name: &str| home.path().join(name);
    let version = |name: &str| {
        let pair = pki::issue(&["app.test"]);
        fs::create_dir(at(name)).unwrap();
        open_to_proxy(&at(name), 0o755);
        write_file(&at(name).join("site.pem"), &pair.cert, 0o644);
        write_file(&at(name).join("site.key"), &pair.key, 0o600);
    };
    version("..1");
    symlink("..1", at("..data")).unwrap();
    symlink("..data/site.pem", at("site.pem")).unwrap();
    symlink("..data/site.key", at("site.key")).unwrap();
    let proxy =
        Setup::new().site(Site::named("app.test").to(&origin).key(&tls(home.path()))).start();
    let before = shown(&proxy, "app.test");
    version("..2");
    symlink("..2", at("..tmp")).unwrap();
    fs::rename(at("..tmp"), at("..data")).unwrap();
    eventually("the new certificate to be shown", || shown(&proxy, "app.test") != before);
}

/// One damaged file kept every site from being served, and nothing had said so before.
#[test]
fn a_damaged_local_authority_is_told_before_the_start_and_after_it() {
    let (origin, home) = (app(), folder());
    let storage = home.path().join("storage");
    let start = || {
        let storage = format!("storage = '{}'", storage.display());
        let local = Site::named("app.localhost").to(&origin).key("tls = 'local'");
        Setup::new().acme(&storage).site(Site::named("app.test").to(&origin)).site(local).start()
    };
    let said = |proxy: &Proxy, verb: &[&str]| {
        let file = proxy.path("portcullis.toml");
        let output = tools::portcullis(&[verb, &["-c", file.to_str().unwrap()]].concat());
        stdout(&output) + &stderr(&output)
    };
    let proxy = start();
    assert!(!said(&proxy, &["check"]).contains("warning"), "{}", said(&proxy, &["check"]));
    for name in ["root.pem", "root.key"] {
        fs::write(storage.join("local").join(name), "junk").unwrap();
    }
    for verb in [&["check"][..], &["certs", "list"]] {
        let said = said(&proxy, verb);
        assert!(said.contains("warning") && said.contains("sets it aside"), "{said}");
    }
    drop(proxy);
    let proxy = start();
    proxy.expect_words("ERROR the local authority cannot be used");
    // It is verified there.
    shown(&proxy, "app.test");
    for verb in [&["check"][..], &["certs", "list"], &["status"]] {
        let said = said(&proxy, verb);
        assert!(said.contains("root.key.damaged") && said.contains("must trust"), "{said}");
    }
}

/// A leaf of an authority between it and the root; both in PEM, and its key.
fn issued_by_another() -> (String, String, pki::Pair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "Between");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let other = KeyPair::generate().unwrap();
    let between = params.self_signed(&key).unwrap().pem();
    let namesake = params.self_signed(&other).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["app.test".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
    (between, namesake, pki::Pair { cert: leaf, key: key.serialize_pem() })
}

#[test]
fn check_finds_what_is_wrong_with_a_pair_with_its_place() {
    let home = folder();
    let file = home.path().join("portcullis.toml");
    let text = format!(
        "[server]\nhttp = '127.0.0.1:0'\nhttps = '127.0.0.1:0'\n[[site]]\nhost = 'app.test'\n\
         to = '127.0.0.1:1'\n{}\n",
        tls(home.path())
    );
    write_file(&file, &text, 0o644);
    let check = |pair: &pki::Pair| {
        write_pair(&home.path().join("site.pem"), pair);
        let output = tools::portcullis(&["check", "-c", file.to_str().unwrap()]);
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let place = "portcullis.toml:7:";
    let (code, words) = check(&pki::issue(&["app.test"]));
    assert!(code == Some(0) && !words.contains(place), "{words}");
    let warned = |pair: &pki::Pair, why: &str| {
        let (code, words) = check(pair);
        assert_eq!(code, Some(0), "{words}");
        assert!(words.contains(why) && words.contains(place), "{why}: {words}");
    };
    warned(&pki::expired(&["app.test"]), "expired on");
    warned(&pki::issue(&["other.test"]), "not for app.test");
    let (between, namesake, leaf) = issued_by_another();
    warned(&leaf, "no certificate of an authority between");
    let chain = |above: &str| pki::Pair { cert: leaf.cert.clone() + above, key: leaf.key.clone() };
    warned(&chain(&pki::root_pem()), "is not issued by");
    warned(&chain(&namesake), "is not signed by");
    let (_, words) = check(&chain(&between));
    assert!(!words.contains(place), "{words}");

    let mut pair = pki::issue(&["app.test"]);
    pair.key = leaf.key;
    let (code, words) = check(&pair);
    assert!(
        code == Some(78) && words.contains("different pairs") && words.contains(place),
        "{words}"
    );
    let Some(mut openssl) = tools::find("openssl") else { return };
    let path = |name: &str| home.path().join(name).display().to_string();
    let (key, cert) = (path("weak.key"), path("weak.pem"));
    let made = tools::run(openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-sha1",
        "-subj",
        "/CN=app.test",
        "-addext",
        "subjectAltName=DNS:app.test",
        "-keyout",
        &key,
        "-out",
        &cert,
    ]));
    if !made.status.success() {
        tools::skip("this openssl signs nothing with SHA-1");
        return;
    }
    let read = |path: &str| fs::read_to_string(path).unwrap();
    warned(&pki::Pair { cert: read(&cert), key: read(&key) }, "SHA-1");
}
