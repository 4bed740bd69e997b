//! What connections cost while nothing happens on them.

use crate::harness::{Origin, Proxy, Wire, eventually};

/// The memory that the proxy has for itself, in KiB: what it shares with other processes of the
/// same program changes as they come and go.
fn own(proxy: &Proxy) -> u64 {
    proxy.memory_kib("RssAnon:")
}

/// Opens that many connections, each of which asks once, and keeps them.
fn idle(proxy: &Proxy, count: u64, connect: fn(&Proxy) -> Wire) -> Vec<Wire> {
    let wires = (0..count).map(|_| {
        let mut wire = connect(proxy);
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(wire.read_answer().status(), 200);
        wire
    });
    wires.collect()
}

/// Expects that a connection which has asked once costs at most this many KiB when it rests.
#[track_caller]
fn costs_at_most(kib: u64, connect: fn(&Proxy) -> Wire) {
    const COUNT: u64 = 300;
    let origin = Origin::start();
    origin.route("/", "ok");
    let proxy = Proxy::plain_to(&origin).start();
    // What the first ones cost is not theirs alone.
    let first = idle(&proxy, 50, connect);
    let before = own(&proxy);
    let more = idle(&proxy, COUNT, connect);
    let mut least = u64::MAX;
    let what = format!("{COUNT} idle connections to cost {kib} KiB each");
    eventually(&what, || {
        least = least.min(own(&proxy).saturating_sub(before));
        least <= kib * COUNT
    });
    drop((first, more));
}

/// The buffers of a request, 8 KiB and more, stayed with its connection for as long as it was idle.
#[test]
fn an_idle_connection_keeps_no_buffer() {
    costs_at_most(9, Proxy::wire);
}

/// The same over TLS, whose session costs some KiB of its own.
#[test]
fn an_idle_connection_over_tls_keeps_no_buffer() {
    costs_at_most(14, Proxy::tls_wire);
}
