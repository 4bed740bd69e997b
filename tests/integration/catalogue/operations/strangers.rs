//! What strangers would like to write into logs and figures, and who they would like to be.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::super::stage::{Stage, echoing};
use super::super::tls::{hello, records};
use crate::harness::{Client, Origin, Proxy, Response, Script, Wire, eventually, tools};

/// What moves a terminal, ends a line or a field, or is no text at all.
const HOSTILE: &[&[u8]] = &[
    b"\x1b]0;x\x07",
    b"\x1b[2J",
    b"%0a203.0.113.9 - - [forged] \"GET / HTTP/1.1\" 200 5",
    b"\" 200 5 \"-\" \"forged",
    b"\\\" \\",
    b"\x9b2J",
    b"\xc2\x9b2J",
    b"\xe2\x80\xae forged",
    b"\xff\xfe\xc0\x80",
    b"\xed\xa0\x80",
    b"{\"status\":200}",
    b"<script>",
    b"$(id)`id`",
];

pub fn log_injection(stage: &Stage) {
    for format in ["combined", "json"] {
        let origin = echoing();
        let setup = Proxy::plain_to(&origin).log(&format!("format = '{format}'"));
        let mut proxy = setup.admin("metrics = '127.0.0.1:0'").server("workers = 1").start();
        let mut requests = 0;
        for hostile in HOSTILE {
            stage.case(&format!("{format} {}", hostile.escape_ascii()), || {
                requests += ask_everywhere(&proxy, hostile);
            });
        }
        stage.case(&format!("{format} 64 kB"), || {
            requests += ask_everywhere(&proxy, &vec![b'a'; 64 * 1024]);
        });
        let metrics = Client::plain(proxy.metrics(), "localhost").get("/metrics").text();
        let file = proxy.path("portcullis.toml");
        let status = tools::portcullis(&["status", "-c", file.to_str().unwrap()]);
        proxy.stop();
        let log = std::fs::read(proxy.path("access.log")).unwrap();
        stage.case(&format!("the log, {format}"), || judge_log(&log, format, requests));
        stage.case(&format!("other words, {format}"), || {
            assert_quiet(proxy.words().as_bytes());
            assert_quiet(metrics.as_bytes());
            assert_quiet(&status.stdout);
            assert!(!metrics.contains("forged"), "{metrics}");
        });
    }
    hostile_apps(stage);
}

/// One request for each place where somebody may write something; how many.
fn ask_everywhere(proxy: &Proxy, hostile: &[u8]) -> usize {
    let request = |path: &[u8], host: &[u8], fields: &[(&[u8], &[u8])]| {
        let mut bytes = [b"GET ", path, b" HTTP/1.1\r\nHost: ", host, b"\r\n"].concat();
        for (name, value) in fields {
            bytes.extend([name, &b": "[..], value, b"\r\n"].concat());
        }
        bytes.extend(b"Authorization: Basic c2VjcmV0\r\nCookie: id=s3cret\r\n");
        bytes.extend(b"Proxy-Authorization: Basic c2VjcmV0\r\nSet-Cookie: id=s3cret\r\n\r\n");
        bytes
    };
    let path = [b"/p?", hostile].concat();
    let host = [hostile, b".test"].concat();
    let method = [hostile, b" "].concat();
    let all = [
        request(&path, b"app.test", &[]),
        request(b"/p", &host, &[]),
        request(b"/p", b"app.test", &[(b"User-Agent", hostile)]),
        request(b"/p", b"app.test", &[(b"Referer", hostile)]),
        request(b"/p", b"app.test", &[(b"X-Request-Id", hostile)]),
        request(b"/p", b"app.test", &[(b"X-Forwarded-For", hostile)]),
        [&method[..], b"/p HTTP/1.1\r\nHost: app.test\r\n\r\n"].concat(),
    ];
    for bytes in &all {
        let mut wire = proxy.wire();
        let _ = wire.try_send(bytes);
        let answer = wire.read_answer();
        let told = answer.head.replace("\r\n", "");
        assert!(!told.contains(['\x1b', '\x07', '\r', '\n']), "{told:?}");
    }
    // A name that no handshake comes of: a word of ours at most, and no line.
    let mut wire = Wire::connect(proxy.https());
    let name = &hostile[..hostile.len().min(1000)];
    let _ = wire.try_send(records(&hello(name), 16_000));
    wire.rest_within(Duration::from_secs(5));
    all.len()
}

/// Nothing but lines of visible characters.
fn assert_quiet(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let is_loud = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2028}\u{feff}".contains(c));
    let loud = text.chars().find(|c| is_loud(*c));
    assert_eq!(loud, None, "{text:?}");
    for secret in ["c2VjcmV0", "s3cret"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn judge_log(log: &[u8], format: &str, requests: usize) {
    assert_quiet(log);
    let text = std::str::from_utf8(log).unwrap();
    assert_eq!(text.lines().count(), requests, "one line a request");
    for line in text.lines() {
        assert!(line.len() < 48 * 1024, "a line of {} bytes", line.len());
        if format == "json" {
            let object: Value = serde_json::from_str(line).unwrap();
            assert_eq!(object["client"], "127.0.0.1", "{line}");
            assert_eq!(object.as_object().unwrap().len(), 17, "{line}");
        } else {
            assert!(is_combined(line), "{line}");
        }
    }
}

/// As a reader of logs parts a line: `client - - [time] "request" status bytes "referer" "agent"`.
fn is_combined(line: &str) -> bool {
    let parts: Vec<&str> = line.split('"').collect();
    let [start, request, figures, referer, space, agent, end] = parts[..] else { return false };
    let words: Vec<&str> = request.split(' ').collect();
    let figures: Vec<&str> = figures.trim().split(' ').collect();
    let is_figure = |text: &str| text == "-" || text.parse::<u64>().is_ok();
    start.starts_with("127.0.0.1 - - [")
        && start.ends_with("] ")
        && (words.len() == 3 || request == "-")
        && figures.len() == 2
        && figures.iter().all(|figure| is_figure(figure))
        && !referer.is_empty()
        && space == " "
        && !agent.is_empty()
        && end.is_empty()
}

/// An app that answers with what it likes to see in our log.
fn hostile_apps(stage: &Stage) {
    let answers: Vec<Vec<u8>> = HOSTILE
        .iter()
        .flat_map(|hostile| {
            let field = [b"HTTP/1.1 200 OK\r\nX: ", *hostile, b"\0\r\n\r\n"].concat();
            let reason = [b"HTTP/1.1 200 ", *hostile, b"\r\nContent-Length: x\r\n\r\n"].concat();
            let name = [b"HTTP/1.1 200 OK\r\n", *hostile, b": x\r\n\r\n"].concat();
            let length = [b"HTTP/1.1 200 OK\r\nContent-Length: ", *hostile, b"\r\n\r\n"].concat();
            [hostile.to_vec(), field, reason, name, length]
        })
        .collect();
    stage.case("hostile answers", || {
        let count = answers.len();
        let script = Script::play(move |scene| {
            let Some(head) = scene.next_head() else { return };
            let number = head.split(['/', ' ']).nth(2).unwrap().parse::<usize>().unwrap();
            let _ = scene.wire.try_send(&answers[number]);
        });
        let mut proxy = Proxy::plain_to(&script).log("format = 'json'").start();
        for number in 0..count {
            let answer = proxy.plain_client().get(&format!("/{number}"));
            assert!([200, 502].contains(&answer.status), "{number}: {}", answer.status);
        }
        proxy.stop();
        assert_quiet(proxy.words().as_bytes());
        let log = std::fs::read(proxy.path("access.log")).unwrap();
        judge_log(&log, "json", count);
        assert!(proxy.words().contains(&script.to_string()), "it is told at all");
    });
}

const REQUESTS: usize = 10_000;

pub fn cardinality(stage: &Stage) {
    let origin = Origin::start();
    origin.handle("*", |request| async move {
        let status = request.uri().path()[1..].parse().unwrap_or(200);
        let status = if (200..600).contains(&status) { status } else { 200_u16 };
        Response::builder().status(status).body(().into()).unwrap()
    });
    let proxy = Proxy::plain_to(&origin).admin("metrics = '127.0.0.1:0'").start();
    proxy.plain_client().get("/");
    let before = series(&proxy);
    for batch in 0..REQUESTS / 100 {
        let mut wire = proxy.wire();
        let one = |number: usize| {
            let seed = batch * 100 + number;
            let host =
                if number.is_multiple_of(2) { "app.test".into() } else { format!("h{seed}.test") };
            let path = if number.is_multiple_of(4) { 200 + seed % 400 } else { seed };
            format!("M{seed} /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: a{seed}\r\n\r\n")
        };
        wire.send((0..100).map(one).collect::<String>());
        for _ in 0..100 {
            wire.read_answer();
        }
    }
    for seed in 0..200 {
        let mut wire = Wire::connect(proxy.https());
        wire.send(records(&hello(format!("h{seed}.test").as_bytes()), 16_000));
        wire.rest_within(Duration::from_secs(5));
    }
    stage.case("ten thousand strangers", || {
        assert_eq!(series(&proxy), before);
        println!("    {} series, before and after {REQUESTS} strangers", before.len());
    });
}

fn series(proxy: &Proxy) -> BTreeSet<String> {
    let answer = Client::plain(proxy.metrics(), "localhost").get("/metrics").text();
    let samples = answer.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// A header of version 2 with this command, family and block.
fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, block].concat()
}

pub fn proxy_protocol(stage: &Stage) {
    const ADDRESSES: [u8; 12] = [6, 6, 6, 6, 10, 0, 0, 1, 0x16, 0x2e, 1, 0xbb];
    let tlv = |tlv: &[u8]| [&ADDRESSES[..], tlv].concat();
    let whole = version_2(0x21, 0x11, &ADDRESSES);
    let request = b"GET /p HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    let ask = |proxy: &Proxy, from: &str, header: &[u8]| {
        let mut wire = Wire::connect_from(from.parse().unwrap(), proxy.http());
        let _ = wire.try_send([header, request].concat());
        String::from_utf8_lossy(&wire.rest().0).into_owned()
    };
    let unasked = Proxy::plain_to(&stage.origin).start();
    let trusting = Proxy::plain_to(&stage.origin).server("trusted_proxies = ['127.0.0.1/32']");
    let trusting = trusting.server("proxy_protocol = true").start();
    stage.origin.take_heard();
    for (name, proxy, from) in
        [("not wanted", &unasked, "127.0.0.1"), ("from a stranger", &trusting, "127.0.0.2")]
    {
        for header in [&whole[..], b"PROXY TCP4 6.6.6.6 10.0.0.1 5678 443\r\n"] {
            stage.case(&format!("{name} {}", header.escape_ascii()), || {
                let told = ask(proxy, from, header);
                assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told}");
                assert!(stage.origin.take_heard().is_empty(), "the app heard of it");
            });
        }
    }
    for (name, header) in [
        ("a TLV past the end", version_2(0x21, 0x11, &tlv(&[4, 0xff, 0xff, 0]))),
        ("half a TLV", version_2(0x21, 0x11, &tlv(&[4, 0]))),
        ("addresses cut short", version_2(0x21, 0x11, &ADDRESSES[..11])),
        ("a length beyond measure", version_2(0x21, 0x11, &[0; 60_000])),
        ("another command", version_2(0x22, 0x11, &ADDRESSES)),
        ("another version", version_2(0x11, 0x11, &ADDRESSES)),
        ("datagrams", version_2(0x21, 0x12, &ADDRESSES)),
        ("two addresses", b"PROXY TCP4 6.6.6.6,1.1.1.1 10.0.0.1 5678 443\r\n".to_vec()),
        ("no header", Vec::new()),
    ] {
        stage.case(name, || {
            assert_eq!(ask(&trusting, "127.0.0.1", &header), "");
            assert!(stage.origin.take_heard().is_empty(), "the app heard of it");
        });
    }
    for (name, header, wanted) in [
        ("a client", whole.clone(), "6.6.6.6"),
        ("a client and TLVs", version_2(0x21, 0x11, &tlv(&[4, 0, 1, 0])), "6.6.6.6"),
        ("LOCAL", version_2(0x20, 0x11, &ADDRESSES), "127.0.0.1"),
        ("LOCAL with nothing", version_2(0x20, 0, &[]), "127.0.0.1"),
        ("UNSPEC", version_2(0x21, 0, &ADDRESSES), "127.0.0.1"),
    ] {
        stage.case(name, || {
            let told = ask(&trusting, "127.0.0.1", &header);
            assert!(told.starts_with("HTTP/1.1 200"), "{told}");
            let seen = stage.origin.last().header("x-forwarded-for");
            assert_eq!(seen.as_deref(), Some(wanted));
            stage.origin.take_heard();
        });
    }
    stage.case("the client in the log", || {
        let line = trusting.access_line(|line| line.starts_with("6.6.6.6 "));
        eventually("the line", || line.contains("/p"));
    });
}
