//! Automatic certificates: whom to ask, and what the keys say together.

use std::path::{Path, PathBuf};

use super::file;
use super::kinds::{ChallengeWord, FilePath, Staging};
use super::pem::judge_pem;
use super::problems::Problem;
use super::read::{At, Field, Sections};
use super::report::Report;
use super::resolve::path_or;
use super::{Acme, Authority, ChallengeKind, Eab, dns, on_demand};
use crate::sandbox;

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Judges `[acme]`.
pub(super) fn acme(file: &file::Acme, base: &Path, report: &mut Report<'_>) -> Acme {
    let staging_first = matches!(file.staging.value(), Some(Staging::First));
    let authorities = match file.authority.value() {
        Some(Sections(list)) if !list.is_empty() => {
            judge_two_lists(file, report);
            list.iter().map(|one| authority(one, base, report)).collect()
        }
        _ => vec![only_authority(file, base, report)],
    };
    if staging_first {
        judge_staging(file, &authorities, report);
    }
    Acme {
        email: file.email.value().map(|email| email.0.clone()),
        authorities,
        storage: path_or(&file.storage, base, "/var/lib/portcullis"),
        key_type: file.key_type.value().copied().unwrap_or_default(),
        challenges: challenges(file, report),
        staging_first,
        dns: dns::dns(&file.dns, base, report),
        on_demand_rate: on_demand::rate(file, report),
    }
}

/// What `[acme]` itself names when there is no `[[acme.authority]]`.
fn only_authority(file: &file::Acme, base: &Path, report: &mut Report<'_>) -> Authority {
    let directory = file.directory.value().map(|directory| directory.0.clone());
    let directory = directory.unwrap_or_else(|| LETS_ENCRYPT.to_owned());
    Authority {
        ca: ca(&file.ca, base, report),
        eab: eab(&file.eab, report),
        profile: file.profile.value().map(|profile| profile.0.clone()),
        staging_directory: staging_of(&directory),
        directory,
    }
}

fn authority(file: &At<file::Authority>, base: &Path, report: &mut Report<'_>) -> Authority {
    if file.directory.is_absent() {
        let problem = Problem::missing("this authority has no `directory`")
            .help(format!("add `directory = \"{LETS_ENCRYPT}\"`"));
        report.add(&file.span, problem);
    }
    let directory = file.directory.value().map(|url| url.0.clone()).unwrap_or_default();
    let staging = file.staging_directory.value().map(|url| url.0.clone());
    Authority {
        ca: ca(&file.ca, base, report),
        eab: eab(&file.eab, report),
        profile: file.profile.value().map(|profile| profile.0.clone()),
        staging_directory: staging.or_else(|| staging_of(&directory)),
        directory,
    }
}

/// With `[[acme.authority]]` the keys of an only authority would be a second, hidden list.
fn judge_two_lists(file: &file::Acme, report: &mut Report<'_>) {
    let places = [
        ("directory", file.directory.given().map(|at| &at.span)),
        ("ca", file.ca.given().map(|at| &at.span)),
        ("eab", file.eab.given().map(|at| &at.span)),
        ("profile", file.profile.given().map(|at| &at.span)),
    ];
    for (key, place) in places {
        if let Some(place) = place {
            let message = format!("`{key}` in [acme] is for an only authority");
            let help = format!("move `{key}` into the first [[acme.authority]]");
            report.add(place, Problem::error(message).help(help));
        }
    }
}

fn judge_staging(file: &file::Acme, authorities: &[Authority], report: &mut Report<'_>) {
    let Some(place) = file.staging.given() else { return };
    if authorities.iter().any(|authority| authority.staging_directory.is_some()) {
        return;
    }
    let problem = Problem::warning("`staging` has no effect: no authority has a directory for it")
        .help("name it in [[acme.authority]], as `staging_directory`");
    report.add(&place.span, problem);
}

fn staging_of(directory: &str) -> Option<String> {
    (directory == LETS_ENCRYPT).then(|| LETS_ENCRYPT_STAGING.to_owned())
}

fn ca(file: &Field<FilePath>, base: &Path, report: &mut Report<'_>) -> Option<PathBuf> {
    let At { value: FilePath(path), span } = file.given()?;
    let path = base.join(path);
    if let Err(problem) = judge_pem(&path)
        && !sandbox::keeps_from(&path)
    {
        report.add(span, *problem);
    }
    Some(path)
}

fn eab(file: &Field<file::Eab>, report: &mut Report<'_>) -> Option<Eab> {
    let At { value, span } = file.given()?;
    for (key, absent) in [("kid", value.kid.is_absent()), ("key", value.key.is_absent())] {
        if absent {
            let problem = Problem::missing(format!("`{key}` is missing in `eab`"))
                .allowed("{ kid = \"…\", key = \"…\" }, both as the authority gave them");
            report.add(span, problem);
        }
    }
    let (kid, key) = (value.kid.value()?, value.key.value()?);
    Some(Eab { kid: kid.0.clone(), key: key.0.clone() })
}

fn challenges(file: &file::Acme, report: &mut Report<'_>) -> Vec<ChallengeKind> {
    let Some(At { value: list, span }) = file.challenges.given() else { return Vec::new() };
    if list.items.is_empty() && !list.partial {
        let problem = Problem::error("`challenges` is empty: no name could be proved")
            .help("leave it out for whatever can work");
        report.add(span, problem);
    }
    let mut kinds = Vec::new();
    for At { value, span } in &list.items {
        if *value == ChallengeWord::Kind(ChallengeKind::Dns01) && file.dns.is_absent() {
            let problem = Problem::error("`dns-01` has nobody who writes to the DNS")
                .help("add a section [acme.dns] with `server` and `tsig`, or with `exec`");
            report.add(span, problem);
        }
        match value {
            ChallengeWord::Kind(kind) if !kinds.contains(kind) => kinds.push(*kind),
            ChallengeWord::Kind(kind) => {
                report.add(span, Problem::warning(format!("`{kind}` stands here twice")));
            }
            ChallengeWord::Auto if list.items.len() == 1 => {}
            ChallengeWord::Auto => {
                let problem = Problem::error("`auto` stands alone, not beside others")
                    .help("leave `auto` out, or everything else");
                report.add(span, problem);
            }
        }
    }
    kinds
}
