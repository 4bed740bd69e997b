//! `portcullis ports`: what a port is for, who should reach it, and who listens on it here.

mod card;
mod here;
mod json;
mod page;
mod question;
mod table;

use std::io::{self, Write};

use clap::Args;

use self::here::Here;
use self::page::Page;
use super::Stop;
use crate::audit::registry::{Found, Missed, Query, Range, Registry};
use crate::exit;

/// The arguments of `portcullis ports`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PortsArgs {
    /// A port, a range, a list, a service, a kind, or words; /tcp or /udp narrows it [default: the
    /// well-known ports that matter]
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
    /// One JSON object instead of text, with every match
    #[arg(long)]
    json: bool,
    /// Every match, also where a description merely mentions the word
    #[arg(long)]
    all: bool,
}

const EXAMPLES: &str = "\
Examples:
  portcullis ports 23             what it is, what to use instead, who listens here
  portcullis ports 20-25,80       several
  portcullis ports 53/udp         on one protocol
  portcullis ports https          a service, by any of its names
  portcullis ports mail           a kind: web, mail, directory, database, remote-access, vpn ...
  portcullis ports printing       a word out of descriptions; a slip like telent finds telnet";

/// Answers from the embedded registry; returns the exit code: 0, 1 when something has no match,
/// 2 when the question is none.
#[must_use]
pub fn run(args: &PortsArgs) -> u8 {
    let text = args.query.join(" ");
    let query = match args.query.is_empty() {
        true => None,
        false => match Query::parse(&question::plain(&text)) {
            Ok(query) => Some(query),
            Err(error) => return Stop { code: exit::USAGE, text: error.to_string() }.tell(),
        },
    };
    let registry = Registry::read();
    let found = match &query {
        Some(query) => registry.find(query, args.all),
        None => overview(&registry),
    };
    let here = Here::look(&found.entries);
    if args.json {
        json::write(args.query.first().map(|_| text.as_str()), &found, &here);
    } else {
        // Whoever closed the pipe has seen enough.
        let answer = answer(&text, query.is_none(), args.all, &found, &here);
        let _ = io::stdout().write_all(answer.as_bytes());
        found.missed.iter().for_each(tell_missed);
    }
    if found.missed.is_empty() { exit::OK } else { exit::FAILED }
}

fn overview(registry: &Registry) -> Found<'_> {
    let entries = registry.overview();
    Found { entries, taken: Vec::new(), missed: Vec::new(), mentions: 0 }
}

fn tell_missed(missed: &Missed) {
    let near = match missed.near.as_slice() {
        [] => "portcullis ports --help says what can be asked".to_owned(),
        names => format!("near it are {}", names.join(", ")),
    };
    let _ = writeln!(io::stderr(), "portcullis: no port for \"{}\"; {near}", missed.asked);
}

/// Everything but what was missed.
fn answer(text: &str, is_overview: bool, all: bool, found: &Found<'_>, here: &Here) -> String {
    let page = Page::of_stdout();
    let mut out = String::new();
    for taken in &found.taken {
        out += &format!("\"{}\" is taken for {}.\n\n", taken.asked, page.bold(&taken.answered));
    }
    match found.entries.as_slice() {
        [] => {}
        [only] if !is_overview => out += &card::card(only, here, &page),
        entries if is_overview && !all => {
            let (low, high): (Vec<_>, Vec<_>) =
                entries.iter().cloned().partition(|entry| entry.range() == Range::WellKnown);
            out += &table::table(&low, usize::MAX, &page);
            out += "\nAlso known in full, above 1023:\n";
            let high: Vec<_> = high.iter().map(|entry| entry.port.to_string()).collect();
            out += &page.paragraph("  ", "  ", &high.join(", "));
            out += &table::listening(entries, text, here, &page);
            out += ASK;
        }
        entries => {
            out += &table::table(entries, if all { usize::MAX } else { table::ROWS }, &page);
            out += &table::listening(entries, text, here, &page);
        }
    }
    if found.mentions > 0 {
        let ports = if found.mentions == 1 { "port mentions" } else { "ports mention" };
        let number = found.mentions;
        out += &format!("\n{number} more {ports} it: portcullis ports --all {text}\n");
    }
    out
}

const ASK: &str = "
More of one: portcullis ports 23    of a kind: portcullis ports mail
Any other:   portcullis ports 8000-8100, or a name, or a word
";
