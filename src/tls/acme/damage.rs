//! What in the storage is damaged, or keeps anything from being kept there: told before it hinders
//! the next issuance, and where it has cost what was remembered.

use std::collections::HashMap;
use std::path::Path;

use rustix::fs::FileType;

use super::account;
use super::demand;
use super::ledger::{Ledger, Revoked};
use super::names::{authority_name, stem, wants_any};
use super::vault::{Files, Vault as _};
use crate::config::{Config, TlsSource};
use crate::proxy::headers::host::{Host, HostPattern};
use crate::shell::quote_path;

/// So many files are read at each question, by a server that has others to serve and by a verb
/// that has not. Of a server with more certificates the keepers read them, and set aside what is
/// damaged: that is seen without reading.
const MOST_READ: usize = 1000;
const MOST_READ_BY_A_VERB: usize = 20_000;

/// More of a kind are not told one by one.
const MOST_TOLD: usize = 20;

/// What is to be known of the storage of `config`, a sentence each with the path, what it costs and
/// what helps. `names` has the first name of each certificate that is wanted, those on demand
/// aside. A storage that is not there yet is fine; one that this user may not read is the
/// `is_server`'s trouble alone. Writes nothing.
#[must_use]
pub fn damage<'a>(
    config: &'a Config,
    names: impl Iterator<Item = &'a str>,
    is_server: bool,
) -> Vec<String> {
    if !wants_any(config) {
        return Vec::new();
    }
    let vault = Files::at(&config.acme.storage);
    let refusal = vault.refusal(is_server);
    let refusal = refusal.map(|why| format!("no certificate can be got or renewed: {why}"));
    let mut told: Vec<String> = refusal.into_iter().collect();
    match vault.entries() {
        Ok(entries) => told.extend(Survey::new(config, vault, names, is_server).told(&entries)),
        Err(error) if is_server || error.is_no_directory() => {
            told.push(format!("no certificate can be got or renewed: {error}"));
        }
        Err(_) => {}
    }
    told
}

/// To whom the entries of the folder belong.
struct Survey<'a> {
    config: &'a Config,
    vault: Files,
    is_server: bool,
    /// The directories of authorities, by the entries of the accounts with them.
    accounts: HashMap<String, &'a str>,
    /// The first names of certificates, by the names they are kept under.
    certificates: HashMap<String, &'a str>,
    on_demand: Vec<&'a HostPattern>,
}

/// Whose an entry is.
enum Owner<'a> {
    /// The account with this directory.
    Account(&'a str),
    /// The certificate of this name.
    Certificate(String),
}

impl<'a> Survey<'a> {
    fn new(
        config: &'a Config,
        vault: Files,
        names: impl Iterator<Item = &'a str>,
        is_server: bool,
    ) -> Self {
        let authorities = config.acme.authorities.iter();
        let directories = authorities.flat_map(|it| {
            [Some(&it.directory), it.staging_directory.as_ref()].into_iter().flatten()
        });
        let is_on_demand = |tls: &TlsSource| matches!(tls, TlsSource::OnDemand(_));
        let on_demand = config.sites.iter().filter(|site| is_on_demand(&site.tls));
        Self {
            config,
            vault,
            is_server,
            accounts: directories.map(|it| (account::entry(it), it.as_str())).collect(),
            certificates: names.map(|name| (stem(&[name.to_owned()]), name)).collect(),
            on_demand: on_demand.flat_map(|site| &site.hosts).collect(),
        }
    }

    fn told(&self, entries: &[(String, FileType)]) -> Vec<String> {
        let regular = entries.iter().filter(|(_, kind)| *kind == FileType::RegularFile);
        let regular: Vec<&str> = regular.map(|(name, _)| name.as_str()).collect();
        let misplaced = entries.iter().filter_map(|(name, kind)| self.misplaced(name, *kind));
        let mut told: Vec<String> = misplaced.collect();
        told.extend(self.to_be_read(&regular).filter_map(|name| self.damaged(name)));
        told.extend(regular.iter().filter_map(|name| self.lost(name)));
        told.sort_unstable();
        let more = told.len().saturating_sub(MOST_TOLD);
        if more > 0 {
            told.truncate(MOST_TOLD);
            told.push(format!("{more} more are damaged in {}", self.vault.place("")));
        }
        told
    }

    /// Accounts, ledgers and marks of revocations: of names on demand, which may be very many,
    /// those that are left to be read after the others.
    fn to_be_read<'n>(&self, names: &[&'n str]) -> impl Iterator<Item = &'n str> {
        let is_read = |name: &&str| {
            let is_json = name.ends_with(".json") && !name.ends_with(".order.json");
            is_json || name.ends_with(".revoked")
        };
        let is_wanted =
            |name: &&str| self.accounts.contains_key(*name) || self.certificate_of(name).is_some();
        let (mut read, others): (Vec<_>, Vec<_>) =
            names.iter().copied().filter(is_read).partition(is_wanted);
        let others = others.into_iter().filter(|name| self.may_be_on_demand(name));
        let most = if self.is_server { MOST_READ } else { MOST_READ_BY_A_VERB };
        read.extend(others.take(most));
        read.into_iter().take(most)
    }

    /// A directory or a link where a file has to be: neither is read, locked or replaced.
    fn misplaced(&self, name: &str, kind: FileType) -> Option<String> {
        let is_replaced = name.ends_with(".new") || name.ends_with(".damaged");
        let what = match kind {
            FileType::RegularFile | FileType::Unknown => return None,
            FileType::Directory => "a directory",
            _ if is_replaced => return None,
            FileType::Symlink => "a symbolic link, which is not followed",
            _ => "no regular file",
        };
        let cost = match self.owner(name)? {
            Owner::Account(directory) => {
                format!("no certificate can be got from {}", authority_name(directory))
            }
            Owner::Certificate(name) => {
                format!("no certificate for {name} can be got, renewed or revoked")
            }
        };
        let place = self.vault.place(name);
        let [from, to] = [&*place, &format!("{place}.old")].map(|it| quote_path(Path::new(it)));
        Some(format!("{cost}: {place} is {what}, where a file has to be; mv {from} {to}"))
    }

    /// What an account, a ledger or the mark of a revocation has in it is not what it should be.
    fn damaged(&self, name: &str) -> Option<String> {
        let place = self.vault.place(name);
        let text = match self.vault.get(name) {
            Ok(text) => text?,
            Err(error) if !self.is_server && error.is_permission() => return None,
            Err(error) => return Some(error.to_string()),
        };
        if let Some(directory) = self.accounts.get(name) {
            return (!account::is_whole(&text)).then(|| {
                format!(
                    "{place} is damaged, and with it the account with {}: restore it from a copy, \
                     or the next issuance sets it aside and makes another account",
                    authority_name(directory)
                )
            });
        }
        let is_mark = name.ends_with(".revoked");
        let is_whole = match is_mark {
            true => serde_json::from_slice::<Revoked>(&text).is_ok(),
            false => serde_json::from_slice::<Ledger>(&text).is_ok(),
        };
        match self.owner(name)? {
            Owner::Certificate(_) if is_whole => None,
            Owner::Certificate(of) if is_mark => Some(self.damaged_mark(&place, &of, name)),
            Owner::Certificate(of) => Some(format!(
                "{place} is damaged: the tries for {of}, when the next one is, and who has issued \
                 the certificate are forgotten, and limits of authorities may be exceeded; restore \
                 it from a copy, or the server sets it aside and begins anew"
            )),
            Owner::Account(_) => None,
        }
    }

    /// What the mark of a revocation is there for, the ledger beside it may still know.
    fn damaged_mark(&self, place: &str, of: &str, name: &str) -> String {
        let ledger = name.strip_suffix(".revoked").map(|stem| format!("{stem}.json"));
        let ledger = ledger.and_then(|ledger| self.vault.get(&ledger).ok().flatten());
        let ledger = ledger.and_then(|text| serde_json::from_slice::<Ledger>(&text).ok());
        match ledger.map(|ledger| ledger.revoked) {
            Some(None) => format!(
                "{place} is damaged, and of no use: the certificate for {of} is not revoked, and \
                 would be taken for it should the ledger beside it be lost; rm {}",
                quote_path(Path::new(place))
            ),
            Some(Some(_)) => format!(
                "{place} is damaged: should the ledger beside it be lost too, another certificate \
                 for {of} is asked for, even after `revoke --no-renew`; restore it from a copy, or \
                 `portcullis certs renew {of}` ends this with another certificate"
            ),
            None => format!(
                "{place} is damaged, and the ledger beside it is lost: why the certificate for \
                 {of} was revoked is forgotten, and another is asked for, even after `revoke \
                 --no-renew`; restore it from a copy"
            ),
        }
    }

    /// What was damaged and set aside, where it has cost something that is not got anew.
    fn lost(&self, name: &str) -> Option<String> {
        let lost = name.strip_suffix(".damaged")?.strip_suffix(".json")?;
        if lost.ends_with(".order") {
            return None;
        }
        let cost = match self.owner(name)? {
            Owner::Account(directory) => format!(
                "the account with {} was damaged and another took its place: what that authority \
                 has allowed the old one has to be allowed anew",
                authority_name(directory)
            ),
            Owner::Certificate(of) => format!(
                "what was remembered of the certificate for {of} was damaged and is begun anew: \
                 the tries of before, and who had issued it, are forgotten"
            ),
        };
        let place = self.vault.place(name);
        Some(format!("{cost}; to end this notice: rm {}", quote_path(Path::new(&place))))
    }

    fn owner(&self, entry: &str) -> Option<Owner<'a>> {
        let plain = plain(entry);
        let account = plain.strip_suffix(".lock").unwrap_or(plain);
        if let Some(directory) = self.accounts.get(account) {
            return Some(Owner::Account(directory));
        }
        let name = self.certificate_of(entry).map(str::to_owned);
        name.or_else(|| self.name_on_demand(entry)).map(Owner::Certificate)
    }

    fn certificate_of(&self, entry: &str) -> Option<&'a str> {
        self.certificates.get(stem_of(entry)?).copied()
    }

    fn may_be_on_demand(&self, entry: &str) -> bool {
        let host = stem_of(entry).and_then(|stem| Host::parse(stem.as_bytes()).ok());
        host.is_some_and(|host| self.on_demand.iter().any(|pattern| pattern.matches(&host)))
    }

    fn name_on_demand(&self, entry: &str) -> Option<String> {
        let name = stem_of(entry).filter(|_| self.may_be_on_demand(entry))?.to_owned();
        demand::is_one(self.config, std::slice::from_ref(&name)).then_some(name)
    }
}

/// An entry without what is added while it is written, and when it is set aside.
fn plain(entry: &str) -> &str {
    let draft = entry.strip_prefix('.').and_then(|it| it.strip_suffix(".new"));
    let entry = draft.unwrap_or(entry);
    entry.strip_suffix(".damaged").unwrap_or(entry)
}

/// The name of the certificate that an entry is of.
fn stem_of(entry: &str) -> Option<&str> {
    let entry = plain(entry);
    let ends = [".order.json", ".json", ".pem", ".revoked", ".lock"];
    ends.iter().find_map(|end| entry.strip_suffix(end))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::config::Ask;
    use crate::tls::acme::jose::AccountKey;
    use crate::tls::testing::{config, site};

    const CA: &str = "https://ca.test/dir";

    /// A storage with a whole account, ledger and mark of each name.
    fn storage(names: &[&str]) -> (tempfile::TempDir, Config) {
        let storage = tempfile::tempdir().unwrap();
        let on_demand = TlsSource::OnDemand(Ask::parse("http://127.0.0.1:1/").unwrap());
        let sites = vec![site(&["a.test"], TlsSource::Auto), site(&["*.b.test"], on_demand)];
        let mut config = config(storage.path(), sites);
        config.acme.authorities[0].directory = CA.to_owned();
        config.acme.authorities[0].staging_directory = None;
        fs::create_dir(storage.path().join("acme")).unwrap();
        let write = |name: &str, text: String| {
            fs::write(storage.path().join("acme").join(name), text).unwrap();
        };
        let key = URL_SAFE_NO_PAD.encode(AccountKey::generate().unwrap().pkcs8());
        let account = json!({ "directory": CA, "key": key, "id": null });
        write(&account::entry(CA), account.to_string());
        for name in names {
            write(&format!("{name}.json"), serde_json::to_string(&Ledger::default()).unwrap());
            let mark = json!({ "at": 0, "leaf": "", "reason": "superseded", "renews": true });
            write(&format!("{name}.revoked"), mark.to_string());
            write(&format!("{name}.lock"), String::new());
        }
        (storage, config)
    }

    fn told(config: &Config, is_server: bool) -> Vec<String> {
        damage(config, ["a.test"].into_iter(), is_server)
    }

    /// An account, a lock and the mark of a revocation were found damaged by the next issuance, or
    /// never.
    #[test]
    fn what_is_damaged_is_told_before_it_hinders_anybody() {
        let account = account::entry(CA);
        for (entry, text, words) in [
            (&*account, Some("{}"), "another account"),
            (&account, None, "no certificate can be got from ca.test: "),
            (&format!("{account}.lock"), None, "no certificate can be got from ca.test: "),
            ("a.test.json", Some("{\"names\": ["), "limits of authorities may be exceeded"),
            ("a.test.json", Some(""), "who has issued the certificate are forgotten"),
            ("a.test.json", None, "no certificate for a.test can be got"),
            ("a.test.revoked", Some("junk"), "the certificate for a.test is not revoked"),
            ("a.test.revoked", None, "no certificate for a.test can be got"),
            ("a.test.lock", None, "is a directory, where a file has to be; mv "),
            (".a.test.pem.new", None, "is a directory, where a file has to be; mv "),
            ("x.b.test.json", Some("junk"), "the tries for x.b.test"),
            ("x.b.test.lock", None, "no certificate for x.b.test can be got"),
        ] {
            let (storage, config) = storage(&["a.test", "x.b.test"]);
            assert_eq!(told(&config, true), [""; 0]);
            let path = storage.path().join("acme").join(entry);
            let _ = fs::remove_file(&path);
            match text {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::create_dir(&path).unwrap(),
            }
            let all = told(&config, false);
            assert_eq!(all.len(), 1, "{entry}: {all:#?}");
            assert!(all[0].contains(words), "{entry}: {}", all[0]);
            assert!(all[0].contains(path.to_str().unwrap()), "{entry}: {}", all[0]);
            assert_eq!(told(&config, true), all, "the server tells the same");
        }
    }

    #[test]
    fn a_damaged_mark_is_told_by_what_the_ledger_still_knows() {
        let (storage, config) = storage(&["a.test"]);
        let acme = storage.path().join("acme");
        fs::write(acme.join("a.test.revoked"), "junk").unwrap();
        let mut ledger = Ledger::default();
        ledger.revoke(b"leaf", "superseded", false, std::time::SystemTime::now());
        let text = serde_json::to_string(&ledger).unwrap();
        fs::write(acme.join("a.test.json"), text).unwrap();
        let all = told(&config, true);
        assert!(all[0].contains("`portcullis certs renew a.test` ends this"), "{all:#?}");
        fs::remove_file(acme.join("a.test.json")).unwrap();
        let all = told(&config, true);
        assert!(all[0].contains("the ledger beside it is lost"), "{all:#?}");
    }

    #[test]
    fn what_was_set_aside_is_told_until_somebody_has_seen_it() {
        let (storage, config) = storage(&["a.test"]);
        let acme = storage.path().join("acme");
        for entry in ["a.test.json", &account::entry(CA)] {
            let path = acme.join(format!("{entry}.damaged"));
            fs::write(&path, "{").unwrap();
            let all = told(&config, true);
            assert_eq!(all.len(), 1, "{all:#?}");
            let remedy = format!("to end this notice: rm {}", path.display());
            assert!(all[0].ends_with(&remedy), "{all:#?}");
            fs::remove_file(&path).unwrap();
        }
        // Another was got, or is being got, and that is told elsewhere.
        fs::write(acme.join("a.test.pem.damaged"), "junk").unwrap();
        fs::write(acme.join("a.test.order.json.damaged"), "junk").unwrap();
        assert_eq!(told(&config, true), [""; 0]);
    }

    #[test]
    fn what_is_nobody_s_here_alarms_nobody() {
        let (storage, mut config) = storage(&["a.test"]);
        let acme = storage.path().join("acme");
        fs::write(acme.join("gone.test.json"), "").unwrap();
        fs::write(acme.join("account@other.test-0123.json"), "{}").unwrap();
        fs::write(acme.join("a.test.order.json"), "junk").unwrap();
        fs::create_dir(acme.join("a.test.lock.old")).unwrap();
        fs::create_dir(acme.join("backup")).unwrap();
        assert_eq!(told(&config, true), [""; 0]);
        // Nor a storage that is not there yet, nor one that nothing by ACME is kept in.
        fs::create_dir(acme.join("a.test.json.damaged")).unwrap();
        assert_eq!(told(&config, true).len(), 1);
        config.sites = vec![site(&["localhost"], TlsSource::Auto)];
        assert_eq!(told(&config, true), [""; 0]);
        drop(storage);
        config.sites = vec![site(&["a.test"], TlsSource::Auto)];
        assert_eq!(told(&config, true), [""; 0]);
    }

    #[test]
    fn many_of_a_kind_are_not_told_one_by_one() {
        let (storage, config) = storage(&[]);
        for number in 0..100 {
            let name = format!("acme/x{number}.b.test.json.damaged");
            fs::write(storage.path().join(name), "").unwrap();
        }
        let all = told(&config, true);
        assert_eq!(all.len(), MOST_TOLD + 1);
        assert!(all[MOST_TOLD].starts_with("80 more are damaged in "), "{all:#?}");
    }

    #[test]
    fn something_else_in_place_of_the_folder_is_told() {
        let (storage, config) = storage(&[]);
        let acme = storage.path().join("acme");
        fs::remove_dir_all(&acme).unwrap();
        fs::write(&acme, "").unwrap();
        for is_server in [true, false] {
            let all = told(&config, is_server);
            assert!(all[0].starts_with("no certificate can be got or renewed: "), "{all:#?}");
        }
    }
}
