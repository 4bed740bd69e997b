//! A clock that is set by a day, forwards and back.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::stage::Stage;
use crate::harness::{Client, Origin, Proxy, eventually, tools};

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// A folder that the server may read.
const CLOCK: &str = "certs/clock";

const DAY: i64 = 86_400;

/// The time of day is another library's to tell; deadlines are measured by a clock that nobody
/// sets.
pub fn steps(stage: &Stage) {
    let Some(library) = LIBRARIES.iter().find(|path| Path::new(path).exists()) else {
        tools::skip("libfaketime is not installed");
        return stage.case("skipped", || {});
    };
    let origin = Origin::start();
    origin.route("*", "ok");
    let setup = Proxy::plain_to(&origin)
        .admin("metrics = '127.0.0.1:0'")
        .log("format = 'json'")
        .limits("request_header_timeout = '2s'")
        .environment("LD_PRELOAD", library)
        .environment("FAKETIME_TIMESTAMP_FILE", CLOCK)
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let proxy = Proxy::launch_after(setup, |folder| fs::write(folder.join(CLOCK), "+0").unwrap());
    proxy.expect_listening();
    let clock = proxy.path(CLOCK);
    stage.case("as it is", || expect_time(&proxy, "/now", 0));
    for (name, offset) in [("a day on", DAY), ("a day back", -DAY), ("as before", 0)] {
        let before = Instant::now();
        let mut kept = proxy.client().connect();
        assert_eq!(kept.get("/before").status, 200);
        let mut slow = proxy.wire();
        slow.send("GET / HT");
        let sign = if offset < 0 { "" } else { "+" };
        fs::write(&clock, format!("{sign}{offset}")).unwrap();
        stage.case(name, || {
            assert_eq!(kept.get("/kept").status, 200, "a connection is cut");
            expect_time(&proxy, &format!("/at{offset}"), offset);
            expect_date(&proxy, offset);
            // Neither at once nor never.
            slow.expect_end();
            let took = before.elapsed();
            assert!(took >= Duration::from_millis(1900), "{took:?}");
            assert!(proxy.reload(&[]).status.success());
            let page = Client::plain(proxy.metrics(), "localhost").get("/metrics");
            assert_eq!(page.status, 200);
        });
    }
}

/// Our own answers have the date that the clock shows, within an hour. Of several threads each one
/// may be asked: after a day back one of them was a day ahead.
#[track_caller]
fn expect_date(proxy: &Proxy, offset: i64) {
    for _ in 0..8 {
        let answer = proxy.plain_client().host("nobody.test").get("/");
        assert_eq!(answer.status, 404);
        let date = answer.header("date").unwrap();
        let shown = jiff::fmt::rfc2822::parse(&date).unwrap().timestamp().as_second();
        let ahead = shown - jiff::Timestamp::now().as_second() - offset;
        assert!(ahead.abs() < 3600, "{date} is {ahead} s ahead");
    }
}

/// A line of the access log with this path has the time that the clock shows, within an hour.
#[track_caller]
fn expect_time(proxy: &Proxy, path: &str, offset: i64) {
    let mut shown = 0;
    eventually("the new time in the log", || {
        proxy.client().get(path);
        let lines = proxy.access_log();
        let line = lines.iter().rev().find(|line| line.contains(path));
        let Some(line) = line else { return false };
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let time: jiff::Timestamp = line["ts"].as_str().unwrap().parse().unwrap();
        shown = time.as_second() - jiff::Timestamp::now().as_second() - offset;
        shown.abs() < 3600
    });
    assert!(shown.abs() < 3600, "{shown} s");
}
