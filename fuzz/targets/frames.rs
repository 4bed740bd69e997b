//! The borders of HTTP/2 frames: found wherever the bytes are cut, and where a second reading by
//! the lengths alone finds them.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::cuts::Cuts;
use portcullis_fuzz::downstream::frames::Frames;

const PREFACE: usize = 24;
const HEAD: usize = 9;

fuzz_target!(|input: &[u8]| {
    let [seed, stream @ ..] = input else { return };
    let now = Instant::now();
    let (mut whole, mut cut) = (Frames::new(now), Frames::new(now));
    let verdict = whole.look(stream, now);
    let pieces = Cuts::new(*seed).pieces(stream);
    assert_eq!(pieces.iter().try_for_each(|piece| cut.look(piece, now)), verdict);
    assert_eq!((whole.heads(), whole.open()), (cut.heads(), cut.open()));
    assert_eq!(whole.has_begun(), cut.has_begun());
    if verdict.is_err() {
        return;
    }

    let (mut rest, mut heads) = (stream.get(PREFACE..).unwrap_or_default(), 0);
    let mut is_open = false;
    let is_within = loop {
        let [high, middle, low, kind, flags, _, _, _, _, payload @ ..] = rest else {
            break is_open || !rest.is_empty();
        };
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        match kind {
            1 => (heads, is_open) = (heads + 1, flags & 4 == 0),
            9 if flags & 4 != 0 => is_open = false,
            _ => {}
        }
        match payload.get(length..) {
            Some(next) => rest = next,
            None => break is_open || *kind != 0,
        }
    };
    assert_eq!((whole.heads(), whole.open().is_some()), (heads, is_within));
    assert!(heads as usize <= stream.len() / HEAD);
});
