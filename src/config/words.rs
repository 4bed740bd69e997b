//! The word that was meant.

use super::file::KNOWN;
use super::read::Section;

/// What other programs call it, and what it is called here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("server_name", "host"),
    ("domain", "host"),
    ("domains", "host"),
    ("hosts", "host"),
    ("name", "host"),
    ("proxy_pass", "to"),
    ("upstream", "to"),
    ("upstreams", "to"),
    ("backend", "to"),
    ("backends", "to"),
    ("target", "to"),
    ("reverse_proxy", "to"),
    ("location", "route"),
    ("prefix", "path"),
    ("client_max_body_size", "body_size"),
    ("max_body_size", "body_size"),
    ("keepalive_timeout", "idle_timeout"),
    ("proxy_read_timeout", "upstream_timeout"),
    ("set_real_ip_from", "trusted_proxies"),
    ("worker_processes", "workers"),
    ("threads", "workers"),
    ("ssl_certificate", "tls"),
    ("ssl_certificate_key", "tls"),
    ("ssl", "tls"),
    ("certificate", "cert"),
    ("private_key", "key"),
    ("listen", "http"),
];

/// What to say of a key that `S` does not know.
pub(super) fn nearest_key<S: Section>(name: &str) -> Option<String> {
    if let Some(key) = nearest(name, S::KEYS) {
        return Some(format!("did you mean `{key}`?"));
    }
    let alias = ELSEWHERE.iter().find(|(theirs, _)| same_word(theirs, name)).map(|(_, ours)| *ours);
    let meant = alias.unwrap_or(name);
    if alias.is_some() && S::KEYS.contains(&meant) {
        return Some(format!("it is called `{meant}` here"));
    }
    let (section, keys) = KNOWN.iter().find(|(_, keys)| nearest(meant, keys).is_some())?;
    let key = nearest(meant, keys)?;
    let place = if section.is_empty() { "the top of the file" } else { section };
    let same = if key == name { String::new() } else { format!("did you mean `{key}`? ") };
    Some(format!("{same}`{key}` belongs in {place}"))
}

/// The word of `known` that is close enough to `word` to have been meant.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // Beyond any key's length nothing is close, and the comparison is not free.
    if word.len() > 40 {
        return None;
    }
    if let Some(same) = known.iter().find(|candidate| same_word(candidate, word)) {
        return Some(same);
    }
    let reach = |candidate: &str| (candidate.len().max(word.len()) / 3).max(1);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), candidate), *candidate))
        .filter(|(distance, candidate)| {
            *distance <= reach(candidate) && *distance < candidate.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The same but for case, `-` and `_`.
fn same_word(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    plain(a) == plain(b)
}

/// `` `a`, `b` or `c` ``.
pub(super) fn quoted(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn close_words_are_found_and_far_ones_are_not() {
        let keys = &["host", "tls", "hsts", "redirect", "to"];
        assert_eq!(nearest("hots", keys), Some("host"));
        assert_eq!(nearest("redirekt", keys), Some("redirect"));
        assert_eq!(nearest("Host", keys), Some("host"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("x", keys), None);
        assert_eq!(nearest("header-size", &["header_size"]), Some("header_size"));
    }

    #[test]
    fn words_of_other_programs_are_known() {
        let help = nearest_key::<file::Site>("proxy_pass").unwrap();
        assert_eq!(help, "it is called `to` here");
        let help = nearest_key::<file::Site>("client_max_body_size").unwrap();
        assert_eq!(help, "did you mean `body_size`? `body_size` belongs in [limits]");
    }

    #[test]
    fn a_key_of_another_section_is_sent_there() {
        assert_eq!(
            nearest_key::<file::Server>("header_size").unwrap(),
            "`header_size` belongs in [limits]"
        );
        assert_eq!(nearest_key::<file::File>("to").unwrap(), "`to` belongs in [[site]]");
    }

    #[test]
    fn lists_read_like_speech() {
        assert_eq!(quoted(&["a"]), "`a`");
        assert_eq!(quoted(&["a", "b", "c"]), "`a`, `b` or `c`");
    }

    proptest! {
        #[test]
        fn whoever_is_near_is_a_word_that_is_known(
            known in prop::collection::btree_set("[a-z_]{1,12}", 0..8),
            word in "[a-zA-Z_-]{0,12}|\\PC{0,50}", slip in any::<prop::sample::Index>(), letter in "[a-z]",
        ) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let near = nearest(&word, &known);
            prop_assert!(near.is_none_or(|near| known.contains(&near)));
            for key in &known {
                prop_assert!(same_word(nearest(key, &known).unwrap(), key));
                if key.len() > 5 && known.len() == 1 {
                    let mut slipped = (*key).to_owned();
                    let at = slip.index(key.len());
                    slipped.replace_range(at..=at, &letter);
                    prop_assert_eq!(nearest(&slipped, &known), Some(*key));
                }
            }
        }
    }
}
