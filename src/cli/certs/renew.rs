//! `portcullis certs renew`: have the running server ask for certificates now.

use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use super::{Failure, say};
use crate::cli::ConfigFile;
use crate::cli::status::control_socket;
use crate::control::client::{self, Question};
use crate::exit;
use crate::tls::facts::instant;

#[derive(Args, Debug)]
pub(super) struct RenewArgs {
    /// A name of the certificate, or of its site; all certificates by ACME without one
    name: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
    /// Also what is not due: each costs one of the authority's certificates for these names a week
    #[arg(long)]
    force: bool,
}

/// Asks the server; it is the one that knows what is under way.
pub(super) fn renew(args: &RenewArgs, now: SystemTime) -> Result<u8, Failure> {
    let question = Question::Renew { name: args.name.clone(), force: args.force };
    let answer = client::ask(&control_socket(&args.file.config), &question).map_err(|error| {
        let hint = "; nothing was asked for: the next start renews what is due by then";
        let message = format!("{error}{}", if error.is_nobody() { hint } else { "" });
        Failure { message, code: error.code() }
    })?;
    if answer.get("ok") != Some(&Value::Bool(true)) {
        let error = answer.get("error").and_then(Value::as_str).unwrap_or("no reason given");
        return Err(Failure { message: error.to_owned(), code: exit::FAILED });
    }
    say(&told(&answer, now));
    Ok(exit::OK)
}

fn told(answer: &Value, now: SystemTime) -> String {
    let all = |key| answer.get(key).and_then(Value::as_array).into_iter().flatten();
    let names = |one: &Value| {
        let names = one.get("names").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    for one in all("asked") {
        let is_on_demand = answer.get("on_demand") == Some(&Value::Bool(true));
        let terms = if is_on_demand { ", if `ask` of its site still allows it" } else { "" };
        text += &format!("asking for a certificate for {}{terms}\n", names(one));
    }
    if !text.is_empty() {
        text += "`portcullis certs list` tells how it goes\n";
    }
    for one in all("not_due") {
        let at = one.get("next").and_then(Value::as_str).and_then(|at| at.parse().ok());
        let at = at.map(|at: jiff::Timestamp| instant(at.into(), now)).unwrap_or_default();
        let names = names(one);
        text += &format!("{names}: not due before {at}; --force asks for it all the same\n");
    }
    text
}
