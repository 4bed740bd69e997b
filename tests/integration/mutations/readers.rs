//! Servers of another make as second readers of what the proxy passes on: `tests/readers`.
//!
//! Each stands behind a relay, and an application that says what it was asked behind each. What the
//! relay has heard is read by the strict reader; the server must have answered each request, in its
//! order, with the same method, target and body, and nothing else.

mod servers;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::BodyExt;

use super::campaign::{Plan, address};
use super::http1::stream::Stream;
use super::http1::{client, sent};
use super::tap::{Conversation, Tap};
use crate::harness::strict::{self, Heard};
use crate::harness::wire::RawAnswer;
use crate::harness::{Body, Origin, Proxy, Response, Wire};
use servers::Server;

/// Connections of each seed.
const CASES: u32 = 1500;

/// Clients at once.
const CLIENTS: usize = 4;

/// What a reader made of what it was passed.
#[derive(Default)]
struct Score {
    forwarded: usize,
    agreed: usize,
    excused: BTreeMap<&'static str, usize>,
    disagreed: Vec<String>,
}

#[test]
#[ignore = "asks servers of another make; run by tests/readers"]
fn readers_of_another_make_agree() {
    let names =
        std::env::var("MUTATION_READERS").unwrap_or("nginx haproxy apache2 lighttpd".into());
    let mut table = format!(
        "{:<10} {:>10} {:>8} {:>8} {:>10}\n",
        "reader", "forwarded", "agreed", "excused", "disagreed"
    );
    let mut wrong = Vec::new();
    for name in names.split_whitespace() {
        let score = ask(name);
        let excused: usize = score.excused.values().sum();
        let Score { forwarded, agreed, .. } = score;
        let disagreed = score.disagreed.len();
        table += &format!("{name:<10} {forwarded:>10} {agreed:>8} {excused:>8} {disagreed:>10}\n");
        for (why, count) in &score.excused {
            table += &format!("           {count} {why}\n");
        }
        assert!(forwarded > 0, "{name} was asked nothing");
        wrong.extend(score.disagreed.into_iter().take(8).map(|one| format!("{name}: {one}")));
    }
    println!("\n{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An application that says what it was asked, in a field: HEAD has no body.
fn telling() -> Origin {
    let origin = Origin::start();
    origin.handle("*", |request| async {
        let method = request.method().clone();
        let target = request.uri().path_and_query().map_or("*", |text| text.as_str()).to_owned();
        match request.into_body().collect().await {
            Ok(body) => {
                let told = format!("{method} {target} {}", body.to_bytes().len());
                Response::builder().header("x-told", told).body(Body::empty()).unwrap()
            }
            Err(_) => Response::builder().status(400).body(Body::empty()).unwrap(),
        }
    });
    origin
}

fn ask(name: &str) -> Score {
    let origin = telling();
    let server = Server::start(name, &origin.to_string());
    let tap = Tap::before(server.address);
    let proxy = Proxy::plain_to(&tap).start();
    send_all(&proxy);
    drop(proxy);
    drop(server);
    let mut score = Score::default();
    for conversation in tap.conversations() {
        compare(name, &conversation, &mut score);
    }
    score
}

fn send_all(proxy: &Proxy) {
    let (plan, next) = (Plan::of(CASES), AtomicU32::new(0));
    let silent = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some((seed, case)) = plan.case(number) else { break };
                    let stream = Stream::of(seed, case);
                    let sent = sent::read(&stream.bytes);
                    let wire = Wire::connect_from(address(number).into(), proxy.http());
                    let played = client::play(wire, &stream, &sent);
                    silent.lock().unwrap().extend(played.complaint);
                }
            });
        }
    });
    let silent = silent.into_inner().unwrap();
    assert!(silent.is_empty(), "{} complaints: {:?}", silent.len(), silent.first());
}

/// Each request of a conversation beside its answer.
fn compare(name: &str, conversation: &Conversation, score: &mut Score) {
    let said = conversation.said.lock().unwrap();
    let answered = conversation.answered.lock().unwrap();
    let heard = match strict::read(&said) {
        Ok(heard) => heard,
        Err(why) => return score.disagreed.push(why),
    };
    let whole: Vec<&Heard> = heard.iter().filter(|one| one.is_whole).collect();
    let answers = answers(&answered, &heard);
    score.forwarded += whole.len();
    for (place, request) in whole.iter().enumerate() {
        let size = request.body.len();
        let wanted = format!("{} {} {size}", request.method, request.target);
        match answers.get(place) {
            Some(answer) if answer.field("x-told") == Some(&wanted) => score.agreed += 1,
            answer => match answer.and_then(|answer| servers::excuse(name, request, answer)) {
                Some(why) => *score.excused.entry(why).or_default() += 1,
                None => {
                    let head = answer.map(|answer| answer.head.as_str());
                    score.disagreed.push(format!("{wanted}: {head:?}\n  {:?}", request.fields));
                }
            },
        }
    }
    // One more may stand for a request that was cut.
    if answers.len() > heard.len() {
        let heads: Vec<&str> = answers.iter().map(|answer| answer.head.as_str()).collect();
        score.disagreed.push(format!("answers to {} requests: {heads:?}", heard.len()));
    }
}

/// The final answers of a conversation, by their own framing.
fn answers(mut bytes: &[u8], heard: &[Heard]) -> Vec<RawAnswer> {
    let mut answers: Vec<RawAnswer> = Vec::new();
    while let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
        bytes = &bytes[end + 4..];
        let answer = RawAnswer { head, body: Vec::new() };
        let is_head = heard.get(answers.len()).is_some_and(|one| one.method == "HEAD");
        let status = answer.status();
        if status < 200 {
            continue;
        }
        let length = answer.field("content-length").map_or(0, |text| text.parse().unwrap());
        let is_chunked = answer.field("transfer-encoding").is_some();
        if is_chunked && !is_head {
            let end = memchr::memmem::find(bytes, b"0\r\n\r\n").map_or(bytes.len(), |at| at + 5);
            bytes = &bytes[end..];
        } else if !is_head {
            bytes = &bytes[length.min(bytes.len())..];
        }
        answers.push(answer);
    }
    answers
}
