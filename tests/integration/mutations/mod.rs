//! Requests that are bent by chance, by the hundred thousand.
//!
//! A seed gives cases; a case is one client with an address of its own, so that the application
//! knows whose request it has whatever stands in it. It reads with the strict reader; a reading of
//! the client's own bytes, as strict, says what may have come out of them.
//!
//! `MUTATION_SEED=N` plays one seed, `MUTATION_CASE=N` with it one case, whose bytes are shown, and
//! `MUTATION_CASES=N` so many cases a seed.

mod dice;
mod marker;
mod backend;
mod campaign;
mod http1;
mod http2;
mod tap;
mod readers;

use campaign::{Campaign, Play, Trial};

use crate::harness::wire::Wire;
use http1::stream::Stream;
use http2::asked::Asked;

/// Requests that each run must have bent and had looked at.
const HTTP1: usize = 80_000;
const HTTP2: usize = 20_000;

/// What was played ever since, beside a seed that is drawn at each run.
const SEEDS: &[u64] = &[1, 2, 0x5eed_0fda_7a00, 0xffff_ffff_ffff_ffff];

#[test]
fn bent_requests_over_http1() {
    let trial = |campaign: &Campaign, wire: &mut dyn FnMut(bool) -> Wire, seed, case| {
        let stream = Stream::of(seed, case);
        let sent = http1::sent::read(&stream.bytes);
        let played = http1::client::play(wire(stream.is_sealed), &stream, &sent);
        let looked_at = played.answers.len().clamp(1, stream.mutated.len());
        campaign.count(stream.mutated[..looked_at].iter().filter(|bent| **bent).count());
        let must_pass = stream.is_untouched() && played.answers.iter().any(|a| a.serial.is_none());
        Play {
            shown: stream.bytes.escape_ascii().to_string(),
            judge: Box::new(move |seen| {
                let mut found = http1::judge::complaints(case, &sent, &played, seen);
                found.extend(must_pass.then(|| format!("nothing is wrong with it: {played:?}")));
                found
            }),
        }
    };
    let (protocol, play) = ("http/1.1", &trial);
    campaign::run(&Trial { protocol, cases: 6800, wanted: HTTP1, passing: 50, play });
}

#[test]
fn bent_requests_over_http2() {
    let trial = |campaign: &Campaign, wire: &mut dyn FnMut(bool) -> Wire, seed, case| {
        let asked = Asked::of(seed, case);
        let meant = asked.iter().map(http2::library::mended);
        let meant: Vec<_> = meant.map(|asked| http2::reading::read(&asked)).collect();
        let played = http2::client::play(wire(true), &asked);
        let is_looked_at = |(place, one): &(usize, &Asked)| {
            one.is_bent && (played.over.contains(place) || one.is_last_word)
        };
        campaign.count(asked.iter().enumerate().filter(is_looked_at).count());
        Play {
            shown: asked.iter().map(Asked::shown).collect::<Vec<_>>().join("\n"),
            judge: Box::new(move |seen| http2::judge::complaints(case, &meant, &played, seen)),
        }
    };
    // A malformed request ends its connection, and the requests behind it are not looked at.
    campaign::run(&Trial { protocol: "h2", cases: 480, wanted: HTTP2, passing: 15, play: &trial });
}
