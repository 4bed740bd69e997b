//! What a service manager hears: sd_notify(3).

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Origin, Proxy, eventually};

/// The other end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
    heard: String,
}

impl Manager {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { socket, folder, heard: String::new() }
    }

    fn address(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    /// Waits until `text` was said after all that was waited for before.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        eventually(&format!("{text:?} after {:?}", self.heard.clone()), || {
            let mut buffer = [0; 4096];
            if let Ok(length) = self.socket.recv(&mut buffer) {
                self.heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            let found = self.heard.find(text);
            if let Some(at) = found {
                self.heard.drain(..at + text.len());
            }
            found.is_some()
        });
    }
}

#[test]
fn a_service_manager_hears_which_process_the_service_is_after_an_upgrade() {
    let mut manager = Manager::start();
    let origin = Origin::start();
    let setup = Proxy::to(&origin).environment("NOTIFY_SOCKET", &manager.address());
    let mut proxy = Proxy::start_copy(setup);
    manager.expect("READY=1\n");
    let pid = proxy.upgrade();
    manager.expect("READY=1\n");
    manager.expect(&format!("MAINPID={pid}\n"));
    eventually("the predecessor to end", || proxy.words().contains("stopped: everything"));
    proxy.stop();
    // By the new one alone: from the old one it would be the end of the service.
    manager.expect("STOPPING=1\n");
    assert!(!manager.heard.contains("STOPPING"), "{}", manager.heard);
}

#[test]
fn a_service_manager_hears_of_the_whole_life() {
    let mut manager = Manager::start();
    let origin = Origin::start();
    let setup = Proxy::to(&origin).environment("NOTIFY_SOCKET", &manager.address());
    let mut proxy = setup.start();
    manager.expect("READY=1\nSTATUS=1 site on http://127.0.0.1:");
    proxy.signal(Signal::HUP);
    manager.expect("RELOADING=1\n");
    manager.expect("MONOTONIC_USEC=");
    manager.expect("READY=1\n");
    proxy.rewrite_raw("nonsense");
    proxy.signal(Signal::HUP);
    manager.expect("RELOADING=1\n");
    manager.expect("READY=1\nSTATUS=the last reload changed nothing: ");
    proxy.stop();
    manager.expect("STOPPING=1\nSTATUS=stopping: ");
}

#[test]
fn a_watchdog_is_fed() {
    let mut manager = Manager::start();
    let origin = Origin::start();
    let setup = Proxy::to(&origin)
        .environment("NOTIFY_SOCKET", &manager.address())
        .environment("WATCHDOG_USEC", "100000");
    let _proxy = setup.start();
    manager.expect("READY=1\n");
    for _ in 0..3 {
        manager.expect("WATCHDOG=1\n");
    }
}

#[test]
fn a_service_manager_that_is_not_there_is_told_of_and_not_missed() {
    let origin = Origin::start();
    origin.route("*", "here");
    let proxy = Proxy::to(&origin).environment("NOTIFY_SOCKET", "/nowhere/notify").start();
    proxy.expect_words("the service manager cannot be told anything");
    assert_eq!(proxy.client().get("/").text(), "here");
}
