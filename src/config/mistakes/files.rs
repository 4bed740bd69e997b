//! Files that are no configuration, and large ones.

use super::*;
use std::time::{Duration, Instant};

fn load_bytes(bytes: &[u8]) -> Result<Loaded, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, bytes).unwrap();
    load(&path)
}

#[test]
fn a_byte_that_is_not_utf8_has_a_place() {
    let problems = load_bytes(b"[server]\nuser = \"caf\xe9\"\n[limits]\nx = 1\n").unwrap_err();
    let found = told(&problems);
    assert!(found[0].starts_with("2:12 this is not UTF-8"), "{found:#?}");
    assert!(found[1].starts_with("4:1 unknown key"), "{found:#?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn utf16_and_byte_order_marks() {
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(SITE.bytes().flat_map(|b| [b, 0])).collect();
    assert!(load_bytes(&utf16).unwrap_err().list()[0].message.contains("UTF-16"));
    assert!(load_bytes(format!("\u{feff}{SITE}").as_bytes()).is_ok());
    let bad = [b"\xef\xbb\xbf# \xe9\n", SITE.as_bytes()].concat();
    assert!(told(&load_bytes(&bad).unwrap_err())[0].starts_with("1:3 "));
}

#[test]
fn what_is_no_file_is_told() {
    let message = |path: &str| load(Path::new(path)).unwrap_err().list()[0].message.clone();
    assert!(message("/nonexistent/p.toml").contains("no such file"));
    assert!(message("/").contains("a directory"));
    assert!(message("/dev/zero").contains("larger than 16 MiB"));
    assert!(message("/dev/null").contains("there is no site"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    assert!(message(path.to_str().unwrap()).contains("larger than 16 MiB"));
}

#[test]
fn ten_thousand_sites_load_quickly() {
    let site = |n: usize| {
        format!(
            "[[site]]\nhost = [\"a{n}.example\", \"b{n}.example\"]\nto = \"10.0.0.1:8080\"\n\
             [[site.route]]\npath = \"/x\"\nto = \"9000\"\n"
        )
    };
    let text: String = (0..10_000).map(site).collect();
    let begin = Instant::now();
    assert_eq!(read(&text).unwrap().config.sites.len(), 10_000);
    // Generous: the machine may be busy and the code is not optimised.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_large_file_of_something_else_is_given_up_on() {
    for text in ["a\n".repeat(1 << 20), "a".repeat(2 << 20), "[[a]\n".repeat(1 << 18)] {
        assert_one(&errors(&text), "1:1 this is no configuration", "the right file?");
    }
}

#[test]
fn a_flood_of_mistakes_is_cut() {
    let text = "x = 1\ny\n".repeat(50_000);
    let problems = read(&text).unwrap_err();
    assert!(problems.list().len() <= 1000);
    assert!(problems.to_string().contains("more"));
}
