//! `portcullis certs list`: every certificate that a configuration needs.

use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use super::account::Account;
use super::outlook::{Outlook, Outlooks};
use super::{Failure, say};
use crate::cli::ConfigFile;
use crate::exit;
use crate::tls::acme::names::authority_name;
use crate::tls::facts::{instant, key_of, left, renew_at};
use crate::tls::found::Found;
use crate::tls::overview::Overview;
use crate::tls::{CertificateError, Source};

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows it; 1 where something needs a person, as `status` has it.
pub(super) fn list(args: &ListArgs, now: SystemTime) -> Result<u8, Failure> {
    let Account { overview, is_live, shortfall } = Account::of(&args.file.config, None, now)?;
    let Overview { certificates: found, standings, needs_a_person: calls } = overview;
    let outlooks = Outlooks::of(standings, is_live);
    if args.json {
        say(&format!("{:#}\n", as_json(&found, &outlooks, (is_live, &calls), now)));
    } else {
        say(&as_text(&found, &outlooks, &calls, now));
    }
    let errors = found.iter().filter_map(|entry| entry.certificate.as_ref().err());
    let is_closed = errors.into_iter().any(CertificateError::is_permission);
    Ok(match shortfall {
        _ if is_closed => exit::NOT_PERMITTED,
        Some(code) => code,
        None if calls.is_empty() => exit::OK,
        None => exit::FAILED,
    })
}

const HEAD: [&str; 7] = ["NAMES", "SITE", "ISSUER", "KEY", "VALID UNTIL", "FROM", "RENEWAL"];

fn as_text(found: &[Found], outlooks: &Outlooks, calls: &[String], now: SystemTime) -> String {
    if found.is_empty() {
        return "no certificates: the configuration has no HTTPS listener\n".to_owned();
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    let mut notes = String::new();
    for entry in found {
        let outlook = outlooks.find(&entry.hosts).filter(|_| is_by_acme(entry));
        let asked = || entry.hosts.join(", ");
        let none = || "-".to_owned();
        let [names, issuer, key, until] = match &entry.certificate {
            Ok(Some(info)) => {
                let end = instant(info.not_after, now);
                let until = format!("{end} ({})", left(now, info.not_after));
                let (issuer, until) = match entry.source {
                    Source::Makeshift => ("itself".to_owned(), "nobody trusts it".to_owned()),
                    _ => (info.issuer.clone(), until),
                };
                [info.names.join(", "), issuer, key(entry), until]
            }
            Ok(None) => [asked(), none(), none(), awaited(entry, outlook.as_ref()).to_owned()],
            Err(error) => {
                notes += &format!("error: {error}\n");
                [asked(), none(), none(), "error, see below".to_owned()]
            }
        };
        let next = renewal(entry, outlook.as_ref(), now).unwrap_or_else(none);
        let from = match outlook.as_ref().and_then(|it| it.authority()) {
            Some(directory) => format!("{} ({})", entry.source, authority_name(directory)),
            None => entry.source.to_string(),
        };
        rows.push([names, entry.site.clone(), issuer, key, until, from, next]);
        for warning in &entry.warnings {
            notes += &format!("warning: {}: {warning}\n", entry.whose());
        }
        let is_on_demand = entry.source == Source::OnDemand;
        for note in outlook.iter().flat_map(|it| it.notes(is_on_demand, now)) {
            notes += &format!("acme: {}: {note}\n", entry.whose());
        }
    }
    // The rest is told above, beside its reasons.
    let is_told = |call: &&String| {
        notes.contains(call.as_str()) || outlooks.calls().any(|told| told == call.as_str())
    };
    let needs = calls.iter().filter(|call| !is_told(call));
    let needs: String = needs.map(|call| format!("needs a person: {call}\n")).collect();
    columns(&rows) + &notes + &needs
}

fn is_by_acme(entry: &Found) -> bool {
    matches!(entry.source, Source::Acme | Source::OnDemand)
}

/// What there is instead of a certificate.
fn awaited(entry: &Found, outlook: Option<&Outlook<'_>>) -> &'static str {
    match (&entry.source, outlook) {
        (Source::Acme | Source::OnDemand, Some(outlook)) if outlook.is_held() => {
            "revoked, see below"
        }
        (Source::Acme | Source::OnDemand, Some(outlook)) if outlook.failures() > 0 => {
            "not had yet, see below"
        }
        (Source::OnDemand, _) => "got when clients ask for names",
        (Source::Acme, _) => "not had yet, a local one stands in",
        _ => "made at first start",
    }
}

/// When who is responsible renews it; `None` where that is a person or a program elsewhere.
fn renewal(entry: &Found, outlook: Option<&Outlook<'_>>, now: SystemTime) -> Option<String> {
    let info = entry.certificate.as_ref().ok()?;
    match entry.source {
        Source::Acme => Some(outlook?.next(info.is_some(), now)),
        Source::OnDemand => Some(outlook?.next_on_demand(now)),
        Source::LocalAuthority => {
            let info = info.as_ref()?;
            Some(instant(renew_at(info.not_before, info.not_after), now))
        }
        Source::Unkept => Some("every hour".to_owned()),
        Source::File(_) | Source::StandIn | Source::Makeshift => None,
    }
}

/// The kind of its key, where it can be told.
fn key(entry: &Found) -> String {
    let key = entry.chain.first().and_then(|leaf| key_of(leaf).ok());
    key.unwrap_or_else(|| "-".to_owned())
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column| rows.iter().map(|row| row.get(column).map_or(0, String::len)).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn as_json(
    found: &[Found],
    outlooks: &Outlooks,
    (is_live, calls): (bool, &[String]),
    now: SystemTime,
) -> Value {
    let stamp = |moment| jiff::Timestamp::try_from(moment).map(|t| t.to_string()).ok();
    let entry = |entry: &Found| {
        let outlook = outlooks.find(&entry.hosts).filter(|_| is_by_acme(entry));
        let info = entry.certificate.as_ref().ok().and_then(Option::as_ref);
        json!({
            "site": entry.site,
            "hosts": entry.hosts,
            "source": entry.source.to_string(),
            "authority": outlook.as_ref().and_then(|it| it.authority()),
            "state": match &entry.certificate {
                Err(_) => "error",
                Ok(None) if is_by_acme(entry) => "not had yet",
                Ok(None) => "made at first start",
                Ok(Some(_)) if entry.source == Source::Makeshift => "makeshift",
                Ok(Some(info)) if info.not_after < now => "expired",
                Ok(Some(_)) => "present",
            },
            "names": info.map(|info| &info.names),
            "key": info.map(|_| key(entry)),
            "issuer": info.map(|info| &info.issuer),
            "not_before": info.and_then(|info| stamp(info.not_before)),
            "not_after": info.and_then(|info| stamp(info.not_after)),
            "days_left": info.map(|info| info.days_left(now)),
            "renewal": match entry.source {
                Source::Acme | Source::OnDemand => outlook.as_ref().map(Outlook::when),
                Source::LocalAuthority => {
                    info.map(|info| json!(stamp(renew_at(info.not_before, info.not_after))))
                }
                Source::File(_) | Source::StandIn | Source::Unkept | Source::Makeshift => None,
            },
            "acme": outlook.as_ref().map(Outlook::as_json),
            "error": entry.certificate.as_ref().err().map(CertificateError::reason),
            "warnings": entry.warnings,
        })
    };
    json!({
        "version": 1,
        "told_by": if is_live { "server" } else { "storage" },
        "certificates": found.iter().map(entry).collect::<Vec<_>>(),
        "needs_a_person": calls,
    })
}
