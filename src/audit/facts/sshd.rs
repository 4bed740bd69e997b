//! What sshd's own files allow, as far as the audit asks (sshd_config(5)).

use std::path::{Path, PathBuf};

use super::proxies::{files, read};

/// What sshd allows; the defaults are OpenSSH's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sshd {
    /// Whether anybody may come in with a password.
    pub passwords: bool,
    /// Whether root may.
    pub root_password: bool,
    /// Whether it bans by itself who fails: `PerSourcePenalties`, on since OpenSSH 9.8.
    pub penalties: bool,
}

impl Default for Sshd {
    fn default() -> Self {
        Self { passwords: true, root_password: false, penalties: false }
    }
}

/// The pair is the file and the options of its command line; these come before any file.
pub(super) fn settings((file, options): (Option<PathBuf>, String), root: &Path) -> Sshd {
    let file = file.unwrap_or_else(|| root.join("etc/ssh/sshd_config"));
    let (mut said, mut depth) = (Said::default(), 0);
    said.take_lines(&options, root, &mut depth);
    said.take(&file, root, &mut depth);
    let version = version(&read_status(root));
    // The first of several answers counts, and no answer is the default.
    let is = |value: &Option<String>, word: &str| value.as_deref() == Some(word);
    let passwords = !is(&said.passwords, "no") || is(&said.interactive, "yes");
    Sshd {
        passwords,
        root_password: passwords && is(&said.root, "yes"),
        penalties: version >= Some((9, 8)) && !is(&said.penalties, "no"),
    }
}

#[derive(Default)]
struct Said {
    passwords: Option<String>,
    interactive: Option<String>,
    root: Option<String>,
    penalties: Option<String>,
}

impl Said {
    fn take(&mut self, file: &Path, root: &Path, depth: &mut u8) {
        self.take_lines(&read(file), root, depth);
    }

    fn take_lines(&mut self, text: &str, root: &Path, depth: &mut u8) {
        *depth += 1;
        for line in text.lines() {
            let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            let Some(key) = words.next().map(str::to_ascii_lowercase) else { continue };
            let value = words.next().map(|word| word.trim_matches('"').to_ascii_lowercase());
            let place = match &*key {
                // What is under a condition does not hold for everybody.
                "match" => break,
                "include" if *depth < 8 => {
                    for pattern in line.split_ascii_whitespace().skip(1) {
                        included(pattern, root).iter().for_each(|f| self.take(f, root, depth));
                    }
                    continue;
                }
                "passwordauthentication" => &mut self.passwords,
                "kbdinteractiveauthentication" | "challengeresponseauthentication" => {
                    &mut self.interactive
                }
                "permitrootlogin" => &mut self.root,
                "persourcepenalties" => &mut self.penalties,
                _ => continue,
            };
            if place.is_none() {
                *place = value;
            }
        }
        *depth -= 1;
    }
}

/// `/etc/ssh/sshd_config.d/*.conf`, the only pattern in use, or a file.
fn included(pattern: &str, root: &Path) -> Vec<PathBuf> {
    let path = Path::new("etc/ssh").join(pattern);
    let path = root.join(path.strip_prefix("/").unwrap_or(&path));
    match (path.parent(), path.extension()) {
        (Some(folder), Some(ending)) if pattern.contains('*') => {
            files(folder).into_iter().filter(|f| f.extension() == Some(ending)).collect()
        }
        _ => vec![path],
    }
}

/// The paragraph of openssh-server in the package database.
fn read_status(root: &Path) -> String {
    let text = std::fs::read(root.join("var/lib/dpkg/status")).unwrap_or_default();
    let start = memchr::memmem::find(&text, b"\nPackage: openssh-server\n").map_or(0, |at| at + 1);
    let paragraph = text.get(start..).unwrap_or_default();
    let end = memchr::memmem::find(paragraph, b"\n\n").unwrap_or(paragraph.len());
    String::from_utf8_lossy(paragraph.get(..end).unwrap_or_default()).into_owned()
}

/// `Version: 1:9.2p1-2+deb12u3`
fn version(paragraph: &str) -> Option<(u32, u32)> {
    if !paragraph.starts_with("Package: openssh-server\n") {
        return None;
    }
    let version = paragraph.lines().find_map(|line| line.strip_prefix("Version: "))?;
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    let (major, rest) = version.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with(files: &[(&str, &str)]) -> Sshd {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        settings((None, String::new()), root.path())
    }

    #[test]
    fn the_first_answer_counts_and_conditions_do_not() {
        assert_eq!(with(&[]), Sshd::default());
        let main = "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n\
            PermitRootLogin yes\nMatch User x\n KbdInteractiveAuthentication yes\n";
        let keys_only = ("etc/ssh/sshd_config.d/a.conf", "PasswordAuthentication no\n");
        let main = ("etc/ssh/sshd_config", main);
        assert!(with(&[main]).root_password);
        let both = with(&[main, keys_only]);
        assert!(!both.passwords && !both.root_password);
    }

    #[test]
    fn the_command_line_of_sshd_is_honoured() {
        use crate::audit::verdict::testing::{held, holder, host, tcp};
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("own_config");
        fs::write(&file, "PermitRootLogin yes\nPasswordAuthentication yes\n").unwrap();
        fs::create_dir_all(root.path().join("proc/812")).unwrap();
        let of = |arguments: &str| {
            fs::write(root.path().join("proc/812/cmdline"), arguments).unwrap();
            let inventory = host(vec![held(tcp(22), holder("sshd"))]);
            settings(super::super::command_line::of_sshd(&inventory, root.path()), root.path())
        };
        let title = format!("sshd: /usr/sbin/sshd -D -f {} [listener] 0 of 10", file.display());
        assert!(of(&title).root_password);
        assert!(!of("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups").root_password);
        let keys = "/usr/sbin/sshd\0-oPasswordAuthentication=no\0-o\0PermitRootLogin yes\0-f\0";
        let keys = of(&format!("{keys}{}\0", file.display()));
        assert!(!keys.passwords && !keys.root_password);
    }

    #[test]
    fn a_file_that_includes_itself_comes_to_an_end() {
        let _ = with(&[("etc/ssh/sshd_config", "Include sshd_config\nInclude sshd_config\n")]);
    }

    #[test]
    fn a_new_sshd_bans_by_itself() {
        let status = |version: &str| {
            format!(
                "Package: a\nVersion: 1\n\nPackage: openssh-server\nVersion: {version}\n\n\
                 Package: z\nVersion: 1:99.0\n"
            )
        };
        let of = |version| with(&[("var/lib/dpkg/status", &status(version))]).penalties;
        assert!(!of("1:9.2p1-2+deb12u3"));
        assert!(of("1:9.9p1-1"));
        assert!(of("1:10.0p1-1"));
    }
}
