//! One test for every kind of mistake: its place, and what is said of it.

mod keys;
mod types;
mod values;
mod together;
mod syntax;
mod files;

use std::path::Path;

use proptest::prelude::*;

use super::{Loaded, Problems, load, parse};

const SITE: &str = "[[site]]\nhost = \"a.example\"\nto = \"8080\"\n";

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "BAD_PORT" => Some("http".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Loaded, Problems> {
    parse(text, "p.toml", Path::new("/nonexistent"), &env)
}

/// `line:column message`, with what is said besides, for every error of `text`.
fn errors(text: &str) -> Vec<String> {
    read(text).err().map(|problems| told(&problems)).unwrap_or_default()
}

fn warnings(text: &str) -> Vec<String> {
    told(&read(text).unwrap().warnings)
}

fn told(problems: &Problems) -> Vec<String> {
    let tell = |problem: &super::problems::Problem| {
        let place = problem.place.as_ref().unwrap();
        let help = problem.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {}{help}", place.line, place.column, problem.message)
    };
    problems.list().iter().map(tell).collect()
}

/// The errors of a configuration with `text` in front of a site that is right.
fn errors_before_site(text: &str) -> Vec<String> {
    errors(&format!("{text}\n{SITE}"))
}

/// The errors of a site that is right but for the lines of `text`, which begin on line 4.
fn errors_in_site(text: &str) -> Vec<String> {
    errors(&format!("{SITE}{text}\n"))
}

fn assert_one(found: &[String], start: &str, part: &str) {
    assert!(
        found.len() == 1 && found[0].starts_with(start) && found[0].contains(part),
        "{found:#?}"
    );
}

fn line() -> impl Strategy<Value = String> {
    let key =
        "(host|to|tls|redirect|hsts|http|https|path|route|site|hold|header_size|mask|[a-z]{1,4})";
    let text = r#""[a-z0-9.:/*$\{\}\\é-]{0,12}""#;
    let other = r#"([0-9]{1,4}|true|\[\]|\["a", 1\]|\{ cert = "x" \}|[a-z"\[\{]{0,4})"#;
    let value = prop_oneof![text, other];
    prop_oneof![
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => r"\[{1,2}(site|server|limits|log|admin|acme|site\.route|site\.tls)\]{0,2}",
        1 => ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_text_panics(text in r"[\PC\n\t\r]{0,80}") {
        let _ = read(&text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn nothing_like_a_configuration_panics(
        lines in proptest::collection::vec(line(), 0..20),
        crlf: bool,
    ) {
        let text = lines.join(if crlf { "\r\n" } else { "\n" });
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(!problems.to_string().is_empty());
            let count = text.split('\n').count();
            for problem in problems.list() {
                let place = problem.place.as_ref().unwrap();
                prop_assert!((1..=count).contains(&place.line) && place.column >= 1);
            }
        }
    }
}
