//! Tricks with lines, names, hosts, targets and fields.

use super::draft::{Draft, Field};
use super::framing_tricks;
use crate::mutations::dice::Dice;

/// What is done to a request.
pub type Trick = fn(&mut Draft, &mut Dice);

const HOSTILE: &[Trick] = &[
    line_end, name_byte, value_byte, fold, colon, gap, version, method, lead, bad_host, no_host,
    two_hosts, bad_target, no_colon, field_lost, too_much, head_end,
];

const TAKEN: &[Trick] = &[
    good_host,
    target,
    absolute,
    expect,
    upgrade,
    forwarding,
    alias,
    hop_by_hop,
    cookies,
    many,
    white_space,
    old_version,
    again,
    any_text,
    connection,
];

/// Plays one trick: of those that are mostly taken, or of those that are mostly refused.
pub fn play(draft: &mut Draft, dice: &mut Dice, is_taken: bool) {
    let (ours, framing) = match is_taken {
        true => (TAKEN, framing_tricks::TAKEN),
        false => (HOSTILE, framing_tricks::HOSTILE),
    };
    let at = dice.below(ours.len() + framing.len());
    let trick = ours.get(at).unwrap_or_else(|| &framing[at - ours.len()]);
    trick(draft, dice);
}

fn line_end(draft: &mut Draft, dice: &mut Dice) {
    let end = dice.pick(&[
        b"\n" as &[u8],
        b"\r",
        b"\r\r\n",
        b"\n\r",
        b"",
        b"\r\0\n",
        b"\r\n\r\n",
        b"\0\r\n",
        b"\x85",
        b"\x0b\r\n",
        b"\xe5\x98\x8a",
    ]);
    match dice.one_in(4) {
        true => draft.gaps[2] = end.to_vec(),
        false => draft.any_field(dice).eol = end.to_vec(),
    }
}

fn head_end(draft: &mut Draft, dice: &mut Dice) {
    draft.end = dice
        .pick(&[b"\n" as &[u8], b"\r", b"", b"\r\r\n", b" \r\n", b"\n\r\n", b"\0\r\n"])
        .to_vec();
}

fn insert(text: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(text.len() + 1);
    text.insert(at, dice.byte());
}

fn name_byte(draft: &mut Draft, dice: &mut Dice) {
    let field = draft.any_field(dice);
    insert(&mut field.name, dice);
}

fn value_byte(draft: &mut Draft, dice: &mut Dice) {
    let field = draft.any_field(dice);
    insert(&mut field.value, dice);
}

fn any_text(draft: &mut Draft, dice: &mut Dice) {
    let mut text: Vec<u8> = (0..dice.below(24)).map(|_| dice.byte()).collect();
    text.retain(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    draft.add("X-Text", text, dice);
}

fn fold(draft: &mut Draft, dice: &mut Dice) {
    let fold = dice.pick(&[b"\r\n " as &[u8], b"\r\n\t", b"\n ", b"\r\n \r\n "]);
    let field = draft.any_field(dice);
    let at = dice.below(field.value.len() + 1);
    field.value.splice(at..at, fold.iter().copied());
    if dice.one_in(4) {
        draft.fields[0].name.insert(0, b' ');
    }
}

fn colon(draft: &mut Draft, dice: &mut Dice) {
    draft.any_field(dice).colon = dice
        .pick(&[
            b" : " as &[u8],
            b"\t:",
            b" :",
            b"::",
            b";",
            b"=",
            b"\0:",
            b": \x0b",
            b":\x0c",
            b"",
        ])
        .to_vec();
}

fn white_space(draft: &mut Draft, dice: &mut Dice) {
    let field = draft.any_field(dice);
    field.colon = dice.pick(&[b":" as &[u8], b":\t", b":   ", b": \t "]).to_vec();
    field.value.extend(dice.pick(&[b" " as &[u8], b"\t\t", b" \t ", b""]));
}

fn gap(draft: &mut Draft, dice: &mut Dice) {
    let at = dice.below(2);
    draft.gaps[at] = dice
        .pick(&[
            b"  " as &[u8],
            b"\t",
            b"",
            b"\x0b",
            b"\xa0",
            b" \t",
            b"\r\n",
            b"\n",
            b"\0",
            b" x ",
        ])
        .to_vec();
}

fn version(draft: &mut Draft, dice: &mut Dice) {
    draft.words[2] = dice
        .pick(&[
            "HTTP/2.0",
            "HTTP/1.2",
            "HTTP/1.1x",
            "http/1.1",
            "",
            "HTTP/0.9",
            "HTTP/1.1\t",
            "HTTP/1",
            "HTTP/01.1",
            "HTTP/1.10",
            "HTTP/1,1",
            "HTTP /1.1",
            "SIP/2.0",
            "HTTP/1.1 x",
            "HTTP/3",
        ])
        .into();
}

fn old_version(draft: &mut Draft, dice: &mut Dice) {
    draft.words[2] = b"HTTP/1.0".to_vec();
    if dice.one_in(2) {
        draft.add("Connection", "keep-alive", dice);
    }
}

fn method(draft: &mut Draft, dice: &mut Dice) {
    let long = "A".repeat(5000);
    draft.words[0] = dice
        .pick(&[
            "G=\":<>(e)",
            "get",
            "CONNECT",
            "TRACE",
            "PRI",
            "G\0T",
            "",
            "GET\r",
            "G:T",
            "\u{17f}ET",
            "GET,",
            "!#$%&'*+-.^_`|~",
            "GET\u{a0}",
            "HTTP/1.1",
            &long,
            "TRACK",
            "PURGE",
            " GET",
        ])
        .into();
    if draft.words[0] == b"CONNECT" && dice.one_in(2) {
        draft.words[1] = b"127.0.0.1:22".to_vec();
    }
}

fn lead(draft: &mut Draft, dice: &mut Dice) {
    draft.lead = dice
        .pick(&[
            b"\r\n" as &[u8],
            b"\n",
            b"\r\n\r\n",
            b"\r\n\r\n\r\n",
            b" ",
            b"\0",
            b"\r",
            b"\xef\xbb\xbf",
            b"\r\n ",
            b"\n\n",
            b"0\r\n\r\n",
            b"x",
        ])
        .to_vec();
}

fn set_host(draft: &mut Draft, value: &[u8]) {
    draft.fields.retain(|field| !field.name.eq_ignore_ascii_case(b"host"));
    draft.fields.insert(0, Field::of("Host", value));
}

fn bad_host(draft: &mut Draft, dice: &mut Dice) {
    let long = "a".repeat(9000);
    let host = dice.pick(&[
        "",
        "u:p@app.test",
        "app.test/x",
        "app test",
        "app.test, b.test",
        "app.test:99999",
        "app.test:80:81",
        "app.test:8x",
        "app%2etest",
        "app\\test",
        "app.test?x",
        "app.test#x",
        "app\"><x>",
        "[::1",
        "..app.test",
        ".",
        "app.t\u{e9}st",
        &long,
        "evil.test",
        "127.0.0.1",
        "app.test\0",
        "app.te\u{17f}t",
        "app.test:-1",
        "app.test:+80",
        "*",
        "app.test..",
        "@app.test",
    ]);
    set_host(draft, host.as_bytes());
}

fn good_host(draft: &mut Draft, dice: &mut Dice) {
    let host = dice.pick(&[
        "APP.TEST",
        "app.test.",
        "app.test:80",
        "app.test:",
        "app.test:443",
        "App.Test:08080",
    ]);
    set_host(draft, host.as_bytes());
}

fn no_host(draft: &mut Draft, dice: &mut Dice) {
    draft.fields.retain(|field| !field.name.eq_ignore_ascii_case(b"host"));
    if dice.one_in(3) {
        draft.words[2] = b"HTTP/1.0".to_vec();
    }
}

fn two_hosts(draft: &mut Draft, dice: &mut Dice) {
    let host = dice.pick(&["app.test", "b.test", "", "app.test:80"]);
    draft.add(dice.pick(&["Host", "host", "HOST", "hOST"]), host, dice);
}

fn bad_target(draft: &mut Draft, dice: &mut Dice) {
    let mark = &draft.marker;
    draft.words[1] = match dice.below(20) {
        0 => mark.clone().into(),
        1 => format!("/{mark}#x").into(),
        2 => format!("/{mark}\0").into(),
        3 => format!("/{mark}%00").into(),
        4 => format!("/{mark}%zz").into(),
        5 => format!("/{mark}\u{e9}").into(),
        6 => format!("http://u:p@app.test/{mark}").into(),
        7 => format!("ftp://app.test/{mark}").into(),
        8 => format!("http://evil.test/{mark}").into(),
        9 => b"*".to_vec(),
        10 => b"app.test:80".to_vec(),
        11 => format!("/../../{mark}").into(),
        12 => format!("/{}{mark}", "x".repeat(9000)).into(),
        13 => format!("http:///{mark}").into(),
        14 => format!("http://app.test#{mark}").into(),
        15 => format!("?{mark}").into(),
        16 => format!("/{mark}\x7f").into(),
        17 => format!("javascript://app.test/{mark}").into(),
        18 => format!("/{mark}%").into(),
        _ => b"".to_vec(),
    };
}

fn target(draft: &mut Draft, dice: &mut Dice) {
    let mark = &draft.marker;
    draft.words[1] = match dice.below(13) {
        0 => format!("/a/../{mark}").into(),
        1 => format!("//evil.test/{mark}").into(),
        2 => format!("/{mark}?a=b&c=%00#").replace('#', "").into(),
        3 => format!("/%2e%2e/{mark}").into(),
        4 => format!("/{mark}/..;/x").into(),
        5 => format!("/{mark}\\..\\x").into(),
        6 => format!("/{mark}?x=http://a/?b").into(),
        7 => format!("/{mark}%0d%0aX:y").into(),
        8 => format!("/{mark}%2561").into(),
        9 => format!("/{mark}:80@x|y^z`").into(),
        10 => {
            draft.words[0] = b"OPTIONS".to_vec();
            b"*".to_vec()
        }
        11 => format!("/{mark}{}", "/x".repeat(100)).into(),
        _ => format!("/{mark}?\"<>'{{}}").into(),
    };
}

fn absolute(draft: &mut Draft, dice: &mut Dice) {
    let mark = &draft.marker;
    let (scheme, host) =
        (dice.pick(&["http", "https", "HTTP"]), dice.pick(&["app.test", "App.Test"]));
    draft.words[1] = match dice.below(4) {
        0 => format!("{scheme}://{host}?{mark}").into(),
        1 => format!("{scheme}://{host}").into(),
        _ => format!("{scheme}://{host}/{mark}").into(),
    };
}

fn expect(draft: &mut Draft, dice: &mut Dice) {
    let value = dice.pick(&[
        "100-continue",
        "100-CONTINUE",
        "100-continue",
        "200-ok",
        "",
        "y 100-continue",
    ]);
    draft.add("Expect", value, dice);
}

fn upgrade(draft: &mut Draft, dice: &mut Dice) {
    let protocol =
        dice.pick(&["websocket", "h2c", "foo", "TLS/1.0", "websocket, h2c", "", "HTTP/2.0"]);
    draft.add("Upgrade", protocol, dice);
    if !dice.one_in(4) {
        draft.add("Connection", dice.pick(&["Upgrade", "upgrade, HTTP2-Settings"]), dice);
        draft.add("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA", dice);
    }
    if dice.one_in(2) {
        draft.add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", dice);
        draft.add("Sec-WebSocket-Version", "13", dice);
    }
}

fn connection(draft: &mut Draft, dice: &mut Dice) {
    let options = dice.pick(&[
        "close, X-Forwarded-For",
        "X-Forwarded-Proto, Host",
        "keep-alive, Content-Length",
        "Transfer-Encoding",
        "Cookie, X-Marker",
        "X-Request-Id",
        ",,,",
        "\"x\"",
        "keep-alive",
    ]);
    draft.add("Connection", options, dice);
}

fn forwarding(draft: &mut Draft, dice: &mut Dice) {
    for _ in 0..1 + dice.below(3) {
        let name = dice.pick(&[
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "Forwarded",
            "X-Real-IP",
            "X-Client-Cert",
            "X-Request-Id",
            "X-Forwarded",
        ]);
        draft.add(name, "6.6.6.6", dice);
    }
}

fn alias(draft: &mut Draft, dice: &mut Dice) {
    let name = dice.pick(&[
        "X_Forwarded_For",
        "X.Forwarded.For",
        "Transfer_Encoding",
        "Content_Length",
        "Remote.User",
        "X-Forwarded_Host",
        "_",
        ".",
        "Host_",
    ]);
    draft.add(name, "chunked", dice);
}

fn hop_by_hop(draft: &mut Draft, dice: &mut Dice) {
    let name = dice.pick(&[
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Proxy",
        "HTTP2-Settings",
        "Proxy-Authenticate",
    ]);
    draft.add(name, dice.pick(&["trailers", "x", "timeout=5", "chunked"]), dice);
}

fn cookies(draft: &mut Draft, dice: &mut Dice) {
    for number in 0..1 + dice.below(3) {
        draft.add("Cookie", format!("a{number}=b; c=\"d\""), dice);
    }
}

fn many(draft: &mut Draft, dice: &mut Dice) {
    for number in 0..dice.below(60) {
        draft.fields.push(Field::of(format!("X-{number}"), "y"));
    }
}

fn too_much(draft: &mut Draft, dice: &mut Dice) {
    match dice.below(8) {
        0 => draft.add("X-Long", "x".repeat(40_000), dice),
        1 => draft.fields.extend((0..120).map(|number| Field::of(format!("X-{number}"), "y"))),
        _ => draft.add("", "empty name", dice),
    }
}

fn again(draft: &mut Draft, dice: &mut Dice) {
    let field = draft.any_field(dice).clone();
    let name = field.name.to_ascii_lowercase();
    if !matches!(&*name, b"host" | b"content-length" | b"transfer-encoding") {
        draft.fields.push(field);
    }
}

fn no_colon(draft: &mut Draft, dice: &mut Dice) {
    let mut field = Field::of(dice.pick(&["no colon here", "Content-Length", "x", "\0"]), "");
    field.colon.clear();
    draft.fields.push(field);
}

fn field_lost(draft: &mut Draft, dice: &mut Dice) {
    let at = dice.below(draft.fields.len());
    draft.fields.remove(at);
}
