//! nginx' files: the names of each server and the targets of its `proxy_pass`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::proxies::{Front, files, host_and_port, read};

/// Where Debian's nginx and nginx' own package read from.
const PLACES: &[&str] = &["etc/nginx/nginx.conf", "etc/nginx/conf.d", "etc/nginx/sites-enabled"];

/// Directives whose argument is an application.
const PASSES: &[&str] = &["proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass"];

/// Every target that a server of nginx has.
pub(super) fn fronts(root: &Path, own: &[PathBuf]) -> Vec<Front> {
    let usual = PLACES.iter().flat_map(|place| files(&root.join(place)));
    let mut all: Vec<PathBuf> = usual.collect();
    own.iter().for_each(|file| add(file, file.parent().unwrap_or(root), 0, &mut all));
    let texts: Vec<_> = all
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| !name.to_string_lossy().ends_with('~')))
        .map(|file| (read(&file), file))
        .collect();
    let mut groups: HashMap<String, Vec<(String, u16)>> = HashMap::new();
    let parsed: Vec<_> = texts.iter().map(|(text, file)| (parse(text), file)).collect();
    for (found, _) in &parsed {
        for (group, target) in &found.groups {
            groups.entry(group.clone()).or_default().push(target.clone());
        }
    }
    let mut fronts = Vec::new();
    for (found, file) in parsed {
        for Pass { names, to } in found.passes {
            let bare = to.split_once("://").map_or(&*to, |(_, rest)| rest);
            let group = bare.split('/').next().and_then(|name| groups.get(name));
            let targets = group.cloned().or_else(|| Some(vec![host_and_port(&to)?]));
            for (host, port) in targets.into_iter().flatten() {
                let (proxy, names, file) = ("nginx", names.clone(), file.clone());
                fronts.push(Front { proxy, names, host, port, file });
            }
        }
    }
    fronts
}

/// A file that nginx was started with, and what it includes, from its folder.
fn add(file: &Path, folder: &Path, depth: u8, all: &mut Vec<PathBuf>) {
    const DEEPEST: u8 = 8;
    const MOST: usize = 500;
    if depth > DEEPEST || all.len() >= MOST || all.iter().any(|known| known == file) {
        return;
    }
    all.push(file.to_owned());
    for directive in directives(&read(file)) {
        let Directive::Says(words) = directive else { continue };
        let [word, pattern] = words.as_slice() else { continue };
        if word == "include" {
            included(&folder.join(pattern)).iter().for_each(|f| add(f, folder, depth + 1, all));
        }
    }
}

/// A file, or those of a folder whose names begin and end as the pattern does.
fn included(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned());
    let parts = name.as_deref().and_then(|name| name.split_once('*'));
    let (Some((before, after)), Some(folder)) = (parts, pattern.parent()) else {
        return vec![pattern.to_owned()];
    };
    let fits = |file: &PathBuf| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with(before) && name.ends_with(after))
    };
    files(folder).into_iter().filter(fits).collect()
}

#[derive(Default)]
struct Found {
    /// The members of `upstream` groups.
    groups: Vec<(String, (String, u16))>,
    passes: Vec<Pass>,
}

struct Pass {
    names: Vec<String>,
    to: String,
}

/// Walks the directives. A name that stands below the target counts too: a server's are gathered
/// until its end.
fn parse(text: &str) -> Found {
    let mut found = Found::default();
    let mut blocks: Vec<Vec<String>> = Vec::new();
    let (mut names, mut targets) = (Vec::new(), Vec::new());
    for directive in directives(text) {
        match directive {
            Directive::Opens(words) => blocks.push(words),
            Directive::Closes => {
                let closed = blocks.pop();
                if closed.is_some_and(|words| first(&words) == "server") {
                    let names = std::mem::take(&mut names);
                    let passes = targets.drain(..).map(|to| Pass { names: names.clone(), to });
                    found.passes.extend(passes);
                }
            }
            Directive::Says(words) => {
                let Some((word, arguments)) = words.split_first() else { continue };
                let group = blocks.last().filter(|block| first(block) == "upstream");
                if PASSES.contains(&word.as_str()) {
                    targets.extend(arguments.first().cloned());
                } else if word == "server_name" {
                    names.extend(arguments.iter().filter(|name| is_name(name)).cloned());
                } else if let (Some([_, group, ..]), "server") = (group.map(Vec::as_slice), &**word)
                {
                    let target = arguments.first().and_then(|a| host_and_port(a));
                    found.groups.extend(target.map(|target| (group.clone(), target)));
                }
            }
        }
    }
    found
}

fn first(words: &[String]) -> &str {
    words.first().map_or("", String::as_str)
}

/// `_` and regular expressions are no names.
fn is_name(name: &str) -> bool {
    name.contains('.') && !name.starts_with(['~', '.', '_']) && !name.ends_with('*')
}

enum Directive {
    Says(Vec<String>),
    Opens(Vec<String>),
    Closes,
}

/// The words up to each `;`, `{` and `}`; quotes keep words together, `#` begins a comment.
fn directives(text: &str) -> Vec<Directive> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '#' if word.is_empty() => drop(characters.find(|c| *c == '\n')),
            '"' | '\'' => word.extend(characters.by_ref().take_while(|c| *c != character)),
            '\\' => word.extend(characters.next()),
            // `${name}` is a variable, not a block.
            '{' if word.ends_with('$') => {
                word.extend(characters.by_ref().take_while(|c| *c != '}'));
            }
            ';' | '{' | '}' => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                let words = std::mem::take(&mut words);
                all.push(match character {
                    ';' => Directive::Says(words),
                    '{' => Directive::Opens(words),
                    _ => Directive::Closes,
                });
            }
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fronts_of(text: &str) -> Vec<(Vec<String>, String, u16)> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/nginx/sites-enabled");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("app"), text).unwrap();
        fronts(root.path(), &[]).into_iter().map(|f| (f.names, f.host, f.port)).collect()
    }

    #[test]
    fn names_and_targets_of_a_server_are_found() {
        let text = "server { listen 443 ssl; # the \"app\";\n\
             location / { proxy_pass http://127.0.0.1:8080; }\n\
             location /api { proxy_pass http://api; }\n\
             server_name app.example.com 'www.example.com' _; }\n\
             upstream api { server 127.0.0.1:9000 weight=2; server 10.0.0.5:9000 backup; }\n\
             server { return 301 https://$host$request_uri; }";
        let names = vec!["app.example.com".to_owned(), "www.example.com".to_owned()];
        assert_eq!(
            fronts_of(text),
            [
                (names.clone(), "127.0.0.1".to_owned(), 8080),
                (names.clone(), "127.0.0.1".to_owned(), 9000),
                (names, "10.0.0.5".to_owned(), 9000),
            ]
        );
    }

    #[test]
    fn what_is_computed_or_broken_is_no_target() {
        assert_eq!(fronts_of("server { proxy_pass http://${b}:80; proxy_pass http://$b; }"), []);
        assert_eq!(fronts_of("server { proxy_pass unix:/run/a.sock; }"), []);
        assert_eq!(fronts_of("}}} server { proxy_pass http://127.0.0.1:1"), []);
    }

    proptest! {
        #[test]
        fn nothing_is_found_that_is_not_written(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "server {", "server_name a.test *.b.test _ ~^x$;", "upstream u {", "server 127.0.0.1:80;",
                "server unix:/x;", "proxy_pass http://u;", "proxy_pass http://[::1]:80/;", "}", "\"", "'", "#",
                "\n", ";", "{", "\\", "$x", "é", "listen 80;", "server_name", " ",
            ]), 0..20),
        ) {
            let text = pieces.concat();
            let found = parse(&text);
            prop_assert!(found.passes.len() <= text.matches("_pass").count());
            prop_assert!(found.groups.len() <= text.matches("server").count());
        }
    }
}
