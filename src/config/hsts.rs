//! For how long browsers insist on HTTPS: what that means, and what the preload list wants.

mod preload;

use std::time::Duration;

use super::duration::Period;
use super::file;
use super::kinds::{Hsts as Written, HstsWord};
use super::problems::Problem;
use super::read::At;
use super::resolve::values;
use super::sites::Judge;
use super::{Hsts, Redirect, TlsSource};
use crate::proxy::headers::host::HostPattern;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What is longer is explained: a mistake is not over before anybody has noticed.
const LONG: Duration = Duration::from_secs(30 * 86_400);

impl Judge<'_, '_> {
    /// Reads `hsts` and says what it does.
    pub(super) fn hsts(
        &mut self,
        file: &At<file::Site>,
        redirect: &Redirect,
        tls: &TlsSource,
    ) -> Hsts {
        let Some(At { value, span }) = file.hsts.given() else { return Hsts::Off };
        let hsts = match value {
            Written::Word(HstsWord::Off) => Hsts::Off,
            Written::Word(HstsWord::Ramp) => Hsts::Ramp { include_subdomains: false },
            Written::Word(HstsWord::For(age)) => {
                Hsts::For { max_age: age.0.0, include_subdomains: false, preload: false }
            }
            Written::Table(table) => match of_table(table) {
                Ok(hsts) => hsts,
                Err(problem) => {
                    self.report.add(span, *problem);
                    return Hsts::Off;
                }
            },
        };
        if hsts == Hsts::Off {
            return hsts;
        }
        if self.server.https.is_empty() {
            let problem = Problem::warning("`hsts` has no effect: there is no HTTPS listener here");
            self.report.add(span, problem);
            return hsts;
        }
        let hosts: Vec<HostPattern> = values(&file.host);
        let unfit = unfit_for_preload(hsts, redirect, self.server.http.is_empty())
            .or_else(|| is_preload(hsts).then(|| preload::unfit(&hosts, tls)).flatten());
        if let Some(reason) = unfit {
            let problem = Problem::error(format!("the preload list takes no such site: {reason}"))
                .help("the rules stand at https://hstspreload.org; leave `preload` out otherwise");
            self.report.add(span, problem);
            return hsts;
        }
        if let Some(problem) = danger(hsts) {
            self.report.add(span, problem);
        }
        if let Some(problem) = is_preload(hsts).then(|| preload::doubt(&hosts)).flatten() {
            self.report.add(span, problem);
        }
        if matches!(hsts, Hsts::Ramp { .. }) && !std::mem::replace(&mut self.is_ramp_told, true) {
            self.report.add(span, end_of_a_ramp());
        }
        hsts
    }
}

fn of_table(table: &file::HstsTable) -> Result<Hsts, Box<Problem>> {
    let is = |field: &super::read::Field<bool>| field.value().copied().unwrap_or(false);
    let include_subdomains = is(&table.include_subdomains);
    let preload = is(&table.preload);
    match (is(&table.ramp), table.max_age.value()) {
        (true, Some(_)) => Err(Box::new(
            Problem::error("`ramp` and `max_age` exclude each other: the ramp has its own times")
                .help("leave one of them out"),
        )),
        (true, None) if preload => Err(Box::new(
            Problem::error(
                "`preload` cannot stand beside `ramp`: the preload list wants a year from the first \
                 day",
            )
            .help("let the ramp end, then write `{ max_age = \"1y\", include_subdomains = true, preload = true }`"),
        )),
        (true, None) => Ok(Hsts::Ramp { include_subdomains }),
        (false, Some(age)) => {
            Ok(Hsts::For { max_age: age.0.0, include_subdomains, preload })
        }
        (false, None) if matches!(table.max_age, super::read::Field::Wrong) => Ok(Hsts::Off),
        (false, None) => Err(Box::new(
            Problem::missing("`hsts` says not for how long")
                .help("add `max_age = \"1y\"` or `ramp = true`"),
        )),
    }
}

fn is_preload(hsts: Hsts) -> bool {
    matches!(hsts, Hsts::For { preload: true, .. })
}

/// What <https://hstspreload.org/#submission-requirements> asks for and is not so.
fn unfit_for_preload(hsts: Hsts, redirect: &Redirect, no_http: bool) -> Option<String> {
    let Hsts::For { max_age, include_subdomains, preload: true } = hsts else { return None };
    let reason = if max_age < YEAR {
        "`max_age` is less than a year"
    } else if !include_subdomains {
        "`include_subdomains` is not set"
    } else if no_http {
        "there is no plain HTTP listener that redirects to HTTPS"
    } else if *redirect != Redirect::Https {
        "plain HTTP is not redirected to HTTPS on the same host (`redirect` is not \"https\")"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// What cannot be taken back, in words.
fn danger(hsts: Hsts) -> Option<Problem> {
    let (message, help) = match hsts {
        Hsts::For { preload: true, .. } => (
            "`preload` asks for a place in the list that browsers are delivered with: every name \
             below this site's is HTTPS only, for people who were never here, and to be taken off \
             the list again takes months"
                .to_owned(),
            "be sure that every subdomain, internal ones too, has HTTPS for good",
        ),
        Hsts::For { include_subdomains: true, .. } | Hsts::Ramp { include_subdomains: true } => (
            "`include_subdomains` binds every name below this site's, other servers' and internal \
             ones too: those without HTTPS, or with a certificate that browsers do not trust, \
             cannot be reached by who was here, and nobody can click a warning away"
                .to_owned(),
            "be sure that every subdomain has HTTPS",
        ),
        Hsts::For { max_age, .. } if max_age >= LONG => (
            format!(
                "for {} browsers that were here refuse plain HTTP and every certificate in error, \
                 and nobody can click that away; what they were told cannot be taken back from who \
                 does not come again",
                Period(max_age)
            ),
            "`\"ramp\"` gets to a year step by step, as long as all is well",
        ),
        _ => return None,
    };
    Some(Problem::warning(message).help(help))
}

/// Said once, however many sites have one.
fn end_of_a_ramp() -> Problem {
    Problem::warning(
        "`ramp` ends at a year, after five weeks and more without trouble: from then on browsers \
         that were here refuse plain HTTP and every certificate in error for a year, nobody can \
         click that away, and it cannot be taken back from who does not come again",
    )
    .help(
        "`portcullis certs hsts` shows how far each site is; `portcullis certs hsts reset HOST` \
         leads who comes again down to nothing",
    )
}
