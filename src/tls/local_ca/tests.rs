//! The local authority over the years, and in a bad state.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::tls::testing::{DAY, hosts};

fn storage() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names_for(&hosts(names))
}

fn der(leaf: &Arc<CertifiedKey>) -> Vec<u8> {
    leaf.cert[0].to_vec()
}

/// The leaf for `a.test` at a moment, as a start of the program gets it.
fn start(storage: &TempDir, now: SystemTime) -> Vec<u8> {
    let authority = LocalAuthority::open_or_create(storage.path(), now).unwrap();
    der(&authority.certificate(&names(&["a.test"]), now).unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn only_the_owner_may_read_keys() {
    let storage = storage();
    start(&storage, SystemTime::now());
    let folder = storage.path().join("local");
    assert_eq!(mode(&folder), 0o700);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let public = file.ends_with("root.pem");
        assert_eq!(mode(&file), if public { 0o644 } else { 0o600 }, "{}", file.display());
    }
}

#[test]
fn a_folder_that_others_could_enter_is_closed() {
    let storage = storage();
    let folder = storage.path().join("local");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    start(&storage, SystemTime::now());
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn a_leaf_is_reused_until_a_third_of_its_life_is_left() {
    let (storage, now) = (storage(), SystemTime::now());
    let first = start(&storage, now);
    assert_eq!(start(&storage, now + 59 * DAY), first);
    let second = start(&storage, now + 61 * DAY);
    assert_ne!(second, first);
    assert_eq!(start(&storage, now + 100 * DAY), second);
}

#[test]
fn a_leaf_lives_at_most_ninety_days_and_the_root_ten_years() {
    let (storage, now) = (storage(), SystemTime::now());
    let leaf = Facts::of(&CertificateDer::from(start(&storage, now))).unwrap();
    let life = leaf.not_after.duration_since(leaf.not_before).unwrap();
    assert!(life <= 90 * DAY && life > 89 * DAY);
    assert!(leaf.not_before < now);
    let authority = LocalAuthority::open(storage.path(), now).unwrap().unwrap();
    let root = authority.root_facts().unwrap();
    assert!((3649..=3653).contains(&crate::tls::facts::days_between(now, root.not_after)));
    assert!(root.issuer.starts_with("Portcullis local authority ("), "{}", root.issuer);
    assert_eq!(leaf.issuer, root.issuer);
}

#[test]
fn a_leaf_does_not_outlive_the_root() {
    let (storage, now) = (storage(), SystemTime::now());
    start(&storage, now);
    let late = now + 3640 * DAY;
    let leaf = Facts::of(&CertificateDer::from(start(&storage, late))).unwrap();
    let authority = LocalAuthority::open(storage.path(), late).unwrap().unwrap();
    assert_eq!(leaf.not_after, authority.root_facts().unwrap().not_after);
}

#[test]
fn an_expired_root_is_refused_with_the_way_to_a_new_one() {
    let (storage, now) = (storage(), SystemTime::now());
    start(&storage, now);
    let error = LocalAuthority::open_or_create(storage.path(), now + 4000 * DAY).unwrap_err();
    assert!(error.to_string().contains("remove root.pem and root.key"), "{error}");
}

#[test]
fn every_set_of_names_has_a_leaf_of_its_own() {
    let (storage, now) = (storage(), SystemTime::now());
    let authority = LocalAuthority::open_or_create(storage.path(), now).unwrap();
    let mut leafs = Vec::new();
    for set in
        [&["a.test"][..], &["a.test", "b.test"], &["*.a.test"], &["*"], &["::1", "127.0.0.1"]]
    {
        let leaf = authority.certificate(&names(set), now).unwrap();
        let facts = Facts::of(&leaf.cert[0]).unwrap();
        assert!(hosts(set).iter().all(|host| facts.covers(host)), "{set:?} {facts:?}");
        leafs.push(der(&leaf));
    }
    leafs.sort();
    leafs.dedup();
    assert_eq!(leafs.len(), 5);
    assert_eq!(names(&["*"]), ["localhost"]);
    assert_eq!(names(&["b.test", "*", "a.test"]), ["a.test", "b.test"]);
}

#[test]
fn a_damaged_leaf_is_made_anew() {
    let (storage, now) = (storage(), SystemTime::now());
    let first = start(&storage, now);
    let file = storage.path().join("local").join(leaf_file(&names(&["a.test"])));
    let whole = fs::read(&file).unwrap();
    for damage in [&b""[..], b"junk", &whole[..whole.len() / 2]] {
        fs::write(&file, damage).unwrap();
        let second = start(&storage, now);
        assert_ne!(second, first);
        assert_eq!(start(&storage, now), second);
    }
}

#[test]
fn a_leaf_of_another_root_or_of_the_future_is_made_anew() {
    let (storage, now) = (storage(), SystemTime::now());
    let first = start(&storage, now);
    for file in ["root.pem", "root.key"] {
        fs::remove_file(storage.path().join("local").join(file)).unwrap();
    }
    let second = start(&storage, now);
    assert_ne!(second, first);
    assert_ne!(start(&storage, now - 10 * DAY), second, "the clock was wrong and is set back");
}

#[test]
fn a_damaged_root_is_refused_with_its_file_and_the_remedy() {
    let now = SystemTime::now();
    let other = storage();
    start(&other, now);
    let foreign = fs::read(other.path().join("local/root.key")).unwrap();
    for (file, damage) in [
        ("root.pem", Some(&b"junk"[..])),
        ("root.pem", Some(b"")),
        ("root.key", Some(b"junk")),
        ("root.key", Some(&foreign)),
        ("root.key", None),
    ] {
        let storage = storage();
        start(&storage, now);
        let path = storage.path().join("local").join(file);
        match damage {
            Some(damage) => fs::write(&path, damage).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = LocalAuthority::open_or_create(storage.path(), now).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("restore") && error.contains("remove"), "{error}");
    }
}

/// The start ended, for every site.
#[test]
fn a_root_that_is_lost_is_kept_aside_and_another_made() {
    let now = SystemTime::now();
    let other = storage();
    start(&other, now);
    let foreign = fs::read(other.path().join("local/root.pem")).unwrap();
    for (file, damage, is_key_lost) in [
        ("root.pem", Some(&b"junk"[..]), false),
        ("root.pem", Some(b""), false),
        ("root.pem", Some(&foreign), false),
        ("root.key", Some(b"junk"), true),
        ("root.key", None, true),
    ] {
        let storage = storage();
        let first = start(&storage, now);
        let at = |name: &str| storage.path().join("local").join(name);
        let old = CertificateDer::from_pem_slice(&fs::read(at("root.pem")).unwrap()).unwrap();
        match damage {
            Some(damage) => fs::write(at(file), damage).unwrap(),
            None => fs::remove_file(at(file)).unwrap(),
        }
        let authority = LocalAuthority::open_or_mend(storage.path(), now).unwrap();
        let leaf = authority.certificate(&names(&["a.test"]), now).unwrap();
        assert_eq!(LocalAuthority::notice(storage.path()).is_some(), is_key_lost, "{file}");
        let kept = if is_key_lost { format!("{file}.damaged") } else { format!("{file}.replaced") };
        assert_eq!(fs::read(at(&kept)).ok().as_deref(), damage, "{kept}");
        // Whoever trusts the old root trusts what has its key.
        let mut anchors = RootCertStore::empty();
        anchors.add(old).unwrap();
        let trusting = LocalAuthority { anchors, ..authority };
        assert_eq!(trusting.verify(&leaf.cert[0], now).is_err(), is_key_lost, "{file}");
        assert_eq!(der(&leaf) == first, !is_key_lost, "{file}");
        assert_eq!(start(&storage, now), der(&leaf), "and that is that");
    }
}

#[test]
fn an_expired_root_makes_way_with_its_key() {
    let (storage, now) = (storage(), SystemTime::now());
    start(&storage, now);
    let late = now + 4000 * DAY;
    let key = fs::read(storage.path().join("local/root.key")).unwrap();
    LocalAuthority::open_or_mend(storage.path(), late).unwrap();
    assert_ne!(fs::read(storage.path().join("local/root.key")).unwrap(), key);
    let notice = LocalAuthority::notice(storage.path()).unwrap();
    assert!(notice.contains("root.pem.damaged") && notice.contains("root.key.damaged"), "{notice}");
}

#[test]
fn a_root_that_was_never_finished_is_finished_with_its_key() {
    let (storage, now) = (storage(), SystemTime::now());
    start(&storage, now);
    let folder = storage.path().join("local");
    let key = fs::read(folder.join("root.key")).unwrap();
    fs::remove_file(folder.join("root.pem")).unwrap();
    start(&storage, now);
    assert_eq!(fs::read(folder.join("root.key")).unwrap(), key);
}

#[test]
fn of_many_that_come_at_once_one_makes_the_authority_and_the_leaf() {
    let (storage, now) = (storage(), SystemTime::now());
    let mut leafs: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| start(&storage, now))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    leafs.dedup();
    assert_eq!(leafs.len(), 1);
}

#[test]
fn a_due_leaf_is_served_on_when_the_storage_cannot_be_written() {
    let (storage, now) = (storage(), SystemTime::now());
    let first = start(&storage, now);
    let lock = storage.path().join("local/lock");
    fs::remove_file(&lock).unwrap();
    // A link in the place of the lock: it is not followed, so the lock cannot be taken.
    std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
    assert_eq!(start(&storage, now + 70 * DAY), first);
    let authority = LocalAuthority::open(storage.path(), now).unwrap().unwrap();
    authority.certificate(&names(&["a.test"]), now + 91 * DAY).unwrap_err();
}

#[test]
fn root_leaves_what_it_makes_to_the_owner_of_the_storage() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can give files away: not tested");
        return;
    }
    let storage = storage();
    chown(storage.path(), Some(12345), Some(12345)).unwrap();
    start(&storage, SystemTime::now());
    let folder = storage.path().join("local");
    assert_eq!(fs::metadata(&folder).unwrap().uid(), 12345);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 12345, "{}", path.display());
    }
}

#[test]
fn a_storage_that_is_no_directory_is_named() {
    let storage = storage();
    let file = storage.path().join("file");
    fs::write(&file, "").unwrap();
    let error = LocalAuthority::open_or_create(&file, SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn openssl_accepts_the_chain_for_servers_and_its_names() {
    let (storage, now) = (storage(), SystemTime::now());
    let authority = LocalAuthority::open_or_create(storage.path(), now).unwrap();
    let set = names(&["a.test", "*.b.test", "192.0.2.1", "2001:db8::1", "localhost"]);
    authority.certificate(&set, now - Duration::from_secs(1)).unwrap();
    let leaf = storage.path().join("local").join(leaf_file(&set));
    let verify = |check: &[&str]| {
        Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
            .arg(authority.root_path())
            .args(check)
            .arg(&leaf)
            .output()
    };
    if verify(&[]).is_err() {
        eprintln!("openssl is not installed: not tested");
        return;
    }
    for check in [
        ["-verify_hostname", "a.test"],
        ["-verify_hostname", "www.b.test"],
        ["-verify_hostname", "localhost"],
        ["-verify_ip", "192.0.2.1"],
        ["-verify_ip", "2001:db8::1"],
    ] {
        let output = verify(&check).unwrap();
        assert!(output.status.success(), "{check:?} {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!verify(&["-verify_hostname", "b.test"]).unwrap().status.success());
}
