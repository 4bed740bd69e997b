//! `portcullis demo`: see it work in ten seconds.

use crate::harness::socket::Socket;
use crate::harness::tools;
use crate::harness::{Client, Proxy};

const ANYWHERE: [&str; 5] = ["demo", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];

fn demo() -> (Proxy, Client) {
    let proxy = Proxy::launch_verb(&ANYWHERE);
    proxy.expect_listening();
    let client = Client::plain(proxy.https(), "localhost");
    let client = client.trusting(proxy.local_root(), "localhost");
    (proxy, client)
}

#[test]
fn the_page_shows_the_request_as_the_app_received_it() {
    let (_proxy, client) = demo();
    for client in [client.clone(), client.http2()] {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        let text = answer.text().to_lowercase();
        for word in ["x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn the_urls_are_printed_and_plain_http_redirects() {
    let (proxy, _client) = demo();
    let (http, https) = (proxy.http(), proxy.https());
    crate::harness::eventually("the URL", || {
        proxy.stdout().contains(&format!("https://localhost:{}", https.port()))
    });
    assert_eq!(Client::plain(http, "localhost").get("/").status, 308);
}

#[test]
fn it_streams_slowly_and_echoes() {
    let (_proxy, client) = demo();
    let mut streaming = client.start(http::Request::get("/slow").body(()).unwrap());
    assert_eq!(streaming.status(), 200);
    assert!(!streaming.text().is_empty());
    let mut socket = Socket::open(&client, "/echo");
    assert_eq!(socket.ask("hello"), "hello");
}

#[test]
fn it_stops_well() {
    let (mut proxy, _client) = demo();
    proxy.stop();
}

/// As a stranger runs it: no arguments, ports 80, 443 and 8080, in a network of its own.
#[test]
fn without_arguments_it_stands_on_80_and_443() {
    let script = "portcullis demo >out 2>&1 & proxy=$!\n\
         until_ok curl -sko /dev/null https://localhost/\n\
         curl -sk -o /dev/null -w 'tls %{http_code} ' https://localhost/\n\
         curl -s -o /dev/null -w 'plain %{http_code} ' http://localhost/\n\
         curl -s -o /dev/null -w 'app %{http_code}' http://127.0.0.1:8080/\n\
         kill $proxy; wait $proxy; echo \" exit $?\"; cat out";
    let Some(said) = tools::alone(script) else { return };
    assert!(said.contains("tls 200 plain 308 app 200 exit 0"), "{said}");
}
