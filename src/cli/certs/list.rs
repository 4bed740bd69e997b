//! `portcullis certs list`: every certificate that a configuration needs.

use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, load_config, say};
use crate::cli::ConfigFile;
use crate::exit;
use crate::tls::facts::date;
use crate::tls::wanted::Found;
use crate::tls::{CertificateError, survey};

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows it; 1 where something needs a person.
pub(super) fn list(args: &ListArgs, now: SystemTime) -> Result<u8, Failure> {
    let config = load_config(&args.file.config)?;
    let found = survey(&config, now);
    if args.json {
        say(&format!("{:#}\n", as_json(&found, now)));
    } else {
        say(&as_text(&found, now));
    }
    let in_order = found.iter().all(|entry| entry.certificate.is_ok() && entry.warnings.is_empty());
    Ok(if in_order { exit::OK } else { exit::FAILED })
}

fn as_text(found: &[Found], now: SystemTime) -> String {
    if found.is_empty() {
        return "no certificates: the configuration has no HTTPS listener\n".to_owned();
    }
    let mut rows = vec![["NAMES", "SITE", "ISSUER", "EXPIRES", "FROM"].map(str::to_owned)];
    let mut notes = String::new();
    for entry in found {
        let asked = || entry.hosts.join(", ");
        let [names, issuer, expires] = match &entry.certificate {
            Ok(Some(info)) => {
                let days = info.days_left(now);
                let left = if days < 0 { "expired".into() } else { format!("{days} days left") };
                let expires = format!("{} ({left})", date(info.not_after));
                [info.names.join(", "), info.issuer.clone(), expires]
            }
            Ok(None) => [asked(), "-".to_owned(), "made at first start".to_owned()],
            Err(error) => {
                notes += &format!("error: {error}\n");
                [asked(), "-".to_owned(), "error, see below".to_owned()]
            }
        };
        rows.push([names, entry.site.clone(), issuer, expires, entry.source.to_string()]);
        for warning in &entry.warnings {
            notes += &format!("warning: site {}: {warning}\n", entry.site);
        }
    }
    columns(&rows) + &notes
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

fn as_json(found: &[Found], now: SystemTime) -> Value {
    let stamp = |moment| jiff::Timestamp::try_from(moment).map(|t| t.to_string()).ok();
    let entry = |entry: &Found| {
        let info = entry.certificate.as_ref().ok().and_then(Option::as_ref);
        json!({
            "site": entry.site,
            "hosts": entry.hosts,
            "source": entry.source.to_string(),
            "state": match &entry.certificate {
                Err(_) => "error",
                Ok(None) => "made at first start",
                Ok(Some(info)) if info.days_left(now) < 0 => "expired",
                Ok(Some(_)) => "present",
            },
            "names": info.map(|info| &info.names),
            "issuer": info.map(|info| &info.issuer),
            "not_before": info.and_then(|info| stamp(info.not_before)),
            "not_after": info.and_then(|info| stamp(info.not_after)),
            "days_left": info.map(|info| info.days_left(now)),
            "error": entry.certificate.as_ref().err().map(CertificateError::reason),
            "warnings": entry.warnings,
        })
    };
    json!({ "version": 1, "certificates": found.iter().map(entry).collect::<Vec<_>>() })
}
