//! What `install` writes: units that systemd accepts and rates well, and files that the tools that
//! read them understand.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::proxy::{folder, unprivileged};
use crate::harness::tools::{self, PORTCULLIS, portcullis, stderr, stdout};
use crate::harness::{Origin, Proxy, eventually};

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

#[test]
fn the_audit_comes_with_either_way_and_names_the_program_where_it_is() {
    for variant in [&[][..], &["--sockets"]] {
        let root = Root::new();
        assert_eq!(root.install(variant).status.code(), Some(0));
        let unit = root.read("/etc/systemd/system/portcullis-audit.service");
        assert!(unit.contains("\nExecStart=/usr/local/bin/portcullis audit "), "{unit}");
        assert!(!unit.contains("/usr/bin/portcullis"), "{unit}");
        let wants = root.path("/etc/systemd/system/timers.target.wants");
        assert!(!wants.exists());
        fs::create_dir(&wants).unwrap();
        symlink("../portcullis-audit.timer", wants.join("portcullis-audit.timer")).unwrap();
        let refused = root.install(&["--uninstall"]);
        assert_eq!(refused.status.code(), Some(1));
        let said = stderr(&refused);
        assert!(said.contains(" disable portcullis-audit.timer"), "{said}");
    }
}

/// An empty folder that stands for `/`.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    #[track_caller]
    fn install(&self, arguments: &[&str]) -> Output {
        let root = self.0.path().to_str().unwrap();
        portcullis(&[&["install", "--root", root], arguments].concat())
    }

    /// Everything below it, with `/` at the end of a folder.
    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.0.path()).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() && !path.is_symlink() {
                    found.insert(format!("/{name}/"));
                    folders.push(path);
                } else {
                    found.insert(format!("/{name}"));
                }
            }
        }
        found
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }
}

const UNIT: &str = "/etc/systemd/system/portcullis.service";
const CONFIG: &str = "/etc/portcullis/portcullis.toml";
const LOGROTATE: &str = "/etc/logrotate.d/portcullis";

#[test]
fn everything_is_installed_once() {
    let root = Root::new();
    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    for (path, mode) in [
        ("/usr/local/bin/portcullis", 0o755),
        ("/usr/local/share/man/man1/portcullis.1", 0o644),
        ("/usr/local/share/doc/portcullis/reference.toml", 0o644),
        ("/etc/sysusers.d/portcullis.conf", 0o644),
        ("/etc/tmpfiles.d/portcullis.conf", 0o644),
        (LOGROTATE, 0o644),
        (CONFIG, 0o644),
        (UNIT, 0o644),
        ("/etc/systemd/system/portcullis-audit.service", 0o644),
        ("/etc/systemd/system/portcullis-audit.timer", 0o644),
    ] {
        let found = fs::metadata(root.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
        assert!(said.contains(&format!("wrote        {path}\n")), "{said}");
    }
    assert!(root.read(UNIT).contains("ExecStart=/usr/local/bin/portcullis run"));
    assert!(
        fs::read(root.path("/usr/local/bin/portcullis")).unwrap() == fs::read(PORTCULLIS).unwrap()
    );
    let config = root.path(CONFIG);
    let checked = portcullis(&["check", "-c", config.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));

    let before = root.files();
    let again = root.install(&[]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(stdout(&again), "Nothing to do: everything is in its place.\n");
    assert_eq!(root.files(), before);
}

#[test]
fn uninstall_takes_back_exactly_what_was_written() {
    let root = Root::new();
    root.write("/etc/hostname", "there before\n");
    let before = root.files();
    root.install(&[]);
    root.install(&["--sockets"]);
    assert!(root.path("/etc/systemd/system/portcullis-https.socket").exists());
    let installed = root.files();
    let dry = root.install(&["--uninstall", "--dry-run"]);
    assert!(stdout(&dry).contains(&format!("would remove {UNIT}\n")), "{}", stdout(&dry));
    assert_eq!(root.files(), installed);
    let output = root.install(&["--uninstall"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(root.files(), before, "{}", stdout(&output));
    let again = root.install(&["--uninstall"]);
    assert_eq!(again.status.code(), Some(0));
    assert!(stdout(&again).starts_with("Nothing to take back"), "{}", stdout(&again));
}

#[test]
fn what_somebody_has_changed_is_neither_overwritten_nor_removed() {
    let root = Root::new();
    root.write(LOGROTATE, "# theirs\n");
    let first = root.install(&[]);
    assert_eq!(first.status.code(), Some(1));
    let kept = format!("kept         {LOGROTATE}: not written by install\n");
    assert!(stdout(&first).contains(&kept), "{}", stdout(&first));
    root.write(UNIT, "# mine\n");
    root.write(CONFIG, "# mine\n");
    let second = root.install(&[]);
    assert_eq!(second.status.code(), Some(1));
    let changed = format!("kept         {UNIT}: changed since it was installed\n");
    assert!(stdout(&second).contains(&changed), "{}", stdout(&second));
    // That the configuration is the operator's is how it should be.
    assert!(stdout(&second).contains(&format!("kept         {CONFIG}: it is yours\n")));

    let last = root.install(&["--uninstall"]);
    assert_eq!(last.status.code(), Some(0), "{}", stderr(&last));
    assert!(stdout(&last).contains(&changed), "{}", stdout(&last));
    let left: Vec<_> = root.files().into_iter().filter(|path| !path.ends_with('/')).collect();
    assert_eq!(left, [LOGROTATE, CONFIG, UNIT]);
    assert_eq!(root.read(UNIT), "# mine\n");
}

#[test]
fn a_file_of_an_earlier_version_is_brought_up_to_date() {
    let root = Root::new();
    root.install(&[]);
    let new = root.read(UNIT);
    let old = "# as an earlier version wrote it\n";
    root.write(UNIT, old);
    let mut manifest: Value = serde_json::from_str(&root.read(MANIFEST)).unwrap();
    manifest["files"][UNIT] = Value::from(hex(digest(&SHA256, old.as_bytes()).as_ref()));
    root.write(MANIFEST, &manifest.to_string());
    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains(&format!("updated      {UNIT}\n")), "{}", stdout(&output));
    assert_eq!(root.read(UNIT), new);
}

#[test]
fn a_manifest_cannot_have_foreign_files_removed() {
    let root = Root::new();
    root.install(&[]);
    root.write("/etc/passwd", "root\n");
    let mut manifest: Value = serde_json::from_str(&root.read(MANIFEST)).unwrap();
    manifest["files"]["/etc/passwd"] = Value::from(hex(digest(&SHA256, b"root\n").as_ref()));
    root.write(MANIFEST, &manifest.to_string());
    let output = root.install(&["--uninstall"]);
    let kept = "kept         /etc/passwd: no install writes this file\n";
    assert!(stdout(&output).contains(kept), "{}", stdout(&output));
    assert_eq!(root.read("/etc/passwd"), "root\n");
}

const MANIFEST: &str = "/etc/portcullis/installed.json";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_masked_unit_stays_masked() {
    let root = Root::new();
    fs::create_dir_all(root.path("/etc/systemd/system")).unwrap();
    symlink("/dev/null", root.path(UNIT)).unwrap();
    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains(&format!("{UNIT}: a symbolic link")), "{}", stdout(&output));
    assert!(root.path(UNIT).is_symlink());
}

#[test]
fn an_enabled_service_is_not_pulled_away() {
    let root = Root::new();
    root.install(&[]);
    let wants = root.path("/etc/systemd/system/multi-user.target.wants");
    fs::create_dir(&wants).unwrap();
    symlink(UNIT, wants.join("portcullis.service")).unwrap();
    let before = root.files();
    let output = root.install(&["--uninstall"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(" disable portcullis.service"), "{}", stderr(&output));
    assert_eq!(root.files(), before);
}

#[test]
fn a_package_that_brings_the_service_is_enough() {
    let root = Root::new();
    root.write("/usr/lib/systemd/system/portcullis.service", "[Unit]\n");
    let before = root.files();
    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("systemctl enable --now portcullis.service"));
    assert_eq!(root.files(), before);
}

#[test]
fn printing_and_trying_write_nothing() {
    let root = Root::new();
    let printed = stdout(&root.install(&["--print", "--sockets"]));
    for text in [
        "# /etc/systemd/system/portcullis-sockets.service, mode 0644\n",
        "# /etc/systemd/system/portcullis-http.socket, mode 0644\n",
        "\nFileDescriptorName=https\n",
        "# /usr/local/bin/portcullis, mode 0755: this program\n",
        "ExecStart=/usr/local/bin/portcullis run",
    ] {
        assert!(printed.contains(text), "{text:?} in {printed}");
    }
    let tried = root.install(&["--dry-run"]);
    assert_eq!(tried.status.code(), Some(0));
    assert!(stdout(&tried).contains(&format!("would write  {UNIT}\n")), "{}", stdout(&tried));
    assert!(root.files().is_empty());
    assert_eq!(root.install(&["--print", "--uninstall"]).status.code(), Some(2));
}

#[test]
fn whoever_is_not_root_is_told_the_command() {
    let folder = folder();
    let mut install = Command::from(unprivileged(folder.path()));
    let output = tools::run(install.arg("install"));
    if output.status.code() == Some(0) && stdout(&output).contains("A package has installed") {
        tools::skip("a package has installed the service on this host");
        return;
    }
    assert_eq!(output.status.code(), Some(77), "{}{}", stdout(&output), stderr(&output));
    assert!(stderr(&output).contains("this takes root: sudo /"), "{}", stderr(&output));
    assert!(stderr(&output).contains(" install\n"), "{}", stderr(&output));
    let mut tried = Command::from(unprivileged(folder.path()));
    assert_eq!(tools::run(tried.args(["install", "--print"])).status.code(), Some(0));
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    if !rustix::process::geteuid().is_root() {
        tools::skip("only root has a folder that others may not write");
        return;
    }
    let (home, closed) = (folder(), tempfile::tempdir().unwrap());
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut install = Command::from(unprivileged(home.path()));
    let output = tools::run(install.args(["install", "--root"]).arg(closed.path()));
    assert_eq!(output.status.code(), Some(77));
    let place = closed.path().join("usr").display().to_string();
    assert!(stderr(&output).contains(&place), "{}", stderr(&output));
}

#[test]
fn systemd_makes_the_user_and_the_folders() {
    let root = Root::new();
    root.install(&[]);
    let option = format!("--root={}", root.0.path().display());
    for (program, arguments, file) in [
        ("systemd-sysusers", &[][..], "/etc/sysusers.d/portcullis.conf"),
        ("systemd-tmpfiles", &["--create"], "/etc/tmpfiles.d/portcullis.conf"),
    ] {
        if !rustix::process::geteuid().is_root() {
            tools::skip("only root gives a folder away");
            return;
        }
        let Some(mut command) = tools::find(program) else { return };
        succeeds(command.arg(&option).args(arguments).arg(root.path(file)));
    }
    let user = root.read("/etc/passwd");
    assert!(user.starts_with("portcullis:x:"), "{user}");
    assert!(user.trim_end().ends_with(":/var/lib/portcullis:/usr/sbin/nologin"), "{user}");
    let uid: u32 = user.split(':').nth(2).unwrap().parse().unwrap();
    for (path, owner, mode) in [
        ("/etc/portcullis", 0, 0o755),
        ("/var/lib/portcullis", uid, 0o700),
        ("/var/log/portcullis", uid, 0o750),
        ("/run/portcullis", uid, 0o750),
    ] {
        let found = fs::metadata(root.path(path)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), owner, "{path}");
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
    }
}

/// The shipped rotation on a running proxy: only the paths are those of the test, and `systemctl`
/// is a script that does to this process what systemd would do to the unit's.
#[test]
fn the_log_is_rotated_without_losing_a_line() {
    let origin = Origin::start();
    origin.route("*", "hello");
    let Some(logrotate) = tools::find("logrotate") else { return };
    if !rustix::process::geteuid().is_root() {
        tools::skip("only root rotates for another user");
        return;
    }
    let proxy = Proxy::to(&origin).start();
    proxy.client().get("/before");
    proxy.access_line(|line| line.contains("/before"));
    let logs = proxy.path("access.log");
    let stanza = fs::read_to_string(shipped("logrotate/portcullis")).unwrap();
    let stanza = stanza
        .replace(
            "/var/log/portcullis/*.log",
            &format!("{}/*.log", logs.parent().unwrap().display()),
        )
        .replace("su portcullis portcullis", "su nobody nogroup");
    // Its own folder: what belongs to the proxy's user is not what root reads.
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("portcullis"), stanza).unwrap();
    fs::set_permissions(path("portcullis"), fs::Permissions::from_mode(0o644)).unwrap();
    let systemctl = format!(
        "#!/bin/sh\necho \"$*\" >>{calls}\ncase \"$*\" in\n\
         '--quiet is-active portcullis.service') exit 0 ;;\n\
         '--kill-who=main --signal=USR1 kill portcullis.service') kill -USR1 {pid} ;;\n\
         *) exit 3 ;;\nesac\n",
        calls = path("calls"),
        pid = proxy.pid()
    );
    fs::write(path("systemctl"), systemctl).unwrap();
    fs::set_permissions(path("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let rotate = |option: &str| {
        let mut command = Command::new(logrotate.as_std().get_program());
        let search = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{search}", home.path().display()));
        command.args(["--state", &path("state"), option, &path("portcullis")]);
        let said = succeeds(&mut command);
        assert!(!said.contains("error:"), "{said}");
    };

    rotate("--debug");
    assert!(!Path::new(&path("calls")).exists(), "a dry run has signalled");
    rotate("--force");
    eventually("a new file", || logs.exists());
    proxy.client().get("/after");
    proxy.access_line(|line| line.contains("/after"));
    let rotated = fs::read_to_string(logs.with_file_name("access.log.1")).unwrap();
    assert!(rotated.contains("/before") && !rotated.contains("/after"), "{rotated}");
    assert!(!proxy.access_log().iter().any(|line| line.contains("/before")));
    rotate("--force");
    eventually("the older file to be compressed", || {
        logs.with_file_name("access.log.2.gz").exists()
    });
}

/// It once wrote to where an absolute link of an image leads on this host, and removed there.
#[test]
fn a_link_of_an_image_does_not_lead_out_of_it() {
    for (link, inside) in [
        ("/etc/systemd", "system/portcullis.service"),
        ("/etc/portcullis", "installed.json"),
        ("/usr/local/bin", "portcullis"),
    ] {
        let (root, outside) = (Root::new(), tempfile::tempdir().unwrap());
        let is_empty = || fs::read_dir(outside.path()).unwrap().next().is_none();
        fs::create_dir_all(root.path(link).parent().unwrap()).unwrap();
        symlink(outside.path(), root.path(link)).unwrap();
        let before = root.files();
        let refused = |output: &Output| {
            assert_eq!(output.status.code(), Some(1), "{}", stdout(output));
            let said = stderr(output);
            let start = format!("portcullis: {link} is a symbolic link to ");
            assert!(said.starts_with(&start) && said.contains("leads out of"), "{said}");
        };
        refused(&root.install(&[]));
        assert_eq!(root.files(), before);
        assert!(is_empty(), "{link}");

        // The other way: a folder of an install becomes a link to the same files elsewhere.
        fs::remove_file(root.path(link)).unwrap();
        assert_eq!(root.install(&[]).status.code(), Some(0));
        succeeds(Command::new("cp").arg("-r").arg(root.path(link).join(".")).arg(outside.path()));
        fs::rename(root.path(link), root.path("/moved")).unwrap();
        symlink(outside.path(), root.path(link)).unwrap();
        let before = root.files();
        refused(&root.install(&["--uninstall"]));
        assert_eq!(root.files(), before);
        assert!(outside.path().join(inside).exists());
    }
}

#[test]
fn a_link_within_an_image_is_followed_as_the_image_would() {
    let root = Root::new();
    for folder in ["/etc", "/data/systemd", "/data/bin", "/usr/local"] {
        fs::create_dir_all(root.path(folder)).unwrap();
    }
    symlink("/data/systemd", root.path("/etc/systemd")).unwrap();
    symlink("../../data/bin", root.path("/usr/local/bin")).unwrap();
    let before = root.files();
    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(root.path("/data/systemd/system/portcullis.service").is_file());
    assert!(root.path("/data/bin/portcullis").is_file());
    assert_eq!(root.install(&["--uninstall"]).status.code(), Some(0));
    assert_eq!(root.files(), before);
}

/// `install` in this root, by a shell that runs `before` first; says how it ended.
fn install_after(root: &Root, before: &str) -> String {
    let mut shell = Command::new("bash");
    let install = format!("{before}; {PORTCULLIS} install --root {}", root.0.path().display());
    let output = tools::run(shell.args(["-c", &format!("({install}); echo \"code $?\"")]));
    stdout(&output) + &stderr(&output)
}

/// A limit on the size of files ends the process in the middle of the program's copy.
#[test]
fn what_an_install_has_left_that_was_killed_is_cleared() {
    let drafts = |root: &Root| -> Vec<String> {
        root.files().into_iter().filter(|path| path.contains("/.portcullis")).collect()
    };
    for next in [&[][..], &["--uninstall"]] {
        let root = Root::new();
        let before = root.files();
        let said = install_after(&root, "ulimit -c 0; ulimit -f 100");
        assert!(said.contains("code 153"), "{said}");
        let left = drafts(&root);
        assert!(
            matches!(left.as_slice(), [draft] if draft.contains("/usr/local/bin/")),
            "{left:?}"
        );
        // As it stands beside a file of which the link was made and nothing more.
        root.write("/etc/sysusers.d/.portcullis.conf.4194999", "");
        // Not ours.
        root.write("/etc/sysusers.d/.portcullis.conf.swp", "");

        let output = root.install(next);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let cleared = format!("removed      {}: of an install that was cut short\n", left[0]);
        assert!(stdout(&output).contains(&cleared), "{}", stdout(&output));
        assert_eq!(drafts(&root), ["/etc/sysusers.d/.portcullis.conf.swp"]);
        fs::remove_file(root.path("/etc/sysusers.d/.portcullis.conf.swp")).unwrap();
        if next.is_empty() {
            root.install(&["--uninstall"]);
        }
        // The folder of the foreign file is not install's.
        let _ = fs::remove_dir(root.path("/etc/sysusers.d"));
        let _ = fs::remove_dir(root.path("/etc"));
        assert_eq!(root.files(), before);
    }
}

#[test]
fn what_a_full_disk_has_cut_short_can_be_taken_back() {
    let root = Root::new();
    let before = root.files();
    let said = install_after(&root, "trap '' XFSZ; ulimit -f 100");
    assert!(said.contains("code 1\n") && said.contains("cannot write"), "{said}");
    assert_ne!(root.files(), before);
    let output = root.install(&["--uninstall"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(root.files(), before, "{}", stdout(&output));

    // Not even the record could be written: nothing stays.
    let said = install_after(&root, "trap '' XFSZ; ulimit -f 0");
    assert!(said.contains("code 1\n") && said.contains("cannot write"), "{said}");
    assert_eq!(root.files(), before);
}

#[test]
fn a_mode_that_somebody_has_changed_is_told() {
    let root = Root::new();
    root.install(&[]);
    let program = "/usr/local/bin/portcullis";
    let chmod = |path: &str, mode| {
        fs::set_permissions(root.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(program, 0o644);
    chmod(UNIT, 0o600);
    // The operator's own, for whatever reason he has.
    chmod(CONFIG, 0o640);
    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    for line in [
        format!("kept         {program}: its mode is 0644, not 0755\n"),
        format!("kept         {UNIT}: its mode is 0600, not 0644\n"),
        "What was kept differs".to_owned(),
    ] {
        assert!(said.contains(&line), "{line:?} in {said}");
    }
    assert!(!said.contains("Nothing to do") && !said.contains(CONFIG), "{said}");
}

#[test]
fn not_everything_is_in_its_place_where_something_differs() {
    let root = Root::new();
    root.install(&[]);
    root.write(UNIT, "# mine\n");
    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.contains("What was kept differs") && !said.contains("Nothing to do"), "{said}");
}

#[test]
fn files_without_a_record_are_adopted_where_they_are_the_same() {
    let root = Root::new();
    root.install(&[]);
    fs::remove_file(root.path(MANIFEST)).unwrap();
    root.write(LOGROTATE, "# theirs\n");
    let before = root.files();
    let output = root.install(&["--uninstall"]);
    assert_eq!(output.status.code(), Some(0));
    let said = stdout(&output);
    assert!(said.contains(&format!("no record of an install ({MANIFEST})")), "{said}");
    assert!(said.contains(&format!("left         {UNIT}\n")), "{said}");
    assert_eq!(root.files(), before);

    let output = root.install(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let adopted = format!("adopted      {UNIT}: it is as install writes it\n");
    assert!(stdout(&output).contains(&adopted), "{}", stdout(&output));
    root.install(&["--uninstall"]);
    let left: Vec<_> = root.files().into_iter().filter(|path| !path.ends_with('/')).collect();
    assert_eq!(left, [LOGROTATE]);
}

/// On this host itself, with `/etc` and `/usr/local` of its own.
#[test]
fn what_comes_next_can_be_pasted_and_disables_the_other_way_first() {
    let script = r#"
        mkdir /run/upper /run/under
        mount -t overlay none -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/under /etc || exit 99
        mount -t tmpfs none /usr/local
        rm -f /etc/systemd/system/*.wants/portcullis*
        portcullis install >first; cat first
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -s ../portcullis.service /etc/systemd/system/multi-user.target.wants/
        check=$(grep -x '  .*portcullis check' first) && bash -c "$check" >/dev/null; echo "check: $?"
        grep '^  ' first | bash -n; echo "syntax: $?"
        portcullis install --sockets
        echo again; portcullis install --sockets
    "#;
    let Some(said) = tools::alone(script) else { return };
    if said.contains("A package has installed") {
        tools::skip("a package has installed the service on this host");
        return;
    }
    assert!(said.contains("check: 0\nsyntax: 0\n"), "{said}");
    let (first, second) = said.split_once("syntax: 0").unwrap();
    assert!(!first.contains("disable"), "{said}");
    let switch = "  systemctl disable --now portcullis.service\n  \
                  systemctl enable --now portcullis-sockets.service\n";
    assert_eq!(second.matches(switch).count(), 2, "{said}");
    let audit = "  systemctl enable --now portcullis-audit.timer\n";
    assert!(first.contains(audit), "{said}");
}
