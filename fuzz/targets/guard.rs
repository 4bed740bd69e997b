//! The guard alone: whatever comes, it gives the same verdict for the same bytes however they are
//! cut, and lets nothing pass that it has not been given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::cuts::Cuts;
use portcullis_fuzz::messages::Messages;

fuzz_target!(|input: &[u8]| {
    let [seed, stream @ ..] = input else { return };
    let whole = Messages::of(stream);
    let pieces = Cuts::new(*seed).pieces(stream);
    let (heads, refused) = Messages::refused_in_pieces(&pieces);
    assert_eq!((heads, refused), (whole.list.len() as u64, whole.refused));
});
