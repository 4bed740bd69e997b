use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::config::{self, Config};

/// Names the folder that the child works in.
const CHILD: &str = "PORTCULLIS_TEST_SANDBOX";

/// Runs a test of this module in a process of its own, because the change is for good. (The library
/// that runs tests has a thread of its own there, which stays outside.)
fn in_a_child(test: &str, folder: &Path) -> String {
    let test = format!("sandbox::tests::{test}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(CHILD, folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{complaints}");
    assert!(text.contains("the end of the child"), "{text}{complaints}");
    text
}

/// The folder, in a child.
fn child() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD).map(Into::into)
}

fn configuration(folder: &Path, more: &str) -> Config {
    let text = format!(
        "[server]\nhttp = \"127.0.0.1:0\"\nhttps = []\n\
         [log]\naccess = \"logs/access.log\"\n\
         [admin]\nsocket = \"control.sock\"\n\
         [acme]\nstorage = \"storage\"\n{more}"
    );
    fs::create_dir_all(folder.join("logs")).unwrap();
    fs::create_dir_all(folder.join("storage")).unwrap();
    let loaded = config::parse(&text, "test.toml", folder, &|_| None);
    loaded.unwrap_or_else(|problems| panic!("{problems}")).config
}

const ONE: &str = "[[site]]\nhost = \"a.test\"\nto = \"127.0.0.1:9\"\n";

#[test]
fn every_probe_is_refused_and_what_serving_takes_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = in_a_child("the_child_that_probes", folder.path());
    let refused = text.lines().filter(|line| line.contains("Refused")).count();
    assert!(refused >= 16 && text.contains("Fast Open"), "{text}");
    assert!(!text.contains("NotShown"), "{text}");
}

/// Only as the child of the test above; anywhere else it has nothing to say.
#[test]
fn the_child_that_probes() {
    let Some(folder) = child() else { return };
    for probe in probe::probe_by(close_here, &configuration(&folder, ONE), None) {
        println!("{:?} {probe}", probe.verdict);
        assert!(probe.verdict.is_fine(), "{probe:?}");
    }
    println!("the end of the child");
}

#[test]
fn what_was_replaced_is_not_covered_any_more() {
    let folder = tempfile::tempdir().unwrap();
    in_a_child("the_child_whose_folders_change", folder.path());
}

#[test]
fn the_child_whose_folders_change() {
    let Some(folder) = child() else { return };
    let config = configuration(&folder, ONE);
    let needs = Needs::of(&config, None);
    let elsewhere = folder.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    // Landlock lets nobody rename what lies outside, so that another process does it.
    let closed = close_here(&needs, Sandbox::On).unwrap();
    assert_eq!(needs.exceeding(&closed), Vec::<String>::new());
    let log = fs::OpenOptions::new().append(true).create(true).open(folder.join("logs/access.log"));
    assert!(log.is_ok(), "{log:?}");
    assert!(fs::write(elsewhere.join("file"), "").is_err());
    let mut other = config.clone();
    other.log.access = config::AccessLog::File(elsewhere.join("access.log"));
    other.acme.authorities[0].ca = Some("/etc/passwd".into());
    let exceeding = Needs::of(&other, None).exceeding(&closed);
    assert_eq!(exceeding.len(), 2, "{exceeding:?}");
    assert!(exceeding[0].starts_with("acme.ca is in /etc, which"), "{exceeding:?}");
    let place = format!("log.access is in {}, which", elsewhere.display());
    assert!(exceeding[1].starts_with(&place), "{exceeding:?}");
    println!("the end of the child");
}

#[test]
fn threads_inherit_it_and_may_be_made_and_panic() {
    let folder = tempfile::tempdir().unwrap();
    in_a_child("the_child_that_makes_threads", folder.path());
}

#[test]
fn the_child_that_makes_threads() {
    let Some(folder) = child() else { return };
    close_here(&Needs::of(&configuration(&folder, ONE), None), Sandbox::Require).unwrap();
    let thread = std::thread::spawn(|| fs::read("/etc/passwd").unwrap_err().kind());
    assert_eq!(thread.join().unwrap(), std::io::ErrorKind::PermissionDenied);
    assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
    let error = Command::new("/bin/true").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    println!("the end of the child");
}

/// `sendto`, `sendmsg` and `sendmmsg` connect where a flag says so, and nobody asks Landlock.
#[test]
fn sending_does_not_connect() {
    let folder = tempfile::tempdir().unwrap();
    in_a_child("the_child_that_sends", folder.path());
}

#[test]
fn the_child_that_sends() {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg_addr, sendto};
    use socket2::{Domain, Socket, Type};
    let Some(folder) = child() else { return };
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = foreign.local_addr().unwrap();
    close_here(&Needs::of(&configuration(&folder, ONE), None), Sandbox::On).unwrap();
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
    let sent = sendto(socket(), b"GET", flags, &address).unwrap_err();
    assert_eq!(sent, rustix::io::Errno::PERM);
    let (pieces, mut nothing) = ([std::io::IoSlice::new(b"GET")], SendAncillaryBuffer::default());
    let sent = sendmsg_addr(socket(), &address, &pieces, &mut nothing, flags).unwrap_err();
    assert_eq!(sent, rustix::io::Errno::PERM);
    foreign.set_nonblocking(true).unwrap();
    assert_eq!(foreign.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    println!("the end of the child");
}

/// `listen` gives a socket that has no address any free port, and nobody asks Landlock.
#[test]
fn a_new_socket_does_not_listen_where_a_helper_does() {
    let folder = tempfile::tempdir().unwrap();
    in_a_child("the_child_that_listens", folder.path());
    in_a_child("the_child_without_a_helper", folder.path());
}

#[test]
fn the_child_that_listens() {
    let Some(folder) = child() else { return };
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    assert!(socket().unwrap().listen(1).is_ok());
    close_here(&Needs::of(&configuration(&folder, ONE), None), Sandbox::On).unwrap();
    let refused = socket().unwrap().listen(1).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    println!("the end of the child");
}

#[test]
fn the_child_without_a_helper() {
    let Some(folder) = child() else { return };
    let mut needs = Needs::of(&configuration(&folder, ONE), None);
    needs.listen_itself();
    close_here(&needs, Sandbox::On).unwrap();
    assert!(TcpListener::bind("127.0.0.1:0").is_ok());
    println!("the end of the child");
}

#[test]
fn names_are_looked_up_where_an_application_has_one() {
    let folder = tempfile::tempdir().unwrap();
    in_a_child("the_child_that_looks_up_names", folder.path());
}

#[test]
fn the_child_that_looks_up_names() {
    use std::net::ToSocketAddrs;
    let Some(folder) = child() else { return };
    let site = "[[site]]\nhost = \"a.test\"\nto = \"localhost:9\"\n";
    let closed = close_here(&Needs::of(&configuration(&folder, site), None), Sandbox::On).unwrap();
    assert!(("localhost", 9).to_socket_addrs().unwrap().any(|at| at.ip().is_loopback()));
    assert_eq!(closed.status()["connects"], serde_json::json!([9, 53]));
    println!("the end of the child");
}

#[test]
fn a_second_thread_is_an_error() {
    // libtest has its own.
    let config = configuration(tempfile::tempdir().unwrap().path(), ONE);
    let (done, when_done) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || when_done.recv());
    let error = close(&Needs::of(&config, None), Sandbox::On).unwrap_err();
    assert!(matches!(error, SandboxError::Threads(_)), "{error}");
    drop(done);
    assert!(other.join().unwrap().is_err());
}

#[test]
fn off_limits_nothing() {
    let config = configuration(tempfile::tempdir().unwrap().path(), ONE);
    let closed = close(&Needs::of(&config, None), Sandbox::Off).unwrap();
    assert!(closed.parts().iter().all(|(_, closed)| !closed));
    assert!(closed.to_string().contains("server.sandbox"));
    assert_eq!(Needs::of(&config, None).exceeding(&closed), Vec::<String>::new());
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    assert!(TcpListener::bind(address).is_ok());
}
