//! Blocks of HTTP/2 fields (RFC 7541 §6), read for what the HTTP library does not tell.
//!
//! It takes pseudo-fields in trailers for nothing at all, cuts a fragment off a path, and forgets
//! the scheme of a request that names its host in a field. None of that may be in a request (RFC
//! 9113 §8.1, §8.3.1), and who puts it there means somebody behind us. So a block is walked through
//! on its way to the library: strings are skipped by their lengths, and only the values of two
//! pseudo-fields are looked at.
//!
//! Of the dynamic table only the kinds of its newest names are kept. That is enough: an index
//! counts from the newest entry, and one that has been evicted is refused by the library.

/// A trailer section. It waits in the library, uncounted, until all data before it has gone; no
/// client is known that sends more than a few fields there.
const TRAILER_BYTES: usize = 8 * 1024;
const TRAILER_FIELDS: usize = 64;

/// What is wrong with a request, so that nobody may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// How far a client is within a block, and what its dynamic table has.
#[derive(Debug, Default)]
pub struct FieldBlock {
    at: At,
    form: Form,
    number: Number,
    /// Whether this block is a trailer section.
    is_trailers: bool,
    /// Bytes and fields of it so far.
    length: usize,
    fields: usize,
    /// Of the field's name.
    kind: Kind,
    is_huffman: bool,
    /// What is left of a string.
    left: usize,
    text: Text,
    newest: Kinds,
}

/// Which byte comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first of a representation.
    #[default]
    Start,
    /// One more of an index.
    Index,
    /// The first of a string's length.
    Length(Part),
    /// One more of it.
    LongLength(Part),
    /// One of the string.
    Text(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Name,
    Value,
}

/// RFC 7541 §6.1 to §6.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Indexed,
    /// Added to the dynamic table.
    Added,
    /// A literal that is not.
    Passing,
    /// A change of the table's size.
    Resize,
}

/// What a name means here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Regular,
    /// `:path`.
    Path,
    /// `:scheme`.
    Scheme,
    /// Any other that begins with a colon.
    Pseudo,
}

impl FieldBlock {
    /// Another block begins.
    pub fn begin(&mut self, is_trailers: bool) {
        self.at = At::Start;
        self.is_trailers = is_trailers;
        (self.length, self.fields) = (0, 0);
    }

    /// Looks at more bytes of the block.
    ///
    /// # Errors
    /// When the request is one that the library would take.
    pub fn look(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        self.length += bytes.len();
        if self.is_trailers && self.length > TRAILER_BYTES {
            return Err(LONG_TRAILERS);
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            if let At::Text(part) = self.at {
                let (here, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= here.len();
                self.read(part, here)?;
                bytes = rest;
                continue;
            }
            bytes = rest;
            let is_known = match self.at {
                At::Start => {
                    let bits;
                    (self.form, bits) = form_of(byte);
                    self.number.begin(byte, bits)
                }
                At::Length(_) => {
                    self.is_huffman = byte & 0x80 != 0;
                    self.number.begin(byte, 7)
                }
                At::Index | At::LongLength(_) | At::Text(_) => self.number.go_on(byte),
            };
            self.at = match self.at {
                At::Start if !is_known => At::Index,
                At::Length(part) if !is_known => At::LongLength(part),
                at if !is_known => at,
                At::Start | At::Index => self.begin_field()?,
                At::Length(part) | At::LongLength(part) | At::Text(part) => {
                    self.left = self.number.value;
                    self.text = Text::default();
                    if self.left == 0 {
                        self.read(part, &[])?;
                        continue;
                    }
                    At::Text(part)
                }
            };
        }
        Ok(())
    }

    /// The index of a representation is known.
    fn begin_field(&mut self) -> Result<At, Malformed> {
        if self.form == Form::Resize {
            return Ok(At::Start);
        }
        self.fields += 1;
        if self.is_trailers && self.fields > TRAILER_FIELDS {
            return Err(LONG_TRAILERS);
        }
        let index = self.number.value;
        if self.form != Form::Indexed && index == 0 {
            return Ok(At::Length(Part::Name));
        }
        self.name(match index {
            4 | 5 => Kind::Path,
            6 | 7 => Kind::Scheme,
            1..=14 => Kind::Pseudo,
            0 | 15..=61 => Kind::Regular,
            _ => self.newest.at(index - 62),
        })?;
        match self.form {
            // The only one of the static table that is not for here.
            Form::Indexed if index == 6 => Err(SCHEME),
            Form::Indexed => Ok(At::Start),
            _ => Ok(At::Length(Part::Value)),
        }
    }

    /// The name of a field is known.
    fn name(&mut self, kind: Kind) -> Result<(), Malformed> {
        self.kind = kind;
        if self.form == Form::Added {
            self.newest.add(kind);
        }
        if self.is_trailers && kind != Kind::Regular { Err(TRAILERS) } else { Ok(()) }
    }

    /// Reads more of a string, of which `left` is what comes after.
    fn read(&mut self, part: Part, bytes: &[u8]) -> Result<(), Malformed> {
        self.text.keep(bytes);
        let is_last = self.left == 0;
        match part {
            Part::Name if is_last => {
                self.at = At::Length(Part::Value);
                return self.name(self.text.kind(self.is_huffman));
            }
            Part::Value
                if self.kind == Kind::Path && self.text.has_fragment(bytes, self.is_huffman) =>
            {
                return Err(FRAGMENT);
            }
            Part::Value
                if self.kind == Kind::Scheme && is_last && !self.text.is_https(self.is_huffman) =>
            {
                return Err(SCHEME);
            }
            _ => {}
        }
        if is_last {
            self.at = At::Start;
        }
        Ok(())
    }
}

const LONG_TRAILERS: Malformed = Malformed("trailers of more than 64 fields, or 8 KiB");
const TRAILERS: Malformed = Malformed("a pseudo-field in trailers");
const FRAGMENT: Malformed = Malformed("a path with a fragment");
const SCHEME: Malformed = Malformed("a scheme other than https");

/// The form of a representation, and how many bits of its first byte are a number.
fn form_of(byte: u8) -> (Form, u32) {
    match byte {
        0x80.. => (Form::Indexed, 7),
        0x40.. => (Form::Added, 6),
        0x20.. => (Form::Resize, 5),
        _ => (Form::Passing, 4),
    }
}

/// An integer of RFC 7541 §5.1.
#[derive(Debug, Default)]
struct Number {
    value: usize,
    shift: u32,
}

impl Number {
    /// Begins with the last `bits` of `byte`; whether that is all.
    fn begin(&mut self, byte: u8, bits: u32) -> bool {
        let most = (1 << bits) - 1;
        self.value = usize::from(byte) & most;
        self.shift = 0;
        self.value < most
    }

    /// Whether that is all. What is beyond measure here is so for the library, which refuses it.
    fn go_on(&mut self, byte: u8) -> bool {
        let more = usize::from(byte & 0x7f).checked_shl(self.shift).unwrap_or(usize::MAX);
        self.value = self.value.saturating_add(more);
        self.shift = self.shift.saturating_add(7);
        byte & 0x80 == 0
    }
}

/// The kinds of the newest names in the dynamic table, two bits each. It has 4096 bytes and an
/// entry at least 32 (RFC 7541 §4.1, §4.2), so there are no more than 128.
#[derive(Debug, Default)]
struct Kinds {
    high: u128,
    low: u128,
}

impl Kinds {
    fn add(&mut self, kind: Kind) {
        let is_high = matches!(kind, Kind::Scheme | Kind::Pseudo);
        let is_low = matches!(kind, Kind::Path | Kind::Pseudo);
        self.high = self.high << 1 | u128::from(is_high);
        self.low = self.low << 1 | u128::from(is_low);
    }

    fn at(&self, place: usize) -> Kind {
        let bit = |bits: u128| u32::try_from(place).ok().and_then(|n| bits.checked_shr(n));
        match (bit(self.high).unwrap_or(0) & 1, bit(self.low).unwrap_or(0) & 1) {
            (0, 0) => Kind::Regular,
            (0, _) => Kind::Path,
            (_, 0) => Kind::Scheme,
            _ => Kind::Pseudo,
        }
    }
}

/// What is kept of a string.
#[derive(Debug, Default)]
struct Text {
    /// Its beginning.
    first: [u8; 8],
    length: usize,
    /// Bits of Huffman's code that are no whole symbol yet, the first of them on top.
    bits: u64,
    count: u32,
}

impl Text {
    fn keep(&mut self, bytes: &[u8]) {
        for (room, byte) in self.first.iter_mut().skip(self.length).zip(bytes) {
            *room = *byte;
        }
        self.length += bytes.len();
    }

    fn is(&self, text: &[u8]) -> bool {
        self.first.get(..self.length) == Some(text)
    }

    /// The kind of a name. There is one way to write a text in Huffman's code (RFC 7541 §5.2).
    fn kind(&self, is_huffman: bool) -> Kind {
        let [first, ..] = self.first;
        let (path, scheme, is_pseudo): (&[u8], &[u8], bool) = if is_huffman {
            (b"\xb9\x58\xd3\x3f", b"\xb8\x82\x4e\x5a\x4b", first >> 1 == 0b101_1100)
        } else {
            (b":path", b":scheme", first == b':')
        };
        match () {
            () if self.length == 0 || !is_pseudo => Kind::Regular,
            () if self.is(path) => Kind::Path,
            () if self.is(scheme) => Kind::Scheme,
            () => Kind::Pseudo,
        }
    }

    fn is_https(&self, is_huffman: bool) -> bool {
        self.is(if is_huffman { b"\x9d\x29\xad\x1f" } else { b"https" })
    }

    /// Whether `#` is in `bytes`, which follow those of the last call.
    fn has_fragment(&mut self, bytes: &[u8], is_huffman: bool) -> bool {
        if !is_huffman {
            return memchr::memchr(b'#', bytes).is_some();
        }
        bytes.iter().any(|byte| {
            self.bits |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
            while let Some(length) = symbol(self.bits).filter(|length| *length <= self.count) {
                if length == 12 && self.bits >> 52 == 0xffa {
                    return true;
                }
                self.bits <<= length;
                self.count -= length;
            }
            // No symbol has more bits: it is none, and the library refuses the string.
            if self.count >= LONGEST {
                (self.bits, self.count) = (0, 0);
            }
            false
        })
    }
}

/// The longest symbol, in bits.
const LONGEST: u32 = 30;

/// How many bits the symbol has that `bits` begins with (RFC 7541 appendix B): codes of one length
/// follow each other, and longer ones are greater. `None` for what is the end of the string, or
/// no symbol.
fn symbol(bits: u64) -> Option<u32> {
    /// The first code that is longer than this.
    const LONGER: [(u32, u32); 21] = [
        (0x5000_0000, 5),
        (0xb800_0000, 6),
        (0xf800_0000, 7),
        (0xfe00_0000, 8),
        (0xff40_0000, 10),
        (0xffa0_0000, 11),
        (0xffc0_0000, 12),
        (0xfff0_0000, 13),
        (0xfff8_0000, 14),
        (0xfffe_0000, 15),
        (0xfffe_6000, 19),
        (0xfffe_e000, 20),
        (0xffff_4800, 21),
        (0xffff_b000, 22),
        (0xffff_ea00, 23),
        (0xffff_f600, 24),
        (0xffff_f800, 25),
        (0xffff_fbc0, 26),
        (0xffff_fe20, 27),
        (0xffff_fff0, 28),
        (0xffff_ffff, 30),
    ];
    let top = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
    LONGER.iter().find(|(longer, _)| top < *longer).map(|(_, length)| *length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A literal, by Huffman's code where `code` is 0x80.
    fn literal(form: u8, code: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![form];
        for text in [name, value] {
            bytes.push(code | u8::try_from(text.len()).unwrap());
            bytes.extend(text);
        }
        bytes
    }

    /// What is said of a block that comes in every possible cut, after `before`.
    #[track_caller]
    fn judge(before: &[u8], is_trailers: bool, block: &[u8]) -> Result<(), Malformed> {
        let mut verdicts = (1..=block.len().max(1)).map(|size| {
            let mut blocks = FieldBlock::default();
            blocks.begin(false);
            blocks.look(before).unwrap();
            blocks.begin(is_trailers);
            block.chunks(size).try_for_each(|piece| blocks.look(piece))
        });
        let first = verdicts.next().unwrap();
        assert!(verdicts.all(|verdict| verdict == first), "cuts matter");
        first
    }

    /// It panicked: bits that are no symbol piled up.
    #[test]
    fn a_string_without_a_symbol_in_it_is_left_to_the_library() {
        let mut block = FieldBlock::default();
        block.begin(false);
        let string = [&[0x04, 0x80 | 64][..], &[0xff; 64]].concat();
        assert_eq!(block.look(&string), Ok(()));
    }

    /// They wait in the library until the data before them has gone, and nobody counts them.
    #[test]
    fn trailers_have_a_limit_and_heads_have_theirs_elsewhere() {
        let fields = |count: usize| literal(0, 0, b"a", b"b").repeat(count);
        assert_eq!(judge(&[], true, &fields(TRAILER_FIELDS)), Ok(()));
        assert_eq!(judge(&[], true, &fields(TRAILER_FIELDS + 1)), Err(LONG_TRAILERS));
        assert_eq!(judge(&[], false, &fields(TRAILER_FIELDS + 1)), Ok(()));
        let large = literal(0, 0, b"a", &[b'b'; 126]).repeat(TRAILER_FIELDS);
        let mut block = FieldBlock::default();
        block.begin(true);
        assert_eq!(block.look(&large[..TRAILER_BYTES]), Ok(()));
        assert_eq!(block.look(&large[TRAILER_BYTES..]), Err(LONG_TRAILERS));
    }

    #[test]
    fn an_ordinary_head_passes() {
        let mut block = vec![0x3f, 0xe1, 0x1f, 0x82, 0x87, 0x84, 0x41, 8];
        block.extend(b"app.test");
        block.extend(literal(0x40, 0, b":path", b"/a?b"));
        block.extend(literal(0x10, 0, b":scheme", b"https"));
        block.extend(literal(0x00, 0x80, b"\xb8\x82\x4e\x5a\x4b", b"\x9d\x29\xad\x1f"));
        block.extend(literal(0x00, 0, b"x", &[b'#'; 126]));
        block.extend([0x0f, 48, 0x7f, 0x81, 1]);
        block.extend([b'#'; 256]);
        block.extend([0xbe, 0xbf]);
        assert_eq!(judge(&[], false, &block), Ok(()));
    }

    #[test]
    fn a_fragment_is_seen_in_every_coding() {
        for block in [
            literal(0x40, 0, b":path", b"/a#b"),
            literal(0x00, 0, b":path", b"#"),
            literal(0x10, 0x80, b"\xb9\x58\xd3\x3f", b"\x60\x7f\xf5\x1f"),
            [&[0x04, 4][..], b"/a#b"].concat(),
            [&[0x45, 0x84][..], b"\x60\x7f\xf5\x1f"].concat(),
        ] {
            assert_eq!(judge(&[], false, &block), Err(FRAGMENT), "{}", block.escape_ascii());
        }
        let before = [literal(0x40, 0, b":path", b"/"), literal(0x40, 0, b"x", b"y")].concat();
        assert_eq!(judge(&before, false, b"\x0f\x30\x04/a#b"), Err(FRAGMENT));
        assert_eq!(judge(&before, false, b"\x0f\x2f\x04/a#b"), Ok(()), "that is x");
    }

    /// `>` has a code of the same length beside that of `#`, and `$` one that begins like both.
    #[test]
    fn other_symbols_of_huffmans_code_are_no_fragment() {
        for path in [
            // `/<>"^`{|}~[]'\\`
            &b"\x63\xff\xe7\xfd\xff\x3f\xfe\x7f\xfd\xff\xfd\xff\x3f\xfd\xff\xef\xfe\xff\xf9\xfe\xbf\xff\x87"[..],
            // `/$&+,/:;=?@`
            b"\x63\xff\x3f\x1f\xef\xe9\x8b\x9f\x70\x7f\x9f\xfa",
        ] {
            assert_eq!(judge(&[], false, &literal(0x00, 0x80, b"\xb9\x58\xd3\x3f", path)), Ok(()));
        }
    }

    #[test]
    fn only_https_is_a_scheme_here() {
        for block in [
            vec![0x86],
            literal(0x00, 0, b":scheme", b"http"),
            literal(0x40, 0, b":scheme", b""),
            literal(0x00, 0, b":scheme", b"https://evil.test/?"),
            [&[0x06, 4][..], b"http"].concat(),
        ] {
            assert_eq!(judge(&[], false, &block), Err(SCHEME), "{}", block.escape_ascii());
        }
    }

    #[test]
    fn pseudo_fields_are_not_for_trailers() {
        let before = [literal(0x40, 0, b":path", b"/"), literal(0x40, 0, b"x", b"y")].concat();
        for block in [
            vec![0x82],
            vec![0x84],
            vec![0xbf],
            [&[0x01, 1][..], b"a"].concat(),
            literal(0x00, 0, b":x", b"y"),
            literal(0x40, 0, b":path", b"/"),
            literal(0x00, 0x80, b"\xb9\x58\xd3\x3f", b"\x63"),
            [literal(0x40, 0, b"grpc-status", b"0"), vec![0xc0]].concat(),
        ] {
            assert_eq!(judge(&before, true, &block), Err(TRAILERS), "{}", block.escape_ascii());
        }
        for block in [vec![0xbe], vec![], literal(0x40, 0, b"grpc-status", b"0")] {
            assert_eq!(judge(&before, true, &block), Ok(()), "{}", block.escape_ascii());
        }
    }

    #[test]
    fn nothing_makes_it_panic() {
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        let mut blocks = FieldBlock::default();
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random() / 4).map(|_| random()).collect();
            blocks.begin(random() > 128);
            let _ = blocks.look(&bytes);
        }
    }
}
