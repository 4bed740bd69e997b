//! Paths: whoever reads a forwarded path ends under the route that was chosen for it.
//!
//! The input is lines: the prefixes of the routes, and at last the path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::proxy::route::{PathPrefix, RouteTable};
use portcullis_fuzz::readers::{Reading, percent_decoded, readings};

fuzz_target!(|text: &str| {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let path = lines.pop().unwrap_or_default();
    let prefixes: Vec<PathPrefix> =
        lines.into_iter().take(8).filter_map(|line| PathPrefix::parse(line).ok()).collect();
    for prefix in &prefixes {
        assert_eq!(PathPrefix::parse(prefix.as_str()).as_ref(), Ok(prefix));
    }
    let Ok(Some(chosen)) = RouteTable::new(&prefixes).select(path) else { return };
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
    for reading in readings(path.as_bytes()) {
        let found = longest(&prefixes, &reading);
        // Of two equal prefixes the first counts.
        let found = found.map(|found| prefixes[found].as_str());
        assert_eq!(found, Some(prefixes[chosen].as_str()), "{path:?} is also {reading:?}");
    }
});

/// The route that a reading falls under.
fn longest(prefixes: &[PathPrefix], reading: &Reading) -> Option<usize> {
    let covers = |prefix: &PathPrefix| {
        let wanted: Vec<&str> =
            prefix.as_str()[1..].split('/').filter(|it| !it.is_empty()).collect();
        wanted.len() <= reading.segments.len()
            && wanted.iter().zip(&reading.segments).all(|(wanted, segment)| {
                if reading.decodings > 0 {
                    percent_decoded(wanted.as_bytes()) == *segment
                } else {
                    upper_escapes(segment) == wanted.as_bytes()
                }
            })
    };
    let all = prefixes.iter().enumerate().filter(|(_, prefix)| covers(prefix));
    all.max_by_key(|(_, prefix)| prefix.as_str().len()).map(|(index, _)| index)
}

fn upper_escapes(segment: &[u8]) -> Vec<u8> {
    let mut out = segment.to_vec();
    for at in 0..out.len() {
        if out[at] == b'%' {
            let end = out.len().min(at + 3);
            out[at + 1..end].make_ascii_uppercase();
        }
    }
    out
}
