//! `portcullis doctor`: may everything be had here that the configuration asks for? Says so before
//! anything is tried: no port of it is bound, and nothing is written.

mod listeners;
mod checks;
mod reach;
mod bite;

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use self::checks::{Check, State};
use self::listeners::Verdict;
use super::{ConfigFile, DEFAULT_CONFIG, say};
use crate::audit::sockets::printable;
use crate::config::{self, Config, Problems};
use crate::exit;
use crate::privilege::explain::{Explanation, Host, Rights};

/// The arguments of `portcullis doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Close the sandbox around this process and show that it bites
    #[arg(long)]
    sandbox: bool,
}

/// What was found.
struct Findings {
    /// What was looked at, and as whom.
    about: String,
    listeners: Vec<Verdict>,
    checks: Vec<Check>,
}

/// Looks at everything and returns the exit code: 0, 1 when something stands in the way, 78 when
/// the file is wrong, 77 when it or a certificate's may not be read.
#[must_use]
pub fn run(args: &DoctorArgs) -> u8 {
    let file = &args.file.config;
    let is_default = file == Path::new(DEFAULT_CONFIG) && !file.exists();
    let mut is_hidden = false;
    let config = if is_default {
        Config::defaults()
    } else {
        let loaded = config::load(file).or_else(|problems| {
            // A file of a site that may not be read is one thing of several to be mended.
            is_hidden = problems.not_permitted();
            if is_hidden { config::load_again(file).map_err(|_| problems) } else { Err(problems) }
        });
        match loaded {
            Ok(loaded) => loaded.config,
            Err(problems) => return wrong(&problems, args.json),
        }
    };
    if args.sandbox {
        return bite::run(&config, (!is_default).then_some(file.as_path()), args.json);
    }
    let rights = Rights::read();
    let about = if is_default {
        format!("There is no {DEFAULT_CONFIG}: this is about the defaults, as {}.", rights.user())
    } else {
        format!("{}, as {}:", printable(&file.to_string_lossy()), rights.user())
    };
    let host = Host::read();
    let listeners = listeners::judge(&config, file, &rights, &host);
    let checks = checks::all(&config, &rights, &host);
    let findings = Findings { about, listeners, checks };
    if args.json {
        say(&format!("{:#}", findings.to_json()));
    } else {
        say(findings.to_text().trim_end());
    }
    match findings.is_well() {
        true => exit::OK,
        false if is_hidden => exit::NOT_PERMITTED,
        false => exit::FAILED,
    }
}

/// A file that is wrong is told as `check` tells it.
fn wrong(problems: &Problems, json: bool) -> u8 {
    if json {
        let told = json!({
            "version": 1, "ok": false, "problems": problems.to_json(), "listeners": [], "checks": [],
        });
        say(&format!("{told:#}"));
    } else {
        eprint!("{problems}");
    }
    if problems.not_permitted() { exit::NOT_PERMITTED } else { exit::CONFIG }
}

impl Findings {
    fn is_well(&self) -> bool {
        self.listeners.iter().all(Verdict::is_allowed)
            && self.checks.iter().all(|check| check.state != State::Bad)
    }

    fn to_json(&self) -> Value {
        json!({
            "version": 1,
            "ok": self.is_well(),
            "about": self.about,
            "problems": [],
            "listeners": self.listeners.iter().map(Verdict::to_json).collect::<Vec<_>>(),
            "checks": self.checks.iter().map(Check::to_json).collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.about);
        let mut told: Vec<(&str, String)> = Vec::new();
        for verdict in &self.listeners {
            let title = verdict.title();
            line(&mut text, verdict.state(), &title, verdict.why());
            let Some(explanation) = verdict.explanation() else { continue };
            let remedy = explanation.remedy();
            match told.iter().find(|(told, _)| *told == remedy) {
                Some((_, other)) => {
                    let _ = writeln!(text, "          what helps {other} helps here too");
                }
                None => help(&mut text, explanation),
            }
            told.push((remedy, title));
        }
        for check in &self.checks {
            line(&mut text, check.state, check.name, &check.words);
            help(&mut text, &check.explanation());
        }
        text.push_str(&self.verdict());
        text
    }

    /// The last line.
    fn verdict(&self) -> String {
        let states = self.listeners.iter().map(Verdict::state);
        let states: Vec<_> = states.chain(self.checks.iter().map(|check| check.state)).collect();
        let count = |wanted| states.iter().filter(|state| **state == wanted).count();
        match (count(State::Bad), count(State::Doubtful)) {
            (0, 0) => "All is well.".to_owned(),
            (0, 1) => "Nothing stands in the way; one thing is worth a look.".to_owned(),
            (0, number) => {
                format!("Nothing stands in the way; {number} things are worth a look.")
            }
            (1, _) => "One thing stands in the way.".to_owned(),
            (number, _) => format!("{number} things stand in the way."),
        }
    }
}

fn line(text: &mut String, state: State, title: &str, words: &str) {
    let _ = writeln!(text, "  {:<4}  {title:<18}  {words}", state.word());
}

/// What helps, below the line of what is to be mended.
fn help(text: &mut String, explanation: &Explanation) {
    if let Some(facts) = &explanation.facts {
        let _ = writeln!(text, "          ({facts})");
    }
    for (number, way) in explanation.ways.iter().enumerate() {
        let _ = writeln!(text, "          {}. {}", number + 1, way.command);
        for line in way.note.lines() {
            let _ = writeln!(text, "             {line}");
        }
    }
}
