//! How applications may read the bytes of a path.

use super::path::{PathError, decode, upper_escapes};

/// More decodings than this no chain of servers is known to do by mistake.
const DECODINGS: usize = 2;

/// More variants than this at one level only come from paths made to have them; a bound on the
/// work that they cause.
const MAX_TEXTS: usize = 32;

/// A path as one reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    /// Whether escapes were resolved.
    pub(super) decoded: bool,
    /// Between the slashes, dot segments removed (RFC 3986 §5.2.4).
    pub(super) segments: Vec<&'a [u8]>,
}

/// Shows every reading of `path`, which begins with `/`: escapes resolved 0, 1 and 2 times;
/// `;parameters` cut off and `\` taken for `/` before any of these or not; empty segments merged or
/// not. Returns whether dot segments are hidden: seen by some readers only, or beside empty ones.
///
/// What readers that take turns (remove dots, resolve escapes, remove dots) make of hidden dots is
/// beyond counting, and no honest client sends them: clients resolve dots themselves.
///
/// # Errors
///
/// [`PathError::AboveRoot`] if one reader climbs above the root, [`PathError::Nul`] if one meets a
/// NUL, [`PathError::Ambiguous`] if there are too many to read, and whatever `see` returns.
pub(super) fn read_every_way(
    path: &[u8],
    mut see: impl FnMut(&Reading<'_>) -> Result<(), PathError>,
) -> Result<bool, PathError> {
    let mut readers = Readers { see: &mut see, first: None, dots: false, differ: false };
    let mut texts = vec![path.to_vec()];
    for level in 0..=DECODINGS {
        if level > 0 {
            if !texts.iter().any(|text| text.contains(&b'%')) {
                break;
            }
            texts = texts.iter().map(|text| decode(text)).collect();
        }
        add_variants(&mut texts)?;
        for text in &texts {
            if level == 0 {
                readers.read(&upper_escapes(text), false)?;
            } else {
                readers.read(text, true)?;
            }
        }
    }
    Ok(readers.dots && readers.differ)
}

/// Adds to what readers see at one level what they see after cutting parameters off or taking `\`
/// for `/`, in any order.
fn add_variants(texts: &mut Vec<Vec<u8>>) -> Result<(), PathError> {
    let mut next = 0;
    while let Some(text) = texts.get(next) {
        let cut = text.contains(&b';').then(|| cut_parameters(text));
        let slashes = text.contains(&b'\\').then(|| take_for_slashes(text));
        for variant in cut.into_iter().chain(slashes) {
            if !texts.contains(&variant) {
                texts.push(variant);
            }
        }
        if texts.len() > MAX_TEXTS {
            return Err(PathError::Ambiguous);
        }
        next += 1;
    }
    Ok(())
}

struct Readers<'s, S> {
    see: &'s mut S,
    /// What the first reader saw.
    first: Option<Vec<Kind>>,
    /// Whether one saw a dot segment.
    dots: bool,
    /// Whether two saw different kinds of segments, or one an empty one.
    differ: bool,
}

/// What a segment does to the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Name,
    Empty,
    Dot,
    DotDot,
}

impl<S: FnMut(&Reading<'_>) -> Result<(), PathError>> Readers<'_, S> {
    fn read(&mut self, text: &[u8], decoded: bool) -> Result<(), PathError> {
        if text.contains(&0) {
            return Err(PathError::Nul);
        }
        let kinds: Vec<Kind> = segments(text).map(kind).collect();
        let inner_empty = kinds.iter().rev().skip(1).any(|kind| *kind == Kind::Empty);
        self.dots |= kinds.iter().any(|kind| matches!(kind, Kind::Dot | Kind::DotDot));
        self.differ |= inner_empty || self.first.as_ref().is_some_and(|first| *first != kinds);
        self.first.get_or_insert(kinds);
        (self.see)(&Reading { decoded, segments: remove_dots(text, false)? })?;
        if inner_empty {
            (self.see)(&Reading { decoded, segments: remove_dots(text, true)? })?;
        }
        Ok(())
    }
}

fn segments(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_prefix(b"/").unwrap_or(text).split(|&byte| byte == b'/')
}

fn kind(segment: &[u8]) -> Kind {
    match segment {
        b"" => Kind::Empty,
        b"." => Kind::Dot,
        b".." => Kind::DotDot,
        _ => Kind::Name,
    }
}

/// RFC 3986 §5.2.4, but climbing above the root is an error.
fn remove_dots(text: &[u8], merge: bool) -> Result<Vec<&[u8]>, PathError> {
    let mut kept = Vec::new();
    for segment in segments(text) {
        match kind(segment) {
            Kind::Name => kept.push(segment),
            Kind::Empty if merge => {}
            Kind::Empty => kept.push(segment),
            Kind::Dot => {}
            Kind::DotDot => {
                kept.pop().ok_or(PathError::AboveRoot)?;
            }
        }
    }
    Ok(kept)
}

/// Cuts each segment at its first `;`, as servlet containers do.
fn cut_parameters(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut in_parameters = false;
    for &byte in text {
        in_parameters = byte != b'/' && (in_parameters || byte == b';');
        if !in_parameters {
            out.push(byte);
        }
    }
    out
}

fn take_for_slashes(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}
