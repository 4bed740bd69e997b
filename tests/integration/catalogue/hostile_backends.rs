//! Apps that lie, break off, or never end: what a client gets is true or visibly cut, and the next
//! client's answer is its own.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::stage::{Row, Stage, play, post};
use crate::harness::client::Pending;
use crate::harness::script::Scene;
use crate::harness::wire::End;
use crate::harness::{Body, PATIENCE, Proxy, Request, Script, Wire, eventually};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("control characters", control_characters),
    ("lengths", lengths),
    ("CL beside TE", cl_beside_te),
    ("codings", codings),
    ("bad and cut bodies", bodies),
    ("no HTTP", no_http),
    ("bodies where none may be", unwanted_bodies),
    ("101 unasked", switches),
    ("interim answers", interim),
    ("heads beyond measure", large_heads),
    ("obs-fold, no colon", lines),
    ("reset, FIN", resets),
    ("never answers", silence),
    ("endless answer", endless),
];

#[test]
fn hostile_backends() {
    play(&Stage::shipped(), ROWS);
}

/// What a client must get.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// 502.
    Refused,
    /// An answer with this status and body, and nothing of the poison.
    Whole(u16, &'static str),
    /// 502, or a beginning that does not look whole.
    Cut,
    /// Whole or 502.
    Either(u16, &'static str),
}
use Wanted::{Cut, Either, Refused, Whole};

/// An app that plays an act for the target `/act` and else answers with the target.
struct Theatre {
    act: Arc<Mutex<Act>>,
    proxy: Proxy,
    _script: Script,
}

type Act = Arc<dyn Fn(&mut Scene) -> Then + Send + Sync>;

/// What an app does after an act.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Closes,
    /// It answers further requests on the connection, while they come.
    Stays,
}

const STAYS: Duration = Duration::from_millis(700);

/// So that the end of an answer is the end of the connection.
const LAST: &str = "Connection: close\r\n\r\n";

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";

impl Theatre {
    fn open() -> Self {
        let nothing: Act = Arc::new(|_| Then::Closes);
        let act = Arc::new(Mutex::new(nothing));
        let playing = act.clone();
        let script = Script::play(move |scene| {
            let mut patience = PATIENCE;
            while let Some(head) = scene.next_head_within(patience) {
                let target = head.split(' ').nth(1).unwrap_or_default();
                if target != "/act" {
                    if scene.answer(target).is_err() {
                        return;
                    }
                    continue;
                }
                let act = playing.lock().unwrap().clone();
                if act(scene) == Then::Closes {
                    return;
                }
                patience = STAYS;
            }
        });
        let proxy = Proxy::plain_to(&script).server("workers = 1").start();
        Self { act, proxy, _script: script }
    }

    /// Has the app say this and end.
    fn says(&self, stage: &Stage, bytes: impl AsRef<[u8]>, wanted: Wanted) {
        self.says_to("GET", stage, bytes, wanted);
    }

    fn says_to(&self, method: &str, stage: &Stage, bytes: impl AsRef<[u8]>, wanted: Wanted) {
        let bytes = bytes.as_ref().to_vec();
        let shown = format!("{method} {}", bytes[..bytes.len().min(200)].escape_ascii());
        let closing = bytes.clone();
        self.plays(method, stage, &format!("{shown} and closes"), wanted, move |scene| {
            let _ = scene.wire.try_send(&closing);
            Then::Closes
        });
        self.plays(method, stage, &format!("{shown} and stays"), wanted, move |scene| {
            let _ = scene.wire.try_send(&bytes);
            Then::Stays
        });
    }

    fn plays(
        &self,
        method: &str,
        stage: &Stage,
        name: &str,
        wanted: Wanted,
        act: impl Fn(&mut Scene) -> Then + Send + Sync + 'static,
    ) {
        *self.act.lock().unwrap() = Arc::new(act);
        stage.case(name, || {
            for (spoken, mut wire) in [("plain", self.proxy.wire()), ("tls", self.proxy.tls_wire())]
            {
                wire.send(format!("{method} /act HTTP/1.1\r\nHost: app.test\r\n{LAST}"));
                let (said, end) = wire.rest_within(Duration::from_secs(5));
                judge(method, &said, end, wanted).unwrap_or_else(|why| panic!("{spoken}: {why}"));
            }
            self.probe();
            self.judge_http2(method, wanted);
            self.probe();
        });
    }

    fn judge_http2(&self, method: &str, wanted: Wanted) {
        let mut connection = self.proxy.client().http2().connect();
        let request = Request::builder().method(method).uri("/act").body(()).unwrap();
        let told = connection.try_send(request);
        match (wanted, &told) {
            (Refused | Cut | Either(..), Ok(answer)) if answer.status == 502 => {}
            (Cut, Err(_)) => {}
            (Whole(status, body) | Either(status, body), Ok(answer)) => {
                assert_eq!((answer.status, answer.text().as_str()), (status, body), "HTTP/2");
                assert_clean(&format!("{:?}", answer.headers));
            }
            _ => panic!("HTTP/2: {told:?} instead of {wanted:?}"),
        }
        assert_eq!(connection.get("/after").text(), "/after", "the connection of HTTP/2");
    }

    /// Twelve fresh clients, each with an answer of its own.
    fn probe(&self) {
        for number in 0..12 {
            let target = format!("/probe/{number}");
            let mut wire = self.proxy.wire();
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
            let answer = wire.read_answer();
            assert_eq!(answer.text(), target, "{}", answer.head);
        }
    }
}

fn assert_clean(text: &str) {
    for word in ["POISON", "Injected", "injected"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

/// What was said on a connection of HTTP/1.1 that the client keeps open.
fn judge(method: &str, said: &[u8], end: End, wanted: Wanted) -> Result<(), String> {
    let text = String::from_utf8_lossy(said).into_owned();
    assert_clean(&text);
    let (head, body) = last_answer(&text).ok_or_else(|| format!("no answer: {text:?}"))?;
    let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let is_whole = is_whole(method, status, head, body);
    match wanted {
        Refused | Cut | Either(..) if status == 502 && is_whole => Ok(()),
        Cut if !is_whole && end != End::Open => Ok(()),
        Whole(wanted, wanted_body) | Either(wanted, wanted_body)
            if status == wanted && is_whole && unframed(head, body) == wanted_body =>
        {
            Ok(())
        }
        _ => Err(format!("{text:?} ({end:?}) instead of {wanted:?}")),
    }
}

/// The final answer: what is behind the interim ones.
fn last_answer(text: &str) -> Option<(&str, &str)> {
    let (head, rest) = text.split_once("\r\n\r\n")?;
    if head.starts_with("HTTP/1.1 1") && !head.starts_with("HTTP/1.1 101") {
        return last_answer(rest);
    }
    Some((head, rest))
}

fn is_whole(method: &str, status: u16, head: &str, body: &str) -> bool {
    let head = head.to_ascii_lowercase();
    if method == "HEAD" || status == 204 || status == 304 {
        return body.is_empty();
    }
    if head.contains("\r\ntransfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.split("\r\ncontent-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    length.is_none_or(|length| length == body.len())
}

fn unframed(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &more[..size];
        rest = &more[size + 2..];
    }
    whole
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

fn control_characters(stage: &Stage) {
    let theatre = Theatre::open();
    for field in [
        "Set-Cookie: x\rInjected: 1",
        "Set-Cookie: x\r\rInjected: 1",
        "X: a\0b",
        "X: a\x01b",
        "X: a\x1b[2Jb",
        "X: a\x7fb",
        "X\0: a",
        "X\x01: a",
        "X\rInjected: a",
    ] {
        theatre.says(stage, ok(&format!("{field}\r\nContent-Length: 2\r\n"), "ok"), Refused);
    }
    theatre.says(stage, "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n", Refused);
    theatre.says(stage, "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n", Refused);
    // An end of line that is bare is an end of line, and never passed on as it is.
    theatre.says(stage, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Either(200, "ok"));
}

fn lengths(stage: &Stage) {
    let theatre = Theatre::open();
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 2\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: +2\r\n",
        "Content-Length : 2\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: 2, 3\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2 2\r\n",
        "Content-Length:\r\n",
        "Content-Length: two\r\n",
        "Content-Length: 18446744073709551618\r\n",
        "Content-Length: 2\0\r\n",
        "Content-Length: 2;x\r\n",
    ] {
        theatre.says(stage, ok(fields, "ok"), Refused);
    }
    theatre.says(stage, ok("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"), Either(200, "ok"));
    theatre.says(stage, ok("Content-Length: 002\r\n", "ok"), Either(200, "ok"));
    theatre.says(stage, ok("Content-Length: 9223372036854775807\r\n", "ok"), Cut);
    theatre.says(stage, ok("Content-Length: 2\r\n", &format!("ok{POISON}")), Whole(200, "ok"));
}

fn cl_beside_te(stage: &Stage) {
    let theatre = Theatre::open();
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 100\r\nTransfer-Encoding: Chunked\r\n",
    ] {
        theatre.says(stage, ok(fields, chunks), Either(200, "hello"));
        theatre.says(stage, ok(fields, &format!("{chunks}{POISON}")), Either(200, "hello"));
    }
}

fn codings(stage: &Stage) {
    let theatre = Theatre::open();
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked, gzip",
        "identity",
        "identity, chunked",
        "chunked;a=b",
        "xchunked",
        "\"chunked\"",
        "chunked,",
        ",chunked",
        "",
        "\x0bchunked",
    ] {
        let fields = format!("Transfer-Encoding: {coding}\r\n");
        theatre.says(stage, ok(&fields, "2\r\nok\r\n0\r\n\r\n"), Refused);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    theatre.says(stage, ok(twice, "2\r\nok\r\n0\r\n\r\n"), Refused);
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    theatre.says(stage, old, Refused);
}

fn bodies(stage: &Stage) {
    let theatre = Theatre::open();
    let chunked = |body: &str| ok("Transfer-Encoding: chunked\r\n", body);
    for body in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5;\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\rInjected: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
    ] {
        theatre.says(stage, chunked(body), Cut);
    }
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000));
    theatre.says(stage, chunked(&long), Cut);
    let many: String = (0..5000).map(|n| format!("X-{n}: v\r\n")).collect();
    theatre.says(stage, chunked(&format!("5\r\nhello\r\n0\r\n{many}\r\n")), Cut);
    for cut in [
        ok("Content-Length: 100\r\n", "only the start"),
        chunked("5\r\nhel"),
        chunked("5\r\nhello"),
        chunked("5\r\nhello\r\n"),
        chunked("5\r\nhello\r\n0\r\n"),
        chunked(""),
        ok("Content-Length: 5\r\n", ""),
    ] {
        let name = format!("{} and closes", cut.escape_default());
        theatre.plays("GET", stage, &name, Cut, move |scene| {
            let _ = scene.wire.try_send(&cut);
            Then::Closes
        });
    }
    // Framing fields of a trailer section mean nothing any more.
    let trailers = "0\r\nContent-Length: 50\r\nSet-Cookie: Injected\r\nX-Odd: 1\r\n\r\n";
    theatre.says(stage, chunked(&format!("5\r\nhello\r\n{trailers}")), Whole(200, "hello"));
}

fn no_http(stage: &Stage) {
    let theatre = Theatre::open();
    for answer in [
        "hello\n",
        "<html>Injected</html>\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/3.7 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 Short\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        " HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n",
        "\x15\x03\x01\0\x02\x02\x28\r\n\r\n",
        "\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        theatre.says(stage, answer, Refused);
    }
    for (answer, body) in [
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", "ok"),
    ] {
        theatre.says(stage, answer, Either(200, body));
    }
}

fn unwanted_bodies(stage: &Stage) {
    let theatre = Theatre::open();
    for (method, status) in [
        ("GET", "204 No Content"),
        ("GET", "304 Not Modified"),
        ("HEAD", "200 OK"),
        ("HEAD", "404 Not Found"),
    ] {
        let code = status[..3].parse().unwrap();
        for (fields, body) in [
            ("Content-Length: 6\r\n", "POISON"),
            ("Transfer-Encoding: chunked\r\n", "6\r\nPOISON\r\n0\r\n\r\n"),
            ("", "POISON"),
            ("", POISON),
            ("Content-Length: 0\r\n", POISON),
        ] {
            let answer = format!("HTTP/1.1 {status}\r\n{fields}\r\n{body}");
            theatre.says_to(method, stage, answer, Either(code, ""));
        }
    }
}

fn switches(stage: &Stage) {
    let theatre = Theatre::open();
    for fields in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\nContent-Length: 0\r\n",
        "",
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
        theatre.says(stage, &answer, Refused);
        theatre.says(stage, format!("{answer}{POISON}"), Refused);
    }
}

fn interim(stage: &Stage) {
    let theatre = Theatre::open();
    let last = ok("Content-Length: 2\r\n", "ok");
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        "HTTP/1.1 102 Processing\r\n\r\n".to_owned(),
        "HTTP/1.1 199 Odd\r\n\r\n".to_owned(),
        early.to_owned(),
        early.repeat(16),
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_owned(),
        format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "a".repeat(30_000)),
    ] {
        theatre.says(stage, format!("{interim}{last}"), Whole(200, "ok"));
    }
    for interim in [
        early.repeat(17),
        early.repeat(2000),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000),
        "HTTP/1.1 103 Early Hints\r\nX: a\rInjected: 1\r\n\r\n".to_owned(),
        "HTTP/1.1 103 Early Hints\r\nX: a\r\n Injected: 1\r\n\r\n".to_owned(),
        format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "a".repeat(400_000)),
    ] {
        theatre.says(stage, format!("{interim}{last}"), Refused);
    }
    stage.case("to a client of HTTP/1.0", || {
        let told = format!("{early}{last}");
        *theatre.act.lock().unwrap() = Arc::new(move |scene| {
            scene.wire.send(&told);
            Then::Closes
        });
        let mut wire = theatre.proxy.wire();
        wire.send("GET /act HTTP/1.0\r\nHost: app.test\r\n\r\n");
        let answer = wire.read_answer();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{}", answer.head);
    });
}

fn large_heads(stage: &Stage) {
    let theatre = Theatre::open();
    let long = "v".repeat(400 * 1024);
    let many: String = (0..5000).map(|n| format!("X-{n}: v\r\n")).collect();
    for head in [
        ok(&format!("X: {long}\r\nContent-Length: 0\r\n"), ""),
        ok(&format!("{long}: x\r\nContent-Length: 0\r\n"), ""),
        ok(&format!("{many}Content-Length: 0\r\n"), ""),
        format!("HTTP/1.1 200 {long}\r\nContent-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nX: {long}"),
        format!("HTTP/1.1 200 OK\r\n{}", many.repeat(20)),
        "\r\n".repeat(200_000),
    ] {
        theatre.says(stage, head, Refused);
    }
}

fn lines(stage: &Stage) {
    let theatre = Theatre::open();
    for fields in [
        "X: a\r\n Injected: 1\r\n",
        "X: a\r\n\tInjected: 1\r\n",
        " X: a\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "X Y: a\r\n",
        "X : a\r\n",
        "X(: a\r\n",
        "X\u{e9}: a\r\n",
    ] {
        theatre.says(stage, ok(&format!("{fields}Content-Length: 2\r\n"), "ok"), Refused);
        theatre.says(stage, ok(&format!("Content-Length: 2\r\n{fields}"), "ok"), Refused);
    }
}

fn resets(stage: &Stage) {
    let theatre = Theatre::open();
    for (said, wanted) in [
        ("", Refused),
        ("HTTP/1.1 200 OK\r\nContent-Le", Refused),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly the start", Cut),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Cut),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Cut),
    ] {
        theatre.plays("GET", stage, &format!("{said:?} and a reset"), wanted, move |scene| {
            let _ = scene.wire.try_send(said);
            // What was said is on its way before the reset overtakes it.
            std::thread::park_timeout(Duration::from_millis(20));
            scene.wire.reset_on_drop();
            Then::Closes
        });
        if !said.ends_with("end") {
            theatre.plays("GET", stage, &format!("{said:?} and FIN"), wanted, move |scene| {
                let _ = scene.wire.try_send(said);
                Then::Closes
            });
        }
    }
    stage.case("how often it was asked", || {
        // Once more for what may be asked twice, never for a POST.
        let dropping = || Script::play(|scene| drop(scene.next_head()));
        for (method, most) in [("GET", 2), ("HEAD", 2), ("PUT", 2), ("POST", 1), ("PATCH", 1)] {
            let origin = dropping();
            let proxy = Proxy::plain_to(&origin).start();
            let request = Request::builder().method(method).uri("/").body(()).unwrap();
            assert_eq!(proxy.plain_client().send(request).status, 502, "{method}");
            let asked = origin.heard().len();
            assert!((1..=most).contains(&asked), "{method} was sent {asked} times");
        }
    });
    stage.case("FIN on an idle connection", || {
        let origin = Script::play(|scene| {
            if let Some(head) = scene.next_head() {
                let _ = scene.answer(head.split(' ').next().unwrap_or_default());
            }
        });
        let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
        for turn in 0..20 {
            // The end of the last connection may be here already, or be on its way.
            assert_eq!(proxy.plain_client().get("/").text(), "GET");
            if turn % 2 == 0 {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    });
}

fn silence(stage: &Stage) {
    let start = |origin: &Script| {
        Proxy::plain_to(origin).server("workers = 1").limits("upstream_timeout = '1s'").start()
    };
    let in_time = |name: &str, origin: Script, request: Vec<u8>| {
        stage.case(name, || {
            let proxy = start(&origin);
            for mut wire in [proxy.wire(), proxy.tls_wire()] {
                let began = Instant::now();
                let _ = wire.try_send(&request);
                assert_eq!(wire.read_answer().status(), 504);
                assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            }
            for number in 0..12 {
                let target = format!("/probe/{number}");
                assert_eq!(proxy.plain_client().get(&target).text(), target);
            }
        });
    };
    /// Echoes, but does as it likes with `/act`.
    fn echoing(act: impl Fn(&mut Wire) + Send + Sync + 'static) -> Script {
        Script::play(move |scene| {
            while let Some(head) = scene.next_head() {
                let target = head.split(' ').nth(1).unwrap_or_default();
                if target == "/act" {
                    act(&mut scene.wire);
                    return;
                }
                if scene.answer(target).is_err() {
                    return;
                }
            }
        })
    }
    let ask = b"GET /act HTTP/1.1\r\nHost: app.test\r\n\r\n".to_vec();
    let mute = echoing(|wire| drop(wire.rest_within(Duration::from_secs(10))));
    in_time("never", mute, ask.clone());
    let drip = echoing(|wire| {
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if wire.try_send([*byte]).is_err() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(150));
        }
    });
    in_time("a byte now and then", drip, ask.clone());
    let hints = echoing(|wire| {
        for _ in 0..15 {
            if wire.try_send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").is_err() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(600));
        }
        wire.rest_within(Duration::from_secs(10));
    });
    stage.case("hints now and then", || {
        let proxy = start(&hints);
        let mut wire = proxy.wire();
        let began = Instant::now();
        wire.send(&ask);
        let status = loop {
            let answer = wire.read_answer();
            if answer.status() >= 200 {
                break answer.status();
            }
        };
        assert_eq!(status, 504);
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    });
    for (name, beginning) in [
        ("stops within a length", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"),
        ("stops before a body", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (
            "stops between chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
        ("stops within a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"),
        ("stops before the end", "HTTP/1.1 200 OK\r\n\r\nabc"),
    ] {
        let stopping = echoing(move |wire| {
            let _ = wire.try_send(beginning);
            drop(wire.rest_within(Duration::from_secs(20)));
        });
        stage.case(name, || {
            let proxy = start(&stopping);
            for (method, mut wire) in [("GET", proxy.wire()), ("POST", proxy.tls_wire())] {
                let began = Instant::now();
                let fields = "Host: app.test\r\nContent-Length: 0";
                wire.send(format!("{method} /act HTTP/1.1\r\n{fields}\r\n\r\n"));
                let (said, end) = wire.rest();
                judge(method, &said, end, Cut).unwrap();
                assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            }
            for number in 0..12 {
                let target = format!("/probe/{number}");
                assert_eq!(proxy.plain_client().get(&target).text(), target);
            }
        });
    }
    let deaf = echoing(|_| std::thread::park_timeout(Duration::from_secs(6)));
    let mut upload = post("Content-Length: 20000000\r\n", "").replace("/p", "/act").into_bytes();
    upload.resize(upload.len() + 20_000_000, b'x');
    stage.case("never reads", || {
        let proxy = start(&deaf);
        let mut wire = proxy.wire();
        let began = Instant::now();
        let sending = wire.try_send(&upload);
        let (said, _) = wire.rest();
        assert!(said.starts_with(b"HTTP/1.1 504") || sending.is_err(), "{}", said.escape_ascii());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert!(proxy.memory_kib("VmHWM:") < 64 * 1024);
    });
}

fn endless(stage: &Stage) {
    let origin = Script::play(|scene| {
        while let Some(head) = scene.next_head() {
            let target = head.split(' ').nth(1).unwrap_or_default();
            if target != "/act" {
                let _ = scene.answer(target);
                continue;
            }
            let mut piece = b"10000\r\n".to_vec();
            piece.resize(piece.len() + 0x10000, b'x');
            piece.extend_from_slice(b"\r\n");
            let _ = scene.wire.try_send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while scene.wire.try_send(&piece).is_ok() {}
            return;
        }
    });
    let proxy = Proxy::plain_to(&origin).server("workers = 1").start();
    stage.case("a client that takes 200 MB of it", || {
        let mut wire = proxy.tls_wire();
        wire.send("GET /act HTTP/1.1\r\nHost: app.test\r\n\r\n");
        for _ in 0..200 {
            wire.read_exactly(1_000_000);
        }
        let peak = proxy.memory_kib("VmHWM:");
        assert!(peak < 64 * 1024, "{peak} KiB");
    });
    stage.case("clients that take nothing", || {
        let ask = "GET /act HTTP/1.1\r\nHost: app.test\r\n\r\n";
        let mut wires: Vec<Wire> = (0..20).map(|_| proxy.wire()).collect();
        wires.iter_mut().for_each(|wire| wire.send(ask));
        let mut streams = proxy.client().http2().connect();
        let pending: Vec<_> = (0..20)
            .map(|_| streams.begin(Request::get("/act").body(Body::empty()).unwrap()))
            .collect();
        eventually("their answers to begin", || pending.iter().all(Pending::is_over));
        for number in 0..12 {
            let target = format!("/probe/{number}");
            assert_eq!(proxy.plain_client().get(&target).text(), target);
        }
        let peak = proxy.memory_kib("VmHWM:");
        assert!(peak < 64 * 1024, "{peak} KiB");
    });
}
