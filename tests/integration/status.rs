//! `portcullis status`: what an operator learns of the server that runs.

use std::process::Output;

use crate::harness::tools::{self, portcullis};
use crate::harness::{Origin, Proxy};

fn status(proxy: &Proxy, arguments: &[&str]) -> Output {
    let file = proxy.path("portcullis.toml");
    let mut all = vec!["status", "-c", file.to_str().unwrap()];
    all.extend(arguments);
    portcullis(&all)
}

#[test]
fn the_running_server_is_described() {
    let origin = Origin::start();
    let proxy = Proxy::to(&origin).start();
    let output = status(&proxy, &["--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["pid"], proxy.pid());
    assert_eq!(told["workers"], 2);
}

/// A file that would not pass as a whole hid the server that runs with its predecessor, just when
/// somebody was about to mend it.
#[test]
fn a_broken_file_does_not_hide_the_server() {
    let origin = Origin::start();
    let proxy = Proxy::to(&origin).start();
    let good = std::fs::read_to_string(proxy.path("portcullis.toml")).unwrap();
    for bad in [
        good.replace("grace = '3s'", "grace = 'soon'"),
        good.replace("grace = '3s'", "graze = '3s'"),
        good.replace("workers = 2", "workers = 0"),
        good.replace(&format!("to = '{origin}'"), "to = 'no application at all'"),
        good.replace("certs/app.test.pem", "certs/gone.pem"),
    ] {
        assert_ne!(bad, good);
        proxy.rewrite_raw(&bad);
        let output = status(&proxy, &[]);
        let (told, complaints) = (tools::stdout(&output), tools::stderr(&output));
        assert!(told.contains(&format!("process {}", proxy.pid())), "{told}{complaints}");
        assert!(told.contains(&origin.to_string()), "{told}");
    }
    proxy.rewrite_raw(&good);
}

/// A server was said to answer, and then not to run.
#[test]
fn of_a_server_that_does_not_run_nothing_is_promised() {
    let folder = crate::harness::proxy::folder();
    let file = folder.path().join("portcullis.toml");
    let socket = folder.path().join("control.sock");
    let text = format!("[admin]\nsocket = '{}'\n[[site]]\n", socket.display());
    std::fs::write(&file, text).unwrap();
    for verb in ["status", "reload"] {
        let output = portcullis(&[verb, "-c", file.to_str().unwrap()]);
        let complaints = tools::stderr(&output);
        assert!(!output.status.success(), "{verb}: {complaints}");
        assert!(!complaints.contains("the server goes on"), "{verb}: {complaints}");
        assert!(!complaints.contains("the server that runs"), "{verb}: {complaints}");
        assert!(complaints.contains("portcullis.toml"), "{verb}: {complaints}");
    }
}
