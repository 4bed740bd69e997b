//! TLS from outside: which certificate for which name, which versions, and what is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, SupportedCipherSuite};

use crate::harness::setup::{write_file, write_pair};
use crate::harness::tools::{self, stdout};
use crate::harness::{Client, Origin, PATIENCE, Proxy, Setup, Site, Wire, eventually, pki};

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

/// The names in the certificate that is shown to a client that asks for `name`.
#[track_caller]
fn shown_for(proxy: &Proxy, name: &str) -> Vec<String> {
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&[]), name).unwrap();
    names_in(&wire.session().peer_certificates().unwrap()[0])
}

fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names.value.general_names.iter().map(ToString::to_string).collect()
}

/// The alert with which a handshake for `name` is refused.
#[track_caller]
fn alert_for(proxy: &Proxy, name: &str) -> String {
    let refused = Wire::try_tls(proxy.https(), pki::trusting(&[]), name);
    refused.err().expect("a refusal").to_string()
}

#[test]
fn the_certificate_follows_the_name() {
    let origin = app();
    let proxy = Setup::new()
        .site(Site::named("a.test").to(&origin))
        .site(Site::named("b.test").and("www.b.test").to(&origin))
        .start();
    assert!(shown_for(&proxy, "a.test")[0].contains("a.test"));
    assert!(shown_for(&proxy, "b.test")[0].contains("b.test"));
    assert!(shown_for(&proxy, "www.b.test")[0].contains("b.test"));
    assert!(shown_for(&proxy, "A.TEST")[0].contains("a.test"));
}

#[test]
fn a_wildcard_covers_one_label() {
    let origin = app();
    let tls = "tls = { cert = 'certs/w.pem', key = 'certs/w.key' }";
    let folder = crate::harness::proxy::folder();
    write_pair(&folder.path().join("w.pem"), &pki::issue(&["*.app.test"]));
    let tls = tls.replace("certs", folder.path().to_str().unwrap());
    let proxy = Setup::new().site(Site::named("*.app.test").to(&origin).key(&tls)).start();
    assert_eq!(proxy.client_for("one.app.test").get("/").text(), "ok");
    assert!(alert_for(&proxy, "a.b.app.test").contains("UnrecognisedName"));
    assert!(alert_for(&proxy, "app.test").contains("UnrecognisedName"));
}

#[test]
fn a_name_without_a_certificate_gets_an_alert() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let alert = alert_for(&proxy, "other.test");
    assert!(alert.contains("UnrecognisedName"), "{alert}");
}

#[test]
fn no_name_gets_an_alert_unless_there_is_a_site_for_any() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let alert = alert_for(&proxy, "127.0.0.1");
    assert!(alert.contains("alert"), "{alert}");
    let proxy = Setup::new()
        .site(Site::named("app.test").to(&origin))
        .site(Site::named("*").and("127.0.0.1").to(&origin))
        .start();
    assert!(shown_for(&proxy, "127.0.0.1")[0].contains("any"));
}

#[test]
fn versions_1_2_and_1_3_and_nothing_older() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let settings = pki::trusting_pem(&pki::root_pem(), &["http/1.1"], &[version]);
        let mut wire = Wire::try_tls(proxy.https(), settings, "app.test").unwrap();
        assert_eq!(wire.session().protocol_version(), Some(expected));
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(wire.read_answer().text(), "ok");
    }
    let Some(mut openssl) = tools::find("openssl") else { return };
    let place = proxy.https().to_string();
    let output = tools::run(openssl.args([
        "s_client",
        "-connect",
        &place,
        "-servername",
        "app.test",
        "-tls1_1",
        "-cipher",
        "ALL:@SECLEVEL=0",
    ]));
    assert!(!output.status.success() || stdout(&output).contains("Cipher is (NONE)"));
}

/// All that is answered to these bytes.
fn answer_to(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(proxy.https()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    answer
}

/// The library closed without a word (tlsfuzzer: "message skipping").
#[test]
fn a_first_message_that_is_no_hello_gets_an_alert() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let finished = [22, 3, 1, 0, 4, 20, 0, 0, 0];
    assert_eq!(answer_to(&proxy, &finished), [21, 3, 3, 0, 2, 2, 10]);
}

/// It waited for more until the deadline of the handshake (tlsfuzzer: "heartbeat in handshake").
#[test]
fn what_comes_in_one_piece_with_the_hello_is_looked_at_when_it_comes() {
    let origin = app();
    let proxy = Proxy::to(&origin).limits("tls_handshake_timeout = '300s'").start();
    let name = "app.test".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(pki::trusting(&[]), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let heartbeat = [24, 3, 3, 0, 3, 1, 0, 0];
    bytes.extend(heartbeat);
    assert!(!answer_to(&proxy, &bytes).is_empty());
    proxy.expect_words("a TLS handshake failed: malformed");
}

#[test]
fn the_hybrid_key_exchange_is_preferred() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&[]), "app.test").unwrap();
    let group = wire.session().negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
}

/// The suite that is agreed on with a client that offers these, in this order.
#[track_caller]
fn suite_for(proxy: &Proxy, offered: &[SupportedCipherSuite]) -> CipherSuite {
    let settings = pki::trusting_with_suites(offered);
    let wire = Wire::try_tls(proxy.https(), settings, "app.test").unwrap();
    wire.session().negotiated_cipher_suite().unwrap().suite()
}

/// The order is the server's; a client that has ChaCha20 first has no AES instructions.
#[test]
fn suites_are_taken_in_our_order_but_chacha20_by_who_has_it_first() {
    use rustls::crypto::aws_lc_rs::cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 as OLD_AES_128,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 as OLD_AES_256,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 as OLD_CHACHA,
        TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 as OLD_RSA_CHACHA,
        TLS13_AES_128_GCM_SHA256 as AES_128, TLS13_AES_256_GCM_SHA384 as AES_256,
        TLS13_CHACHA20_POLY1305_SHA256 as CHACHA,
    };
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    for (offered, taken) in [
        (&[AES_256, CHACHA, AES_128][..], AES_128),
        (&[AES_256, CHACHA], AES_256),
        (&[CHACHA, AES_256, AES_128], CHACHA),
        (&[CHACHA], CHACHA),
        (&[OLD_AES_256, OLD_CHACHA, OLD_AES_128], OLD_AES_128),
        (&[OLD_CHACHA, OLD_AES_256, OLD_AES_128], OLD_CHACHA),
        // The certificate is not of the kind of the first one.
        (&[OLD_RSA_CHACHA, OLD_AES_128, OLD_CHACHA], OLD_CHACHA),
    ] {
        assert_eq!(suite_for(&proxy, offered), taken.suite(), "{offered:?}");
    }
}

#[test]
fn sessions_are_resumed_whichever_worker_answers() {
    let origin = app();
    let proxy = Proxy::to(&origin).server("workers = 2").start();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let settings = pki::trusting_pem(&pki::root_pem(), &["http/1.1"], &[version]);
        let mut kinds = Vec::new();
        for _ in 0..6 {
            let mut wire = Wire::try_tls(proxy.https(), settings.clone(), "app.test").unwrap();
            wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
            assert_eq!(wire.read_answer().status(), 200);
            kinds.push(wire.session().handshake_kind().unwrap());
        }
        let resumed = kinds.iter().filter(|kind| **kind == HandshakeKind::Resumed).count();
        assert!(resumed >= 5, "{version:?}: {kinds:?}");
    }
}

#[test]
fn a_session_of_one_site_does_not_open_another() {
    let (a, b) = (app(), app());
    let proxy =
        Setup::new().site(Site::named("a.test").to(&a)).site(Site::named("b.test").to(&b)).start();
    let settings = pki::trusting(&["http/1.1"]);
    let mut wire = Wire::try_tls(proxy.https(), settings.clone(), "a.test").unwrap();
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 200);
    wire.send("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
    assert_eq!(wire.read_answer().status(), 421);
    assert!(b.requests().is_empty());
}

#[test]
fn an_application_protocol_that_nobody_speaks_gets_an_alert() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    for protocol in ["foo", "acme-tls/1"] {
        let refused = Wire::try_tls(proxy.https(), pki::trusting(&[protocol]), "app.test");
        let alert = refused.err().expect("a refusal").to_string();
        assert!(alert.contains("NoApplicationProtocol"), "{protocol}: {alert}");
    }
}

#[test]
fn plain_http_on_the_tls_port_reaches_nobody() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let mut wire = Wire::connect(proxy.https());
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    wire.expect_end();
    let mut wire = proxy.wire();
    wire.send([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0, b'\r', b'\n', b'\r', b'\n']);
    wire.expect_end();
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_hello_in_small_pieces_is_a_normal_one() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let settings = pki::trusting(&["http/1.1"]);
    let name = rustls::pki_types::ServerName::try_from("app.test").unwrap();
    let mut session = rustls::ClientConnection::new(settings, name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut wire = Wire::connect(proxy.https());
    for byte in hello {
        wire.send([byte]);
    }
    assert_eq!(wire.read_exactly(1), [0x16], "a handshake record, not an alert");
}

#[test]
fn every_common_form_of_key_is_read() {
    let origin = app();
    let Some(_) = tools::find("openssl") else { return };
    let folder = crate::harness::proxy::folder();
    for (name, make) in [
        ("sec1", "openssl ecparam -name prime256v1 -genkey -noout -out K"),
        ("p384", "openssl ecparam -name secp384r1 -genkey -noout -out K"),
        ("pkcs8", "openssl genpkey -algorithm ed25519 -out K"),
        ("pkcs1", "openssl genrsa -traditional -out K 2048"),
        ("rsa8", "openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out K"),
    ] {
        let key = folder.path().join(format!("{name}.key"));
        let cert = key.with_extension("pem");
        let make = make.replace("-out K", &format!("-out {}", key.display()));
        let sign = format!(
            "openssl req -new -x509 -key {} -out {} -days 30 -subj /CN=app.test \
             -addext subjectAltName=DNS:app.test",
            key.display(),
            cert.display()
        );
        for line in [make, sign] {
            let mut words = line.split_whitespace();
            let mut command = tokio::process::Command::new(words.next().unwrap());
            let output = tools::run(command.args(words));
            assert!(output.status.success(), "{line}: {}", tools::stderr(&output));
        }
        crate::harness::proxy::open_to_proxy(&key, 0o600);
        crate::harness::proxy::open_to_proxy(&cert, 0o644);
        let tls = format!("tls = {{ cert = '{}', key = '{}' }}", cert.display(), key.display());
        let proxy = Proxy::to(&origin).first_site(|site| site.key(&tls)).start();
        let Some(mut curl) = tools::find("curl") else { continue };
        let place = format!("https://{}/", proxy.https());
        let output = tools::run(
            curl.args(["-sk", "-H", "Host: app.test", "--connect-to"])
                .args([format!("app.test:443:{}", proxy.https()), "https://app.test/".to_owned()]),
        );
        assert_eq!(stdout(&output), "ok", "{name} at {place}: {}", tools::stderr(&output));
    }
}

/// Starts a proxy that must not start; what it said, and its exit code.
#[track_caller]
fn refused(setup: Setup, mend: impl FnOnce(&Path)) -> (String, Option<i32>) {
    let mut proxy = Proxy::launch_after(setup, mend);
    let status = proxy.wait_for_exit();
    (proxy.words(), status.code())
}

#[test]
fn a_key_that_does_not_match_is_refused_at_start() {
    let origin = app();
    let (words, code) = refused(Proxy::to(&origin), |folder| {
        let key = folder.join("certs/app.test.key");
        write_file(&key, &KeyPair::generate().unwrap().serialize_pem(), 0o600);
    });
    assert_eq!(code, Some(78), "{words}");
    assert!(words.contains("app.test.key is not the key of"), "{words}");
}

#[test]
fn a_missing_or_empty_certificate_is_refused_at_start() {
    let origin = app();
    let (words, code) = refused(Proxy::to(&origin), |folder| {
        std::fs::remove_file(folder.join("certs/app.test.pem")).unwrap();
    });
    assert_eq!(code, Some(78), "{words}");
    assert!(words.contains("app.test.pem"), "{words}");
    let (words, code) = refused(Proxy::to(&origin), |folder| {
        write_file(&folder.join("certs/app.test.pem"), "not a certificate\n", 0o644);
    });
    assert_eq!(code, Some(78), "{words}");
    assert!(words.contains("app.test.pem"), "{words}");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let origin = app();
    let (words, code) = refused(Proxy::to(&origin), |folder| {
        let key = folder.join("certs/app.test.key");
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert!([Some(77), Some(78)].contains(&code), "{code:?}: {words}");
    assert!(words.contains("chmod") && words.contains("app.test.key"), "{words}");
}

#[test]
fn the_local_authority_makes_certificates_that_its_root_vouches_for() {
    let origin = app();
    let site = Site::named("localhost").and("x.localhost").and("db.internal").and("127.0.0.1");
    let proxy = Setup::new()
        .site(site.key("tls = 'auto'").to(&origin))
        .site(Site::named("box.test").key("tls = 'local'").to(&origin))
        .start();
    let file = proxy.path("portcullis.toml");
    let root = tools::portcullis(&["certs", "trust", "--print", "-c", file.to_str().unwrap()]);
    let root = stdout(&root);
    assert!(root.contains("BEGIN CERTIFICATE"), "{root}");
    for name in ["localhost", "x.localhost", "db.internal", "127.0.0.1", "box.test"] {
        let client = Client::plain(proxy.https(), name).trusting(root.clone(), name);
        assert_eq!(client.get("/").text(), "ok", "{name}");
        let settings = pki::trusting_pem(&root, &[], rustls::ALL_VERSIONS);
        let wire = Wire::try_tls(proxy.https(), settings, name).unwrap();
        let leaf = &wire.session().peer_certificates().unwrap()[0];
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
        let validity = leaf.validity();
        let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
        assert!(days <= 90, "{name}: {days} days");
    }
}

#[test]
fn the_local_authority_is_kept_and_its_keys_are_private() {
    let origin = app();
    let folder = crate::harness::proxy::folder();
    let storage = folder.path().join("storage");
    let setup = || {
        Setup::new()
            .acme(&format!("storage = '{}'", storage.display()))
            .site(Site::named("localhost").key("tls = 'auto'").to(&origin))
    };
    let chain = |proxy: &Proxy| {
        let file = proxy.path("portcullis.toml");
        stdout(&tools::portcullis(&["certs", "trust", "--print", "-c", file.to_str().unwrap()]))
    };
    let first = chain(&setup().start());
    let second = chain(&setup().start());
    assert!(first.contains("BEGIN CERTIFICATE"), "{first}");
    assert_eq!(first, second, "the authority outlives a restart");
    let mut files = vec![storage];
    let mut keys = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if std::fs::read_to_string(&path).unwrap_or_default().contains("PRIVATE KEY") {
            keys += 1;
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    assert!(keys > 0, "no key was kept");
}

#[test]
fn certs_list_shows_what_there_is() {
    let origin = app();
    let proxy = Setup::new()
        .site(Site::named("app.test").to(&origin))
        .site(Site::named("localhost").key("tls = 'auto'").to(&origin))
        .start();
    let file = proxy.path("portcullis.toml");
    let output = tools::portcullis(&["certs", "list", "-c", file.to_str().unwrap()]);
    let text = stdout(&output);
    for word in ["app.test", "localhost", "Test Root", "certs/app.test.pem"] {
        assert!(text.contains(word), "{word} in {text}{}", tools::stderr(&output));
    }
}

#[test]
fn a_new_pair_of_files_is_taken_up_by_a_reload() {
    let origin = app();
    let proxy = Proxy::to(&origin).start();
    let before = serial(&proxy);
    write_pair(&proxy.path("certs/app.test.pem"), &pki::issue(&["app.test"]));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", tools::stderr(&output));
    eventually("the new certificate", || serial(&proxy) != before);
}

#[track_caller]
fn serial(proxy: &Proxy) -> Vec<u8> {
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&[]), "app.test").unwrap();
    wire.session().peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn each_site_has_its_own_rules() {
    let origin = app();
    let proxy = Setup::new()
        .site(Site::named("old.test").to(&origin))
        .site(Site::named("new.test").to(&origin).key("tls_min = '1.3'"))
        .site(Site::named("one.test").to(&origin).key("alpn = 'http/1.1'"))
        .site(Site::named("two.test").to(&origin).key("alpn = ['h2']"))
        .start();
    let agreed = |name: &str, alpn: &[&str], version| {
        let settings = pki::trusting_pem(&pki::root_pem(), alpn, &[version]);
        let wire =
            Wire::try_tls(proxy.https(), settings, name).map_err(|error| error.to_string())?;
        let alpn = wire.session().alpn_protocol().unwrap_or_default();
        Ok::<_, String>(String::from_utf8_lossy(alpn).into_owned())
    };
    let (old, new) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let both = &["h2", "http/1.1"];
    assert_eq!(agreed("old.test", both, old).unwrap(), "h2");
    assert!(agreed("new.test", both, old).unwrap_err().contains("ProtocolVersion"));
    assert_eq!(agreed("new.test", both, new).unwrap(), "h2");
    assert_eq!(agreed("one.test", both, new).unwrap(), "http/1.1");
    assert!(agreed("one.test", &["h2"], new).unwrap_err().contains("NoApplicationProtocol"));
    assert_eq!(agreed("two.test", both, new).unwrap(), "h2");
    assert!(agreed("two.test", &["http/1.1"], new).unwrap_err().contains("NoApplicationProtocol"));
    // Who offers nothing would speak HTTP/1.1.
    let silent = pki::trusting_pem(&pki::root_pem(), &[], &[old]);
    let mut wire = Wire::try_tls(proxy.https(), silent, "two.test").unwrap();
    let _ = wire.try_send("GET / HTTP/1.1\r\nHost: two.test\r\n\r\n");
    assert_eq!(wire.try_read_until("\r\n", crate::PATIENCE), None);
}

#[test]
fn secrets_are_written_down_only_when_both_the_file_and_the_environment_say_so() {
    let origin = app();
    let folder = crate::harness::proxy::folder();
    let log = folder.path().join("keys.log");
    let environment = log.to_str().unwrap().to_owned();
    let proxy = Proxy::to(&origin).environment("SSLKEYLOGFILE", &environment).start();
    assert_eq!(proxy.client().get("/").text(), "ok");
    assert!(!log.exists(), "the environment alone does nothing");
    drop(proxy);
    let proxy = Proxy::to(&origin).server("key_log = true").start();
    proxy.expect_words("SSLKEYLOGFILE is not in the environment");
    drop(proxy);
    let proxy =
        Proxy::to(&origin).server("key_log = true").environment("SSLKEYLOGFILE", &environment);
    let proxy = proxy.start();
    proxy.expect_words("who reads it reads the traffic");
    assert_eq!(proxy.client().get("/").text(), "ok");
    let written = || std::fs::read_to_string(&log).unwrap();
    eventually("the secrets", || written().contains("SERVER_TRAFFIC_SECRET_0 "));
    let mode = std::fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(proxy.reload(&[]).status.success());
    let before = written().len();
    assert_eq!(proxy.client().get("/").text(), "ok");
    eventually("more of them after a reload", || written().len() > before);
}
