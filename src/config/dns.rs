//! How dns-01 writes to the DNS: by a name server that takes updates, or by a program.

use std::path::Path;

use super::duration::Period;
use super::file;
use super::kinds::Word;
use super::problems::Problem;
use super::read::{At, Field, OneOrMany};
use super::report::Report;
use super::resolve::{bounded, values};
use super::{Dns, Hook, Tsig, Writer};
use crate::helper::hook::fitness::{self, Fitness};

/// How long a record may take to be seen.
const PROPAGATION: (Period, Period, &str) =
    (Period::s(1), Period::s(3600), "an authority does not wait for an hour");

/// Judges `[acme.dns]`.
pub(super) fn dns(file: &Field<file::Dns>, base: &Path, report: &mut Report<'_>) -> Option<Dns> {
    let At { value, span } = file.given()?;
    let writer = match value.exec.given() {
        Some(exec) => {
            judge_two_writers(value, report);
            hook(exec, base, report).map(Writer::Hook)
        }
        None if value.exec.is_absent() => {
            let absent = (value.server.is_absent(), value.tsig.is_absent());
            let problem = match absent {
                (true, true) => Some(Problem::missing(
                    "[acme.dns] says not who writes to the DNS: neither `server` nor `exec` is there",
                )),
                (true, false) => Some(Problem::missing("`server` is missing in [acme.dns]")),
                (false, true) => Some(Problem::missing("`tsig` is missing in [acme.dns]")),
                (false, false) => None,
            };
            if let Some(problem) = problem {
                let help = "name a server that takes signed updates, with `server` and `tsig`, or a \
                    program with `exec`; see reference.toml";
                report.add(span, problem.help(help));
            }
            server(value, report)
        }
        None => None,
    };
    let propagation =
        bounded("propagation", &value.propagation, Period::s(120), PROPAGATION, report);
    Some(Dns {
        writer: writer?,
        zone: value.zone.value().map(|zone| zone.0.clone()),
        resolvers: values(&value.resolvers).iter().map(|server| server.0).collect(),
        propagation: propagation.0,
    })
}

fn server(file: &file::Dns, report: &mut Report<'_>) -> Option<Writer> {
    let tsig = tsig(&file.tsig, report);
    Some(Writer::Server { address: file.server.value()?.0, tsig: tsig? })
}

/// One of them writes. Which one was meant is not guessed.
fn judge_two_writers(file: &file::Dns, report: &mut Report<'_>) {
    let places = [
        ("server", file.server.given().map(|at| &at.span)),
        ("tsig", file.tsig.given().map(|at| &at.span)),
    ];
    for (key, place) in places {
        if let Some(place) = place {
            let problem = Problem::error(format!("`{key}` and `exec` exclude each other"));
            let help =
                "keep `server` and `tsig` for updates of a name server, or `exec` for a program";
            report.add(place, problem.help(help));
        }
    }
}

fn tsig(file: &Field<file::Tsig>, report: &mut Report<'_>) -> Option<Tsig> {
    let At { value, span } = file.given()?;
    for (key, absent) in [("name", value.name.is_absent()), ("secret", value.secret.is_absent())] {
        if absent {
            let problem = Problem::missing(format!("`{key}` is missing in `tsig`"))
                .allowed("{ name = \"…\", secret = \"…\" }, both as the name server has them");
            report.add(span, problem);
        }
    }
    Some(Tsig {
        name: value.name.value()?.0.clone(),
        algorithm: value.algorithm.value().copied().unwrap_or_default(),
        secret: value.secret.value()?.0.clone(),
    })
}

fn hook(exec: &At<OneOrMany<Word>>, base: &Path, report: &mut Report<'_>) -> Option<Hook> {
    let At { value: words, span } = exec;
    if words.partial {
        return None;
    }
    let Some((At { value: program, span }, arguments)) = words.items.split_first() else {
        let problem = Problem::error("`exec` is empty: there is no program to run");
        report.add(span, problem.help("leave it out, or name a program"));
        return None;
    };
    if !program.0.contains('/') {
        let problem = Problem::error("`exec` begins with the path of a program, not with its name")
            .help("write where it is: it is not looked for in PATH");
        report.add(span, problem);
        return None;
    }
    let program = base.join(&program.0);
    judge_program(&program).into_iter().for_each(|problem| report.add(span, problem));
    let arguments = arguments.iter().map(|word| word.0.clone()).collect();
    Some(Hook { program, arguments })
}

/// Whether it can be run, and whether it is the operator's alone.
fn judge_program(path: &Path) -> Option<Problem> {
    match fitness::of(path) {
        Fitness::Fit => None,
        Fitness::Doubtful(words, help) => Some(Problem::warning(words).help(help)),
        Fitness::Unfit(words, help) => Some(Problem::error(words).maybe_help(help)),
    }
}
