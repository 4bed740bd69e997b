//! What a formatter does not see: lengths of lines, functions and files, and words that should
//! not be in them. The limits are those of CONTRIBUTING.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

const COLUMNS: usize = 100;
const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 90;

/// Macros and words that have no place in a committed file, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("todo!(", "unfinished work is not committed"),
    ("unimplemented!(", "unfinished work is not committed"),
    ("dbg!(", "a trace of debugging"),
    ("FIXME", "mend it or open an issue"),
    (concat!("shared", "/"), "a path of one machine"),
    (concat!("/", "work", "/"), "a path of one machine"),
];

#[test]
fn sources_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = String::new();
    // Files of tests stand beside what they test, and may be as long as they must.
    let mut files = rust_files(&root.join("src"));
    files.retain(|file| file.file_name().is_none_or(|name| name != "tests.rs"));
    assert!(!files.is_empty(), "no sources below {}", root.display());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().display();
        for (line, complaint) in complaints_about(&text) {
            writeln!(complaints, "{name}:{line}: {complaint}").unwrap();
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

/// What is wrong with a file, with the number of the line.
fn complaints_about(text: &str) -> Vec<(usize, String)> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push((1, "a file begins with what it is about: //!".to_owned()));
    }
    for (index, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            complaints.push((index + 1, format!("{word:?}: {why}")));
        }
    }
    // The lengths are for the program; tests stand at the end of a file.
    let code = text.split_once("\nmod tests {").map_or(text, |(code, _)| code);
    let lines: Vec<&str> = code.lines().collect();
    if lines.len() > FILE_LINES {
        let complaint = format!("{} lines in a file, more than {FILE_LINES}", lines.len());
        complaints.push((FILE_LINES, complaint));
    }
    for (index, line) in lines.iter().enumerate() {
        let columns = line.chars().count();
        // The formatter cannot break a text.
        if columns > COLUMNS && !line.contains('"') {
            complaints.push((index + 1, format!("{columns} columns, more than {COLUMNS}")));
        }
        let length = function_length(lines.get(index..).unwrap_or_default());
        if length > FUNCTION_LINES {
            let complaint = format!("a function of {length} lines, more than {FUNCTION_LINES}");
            complaints.push((index + 1, complaint));
        }
    }
    complaints
}

/// The lines of the function that begins on the first line, 0 where none does. Relies on rustfmt:
/// a function ends at the first `}` in the column where it begins.
fn function_length(lines: &[&str]) -> usize {
    let Some(first) = lines.first() else { return 0 };
    let code = first.trim_start();
    let before = if code.starts_with("fn ") { Some("") } else { code.split(" fn ").next() };
    let is_function = code.contains("fn ")
        && before.is_some_and(|words| words.split_whitespace().all(is_qualifier));
    if !is_function {
        return 0;
    }
    let closing = format!("{}}}", " ".repeat(first.len() - code.len()));
    lines.iter().position(|line| *line == closing).map_or(0, |end| end + 1)
}

fn is_qualifier(word: &str) -> bool {
    ["pub", "const", "async", "extern"].contains(&word) || word.starts_with("pub(")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn each_rule_finds_its_slip() {
    let found = |text: &str| {
        let complaints = complaints_about(text);
        complaints.into_iter().map(|(line, complaint)| format!("{line}: {complaint}")).collect()
    };
    let none: Vec<String> = found("//! Fine.\n\nfn short() {\n    work();\n}\n");
    assert!(none.is_empty(), "{none:?}");
    let cases = [
        ("fn no_words() {}\n".to_owned(), "1: a file begins"),
        (format!("//! x\n// {}\n", "x".repeat(98)), "2: 101 columns"),
        (format!("//! x\n{}", "x();\n".repeat(400)), "400: 401 lines"),
        (format!("//! x\n    pub(crate) async fn f() {{\n{}    }}\n", "x;\n".repeat(89)), "2: a f"),
        ("//! x\n\n    todo!()\n".to_owned(), "3: \"todo!(\""),
        ("//! x\n\nmod tests {\n    // FIXME\n}\n".to_owned(), "4: \"FIXME\""),
    ];
    for (text, start) in cases {
        let complaints: Vec<String> = found(&text);
        assert!(complaints.iter().any(|complaint| complaint.starts_with(start)), "{complaints:?}");
    }
}
