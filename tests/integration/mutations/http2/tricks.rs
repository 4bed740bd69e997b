//! Tricks with header blocks: what becomes another request when it is written as HTTP/1.1.

use super::asked::Asked;
use crate::mutations::dice::Dice;

type Trick = fn(&mut Asked, &mut Dice);

/// What concerns one stream.
const TRICKS: &[Trick] = &[
    white_space,
    connection_field,
    te,
    content_length,
    path,
    other_method,
    scheme,
    authority,
    host,
    pseudo_twice,
    pseudo_late,
    pseudo_lost,
    trailers,
    cookies,
    connect,
    forwarding,
    alias,
    expect,
    smuggling_data,
    no_end,
    ordinary,
    ordinary,
    ordinary,
    frames,
    frames,
];

/// What is no header block, so that nothing after it on the connection can be read for certain.
const LAST_WORDS: &[Trick] =
    &[line_in_value, odd_name, folded_name, odd_byte, bad_trailers, pseudo_unknown, method];

/// Plays any trick that concerns one stream.
pub fn play(asked: &mut Asked, dice: &mut Dice) {
    TRICKS[dice.below(TRICKS.len())](asked, dice);
}

/// Plays a trick for which a server may end the connection.
pub fn play_last(asked: &mut Asked, dice: &mut Dice) {
    LAST_WORDS[dice.below(LAST_WORDS.len())](asked, dice);
}

fn any<'a>(asked: &'a mut Asked, dice: &mut Dice) -> &'a mut (Vec<u8>, Vec<u8>) {
    if asked.fields.is_empty() {
        asked.add("x", "y");
    }
    let at = dice.below(asked.fields.len());
    &mut asked.fields[at]
}

fn line_in_value(asked: &mut Asked, dice: &mut Dice) {
    let line = dice.pick(&[
        "\r\ntransfer-encoding: chunked",
        "\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: app.test\r\n\r\n",
        "\nx: y",
        "\rx: y",
        "\0",
        "\r\n",
        "\n",
        "\r",
        "\u{85}x: y",
        "\u{2028}x: y",
        "\u{560a}",
        "\x0b",
        "\x1b",
    ]);
    if dice.one_in(2) {
        asked.add("x", format!("a{line}"));
    } else {
        any(asked, dice).1.extend(line.bytes());
    }
}

fn odd_name(asked: &mut Asked, dice: &mut Dice) {
    let name: &[u8] = dice.pick(&[
        b"x\r\ny" as &[u8],
        b"x: y",
        b"x:",
        b"Xy",
        b"",
        b"x y",
        b" x",
        b"x ",
        b"x\0",
        b"x\x80",
        b"x\t",
        b"\r\n",
        b"x\r\ntransfer-encoding: chunked\r\nx",
        b"x=y",
        b"(x)",
        b"x/y",
        b"\"x\"",
        b"Transfer-Encoding",
        b"transfer-encoding ",
        b"transfer-encoding:",
        b"CONTENT-LENGTH",
        b"content-length:",
        b"host ",
        b"\x0bhost",
        b"x@y",
        b"{x}",
        b"x,y",
        b"x\x7f",
        b"content length",
    ]);
    asked.add(name, "chunked");
}

/// Characters that case folding turns into ASCII letters.
fn folded_name(asked: &mut Asked, dice: &mut Dice) {
    let name = dice.pick(&[
        "tran\u{17f}fer-encoding",
        "x-\u{212a}",
        "\u{212a}eep-alive",
        "ho\u{17f}t",
        "\u{ff48}ost",
        "tran\u{17f}fer-encoding ",
        "content-length\u{a0}",
        "upgr\u{61}de\u{200b}",
    ]);
    asked.add(name, "chunked");
    if dice.one_in(2) {
        asked.set(":path", format!("/{}\u{212a}", asked.marker));
    }
}

fn odd_byte(asked: &mut Asked, dice: &mut Dice) {
    let (name, value) = any(asked, dice);
    let text = if dice.one_in(3) { name } else { value };
    let at = dice.below(text.len() + 1);
    text.insert(at, dice.byte());
}

fn white_space(asked: &mut Asked, dice: &mut Dice) {
    let value = dice.pick(&[" a", "a ", " a ", "\ta", "a\t", "  ", "\t"]);
    if dice.one_in(2) {
        asked.add("x", value);
    } else {
        asked.set(dice.pick(&["x", ":path", ":scheme", ":authority"]), value);
    }
}

fn connection_field(asked: &mut Asked, dice: &mut Dice) {
    let (name, value) = *dice.pick(&[
        &("transfer-encoding", "chunked"),
        &("transfer-encoding", "identity"),
        &("connection", "close"),
        &("connection", "x-forwarded-for"),
        &("keep-alive", "timeout=5"),
        &("upgrade", "h2c"),
        &("upgrade", "websocket"),
        &("proxy-connection", "keep-alive"),
        &("http2-settings", "AAMAAABk"),
        &("transfer-encoding", ""),
        &("connection", ""),
        &("proxy", "http://evil"),
        &("trailer", "x"),
    ]);
    asked.add(name, value);
    if name == "transfer-encoding" && dice.one_in(2) {
        smuggling_data(asked, dice);
    }
}

fn te(asked: &mut Asked, dice: &mut Dice) {
    asked.add("te", dice.pick(&["trailers", "gzip", "trailers, gzip", "", "Trailers", "chunked"]));
}

fn content_length(asked: &mut Asked, dice: &mut Dice) {
    let length = asked.data.iter().map(Vec::len).sum::<usize>();
    let value = match dice.below(18) {
        0 => "3".to_owned(),
        1 => "0".to_owned(),
        2 => (length + 1).to_string(),
        3 => length.saturating_sub(1).to_string(),
        4 => format!("+{length}"),
        5 => String::new(),
        6 => format!("{length}, {length}"),
        7 => format!("00{length}"),
        8 => format!("{length};x"),
        9 => format!("0x{length:x}"),
        10 => "18446744073709551621".to_owned(),
        11 => format!(" {length}"),
        12 => format!("-{length}"),
        13 => format!("{length} "),
        14 => "9".to_owned(),
        _ => length.to_string(),
    };
    if dice.one_in(4) {
        asked.add("content-length", value);
    } else {
        asked.set("content-length", value);
    }
}

fn path(asked: &mut Asked, dice: &mut Dice) {
    let mark = &asked.marker;
    let path = match dice.below(20) {
        0 => format!("/{mark} HTTP/1.1\r\nX: y"),
        1 => format!("/{mark} b"),
        2 => mark.clone(),
        3 => format!("http://evil.test/{mark}"),
        4 => String::new(),
        5 => format!("/{mark}#b"),
        6 => "*".to_owned(),
        7 => format!("/{mark}\u{e9}"),
        8 => format!("/{mark}\0"),
        9 => format!("/{mark}\t"),
        10 => format!("/{mark}%00"),
        11 => format!("/{mark}%"),
        12 => format!("?{mark}"),
        13 => format!("//evil.test/{mark}"),
        14 => format!("/{mark}?a=b&c=http://x/?"),
        15 => format!("/{mark}/..;/\\x"),
        16 => format!("/../../{mark}"),
        17 => format!("@evil.test/{mark}"),
        18 => format!("/{mark} HTTP/1.1\r\nhost: app.test\r\n\r\nGET /smuggled"),
        _ => format!("/{mark}%0d%0aX:y"),
    };
    asked.set(":path", path);
}

fn method(asked: &mut Asked, dice: &mut Dice) {
    let method = dice.pick(&[
        "GET /adm HTTP/1.1\r\nX:",
        "GET /adm",
        "GET ",
        " GET",
        "",
        "get",
        "TRACE",
        "G\0T",
        "PRI",
        "G\u{17f}T",
        "GET\r\n",
        "QUERY",
        "M-SEARCH",
        "G:T",
        "OPTIONS",
        "HTTP/1.1",
    ]);
    asked.set(":method", method);
}

fn other_method(asked: &mut Asked, dice: &mut Dice) {
    let method =
        dice.pick(&["get", "TRACE", "PRI", "QUERY", "M-SEARCH", "OPTIONS", "HEAD", "TRACK"]);
    asked.set(":method", method);
}

fn scheme(asked: &mut Asked, dice: &mut Dice) {
    let scheme = dice.pick(&[
        "http",
        "https://evil/x?",
        "http\r\nX: y",
        "",
        "ftp",
        "HTTPS",
        "https:",
        "http://app.test/",
        "javascript",
        " https",
        "h\u{17f}",
    ]);
    asked.set(":scheme", scheme);
}

const HOSTS: &[&str] = &[
    "u:p@app.test",
    "app.test/x",
    "a b",
    "",
    "evil.test",
    "app.test:99999",
    "app.test\r\nx: y",
    "app.test#",
    "app.test?x",
    "app.test,b.test",
    "[::1",
    "app.te\u{17f}t",
    "app.test\0",
    ".",
    "*",
    "APP.TEST",
    "app.test.",
    "app.test:443",
    "app.test:",
    "app.test ",
    " app.test",
    "app%2etest",
];

fn authority(asked: &mut Asked, dice: &mut Dice) {
    asked.set(":authority", dice.pick(HOSTS));
}

fn host(asked: &mut Asked, dice: &mut Dice) {
    if dice.one_in(3) {
        asked.fields.retain(|(name, _)| name != b":authority");
    }
    let host = if dice.one_in(2) { "app.test" } else { dice.pick(HOSTS) };
    asked.add("host", host.replace(|byte: char| byte.is_control(), "?"));
    if dice.one_in(4) {
        asked.add("host", "app.test");
    }
}

fn pseudo_twice(asked: &mut Asked, dice: &mut Dice) {
    let at = dice.below(4).min(asked.fields.len());
    if let Some(mut again) = asked.fields.get(at).cloned() {
        if dice.one_in(2) {
            again.1.push(b'x');
        }
        asked.fields.insert(at, again);
    }
}

fn pseudo_late(asked: &mut Asked, dice: &mut Dice) {
    if asked.fields.is_empty() {
        return;
    }
    let field = asked.fields.remove(dice.below(asked.fields.len().min(4)));
    asked.fields.push(field);
}

fn pseudo_unknown(asked: &mut Asked, dice: &mut Dice) {
    let name = dice.pick(&[
        ":status",
        ":nonsense",
        ":",
        ":Path",
        ":path ",
        ":protocol",
        "::path",
        ":host",
    ]);
    let at = dice.below(asked.fields.len() + 1);
    asked.fields.insert(at, (name.into(), b"200".to_vec()));
}

fn pseudo_lost(asked: &mut Asked, dice: &mut Dice) {
    if !asked.fields.is_empty() {
        asked.fields.remove(dice.below(asked.fields.len().min(4)));
    }
}

fn trailers(asked: &mut Asked, dice: &mut Dice) {
    let (name, value) = *dice.pick(&[
        &("content-length", "50"),
        &("host", "evil.test"),
        &(":path", "/evil"),
        &(":method", "GET"),
        &("transfer-encoding", "chunked"),
        &("x-forwarded-for", "6.6.6.6"),
        &("x", "fine"),
        &("connection", "close"),
        &(":status", "200"),
        &("cookie", "a=b"),
        &("grpc-status", "0"),
        &("te", "gzip"),
        &("authorization", "x"),
        &("x_forwarded_for", "6.6.6.6"),
    ]);
    end_with(asked, (name.into(), value.into()), dice);
}

fn bad_trailers(asked: &mut Asked, dice: &mut Dice) {
    let (name, value) = *dice.pick(&[
        &("Upper", "case"),
        &("x\r\ny", "z"),
        &("x", "a\r\nb: c"),
        &("", "empty"),
        &("x y", "z"),
        &("x", "a\0b"),
        &("x:", "y"),
        &("tran\u{17f}fer-encoding", "chunked"),
        &("x", "\r\n0\r\n\r\n"),
    ]);
    end_with(asked, (name.into(), value.into()), dice);
}

fn end_with(asked: &mut Asked, trailer: (Vec<u8>, Vec<u8>), dice: &mut Dice) {
    if asked.data.is_empty() && dice.one_in(2) {
        asked.data.push(asked.marker.clone().into());
    }
    asked.trailers = Some(vec![trailer]);
}

fn cookies(asked: &mut Asked, dice: &mut Dice) {
    for number in 0..1 + dice.below(4) {
        asked.add("cookie", format!("c{number}=d"));
    }
}

fn connect(asked: &mut Asked, dice: &mut Dice) {
    asked.set(":method", "CONNECT");
    match dice.below(4) {
        0 => asked.set(":authority", "127.0.0.1:22"),
        1 => asked.fields.retain(|(name, _)| name != b":path" && name != b":scheme"),
        2 => asked.fields.insert(1, (b":protocol".to_vec(), b"websocket".to_vec())),
        _ => asked.fields.insert(1, (b":protocol".to_vec(), b"connect-udp".to_vec())),
    }
}

fn forwarding(asked: &mut Asked, dice: &mut Dice) {
    let name = dice.pick(&[
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "x-real-ip",
        "x-request-id",
        "x-client-cert",
        "x-forwarded-port",
    ]);
    asked.add(name, "6.6.6.6");
}

fn alias(asked: &mut Asked, dice: &mut Dice) {
    let name = dice.pick(&[
        "transfer_encoding",
        "content_length",
        "x_forwarded_for",
        "x.forwarded.for",
        "remote.user",
        "host_",
        "_",
    ]);
    asked.add(name, "chunked");
}

fn expect(asked: &mut Asked, dice: &mut Dice) {
    asked.add("expect", dice.pick(&["100-continue", "100-Continue", "200-ok", ""]));
}

fn smuggling_data(asked: &mut Asked, dice: &mut Dice) {
    let mark = &asked.marker;
    let text = format!("GET /smuggled/{mark} HTTP/1.1\r\nhost: app.test\r\n\r\n");
    let text = if dice.one_in(2) { format!("0\r\n\r\n{text}") } else { text };
    asked.data = vec![text.into()];
}

fn no_end(asked: &mut Asked, dice: &mut Dice) {
    if dice.one_in(4) {
        asked.ends = false;
    }
}

fn ordinary(asked: &mut Asked, dice: &mut Dice) {
    for number in 0..1 + dice.below(12) {
        let text: Vec<u8> = (0..dice.below(30)).map(|_| dice.byte() & 0x7f).collect();
        let text = text.into_iter().filter(|byte| *byte >= b' ' && *byte != 0x7f);
        asked.add(format!("x-{number}"), text.collect::<Vec<u8>>());
    }
}

/// The same data in frames of other sizes, empty ones among them.
fn frames(asked: &mut Asked, dice: &mut Dice) {
    let text = asked.data.concat();
    asked.data = text.chunks(1 + dice.below(9)).map(<[u8]>::to_vec).collect();
    if !asked.data.is_empty() && dice.one_in(2) {
        let at = dice.below(asked.data.len() + 1);
        asked.data.insert(at, Vec::new());
    }
    asked.cut = Some(dice.below(80));
}
