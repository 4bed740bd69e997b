//! Exchanges with applications that do what they should, and with others.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use futures_util::FutureExt as _;

use super::*;
use crate::proxy::testing::{Sender, request_body};
use crate::upstream::download::READ;
use crate::upstream::testing::{App, local, pair};
use crate::worker::deadline::Wheel;

const HEAD: &str = "GET / HTTP/1.1\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A connection, the application at its other end, and the time.
struct Scene {
    connection: Connection,
    app: App,
    wheel: Rc<Wheel>,
    now: Instant,
    headers: HeaderMap,
    interim: Vec<u16>,
}

impl Scene {
    fn new() -> Self {
        let (io, app) = pair();
        let now = Instant::now();
        let wheel = Wheel::new(now);
        let connection = Connection::new(io, wheel.deadline());
        Self { connection, app, wheel, now, headers: HeaderMap::new(), interim: Vec::new() }
    }

    /// Has the exchange end whatever the application does from now on.
    async fn exchange(&mut self, request: &mut Request) -> Result<Head, Error> {
        let Self { connection, headers, interim, .. } = self;
        connection.exchange(request, headers, |status, _| interim.push(status.as_u16())).await
    }

    /// Lets time pass in steps while the exchange goes on; how much it took to end, and how it did.
    async fn exchange_in_time(
        &mut self,
        request: &mut Request,
        mut each: impl AsyncFnMut(Duration, &mut App),
    ) -> (Duration, Result<Head, Error>) {
        let Self { connection, app, wheel, now, headers, .. } = self;
        let mut exchange = pin!(connection.exchange(request, headers, |_, _| {}));
        let mut passed = Duration::ZERO;
        loop {
            // The exchange sees what the last step brought before the time passes.
            for _ in 0..4 {
                tokio::task::yield_now().await;
                if let Some(result) = exchange.as_mut().now_or_never() {
                    return (passed, result);
                }
            }
            passed += Duration::from_millis(250);
            assert!(passed < Duration::from_secs(7200), "it never ends");
            wheel.advance(*now + passed);
            each(passed, app).await;
        }
    }

    async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        poll_fn(|cx| self.connection.poll_body(cx, READ)).await
    }

    /// The answer's body, and whether it ended well.
    async fn body(&mut self) -> (String, Result<Option<HeaderMap>, Error>) {
        let (mut text, mut trailers) = (String::new(), None);
        loop {
            match self.frame().await {
                None => return (text, Ok(trailers)),
                Some(Err(error)) => return (text, Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => text.push_str(str::from_utf8(&data).unwrap()),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// How long the silence of an answer may last, though it is looked at each second, and how it
    /// ends.
    async fn silence(&mut self) -> (Duration, Error) {
        let mut passed = Duration::ZERO;
        loop {
            if let Some(frame) = self.frame().now_or_never() {
                return (passed, frame.unwrap().unwrap_err());
            }
            passed += Duration::from_secs(1);
            assert!(passed < Duration::from_secs(7200), "it never ends");
            self.wheel.advance(self.now + passed);
        }
    }

    async fn is_usable(&mut self) -> bool {
        tokio::task::yield_now().await;
        poll_fn(|cx| Poll::Ready(self.connection.poll_is_usable(cx))).await
    }
}

fn request(body: RequestBody) -> Request {
    Request {
        method: Method::GET,
        head: Bytes::from_static(HEAD.as_bytes()),
        body,
        expects_continue: false,
        first_byte: Duration::from_secs(10),
        patience: Patience::new(Duration::from_secs(5), None),
        conversation: Duration::from_secs(75),
        budget: None,
        asks_for_tunnel: false,
    }
}

fn get() -> Request {
    request(RequestBody::empty())
}

async fn post(framing: &str) -> (Request, Sender) {
    let (body, sender) = request_body(framing, None).await;
    (request(body), sender)
}

#[test]
fn one_connection_serves_one_request_after_another() {
    local(async {
        let mut scene = Scene::new();
        for _ in 0..3 {
            scene.app.says(OK);
            let head = scene.exchange(&mut get()).await.unwrap();
            assert_eq!((head.status, scene.connection.body_length()), (StatusCode::OK, Some(2)));
            assert!(!scene.connection.is_reusable() && !scene.connection.is_body_ended());
            let (text, end) = scene.body().await;
            assert_eq!((text.as_str(), end.unwrap()), ("ok", None));
            assert!(scene.connection.is_reusable());
            scene.connection.rest();
            assert!(scene.connection.reused && scene.is_usable().await);
            assert_eq!(scene.app.heard(), HEAD);
            scene.headers.clear();
        }
    });
}

#[test]
fn bodies_end_as_they_say() {
    local(async {
        for (answer, closes, expected, is_reusable) in [
            ("content-length: 5\r\n\r\nhello", false, "hello", true),
            ("content-length: 0\r\n\r\n", false, "", true),
            ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false, "hello", true),
            ("\r\nhello", true, "hello", false),
            ("content-length: 5\r\nconnection: close\r\n\r\nhello", false, "hello", false),
            // What comes after the end belongs to nobody.
            ("content-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n", false, "hello", false),
            ("content-length: 0\r\n\r\nx", false, "", false),
            ("transfer-encoding: chunked\r\n\r\n0\r\n\r\nx", false, "", false),
        ] {
            let mut scene = Scene::new();
            scene.app.says(&format!("HTTP/1.1 200 OK\r\n{answer}"));
            if closes {
                scene.app = pair().1;
            }
            scene.exchange(&mut get()).await.unwrap();
            let (text, end) = scene.body().await;
            assert_eq!(text, expected, "{answer}");
            assert!(end.is_ok(), "{answer}");
            assert_eq!(scene.connection.is_reusable(), is_reusable, "{answer}");
        }
    });
}

#[test]
fn an_answer_that_is_cut_or_malformed_never_looks_whole() {
    local(async {
        for (answer, is_malformed) in [
            ("content-length: 5\r\n\r\nhell", false),
            ("content-length: 5\r\n\r\n", false),
            ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
            ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false),
            ("transfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", true),
            ("transfer-encoding: chunked\r\n\r\nZ\r\n", true),
            ("transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", true),
        ] {
            let mut scene = Scene::new();
            scene.app.says(&format!("HTTP/1.1 200 OK\r\n{answer}"));
            scene.app = pair().1;
            scene.exchange(&mut get()).await.unwrap();
            let error = scene.body().await.1.unwrap_err();
            assert_eq!(matches!(error, Error::Malformed(_)), is_malformed, "{answer} {error:?}");
            assert_eq!(matches!(error, Error::Cut(_)), !is_malformed, "{answer} {error:?}");
            assert!(!scene.connection.is_reusable());
        }
    });
}

#[test]
fn trailers_come_after_the_body() {
    local(async {
        let mut scene = Scene::new();
        let text = "1\r\nx\r\n0\r\ngrpc-status: 0\r\n\r\n";
        scene.app.says(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{text}"));
        scene.exchange(&mut get()).await.unwrap();
        let (body, end) = scene.body().await;
        assert_eq!(body, "x");
        assert_eq!(end.unwrap().unwrap().get("grpc-status").unwrap(), "0");
        assert!(scene.connection.is_reusable());
    });
}

#[test]
fn interim_answers_are_shown_and_the_last_one_counts() {
    local(async {
        let mut scene = Scene::new();
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        scene.app.says(&format!("HTTP/1.1 100 Continue\r\n\r\n{hints}{hints}{OK}"));
        let head = scene.exchange(&mut get()).await.unwrap();
        assert_eq!(
            (head.status, scene.interim.as_slice()),
            (StatusCode::OK, [103, 103].as_slice())
        );
        assert!(!scene.headers.contains_key("link"));
        assert_eq!(scene.body().await.0, "ok");

        let mut scene = Scene::new();
        scene.app.says(&hints.repeat(17));
        assert!(matches!(scene.exchange(&mut get()).await, Err(Error::Malformed(_))));
        assert!(!scene.connection.is_reusable());
    });
}

#[test]
fn what_came_after_a_change_of_protocol_is_the_tunnels() {
    local(async {
        let mut scene = Scene::new();
        scene.app.says("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nearly");
        let head = scene.exchange(&mut get()).await.unwrap();
        assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
        assert!(!scene.connection.is_reusable());
        assert_eq!(scene.connection.into_tunnel().1, "early");
    });
}

#[test]
fn a_connection_that_closes_unanswered_says_so() {
    local(async {
        let mut scene = Scene::new();
        scene.app = pair().1;
        let error = scene.exchange(&mut get()).await.unwrap_err();
        assert!(matches!(error, Error::Closed { unsent: true, .. }), "{error:?}");
        assert!(scene.connection.into_intact_body().is_some());

        let mut scene = Scene::new();
        let error = {
            let mut request = get();
            let Scene { connection, headers, app, .. } = &mut scene;
            let mut exchange = pin!(connection.exchange(&mut request, headers, |_, _| {}));
            while app.heard().is_empty() {
                assert!(exchange.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            *app = pair().1;
            exchange.await.unwrap_err()
        };
        assert!(matches!(error, Error::Closed { unsent: false, .. }), "{error:?}");

        for begun in ["H", "HTTP/1.1 200 OK\r\n"] {
            let mut scene = Scene::new();
            scene.app.says(begun);
            scene.app = pair().1;
            let error = scene.exchange(&mut get()).await.unwrap_err();
            assert!(matches!(error, Error::Cut(_)), "{error:?}");
        }
    });
}

/// It looked as if nothing had been answered, and the request was sent again.
#[test]
fn an_application_that_closes_after_an_interim_answer_has_answered() {
    local(async {
        for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
            let mut scene = Scene::new();
            scene.app.says(interim);
            scene.app = pair().1;
            let error = scene.exchange(&mut get()).await.unwrap_err();
            assert!(matches!(error, Error::Cut(_)), "{error:?}");
        }
    });
}

#[test]
fn silence_before_the_answer_has_an_end() {
    local(async {
        let mut scene = Scene::new();
        let (passed, result) = scene.exchange_in_time(&mut get(), async |_, _| {}).await;
        assert!(matches!(result, Err(Error::Timeout)), "{result:?}");
        assert!((10..=11).contains(&passed.as_secs()), "{passed:?}");
    });
}

/// A byte now and then, or one interim answer after another, moves no deadline.
#[test]
fn a_head_that_drips_has_an_end() {
    local(async {
        for drip in ["x", "HTTP/1.1 102 Processing\r\n\r\n"] {
            let mut scene = Scene::new();
            if drip == "x" {
                scene.app.says("HTTP/1.1 200 OK\r\nx: ");
            }
            let each = async |passed: Duration, app: &mut App| {
                if passed.as_millis().is_multiple_of(1000) {
                    app.says(drip);
                }
            };
            let (passed, result) = scene.exchange_in_time(&mut get(), each).await;
            assert!(matches!(result, Err(Error::Timeout)), "{result:?}");
            assert!((10..=11).contains(&passed.as_secs()), "{passed:?}");
        }
    });
}

#[test]
fn a_client_that_is_silent_within_its_body_is_told_apart() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, mut sender) = post("content-length: 10").await;
        let each = async |passed: Duration, _: &mut App| {
            if passed == Duration::from_secs(4) || passed == Duration::from_secs(8) {
                sender.send("x").await;
            }
        };
        let (passed, result) = scene.exchange_in_time(&mut request, each).await;
        assert!(matches!(result, Err(Error::Downstream(RequestBodyError::Idle))), "{result:?}");
        assert!((13..=14).contains(&passed.as_secs()), "{passed:?}");
        assert!(!scene.connection.is_reusable());
    });
}

#[test]
fn the_wait_for_an_answer_begins_when_the_body_is_sent() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, mut sender) = post("content-length: 1").await;
        let each = async |passed: Duration, _: &mut App| {
            if passed == Duration::from_secs(4) {
                sender.send("x").await;
            }
        };
        let (passed, result) = scene.exchange_in_time(&mut request, each).await;
        assert!(matches!(result, Err(Error::Timeout)), "{result:?}");
        assert!((14..=15).contains(&passed.as_secs()), "{passed:?}");
    });
}

#[test]
fn a_body_that_breaks_off_ends_the_exchange() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, mut sender) = post("transfer-encoding: chunked").await;
        sender.send("5\r\nhello\r\nZ\r\n").await;
        let error = scene.exchange(&mut request).await.unwrap_err();
        assert!(matches!(error, Error::Downstream(_)), "{error:?}");
        assert!(!scene.connection.is_reusable());
        assert!(!scene.app.heard().contains("\r\n0\r\n"));
    });
}

/// The application's answer came in the same turn, and the broken body got a proper end.
#[test]
fn a_body_that_breaks_off_beside_an_answer_gets_no_end() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, mut sender) = post("transfer-encoding: chunked").await;
        sender.send("5\r\nhello\r\nZ\r\n").await;
        scene.app.says(OK);
        // The body has failed by the time that somebody asks for it.
        tokio::task::yield_now().await;
        scene.exchange(&mut request).await.unwrap();
        assert_eq!(scene.body().await.0, "ok");
        assert!(!scene.connection.is_reusable());
        assert!(!scene.app.heard().contains("\r\n0\r\n"));
    });
}

#[test]
fn an_early_answer_does_not_wait_for_the_body() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, _sender) = post("content-length: 5").await;
        scene.app.says(OK);
        let head = scene.exchange(&mut request).await.unwrap();
        assert_eq!(head.status, StatusCode::OK);
        assert!(!scene.connection.is_upload_done());
        assert_eq!(scene.body().await.0, "ok");
        assert!(!scene.connection.is_reusable(), "the application still waits for the body");
    });
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_sent_when_it_is() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, mut sender) = post("content-length: 5").await;
        request.expects_continue = true;
        sender.send("hello").await;
        let each = async |passed: Duration, app: &mut App| match passed.as_millis() {
            750 => {
                assert_eq!(app.heard(), HEAD);
                app.says("HTTP/1.1 100 Continue\r\n\r\n");
            }
            1000 => {
                assert_eq!(app.heard(), "hello");
                app.says(OK);
            }
            _ => {}
        };
        let (_, result) = scene.exchange_in_time(&mut request, each).await;
        assert_eq!(result.unwrap().status, StatusCode::OK);
    });
}

#[test]
fn a_body_that_nobody_asks_for_is_sent_after_a_second() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, mut sender) = post("content-length: 5").await;
        request.expects_continue = true;
        sender.send("hello").await;
        let mut heard = String::new();
        let each = async |passed: Duration, app: &mut App| {
            heard.push_str(&app.heard());
            if passed <= Duration::from_secs(1) {
                assert_eq!(heard, HEAD, "{passed:?}");
            }
        };
        let (passed, result) = scene.exchange_in_time(&mut request, each).await;
        assert!(matches!(result, Err(Error::Timeout)), "{result:?}");
        assert!((11..=12).contains(&passed.as_secs()), "{passed:?}");
        assert_eq!(heard, format!("{HEAD}hello"));
    });
}

#[test]
fn a_refusal_instead_of_a_continue_is_the_answer() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, _sender) = post("content-length: 5").await;
        request.expects_continue = true;
        scene.app.says("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(scene.exchange(&mut request).await.unwrap().status.as_u16(), 413);
        assert!(scene.connection.is_body_ended() && !scene.connection.is_reusable());
    });
}

/// Every look at the body set the deadline anew, and a client that looks often kept it away.
#[test]
fn silence_within_an_answer_has_an_end_however_often_it_is_looked_at() {
    local(async {
        let mut scene = Scene::new();
        scene.app.says("HTTP/1.1 200 OK\r\n\r\ndata");
        scene.exchange(&mut get()).await.unwrap();
        assert!(scene.frame().await.unwrap().is_ok());
        let (passed, error) = scene.silence().await;
        assert!(matches!(error, Error::Silent(_)), "{error:?}");
        assert!((10..=11).contains(&passed.as_secs()), "{passed:?}");
    });
}

#[test]
fn an_event_stream_may_be_silent_for_an_hour() {
    local(async {
        let mut scene = Scene::new();
        scene.app.says("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1");
        scene.exchange(&mut get()).await.unwrap();
        assert!(scene.frame().await.unwrap().is_ok());
        let (passed, error) = scene.silence().await;
        assert!(matches!(error, Error::Silent(_)), "{error:?}");
        assert!((3600..=3601).contains(&passed.as_secs()), "{passed:?}");
    });
}

/// Only the silence counts, and only from when more is asked for.
#[test]
fn an_answer_that_comes_slowly_but_comes_is_taken() {
    local(async {
        let mut scene = Scene::new();
        scene.app.says("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
        scene.exchange(&mut get()).await.unwrap();
        for second in 1..=9 {
            assert!(scene.frame().now_or_never().is_none(), "{second}");
            scene.app.says("x");
            assert!(scene.frame().await.unwrap().is_ok(), "{second}");
            // The client takes it, in its own time.
            scene.wheel.advance(scene.now + Duration::from_secs(9 * second));
        }
        scene.wheel.advance(scene.now + Duration::from_secs(3600));
        assert!(scene.frame().now_or_never().is_none(), "the wait begins here");
        scene.app.says("x");
        assert!(scene.frame().await.unwrap().is_ok());
    });
}

/// Both sides could be silent for an hour while the client held back its body.
#[test]
fn an_exchange_that_nobody_goes_on_with_has_an_end() {
    local(async {
        let mut scene = Scene::new();
        let (mut request, mut sender) = post("content-length: 100").await;
        scene.app.says("HTTP/1.1 200 OK\r\n\r\ndata");
        scene.exchange(&mut request).await.unwrap();
        assert!(scene.frame().await.unwrap().is_ok());
        let mut passed = Duration::ZERO;
        // What the client says now and then keeps it alive.
        for _ in 0..5 {
            assert!(scene.frame().now_or_never().is_none());
            passed += Duration::from_secs(60);
            scene.wheel.advance(scene.now + passed);
            sender.send("x").await;
            tokio::task::yield_now().await;
            assert!(scene.frame().now_or_never().is_none(), "after {passed:?}");
        }
        let spoken = passed;
        let error = loop {
            if let Some(frame) = scene.frame().now_or_never() {
                break frame.unwrap().unwrap_err();
            }
            passed += Duration::from_secs(5);
            scene.wheel.advance(scene.now + passed);
            assert!(passed <= Duration::from_secs(3600), "it never ends");
        };
        assert!(matches!(error, Error::Idle), "{error:?}");
        assert!(passed - spoken >= request.conversation, "{passed:?}");
    });
}

#[test]
fn an_idle_connection_that_speaks_or_ends_is_of_no_use() {
    local(async {
        let mut scene = Scene::new();
        assert!(scene.is_usable().await);
        scene.app.says("HTTP/1.1 408 Request Timeout\r\n\r\n");
        assert!(!scene.is_usable().await);
        let mut scene = Scene::new();
        scene.app = pair().1;
        assert!(!scene.is_usable().await);
    });
}
