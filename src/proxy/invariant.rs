//! The invariant of paths, over route tables and paths that a generator makes: whoever reads what
//! was forwarded, in whatever way, finds it under the route by which it came.
//!
//! The second reader is written from the RFC, without a look at [`super::view`].

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::path::PathError;
use super::route::{PathPrefix, RouteTable};

const TABLES: usize = 250;
const PATHS: usize = 16;

#[test]
fn no_reader_is_led_under_another_route() {
    let mut runner = TestRunner::deterministic();
    let (mut routed, mut hostile, mut refused) = (0, 0, 0);
    for _ in 0..TABLES {
        let written = made(&mut runner, &tables());
        let prefixes: Vec<_> =
            written.iter().map(|text| PathPrefix::parse(text).unwrap()).collect();
        let table = RouteTable::new(&prefixes);
        let paths = paths(&written);
        for _ in 0..PATHS {
            let path = made(&mut runner, &paths);
            match table.select(&path) {
                Ok(route) => {
                    let readings = readings(&path);
                    for reading in &readings {
                        let found = reading.route(&prefixes);
                        assert_eq!(found, route, "{path} of {written:?} is read as {reading:?}");
                    }
                    routed += 1;
                    hostile += usize::from(readings.len() > 1);
                }
                Err(PathError::NotAbsolute) => panic!("{path} begins with a slash"),
                Err(_) => refused += 1,
            }
        }
    }
    let told =
        format!("{routed} routed, {hostile} of them with several readings, {refused} refused");
    println!("{told}");
    assert!(routed > 500 && hostile > 100 && refused > 500, "{told}");
}

/// As the invariant leaves it: a refusal is for a path that somebody could read otherwise.
#[test]
fn no_path_is_refused_that_all_read_alike() {
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRunner::deterministic().new_rng());
    for _ in 0..TABLES {
        let written = made(&mut runner, &tables());
        let prefixes: Vec<_> =
            written.iter().map(|text| PathPrefix::parse(text).unwrap()).collect();
        let table = RouteTable::new(&prefixes);
        let segment = prop::sample::select(segments_of(&written));
        let paths = prop::collection::vec(segment, 0..6);
        for _ in 0..PATHS {
            let path = format!("/{}", made(&mut runner, &paths).join("/"));
            let [first, rest @ ..] = &readings(&path)[..] else { panic!("nobody reads {path}") };
            let wanted = first.route(&prefixes);
            if rest.iter().all(|reading| reading.route(&prefixes) == wanted) {
                assert_eq!(table.select(&path), Ok(wanted), "{path} of {written:?}");
            }
        }
    }
}

fn made<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

/// Prefixes as an operator may write them, many of them within others.
fn tables() -> impl Strategy<Value = Vec<String>> {
    let segment = prop::sample::select(vec![
        "a",
        "b",
        "adm",
        "pub",
        "A",
        "v1",
        "...",
        "..a",
        "a..",
        ".b",
        "~x",
        "@s",
        "a+b",
        "a|b",
        "a%20b",
        "%41dm",
        "caf\u{e9}",
        "caf%c3%a9",
        "a%3Fb",
        "%23",
        "x%2Cy",
        "%E2%80%AE",
        "-",
    ]);
    let step = (any::<prop::sample::Index>(), any::<bool>(), segment);
    (any::<bool>(), prop::collection::vec(step, 1..7)).prop_map(|(has_root, steps)| {
        let mut all: Vec<String> = Vec::new();
        for (parent, is_nested, segment) in steps {
            let parent = match &all[..] {
                [_, ..] if is_nested => all[parent.index(all.len())].clone(),
                _ => String::new(),
            };
            all.push(format!("{parent}/{segment}"));
        }
        all.extend(has_root.then(|| "/".to_owned()));
        all
    })
}

/// What stands between the slashes of a table, as it goes over the wire.
fn segments_of(table: &[String]) -> Vec<String> {
    let normal = table.iter().map(|text| PathPrefix::parse(text).unwrap().as_str().to_owned());
    let mut segments: Vec<_> =
        normal.flat_map(|text| text.split('/').map(str::to_owned).collect::<Vec<_>>()).collect();
    segments.retain(|segment| !segment.is_empty());
    segments.push("x".to_owned());
    segments
}

/// Paths made of a table's own segments, in any disguise, and of what leads from one to another.
fn paths(table: &[String]) -> impl Strategy<Value = String> + use<> {
    let disguised = (prop::sample::select(segments_of(table)), 0..12_u8).prop_map(disguise);
    let between = prop::sample::select(vec![
        "/",
        "/",
        "/",
        "/",
        "/",
        "//",
        "/./",
        "/../",
        "/..",
        "/.",
        "\\",
        "%2f",
        "%2F",
        "%5c",
        "%252f",
        "/%2e%2e/",
        "/%2e/",
        "/.%2e/",
        "/%252e%252e/",
        "/..;/",
        "/;/",
        ";x/",
        ";",
        "%3b",
        "/..\\",
        "/..%2f",
        "%5C..%5C",
        "/x/../",
        "/..%255c",
        "",
        "?",
        "#",
        "%00",
        "%",
        "%25",
    ]);
    prop::collection::vec((between, disguised), 0..6).prop_map(|pieces| {
        let path: String =
            pieces.iter().map(|(between, name)| format!("{between}{name}")).collect();
        if path.starts_with('/') { path } else { format!("/{path}") }
    })
}

fn disguise((segment, how): (String, u8)) -> String {
    let first = segment.bytes().next().unwrap_or(b'x');
    let rest = segment.get(1..).unwrap_or_default();
    match how {
        0 => format!("%{first:02x}{rest}"),
        1 => format!("%{first:02X}{rest}"),
        2 => format!("%25{first:02x}{rest}"),
        3 => segment.replace('%', "%25"),
        4 => segment.to_lowercase(),
        5 => segment.to_uppercase(),
        6 => format!("{segment}."),
        _ => segment,
    }
}

/// What a reader makes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    path: Vec<u8>,
    /// How often escapes were resolved.
    decodings: usize,
}

impl Reading {
    /// The longest prefix that covers it: of a reader that resolves no escapes the prefix as it is
    /// written, of the others what it means.
    fn route(&self, prefixes: &[PathPrefix]) -> Option<usize> {
        let covers = |prefix: &PathPrefix| {
            let text = prefix.as_str().trim_end_matches('/').as_bytes();
            let text = if self.decodings == 0 { text.to_vec() } else { percent_decoded(text) };
            let rest = self.path.strip_prefix(&text[..]);
            rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        };
        let covering = prefixes.iter().enumerate().rev().filter(|(_, prefix)| covers(prefix));
        covering.max_by_key(|(_, prefix)| prefix.as_str().len()).map(|(id, _)| id)
    }
}

/// One thing that a reader may do to a path.
type Step = fn(&[u8]) -> Vec<u8>;

/// Escapes resolved 0, 1 and 2 times; then `\` taken for `/`, parameters cut off and empty segments
/// merged, any of these in any order; then dot segments removed.
fn readings(path: &str) -> Vec<Reading> {
    let steps: [Step; 3] = [flipped, cut, merged];
    let mut found = Vec::new();
    let mut text = with_upper_escapes(path.as_bytes());
    for decodings in 0..=2 {
        if decodings > 0 {
            text = percent_decoded(&text);
        }
        let mut variants = vec![text.clone()];
        for _ in 0..steps.len() {
            for step in steps {
                let more: Vec<_> = variants.iter().map(|variant| step(variant)).collect();
                more.into_iter().for_each(|one| {
                    if !variants.contains(&one) {
                        variants.push(one);
                    }
                });
            }
        }
        for variant in variants {
            let reading = Reading { path: dots_removed(&variant), decodings };
            if !found.contains(&reading) {
                found.push(reading);
            }
        }
    }
    found
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.filter(|_| text[at] == b'%') {
            Some(digits) => {
                out.push(u8::from_str_radix(digits, 16).unwrap());
                at += 3;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// RFC 3986 §6.2.2.1: `%c3` and `%C3` are the same for every reader.
fn with_upper_escapes(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    for at in 0..text.len() {
        if text[at] == b'%' && at + 2 < text.len() {
            out[at + 1..at + 3].make_ascii_uppercase();
        }
    }
    out
}

fn flipped(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn cut(text: &[u8]) -> Vec<u8> {
    let segments = text.split(|byte| *byte == b'/');
    let cut = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap());
    cut.collect::<Vec<_>>().join(&b'/')
}

fn merged(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    out.dedup_by(|next, before| *next == b'/' && *before == b'/');
    out
}

/// The five rules of RFC 3986 §5.2.4 as they stand there.
fn dots_removed(text: &[u8]) -> Vec<u8> {
    let (mut input, mut output) = (text.to_vec(), Vec::new());
    while !input.is_empty() {
        let starts = |prefix: &[u8]| input.starts_with(prefix);
        if starts(b"../") {
            input.drain(..3);
        } else if starts(b"./") || starts(b"/./") {
            input.drain(..2);
        } else if input == b"/." {
            input = b"/".to_vec();
        } else if starts(b"/../") || input == b"/.." {
            input = if input.len() == 3 { b"/".to_vec() } else { input[3..].to_vec() };
            let last = output.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            output.truncate(last);
        } else if input == b"." || input == b".." {
            input.clear();
        } else {
            let end = input.iter().skip(1).position(|byte| *byte == b'/');
            let end = end.map_or(input.len(), |end| end + 1);
            output.extend(input.drain(..end));
        }
    }
    output
}
