//! Where rows are played: an app that echoes, the proxy with its shipped defaults before it, and
//! the judgement of what came of each case.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;

use crate::harness::strict::{self, Heard};
use crate::harness::wire::{End, RawAnswer};
use crate::harness::{Body, Origin, Proxy, Response, Setup, Wire};

/// The name of a row and what plays its cases.
pub type Row = (&'static str, fn(&Stage));

/// An app that answers each request with its method and target, and the proxy before it.
pub struct Stage {
    /// The app.
    pub origin: Origin,
    /// The proxy.
    pub proxy: Proxy,
    cases: Cell<usize>,
    complaints: RefCell<Vec<String>>,
}

/// Fresh clients that ask after each case.
const PROBES: usize = 12;

/// The longest that a refused connection may stay, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// A request that must never be one.
pub const SMUGGLED: &str = "GET /smug HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// A POST with these fields and this body.
pub fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n{body}")
}

/// A GET with these fields.
pub fn get(fields: &str) -> String {
    format!("GET /p HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")
}

/// Plays every row; fails with all that went wrong in any of them.
#[track_caller]
pub fn play(stage: &Stage, rows: &[Row]) {
    let mut failed = Vec::new();
    for (name, row) in rows {
        let (before, began) = (stage.cases.get(), Instant::now());
        stage.attempt(name, || row(stage));
        let complaints = stage.complaints.take();
        assert!(stage.cases.get() > before, "no case of {name}");
        println!("{name}: {} cases in {:?}", stage.cases.get() - before, began.elapsed());
        failed.extend(complaints.into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    assert!(failed.is_empty(), "{} complaints\n{}", failed.len(), failed.join("\n"));
}

/// An app that says what it was asked.
pub fn echoing() -> Origin {
    let origin = Origin::start();
    origin.handle("*", |request| async {
        let told = format!("{} {}", request.method(), request.uri());
        match request.into_body().collect().await {
            Ok(_) => Response::new(Body::from(told)),
            Err(_) => Response::builder().status(400).body(Body::empty()).unwrap(),
        }
    });
    origin
}

impl Stage {
    /// The proxy as it is shipped, serving the app on plain HTTP too.
    pub fn shipped() -> Self {
        Self::with(|setup| setup)
    }

    /// The same with other settings.
    pub fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let origin = echoing();
        let proxy = change(Proxy::plain_to(&origin)).start();
        Self::of(origin, proxy)
    }

    /// A stage of parts that exist.
    pub fn of(origin: Origin, proxy: Proxy) -> Self {
        Self { origin, proxy, cases: Cell::new(0), complaints: RefCell::default() }
    }

    /// Fails with what went wrong so far: for a stage beside that of the section.
    pub fn complaints(&self) {
        let complaints = self.complaints.take();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    /// Counts a case of a row that judges for itself, and notes when it fails.
    pub fn case(&self, name: &str, judge: impl FnOnce()) {
        self.cases.set(self.cases.get() + 1);
        self.attempt(name, judge);
    }

    /// REJ: a 4xx or 501, no second answer, the end of the connection, and nothing of it at the app.
    pub fn refuses(&self, bytes: impl AsRef<[u8]>) {
        self.on_both(bytes.as_ref(), |mut wire| {
            let _ = wire.try_send(bytes.as_ref());
            expect_refusal(&mut wire, |status| (400..500).contains(&status) || status == 501);
            assert_eq!(self.heard(), [], "the app heard of it");
        });
    }

    /// The same with this status.
    pub fn refuses_with(&self, wanted: u16, bytes: impl AsRef<[u8]>) {
        self.on_both(bytes.as_ref(), |mut wire| {
            let _ = wire.try_send(bytes.as_ref());
            expect_refusal(&mut wire, |status| status == wanted);
            assert_eq!(self.heard(), [], "the app heard of it");
        });
    }

    /// REJ of what may be at the app in part already: it never has a whole request.
    pub fn cuts(&self, bytes: impl AsRef<[u8]>) {
        self.on_both(bytes.as_ref(), |mut wire| {
            let _ = wire.try_send(bytes.as_ref());
            expect_refusal(&mut wire, |status| (400..500).contains(&status));
            let heard = self.heard();
            assert!(heard.iter().all(|one| !one.is_whole), "whole at the app: {heard:?}");
        });
    }

    /// These requests, `METHOD target body`, and no others, reach the app and are answered.
    pub fn passes(&self, bytes: impl AsRef<[u8]>, wanted: &[&str]) {
        self.passes_as(bytes, wanted, |_| {});
    }

    /// The same, and each of them as `judge` wants it.
    pub fn passes_as(&self, bytes: impl AsRef<[u8]>, wanted: &[&str], judge: impl Fn(&Heard)) {
        self.on_both(bytes.as_ref(), |mut wire| {
            wire.send(bytes.as_ref());
            self.expect_passed(&mut wire, wanted, &judge);
        });
    }

    /// Either of both.
    pub fn passes_or_refuses(&self, bytes: impl AsRef<[u8]>, wanted: &[&str]) {
        self.on_both(bytes.as_ref(), |mut wire| {
            wire.send(bytes.as_ref());
            let (said, end) = wire.rest_within(Duration::from_millis(300));
            let heard = self.heard();
            if heard.is_empty() {
                assert_ne!(end, End::Open, "neither passed nor refused");
                return;
            }
            let told: Vec<String> = heard.iter().map(summary).collect();
            assert_eq!(told, wanted);
            let said = String::from_utf8_lossy(&said);
            assert_eq!(said.matches("HTTP/1.").count(), wanted.len(), "{said}");
        });
    }

    fn expect_passed(&self, wire: &mut Wire, wanted: &[&str], judge: &impl Fn(&Heard)) {
        for request in wanted {
            let method = request.split(' ').next().unwrap_or_default();
            let answer = final_answer(wire, method).1;
            assert_eq!(answer.status(), 200, "{request}: {}", answer.head);
            if method != "HEAD" {
                let told = answer.text();
                assert!(request.starts_with(&told), "{request} was answered with {told}");
            }
        }
        wire.finish();
        let (rest, _) = wire.rest_within(SOON);
        assert!(rest.is_empty(), "one more answer: {}", rest.escape_ascii());
        let heard = self.heard();
        let told: Vec<String> = heard.iter().map(summary).collect();
        assert_eq!(told, wanted);
        heard.iter().for_each(judge);
    }

    /// What the app has heard of this case, read strictly.
    pub fn heard(&self) -> Vec<Heard> {
        let taken = self.origin.take_heard();
        taken
            .iter()
            .flat_map(|bytes| strict::read(bytes).unwrap_or_else(|why| panic!("{why}")))
            .collect()
    }

    /// Plays a case in the clear and over TLS.
    pub fn on_both(&self, bytes: &[u8], judge: impl Fn(Wire)) {
        let shown = bytes[..bytes.len().min(200)].escape_ascii();
        for (name, connect) in
            [("plain", Proxy::wire as fn(&Proxy) -> Wire), ("tls", Proxy::tls_wire)]
        {
            self.case(&format!("{name} {shown}"), || {
                self.origin.take_heard();
                judge(connect(&self.proxy));
            });
            self.attempt(&format!("probes after {name} {shown}"), || self.probe());
        }
    }

    /// Fresh clients, each of which must get its own answer.
    pub fn probe(&self) {
        for number in 0..PROBES {
            let mut wire = self.proxy.wire();
            wire.send(format!("GET /probe/{number} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
            let answer = wire.read_answer();
            assert_eq!(answer.text(), format!("GET /probe/{number}"), "{}", answer.head);
        }
    }

    fn attempt(&self, name: &str, judge: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(judge)) {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            self.complaints.borrow_mut().push(format!("{name}\n    {}", why.unwrap_or_default()));
        }
    }
}

/// `METHOD target body`, and a word where the body was cut.
pub fn summary(request: &Heard) -> String {
    let body = String::from_utf8_lossy(&request.body);
    let cut = if request.is_whole { "" } else { " (cut)" };
    format!("{} {} {body}{cut}", request.method, request.target).trim_end().to_owned()
}

/// A final answer, and how many interim ones came before it.
#[track_caller]
pub fn final_answer(wire: &mut Wire, method: &str) -> (usize, RawAnswer) {
    let mut interim = 0;
    loop {
        let answer = wire.read_answer_to(method);
        if answer.status() >= 200 {
            return (interim, answer);
        }
        interim += 1;
    }
}

/// One answer whose status is wanted, and the end.
#[track_caller]
pub fn expect_refusal(wire: &mut Wire, is_wanted: impl Fn(u16) -> bool) {
    let answer = wire.read_answer();
    assert!(is_wanted(answer.status()), "{}", answer.head);
    let connection = answer.field("connection").map(str::to_ascii_lowercase);
    assert_eq!(connection.as_deref(), Some("close"), "{}", answer.head);
    let (rest, end) = wire.rest_within(SOON);
    assert!(rest.is_empty(), "a second answer: {}", rest.escape_ascii());
    assert_ne!(end, End::Open, "the connection stays");
}
