//! Certificates for names that clients ask for, under wildcards and `*`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::{AlertDescription, ClientConfig};

use super::verbs::{file, told};
use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{Body, Response, Setup, Wire, eventually, pki, tools};

/// The program that says which names may have a certificate, and remembers which it was asked for.
struct Decider {
    origin: Origin,
    allowed: Arc<Mutex<Vec<String>>>,
}

impl Decider {
    fn allowing(names: &[&str]) -> Self {
        let origin = Origin::start();
        let allowed: Arc<Mutex<Vec<String>>> = Arc::default();
        allowed.lock().unwrap().extend(names.iter().map(ToString::to_string));
        let known = Arc::clone(&allowed);
        origin.handle("/allowed", move |request| {
            let query = request.uri().query().unwrap_or_default();
            let name = query.strip_prefix("domain=").unwrap_or_default().to_owned();
            let is_allowed = known.lock().unwrap().contains(&name);
            async move {
                let status = if is_allowed { 200 } else { 403 };
                Response::builder().status(status).body(Body::empty()).unwrap()
            }
        });
        Self { origin, allowed }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/allowed", self.origin.port())
    }

    fn allow_nothing(&self) {
        self.allowed.lock().unwrap().clear();
    }

    /// The names that were asked for, and how often.
    fn asked(&self) -> BTreeMap<String, usize> {
        let mut asked = BTreeMap::new();
        for request in self.origin.requests() {
            let (_, name) = request.target.split_once("domain=").unwrap_or_default();
            *asked.entry(name.to_owned()).or_default() += 1;
        }
        asked
    }
}

fn on_demand(host: &str, origin: &Origin, ask: &str) -> Site {
    let site = Site::named(host).to(origin);
    site.key(&format!("tls = {{ on_demand = {{ ask = '{ask}' }} }}"))
}

/// A proxy with a site on demand, whose handshakes may take as long as a slow machine needs.
fn setup(pebble: &Pebble, host: &str, origin: &Origin, ask: &str) -> Setup {
    let setup = pebble.setup(Site::named("unused")).without_sites();
    setup.limits("tls_handshake_timeout = '60s'").site(on_demand(host, origin, ask))
}

fn client(proxy: &Proxy, pebble: &Pebble, name: &str) -> Client {
    Client::plain(proxy.https(), name).trusting(pebble.issuer(), name)
}

fn anybody() -> Arc<ClientConfig> {
    pki::trusting_pem(&pki::root_pem(), &["http/1.1"], rustls::ALL_VERSIONS)
}

/// Why a handshake for this name comes to nothing.
#[track_caller]
fn refusal(proxy: &Proxy, name: &str) -> rustls::Error {
    let refused = Wire::try_tls(proxy.https(), anybody(), name).err().expect("a certificate");
    let refused = refused.into_inner().expect("an alert, not an end");
    *refused.downcast::<rustls::Error>().expect("an alert")
}

const ALERT: rustls::Error = rustls::Error::AlertReceived(AlertDescription::UnrecognisedName);

#[track_caller]
fn expect_alert(proxy: &Proxy, name: &str) {
    assert_eq!(refusal(proxy, name), ALERT, "{name}");
}

#[test]
fn the_first_handshake_of_an_allowed_name_gets_its_certificate() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["a.shop.test"]));
    origin.route("/", "ok");
    let proxy = setup(&pebble, "*.shop.test", &origin, &decider.url()).start();
    let client = client(&proxy, &pebble, "a.shop.test");
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(client.clone().http2().get("/").text(), "ok");
    assert_eq!(decider.asked(), [("a.shop.test".to_owned(), 1)].into());
    assert_eq!((pebble.orders(), pebble.issued()), (1, 1));
    assert!(proxy.path("storage/acme/a.shop.test.pem").exists());
    let other = client.host("b.shop.test").get("/");
    assert_eq!(other.status, 421, "another name has a certificate of its own");
}

#[test]
fn who_is_asked_over_tls_is_verified() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Origin::start_tls(&["localhost"]));
    origin.route("/", "ok");
    decider.route("/allowed", "yes");
    let url = format!("https://localhost:{}/allowed", decider.port());
    let setup = setup(&pebble, "*.shop.test", &origin, &url);
    let doubting = setup.clone().start();
    expect_alert(&doubting, "a.shop.test");
    doubting.expect_words("UnknownIssuer");
    drop(doubting);
    let roots = pebble.roots();
    let proxy = setup.environment("SSL_CERT_FILE", roots.to_str().unwrap()).start();
    assert_eq!(client(&proxy, &pebble, "a.shop.test").get("/").text(), "ok");
    assert_eq!(decider.requests().len(), 1);
}

#[test]
fn a_refused_name_gets_an_alert_and_leaves_nothing_behind() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&[]));
    let proxy = setup(&pebble, "*", &origin, &decider.url()).start();
    for name in ["a.shop.test", "A.shop.test", "deep.in.shop.test", "single", "x.localhost"] {
        expect_alert(&proxy, name);
    }
    let once = |name: &str| (name.to_owned(), 1);
    assert_eq!(decider.asked(), [once("a.shop.test"), once("deep.in.shop.test")].into());
    proxy.expect_words("answered 403");
    assert!(!proxy.path("storage/acme").exists());
    assert_eq!(pebble.accounts(), 0);
}

#[test]
fn who_decides_and_is_down_slow_unwell_or_elsewhere_allows_nothing() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let origin = app();
    // It takes connections, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let yes = Decider::allowing(&["d.shop.test"]);
    let other = Origin::start();
    let answers = |path: &str, status: u16, location: Option<String>| {
        other.handle(path, move |_| {
            let mut answer = Response::builder().status(status);
            if let Some(location) = &location {
                answer = answer.header("location", format!("{location}?domain=d.shop.test"));
            }
            async move { answer.body(Body::empty()).unwrap() }
        });
    };
    answers("/unwell", 500, None);
    answers("/elsewhere", 307, Some(yes.url()));
    let at = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    let down = at(tools::own_port(), "/");
    let proxy = setup(&pebble, "*.a.test", &origin, &down)
        .site(on_demand("*.b.test", &origin, &at(silent.local_addr().unwrap().port(), "/")))
        .site(on_demand("*.c.test", &origin, &at(other.port(), "/unwell")))
        .site(on_demand("*.d.test", &origin, &at(other.port(), "/elsewhere")))
        .start();
    for (site, words) in [
        ("a.test", "Connection refused"),
        ("b.test", "it took longer than 5s"),
        ("c.test", "answered 500"),
        ("d.test", "redirects are not followed"),
    ] {
        let mut names = (0..).map(|number| format!("x{number}.{site}"));
        // What is said of one may be held back behind another of the same second.
        eventually_within(LONG_PATIENCE, "the reason", || {
            expect_alert(&proxy, &names.next().unwrap());
            proxy.words().contains(words)
        });
    }
    assert_eq!(yes.asked(), BTreeMap::new());
    assert_eq!((pebble.accounts(), pebble.orders()), (0, 0));
}

/// What strangers send costs a limited number of questions, and others nothing.
#[test]
fn a_flood_of_random_names_is_asked_about_a_few_times() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["good.shop.test"]));
    origin.route("/", "ok");
    let own = Site::named("own.test").to(&origin).key("tls = 'local'");
    let proxy = setup(&pebble, "*", &origin, &decider.url()).site(own).start();
    assert_eq!(client(&proxy, &pebble, "good.shop.test").get("/").text(), "ok");
    let began = Instant::now();
    let to = proxy.https();
    let config = anybody();
    let flood = |thread: usize| {
        let config = Arc::clone(&config);
        std::thread::spawn(move || {
            for number in 0..250 {
                let name = format!("n{thread}x{number}.shop.test");
                Wire::try_tls(to, Arc::clone(&config), &name).err().expect("no certificate");
            }
        })
    };
    let threads: Vec<_> = (0..4).map(flood).collect();
    let local = Client::plain(to, "own.test").trusting(proxy.local_root(), "own.test");
    assert_eq!(local.get("/").text(), "ok", "a configured name");
    assert_eq!(client(&proxy, &pebble, "good.shop.test").get("/").text(), "ok", "one that is had");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let asked = decider.asked();
    assert!(asked.len() <= 100 + 10 * seconds + 1, "{} in {seconds} s", asked.len());
    assert!(asked.values().all(|times| *times == 1));
    let lines = proxy.words().lines().filter(|line| line.contains("shop.test")).count();
    assert!(lines <= 20 + 3 * seconds, "{lines} lines in {seconds} s");
    let entries = std::fs::read_dir(proxy.path("storage/acme")).unwrap();
    let entries = entries
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('n'));
    assert_eq!(entries.count(), 0);
    assert_eq!(pebble.orders(), 1);
}

#[test]
fn no_more_certificates_are_begun_than_a_minute_may_see() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let names = ["a.shop.test", "b.shop.test"];
    let (origin, decider) = (app(), Decider::allowing(&names));
    origin.route("/", "ok");
    let setup = setup(&pebble, "*.shop.test", &origin, &decider.url());
    let mut proxy = setup.acme("on_demand_rate = 1").start();
    assert_eq!(client(&proxy, &pebble, "a.shop.test").get("/").text(), "ok");
    expect_alert(&proxy, "b.shop.test");
    proxy.expect_words("acme.on_demand_rate");
    proxy.rewrite(|setup| setup.acme("on_demand_rate = 5"));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", tools::stderr(&output));
    assert_eq!(client(&proxy, &pebble, "b.shop.test").get("/").text(), "ok");
}

#[test]
fn a_restart_serves_from_the_storage_and_asks_nobody() {
    let Some(mut pebble) = Pebbles::new().start() else { return };
    let (origin, storage) = (app(), storage());
    let decider = Decider::allowing(&["a.shop.test"]);
    origin.route("/", "ok");
    let setup = setup(&pebble, "*.shop.test", &origin, &decider.url());
    let setup = setup.acme(&kept_in(storage.path()));
    let proxy = setup.clone().start();
    let client_of = client(&proxy, &pebble, "a.shop.test");
    assert_eq!(client_of.get("/").text(), "ok");
    drop(proxy);
    pebble.close();
    decider.allow_nothing();
    let _proxy = setup.start();
    assert_eq!(client_of.get("/").text(), "ok");
    assert_eq!(decider.asked(), [("a.shop.test".to_owned(), 1)].into());
}

#[test]
fn what_is_damaged_in_the_storage_is_got_anew() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, storage) = (app(), storage());
    let decider = Decider::allowing(&["a.shop.test"]);
    origin.route("/", "ok");
    let setup = setup(&pebble, "*.shop.test", &origin, &decider.url());
    let setup = setup.acme(&kept_in(storage.path()));
    let mut proxy = setup.clone().start();
    assert_eq!(client(&proxy, &pebble, "a.shop.test").get("/").text(), "ok");
    proxy.stop();
    let entry = storage.path().join("acme/a.shop.test.pem");
    let text = std::fs::read_to_string(&entry).unwrap();
    std::fs::write(&entry, &text[..100]).unwrap();
    let proxy = setup.start();
    assert_eq!(client(&proxy, &pebble, "a.shop.test").get("/").text(), "ok");
    proxy.expect_words("a.shop.test.pem is damaged");
    assert!(storage.path().join("acme/a.shop.test.pem.damaged").exists());
    assert_eq!(pebble.issued(), 2);
}

#[test]
fn another_process_on_the_same_storage_asks_the_authority_for_nothing() {
    let pebbles = Pebbles::default().with("PEBBLE_VA_SLEEPTIME", "3");
    let Some(pebble) = pebbles.start() else { return };
    let (origin, storage) = (app(), storage());
    let decider = Decider::allowing(&["a.shop.test"]);
    origin.route("/", "ok");
    let setup = setup(&pebble, "*.shop.test", &origin, &decider.url());
    let setup = setup.acme(&kept_in(storage.path()));
    let one = setup.clone().start();
    let elsewhere = setup.server("http = '127.0.0.1:0'").server("https = '127.0.0.1:0'");
    let other = elsewhere.start();
    let [first, second] = [&one, &other].map(|proxy| client(proxy, &pebble, "a.shop.test"));
    let first = std::thread::spawn(move || first.get("/").text());
    // Nobody would find a proof at the other's ports.
    eventually("an order of the first", || pebble.orders() == 1);
    assert_eq!(second.get("/").text(), "ok", "it waits for the first");
    assert_eq!(first.join().unwrap(), "ok");
    assert_eq!((pebble.accounts(), pebble.orders(), pebble.issued()), (1, 1, 1));
}

/// An end of the connection would tell the client nothing, and another certificate lies.
#[test]
fn a_handshake_for_which_nothing_comes_ends_with_an_alert_in_time() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["a.shop.test"]));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = pebble.directory_at(silent.local_addr().unwrap());
    let setup = setup(&pebble, "*.shop.test", &origin, &decider.url());
    let setup = setup.acme(&format!("directory = '{directory}'"));
    let proxy = setup.limits("tls_handshake_timeout = '2s'").start();
    expect_alert(&proxy, "a.shop.test");
    proxy.expect_words("its handshakes are refused");
    expect_alert(&proxy, "a.shop.test");
}

/// Handshakes for one name may not take the places of all others, nor keep them when they leave.
#[test]
fn not_too_many_wait_for_one_name_and_who_leaves_gives_its_place_back() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["a.shop.test"]));
    // It takes requests, and longer than anybody waits here.
    let silent = Origin::start_tls(&["localhost"]);
    silent.handle("*", |_| std::future::pending());
    let directory = pebble.directory_at(([127, 0, 0, 1], silent.port()).into());
    let setup = setup(&pebble, "*.shop.test", &origin, &decider.url());
    let setup = setup.limits("tls_handshake_timeout = '10m'");
    let proxy = setup.acme(&format!("directory = '{directory}'")).start();
    let name = "a.shop.test".try_into().unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(anybody(), name).unwrap().write_tls(&mut hello).unwrap();
    let waiting: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy.https()).unwrap();
            stream.write_all(&hello).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let refused = || waiting.iter().filter(|stream| stream.peek(&mut [0]).is_ok()).count();
    eventually("a refusal for those who are too many, and for them alone", || {
        refused() == 8 && proxy.connections_open() == 32
    });
    drop(waiting);
    eventually("an end of those who left", || proxy.connections_open() == 0);
}

#[test]
fn a_reload_is_asked_anew_and_what_is_under_way_goes_on() {
    let pebbles = Pebbles::default().with("PEBBLE_VA_SLEEPTIME", "3");
    let Some(pebble) = pebbles.start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["a.shop.test"]));
    origin.route("/", "ok");
    decider.origin.route("/all", "yes");
    let mut proxy = setup(&pebble, "*.shop.test", &origin, &decider.url()).start();
    expect_alert(&proxy, "b.shop.test");
    let waiting = client(&proxy, &pebble, "a.shop.test");
    let waiting = std::thread::spawn(move || waiting.get("/").text());
    proxy.expect_words("a certificate for a.shop.test is got");
    let all = decider.url().replace("/allowed", "/all");
    proxy.rewrite(|setup| setup.without_sites().site(on_demand("*.shop.test", &origin, &all)));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", tools::stderr(&output));
    assert_eq!(waiting.join().unwrap(), "ok");
    assert_eq!(client(&proxy, &pebble, "b.shop.test").get("/").text(), "ok", "what was refused");
    let local = Site::named("*.shop.test").to(&origin).key("tls = 'local'");
    proxy.rewrite(|setup| setup.without_sites().site(local));
    let output = proxy.reload(&[]);
    assert!(output.status.success(), "{}", tools::stderr(&output));
    let client = client(&proxy, &pebble, "a.shop.test");
    assert!(client.try_connect().is_err(), "the local authority's is shown");
}

#[test]
fn what_is_used_and_allowed_is_renewed_and_nothing_else() {
    let Some(pebble) = Pebbles::new().life(20).start() else { return };
    let names = ["used.shop.test", "idle.shop.test", "gone.shop.test"];
    let (origin, decider) = (app(), Decider::allowing(&names));
    origin.route("/", "ok");
    let proxy = setup(&pebble, "*.shop.test", &origin, &decider.url()).start();
    for name in names {
        assert_eq!(client(&proxy, &pebble, name).get("/").text(), "ok", "{name}");
    }
    decider.allowed.lock().unwrap().retain(|name| name != "gone.shop.test");
    let issued = |name: &str| {
        let line = format!("has issued a certificate for {name},");
        proxy.words().matches(&line).count()
    };
    eventually_within(TURNS, "renewals of what is used", || {
        let _ = client(&proxy, &pebble, "used.shop.test").try_connect();
        let _ = client(&proxy, &pebble, "gone.shop.test").try_connect();
        issued("used.shop.test") >= 3
    });
    assert_eq!((issued("idle.shop.test"), issued("gone.shop.test")), (1, 1));
    eventually_within(TURNS, "an end of what is not allowed any more", || {
        refusal(&proxy, "gone.shop.test") == ALERT
    });
    let idle = client(&proxy, &pebble, "idle.shop.test");
    assert_eq!(idle.get("/").text(), "ok", "who comes back gets another");
}

#[test]
fn certs_list_tells_of_what_was_got_on_demand() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["a.shop.test"]));
    origin.route("/", "ok");
    let proxy = setup(&pebble, "*.shop.test", &origin, &decider.url()).start();
    assert_eq!(client(&proxy, &pebble, "a.shop.test").get("/").text(), "ok");
    let file = proxy.path("portcullis.toml");
    let list = |arguments: &[&str]| {
        let mut all = vec!["certs", "list", "-c", file.to_str().unwrap()];
        all.extend(arguments);
        let output = tools::portcullis(&all);
        assert!(output.status.success(), "{}", tools::stderr(&output));
        tools::stdout(&output)
    };
    let text = list(&[]);
    assert!(text.contains("got when clients ask for names"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&list(&["--json"])).unwrap();
    let one = &json["certificates"][1];
    assert_eq!((&one["source"], &one["state"]), (&"acme, on demand".into(), &"present".into()));
    assert_eq!(one["hosts"], serde_json::json!(["a.shop.test"]));
    assert!(one["renewal"].is_string(), "{one}");
}

/// What lies on the shelf is gone with the revocation, and comes back by a new yes alone.
#[test]
fn what_was_got_on_demand_is_revoked_and_asked_for_anew() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["a.shop.test"]));
    origin.route("/", "ok");
    let proxy = setup(&pebble, "*.shop.test", &origin, &decider.url()).start();
    let client = client(&proxy, &pebble, "a.shop.test");
    assert_eq!(client.get("/").text(), "ok");
    let file = file(&proxy);
    let serial = || {
        let json = told(&file, &["show", "a.shop.test", "--json"], 0);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["certificates"][0]["chain"][0]["serial"].as_str().unwrap().to_owned()
    };
    let old = serial();
    assert!(
        told(&file, &["revoke", "b.shop.test", "-y"], 1).contains("no certificate was got for")
    );
    assert!(told(&file, &["revoke", "*.shop.test", "-y"], 1).contains("say which name"));
    let text = told(&file, &["revoke", "a.shop.test", "--yes", "--reason", "superseded"], 0);
    assert!(text.contains("`ask` of its site is asked anew"), "{text}");
    assert_eq!(pebble.status_of(&old), ("Revoked".to_owned(), Some(4)));
    assert!(!proxy.path("storage/acme/a.shop.test.pem").exists());
    decider.allow_nothing();
    expect_alert(&proxy, "a.shop.test");
    assert!(told(&file, &["revoke", "a.shop.test", "-y"], 1).contains("was revoked already, on "));
    decider.allowed.lock().unwrap().push("a.shop.test".to_owned());
    told(&file, &["renew", "a.shop.test"], 0);
    eventually_within(LONG_PATIENCE, "another", || client.try_connect().is_ok());
    assert_ne!(serial(), old);
    assert_eq!(pebble.status_of(&serial()).0, "Valid");

    // Nobody gets another before a person says so.
    let old = serial();
    told(&file, &["revoke", "a.shop.test", "--yes", "--no-renew"], 0);
    assert_eq!(pebble.status_of(&old).0, "Revoked");
    let asked = decider.asked();
    expect_alert(&proxy, "a.shop.test");
    assert_eq!(decider.asked(), asked, "there is nothing to ask");
    let text = told(&file, &["list"], 0);
    let row = text.lines().find(|line| line.starts_with("a.shop.test ")).unwrap();
    assert!(
        row.contains("revoked, see below") && row.contains("not before `certs renew`"),
        "{row}"
    );
    let note = "acme: site *.shop.test, certificate for a.shop.test: revoked on ";
    assert!(text.contains(note), "{text}");
    let text = told(&file, &["renew", "a.shop.test"], 0);
    assert!(text.contains("if `ask` of its site still allows it"), "{text}");
    eventually_within(LONG_PATIENCE, "another", || client.try_connect().is_ok());
}

#[test]
fn what_was_got_on_demand_is_renewed_when_a_person_asks() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, decider) = (app(), Decider::allowing(&["a.shop.test"]));
    origin.route("/", "ok");
    let proxy = setup(&pebble, "*.shop.test", &origin, &decider.url()).start();
    let client = client(&proxy, &pebble, "a.shop.test");
    assert_eq!(client.get("/").text(), "ok");
    let file = file(&proxy);
    let text = told(&file, &["renew", "b.shop.test"], 1);
    assert!(text.contains("no certificate was got for b.shop.test yet"), "{text}");
    let text = told(&file, &["renew", "a.shop.test"], 0);
    assert!(text.contains("not due before"), "{text}");
    assert_eq!(pebble.issued(), 1);
    told(&file, &["renew", "a.shop.test", "--force"], 0);
    eventually_within(LONG_PATIENCE, "a renewal", || pebble.issued() == 2);
    assert_eq!(client.get("/").text(), "ok");
    decider.allow_nothing();
    eventually("a refusal, once the last one is over", || {
        told(&file, &["renew", "a.shop.test", "--force"], 0);
        proxy.words().contains("a.shop.test is not renewed: ")
    });
    assert_eq!(pebble.issued(), 2);
}
