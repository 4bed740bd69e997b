//! The guard and the HTTP library behind it never disagree on where a message ends, however the
//! bytes are cut and whatever the application does meanwhile: what the library hands on is, head by
//! head and body by body, what the guard let through, and nothing behind a refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::cuts::Cuts;
use portcullis_fuzz::messages::{Message, Messages, Plain, unchunked};
use portcullis_fuzz::session::{BodyEnd, Manner, Seen, play};

fuzz_target!(|input: &[u8]| {
    let [seed, habits, stream @ ..] = input else { return };
    let messages = Messages::of(stream);
    let manner = |index: usize| match habits >> (2 + index % 3 * 2) & 3 {
        0 => Manner::Reads,
        1 => Manner::Dawdles,
        2 => Manner::Echoes,
        _ => Manner::Ignores,
    };
    let pieces = Cuts::new(*seed).pieces(stream);
    let (seen, is_open) = play(&pieces, manner, (habits & 1 == 1, habits & 2 == 2));
    assert!(seen.len() <= messages.list.len(), "more requests than heads: {seen:?}\n{messages:?}");
    if is_open {
        assert_eq!(seen.len(), messages.list.len(), "a head is lost: {seen:?}\n{messages:?}");
    }
    for (request, message) in seen.iter().zip(&messages.list) {
        compare(request, message, stream);
    }
});

fn compare(request: &Seen, message: &Message, stream: &[u8]) {
    let plain = Plain::read(&stream[message.head.clone()]);
    assert_eq!(request.method.as_str().as_bytes(), plain.method);
    assert_eq!(request.fields, plain.fields);
    if plain.target.starts_with(b"/") {
        assert_eq!(request.target.as_bytes(), plain.target);
    }
    let wire = &stream[message.body.clone()];
    let body = if plain.is_chunked() { unchunked(wire) } else { wire.to_vec() };
    match request.body_end {
        BodyEnd::Whole => {
            assert!(message.is_whole, "a body that has not ended: {request:?}");
            assert_eq!(request.body, body);
        }
        BodyEnd::Open | BodyEnd::Failed => assert!(body.starts_with(&request.body)),
    }
}
