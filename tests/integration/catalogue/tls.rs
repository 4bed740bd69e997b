//! TLS towards clients, and towards apps.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use super::stage::{Row, Stage, echoing, play};
use crate::harness::tools::{self, stderr, stdout};
use crate::harness::wire::End;
use crate::harness::{Origin, Proxy, Setup, Site, Wire, pki};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("SNI against Host", sni_against_host),
    ("name spelling", spellings),
    ("fragmented ClientHello", fragments),
    ("resumption across sites", resumption),
    ("client certificates fail closed", client_certificates),
    ("ALPN", alpn),
    ("versions, renegotiation", versions),
    ("0-RTT replay", early_data),
    ("floods within the protocol", floods),
    ("plaintext on 443, TLS on 80", plaintext),
    ("upstream TLS", upstream),
];

#[test]
fn tls() {
    let (a, b) = (echoing(), echoing());
    let proxy = Setup::new()
        .limits("tls_handshake_timeout = '2s'")
        .site(Site::named("app.test").to(&a).on_plain_http())
        .site(Site::named("b.test").to(&b).on_plain_http())
        .start();
    play(&Stage::of(a, proxy), ROWS);
    assert!(b.requests().iter().all(|request| request.target == "/b"), "{:?}", b.requests());
}

fn try_tls(stage: &Stage, config: Arc<ClientConfig>, name: &str) -> std::io::Result<Wire> {
    Wire::try_tls(stage.proxy.https(), config, name)
}

fn ask(wire: &mut Wire, host: &str, target: &str) -> u16 {
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    wire.read_answer().status()
}

/// The app of `b.test` is asked for nothing but `/b`: the end of the test looks.
fn sni_against_host(stage: &Stage) {
    for host in ["b.test", "B.TEST", "b.test.", "b.test:443"] {
        stage.case(host, || {
            let mut wire = stage.proxy.tls_wire();
            assert_eq!(ask(&mut wire, host, "/wrong"), 421);
            assert_eq!(ask(&mut wire, "app.test", "/p"), 200, "the connection is good for its own");
            let client = stage.proxy.client().http2().host(host.trim_end_matches(":443"));
            assert_eq!(client.get("/wrong").status, 421);
            let mut wire = stage.proxy.tls_wire();
            wire.send(format!("GET https://{host}/wrong HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(wire.read_answer().status(), 421);
        });
    }
    stage.case("a name that nobody has", || {
        let mut wire = stage.proxy.tls_wire();
        assert!([404, 421].contains(&ask(&mut wire, "other.test", "/wrong")));
    });
    stage.case("its own name", || {
        let mut wire = try_tls(stage, pki::trusting(&["http/1.1"]), "b.test").unwrap();
        assert_eq!(ask(&mut wire, "b.test", "/b"), 200);
        assert_eq!(ask(&mut wire, "app.test", "/wrong"), 421);
    });
    stage.heard();
}

/// A ClientHello of TLS 1.2 that asks for `name`, as it stands.
pub(super) fn hello(name: &[u8]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let sni = sized(&[&[0][..], &sized(name)].concat());
    let extension = |kind: u16, data: &[u8]| [&kind.to_be_bytes(), &*sized(data)].concat();
    let extensions = [
        extension(0, &sni),
        extension(10, &sized(&[0, 0x1d, 0, 0x17])),
        extension(11, &[1, 0]),
        extension(13, &sized(&[4, 3, 8, 4, 4, 1, 8, 7])),
    ]
    .concat();
    let suites = sized(&[0xc0, 0x2b, 0xc0, 0x2f, 0xcc, 0xa9]);
    let body = [&[3, 3][..], &[7; 32], &[0], &suites, &[1, 0], &sized(&extensions)].concat();
    let length = (body.len() as u32).to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

/// Handshake messages in records of at most `size` bytes.
pub(super) fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record =
        |piece: &[u8]| [&[22, 3, 1][..], &(piece.len() as u16).to_be_bytes(), piece].concat();
    message.chunks(size).flat_map(record).collect()
}

/// The first record that comes: 22 for a handshake, else the description of an alert.
fn reaction(stage: &Stage, bytes: &[u8]) -> Result<(), u8> {
    let mut wire = Wire::connect(stage.proxy.https());
    wire.send(bytes);
    let head = wire.read_exactly(5);
    match head[0] {
        22 => Ok(()),
        21 => Err(wire.read_exactly(2)[1]),
        other => panic!("a record of type {other}"),
    }
}

fn spellings(stage: &Stage) {
    const UNRECOGNIZED_NAME: u8 = 112;
    for name in ["app.test", "APP.TEST", "App.Test"] {
        stage.case(name, || {
            assert_eq!(reaction(stage, &records(&hello(name.as_bytes()), 16_000)), Ok(()));
        });
    }
    // The dot at the end is no part of the name there (RFC 6066 §3): the site's rules, or an alert.
    for name in ["app.test.", "APP.TEST."] {
        stage.case(name, || {
            let told = reaction(stage, &records(&hello(name.as_bytes()), 16_000));
            assert!(matches!(told, Ok(()) | Err(47 | 50 | UNRECOGNIZED_NAME)), "{told:?}");
        });
    }
    let long = format!("{}.test", "a".repeat(300));
    let labels = "a.".repeat(150) + "test";
    for name in [
        "",
        ".",
        "127.0.0.1",
        "::1",
        "[::1]",
        "*.test",
        "x.app.test",
        "app.test.evil.test",
        "app.test\0",
        "app.test\0.evil.test",
        "app test",
        "../app.test",
        "app.test:443",
        "\u{e9}.test",
        &long,
        &labels,
    ] {
        stage.case(&name.escape_debug().to_string(), || {
            let told = reaction(stage, &records(&hello(name.as_bytes()), 16_000));
            assert!(told.is_err(), "{name:?} was given a certificate");
        });
    }
    stage.case("other.test", || {
        let told = reaction(stage, &records(&hello(b"other.test"), 16_000));
        assert_eq!(told, Err(UNRECOGNIZED_NAME));
    });
    stage.case("no name at all", || {
        assert!(try_tls(stage, pki::trusting(&[]), "127.0.0.1").is_err());
    });
    for name in ["app.test", "APP.TEST"] {
        stage.case(&format!("Host of {name}"), || {
            let mut wire = try_tls(stage, pki::trusting(&["http/1.1"]), name).unwrap();
            assert_eq!(ask(&mut wire, "app.test", "/p"), 200);
            assert_eq!(ask(&mut wire, "b.test", "/wrong"), 421);
        });
    }
    stage.heard();
}

fn fragments(stage: &Stage) {
    let message = hello(b"app.test");
    for size in [1, 2, 5, 100] {
        stage.case(&format!("records of {size} bytes"), || {
            assert_eq!(reaction(stage, &records(&message, size)), Ok(()));
        });
    }
    stage.case("segments of one byte", || {
        let mut wire = Wire::connect(stage.proxy.https());
        for byte in records(&message, 16_000) {
            wire.send([byte]);
        }
        assert_eq!(wire.read_exactly(1), [22]);
    });
    stage.case("a whole handshake in segments of one byte", || {
        let config = pki::trusting(&["http/1.1"]);
        let name = ServerName::try_from("app.test").unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        let mut socket = Trickling(std::net::TcpStream::connect(stage.proxy.https()).unwrap());
        socket.0.set_nodelay(true).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        session
            .writer()
            .write_all(b"GET /p HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("GET /p"), "{said}");
    });
    stage.case("a message beyond measure", || {
        let mut message = vec![1, 0xff, 0xff, 0xff];
        message.resize(200_000, 0);
        let mut wire = Wire::connect(stage.proxy.https());
        let _ = wire.try_send(records(&message, 16_000));
        let (_, end) = wire.rest_within(Duration::from_secs(5));
        assert_ne!(end, End::Open, "it goes on reading");
    });
    stage.probe();
    stage.heard();
}

/// A socket that sends each byte by itself.
struct Trickling(std::net::TcpStream);

impl Read for Trickling {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Trickling {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A session of one site, offered under the name of another.
fn resumption(stage: &Stage) {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        stage.case(&format!("{version:?}"), || {
            let mut config =
                (*pki::trusting_pem(&pki::root_pem(), &["http/1.1"], &[version])).clone();
            let shared = Arc::new(OneShelf(rustls::client::ClientSessionMemoryCache::new(32)));
            config.resumption = Resumption::store(shared);
            let config = Arc::new(config);
            let mut wire = try_tls(stage, config.clone(), "app.test").unwrap();
            assert_eq!(ask(&mut wire, "app.test", "/p"), 200);
            drop(wire);
            let mut wire = try_tls(stage, config, "b.test").unwrap();
            assert_eq!(wire.session().handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
            assert_eq!(ask(&mut wire, "app.test", "/wrong"), 421);
            assert_eq!(ask(&mut wire, "b.test", "/b"), 200);
        });
    }
    stage.heard();
}

/// Keeps the sessions of all names on one shelf, as no honest client does.
#[derive(Debug)]
struct OneShelf(rustls::client::ClientSessionMemoryCache);

impl rustls::client::ClientSessionStore for OneShelf {
    fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(shelf(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&shelf())
    }

    fn set_tls12_session(
        &self,
        _: ServerName<'static>,
        value: rustls::client::Tls12ClientSessionValue,
    ) {
        self.0.set_tls12_session(shelf(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.tls12_session(&shelf())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&shelf());
    }

    fn insert_tls13_ticket(
        &self,
        _: ServerName<'static>,
        value: rustls::client::Tls13ClientSessionValue,
    ) {
        self.0.insert_tls13_ticket(shelf(), value);
    }

    fn take_tls13_ticket(
        &self,
        _: &ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&shelf())
    }
}

fn shelf() -> ServerName<'static> {
    ServerName::try_from("shelf.test").unwrap()
}

/// There are none; who configures them all the same is not served as if there were.
fn client_certificates(stage: &Stage) {
    for key in ["client_ca = 'ca.pem'", "client_auth = 'require'", "mtls = true"] {
        stage.case(key, || {
            let origin = Origin::down();
            let setup = Proxy::to(&origin).first_site(|site| site.key(key));
            let mut proxy = Proxy::launch(setup);
            assert_eq!(proxy.wait_for_exit().code(), Some(78), "{}", proxy.words());
        });
    }
}

fn alpn(stage: &Stage) {
    for offered in [&["foo"][..], &["acme-tls/1"], &["h3"], &["http/1.0"], &["foo", "bar"], &["H2"]]
    {
        stage.case(&format!("{offered:?}"), || {
            let refused = try_tls(stage, pki::trusting(offered), "app.test");
            let alert = refused.err().expect("a refusal").to_string();
            assert!(alert.contains("NoApplicationProtocol"), "{alert}");
        });
    }
    for (offered, agreed) in [
        (&["foo", "http/1.1"][..], "http/1.1"),
        (&["foo", "h2"], "h2"),
        (&["http/1.1", "h2"], "h2"),
    ] {
        stage.case(&format!("{offered:?}"), || {
            let wire = try_tls(stage, pki::trusting(offered), "app.test").unwrap();
            assert_eq!(wire.session().alpn_protocol(), Some(agreed.as_bytes()));
        });
    }
    stage.case("none: HTTP/1.1", || {
        let mut wire = try_tls(stage, pki::trusting(&[]), "app.test").unwrap();
        assert_eq!(ask(&mut wire, "app.test", "/p"), 200);
    });
    stage.case("h2, then HTTP/1.1", || {
        stage.heard();
        let mut wire = try_tls(stage, pki::trusting(&["h2"]), "app.test").unwrap();
        wire.send("GET /p HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let (said, end) = wire.rest_within(Duration::from_secs(5));
        assert!(!said.starts_with(b"HTTP/1") && end != End::Open, "{}", said.escape_ascii());
        assert_eq!(stage.heard(), []);
    });
    stage.case("http/1.1, then HTTP/2", || {
        let mut wire = try_tls(stage, pki::trusting(&["http/1.1"]), "app.test").unwrap();
        wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        assert_eq!(wire.read_answer().status(), 400);
        wire.expect_end();
        assert_eq!(stage.heard(), []);
    });
}

fn versions(stage: &Stage) {
    // The record's version says nothing; the hello's own does.
    for (version, alert) in [(0x0300_u16, 70), (0x0301, 70), (0x0302, 70), (0x0200, 70)] {
        stage.case(&format!("{version:#06x}"), || {
            let mut message = hello(b"app.test");
            message[4..6].copy_from_slice(&version.to_be_bytes());
            assert_eq!(reaction(stage, &records(&message, 16_000)), Err(alert));
        });
    }
    stage.case("compression is not used", || {
        // Both offered, null among them: the handshake goes on, with null.
        let message = hello(b"app.test");
        assert_eq!(reaction(stage, &records(&message, 16_000)), Ok(()));
    });
    stage.case("SSL 2", || {
        let mut wire = Wire::connect(stage.proxy.https());
        wire.send(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80");
        let _ = wire.try_send([0; 64]);
        let (_, end) = wire.rest_within(Duration::from_secs(5));
        assert_ne!(end, End::Open);
    });
    stage.case("heartbeat", || {
        let mut wire = Wire::connect(stage.proxy.https());
        wire.send(b"\x18\x03\x02\x00\x03\x01\x40\x00");
        let (said, end) = wire.rest_within(Duration::from_secs(5));
        assert!(said.len() < 64 && end != End::Open, "{}", said.escape_ascii());
    });
    let Some(mut openssl) = tools::find("openssl") else { return };
    stage.case("renegotiation", || {
        let place = stage.proxy.https().to_string();
        let script = format!(
            "(echo R; sleep 2) | openssl s_client -connect {place} -servername app.test -tls1_2 2>&1"
        );
        let output = tools::run(tokio::process::Command::new("bash").args(["-c", &script]));
        let text = stdout(&output);
        let refused = text.contains("no renegotiation")
            || text.contains("alert")
            || text.contains("errno")
            || text.contains("error");
        assert!(refused || !text.contains("RENEGOTIATING"), "{text}");
    });
    stage.case("weak suites", || {
        let place = stage.proxy.https().to_string();
        for suites in ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DES-CBC3-SHA"] {
            let suites = format!("{suites}:@SECLEVEL=0");
            let arguments =
                ["s_client", "-connect", &place, "-servername", "app.test", "-tls1_2", "-cipher"];
            let output = tools::run(openssl.args(arguments).arg(&suites));
            assert!(!output.status.success(), "{suites}: {}{}", stdout(&output), stderr(&output));
            openssl = tools::find("openssl").unwrap();
        }
    });
    stage.probe();
    stage.heard();
}

/// No ticket allows it, so that nothing of a request can be sent twice.
fn early_data(stage: &Stage) {
    stage.case("a client that would like to", || {
        let mut config = (*pki::trusting(&["http/1.1"])).clone();
        config.enable_early_data = true;
        let config = Arc::new(config);
        let mut wire = try_tls(stage, config.clone(), "app.test").unwrap();
        assert_eq!(ask(&mut wire, "app.test", "/p"), 200);
        drop(wire);
        let name = ServerName::try_from("app.test").unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        assert!(session.early_data().is_none(), "a ticket allows early data");
    });
    stage.heard();
}

fn floods(stage: &Stage) {
    let goes_on = |name: &str, bytes: Vec<u8>| {
        stage.case(name, || {
            let before = stage.proxy.cpu_ticks();
            let mut wire = Wire::connect(stage.proxy.https());
            let _ = wire.try_send(&bytes);
            // At once, or when the time for the handshake is over: without a spin until then.
            let (_, end) = wire.rest_within(Duration::from_secs(8));
            assert_ne!(end, End::Open, "it goes on listening");
            let spent = stage.proxy.cpu_ticks() - before;
            assert!(spent < 100, "{spent} ticks of processor time");
            stage.probe();
        });
    };
    goes_on("warning alerts before a hello", b"\x15\x03\x01\x00\x02\x01\x5a".repeat(10_000));
    goes_on("close_notify in the handshake", {
        let mut bytes = records(&hello(b"app.test"), 16_000);
        bytes.extend(b"\x15\x03\x03\x00\x02\x01\x00".repeat(100));
        bytes
    });
    goes_on("empty handshake records", b"\x16\x03\x01\x00\x00".repeat(10_000));
    goes_on("empty data records", b"\x17\x03\x03\x00\x00".repeat(10_000));
    goes_on("change_cipher_spec", b"\x14\x03\x03\x00\x01\x01".repeat(10_000));
    goes_on("hello upon hello", records(&hello(b"app.test"), 16_000).repeat(50));
    goes_on("a record beyond measure", {
        let mut bytes = b"\x16\x03\x01\xff\xff".to_vec();
        bytes.resize(70_000, 0);
        bytes
    });
    stage.case("KeyUpdate upon KeyUpdate", || {
        let config = pki::trusting_pem(&pki::root_pem(), &["http/1.1"], &[&rustls::version::TLS13]);
        let name = ServerName::try_from("app.test").unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        let mut socket = std::net::TcpStream::connect(stage.proxy.https()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        let began = Instant::now();
        for _ in 0..5000 {
            if session.refresh_traffic_keys().is_err() || session.write_tls(&mut socket).is_err() {
                break;
            }
        }
        stage.probe();
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    });
    stage.heard();
}

fn plaintext(stage: &Stage) {
    for bytes in [
        "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "PROXY TCP4 6.6.6.6 127.0.0.1 1 443\r\n",
    ] {
        stage.case(bytes, || {
            let mut wire = Wire::connect(stage.proxy.https());
            wire.send(bytes);
            let (said, end) = wire.rest_within(Duration::from_secs(5));
            assert_ne!(end, End::Open);
            assert!(said.is_empty() || said[0] == 21, "{}", said.escape_ascii());
            assert_eq!(stage.heard(), []);
        });
    }
    stage.case("a hello on the plain port", || {
        let mut wire = stage.proxy.wire();
        wire.send(records(&hello(b"app.test"), 16_000));
        let _ = wire.try_send("\r\n\r\n");
        let (said, end) = wire.rest_within(Duration::from_secs(5));
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{}", said.escape_ascii());
        assert_ne!(end, End::Open);
        assert_eq!(stage.heard(), []);
    });
}

fn upstream(stage: &Stage) {
    let folder = crate::harness::proxy::folder();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, pki::root_pem()).unwrap();
    let right = Origin::start_tls(&["localhost"]);
    right.route("*", "sealed");
    let wrong = Origin::start_tls(&["other.test"]);
    wrong.route("*", "must not be seen");
    let plain = crate::harness::Script::play(|scene| {
        let _ = scene.wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON");
        scene.wire.rest_within(Duration::from_secs(2));
    });
    let port = plain.to_string().rsplit(':').next().unwrap().to_owned();
    let start = |roots: Option<&str>| {
        let setup = Setup::new().limits("hold = '1s'");
        let setup = roots.map_or(setup.clone(), |roots| setup.environment("SSL_CERT_FILE", roots));
        setup
            .site(Site::named("right.test").to(&right).on_plain_http())
            .site(Site::named("wrong.test").to(&wrong).on_plain_http())
            .site(
                Site::named("plain.test").to(&format!("https://localhost:{port}")).on_plain_http(),
            )
            .start()
    };
    let proxy = start(roots.to_str());
    let status = |proxy: &Proxy, host: &str| proxy.plain_client().host(host).get("/").status;
    stage.case("the right name", || assert_eq!(status(&proxy, "right.test"), 200));
    stage.case("a wrong name", || assert_eq!(status(&proxy, "wrong.test"), 502));
    stage.case("bytes before the handshake", || assert_eq!(status(&proxy, "plain.test"), 502));
    stage.case("an authority that nobody knows", || {
        let proxy = start(None);
        assert_eq!(status(&proxy, "right.test"), 502);
        assert!(right.requests().len() <= 1, "{:?}", right.requests());
    });
}
