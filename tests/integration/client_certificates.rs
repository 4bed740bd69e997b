//! Certificates of clients: who is let in, what the application is told, and that no way leads
//! around them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::harness::setup::{write_file, write_pair};
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Client, Origin, Proxy, Setup, Site, Wire, pki, proxy};

const HOUR: Duration = Duration::from_secs(3600);

/// An authority of clients, in a folder that the proxy may read.
struct Clients {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// What one client has.
struct Identity {
    cert: CertificateDer<'static>,
    key: KeyPair,
}

impl Clients {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let clients = Self { issuer, folder: proxy::folder() };
        write_file(&clients.ca(), &clients.issuer.pem(), 0o644);
        clients
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn crl(&self) -> PathBuf {
        self.folder.path().join("crl.pem")
    }

    fn issue(&self, name: &str, serial: u8) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(vec![serial]));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity { cert, key }
    }

    /// Writes a list that is good until then.
    fn revoke(&self, serials: &[u8], until: SystemTime) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(vec![*serial]),
            revocation_time: (SystemTime::now() - HOUR).into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: (SystemTime::now() - 48 * HOUR).into(),
            next_update: until.into(),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        write_file(&self.crl(), &list, 0o644);
    }

    /// The keys of a site.
    fn of(&self, site: Site) -> Site {
        site.key(&format!("client_ca = '{}'", self.ca().display()))
    }

    fn of_unrevoked(&self, site: Site) -> Site {
        self.of(site).key(&format!("client_crl = '{}'", self.crl().display()))
    }
}

fn settings(
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki::root_pem().as_bytes()).unwrap()).unwrap();
    let builder =
        ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { cert, key }) => {
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
            // Whatever it is: the server is to judge.
            let shown = CertifiedKey::new(vec![cert.clone()], key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
        }
    })
}

fn with(identity: &Identity) -> Arc<ClientConfig> {
    settings(Some(identity), rustls::ALL_VERSIONS)
}

/// The status of `GET /` for `host` on a connection for `name`; `None` where there is none.
fn ask(proxy: &Proxy, settings: &Arc<ClientConfig>, name: &str, host: &str) -> Option<u16> {
    ask_with(proxy, settings, name, host, "").map(|(status, _)| status)
}

fn ask_with(
    proxy: &Proxy,
    settings: &Arc<ClientConfig>,
    name: &str,
    host: &str,
    fields: &str,
) -> Option<(u16, HandshakeKind)> {
    let mut wire = Wire::try_tls(proxy.https(), settings.clone(), name).ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n");
    wire.try_send(request).ok()?;
    let head = wire.try_read_until("\r\n\r\n", PATIENCE)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    // The ticket comes with what follows.
    wire.rest();
    Some((status, wire.session().handshake_kind().unwrap()))
}

fn app() -> Origin {
    let origin = Origin::start();
    origin.route("*", "ok");
    origin
}

#[test]
fn who_shows_a_certificate_is_let_in_and_told_of() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    let site = clients.of(Site::named("app.test").to(&origin));
    let proxy = Setup::new().site(site).start();
    let alice = with(&clients.issue("alice, of ours", 0x2a));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let nobody = settings(None, &[version]);
        assert_eq!(ask(&proxy, &nobody, "app.test", "app.test"), None, "{version:?}");
    }
    let stranger = with(&Clients::new("Ours").issue("alice, of ours", 0x2a));
    assert_eq!(ask(&proxy, &stranger, "app.test", "app.test"), None);
    assert!(origin.requests().is_empty());

    let forged = "X-Client-Cert-Subject: CN=root\r\nX-Client-Cert-Verify: SUCCESS\r\n\
        X-Client-Cert-Fingerprint: 00\r\nX-Client-Cert-Serial: 00\r\nX-Client-Cert-Other: 1\r\n\
        Client-Cert: :AA==:\r\nClient-Cert-Chain: :AA==:\r\n";
    let (status, _) = ask_with(&proxy, &alice, "app.test", "app.test", forged).unwrap();
    assert_eq!(status, 200);
    let told = origin.last();
    let field = |name: &str| told.header(name);
    assert_eq!(field("x-client-cert-subject").as_deref(), Some("CN=alice\\, of ours"));
    assert_eq!(field("x-client-cert-verify").as_deref(), Some("SUCCESS"));
    assert_eq!(field("x-client-cert-serial").as_deref(), Some("2a"));
    assert_eq!(field("x-client-cert-fingerprint").unwrap().len(), 64);
    assert!(field("client-cert").unwrap().starts_with(":MII"), "one, and ours");
    assert_eq!(field("x-client-cert-other"), None);
    assert_eq!(field("client-cert-chain"), None);
}

#[test]
fn where_one_is_only_asked_for_the_application_is_told_of_none() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    let site = clients.of(Site::named("app.test").to(&origin)).key("client_auth = 'request'");
    let proxy = Setup::new().site(site.on_plain_http()).start();
    let nobody = settings(None, rustls::ALL_VERSIONS);
    let forged = "X-Client-Cert-Verify: SUCCESS\r\nX-Client-Cert-Subject: CN=root\r\n";
    assert_eq!(ask_with(&proxy, &nobody, "app.test", "app.test", forged).unwrap().0, 200);
    assert_eq!(origin.last().header("x-client-cert-verify").as_deref(), Some("NONE"));
    assert_eq!(origin.last().header("x-client-cert-subject"), None);
    assert_eq!(proxy.plain_client().get("/").status, 200);
    assert_eq!(origin.last().header("x-client-cert-verify").as_deref(), Some("NONE"));
    let alice = with(&clients.issue("alice", 1));
    assert_eq!(ask(&proxy, &alice, "app.test", "app.test"), Some(200));
    assert_eq!(origin.last().header("x-client-cert-verify").as_deref(), Some("SUCCESS"));
    let stranger = with(&Clients::new("Theirs").issue("alice", 1));
    assert_eq!(ask(&proxy, &stranger, "app.test", "app.test"), None, "what is shown must be good");
}

/// Two sites under the very same certificate, one of which asks for certificates of clients.
fn open_and_closed(origin: &Origin, clients: &Clients) -> Setup {
    let pair = clients.folder.path().join("site.pem");
    write_pair(&pair, &pki::issue(&["open.test", "closed.test"]));
    let tls = format!(
        "tls = {{ cert = '{}', key = '{}' }}",
        pair.display(),
        pair.with_extension("key").display()
    );
    Setup::new()
        .site(Site::named("open.test").to(origin).key(&tls))
        .site(clients.of(Site::named("closed.test").to(origin).key(&tls)))
}

#[test]
fn another_sites_name_leads_nobody_around_it() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    let proxy = open_and_closed(&origin, &clients).start();
    let nobody = settings(None, rustls::ALL_VERSIONS);
    assert_eq!(ask(&proxy, &nobody, "open.test", "open.test"), Some(200));
    origin.forget();
    assert_eq!(ask(&proxy, &nobody, "open.test", "closed.test"), Some(421));
    assert_eq!(ask(&proxy, &nobody, "OPEN.test", "CLOSED.test."), Some(421));
    for spelling in ["closed.test", "CLOSED.TEST"] {
        assert_eq!(ask(&proxy, &nobody, spelling, "closed.test"), None, "{spelling}");
    }
    // Who was let in there is nobody here, and the other way round.
    let alice = with(&clients.issue("alice", 1));
    assert_eq!(ask(&proxy, &alice, "closed.test", "open.test"), Some(421));
    // As browsers do it over HTTP/2 where one certificate is for both names.
    let coalesced = Client::secure(proxy.https(), "open.test").http2().host("closed.test");
    assert_eq!(coalesced.get("/").status, 421);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_names_no_server_is_under_the_rules_of_the_address() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    let proxy = Setup::new()
        .site(Site::named("open.test").to(&origin))
        .site(clients.of(Site::named("127.0.0.1").to(&origin)))
        .site(clients.of(Site::named("*.closed.test").to(&origin)))
        .start();
    let nobody = settings(None, rustls::ALL_VERSIONS);
    let place = proxy.https().to_string();
    assert_eq!(ask(&proxy, &nobody, "127.0.0.1", &place), None);
    assert_eq!(ask(&proxy, &nobody, "127.0.0.1", "open.test"), None);
    assert_eq!(ask(&proxy, &nobody, "open.test", &place), Some(421));
    let alice = with(&clients.issue("alice", 1));
    assert_eq!(ask(&proxy, &alice, "127.0.0.1", &place), Some(200));
    assert_eq!(ask(&proxy, &alice, "127.0.0.1", "open.test"), Some(421));
}

#[test]
fn an_application_over_http_2_is_told_too() {
    let (origin, clients) = (Origin::start_h2c(), Clients::new("Ours"));
    origin.route("*", "ok");
    let target = format!("h2c://127.0.0.1:{}", origin.port());
    let proxy = Setup::new().site(clients.of(Site::named("app.test").to(&target))).start();
    let alice = with(&clients.issue("alice", 1));
    let forged = "X-Client-Cert-Subject: CN=root\r\nClient-Cert: :AA==:\r\n";
    assert_eq!(ask_with(&proxy, &alice, "app.test", "app.test", forged).unwrap().0, 200);
    assert_eq!(origin.last().header("x-client-cert-subject").as_deref(), Some("CN=alice"));
    assert!(origin.last().header("client-cert").unwrap().starts_with(":MII"));
}

#[test]
fn a_session_of_another_site_or_of_other_authorities_is_not_resumed() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    let proxy = open_and_closed(&origin, &clients).start();
    let alice = clients.issue("alice", 1);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let alice = settings(Some(&alice), &[version]);
        let again = || ask_with(&proxy, &alice, "closed.test", "closed.test", "").unwrap();
        assert_eq!(again(), (200, HandshakeKind::Full), "{version:?}");
        assert_eq!(again(), (200, HandshakeKind::Resumed), "{version:?}");
        assert_eq!(origin.last().header("x-client-cert-subject").as_deref(), Some("CN=alice"));
    }
    // Another authority has taken over.
    let alice = settings(Some(&alice), rustls::ALL_VERSIONS);
    assert_eq!(ask(&proxy, &alice, "closed.test", "closed.test"), Some(200));
    let others = Clients::new("Theirs");
    write_file(&clients.ca(), &others.issuer.pem(), 0o644);
    proxy.expect_words("certificates are read anew");
    assert_eq!(ask(&proxy, &alice, "closed.test", "closed.test"), None);
    let bob = with(&others.issue("bob", 1));
    assert_eq!(ask(&proxy, &bob, "closed.test", "closed.test"), Some(200));
}

/// OpenSSL offers any session for any name, as an attacker would.
#[test]
fn openssl_cannot_bring_a_session_from_the_open_site_to_the_closed_one() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    let proxy = open_and_closed(&origin, &clients).start();
    let session = clients.folder.path().join("session");
    let talk = |version: &str, name: &str, file: &str| {
        tools::find("openssl")?;
        let script = format!(
            "(printf 'GET / HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) \
             | openssl s_client -connect {} -servername {name} {version} -quiet {file} {} 2>&1",
            proxy.https(),
            session.display()
        );
        let mut bash = tools::find("bash")?;
        Some(stdout(&tools::run(bash.args(["-c", &script]))))
    };
    for version in ["-tls1_3", "-tls1_2"] {
        let Some(first) = talk(version, "open.test", "-sess_out") else { return };
        assert!(first.contains("HTTP/1.1 200"), "{version}: {first}");
        assert!(session.exists(), "{version}");
        origin.forget();
        let brought = talk(version, "closed.test", "-sess_in").unwrap();
        assert!(!brought.contains("HTTP/1.1 200"), "{version}: {brought}");
        assert!(origin.requests().is_empty(), "{version}");
        std::fs::remove_file(&session).unwrap();
    }
}

#[test]
fn who_is_revoked_stays_out_from_the_moment_that_the_list_says_so() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    clients.revoke(&[1], SystemTime::now() + HOUR);
    let site = clients.of_unrevoked(Site::named("app.test").to(&origin));
    let proxy = Setup::new().site(site).start();
    let (alice, bob) = (with(&clients.issue("alice", 1)), with(&clients.issue("bob", 2)));
    assert_eq!(ask(&proxy, &alice, "app.test", "app.test"), None);
    assert_eq!(ask(&proxy, &bob, "app.test", "app.test"), Some(200));
    let mut open = Wire::try_tls(proxy.https(), bob.clone(), "app.test").unwrap();
    let request = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    open.send(request);
    assert_eq!(open.read_answer().status(), 200);

    // A damaged list changes nothing, loudly.
    write_file(&clients.crl(), "nothing", 0o644);
    proxy.expect_words("holds no revocation list");
    assert_eq!(ask(&proxy, &alice, "app.test", "app.test"), None);
    assert_eq!(ask(&proxy, &bob, "app.test", "app.test"), Some(200));
    let status =
        tools::portcullis(&["status", "-c", proxy.path("portcullis.toml").to_str().unwrap()]);
    assert_eq!(status.status.code(), Some(1), "{}", stdout(&status));
    assert_ne!(proxy.reload(&[]).status.code(), Some(0), "a reload is refused");

    clients.revoke(&[1, 2], SystemTime::now() + HOUR);
    proxy.expect_words("certificates are read anew");
    // Not by a new connection, not by a session, and not on the one that was open.
    assert_eq!(ask(&proxy, &bob, "app.test", "app.test"), None);
    open.send(request);
    assert_eq!(open.read_answer().status(), 421);
    let carol = with(&clients.issue("carol", 3));
    assert_eq!(ask(&proxy, &carol, "app.test", "app.test"), Some(200));
}

/// It was taken, every client was refused from then on, and the log said "other".
#[test]
fn a_list_that_its_authority_has_not_signed_locks_nobody_out() {
    let (origin, clients, namesake) = (app(), Clients::new("Ours"), Clients::new("Ours"));
    clients.revoke(&[1], SystemTime::now() + HOUR);
    let good = std::fs::read(clients.crl()).unwrap();
    let site = clients.of_unrevoked(Site::named("app.test").to(&origin));
    let proxy = Setup::new().site(site).start();
    let (alice, bob) = (with(&clients.issue("alice", 1)), with(&clients.issue("bob", 2)));

    let mut bent = CertificateRevocationListDer::from_pem_slice(&good).unwrap().to_vec();
    *bent.last_mut().unwrap() ^= 1;
    let bent = STANDARD.encode(bent);
    let bent = format!("-----BEGIN X509 CRL-----\n{bent}\n-----END X509 CRL-----\n");
    namesake.revoke(&[], SystemTime::now() + HOUR);
    let forged = std::fs::read_to_string(namesake.crl()).unwrap();
    let file = proxy.path("portcullis.toml");
    let words = "crl.pem: the revocation list of CN=Ours is not signed by it (damaged, or of \
        another authority with the same name)";
    for list in [bent, forged] {
        write_file(&clients.crl(), &list, 0o644);
        let reload = proxy.reload(&[]);
        assert_ne!(reload.status.code(), Some(0), "{}", stdout(&reload));
        assert!(stderr(&reload).contains(words), "{}", stderr(&reload));
        let check = tools::portcullis(&["check", "-c", file.to_str().unwrap()]);
        assert_ne!(check.status.code(), Some(0), "nor would it start: {}", stdout(&check));
        proxy.expect_words(words);
        assert_eq!(ask(&proxy, &alice, "app.test", "app.test"), None);
        assert_eq!(ask(&proxy, &bob, "app.test", "app.test"), Some(200));
    }
    let status = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
    assert_eq!(status.status.code(), Some(1), "{}", stdout(&status));
}

/// As the least command of OpenSSL makes them, which older servers take.
fn of_version_1(clients: &Clients) -> Option<Identity> {
    tools::find("openssl")?;
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap();
    let at = |name: &str| clients.folder.path().join(name).display().to_string();
    write_file(Path::new(&at("request.pem")), &request.pem().unwrap(), 0o600);
    write_file(Path::new(&at("ca.key")), &clients.issuer.key().serialize_pem(), 0o600);
    // Newer ones make version 3 unless they are told not to, and older ones do not know the option.
    let sign = |option: &[&str]| {
        let mut openssl = tools::find("openssl").unwrap();
        openssl.args(["x509", "-req", "-set_serial", "9", "-in", &at("request.pem")]);
        openssl.args(["-CA", &at("ca.pem"), "-CAkey", &at("ca.key")]).args(option);
        tools::run(&mut openssl)
    };
    let signed = Some(sign(&["-x509v1"])).filter(|signed| signed.status.success());
    let signed = signed.unwrap_or_else(|| sign(&[]));
    let cert = CertificateDer::from_pem_slice(&signed.stdout).unwrap();
    Some(Identity { cert, key })
}

/// It was said that it was the client's certificate, and not what was wrong with it.
#[test]
fn the_log_says_what_is_wrong_with_the_certificate_of_a_client() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    clients.revoke(&[1], SystemTime::now() + HOUR);
    let site = clients.of_unrevoked(Site::named("app.test").to(&origin));
    let of = |identity| settings(identity, rustls::ALL_VERSIONS);
    let refused = |settings: &Arc<ClientConfig>, words: &str| {
        let proxy = Setup::new().site(site.clone()).start();
        assert_eq!(ask(&proxy, settings, "app.test", "app.test"), None);
        proxy.expect_words(&format!("a TLS handshake failed: client_certificate: {words}"));
    };
    refused(&of(None), "none was shown");
    refused(&with(&clients.issue("alice", 1)), "it was revoked");
    refused(&with(&Clients::new("Theirs").issue("eve", 2)), "no authority in client_ca");
    if let Some(old) = of_version_1(&clients) {
        refused(&with(&old), "it is of X.509 version 1, not 3");
    }
}

#[test]
fn a_reload_that_requires_certificates_holds_for_connections_that_are_open() {
    let (origin, clients) = (app(), Clients::new("Ours"));
    let mut proxy = Proxy::to(&origin).start();
    let mut open = proxy.tls_wire();
    let request = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    open.send(request);
    assert_eq!(open.read_answer().status(), 200);
    proxy.rewrite(|setup| setup.first_site(|site| clients.of(site)));
    let reload = proxy.reload(&[]);
    // Where the sandbox has no right on the new file, it takes a restart, which is said.
    if !reload.status.success() {
        let words = stdout(&reload) + &stderr(&reload);
        assert!(words.contains("client_ca"), "{words}");
        return;
    }
    open.send(request);
    assert_eq!(open.read_answer().status(), 421);
}

/// As an authority's own host leaves them: what a reload or an upgrade cannot read opens nothing.
#[test]
fn rules_that_only_root_could_read_hold_after_reloads_and_upgrades() {
    if !rustix::process::geteuid().is_root() {
        return tools::skip("takes root");
    }
    let (origin, clients) = (app(), Clients::new("Ours"));
    let (alice, bob) = (with(&clients.issue("alice", 7)), with(&clients.issue("bob", 8)));
    clients.revoke(&[8], SystemTime::now() + HOUR);
    for path in [clients.ca(), clients.crl()] {
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let site = clients.of_unrevoked(Site::named("app.test").to(&origin));
    let mut proxy = Proxy::start_copy_after(Setup::new().site(site), |_| {});
    let nobody = settings(None, rustls::ALL_VERSIONS);
    let expect_closed = |proxy: &Proxy, when: &str| {
        let asked = |who| ask(proxy, who, "app.test", "app.test");
        assert_eq!((asked(&nobody), asked(&bob), asked(&alice)), (None, None, Some(200)), "{when}");
    };
    expect_closed(&proxy, "at the start");
    for _ in 0..2 {
        let reload = proxy.reload(&[]);
        assert!(reload.status.success(), "{}", stdout(&reload) + &stderr(&reload));
        expect_closed(&proxy, "after a reload");
        proxy.upgrade();
        expect_closed(&proxy, "after an upgrade");
    }
    // Other rules with the same files take nothing new from the disk.
    proxy.rewrite(|setup| setup.first_site(|site| site.key("client_auth = 'request'")));
    let reload = proxy.reload(&[]);
    assert!(reload.status.success(), "{}", stdout(&reload) + &stderr(&reload));
    let asked = |who| ask(&proxy, who, "app.test", "app.test");
    assert_eq!((asked(&nobody), asked(&bob), asked(&alice)), (Some(200), None, Some(200)));
    // A list that is renewed cannot be read by whoever serves by now.
    clients.revoke(&[7, 8], SystemTime::now() + 2 * HOUR);
    std::os::unix::fs::chown(clients.crl(), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(clients.crl(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let reload = proxy.reload(&[]);
    let words = stdout(&reload) + &stderr(&reload);
    assert!(words.contains("crl.pem has changed and cannot be read"), "{words}");
}

/// What `check` says of a site with these keys.
fn checked(folder: &Path, keys: &str) -> (Option<i32>, String) {
    let file = folder.join("portcullis.toml");
    let text = format!(
        "[server]\nhttp = '127.0.0.1:0'\nhttps = '127.0.0.1:0'\n[acme]\nstorage = '{}'\n[[site]]\n\
         host = 'app.test'\ntls = 'local'\nto = '127.0.0.1:1'\n{keys}\n",
        folder.join("storage").display()
    );
    write_file(&file, &text, 0o644);
    let output = tools::portcullis(&["check", "-c", file.to_str().unwrap()]);
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn what_would_let_in_too_many_or_nobody_is_refused_with_its_place() {
    let clients = Clients::new("Ours");
    let folder = clients.folder.path();
    let ca = format!("client_ca = '{}'", clients.ca().display());
    let crl = format!("client_crl = '{}'", clients.crl().display());
    assert_eq!(checked(folder, &ca).0, Some(0));
    let refused = |keys: &str, why: &str| {
        let (code, words) = checked(folder, keys);
        assert_eq!(code, Some(78), "{keys}: {words}");
        assert!(words.contains(why) && words.contains("portcullis.toml:"), "{keys}: {words}");
    };
    refused(&format!("{ca}\nredirect = 'off'"), "to everybody on plain HTTP");
    refused(&format!("{ca}\n{crl}"), "there is no file");
    clients.revoke(&[], SystemTime::now() - HOUR);
    refused(&format!("{ca}\n{crl}"), "was to be replaced until");
    clients.revoke(&[], SystemTime::now() + HOUR);
    assert_eq!(checked(folder, &format!("{ca}\n{crl}")).0, Some(0));
    let theirs = Clients::new("Theirs");
    theirs.revoke(&[], SystemTime::now() + HOUR);
    let other = format!("client_crl = '{}'", theirs.crl().display());
    refused(&format!("{ca}\n{other}"), "of none of the authorities");
    write_file(&clients.ca(), "-----BEGIN nothing", 0o644);
    refused(&ca, "ca.pem");
}
