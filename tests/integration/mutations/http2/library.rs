//! Where the HTTP/2 library mends what it should refuse, before the proxy sees anything of it.
//!
//! Nothing of that makes two requests of one, or brings an application something that it should not
//! have: what is cut or dropped is gone. The reading of a stream allows for these and no more:
//!
//! - a fragment is cut off a path;
//! - a quote is taken for a letter of a name: the proxy drops such a field;
//! - a scheme without an authority beside it is dropped;
//! - pseudo-header fields are dropped from trailers;
//! - a header block is judged piece by piece where CONTINUATION cuts it: what is wrong in the first
//!   piece is dropped instead of refused, and the second may begin with pseudo-header fields.

use super::asked::{Asked, Fields};
use super::reading::OF_CONNECTIONS;
use crate::harness::h2_frames::field_block;

/// The stream as the library hands it over.
pub fn mended(asked: &Asked) -> Asked {
    let mut mended = asked.clone();
    if let Some(fields) = judged_in_pieces(asked) {
        mended.fields = fields;
    }
    for (_, path) in mended.fields.iter_mut().filter(|(name, _)| name == b":path") {
        path.truncate(path.iter().position(|byte| *byte == b'#').unwrap_or(path.len()));
    }
    for fields in [Some(&mut mended.fields), mended.trailers.as_mut()].into_iter().flatten() {
        fields.retain(|(name, _)| name.starts_with(b":") || !name.contains(&b'"'));
    }
    if mended.fields.iter().all(|(name, _)| name != b":authority") {
        let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let schemes = mended.fields.iter_mut().filter(|(name, _)| name == b":scheme");
        schemes.filter(|(_, value)| value.iter().all(is_scheme)).for_each(|(_, value)| {
            *value = b"https".to_vec();
        });
    }
    if let Some(trailers) = &mut mended.trailers {
        let known = [&b":path"[..], b":method", b":status", b":scheme", b":authority"];
        trailers.retain(|(name, _)| !known.contains(&&**name));
    }
    mended
}

/// The fields of a block that is cut; `None` where the second piece is refused.
fn judged_in_pieces(asked: &Asked) -> Option<Fields> {
    let cut = asked.cut.filter(|cut| *cut < field_block(&asked.fields).len())?;
    let is_whole = |count: &usize| field_block(&asked.fields[..*count]).len() <= cut;
    let first = (0..=asked.fields.len()).rev().find(is_whole).unwrap_or(0);
    let (mut pseudo, mut regular) = (Fields::new(), Fields::new());
    let mut is_behind = false;
    for (place, (name, value)) in asked.fields.iter().enumerate() {
        is_behind &= place != first;
        let is_bad = match name.first() {
            Some(b':') => is_behind || pseudo.iter().any(|(known, _)| known == name),
            _ if name == b"te" => value != b"trailers",
            _ => OF_CONNECTIONS.contains(&&**name),
        };
        match is_bad {
            true if place < first => {}
            true => return None,
            false if name.starts_with(b":") => pseudo.push((name.clone(), value.clone())),
            false => {
                is_behind = true;
                regular.push((name.clone(), value.clone()));
            }
        }
    }
    pseudo.extend(regular);
    Some(pseudo)
}
