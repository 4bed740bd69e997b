//! The chunked coding: an application's body is the same however it arrives, is what a second
//! reader finds, and ends where the guard, which reads clients' bodies, sees the end.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::cuts::Cuts;
use portcullis_fuzz::messages::{Messages, unchunked};
use portcullis_fuzz::upstream::chunked::{Chunked, Step};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    body: Vec<u8>,
    /// How many bytes were taken, and how many trailer fields there were.
    end: Option<(usize, usize)>,
    is_refused: bool,
}

fuzz_target!(|input: &[u8]| {
    let [seed, stream @ ..] = input else { return };
    let whole = read(&[stream]);
    let cut = read(&Cuts::new(*seed).pieces(stream));
    assert_eq!(whole, cut);
    let plain = unchunked(stream);
    assert!(plain.starts_with(&whole.body));
    let Some((end, _)) = whole.end else { return };
    assert_eq!(whole.body, plain);
    assert!(stream[..end].ends_with(b"\r\n"));
    let messages = Messages::of(&[HEAD, stream].concat());
    let guarded = &messages.list[0];
    if guarded.is_whole {
        assert_eq!(guarded.body.len(), end);
    } else {
        // Its own rules are stricter here and there, never about where the body ends.
        assert!(messages.refused.is_some_and(|(_, is_in_body)| is_in_body));
    }
});

fn read(pieces: &[&[u8]]) -> Read {
    let (mut chunked, mut input, mut read) = (Chunked::default(), BytesMut::new(), Read::default());
    let mut given = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        given += piece.len();
        loop {
            match chunked.step(&mut input) {
                Ok(Step::Data(data)) => read.body.extend_from_slice(&data),
                Ok(Step::More) => break,
                Ok(Step::End(trailers)) => {
                    read.end = Some((given - input.len(), trailers.len()));
                    return read;
                }
                Err(_) => {
                    read.is_refused = true;
                    return read;
                }
            }
        }
    }
    read
}
