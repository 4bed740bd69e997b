//! What `install` writes: units that systemd accepts and rates well, and files that the tools that
//! read them understand.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::harness::proxy::folder;
use crate::harness::tools::{self, PORTCULLIS, stderr, stdout};

const SERVICES: [&str; 2] = ["portcullis.service", "portcullis-sockets.service"];

/// A file of the repository's `config/`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = tools::run(command);
    assert!(output.status.success(), "{command:?}: {}{}", stderr(&output), stdout(&output));
    stdout(&output) + &stderr(&output)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(mut analyze) = tools::find("systemd-analyze") else { return };
    let folder = folder();
    analyze.args(["verify", "--man=no"]);
    for entry in fs::read_dir(shipped("systemd")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let unit = fs::read_to_string(&path).unwrap().replace("/usr/bin/portcullis", PORTCULLIS);
        let copy = folder.path().join(path.file_name().unwrap());
        fs::write(&copy, unit).unwrap();
        analyze.arg(copy);
    }
    assert_eq!(succeeds(&mut analyze), "");
}

#[test]
fn systemd_rates_both_services_at_most_one_and_a_half() {
    for service in SERVICES {
        let Some(mut analyze) = tools::find("systemd-analyze") else { return };
        analyze.args(["security", "--offline=true", "--no-pager", "--threshold=15"]);
        succeeds(analyze.arg(shipped("systemd").join(service)));
    }
}
