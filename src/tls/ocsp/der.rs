//! Just enough of DER (X.690) to ask a responder and to read its answer.

/// One element: its tag, what is in it, and all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

/// Universal tags (X.680 §8.6); `SEQUENCE` is constructed.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// The constructed tag `[number]` of a context.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Reads elements one after the other. What is cut or of a form that DER does not have is no
/// element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element.
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of several bytes are used nowhere here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - after.len())?;
        self.0 = after;
        Some(Element { tag, content, whole })
    }

    /// The next element, which has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        self.optional(tag)
    }

    /// The next element where it has this tag; nothing is read otherwise.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.any().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// What is in the next element, which has this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.take(tag).map(|element| Reader(element.content))
    }
}

/// An element around these parts.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let length = length.get(length.iter().take_while(|byte| **byte == 0).count()..);
    let mut whole = vec![tag];
    match (u8::try_from(content.len()), length) {
        (Ok(short @ 0..=0x7f), _) => whole.push(short),
        (_, length) => {
            let length = length.unwrap_or_default();
            whole.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
            whole.extend_from_slice(length);
        }
    }
    whole.extend_from_slice(&content);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_at_every_length() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let whole = element(SEQUENCE, &[&content, &[1]]);
            let mut reader = Reader(&whole);
            let read = reader.take(SEQUENCE).unwrap();
            assert_eq!((read.content.len(), read.whole), (length + 1, &*whole));
            assert!(reader.any().is_none());
        }
    }

    #[test]
    fn what_is_cut_or_no_der_is_not_read() {
        for bytes in
            [&[][..], &[0x30], &[0x30, 2, 1], &[0x30, 0x80, 0, 0], &[0x30, 0x84, 0, 0, 0, 0]]
        {
            assert!(Reader(bytes).any().is_none(), "{bytes:?}");
        }
        let mut reader = Reader(&[0x02, 1, 5]);
        assert!(reader.optional(SEQUENCE).is_none());
        assert_eq!(reader.take(INTEGER).map(|read| read.content), Some(&[5][..]));
    }
}
