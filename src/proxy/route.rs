//! From a host and a path to a site and a route.

use std::collections::HashMap;

use super::headers::host::HostPattern;
pub use super::path::{PathError, PathPrefix};
use super::path::{check_bytes, decode};
use super::view::{Reading, read_every_way};

/// Sites by host: an exact name before a one-label wildcard before `*`.
///
/// A lookup is two probes at most, allocates nothing, and costs the same for ten sites and for ten
/// thousand.
#[derive(Clone, Debug)]
pub struct SiteTable<T> {
    exact: HashMap<Box<str>, T>,
    /// By what follows the first label.
    wildcard: HashMap<Box<str>, T>,
    any: Option<T>,
}

/// The routes of one site.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// The longest first, so that the first that matches is the one.
    routes: Vec<Route>,
}

#[derive(Clone, Debug)]
struct Route {
    id: usize,
    /// Without a trailing slash: empty for `/`.
    text: Box<[u8]>,
    /// Between the slashes, as on the wire and with escapes resolved.
    segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
struct Segment {
    wire: Box<[u8]>,
    decoded: Box<[u8]>,
}

impl<T> SiteTable<T> {
    /// Of two equal patterns the first counts; the configuration has none.
    pub fn new(sites: impl IntoIterator<Item = (HostPattern, T)>) -> Self {
        let mut table = Self { exact: HashMap::new(), wildcard: HashMap::new(), any: None };
        for (pattern, site) in sites {
            match pattern {
                HostPattern::Exact(host) => {
                    table.exact.entry(host.as_str().into()).or_insert(site);
                }
                HostPattern::Wildcard(parent) => {
                    table.wildcard.entry(parent.as_str().into()).or_insert(site);
                }
                HostPattern::Any => {
                    table.any.get_or_insert(site);
                }
            }
        }
        table
    }

    /// The site for a host in normal form (lower case, no trailing dot, no brackets).
    #[must_use]
    pub fn lookup(&self, host: &str) -> Option<&T> {
        self.lookup_named(host).or(self.any.as_ref())
    }

    /// The same without the site `*`: only for names that are configured, as redirects need it.
    #[must_use]
    pub fn lookup_named(&self, host: &str) -> Option<&T> {
        self.exact.get(host).or_else(|| {
            if self.wildcard.is_empty() {
                return None;
            }
            let (label, parent) = host.split_once('.')?;
            if label.is_empty() { None } else { self.wildcard.get(parent) }
        })
    }
}

impl RouteTable {
    /// A route's number is its place in `prefixes`; of two equal prefixes the first counts.
    #[must_use]
    pub fn new(prefixes: &[PathPrefix]) -> Self {
        let mut routes: Vec<Route> = prefixes.iter().enumerate().map(Route::new).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.text.len()));
        Self { routes }
    }

    /// The route whose prefix is the longest that matches the normalised path on segment borders;
    /// `None` if there is none. `path` is what stands before the `?`, as the client sent it.
    ///
    /// The application gets the client's bytes and may read them otherwise than we do: with
    /// escapes resolved once more or not at all, `\` for `/`, `;parameters` cut off, or empty
    /// segments merged. So every such reading must end under the same route. `*` (OPTIONS) is no
    /// path.
    ///
    /// # Errors
    ///
    /// [`PathError`]: the client's fault, answered with 400.
    pub fn select(&self, path: &str) -> Result<Option<usize>, PathError> {
        let path = path.as_bytes();
        if path.first() != Some(&b'/') {
            return Err(PathError::NotAbsolute);
        }
        match shape(path) {
            Shape::Plain => Ok(self.match_plain(path)),
            Shape::Special => self.match_every_reading(path),
            Shape::Illegal => Err(PathError::RawByte),
        }
    }

    fn match_plain(&self, path: &[u8]) -> Option<usize> {
        let covers = |route: &&Route| {
            path.strip_prefix(&*route.text).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        };
        self.routes.iter().find(covers).map(|route| route.id)
    }

    fn match_every_reading(&self, path: &[u8]) -> Result<Option<usize>, PathError> {
        check_bytes(path)?;
        let mut chosen = None;
        let hidden_dots = read_every_way(path, |reading| {
            let route = self.match_reading(reading);
            if *chosen.get_or_insert(route) == route { Ok(()) } else { Err(PathError::Ambiguous) }
        })?;
        if hidden_dots && !self.is_trivial() {
            return Err(PathError::Ambiguous);
        }
        Ok(chosen.flatten())
    }

    fn match_reading(&self, reading: &Reading<'_>) -> Option<usize> {
        let covers = |route: &&Route| {
            route.segments.len() <= reading.segments.len()
                && route.segments.iter().zip(&reading.segments).all(|(ours, theirs)| {
                    let ours = if reading.decoded { &ours.decoded } else { &ours.wire };
                    **ours == **theirs
                })
        };
        self.routes.iter().find(covers).map(|route| route.id)
    }

    /// Whether every path ends under the same route, so that no reading can matter.
    fn is_trivial(&self) -> bool {
        self.routes.iter().all(|route| route.text.is_empty())
    }
}

impl Route {
    fn new((id, prefix): (usize, &PathPrefix)) -> Self {
        let text = prefix.as_str();
        let segment = |wire: &[u8]| Segment { wire: wire.into(), decoded: decode(wire).into() };
        Self {
            id,
            text: text.strip_suffix('/').unwrap_or(text).as_bytes().into(),
            segments: prefix.segments().map(segment).collect(),
        }
    }
}

/// What a path needs before it can be matched.
enum Shape {
    /// Every reader sees the same segments: no `%`, `\`, `;`, `//` and `/.`.
    Plain,
    Special,
    /// It has a byte that must be escaped.
    Illegal,
}

fn shape(path: &[u8]) -> Shape {
    let (mut special, mut previous) = (false, 0);
    for &byte in path {
        match byte {
            b'%' | b'\\' | b';' => special = true,
            b'/' | b'.' => special |= previous == b'/',
            b'#' | b'?' | 0..=b' ' | 0x7f.. => return Shape::Illegal,
            _ => {}
        }
        previous = byte;
    }
    if special { Shape::Special } else { Shape::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::headers::host::Host;
    use proptest::prelude::*;

    fn table(prefixes: &[&str]) -> RouteTable {
        let prefixes: Vec<_> =
            prefixes.iter().map(|text| PathPrefix::parse(text).unwrap()).collect();
        RouteTable::new(&prefixes)
    }

    #[test]
    fn the_most_exact_site_answers() {
        let sites = ["a.test", "*.a.test", "*", "::1", "*.deep.a.test"];
        let table = SiteTable::new(sites.map(|text| (HostPattern::parse(text).unwrap(), text)));
        for (host, site) in [
            ("a.test", "a.test"),
            ("b.a.test", "*.a.test"),
            ("c.b.a.test", "*"),
            ("x.deep.a.test", "*.deep.a.test"),
            ("deep.a.test", "*.a.test"),
            ("::1", "::1"),
            ("other.test", "*"),
            ("", "*"),
            (".a.test", "*"),
        ] {
            assert_eq!(table.lookup(host), Some(&site), "{host}");
        }
        assert_eq!(table.lookup_named("b.a.test"), Some(&"*.a.test"));
        assert_eq!(table.lookup_named("other.test"), None);
        assert_eq!(SiteTable::<u8>::new([]).lookup("a.test"), None);
    }

    #[test]
    fn ten_thousand_sites_are_found() {
        let name = |n: usize| Host::parse(format!("site{n}.test").as_bytes()).unwrap();
        let table = SiteTable::new((0..10_000).map(|n| (HostPattern::Exact(name(n)), n)));
        for n in (0..10_000).step_by(97) {
            assert_eq!(table.lookup(name(n).as_str()), Some(&n));
        }
        assert_eq!(table.lookup("site10000.test"), None);
    }

    #[test]
    fn the_longest_prefix_wins_on_segment_borders() {
        let routes = table(&["/", "/api", "/api/v1", "/caf\u{e9}", "/a%20b"]);
        for (path, route) in [
            ("/", 0),
            ("/index.html", 0),
            ("/api", 1),
            ("/api/", 1),
            ("/api/x", 1),
            ("/apix", 0),
            ("/API", 0),
            ("/api.", 0),
            ("/api/v1", 2),
            ("/api/v1/x", 2),
            ("/api/v10", 1),
            ("/api/a%2Fb", 1),
            ("/files/a%2Fb%20c%25", 0),
            ("/.well-known/x", 0),
            ("/x/../api/y", 1),
            ("/./api", 1),
            ("/api/v1/../x", 1),
            ("/x;a=1/y", 0),
            ("/api/x;a=1", 1),
            ("/x//y", 0),
            ("/api//v2", 1),
            ("/caf%C3%A9/x", 3),
            ("/caf%c3%a9", 3),
            ("/a%20b/c", 4),
            ("/x%0d%0aX:y", 0),
            ("/a|b{c}\"d^", 0),
        ] {
            assert_eq!(routes.select(path), Ok(Some(route)), "{path}");
        }
        assert_eq!(table(&["/api"]).select("/other"), Ok(None));
        assert_eq!(table(&[]).select("/"), Ok(None));
        assert_eq!(table(&["/a", "/a"]).select("/a"), Ok(Some(0)));
    }

    /// Routes `/`, `/pub` and `/adm`: what reaches `/adm` for any reader must be routed there.
    #[test]
    fn no_reader_ends_under_another_route() {
        use PathError::*;
        let routes = table(&["/", "/pub", "/adm"]);
        for (path, verdict) in [
            ("/pub/../adm", Ok(Some(2))),
            ("/pub/%2e%2e/adm", Err(Ambiguous)),
            ("/pub/..%2fadm", Err(Ambiguous)),
            ("/pub%2f..%2fadm", Err(Ambiguous)),
            ("//adm", Err(Ambiguous)),
            ("/./adm", Ok(Some(2))),
            ("/pub/..;/adm", Err(Ambiguous)),
            ("/pub/;/../adm", Err(Ambiguous)),
            ("/pub/..\\adm", Err(Ambiguous)),
            ("/pub/%5c..%5cadm", Err(Ambiguous)),
            ("/%61dm", Err(Ambiguous)),
            ("/%2561dm", Err(Ambiguous)),
            ("/adm%00x", Err(Nul)),
            ("/adm%2500x", Err(Nul)),
            ("/adm%0d%0aX:y", Ok(Some(0))),
            ("/ADM", Ok(Some(0))),
            ("/adm.", Ok(Some(0))),
            ("/adm%20", Ok(Some(0))),
            ("/pub#/../adm", Err(RawByte)),
            ("/%zz%", Err(BadEscape)),
            ("/%", Err(BadEscape)),
            ("/x%4", Err(BadEscape)),
            ("/../../adm", Err(AboveRoot)),
            ("/..", Err(AboveRoot)),
            ("/%2e%2e/adm", Err(AboveRoot)),
            ("/..%5cadm", Err(AboveRoot)),
            ("/..;/adm", Err(AboveRoot)),
            ("/%252e%252e/adm", Err(AboveRoot)),
            ("?/../adm", Err(NotAbsolute)),
            ("", Err(NotAbsolute)),
            ("*", Err(NotAbsolute)),
            ("adm", Err(NotAbsolute)),
            ("/adm;x", Err(Ambiguous)),
            ("/adm\\x", Err(Ambiguous)),
            ("/pub/x?y", Err(RawByte)),
            ("/pub/\u{1}", Err(RawByte)),
            ("/pub/\u{7f}", Err(RawByte)),
            ("/pub/a b", Err(RawByte)),
            ("/pub/\u{e9}", Err(RawByte)),
            // Readers that take turns: remove dots, resolve escapes, remove dots again.
            ("/pub/a%2fb/../%2e%2e/adm", Err(Ambiguous)),
            ("/pub/%2e%2e/adm/x/%2e%2e/../pub", Err(Ambiguous)),
        ] {
            assert_eq!(routes.select(path), verdict, "{path}");
        }
    }

    #[test]
    fn a_site_with_one_route_takes_everything_legal() {
        let routes = table(&["/"]);
        for path in
            ["/pub/%2e%2e/adm", "/%61", "//a", "/a/..\\b", "/a/..%2fb", "/a;b/../c", "/%2525"]
        {
            assert_eq!(routes.select(path), Ok(Some(0)), "{path}");
        }
        for (path, error) in [
            ("/%00", PathError::Nul),
            ("/%zz", PathError::BadEscape),
            ("/..", PathError::AboveRoot),
            ("/a/..%2f..%2f..", PathError::AboveRoot),
            ("/a\u{0}", PathError::RawByte),
        ] {
            assert_eq!(routes.select(path), Err(error), "{path:?}");
        }
    }

    /// An application's reading, written without a look at ours: every order of steps.
    fn other_readers(path: &str) -> Vec<String> {
        fn unescape(text: &str) -> String {
            let mut out = String::new();
            let mut chars = text.char_indices();
            while let Some((at, char)) = chars.next() {
                let code = text.get(at + 1..at + 3).filter(|hex| !hex.starts_with('+'));
                match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(code) if char == '%' => {
                        out.push(char::from(code));
                        chars.nth(1);
                    }
                    _ => out.push(char),
                }
            }
            out
        }
        fn undot(text: &str) -> String {
            let mut out: Vec<&str> = Vec::new();
            for part in text.split('/').skip(1) {
                match part {
                    "." => {}
                    ".." => drop(out.pop()),
                    part => out.push(part),
                }
            }
            format!("/{}", out.join("/"))
        }
        fn merge(text: &str) -> String {
            let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty()).collect();
            format!("/{}", parts.join("/"))
        }
        fn cut(text: &str) -> String {
            let cut = |part: &str| part.split(';').next().unwrap().to_owned();
            text.split('/').map(cut).collect::<Vec<_>>().join("/")
        }
        let flip = |text: &str| text.replace('\\', "/");
        let steps: [&dyn Fn(&str) -> String; 4] = [&undot, &merge, &cut, &flip];
        let mut all = std::collections::BTreeSet::from([path.to_owned()]);
        let mut found = Vec::new();
        for decodings in 0..=2 {
            if decodings > 0 {
                all = all.iter().map(|text| unescape(text)).collect();
            }
            for _ in 0..3 {
                let more: Vec<_> =
                    all.iter().flat_map(|text| steps.iter().map(move |step| step(text))).collect();
                all.extend(more);
            }
            found.extend(all.iter().map(|text| undot(text)));
        }
        found
    }

    /// The route that a plain string comparison finds.
    fn expected(prefixes: &[String], text: &str) -> Option<usize> {
        let covers = |prefix: &str| {
            prefix == "/" || text == prefix || text.starts_with(&format!("{prefix}/"))
        };
        let matching = prefixes.iter().enumerate().filter(|(_, prefix)| covers(prefix));
        matching.max_by_key(|(_, prefix)| prefix.len()).map(|(id, _)| id)
    }

    fn prefixes() -> impl Strategy<Value = Vec<String>> {
        let prefix =
            prop::collection::vec("[abA]", 1..4).prop_map(|parts| format!("/{}", parts.join("/")));
        (any::<bool>(), prop::collection::btree_set(prefix, 1..6))
            .prop_map(|(root, set)| root.then(|| "/".to_owned()).into_iter().chain(set).collect())
    }

    fn paths() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "/", "/", "/", "a", "b", "a", "b", "..", ".", "/..", "/../", "/./", "//", "\\",
            ";", ";x", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "%3b", "%61", "%62", "%41", "A",
            "%25", "%252e", "%252f", "%2561", "%255c", "%253b", "%20", "x",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_is_forwarded_means_the_same_to_every_reader(prefixes in prefixes(), path in paths()) {
            let texts: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            if let Ok(route) = table(&texts).select(&path) {
                for reading in other_readers(&path) {
                    prop_assert_eq!(expected(&prefixes, &reading), route, "{} read as {}", path, reading);
                }
            }
        }

        #[test]
        fn ordinary_paths_are_never_refused(prefixes in prefixes(), path in "(/[a-z0-9_.~-]{0,3}[a-z])+(/[a-z]+%(20|C3%A9|2F)[0-9]?)?/?") {
            let texts: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            prop_assert_eq!(table(&texts).select(&path), Ok(expected(&prefixes, &path)));
        }

        #[test]
        fn nothing_panics(prefixes in prefixes(), path in ".*") {
            let texts: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            let _ = table(&texts).select(&path);
        }
    }

    fn patterns() -> impl Strategy<Value = Vec<String>> {
        let pattern = prop::sample::select(vec![
            "*",
            "a.test",
            "*.a.test",
            "b.a.test",
            "*.b.a.test",
            "::1",
            "10.0.0.1",
            "*.test",
            "test",
        ]);
        prop::collection::vec(pattern.prop_map(str::to_owned), 0..8)
    }

    proptest! {
        /// The site is that of the best pattern which matches, the first of equal ones.
        #[test]
        fn a_site_is_found_as_by_asking_every_pattern(patterns in patterns(), host in "([abc]\\.){0,3}test|::1|10\\.0\\.0\\.[12]") {
            let sites: Vec<_> = patterns.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
            let table = SiteTable::new(sites.iter().cloned().zip(0..));
            let asked = Host::parse(host.as_bytes()).unwrap();
            let matching = || sites.iter().enumerate().rev().filter(|(_, site)| site.matches(&asked));
            let best = matching().max_by_key(|(_, site)| site.rank()).map(|(place, _)| place);
            prop_assert_eq!(table.lookup(&host).copied(), best, "{} among {:?}", host, patterns);
            let named = matching().filter(|(_, site)| **site != HostPattern::Any);
            let named = named.max_by_key(|(_, site)| site.rank()).map(|(place, _)| place);
            prop_assert_eq!(table.lookup_named(&host).copied(), named);
        }

        /// The short way is taken for what every reader sees alike, and ends where the long one does.
        #[test]
        fn plain_paths_need_no_second_look(prefixes in prefixes(), path in "(/[abA.x~]{0,3}){0,5}") {
            let texts: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            let table = table(&texts);
            let path = format!("/{path}");
            if let Shape::Plain = shape(path.as_bytes()) {
                prop_assert_eq!(Ok(table.match_plain(path.as_bytes())), table.match_every_reading(path.as_bytes()));
            }
        }
    }
}
