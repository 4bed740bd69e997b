//! Words of commands that are shown to the operator, who may paste them into a root shell: names
//! that others have chosen, of files, units and containers, stay single words there.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::audit::sockets::printable;

/// A word as a shell takes it for one, whatever is in it, without a character that controls the
/// terminal it is shown on.
///
/// What cannot be shown is written `$'\033'`, which is of POSIX.1-2024 and older in most shells;
/// one that does not know it takes another word for it, and no command.
#[must_use]
pub fn quote(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) if printable(text) == text => format!("'{}'", text.replace('\'', r"'\''")),
        _ => escaped(word.as_bytes()),
    }
}

/// The path of a file as one word, from the root: the command may be run in another folder.
#[must_use]
pub fn quote_path(path: &Path) -> String {
    std::path::absolute(path).map_or_else(|_| quote(path), quote)
}

fn escaped(word: &[u8]) -> String {
    let mut text = "$'".to_owned();
    for byte in word {
        match byte {
            // Not `\'`, where a shell that takes `$'` for an ordinary quote would see its end.
            b' '..=b'~' if !matches!(byte, b'\'' | b'\\') => text.push(char::from(*byte)),
            _ => _ = write!(text, "\\{byte:03o}"),
        }
    }
    text + "'"
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_expand_them() {
        assert_eq!(quote("/opt/portcullis-1.0"), "/opt/portcullis-1.0");
        assert_eq!(quote("/opt/my proxy"), "'/opt/my proxy'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("$HOME"), "'$HOME'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_terminal_is_not_controlled_by_a_name() {
        assert_eq!(quote("esc\u{1b}[31m'\\"), r"$'esc\033[31m\047\134'");
        assert_eq!(quote(OsStr::from_bytes(b"a\xff1")), r"$'a\3771'");
        assert!(quote("turned \u{202e}round").is_ascii());
    }

    /// By the shell itself.
    #[test]
    fn every_word_comes_out_as_it_went_in() {
        let words: [&[u8]; 9] = [
            b"plain",
            b"two words",
            b"it's $(id) `id` \"q\" ;&|<>*?[]{}~#!\\",
            b"\x1b[31mred\x1b[0m\n$(id)'\\",
            b"\xff\xfe0",
            "ümlaut \u{202e}".as_bytes(),
            b"",
            b"\t'",
            b"trailing\n",
        ];
        for word in words {
            let script = format!("printf %s {}", quote(OsStr::from_bytes(word)));
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(output.stdout, word, "{script}");
        }
    }

    #[test]
    fn a_path_is_told_from_the_root() {
        let here = std::env::current_dir().unwrap().join("a b");
        assert_eq!(quote_path(Path::new("a b")), quote(here));
        assert_eq!(quote_path(Path::new("/a")), "/a");
    }

    /// `dash`, the `sh` of Debian, knows no `$'…'`: what stood behind `\'` was a command there.
    #[test]
    fn a_shell_that_knows_no_such_quotes_takes_it_for_a_word_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for word in ["\x1b'; touch owned; #", "\n'`touch owned`'", "\\\x7f'\n touch owned\n: '"] {
            let script = format!("set -- {}; echo $#", quote(word));
            for shell in ["sh", "bash"] {
                let output = Command::new(shell)
                    .args(["-c", &script])
                    .current_dir(&folder)
                    .output()
                    .unwrap();
                assert_eq!(output.stdout, b"1\n", "{shell}: {script}");
            }
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "something was run");
    }

    fn words() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![
            prop::sample::select(b"'\"\\$`;&|<>(){}[]*?!#~=%- \t\n\r\x1b\x7f\xffa0".as_slice()),
            1..=255_u8,
        ];
        prop::collection::vec(prop::collection::vec(byte, 0..12), 40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// By the shells themselves, forty words at a time.
        #[test]
        fn no_byte_ends_a_word(words in words()) {
            let quoted: Vec<_> = words.iter().map(|word| quote(OsStr::from_bytes(word))).collect();
            prop_assert!(quoted.iter().all(|word| printable(word) == *word), "{quoted:?}");
            let script = format!("printf '%s\\0' {}", quoted.join(" "));
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            let told: Vec<_> = output.stdout.split_inclusive(|byte| *byte == 0).collect();
            let wanted: Vec<Vec<u8>> = words.iter().map(|word| [&word[..], b"\0"].concat()).collect();
            prop_assert_eq!(told, wanted);
            let script = format!("set -- {}; echo $#", quoted.join(" "));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            prop_assert_eq!(output.stdout, b"40\n", "{}", script);
        }
    }
}
