//! `portcullis doctor --sandbox`: closes the sandbox around this process and shows what it refuses.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::checks::State;
use crate::cli::say;
use crate::config::Config;
use crate::exit;
use crate::sandbox::{Probe, Verdict, probe};

/// Shows it and returns the exit code: 1 where something is not as it should be.
pub(super) fn run(config: &Config, file: Option<&Path>, json: bool) -> u8 {
    let probes = probe(config, file);
    let is_well = probes.iter().all(|probe| probe.verdict.is_fine());
    if json {
        let probes: Vec<Value> = probes.iter().map(entry).collect();
        say(&format!("{:#}", json!({ "version": 1, "ok": is_well, "sandbox": probes })));
    } else {
        say(&text(&probes, is_well));
    }
    if is_well { exit::OK } else { exit::FAILED }
}

fn text(probes: &[Probe], is_well: bool) -> String {
    let mut text = "The sandbox, closed around this process:\n".to_owned();
    for probe in probes {
        let state = match probe.verdict {
            Verdict::Refused | Verdict::Works => State::Well,
            Verdict::NotShown => State::Doubtful,
            Verdict::Open | Verdict::Broken => State::Bad,
        };
        let _ = writeln!(text, "  {:<4}  {:<18}  {probe}", state.word(), probe.name);
    }
    let shown = probes.iter().filter(|probe| probe.verdict == Verdict::Refused).count();
    let not_shown = probes.iter().any(|probe| probe.verdict == Verdict::NotShown);
    text.push_str(&match (is_well, not_shown) {
        (false, _) => "It is not as it should be.".to_owned(),
        (true, false) => format!("It bites: all {shown} attempts are refused."),
        (true, true) => format!("It bites: {shown} attempts are refused; root can show the rest."),
    });
    text
}

fn entry(probe: &Probe) -> Value {
    let told = |error: &Option<std::io::Error>| error.as_ref().map(ToString::to_string);
    json!({
        "name": probe.name,
        "tried": probe.tried,
        "ok": probe.verdict.is_fine(),
        "verdict": match probe.verdict {
            Verdict::Refused => "refused",
            Verdict::NotShown => "not shown",
            Verdict::Works => "works",
            Verdict::Open => "open",
            Verdict::Broken => "broken",
        },
        "before": told(&probe.before),
        "after": told(&probe.after),
    })
}
