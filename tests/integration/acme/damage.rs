//! What is damaged in the storage is told before it hinders the next issuance.

use super::verbs::{certs, file, told};
use super::*;
use crate::harness::pebble::Pebbles;
use crate::harness::{eventually, tools};

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Folder,
    Text(&'static str),
}

impl Harm {
    fn does(self, path: &Path) {
        let _ = std::fs::remove_file(path);
        match self {
            Harm::Folder => std::fs::create_dir(path).unwrap(),
            Harm::Text(text) => std::fs::write(path, text).unwrap(),
        }
        crate::harness::proxy::open_to_proxy(path, 0o700);
    }

    /// Puts the entry back as it was, and removes what was set aside.
    fn undone(path: &Path, before: Option<Vec<u8>>) {
        let _ = std::fs::remove_dir(path);
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(format!("{}.damaged", path.display()));
        if let Some(before) = before {
            std::fs::write(path, before).unwrap();
            crate::harness::proxy::open_to_proxy(path, 0o600);
        }
    }
}

/// The texts of `status`, `certs list` and `check`, each with the exit code it has to have.
#[track_caller]
fn all_verbs(file: &Path, is_live: bool) -> Vec<String> {
    let mut texts = vec![told(file, &["list"], 1)];
    for (verb, code) in [("status", 1), ("check", 0)] {
        if verb == "status" && !is_live {
            continue;
        }
        let output = tools::portcullis(&[verb, "-c", file.to_str().unwrap()]);
        let text = tools::stdout(&output) + &tools::stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{verb}: {text}");
        texts.push(text);
    }
    texts
}

#[track_caller]
fn expect_calm(file: &Path) {
    eventually("to be in order", || certs(file, &["list"]).status.code() == Some(0));
}

/// All of it was silent, with exit code 0, until the next issuance failed by it or for ever.
#[test]
fn damage_in_the_storage_is_told_by_every_verb_while_nothing_is_due() {
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let mut proxy = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    expect_calm(&file);
    let acme = folder.path().join("acme");
    let entries = std::fs::read_dir(&acme).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names = entries.map(|name| name.into_string().unwrap());
    let account = names.find(|it| it.starts_with("account@") && it.ends_with(".json")).unwrap();
    let directory = pebble.directory();
    let authority = directory.strip_prefix("https://").unwrap().strip_suffix("/dir").unwrap();
    for is_live in [true, false] {
        for (entry, harm, words) in [
            (&*account, Harm::Folder, authority),
            (&account, Harm::Text("{}"), authority),
            ("shop.test.json", Harm::Text(""), "forgotten"),
            ("shop.test.json", Harm::Text("{\n  \"names\": ["), "forgotten"),
            (
                "shop.test.revoked",
                Harm::Text("junk"),
                "the certificate for shop.test is not revoked",
            ),
            ("shop.test.revoked", Harm::Folder, "no certificate for shop.test can be got"),
            ("shop.test.lock", Harm::Folder, "no certificate for shop.test can be got"),
        ] {
            let path = acme.join(entry);
            let before = std::fs::read(&path).ok();
            harm.does(&path);
            for text in all_verbs(&file, is_live) {
                let is_told = text.contains(words) && text.contains(path.to_str().unwrap());
                assert!(is_told, "{entry} {harm:?} {is_live}: {text}");
            }
            Harm::undone(&path, before);
            expect_calm(&file);
        }
        if is_live {
            proxy.stop();
        }
    }
    assert_eq!(pebble.issued(), 1, "nothing was due");
}

/// A ledger that is set aside by the running server leaves a word of what it has cost.
#[test]
fn what_the_server_sets_aside_is_told_until_it_is_removed() {
    let Some(pebble) = Pebbles::new().life(60).start() else { return };
    let (origin, folder) = (app(), storage());
    let proxy = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    let ledger = folder.path().join("acme/shop.test.json");
    let aside = folder.path().join("acme/shop.test.json.damaged");
    eventually_within(TURNS, "it to be set aside", || {
        // What was about to be written takes its place unseen.
        let is_whole = |text: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&text).is_ok();
        if !aside.exists() && std::fs::read(&ledger).is_ok_and(is_whole) {
            Harm::Text("{").does(&ledger);
        }
        aside.exists()
    });
    let words = format!("to end this notice: rm {}", aside.display());
    for text in all_verbs(&file, true) {
        assert!(text.contains(&words), "{text}");
    }
    eventually("to be in order", || {
        let _ = std::fs::remove_file(&aside);
        certs(&file, &["list"]).status.code() == Some(0)
    });
}

/// A storage that takes nothing was told by the first renewal that failed.
#[test]
fn a_storage_that_cannot_be_written_is_told_while_nothing_is_due() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(pebble) = Pebbles::new().start() else { return };
    let (origin, folder) = (app(), storage());
    let mut proxy = pebble.setup(site(&origin)).acme(&kept_in(folder.path())).start();
    expect_issued(&proxy, &pebble);
    let file = file(&proxy);
    expect_calm(&file);
    let acme = folder.path().join("acme");
    let close = |mode| std::fs::set_permissions(&acme, std::fs::Permissions::from_mode(mode));
    close(0o500).unwrap();
    let words = format!("chmod 700 {}", acme.display());
    for is_live in [true, false] {
        for text in all_verbs(&file, is_live) {
            assert!(text.contains(&words), "{text}");
        }
        if is_live {
            proxy.stop();
        }
    }
    close(0o700).unwrap();
    expect_calm(&file);
}
