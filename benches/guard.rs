//! What the guard costs: nanoseconds per head of 500 bytes, as a browser sends it.
//!
//!     cargo bench --bench guard
//!
//! The median and the least of many batches, for reads of one head, of eight at once, and of pieces
//! of 100 bytes. The least is the figure to quote on a machine that others use too.

use std::hint::black_box;
use std::time::Instant;

use portcullis::downstream::guard::Guard;

const BATCHES: usize = 2001;
const HEADS: usize = 1000;

fn main() {
    let head = head();
    let eight = head.repeat(8);
    println!("{} bytes a head, {BATCHES} batches of {HEADS} heads", head.len());
    measure("whole", &[&head], 1);
    measure("eight at once", &[&eight], 8);
    measure("by 100 bytes", &head.chunks(100).collect::<Vec<_>>(), 1);
}

fn measure(name: &str, pieces: &[&[u8]], heads: usize) {
    let mut times: Vec<f64> = (0..BATCHES).map(|_| batch(pieces, heads)).collect();
    times.sort_by(f64::total_cmp);
    let (Some(least), Some(median)) = (times.first(), times.get(BATCHES / 2)) else { return };
    println!("{name:14} {least:6.0} ns least {median:6.0} ns median");
}

/// Nanoseconds per head.
fn batch(pieces: &[&[u8]], heads: usize) -> f64 {
    let mut guard = Guard::default();
    guard.expect_head(0);
    let begun = Instant::now();
    for _ in 0..HEADS / heads {
        for piece in pieces {
            assert!(black_box(&mut guard).look(black_box(piece)).is_ok());
        }
    }
    assert_eq!(guard.heads(), (HEADS / heads * heads) as u64);
    begun.elapsed().as_secs_f64() * 1e9 / HEADS as f64
}

/// A head of a browser's fields.
fn head() -> Vec<u8> {
    let mut head = "GET /articles/2026/on-gates-and-grates?page=2&sort=new HTTP/1.1\r\n\
        Host: www.example.org\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Language: en-GB,en;q=0.5\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\n\
        Connection: keep-alive\r\n\
        Cookie: session="
        .to_owned();
    let rest = "\r\nSec-Fetch-Dest: document\r\n\r\n";
    while head.len() + rest.len() < 500 {
        head.push('x');
    }
    head.push_str(rest);
    head.into_bytes()
}
