//! `portcullis status`: what the running server does, and whether anything needs a person.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::meant::Meant;
use super::{ConfigFile, Stop, say};
use crate::control::client::{Question, ask};
use crate::exit;
use crate::tls::Source;
use crate::tls::acme::names::authority_name;
use crate::tls::hsts::told::Told;

/// The arguments of `portcullis status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Asks the server whose control socket the file names; returns the exit code: 0, or 1 when
/// something needs a person or nobody answers, and 77 when this user may not ask.
#[must_use]
pub fn run(args: &StatusArgs) -> u8 {
    let answer = match ask(&control_socket(&args.file.config), &Question::Status) {
        Ok(answer) => answer,
        Err(error) => return Stop { code: error.code(), text: error.to_string() }.tell(),
    };
    let status = answer.get("status").unwrap_or(&Value::Null);
    if args.json {
        say(&format!("{status:#}"));
    } else {
        print(status);
    }
    let needs = status.get("needs_a_person").and_then(Value::as_array);
    if needs.is_some_and(Vec::is_empty) { exit::OK } else { exit::FAILED }
}

/// The control socket of a file. That the file is broken, or lacks a variable of the server's, is
/// said, and no reason not to ask the server, which runs.
pub(super) fn control_socket(file: &Path) -> PathBuf {
    let meant = Meant::of(file);
    meant.warn("the server, if one runs, is asked all the same");
    meant.config.admin.socket
}

fn print(status: &Value) {
    let text = |key: &str| match status.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    say(&format!(
        "portcullis {}, process {}, up for {} s, {} workers, {} connections",
        text("program"),
        text("pid"),
        text("uptime_seconds"),
        text("workers"),
        text("connections"),
    ));
    say(&format!("privileges: {}", status.get("privileges").map_or("?", |all| word(all, "text"))));
    print_sandbox(status.get("sandbox").unwrap_or(&Value::Null));
    for listener in list(status, "listeners") {
        say(&format!("listening {}", listener.as_str().unwrap_or_default()));
    }
    for route in list(status, "routes") {
        let to: Vec<&str> = list(route, "to").filter_map(Value::as_str).collect();
        say(&format!("{}{} -> {}", word(route, "site"), word(route, "path"), to.join(", ")));
    }
    for certificate in list(status, "certificates") {
        let days = certificate.get("days_left").and_then(Value::as_i64).unwrap_or_default();
        let (site, source) = (word(certificate, "site"), word(certificate, "source"));
        let authority = certificate.get("authority").and_then(Value::as_str);
        let authority = authority.map(|it| format!(" ({})", authority_name(it)));
        let authority = authority.unwrap_or_default();
        if source == Source::Makeshift.to_string() {
            say(&format!("certificate of {site}: a makeshift, which nobody can trust"));
            continue;
        }
        say(&format!("certificate of {site}: {days} days left, from {source}{authority}"));
    }
    for told in list(status, "hsts") {
        if let Ok(told) = serde_json::from_value::<Told>(told.clone()) {
            say(&format!("hsts of {told}"));
        }
    }
    for need in list(status, "needs_a_person") {
        say(&format!("needs a person: {}", need.as_str().unwrap_or_default()));
    }
}

fn print_sandbox(sandbox: &Value) {
    say(word(sandbox, "summary"));
    for gap in list(sandbox, "missing").filter_map(Value::as_str) {
        say(&format!("the sandbox has a gap on this host: {gap}"));
    }
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
