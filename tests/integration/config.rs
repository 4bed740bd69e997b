//! `portcullis check` as an operator runs it, and the files under `config/`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis::config;
use serde_json::Value;

const SMALLEST: &str = "[[site]]\nhost = \"example.com\"\nto = \"127.0.0.1:8080\"\n";

/// Every kind of slip that an operator makes in a day.
const TWENTY_MISTAKES: &str = r#"[server]
htp = ":80"
https = "443"
workers = 0
user = "no body"
grace = 30
via = "on"

[limits]
header_size = "10"
header_count = 5000
idle_timeout = "75"
body_size = "100 MB"

[log]
format = "jsn"
level = loud

[[site]]
host = ["example.com", "https://www.example.com/"]
redirect = "htps"
to = "localhost"

[[site]]
host = "Example.com"
tls = { cert = "gone.pem", key = "gone.key" }
to = "127.0.0.1:${APP_PORT_THAT_IS_NOT_SET}"
to = "127.0.0.1:8080"

[[site.route]]
path = "api"
to = []
"#;

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .env_remove("NO_COLOR")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with one configuration in it.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn with(text: &str) -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(folder.path("portcullis.toml"), text).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> String {
        self.path("portcullis.toml").display().to_string()
    }

    /// A certificate with its key, made for this test alone.
    fn write_certificate(&self, cert: &str, key: &str) {
        let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
        fs::create_dir_all(self.path(cert).parent().unwrap()).unwrap();
        fs::write(self.path(cert), made.cert.pem()).unwrap();
        fs::write(self.path(key), made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(self.path(key), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(path)
}

#[test]
fn a_right_file_is_told_in_a_sentence() {
    let folder = Folder::with(SMALLEST);
    for arguments in [["check", "-c"], ["validate", "-c"], ["-t", "-c"]] {
        let output = portcullis(&[&arguments[..], &[&folder.file()]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let said = stdout(&output);
        assert!(said.contains("is right. It serves HTTP on :80, HTTPS on :443"), "{said}");
        assert!(said.contains("1 site: example.com -> 127.0.0.1:8080"), "{said}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn a_wrong_file_is_told_on_standard_error_alone() {
    let folder = Folder::with(&SMALLEST.replace("host", "hots"));
    for arguments in [["check", "-c"], ["validate", "-c"], ["-t", "-c"]] {
        let output = portcullis(&[&arguments[..], &[&folder.file()]].concat());
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert_eq!(stdout(&output), "");
        let said = stderr(&output);
        assert!(
            said.contains(&format!("{}:2:1: error: unknown key `hots`", folder.file())),
            "{said}"
        );
        assert!(said.contains("\n2 | hots = \"example.com\"\n  | ^^^^\n"), "{said}");
        assert!(said.contains("help: did you mean `host`?"), "{said}");
        assert!(!said.contains('\x1b'), "colour is for terminals");
    }
}

#[test]
fn twenty_mistakes_are_told_at_once() {
    let folder = Folder::with(TWENTY_MISTAKES);
    let output = portcullis(&["check", "--json", "-c", &folder.file()]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(stderr(&output), "");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = said["problems"].as_array().unwrap();
    let lines: Vec<_> = problems.iter().map(|problem| problem["line"].as_u64().unwrap()).collect();
    let expected =
        [2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 16, 17, 20, 21, 22, 25, 26, 26, 27, 28, 31, 32];
    assert_eq!(lines, expected, "{said:#}");
}

#[test]
fn json_is_one_object() {
    let folder = Folder::with(&SMALLEST.replace("host", "hots"));
    let output = portcullis(&["check", "--json", "-c", &folder.file()]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["version"], 1);
    assert_eq!(said["ok"], false);
    assert_eq!(said["warnings"], serde_json::json!([]));
    let unknown = &said["problems"][1];
    assert_eq!(unknown["file"], folder.file());
    assert_eq!((&unknown["line"], &unknown["column"]), (&2.into(), &1.into()));
    assert_eq!(unknown["message"], "unknown key `hots` in [[site]]");
    assert_eq!(unknown["help"], "did you mean `host`?");
    assert_eq!(unknown["found"], Value::Null);
    assert!(unknown["allowed"].as_str().unwrap().contains("`redirect`"));

    let folder = Folder::with(&format!("[server]\nproxy_protocol = true\n{SMALLEST}"));
    let output = portcullis(&["check", "--json", "-c", &folder.file()]);
    assert_eq!(output.status.code(), Some(0));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["ok"], &said["problems"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(said["warnings"][0]["line"], 2);
}

#[test]
fn the_environment_is_the_process_s_own() {
    let folder = Folder::with(&SMALLEST.replace("8080", "${APP_PORT}"));
    let check = |port: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(["check", "-c", &folder.file()])
            .env_remove("APP_PORT")
            .envs(port.map(|port| ("APP_PORT", port)));
        command.output().unwrap()
    };
    assert!(stdout(&check(Some("9000"))).contains("example.com -> 127.0.0.1:9000"));
    assert!(
        stderr(&check(None))
            .contains(":3:17: error: the environment variable `APP_PORT` is not set")
    );
}

#[test]
fn a_file_that_may_not_be_read_has_its_own_code() {
    let folder = Folder::with(SMALLEST);
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = if fs::read(folder.file()).is_ok() {
        // Root reads everything: the program must run as somebody else, from where he may run it.
        let program = folder.path("portcullis");
        // By another process: a fork elsewhere in this one would hold the copy open for writing,
        // and it could not be run (ETXTBSY).
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_portcullis")).arg(&program).status();
        assert!(copied.unwrap().success());
        fs::set_permissions(folder.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(program);
        command.uid(65_534).gid(65_534);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
    };
    let output = command.args(["check", "-c", &folder.file()]).output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    assert!(stderr(&output).contains("this user may not read the file"), "{}", stderr(&output));
}

#[test]
fn a_missing_file_and_a_directory_are_told() {
    let folder = Folder::with(SMALLEST);
    for (path, message) in
        [(folder.path("other.toml"), "no such file"), (folder.path(""), "a directory")]
    {
        let output = portcullis(&["check", "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

#[test]
fn check_writes_nothing() {
    let folder = Folder::with(
        "[log]\naccess = \"log/access.log\"\n[admin]\nsocket = \"control.sock\"\n\
         [acme]\nstorage = \"storage\"\n\
         [[site]]\nhost = \"localhost\"\nto = \"8080\"\n",
    );
    assert_eq!(portcullis(&["check", "-c", &folder.file()]).status.code(), Some(0));
    assert_eq!(fs::read_dir(folder.dir.path()).unwrap().count(), 1);
}

#[test]
fn a_wrong_command_line_is_no_wrong_file() {
    assert_eq!(portcullis(&[]).status.code(), Some(2));
    assert_eq!(portcullis(&["check", "--jsn"]).status.code(), Some(2));
}

#[test]
fn every_file_of_the_repository_is_right() {
    let examples = fs::read_dir(repository("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = examples.collect();
    files.extend([repository("portcullis.toml"), repository("reference.toml")]);
    assert!(files.len() > 12, "{}", files.len());
    for file in files {
        // A copy, beside which the certificates are that one example names.
        let folder = Folder::with(&fs::read_to_string(&file).unwrap());
        folder.write_certificate("certs/chain.pem", "certs/key.pem");
        let loaded = config::load(Path::new(&folder.file()));
        let loaded = loaded.unwrap_or_else(|problems| panic!("{}:\n{problems}", file.display()));
        assert!(loaded.warnings.is_empty(), "{}:\n{}", file.display(), loaded.warnings);
    }
}

#[test]
fn the_reference_has_the_built_in_defaults() {
    let load = |name: &str| config::load(&repository(name)).unwrap().config;
    let (reference, smallest) = (load("reference.toml"), load("portcullis.toml"));
    assert_eq!(reference.server, smallest.server);
    assert_eq!(reference.limits, smallest.limits);
    assert_eq!(reference.log, smallest.log);
    assert_eq!(reference.admin, smallest.admin);
    assert_eq!(reference.acme, smallest.acme);
    let (reference, smallest) = (&reference.sites[0], &smallest.sites[0]);
    assert_eq!(reference.tls, smallest.tls);
    assert_eq!(reference.hsts, smallest.hsts);
    assert_eq!(reference.redirect, smallest.redirect);
    for route in &reference.routes {
        assert_eq!(route.upstream_timeout, smallest.routes[0].upstream_timeout);
        assert_eq!(route.hold, smallest.routes[0].hold);
    }
}

/// Every key of the schema as `Section.key`, with the default that the schema names.
fn keys_of_the_schema() -> BTreeMap<String, Option<Value>> {
    let schema = config::schema();
    let mut keys = BTreeMap::new();
    for (section, about) in schema["definitions"].as_object().unwrap() {
        for (key, about) in about["properties"].as_object().unwrap() {
            keys.insert(format!("{section}.{key}"), about.get("default").cloned());
        }
    }
    keys
}

#[test]
fn the_reference_has_every_key_with_the_schema_s_default() {
    let text = fs::read_to_string(repository("reference.toml")).unwrap();
    let tree: Value = toml::from_str(&text).unwrap();
    let site = &tree["site"][0];
    let sections = [
        ("Server", &tree["server"]),
        ("Limits", &tree["limits"]),
        ("Log", &tree["log"]),
        ("Admin", &tree["admin"]),
        ("Acme", &tree["acme"]),
        ("Site", site),
        ("Route", &site["route"][0]),
        ("TlsTable", &Value::Null),
        ("OnDemand", &Value::Null),
        ("Authority", &Value::Null),
        ("Eab", &Value::Null),
        ("HstsTable", &Value::Null),
        ("Dns", &Value::Null),
        ("Tsig", &Value::Null),
    ];
    let keys = keys_of_the_schema();
    assert!(keys.len() > 40, "{}", keys.len());
    for (name, default) in keys {
        let (section, key) = name.split_once('.').unwrap();
        let (_, table) = sections
            .iter()
            .find(|(known, _)| *known == section)
            .unwrap_or_else(|| panic!("{section}"));
        match default {
            Some(default) if table.is_null() => {
                assert!(text.contains(&format!("\n# {key} = {default}")), "{name}");
            }
            Some(default) => assert_eq!(table[key], default, "{name}"),
            // Without a default it stands there as an example, perhaps behind a `#`.
            None => assert!(
                !table[key].is_null()
                    || text.contains(&format!("\n# {key} = "))
                    || text.contains(&format!("\n# [[acme.{key}]]"))
                    || text.contains(&format!("\n# [acme.{key}]")),
                "{name} is not in the reference"
            ),
        }
    }
}
