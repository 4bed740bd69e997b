//! Tricks with where a message ends: lengths, codings, chunks.

use super::draft::{Body, Draft, Field, smuggled};
use super::tricks::Trick;
use crate::mutations::dice::Dice;

/// What is refused, or should be.
pub const HOSTILE: &[Trick] = &[
    coding_value,
    coding_name,
    both_framings,
    length_value,
    wrong_length,
    framing_twice,
    framing_lost,
    framing_folded,
    chunk_size,
    chunk_line_end,
    chunk_end,
    chunk_spill,
    bad_extension,
    bad_trailers,
    last_chunk,
];

/// What is taken, perhaps in another form.
pub const TAKEN: &[Trick] =
    &[extension, trailers, leading_zeros, smuggling_body, length_on_any, framing_case];

const CODINGS: &[&[u8]] = &[
    b"xchunked",
    b"chunked, identity",
    b"\"chunked\"",
    b"\x0bchunked",
    b"\x0cchunked",
    b"\xa0chunked",
    b"chunked;a=b",
    b"gzip",
    b"",
    b"chunked\0",
    b"chunk",
    b",chunked",
    b"chunked,",
    b"identity, chunked",
    b"gzip, chunked",
    b"chunked, chunked",
    b"identity",
    b"chunked\r",
    b"chunked \t",
    b"\tchunked",
    b"Chunked",
    b"chunKed",
    b"chun\xe2\x84\xaaed",
    b"=?UTF-8?B?Y2h1bmtlZA==?=",
    b"chunked\x0b",
    b"chunked\x80",
    b"'chunked'",
    b"trailers",
];

const CODING_NAMES: &[&[u8]] = &[
    b"Transfer-Encoding ",
    b"Transfer-Encoding\t",
    b" Transfer-Encoding",
    b"Transfer_Encoding",
    b"Transfer.Encoding",
    b"Transfer\\Encoding",
    b"Transfer-Encoding\x85",
    b"Transfer-Encoding\0",
    b"Transfer-\r\nEncoding",
    b"transfer-encoding",
    b"TRANSFER-ENCODING",
    b"\x00Transfer-Encoding",
    b"Tran\xc5\xbffer-Encoding",
    b"X:\r\nTransfer-Encoding",
    b"X: y\nTransfer-Encoding",
    b"X: y\rTransfer-Encoding",
    b"Transfer-Encoding\r\n ",
    b"Content-Encoding",
    b"TE",
];

const LENGTHS: &[&[u8]] = &[
    b"+5",
    b"-5",
    b"5 5",
    b"0x5",
    b"1_0",
    b"5.0",
    b"5e0",
    b"5;a",
    b"\x0b5",
    b"\xd9\xa5",
    b"5\0",
    b"",
    b"18446744073709551621",
    b"9223372036854775808",
    b"18446744073709551615",
    b"5, 5",
    b"5,3",
    b"5,",
    b",5",
    b"\"5\"",
    b"0",
    b"00",
    b"-0",
    b"5\t",
    b"5\r",
    b"5\x0c",
    b"0b101",
    b"99999999999999999999999999999999999999",
    b"5\xa0",
    b"\xef\xbc\x95",
    b"1",
    b"3",
    b"0, 0",
];

const SIZES: &[&[u8]] = &[
    b"+5",
    b"-1",
    b"0x5",
    b"0_5",
    b"Z",
    b"5zz",
    b"",
    b" 5",
    b"5 ",
    b"5\t",
    b"\t5",
    b"5,",
    b"FFFFFFFFFFFFFFFFF",
    b"10000000000000005",
    b"FFFFFFFFFFFFFFFF",
    b"8000000000000000",
    b"7fffffffffffffff",
    b"5;",
    b"5:",
    b"5\x0b",
    b"5\0",
    b"5.0",
    b"'5'",
    b"-0",
    b"0",
    b"5\xa0",
    b"fffffffffffffff",
    b"0000000000000000000005",
    b"\xef\xbc\x95",
    b"5 a",
    b"A",
];

const LINE_ENDS: &[&[u8]] =
    &[b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\0\n", b"\r\n\r\n", b"\r\n\n", b" \r\n", b"\x85"];

fn coding_value(draft: &mut Draft, dice: &mut Dice) {
    draft.chunks(dice);
    draft.framing(dice).value = dice.pick(CODINGS).to_vec();
    if dice.one_in(3) {
        draft.add("Content-Length", "5", dice);
    }
}

fn coding_name(draft: &mut Draft, dice: &mut Dice) {
    draft.chunks(dice);
    draft.framing(dice).name = dice.pick(CODING_NAMES).to_vec();
    if dice.one_in(2) {
        let length = dice.below(60).to_string();
        draft.add("Content-Length", length, dice);
    }
}

fn both_framings(draft: &mut Draft, dice: &mut Dice) {
    let length = dice.below(100).to_string();
    draft.framing(dice);
    if dice.one_in(2) {
        draft.add("Content-Length", length, dice);
    } else {
        draft.add("Transfer-Encoding", dice.pick(CODINGS), dice);
    }
}

fn length_value(draft: &mut Draft, dice: &mut Dice) {
    *draft.framing(dice) = Field::of("Content-Length", dice.pick(LENGTHS));
}

fn wrong_length(draft: &mut Draft, dice: &mut Dice) {
    let length = match &draft.body {
        Body::Plain(text) => (text.len() + dice.below(5)).saturating_sub(2),
        Body::Chunked(..) => dice.below(64),
    };
    *draft.framing(dice) = Field::of("Content-Length", length.to_string());
}

fn framing_twice(draft: &mut Draft, dice: &mut Dice) {
    let mut again = draft.framing(dice).clone();
    if dice.one_in(3) {
        again.value = dice.pick(LENGTHS).to_vec();
    }
    let at = dice.below(draft.fields.len() + 1);
    draft.fields.insert(at, again);
}

/// The body is the next request then.
fn framing_lost(draft: &mut Draft, dice: &mut Dice) {
    let name = draft.framing(dice).name.clone();
    draft.fields.retain(|field| field.name != name);
    if dice.one_in(2) {
        draft.body = Body::Plain(smuggled(&draft.marker));
    }
}

fn framing_folded(draft: &mut Draft, dice: &mut Dice) {
    let field = draft.framing(dice);
    match dice.below(4) {
        0 => field.colon = b":\r\n ".to_vec(),
        1 => field.name.insert(0, b'\t'),
        2 => field.value.extend(b"\r\n\t, x"),
        _ => field.name.splice(0..0, *b"X: y\r\n ").for_each(drop),
    }
}

fn chunk_size(draft: &mut Draft, dice: &mut Dice) {
    let (chunks, last) = draft.chunks(dice);
    let size = dice.pick(SIZES);
    match chunks.is_empty() {
        true => last.splice(0..last.len().min(1), size.iter().copied()).for_each(drop),
        false => {
            let at = dice.below(chunks.len());
            chunks[at][0] = size.to_vec();
        }
    }
}

fn chunk_line_end(draft: &mut Draft, dice: &mut Dice) {
    let (chunks, last) = draft.chunks(dice);
    let end = dice.pick(LINE_ENDS).to_vec();
    match chunks.len() {
        0 => *last = [b"0", &*end, b"\r\n"].concat(),
        count => chunks[dice.below(count)][1] = end,
    }
}

fn chunk_end(draft: &mut Draft, dice: &mut Dice) {
    let (chunks, last) = draft.chunks(dice);
    let end = dice.pick(&[b"\n" as &[u8], b"\r", b"", b"XX", b"\n\r", b"\rX", b"\0\0", b"0\r\n"]);
    match chunks.len() {
        0 => *last = [b"0\r\n", end].concat(),
        count => chunks[dice.below(count)][3] = end.to_vec(),
    }
}

fn chunk_spill(draft: &mut Draft, dice: &mut Dice) {
    let marker = draft.marker.clone();
    let (chunks, _) = draft.chunks(dice);
    if chunks.is_empty() {
        return;
    }
    let at = dice.below(chunks.len());
    match dice.below(3) {
        0 => chunks[at][2].extend(b"XX0\r\n\r\n"),
        1 => chunks[at][2].extend(smuggled(&marker)),
        _ => drop(chunks[at][2].pop()),
    }
}

fn bad_extension(draft: &mut Draft, dice: &mut Dice) {
    let extension: &[u8] = dice.pick(&[
        b";\n" as &[u8],
        b";\nxx",
        b";a=\r",
        b";a\rb",
        b";a=\"\r\n\"",
        b";\0",
        b"; a=\x01",
        b" x",
        b";a=\x7f",
        b",a",
        b"&a=b",
        b"\x0b;a",
    ]);
    extend(draft, dice, extension);
}

fn bad_trailers(draft: &mut Draft, dice: &mut Dice) {
    let (_, last) = draft.chunks(dice);
    let trailers: &[u8] = dice.pick(&[
        b"no colon\r\n" as &[u8],
        b"x: y\n",
        b": empty\r\n",
        b"x y: z\r\n",
        b"x: a\0b\r\n",
        b"x: y\r",
        b" fold: x\r\n",
        b"x: a\r\n b\r\n",
        b"x\x80: y\r\n",
        b"x: y\r\n\n",
        b"x : y\r\n",
    ]);
    *last = [b"0\r\n", trailers, b"\r\n"].concat();
}

fn last_chunk(draft: &mut Draft, dice: &mut Dice) {
    let (_, last) = draft.chunks(dice);
    *last = dice
        .pick(&[
            b"00\r\n\r\n" as &[u8],
            b"0 \r\n\r\n",
            b"0\n\r\n",
            b"0\r\n\n",
            b"0\n\n",
            b"0\r\n\r",
            b"0\r\n",
            b"0",
            b"",
            b"-0\r\n\r\n",
            b"0\r\r\n\r\n",
            b"0;\n\r\n",
            b"\r\n0\r\n\r\n",
            b"000000000000000000000\r\n\r\n",
            b"0\r\n\r\nX",
            b"0\r\n\r\n0\r\n\r\n",
        ])
        .to_vec();
}

fn extension(draft: &mut Draft, dice: &mut Dice) {
    let long = [b";a=".as_slice(), &[b'x'; 200]].concat();
    let extension: &[u8] = dice.pick(&[
        b";a=b" as &[u8],
        b";",
        b";a=\"b;c\"",
        b" ; a = b",
        b";\ta",
        b";a=\xe4",
        &long,
    ]);
    extend(draft, dice, extension);
}

/// Puts `extension` behind the size of a chunk.
fn extend(draft: &mut Draft, dice: &mut Dice, extension: &[u8]) {
    let (chunks, last) = draft.chunks(dice);
    match chunks.len() {
        // Another trick may have left nothing of it.
        0 => {
            let place = last.len().min(1);
            last.splice(place..place, extension.iter().copied()).for_each(drop);
        }
        count => chunks[dice.below(count)][0].extend(extension),
    }
}

fn trailers(draft: &mut Draft, dice: &mut Dice) {
    let (_, last) = draft.chunks(dice);
    let trailers: &[u8] = dice.pick(&[
        b"x: y\r\n" as &[u8],
        b"Content-Length: 50\r\nHost: evil.test\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X-Forwarded-For: 6.6.6.6\r\nX: y\r\n",
        b"Cookie: a=b\r\nConnection: close\r\n",
        b"a:\r\nb:\r\nc:\r\n",
        b"x_y: z\r\n",
    ]);
    *last = [b"0\r\n", trailers, b"\r\n"].concat();
}

fn leading_zeros(draft: &mut Draft, dice: &mut Dice) {
    let zeros = "0".repeat(1 + dice.below(9));
    if let Body::Chunked(chunks, _) = &mut draft.body {
        chunks.iter_mut().for_each(|chunk| drop(chunk[0].splice(0..0, zeros.bytes())));
    } else {
        draft.framing(dice).value.splice(0..0, zeros.bytes());
    }
}

fn smuggling_body(draft: &mut Draft, dice: &mut Dice) {
    let mut text = smuggled(&draft.marker);
    if dice.one_in(2) {
        text.splice(0..0, *b"0\r\n\r\n");
    }
    *draft.framing(dice) = Field::of("Content-Length", text.len().to_string());
    draft.body = Body::Plain(text);
}

fn length_on_any(draft: &mut Draft, dice: &mut Dice) {
    draft.words[0] = dice.pick(&["GET", "HEAD", "OPTIONS", "DELETE", "M-SEARCH"]).into();
    draft.framing(dice);
}

fn framing_case(draft: &mut Draft, dice: &mut Dice) {
    let field = draft.framing(dice);
    for byte in field.name.iter_mut().chain(&mut field.value) {
        if dice.one_in(2) {
            *byte = if byte.is_ascii_lowercase() {
                byte.to_ascii_uppercase()
            } else {
                byte.to_ascii_lowercase()
            };
        }
    }
}
