//! A question as it is typed, in the form that the registry reads.

/// Joins a range that is written with spaces, `20 - 25`, and gives each protocol of a list its
/// ports: `53/udp,tcp`.
pub(super) fn plain(text: &str) -> String {
    let text = text.replace(['\u{2013}', '\u{2010}', '\u{2011}'], "-");
    let mut parts: Vec<String> = Vec::new();
    for part in text.split([',', ';']) {
        let part = joined(part);
        let ports = parts.last().and_then(|last| last.rsplit_once('/')).map(|(ports, _)| ports);
        let is_protocol = |name: &str| ["tcp", "udp", "sctp", "dccp"].contains(&name);
        match ports.filter(|_| is_protocol(&part.trim().to_lowercase())) {
            Some(ports) => parts.push(format!("{ports}/{}", part.trim())),
            None => parts.push(part),
        }
    }
    parts.join(",")
}

/// A dash that stands alone between two numbers, or beside one of them, belongs to both.
fn joined(part: &str) -> String {
    let mut out = String::new();
    for word in part.split_whitespace() {
        let digit = |c: char| c.is_ascii_digit();
        let ends = |text: &str| text.ends_with(digit);
        let begins = |text: &str| text.starts_with(digit);
        let before_dash = ends(&out) && (word == "-" || word.strip_prefix('-').is_some_and(begins));
        let after_dash = out.strip_suffix('-').is_some_and(ends) && begins(word);
        if !out.is_empty() && !before_dash && !after_dash {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_with_spaces_is_one_and_a_list_of_protocols_keeps_its_port() {
        for range in ["20 - 25", "20 -25", "20- 25", "20-25", "20 \u{2013} 25"] {
            assert_eq!(plain(range), "20-25", "{range}");
        }
        assert_eq!(plain("53/udp,tcp"), "53/udp,53/tcp");
        assert_eq!(plain("53/udp, TCP,80"), "53/udp,53/TCP,80");
        for same in ["22 80", "20-25,80", "remote-access", "mail tcp", "tcp", ":22", "a - b", "-5"]
        {
            assert_eq!(plain(same), same);
        }
    }
}
