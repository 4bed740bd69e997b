//! Requests that find an application, and others.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::downstream::descriptors::Descriptors;
use crate::proxy::request_body::RequestBody;
use crate::proxy::testing::request_body;
use crate::upstream::testing::local;
use crate::worker::testing::{app, app_with, nobody, worker_for};
use crate::worker::view::View;

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A route to some applications.
struct Scene {
    worker: Rc<Worker>,
    view: Rc<View>,
    chosen: RefCell<Option<Rc<Backend>>>,
}

impl Scene {
    fn new(apps: &[SocketAddr], limits: &str) -> Self {
        let apps: Vec<String> = apps.iter().map(ToString::to_string).collect();
        let worker = worker_for(&apps, limits);
        Self { view: worker.view(), worker, chosen: RefCell::default() }
    }

    fn backends(&self) -> &[Rc<Backend>] {
        &self.view.route(0, 0).unwrap().1.backends
    }

    async fn send(&self, request: h1::Request) -> Result<(Head, Lease), SendError> {
        self.send_within(&Allowance::default(), request).await
    }

    async fn send_within(
        &self,
        allowance: &Allowance,
        mut request: h1::Request,
    ) -> Result<(Head, Lease), SendError> {
        let (route, view) = self.view.route(0, 0).unwrap();
        let choice = Choice { worker: &self.worker, route, view, chosen: &self.chosen, allowance };
        choice.send(&mut request, &mut HeaderMap::new(), |_, _| {}).await
    }
}

fn request(method: Method) -> h1::Request {
    h1::Request {
        head: Bytes::from(format!("{method} / HTTP/1.1\r\nhost: a.test\r\n\r\n")),
        method,
        body: RequestBody::empty(),
        expects_continue: false,
        first_byte: Duration::from_secs(10),
        patience: crate::proxy::patience::Patience::new(Duration::from_secs(10), None),
        conversation: Duration::from_secs(75),
        budget: None,
        asks_for_tunnel: false,
    }
}

/// Reads a request's head; whether there was one.
async fn hears(stream: &mut TcpStream) -> bool {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => heard.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// An application that closes every connection unanswered after `answers` requests.
async fn forgetful(answers: usize) -> SocketAddr {
    app_with(async move |mut stream, _| {
        for _ in 0..answers {
            if !hears(&mut stream).await {
                return;
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
        hears(&mut stream).await;
    })
    .await
}

#[test]
fn connections_are_used_again() {
    local(async {
        let scene = Scene::new(&[app(OK).await], "");
        for turn in 0..3 {
            let (head, lease) = scene.send(request(Method::POST)).await.unwrap();
            assert_eq!(head.status, StatusCode::NO_CONTENT);
            assert_eq!(scene.worker.metrics.upstream_reuses.get(), turn);
            assert_eq!(lease.backend().in_flight(), 1);
        }
        assert_eq!(scene.worker.metrics.upstream_connects.get(), 1);
        assert_eq!(scene.backends()[0].in_flight(), 0);
    });
}

/// With `hold = "0s"` one application that was down made half of all requests fail.
#[test]
fn another_application_is_tried_at_once_whatever_hold_says() {
    local(async {
        for hold in ["0s", "3s"] {
            let limits = format!("hold = {hold:?}");
            let scene = Scene::new(&[nobody().await, app(OK).await, nobody().await], &limits);
            for _ in 0..6 {
                let began = Instant::now();
                assert!(scene.send(request(Method::POST)).await.is_ok());
                assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            }
            assert_eq!(scene.worker.metrics.upstream_connect_failures.get(), 2);
        }
    });
}

#[test]
fn when_nobody_is_there_it_is_said_after_hold() {
    local(async {
        for (hold, least, most) in [("0s", 0, 200), ("500ms", 500, 1500)] {
            let apps = [nobody().await, nobody().await];
            let scene = Scene::new(&apps, &format!("hold = {hold:?}"));
            let began = Instant::now();
            let error = scene.send(request(Method::GET)).await.unwrap_err();
            assert!(matches!(error, SendError::Connect(_)), "{error}");
            let took = began.elapsed().as_millis();
            assert!((least..most).contains(&took), "{hold}: {took} ms");
            assert!(scene.chosen.borrow().is_some(), "the log names who was tried");
        }
    });
}

#[test]
fn an_application_that_comes_back_within_hold_is_found() {
    local(async {
        let address = nobody().await;
        let scene = Scene::new(&[address], "hold = \"5s\"");
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let mut stream = listener.accept().await.unwrap().0;
            hears(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        assert!(scene.send(request(Method::POST)).await.is_ok());
    });
}

#[test]
fn what_an_idle_connection_dropped_is_sent_again_if_that_does_no_harm() {
    local(async {
        for (method, is_sent_again) in
            [(Method::GET, true), (Method::DELETE, true), (Method::POST, false)]
        {
            let scene = Scene::new(&[forgetful(1).await], "");
            drop(scene.send(request(Method::GET)).await.unwrap());
            let result = scene.send(request(method.clone())).await;
            assert_eq!(result.is_ok(), is_sent_again, "{method}");
        }
    });
}

/// An idle connection that was dropped, and then a new one: it was sent three times.
#[test]
fn a_request_is_sent_twice_at_most() {
    local(async {
        let heard = Rc::new(std::cell::Cell::new(0));
        let hearing = Rc::clone(&heard);
        let address = app_with(async move |mut stream, number| {
            while hears(&mut stream).await {
                hearing.set(hearing.get() + 1);
                if number > 0 || hearing.get() > 1 {
                    return;
                }
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        });
        let scene = Scene::new(&[address.await], "");
        drop(scene.send(request(Method::GET)).await.unwrap());
        let error = scene.send(request(Method::GET)).await.unwrap_err();
        assert!(matches!(error, SendError::Failed(_)), "{error}");
        assert_eq!(heard.get(), 1 + 2);
    });
}

/// It went to the same application again, which was going down.
#[test]
fn what_one_application_dropped_goes_to_another() {
    local(async {
        for _ in 0..4 {
            let scene = Scene::new(&[forgetful(0).await, app(OK).await], "hold = \"0s\"");
            for _ in 0..4 {
                assert!(scene.send(request(Method::GET)).await.is_ok());
            }
        }
    });
}

#[test]
fn what_every_connection_drops_is_given_up() {
    local(async {
        let scene = Scene::new(&[forgetful(0).await], "hold = \"100ms\"");
        let error = scene.send(request(Method::GET)).await.unwrap_err();
        assert!(matches!(error, SendError::Failed(_)), "{error}");
        assert_eq!(scene.worker.metrics.upstream_connects.get(), 2);
        assert_eq!(scene.backends()[0].in_flight(), 0);
    });
}

#[test]
fn a_body_that_was_begun_is_not_sent_again() {
    local(async {
        let scene = Scene::new(&[forgetful(1).await], "");
        drop(scene.send(request(Method::GET)).await.unwrap());
        let (body, mut sender) = request_body("content-length: 5", None).await;
        sender.send("hello").await;
        let error = scene.send(h1::Request { body, ..request(Method::PUT) }).await.unwrap_err();
        assert!(matches!(error, SendError::Failed(_)), "{error}");
    });
}

#[test]
fn failures_are_told_apart() {
    local(async {
        for (answer, words) in [
            ("", "it closed the connection unanswered"),
            ("HTTP/1.1 200", "it broke off within the head"),
            ("HTTP/1.1 103 Early Hints\r\n\r\n", "it broke off within the head"),
            ("nonsense\r\n\r\n", "its answer is malformed"),
        ] {
            let address = app_with(async move |mut stream, _| {
                hears(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let scene = Scene::new(&[address.await], "hold = \"0s\"");
            let error = scene.send(request(Method::POST)).await.unwrap_err().to_string();
            assert!(error.contains(words), "{answer:?}: {error}");
        }
    });
}

/// Calls over HTTP/2 counted for nothing: an application that was busy with a thousand of them got
/// the next as well.
#[test]
fn exchanges_and_connections_over_http_2_count() {
    local(async {
        let silent =
            || app_with(async |stream, _| drop((stream, std::future::pending::<()>().await)));
        let apps = [silent().await, silent().await].map(|address| format!("h2c://{address}"));
        let worker = worker_for(&apps, "");
        let scene = Scene { view: worker.view(), worker, chosen: RefCell::default() };
        let (route, view) = scene.view.route(0, 0).unwrap();
        let choice = Choice {
            worker: &scene.worker,
            route,
            view,
            chosen: &scene.chosen,
            allowance: &Allowance::default(),
        };
        let in_flight = || scene.backends().iter().map(|b| b.in_flight()).collect::<Vec<_>>();
        let mut underway = Vec::new();
        for _ in 0..6 {
            underway.push(choice.reach_h2c(None).await.unwrap().1);
        }
        assert_eq!(in_flight(), [3, 3]);
        let first = Rc::clone(&scene.backends()[0]);
        underway.retain(|exchange| !Rc::ptr_eq(exchange.backend(), &first));
        for _ in 0..3 {
            underway.push(choice.reach_h2c(None).await.unwrap().1);
        }
        assert_eq!(in_flight(), [3, 3]);
        let metrics = &scene.worker.metrics;
        assert_eq!((metrics.upstream_connects.get(), metrics.upstream_reuses.get()), (2, 7));
        drop(underway);
        assert_eq!(in_flight(), [0, 0]);
    });
}

#[test]
fn an_application_that_changes_the_protocol_is_not_used_again() {
    local(async {
        let scene = Scene::new(&[app("HTTP/1.1 101 Switching Protocols\r\n\r\n").await], "");
        for connects in 1..=2 {
            drop(scene.send(request(Method::GET)).await.unwrap());
            assert_eq!(scene.worker.metrics.upstream_connects.get(), connects);
        }
    });
}

/// Each of a hundred requests over HTTP/2 took a descriptor, until there were none.
#[test]
fn who_has_as_many_requests_as_descriptors_allow_waits_for_one_to_end() {
    local(async {
        let scene = Scene::new(&[app(OK).await], "upstream_timeout = '1s'");
        let descriptors = Arc::new(Descriptors::default());
        descriptors.carry(0);
        let allowance = Allowance::new(&descriptors, &Arc::default());
        let (_, first) = scene.send_within(&allowance, request(Method::GET)).await.unwrap();
        let began = Instant::now();
        let told = scene.send_within(&allowance, request(Method::GET)).await.unwrap_err();
        assert!(matches!(told, SendError::Descriptors), "{told}");
        assert!(began.elapsed() >= Duration::from_secs(1));
        let mut second = Box::pin(scene.send_within(&allowance, request(Method::GET)));
        assert!(timeout(PAUSE, &mut second).await.is_err());
        drop(first);
        assert!(second.await.is_ok());
    });
}

/// Idle connections kept descriptors for 55 s that others had need of.
#[test]
fn idle_connections_are_closed_where_descriptors_are_short() {
    local(async {
        let scene = Scene::new(&[app(OK).await], "");
        let mut leases = Vec::new();
        for _ in 0..20 {
            leases.push(scene.send(request(Method::GET)).await.unwrap().1);
        }
        drop(leases);
        assert!(!scene.worker.descriptors.is_short());
        scene.worker.descriptors.carry(10);
        assert!(scene.worker.descriptors.is_short());
        scene.worker.release_idle();
        assert!(!scene.worker.descriptors.is_short());
    });
}

/// Requests that came at once made a connection each.
#[test]
fn connections_over_http_2_are_made_within_the_allowance() {
    local(async {
        let silent = app_with(async |stream, _| drop((stream, std::future::pending::<()>().await)));
        let worker = worker_for(&[format!("h2c://{}", silent.await)], "");
        let scene = Scene { view: worker.view(), worker, chosen: RefCell::default() };
        let (route, view) = scene.view.route(0, 0).unwrap();
        let descriptors = Arc::new(Descriptors::default());
        descriptors.carry(0);
        let allowance = &Allowance::new(&descriptors, &Arc::default());
        let (worker, chosen) = (&scene.worker, &scene.chosen);
        let choice = Choice { worker, route, view, allowance, chosen };
        let (one, two) = tokio::join!(choice.reach_h2c(None), choice.reach_h2c(None));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(scene.worker.metrics.upstream_connects.get(), 1);
    });
}
