//! `portcullis certs show`: everything that one certificate says.

use std::fmt::Write as _;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use clap::Args;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::account::Account;
use super::{Failure, say};
use crate::cli::ConfigFile;
use crate::exit;
use crate::tls::CertificateError;
use crate::tls::facts::{Facts, date, key_of, left};
use crate::tls::found::Found;

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// A name of the certificate, or of its site
    name: String,
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows every certificate with this name.
pub(super) fn show(args: &ShowArgs, now: SystemTime) -> Result<u8, Failure> {
    let account = Account::of(&args.file.config, Some(&args.name), now)?;
    let found = named(account.overview.certificates, &args.name)?;
    if args.json {
        let all: Vec<Value> = found.iter().map(as_json).collect();
        say(&format!("{:#}\n", json!({ "version": 1, "certificates": all })));
    } else {
        let all: Vec<String> = found.iter().map(|entry| as_text(entry, now)).collect();
        say(&all.join("\n"));
    }
    Ok(exit::OK)
}

/// The certificates with this name, else those of the site with it, that are there.
pub(super) fn named(mut found: Vec<Found>, name: &str) -> Result<Vec<Found>, Failure> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let has = |entry: &Found| entry.hosts.contains(&name);
    let failed = |message| Err(Failure { message, code: exit::FAILED });
    if found.iter().any(has) {
        found.retain(has);
    } else {
        let known: Vec<String> = found.iter().flat_map(|entry| entry.hosts.clone()).collect();
        found.retain(|entry| entry.site == name);
        if found.is_empty() {
            return failed(format!("no certificate is for {name:?}, but for {}", known.join(", ")));
        }
    }
    if let Some(error) = found.iter().find_map(|entry| entry.certificate.as_ref().err()) {
        return Err(unusable(error));
    }
    found.retain(|entry| !entry.chain.is_empty());
    if found.is_empty() {
        return failed(format!(
            "there is no certificate for {name} yet: `portcullis certs list` tells why"
        ));
    }
    Ok(found)
}

/// Why a certificate cannot be told of.
pub(super) fn unusable(error: &CertificateError) -> Failure {
    let code = if error.is_permission() { exit::NOT_PERMITTED } else { exit::FAILED };
    Failure { message: error.to_string(), code }
}

fn as_text(entry: &Found, now: SystemTime) -> String {
    let mut text = format!("site {}, from {}\n", entry.site, entry.source);
    if let Some((cert, key)) = &entry.places {
        let _ = writeln!(text, "  certificate in {}", cert.display());
        let _ = writeln!(text, "  key in         {}", key.display());
    }
    for (place, der) in entry.chain.iter().enumerate() {
        let told = One::of(der);
        let title = if place == 0 { "certificate".to_owned() } else { format!("chain {place}") };
        let _ = writeln!(text, "{title}: {}", told.subject);
        if let Some(facts) = &told.facts {
            if !facts.names.is_empty() {
                let _ = writeln!(text, "  names    {}", facts.names.join(", "));
            }
            let _ = writeln!(text, "  issuer   {}", facts.issuer);
            let from = stamp(facts.not_before).unwrap_or_else(|| date(facts.not_before));
            let until = stamp(facts.not_after).unwrap_or_else(|| date(facts.not_after));
            let left = left(now, facts.not_after);
            let _ = writeln!(text, "  valid    {from} to {until} ({left})");
        }
        let _ = writeln!(text, "  key      {}", told.key);
        let _ = writeln!(text, "  serial   {}", told.serial);
        let _ = writeln!(text, "  SHA-256  {}", told.sha256);
    }
    for warning in &entry.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn as_json(entry: &Found) -> Value {
    let chain = entry.chain.iter().map(|der| {
        let told = One::of(der);
        let facts = told.facts.as_ref();
        json!({
            "subject": told.subject,
            "names": facts.map(|facts| &facts.names),
            "issuer": facts.map(|facts| &facts.issuer),
            "not_before": facts.and_then(|facts| stamp(facts.not_before)),
            "not_after": facts.and_then(|facts| stamp(facts.not_after)),
            "key": told.key,
            "serial": told.serial,
            "sha256": told.sha256,
        })
    });
    json!({
        "site": entry.site,
        "hosts": entry.hosts,
        "source": entry.source.to_string(),
        "certificate_file": entry.places.as_ref().map(|(cert, _)| cert),
        "key_file": entry.places.as_ref().map(|(_, key)| key),
        "chain": chain.collect::<Vec<_>>(),
        "warnings": entry.warnings,
    })
}

/// What one certificate of a chain says.
struct One {
    subject: String,
    facts: Option<Facts>,
    key: String,
    serial: String,
    sha256: String,
}

impl One {
    fn of(der: &CertificateDer<'_>) -> Self {
        let parsed = X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed);
        let said = |text: Option<String>| match text {
            Some(text) if !text.is_empty() => text,
            _ => "-".to_owned(),
        };
        let hash = digest(&SHA256, der);
        Self {
            subject: said(parsed.as_ref().map(|parsed| parsed.subject().to_string())),
            facts: Facts::of(der).ok(),
            key: said(key_of(der).ok()),
            serial: said(parsed.as_ref().map(|parsed| parsed.raw_serial_as_string())),
            sha256: hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

fn stamp(moment: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(moment).map(|t| t.to_string()).ok()
}
