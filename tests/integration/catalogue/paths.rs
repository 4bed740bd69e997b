//! Paths: an app must not find itself under another route than the proxy did, however it decodes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::stage::{Row, Stage, play};
use crate::harness::h2_frames::{DATA, Frames, GOAWAY, HEADERS, RST_STREAM};
use crate::harness::{Origin, Proxy, Setup, Site, Wire, pki};

/// The rows of this section.
pub const ROWS: &[Row] = &[("readings", readings), ("no path at all", no_path)];

#[test]
fn paths() {
    play(&Stage::shipped(), ROWS);
}

/// What has deceived somebody.
const TARGETS: [&str; 34] = [
    "/pub/../adm",
    "/pub/%2e%2e/adm",
    "/pub/..%2fadm",
    "/pub%2f..%2fadm",
    "//adm",
    "/./adm",
    "/pub/..;/adm",
    "/pub/;/../adm",
    "/pub/..\\adm",
    "/pub/%5c..%5cadm",
    "/pub/..%5cadm",
    "/%61dm",
    "/%2561dm",
    "/adm%0d%0aX:y",
    "/ADM",
    "/adm.",
    "/adm%20",
    "/../../adm",
    "/adm/../pub",
    "/adm/..%2fpub",
    "/adm%2f",
    "/adm%2fx",
    "/adm;x",
    "/adm%3bx",
    "/adm\\x",
    "/pub/%252e%252e/adm",
    "/pub/%25252e%25252e/adm",
    "/pub/.%2e/adm",
    "/pub/...//adm",
    "/pub//../adm",
    "/pub/%2e/%2e%2e/adm",
    "/pub/..%c0%afadm",
    "/pub/..%u2215adm",
    "/%E2%80%AEadm",
];

/// As many apps as a table has routes at most; each says which one it is.
struct Apps(Vec<Origin>);

impl Apps {
    fn start() -> Self {
        Self((0..5).map(|number| app(&number.to_string())).collect())
    }

    /// Sites `t0.test`, `t1.test`, … with these tables.
    fn behind(&self, tables: &[Vec<String>]) -> Proxy {
        let sites = tables.iter().enumerate().map(|(number, prefixes)| {
            let site = Site::named(&format!("t{number}.test")).on_plain_http();
            prefixes.iter().zip(&self.0).fold(site, |site, (prefix, app)| site.route(prefix, app))
        });
        sites.fold(Setup::new(), Setup::site).start()
    }
}

fn app(name: &str) -> Origin {
    let origin = Origin::start();
    origin.route("*", name.to_owned());
    origin
}

/// The route that a table has for a path as it was read, escapes resolved or not.
fn expected(prefixes: &[String], path: &str) -> Option<usize> {
    let covers = |prefix: &str| {
        let rest = path.strip_prefix(prefix.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let either = |prefix: &str| covers(prefix) || covers(&percent_decode(prefix));
    let matching = prefixes.iter().enumerate().filter(|(_, prefix)| either(prefix));
    matching.max_by_key(|(_, prefix)| prefix.len()).map(|(number, _)| number)
}

/// Asks for `target` and holds every reading of what the app got to the route that it
/// came by; whether an app got it.
fn holds(wire: &mut Wire, host: &str, prefixes: &[String], target: &str) -> Result<bool, String> {
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let answer = wire.read_answer();
    let reached = match answer.status() {
        200 => Some(answer.text().parse().unwrap()),
        404 => None,
        400 => return Ok(false),
        other => return Err(format!("{target} was answered with {other}")),
    };
    for reading in readings_of(target) {
        let wanted = expected(prefixes, &reading);
        if wanted != reached {
            let why = format!("{target} came by {reached:?} and may be read as {reading}");
            return Err(format!("{why}: {wanted:?} of {prefixes:?}"));
        }
    }
    Ok(reached.is_some())
}

fn readings(stage: &Stage) {
    let apps = Apps::start();
    let list = |prefixes: &[&str]| prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
    let mut tables: Vec<Vec<String>> = vec![
        list(&["/", "/adm"]),
        list(&["/pub", "/adm"]),
        list(&["/", "/pub", "/adm"]),
        list(&["/adm"]),
        list(&["/", "/adm/x", "/pub"]),
    ];
    let mut runner = TestRunner::deterministic();
    let fixed = tables.len();
    tables.extend((0..20).map(|_| generated(&mut runner, &route_tables())));
    let proxy = apps.behind(&tables);
    for target in TARGETS {
        stage.case(target, || {
            for (number, prefixes) in tables.iter().enumerate().take(fixed) {
                let host = format!("t{number}.test");
                holds(&mut proxy.wire(), &host, prefixes, target).unwrap();
                assert!(same_over_http2(&proxy, &host, target), "{target} differs over HTTP/2");
            }
        });
    }
    stage.case("what a generator makes", || {
        let mut routed = 0;
        for (number, prefixes) in tables.iter().enumerate() {
            let host = format!("t{number}.test");
            let own = own_targets(prefixes);
            for turn in 0..200 {
                let target = match turn % 4 {
                    0 => generated(&mut runner, &own),
                    _ => generated(&mut runner, &targets()),
                };
                routed += usize::from(holds(&mut proxy.wire(), &host, prefixes, &target).unwrap());
                if turn % 16 == 0 {
                    assert!(same_over_http2(&proxy, &host, &target), "{target} of {prefixes:?}");
                }
            }
        }
        assert!(routed > 1000, "only {routed} were routed at all");
    });
}

fn generated<T: std::fmt::Debug>(
    runner: &mut TestRunner,
    strategy: &impl Strategy<Value = T>,
) -> T {
    strategy.new_tree(runner).unwrap().current()
}

fn route_tables() -> impl Strategy<Value = Vec<String>> {
    let segment = prop::sample::select(vec!["adm", "pub", "a", "b", "A", "a.b", "~x", "a%20b"]);
    let prefix =
        prop::collection::vec(segment, 1..4).prop_map(|parts| format!("/{}", parts.join("/")));
    (any::<bool>(), prop::collection::btree_set(prefix, 1..4)).prop_map(
        |(has_root, prefixes): (bool, BTreeSet<String>)| {
            has_root.then(|| "/".to_owned()).into_iter().chain(prefixes).collect()
        },
    )
}

fn targets() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/adm", "/pub", "/a", "/b", "/a/b", "/adm/", "/a%20b", "/~x", "adm", "pub", "a",
        "b", "A", "a.b", "~x", "a%20b", "..", ".", "/../", "/./", "//", "\\", ";", ";x", "%2e",
        "%2E%2e", "%2f", "%5c", "%3b", "%61", "%41", "%7e", "%7E", "%20", "%25", "%252e", "%252f",
        "%2561", "%255c", "%253b", "%2520", "x", "%C3%A9",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| {
        let path = pieces.concat();
        if path.starts_with('/') { path } else { format!("/{path}") }
    })
}

/// Targets of a table's own segments, and of what leads from one to another.
fn own_targets(prefixes: &[String]) -> impl Strategy<Value = String> + use<> {
    let segments: Vec<_> = prefixes.iter().flat_map(|prefix| prefix.split('/')).collect();
    let mut segments: Vec<_> = segments.iter().map(|&segment| segment.to_owned()).collect();
    segments.push("x".to_owned());
    let between = prop::sample::select(vec![
        "/",
        "/",
        "/",
        "/../",
        "/x/../",
        "/./",
        "//",
        "\\",
        "/..;/",
        ";/",
        "%2f",
        "%5c",
        "/%2e%2e/",
        "/..%2f",
        "%252f",
        "/%252e%252e/",
    ]);
    prop::collection::vec((between, prop::sample::select(segments)), 1..5).prop_map(|pieces| {
        let path: String =
            pieces.iter().map(|(between, name)| format!("{between}{name}")).collect();
        if path.starts_with('/') { path } else { format!("/{path}") }
    })
}

/// Whether a client of HTTP/2 gets the same answer: that of the same app, or the same refusal.
fn same_over_http2(proxy: &Proxy, host: &str, target: &str) -> bool {
    let mut wire = proxy.wire();
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let answer = wire.read_answer();
    let wire = Wire::try_tls(proxy.https(), pki::trusting(&["h2"]), host).unwrap();
    let mut frames = Frames::over(wire);
    let head = [(":method", "GET"), (":scheme", "https"), (":path", target), (":authority", host)];
    frames.send_head(1, true, &head);
    let told = frames.next_matching(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
    // The status stands first, by its number in the static table (RFC 7541, appendix A).
    match (answer.status(), told.kind, told.payload.first()) {
        (200, HEADERS, Some(0x88)) => frames.next_of(DATA).payload == answer.body,
        (400, HEADERS, Some(0x8c)) | (404, HEADERS, Some(0x8d)) => true,
        (400, RST_STREAM | GOAWAY, _) => true,
        _ => false,
    }
}

fn no_path(stage: &Stage) {
    for target in [
        "/adm%00x",
        "/adm%2500x",
        "/a%00",
        "/%zz",
        "/%zz%",
        "/a%",
        "/a%2",
        "/a%2g",
        "/a%+1",
        "/a\tb",
        "/a\x01b",
        "/a\x7fb",
        "/a#b",
        "/pub#/../adm",
        "/a\u{e9}",
        "/..",
        "/../../adm",
        "/a/../../adm",
        "/%2e%2e/adm",
        "/..%2fadm",
        "?/../adm",
        "adm",
        "*",
        "",
    ] {
        stage.refuses(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
    }
    stage.refuses(b"GET /a\xff HTTP/1.1\r\nHost: app.test\r\n\r\n");
    // What is behind the `?` is nobody's path.
    for target in ["/?/../adm", "/?%2e%2e/%00", "/?a=%zz", "/p?a=b\\c", "/?;/..;/"] {
        stage.on_both(target.as_bytes(), |mut wire| {
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
            assert_eq!(wire.read_answer().status(), 200);
            assert_eq!(stage.heard()[0].target, target);
        });
    }
}

/// What an app may make of a target: percent-decoded up to twice, `\` taken for `/`, parameters of
/// segments cut, dot segments removed (RFC 3986 §5.2.4).
fn readings_of(target: &str) -> Vec<String> {
    let once = percent_decode(target);
    let twice = percent_decode(&once);
    let mut views = Vec::new();
    for text in [target.to_owned(), once, twice] {
        let slashed = text.replace('\\', "/");
        let cut: Vec<_> = slashed.split('/').map(|s| s.split(';').next().unwrap()).collect();
        views.extend([text, slashed.clone(), cut.join("/")]);
    }
    views.iter().map(|view| remove_dots(view)).collect()
}

fn percent_decode(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3).filter(|hex| !hex.starts_with('+'));
        let code = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push_str(&rest[..at]);
        out.push(code.map_or('%', char::from));
        rest = &rest[at + if code.is_some() { 3 } else { 1 }..];
    }
    out + rest
}

fn remove_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}
