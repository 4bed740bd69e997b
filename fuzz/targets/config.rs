//! The configuration: any text is one, or gives mistakes at places that are in it, told in words
//! that command no terminal; and values are the same after they were shown and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::config::duration::Period;
use portcullis_fuzz::config::problems::{Problem, Problems};
use portcullis_fuzz::config::size::Size;
use portcullis_fuzz::config::{Target, parse};

fuzz_target!(|text: &str| {
    let env = |name: &str| (name.len() % 2 == 0).then(|| "a.test".to_owned());
    let base = Path::new("/nowhere");
    match parse(text, "p.toml", base, &env) {
        Ok(loaded) => {
            assert!(!loaded.config.sites.is_empty(), "there is nothing to serve");
            check(&loaded.warnings, text);
            let again = parse(text, "p.toml", base, &env).expect("the same text");
            assert_eq!(again.config, loaded.config);
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "it is wrong, and nobody says why");
            check(&problems, text);
        }
    }
    if let Ok(size) = Size::parse(text) {
        assert_eq!(Size::parse(&size.to_string()), Ok(size));
    }
    if let Ok(period) = Period::parse(text) {
        assert_eq!(Period::parse(&period.to_string()), Ok(period));
    }
    if let Ok(target) = Target::parse(text) {
        assert_eq!(Target::parse(&target.to_string()), Ok(target));
    }
});

fn check(problems: &Problems, text: &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for problem in problems.list() {
        check_place(problem, text);
        assert!(!problem.message.is_empty());
    }
    let shown = problems.render(false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
    assert!(problems.render(true).len() >= shown.len());
    let objects = problems.to_json();
    assert_eq!(objects.as_array().map(Vec::len), Some(problems.list().len()));
}

fn check_place(problem: &Problem, text: &str) {
    let Some(place) = &problem.place else { return };
    let before = text.get(..place.span.start).expect("a place begins within the text");
    assert!(text.get(place.span.clone()).is_some(), "a place ends within the text: {problem:?}");
    let line = before.rsplit('\n').next().unwrap_or_default();
    assert_eq!(place.line, before.matches('\n').count() + 1, "{problem:?}");
    assert_eq!(place.column, line.chars().count() + 1, "{problem:?}");
}
