//! The databases in which Firefox and Chrome keep whom they trust (NSS), changed by the program
//! that comes with them, as the user whose they are.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::{Uid, User};
use rustix::process::{Pid, Signal};

use super::local_ca::LocalAuthority;

/// How long one call of the program may take: it works on a small file.
const PATIENCE: Duration = Duration::from_secs(20);

/// What roots of ours are called there, before their fingerprint.
const PREFIX: &str = "portcullis-local-";

/// The databases of one user.
#[derive(Debug)]
pub struct Browsers {
    /// The program, where it is installed.
    certutil: Option<PathBuf>,
    user: String,
    home: PathBuf,
    /// Whom to become, when this runs as root for somebody else.
    becomes: Option<(u32, u32)>,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    folder: PathBuf,
    /// Whose it is, for people: `Firefox (profile x.default)`.
    pub browser: String,
}

/// What became of one database: whether it was changed, or why not, in words.
pub type Done = (Database, Result<bool, String>);

impl Browsers {
    /// Those of whoever runs this; of whoever called `sudo`, where that was done.
    #[must_use]
    pub fn of_invoker() -> Option<Self> {
        let uid = Uid::effective();
        let called = env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        let called = called.filter(|called| uid.is_root() && *called != 0).map(Uid::from_raw);
        let user = User::from_uid(called.unwrap_or(uid)).ok().flatten();
        let own_home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let (name, home, becomes) = match (user, called) {
            (Some(user), Some(_)) => {
                let ids = (user.uid.as_raw(), user.gid.as_raw());
                (user.name, user.dir, Some(ids))
            }
            (Some(user), None) => (user.name, own_home.unwrap_or(user.dir), None),
            // Nobody knows the group of who called.
            (None, Some(_)) => return None,
            (None, None) => (format!("uid {uid}"), own_home?, None),
        };
        Some(Self { certutil: installed(), user: name, home, becomes })
    }

    /// Whose they are.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the program that changes them is there.
    #[must_use]
    pub fn can_be_changed(&self) -> bool {
        self.certutil.is_some()
    }

    /// Those that are there: the one that Chrome, Chromium and others share, and the profiles of
    /// Firefox, of packages and sandboxes too.
    #[must_use]
    pub fn databases(&self) -> Vec<Database> {
        const SHARED: [(&str, &str); 2] = [
            (".pki/nssdb", "Chrome, Chromium"),
            ("snap/chromium/current/.pki/nssdb", "Chromium (snap)"),
        ];
        const FIREFOX: [(&str, &str); 3] = [
            (".mozilla/firefox", "Firefox"),
            ("snap/firefox/common/.mozilla/firefox", "Firefox (snap)"),
            (".var/app/org.mozilla.firefox/.mozilla/firefox", "Firefox (Flatpak)"),
        ];
        let is_database = |folder: &PathBuf| folder.join("cert9.db").is_file();
        let mut found: Vec<Database> = SHARED
            .into_iter()
            .map(|(place, browser)| (self.home.join(place), browser.to_owned()))
            .filter(|(folder, _)| is_database(folder))
            .map(|(folder, browser)| Database { folder, browser })
            .collect();
        for (place, browser) in FIREFOX {
            let entries = fs::read_dir(self.home.join(place)).into_iter().flatten().flatten();
            let mut profiles: Vec<PathBuf> =
                entries.map(|entry| entry.path()).filter(is_database).collect();
            profiles.sort_unstable();
            found.extend(profiles.into_iter().map(|folder| {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                let name: String = name.chars().filter(|c| !c.is_control()).collect();
                Database { browser: format!("{browser}, profile {name}"), folder }
            }));
        }
        found
    }

    /// Has each of them trust the authority's root, for servers alone.
    #[must_use]
    pub fn add(&self, authority: &LocalAuthority) -> Vec<Done> {
        let name = format!("{PREFIX}{}", authority.fingerprint());
        let add = |database: &Database| {
            let arguments = ["-A", "-n", &name, "-t", "C,,", "-a"];
            self.run(database, &arguments, authority.root_pem()).map(|_| true).map_err(|why| {
                // What could not be trusted is not to lie there.
                let _ = self.run(database, &["-D", "-n", &name], "");
                format!("{why}{}", password_hint(&why, database, &name))
            })
        };
        self.each(add)
    }

    /// Takes the authority's root out of each of them; without an authority every root of ours.
    #[must_use]
    pub fn remove(&self, authority: Option<&LocalAuthority>) -> Vec<Done> {
        let one = authority.map(|authority| format!("{PREFIX}{}", authority.fingerprint()));
        self.each(|database| {
            let known = self.run(database, &["-L"], "")?;
            let known = known.lines().filter_map(|line| line.split_ascii_whitespace().next());
            let known = known.filter(|name| name.starts_with(PREFIX));
            let mut is_changed = false;
            for name in known.filter(|name| one.as_ref().is_none_or(|one| one == name)) {
                self.run(database, &["-D", "-n", name], "")?;
                is_changed = true;
            }
            Ok(is_changed)
        })
    }

    fn each(&self, change: impl Fn(&Database) -> Result<bool, String>) -> Vec<Done> {
        let databases = self.databases().into_iter();
        databases.map(|database| (database.clone(), change(&database))).collect()
    }

    /// Runs the program on a database; what it says.
    fn run(&self, database: &Database, arguments: &[&str], input: &str) -> Result<String, String> {
        let program = self.certutil.as_ref().ok_or("certutil is not installed")?;
        let mut command = Command::new(program);
        command.arg("-d").arg(format!("sql:{}", database.folder.display())).args(arguments);
        // Without a file that has none it would ask for a password, of nobody.
        command.args(["-f", "/dev/null"]);
        command.env_clear().env("HOME", &self.home).env("LC_ALL", "C").env("PATH", PATH);
        command.current_dir("/");
        if let Some((uid, gid)) = self.becomes {
            // The standard library drops all other groups with the user.
            command.uid(uid).gid(gid);
        }
        let output = bounded(command, input).map_err(|error| format!("certutil: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let said: String = said.trim().chars().map(shown).take(300).collect();
        Err(if said.is_empty() { output.status.to_string() } else { said })
    }
}

/// What a program finds that is run for somebody else.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let named = env::split_paths(&path).filter(|folder| folder.is_absolute());
    let found = named.map(|folder| folder.join("certutil")).find(|program| program.is_file());
    found.or_else(|| Some(PathBuf::from("/usr/bin/certutil")).filter(|program| program.is_file()))
}

/// Runs a command to its end, or to the end of our patience.
fn bounded(mut command: Command, input: &str) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that reads nothing may be gone already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(output) => output,
        Err(_) => {
            // It has not been waited for: the number is still its own.
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end within {PATIENCE:?}")))
        }
    }
}

fn password_hint(why: &str, database: &Database, name: &str) -> String {
    if !why.contains("SEC_ERROR_BAD_PASSWORD") {
        return String::new();
    }
    let folder = crate::shell::quote_path(&database.folder);
    format!(
        "; it has a password of its own, for which this asks: portcullis certs trust --print | \
         certutil -A -d sql:{folder} -n {name} -t C,, -a"
    )
}

/// What installs the program (Debian and its relatives).
pub const INSTALL: &str = "apt-get install libnss3-tools";

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;

    /// A home with a database for Chrome and two profiles of Firefox, and an authority; `None` where
    /// the real program is not installed.
    fn home() -> Option<(TempDir, Browsers, LocalAuthority)> {
        let certutil = installed()?;
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        for place in [
            ".pki/nssdb",
            ".mozilla/firefox/a.default",
            "snap/firefox/common/.mozilla/firefox/b c.default",
        ] {
            let place = home.join(place);
            fs::create_dir_all(&place).unwrap();
            let mut made = Command::new(&certutil);
            made.arg("-N").arg("-d").arg(format!("sql:{}", place.display()));
            assert!(made.arg("--empty-password").status().unwrap().success());
        }
        fs::create_dir_all(home.join(".mozilla/firefox/Crash Reports")).unwrap();
        let storage = folder.path().join("storage");
        let authority = LocalAuthority::open_or_create(&storage, SystemTime::now()).unwrap();
        let (certutil, user) = (Some(certutil), "alice".to_owned());
        let browsers = Browsers { certutil, user, home, becomes: None };
        Some((folder, browsers, authority))
    }

    fn listed(browsers: &Browsers) -> Vec<String> {
        let list = |database: &Database| browsers.run(database, &["-L"], "").unwrap();
        browsers.databases().iter().map(list).collect()
    }

    #[test]
    fn a_root_comes_into_every_database_and_goes() {
        let Some((_folder, browsers, authority)) = home() else { return };
        let names: Vec<String> = browsers.databases().into_iter().map(|one| one.browser).collect();
        let expected = [
            "Chrome, Chromium",
            "Firefox, profile a.default",
            "Firefox (snap), profile b c.default",
        ];
        assert_eq!(names, expected);
        let all = |done: Vec<Done>| done.into_iter().map(|(_, done)| done).collect::<Vec<_>>();
        for _ in 0..2 {
            assert_eq!(all(browsers.add(&authority)), [Ok(true), Ok(true), Ok(true)]);
        }
        let name = format!("{PREFIX}{}", authority.fingerprint());
        for text in listed(&browsers) {
            let line = text.lines().find(|line| line.starts_with(&name)).unwrap();
            assert!(line.trim_end().ends_with("C,,"), "for servers alone: {line}");
        }
        assert_eq!(all(browsers.remove(Some(&authority))), [Ok(true), Ok(true), Ok(true)]);
        assert!(listed(&browsers).iter().all(|text| !text.contains(PREFIX)));
        assert_eq!(all(browsers.remove(Some(&authority))), [Ok(false), Ok(false), Ok(false)]);
        assert!(browsers.add(&authority).iter().all(|(_, done)| done.is_ok()));
        assert_eq!(all(browsers.remove(None)), [Ok(true), Ok(true), Ok(true)]);
    }

    #[test]
    fn a_database_with_a_password_is_told_with_the_command_that_asks_for_it() {
        let Some((folder, browsers, authority)) = home() else { return };
        let place = browsers.home.join(".pki/nssdb");
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        let password = folder.path().join("password");
        fs::write(&password, "correct horse\n").unwrap();
        let mut made = Command::new(browsers.certutil.as_ref().unwrap());
        made.arg("-N").arg("-d").arg(format!("sql:{}", place.display()));
        assert!(made.arg("-f").arg(password).status().unwrap().success());
        let done = browsers.add(&authority);
        let error = done[0].1.as_ref().unwrap_err();
        assert!(error.contains("| certutil -A -d sql:"), "{error}");
        assert_eq!(done[1].1, Ok(true), "the others are not its hostages");
    }

    #[test]
    fn without_the_program_nothing_is_changed() {
        let Some((_folder, browsers, authority)) = home() else { return };
        let browsers = Browsers { certutil: None, ..browsers };
        assert!(!browsers.can_be_changed());
        assert!(browsers.add(&authority).iter().all(|(_, done)| done.is_err()));
    }
}
