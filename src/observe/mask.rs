//! Values of query parameters that must not reach a log.

/// What stands in the place of a value.
const MASKED: &[u8] = b"***";

/// The names of the parameters, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask(Vec<Box<[u8]>>);

impl Mask {
    pub(super) fn new(names: &[String]) -> Self {
        let names = names.iter().filter(|name| !name.is_empty());
        Self(names.map(|name| name.to_ascii_lowercase().into_bytes().into()).collect())
    }

    /// Gives `emit` the pieces of `target` in order, the values of masked parameters replaced.
    ///
    /// A name counts in any case, percent-encoded or not, and with a subscript (`token[]`).
    pub(super) fn pieces<'a>(&self, target: &'a [u8], mut emit: impl FnMut(&'a [u8])) {
        let query = if self.0.is_empty() { None } else { memchr::memchr(b'?', target) };
        let Some((path, query)) = query.and_then(|at| target.split_at_checked(at + 1)) else {
            emit(target);
            return;
        };
        emit(path);
        for parameter in query.split_inclusive(|byte| *byte == b'&') {
            match self.value(parameter).and_then(|at| parameter.split_at_checked(at)) {
                Some((name, value)) => {
                    emit(name);
                    emit(MASKED);
                    if value.ends_with(b"&") {
                        emit(b"&");
                    }
                }
                None => emit(parameter),
            }
        }
    }

    /// Where the value begins that must not be shown.
    ///
    /// Some applications also part parameters at `;`, and a URL in a URL has a second `?`; a name
    /// is looked for behind both, and in all that others take for it. What is hidden goes on to the
    /// next `&`, which all agree on.
    fn value(&self, parameter: &[u8]) -> Option<usize> {
        let value_in = |text: &[u8]| {
            let equals = memchr::memchr(b'=', text)?;
            let name = text.get(..equals)?;
            self.0.iter().any(|wanted| spells(name, wanted)).then_some(equals + 1)
        };
        if let Some(at) = value_in(parameter) {
            return Some(at);
        }
        let mut start = 0;
        for piece in parameter.split_inclusive(|byte| matches!(byte, b';' | b'?')) {
            if let Some(at) = value_in(piece) {
                return Some(start + at);
            }
            start += piece.len();
        }
        None
    }
}

/// Whether `written`, percent-decoded and in lower case, is `wanted`.
fn spells(written: &[u8], wanted: &[u8]) -> bool {
    let mut rest = written;
    for byte in wanted {
        match decode(&mut rest) {
            Some(found) if found.eq_ignore_ascii_case(byte) => {}
            _ => return false,
        }
    }
    matches!(decode(&mut rest), None | Some(b'['))
}

/// Takes one byte, percent-encoded or not, off the front.
fn decode(rest: &mut &[u8]) -> Option<u8> {
    if let [b'%', high, low, behind @ ..] = rest
        && let (Some(high), Some(low)) = (nibble(*high), nibble(*low))
    {
        *rest = behind;
        return Some(high << 4 | low);
    }
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(*first)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(target: &str) -> String {
        let mask = Mask::new(&["token".to_owned(), "API_Key".to_owned()]);
        let mut out = Vec::new();
        mask.pieces(target.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hides_values_however_the_name_is_spelt() {
        for (target, expected) in [
            ("/?token=abc", "/?token=***"),
            ("/a?x=1&token=abc&y=2", "/a?x=1&token=***&y=2"),
            ("/?TOKEN=abc&Api_Key=k", "/?TOKEN=***&Api_Key=***"),
            ("/?t%6fken=abc&%54OKE%4E=d", "/?t%6fken=***&%54OKE%4E=***"),
            ("/?api%5fkey=abc", "/?api%5fkey=***"),
            ("/?token[]=abc&token%5B0%5D=d", "/?token[]=***&token%5B0%5D=***"),
            ("/?token=", "/?token=***"),
            ("/?token=a=b==&x", "/?token=***&x"),
            ("/?token=a;b&x=1", "/?token=***&x=1"),
            ("/?x=1;token=a;b=c&y=2", "/?x=1;token=***&y=2"),
            ("/?next=/login?token=a&y=2", "/?next=/login?token=***&y=2"),
            // A subscript may have any byte in it.
            ("/?token[]/login?=a&y=2", "/?token[]/login?=***&y=2"),
        ] {
            assert_eq!(masked(target), expected, "{target}");
        }
    }

    #[test]
    fn leaves_everything_else_as_it_is() {
        for target in [
            "/",
            "/token=abc",
            "/?",
            "/?token",
            "/?tokens=a",
            "/?tok=a",
            "/?x=token",
            "/?%=1&=2",
            "/?t%6=1",
            "*",
            "/?atoken=1",
            "/?%zztoken=1",
        ] {
            assert_eq!(masked(target), target);
        }
    }

    fn targets() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/",
            "?",
            "&",
            "=",
            ";",
            "token",
            "TOKEN",
            "t%6fken",
            "%74oken",
            "api_key",
            "API%5fKEY",
            "x",
            "token[]",
            "tokens",
            "%",
            "%6",
            "[0]",
            "/login?",
            "%26",
            "%3d",
        ]);
        let piece = prop_oneof![3 => piece.prop_map(str::to_owned), 1 => Just("SECRET".to_owned())];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/?{}", pieces.concat()))
    }

    fn percent_decoded(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let code = rest.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match code.filter(|_| first == '%') {
                Some(code) => (out, rest) = (out + &char::from(code).to_string(), &rest[3..]),
                None => (out, rest) = (out + &rest[..1], &rest[1..]),
            }
        }
        out
    }

    /// Whether an application that parts at `&` finds a masked parameter with a value.
    fn finds_secret(target: &str) -> bool {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = percent_decoded(name).to_lowercase();
            let name = name.split('[').next().unwrap();
            ["token", "api_key"].contains(&name) && value.contains("SECRET")
        })
    }

    proptest! {
        #[test]
        fn no_secret_is_left_and_nothing_else_is_lost(target in targets()) {
            let shown = masked(&target);
            prop_assert!(!finds_secret(&shown), "{} is shown as {}", target, shown);
            prop_assert_eq!(masked(&shown), shown.clone());
            prop_assert_eq!(shown.matches('&').count(), target.matches('&').count());
            for (before, after) in target.split('&').zip(shown.split('&')) {
                let kept = after.strip_suffix("***");
                let is_same = before == after || kept.is_some_and(|kept| kept.ends_with('=') && before.starts_with(kept));
                prop_assert!(is_same, "{} is shown as {}", before, after);
            }
            let mut same = Vec::new();
            Mask::default().pieces(target.as_bytes(), |piece| same.extend_from_slice(piece));
            prop_assert_eq!(same, target.as_bytes());
        }
    }
}
