//! `portcullis up`: one app behind HTTPS, without a file.

use crate::harness::tools::{self, stderr, stdout};
use crate::harness::{Client, Origin, Proxy};

const ANYWHERE: [&str; 4] = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];

/// Starts `portcullis up` with these arguments on free ports and waits until it listens.
#[track_caller]
fn up(arguments: &[&str]) -> Proxy {
    let all: Vec<&str> = ["up"].iter().chain(arguments).chain(&ANYWHERE).copied().collect();
    let proxy = Proxy::launch_verb(&all);
    proxy.expect_listening();
    proxy
}

#[test]
fn a_port_is_enough() {
    let origin = Origin::start();
    origin.route("/", "my app");
    let proxy = up(&[&origin.port().to_string()]);
    let client = Client::plain(proxy.https(), "localhost");
    let client = client.trusting(proxy.local_root(), "localhost");
    assert_eq!(client.get("/").text(), "my app");
    assert_eq!(client.clone().http2().get("/").text(), "my app");
    let answer = Client::plain(proxy.http(), "localhost").get("/x");
    assert_eq!(answer.status, 308);
    let there = format!("https://localhost:{}/x", proxy.https().port());
    assert_eq!(answer.header("location"), Some(there));
}

#[test]
fn every_form_of_a_target_is_understood() {
    let origin = Origin::start();
    origin.route("/", "my app");
    let port = origin.port();
    for target in
        [format!(":{port}"), format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}")]
    {
        let proxy = up(&[&target]);
        let client = Client::plain(proxy.https(), "localhost");
        let client = client.trusting(proxy.local_root(), "localhost");
        assert_eq!(client.get("/").text(), "my app", "{target}");
    }
    let h2c = Origin::start_h2c();
    h2c.route("/", "my app");
    let proxy = up(&[&h2c.to_string()]);
    let client = Client::plain(proxy.https(), "localhost");
    let client = client.trusting(proxy.local_root(), "localhost");
    assert_eq!(client.get("/").text(), "my app");
}

#[test]
fn names_of_its_own() {
    let origin = Origin::start();
    origin.route("/", "my app");
    let proxy =
        up(&[&origin.port().to_string(), "--host", "one.localhost", "--host", "two.internal"]);
    for name in ["one.localhost", "two.internal"] {
        let client = Client::plain(proxy.https(), name).trusting(proxy.local_root(), name);
        assert_eq!(client.get("/").text(), "my app", "{name}");
    }
}

#[test]
fn a_target_that_is_none_is_wrong_usage() {
    let all: Vec<&str> = ["up", "not a target"].iter().chain(&ANYWHERE).copied().collect();
    let output = tools::portcullis(&all);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("not a target"), "{}", stderr(&output));
}

#[test]
fn it_stops_like_run() {
    let origin = Origin::start();
    let mut proxy = up(&[&origin.port().to_string()]);
    proxy.stop();
}

#[test]
fn the_one_app_that_speaks_http_is_found() {
    let script = "serve 3000\n\
         portcullis up --http 127.0.0.1:8000 --https 127.0.0.1:8443 >out 2>&1 & proxy=$!\n\
         until_ok curl -sko /dev/null https://localhost:8443/\n\
         curl -sk -o /dev/null -w 'status %{http_code}' https://localhost:8443/\n\
         kill $proxy; wait $proxy; echo \" exit $?\"; cat out";
    let Some(said) = tools::alone(script) else { return };
    assert!(said.contains("status 200 exit 0"), "{said}");
    assert!(said.contains("3000"), "{said}");
}

#[test]
fn several_apps_are_listed_and_none_is_taken() {
    let script = "serve 3000; serve 5000\n\
         portcullis up --http 127.0.0.1:8000 --https 127.0.0.1:8443; echo exit $?";
    let Some(said) = tools::alone(script) else { return };
    assert!(said.contains("3000") && said.contains("5000"), "{said}");
    assert!(said.contains("exit 1") || said.contains("exit 2"), "{said}");
}

#[test]
fn no_app_at_all_is_said_plainly() {
    let script = "portcullis up --http 127.0.0.1:8000 --https 127.0.0.1:8443; echo exit $?";
    let Some(said) = tools::alone(script) else { return };
    assert!(said.contains("exit 1") || said.contains("exit 2"), "{said}");
    assert!(said.to_lowercase().contains("http"), "{said}");
}

/// The ports of the README: 80 and 443 as root, in a network of its own.
#[test]
fn root_gets_80_and_443() {
    let script = "serve 8080\n\
         portcullis up 8080 >out 2>&1 & proxy=$!\n\
         until_ok curl -sko /dev/null https://localhost/\n\
         curl -sk -o /dev/null -w 'tls %{http_code} ' https://localhost/\n\
         curl -s -o /dev/null -w 'plain %{http_code} %{redirect_url}' http://localhost/\n\
         kill $proxy; wait $proxy; echo \" exit $?\"; cat out";
    let Some(said) = tools::alone(script) else { return };
    assert!(said.contains("tls 200 plain 308 https://localhost/ exit 0"), "{said}");
}

#[test]
fn help_names_the_verbs() {
    let output = tools::portcullis(&["--help"]);
    assert!(output.status.success());
    let text = stdout(&output);
    for verb in ["up", "run", "check", "reload", "certs", "demo"] {
        assert!(text.contains(verb), "{verb} in {text}");
    }
    assert_eq!(tools::portcullis(&["--no-such-option"]).status.code(), Some(2));
}
