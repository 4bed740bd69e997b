//! The Debian package and the image of the container, made by the scripts that make them and used
//! as far as that goes without an archive and without an engine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::tools::{self, PORTCULLIS, portcullis, stderr, stdout};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = tools::run(command);
    assert!(output.status.success(), "{command:?}: {}{}", stderr(&output), stdout(&output));
    stdout(&output) + &stderr(&output)
}

/// The package of the program under test, uncompressed.
fn package() -> Option<(TempDir, PathBuf)> {
    tools::find("dpkg-deb")?;
    let folder = tempfile::tempdir().unwrap();
    let mut build = Command::new(repository("packaging/deb/build"));
    build.env("COMPRESSION", "none").args(["--binary", PORTCULLIS]);
    let said = succeeds(build.arg("--output").arg(folder.path()));
    let package = said.lines().last().map(PathBuf::from).unwrap();
    Some((folder, package))
}

/// An empty system below a folder, as far as dpkg is concerned.
struct System(TempDir);

impl System {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let system = Self(folder);
        for path in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc"] {
            fs::create_dir_all(system.path(path)).unwrap();
        }
        for path in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
            fs::write(system.path(path), "").unwrap();
        }
        system
    }

    #[track_caller]
    fn dpkg(&self, arguments: &[&str]) -> String {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.path().display()));
        dpkg.args(["--force-depends", "--force-script-chrootless", "--force-confold"]);
        // The programs that the scripts call are this host's.
        dpkg.arg("--force-bad-path").env("DEBIAN_FRONTEND", "noninteractive");
        succeeds(dpkg.args(arguments))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// The files that are not dpkg's or systemd's own notes, nor those of the user.
    fn files(&self) -> BTreeSet<String> {
        let listed = succeeds(Command::new("find").arg(self.0.path()).args(["!", "-type", "d"]));
        let root = self.0.path().display().to_string();
        let files = listed.lines().map(|line| line.strip_prefix(&root).unwrap().to_owned());
        let notes = ["/var/lib/dpkg/", "/var/lib/systemd/", "/etc/passwd", "/etc/group"];
        let notes =
            [&notes[..], &["/etc/shadow", "/etc/gshadow", "/etc/.pwd.lock", "/var/log/"]].concat();
        files.filter(|file| !notes.iter().any(|note| file.starts_with(note))).collect()
    }
}

#[test]
fn the_package_comes_and_goes_without_a_trace() {
    if !rustix::process::geteuid().is_root() {
        tools::skip("only root installs a package");
        return;
    }
    let Some((_folder, package)) = package() else { return };
    let package = package.to_str().unwrap();
    let system = System::new();
    system.dpkg(&["--install", package]);
    for (path, mode) in [
        ("/usr/bin/portcullis", 0o755),
        ("/lib/systemd/system/portcullis.service", 0o644),
        ("/lib/systemd/system/portcullis-sockets.service", 0o644),
        ("/lib/systemd/system/portcullis-http.socket", 0o644),
        ("/lib/systemd/system/portcullis-https.socket", 0o644),
        ("/lib/systemd/system/portcullis-audit.service", 0o644),
        ("/lib/systemd/system/portcullis-audit.timer", 0o644),
        ("/usr/lib/sysusers.d/portcullis.conf", 0o644),
        ("/usr/lib/tmpfiles.d/portcullis.conf", 0o644),
        ("/etc/portcullis/portcullis.toml", 0o644),
        ("/etc/logrotate.d/portcullis", 0o644),
        ("/usr/share/man/man1/portcullis.1.gz", 0o644),
        ("/usr/share/man/man1/portcullis-install.1.gz", 0o644),
        ("/usr/share/bash-completion/completions/portcullis", 0o644),
        ("/usr/share/zsh/vendor-completions/_portcullis", 0o644),
        ("/usr/share/fish/vendor_completions.d/portcullis.fish", 0o644),
        ("/usr/share/doc/portcullis/copyright", 0o644),
        ("/usr/share/doc/portcullis/reference.toml", 0o644),
        ("/usr/share/doc/portcullis/examples/fail2ban/jail.d/portcullis.conf", 0o644),
    ] {
        let found =
            fs::metadata(system.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{path}");
    }
    let users = fs::read_to_string(system.path("/etc/passwd")).unwrap_or_default();
    if tools::find("systemd-sysusers").is_some() {
        assert!(users.contains("portcullis:x:"), "{users}");
        assert!(system.path("/var/lib/portcullis").is_dir());
    }
    // Nothing is enabled.
    for target in ["multi-user", "sockets", "timers"] {
        let wants = format!("/etc/systemd/system/{target}.target.wants");
        assert!(!system.path(&wants).exists(), "{wants}");
    }

    let config = system.path("/etc/portcullis/portcullis.toml");
    fs::write(&config, "# mine\n").unwrap();
    system.dpkg(&["--install", package]);
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    system.dpkg(&["--remove", "portcullis"]);
    assert!(!system.path("/usr/bin/portcullis").exists());
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    fs::create_dir_all(system.path("/var/lib/portcullis-audit")).unwrap();
    system.dpkg(&["--purge", "portcullis"]);
    assert!(!system.path("/var/lib/portcullis-audit").exists());
    assert_eq!(system.files(), BTreeSet::new());
    assert!(!system.path("/var/lib/portcullis").exists());
    assert!(!system.path("/etc/portcullis").exists());
}

#[test]
fn the_package_says_what_it_needs() {
    let Some((_folder, package)) = package() else { return };
    let field = |name: &str| {
        let mut dpkg = Command::new("dpkg-deb");
        succeeds(dpkg.arg("--field").arg(&package).arg(name)).trim().to_owned()
    };
    assert_eq!(field("Package"), "portcullis");
    assert_eq!(field("Version"), env!("CARGO_PKG_VERSION"));
    assert!(field("Depends").contains("libc6 (>= "), "{}", field("Depends"));
    let mut conffiles = Command::new("dpkg-deb");
    let conffiles = succeeds(conffiles.arg("--info").arg(&package).arg("conffiles"));
    assert_eq!(conffiles, "/etc/logrotate.d/portcullis\n/etc/portcullis/portcullis.toml\n");
    let Some(mut lintian) = tools::find("lintian") else { return };
    // Of a package for a test: neither built for release nor compressed.
    let tags = ["unstripped-binary-or-object", "uses-no-compression-for-control-tarball"];
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags"]);
    lintian.arg(tags.join(",") + ",uses-no-compression-for-data-tarball");
    succeeds(lintian.arg(&package));
}

#[test]
fn what_a_package_names_is_in_it() {
    let reference = "/usr/share/doc/portcullis/reference.toml";
    let build = fs::read_to_string(repository("packaging/deb/build")).unwrap();
    assert!(build.contains("doc=usr/share/doc/portcullis"), "{build}");
    let first = fs::read_to_string(repository("config/first.toml")).unwrap();
    assert!(first.contains(reference), "{first}");
    for unit in ["portcullis.service", "portcullis-sockets.service"] {
        let unit = fs::read_to_string(repository("config/systemd").join(unit)).unwrap();
        assert!(unit.contains("ExecStart=/usr/bin/portcullis run"), "{unit}");
    }
}

/// The instructions of the Containerfile with their arguments, lines that go on joined.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository("Containerfile")).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let split = |line: &str| {
        let (word, rest) = line.split_once(' ').expect("an instruction and its arguments");
        (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    lines.map(split).collect()
}

#[test]
fn the_containerfile_fits_the_tree() {
    let instructions = instructions();
    let all = |word: &str| -> Vec<&str> {
        instructions
            .iter()
            .filter(|(name, _)| name == word)
            .map(|(_, rest)| rest.as_str())
            .collect()
    };
    let ignored = fs::read_to_string(repository(".dockerignore")).unwrap();
    for copied in
        all("COPY").into_iter().filter(|copied| !copied.starts_with("--from=build /image/"))
    {
        let words: Vec<_> = copied.split(' ').collect();
        for source in &words[..words.len() - 1] {
            assert!(repository(source).exists(), "COPY {source}");
            assert!(ignored.lines().any(|line| line == format!("!{source}")), "ignored: {source}");
        }
    }
    let runs = all("RUN").join("\n");
    assert!(runs.contains("cargo build --release --locked"), "{runs}");
    assert!(runs.contains("packaging/container/image target/release/portcullis /image"), "{runs}");
    assert!(repository("packaging/container/image").exists());

    let script = fs::read_to_string(repository("packaging/container/image")).unwrap();
    assert_eq!(all("USER"), ["65532:65532"]);
    assert!(script.contains("\nuser=65532\n"), "{script}");
    assert!(script.contains("setcap cap_net_bind_service=p "), "{script}");
    assert_eq!(all("ENTRYPOINT"), ["[\"/usr/bin/portcullis\"]"]);
    assert_eq!(all("EXPOSE"), ["80 443"]);
    // A stop is a TERM, which drains.
    assert_eq!(all("STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(all("VOLUME"), ["/var/lib/portcullis"]);
    let verbs: Vec<String> = serde_json::from_str(all("CMD")[0]).unwrap();
    let arguments: Vec<&str> = verbs.iter().map(String::as_str).chain(["--help"]).collect();
    assert_eq!(portcullis(&arguments).status.code(), Some(0), "{arguments:?}");
}

/// Becomes what an engine makes of `USER 65532` with only these capabilities in the bounding set,
/// in the image's root: `confined IMAGE CAPABILITIES PROGRAM...`.
const CONFINED: &str = r#"
import ctypes, os, sys
image, kept, command = sys.argv[1], sys.argv[2], sys.argv[3:]
libc = ctypes.CDLL(None)
os.chroot(image)
os.chdir("/")
for capability in range(64):
    if str(capability) != kept:
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.setgroups([])
os.setresgid(65532, 65532, 65532)
os.setresuid(65532, 65532, 65532)
os.execv(command[0], command)
"#;

/// With `--cap-drop=ALL --cap-add=NET_BIND_SERVICE` on 80 and 443, and with `--cap-drop=ALL` alone
/// on high ports.
#[test]
fn the_image_serves_with_one_capability_or_with_none() {
    if tools::find("setcap").is_none() || !Path::new("/etc/ssl/certs/ca-certificates.crt").exists()
    {
        tools::skip("the image needs setcap and ca-certificates");
        return;
    }
    let script = format!(
        r#"
        {script} {PORTCULLIS} $PWD/image >/dev/null || exit 99
        mkdir -p image/proc image/dev && mount --bind /proc image/proc
        touch image/dev/null && mount --bind /dev/null image/dev/null
        cat >confined <<'END'
{CONFINED}
END
        sysctl -q net.ipv4.ip_unprivileged_port_start=1024
        chmod 755 . image
        serve 8080
        site='[[site]]
host = "localhost"
to = "127.0.0.1:8080"'
        ask() {{ curl -sk -o /dev/null -w "$1 %{{http_code}}\n" "$1"; }}
        echo "$site" >image/etc/portcullis/portcullis.toml
        python3 confined image 10 /usr/bin/portcullis run >log 2>&1 & pid=$!
        until_ok curl -sk -o /dev/null https://localhost/ && ask http://localhost/ && ask https://localhost/
        grep -E 'Cap(Prm|Eff)|^Uid' /proc/$pid/status
        kill -TERM $pid; wait $pid; echo "ended with $?"
        python3 confined image none /usr/bin/portcullis run >refused 2>&1; echo "without: $?"
        printf '[server]\nhttp = ":8000"\nhttps = ":8443"\n%s\n' "$site" >image/etc/portcullis/portcullis.toml
        python3 confined image none /usr/bin/portcullis run >>log 2>&1 & pid=$!
        until_ok curl -sk -o /dev/null https://localhost:8443/ && ask http://localhost:8000/ && ask https://localhost:8443/
        kill -TERM $pid; wait $pid; echo "ended with $?"
        cat log
        "#,
        script = repository("packaging/container/image").display()
    );
    let Some(said) = tools::alone(&script) else { return };
    for line in [
        "http://localhost/ 308",
        "https://localhost/ 200",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "Uid:\t65532\t65532\t65532\t65532",
        "without: 77",
        "http://localhost:8000/ 308",
        "https://localhost:8443/ 200",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    assert_eq!(said.matches("ended with 0").count(), 2, "{said}");
}
