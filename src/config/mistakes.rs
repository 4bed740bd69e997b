//! One test for every kind of mistake: its place, and what is said of it.

use std::path::Path;

use proptest::prelude::*;

use super::{Loaded, Problems, load, parse};

const SITE: &str = "[[site]]\nhost = \"a.example\"\nto = \"8080\"\n";

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "BAD_PORT" => Some("http".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Loaded, Problems> {
    parse(text, "p.toml", Path::new("/nonexistent"), &env)
}

/// `line:column message`, with what is said besides, for every error of `text`.
fn errors(text: &str) -> Vec<String> {
    read(text).err().map(|problems| told(&problems)).unwrap_or_default()
}

fn warnings(text: &str) -> Vec<String> {
    told(&read(text).unwrap().warnings)
}

fn told(problems: &Problems) -> Vec<String> {
    let tell = |problem: &super::problems::Problem| {
        let place = problem.place.as_ref().unwrap();
        let help = problem.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{}:{} {}{help}", place.line, place.column, problem.message)
    };
    problems.list().iter().map(tell).collect()
}

/// The errors of a configuration with `text` in front of a site that is right.
fn errors_before_site(text: &str) -> Vec<String> {
    errors(&format!("{text}\n{SITE}"))
}

/// The errors of a site that is right but for the lines of `text`, which begin on line 4.
fn errors_in_site(text: &str) -> Vec<String> {
    errors(&format!("{SITE}{text}\n"))
}

fn assert_one(found: &[String], start: &str, part: &str) {
    assert!(
        found.len() == 1 && found[0].starts_with(start) && found[0].contains(part),
        "{found:#?}"
    );
}

mod keys {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_with_the_nearest() {
        let found = errors_before_site("[limits]\nheadr_size = \"32KiB\"");
        assert_eq!(
            found,
            ["2:1 unknown key `headr_size` in [limits] | did you mean `header_size`?"]
        );
    }

    #[test]
    fn unknown_keys_are_found_at_every_level() {
        let text = "colour = 1\n[servr]\nx = 1\n[server]\na = 1\n[limits]\nb = 1\n[log]\nc = 1\n\
            [admin]\nd = 1\n[acme]\ne = 1\n[[site]]\nhost = \"a\"\nf = 1\nto = \"1\"\n\
            tls = { g = 1, cert = \"c\", key = \"k\" }\n[[site.route]]\npath = \"/x\"\nto = \"1\"\nh = 1\n";
        let found: Vec<_> = errors(text).into_iter().filter(|e| e.contains("unknown")).collect();
        let starts = [
            "1:1 unknown key `colour`",
            "2:2 unknown section `servr` | did you mean `server`?",
            "5:1 unknown key `a` in [server]",
            "7:1 unknown key `b` in [limits]",
            "9:1 unknown key `c` in [log]",
            "11:1 unknown key `d` in [admin]",
            "13:1 unknown key `e` in [acme]",
            "16:1 unknown key `f` in [[site]]",
            "18:9 unknown key `g` in `tls`",
            "22:1 unknown key `h` in [[site.route]]",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found} / {start}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
        assert_eq!(
            errors_before_site("[server]\nheader_size = \"32KiB\""),
            ["2:1 unknown key `header_size` in [server] | `header_size` belongs in [limits]"]
        );
    }

    #[test]
    fn a_dotted_key_is_the_same_as_a_section() {
        assert_one(&errors_before_site("limits.hold = 3"), "1:15 the number 3", "`\"3s\"`");
    }

    #[test]
    fn one_bracket_is_not_two() {
        let found = errors("[site]\nhost = \"a\"\nto = \"8080\"\nx = 1\n");
        assert!(
            found[0].starts_with("1:1 a table cannot stand here | write `[[site]]`"),
            "{found:#?}"
        );
        assert!(found[1].starts_with("4:1 unknown key `x`"), "{found:#?}");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn two_brackets_are_not_one() {
        assert_one(
            &errors_before_site("[[limits]]\nhold = \"3s\""),
            "1:1 ",
            "write the header once, as `[limits]`",
        );
    }
}

mod types {
    use super::*;

    #[test]
    fn a_wrong_type_says_what_is_there() {
        assert_one(
            &errors_before_site("[server]\nvia = 1"),
            "2:7 the number 1 cannot stand here",
            "",
        );
        assert_one(
            &errors_before_site("[server]\nvia = \"on\""),
            "2:7 the text \"on\"",
            "write `true`",
        );
        assert_one(&errors_before_site("[server]\nhttp = true"), "2:8 `true` cannot", "");
        assert_one(
            &errors_before_site("[server]\nhttp = 80"),
            "2:8 the number 80",
            "write `\":80\"`",
        );
        assert_one(&errors_before_site("[server]\nhttp = { a = 1 }"), "2:8 a table", "");
        assert_one(&errors_before_site("[server]\nhttp = 1979-05-27"), "2:8 the date", "");
        assert_one(&errors_before_site("[limits]\nhold = 1.5"), "2:8 the number 1.5", "");
        assert_one(&errors_before_site("[limits]\nhold = 3"), "2:8 the number 3", "`\"3s\"`");
        assert_one(
            &errors_before_site("[limits]\nheader_count = \"100\""),
            "2:16 the text",
            "write `100`",
        );
        assert_one(&errors_before_site("[limits]\nheader_count = -1"), "2:16 the number -1", "");
        assert_one(&errors_before_site("limits = 1"), "1:10 the number 1", "");
        assert_one(&errors_in_site("tls = 1"), "4:7 the number 1", "");
        assert_one(&errors("site = 1"), "1:8 the number 1", "");
        assert_one(
            &errors("[[site]]\nhost = \"a\"\nto = 8080"),
            "3:6 the number 8080",
            "write `\"8080\"`",
        );
    }

    #[test]
    fn every_wrong_entry_of_a_list_is_told() {
        let found = errors_before_site("[server]\nhttp = [\":80\", 81,\n  \"x\"]");
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("2:16 the number 81"), "{found:#?}");
        assert!(found[1].starts_with("3:3 `x` is not an address"), "{found:#?}");
    }

    #[test]
    fn a_size_may_be_a_plain_number() {
        let loaded = read(&format!("[limits]\nheader_size = 4096\nbody_size = 7\n{SITE}")).unwrap();
        assert_eq!(loaded.config.limits.header_size, 4096);
        assert_eq!(loaded.config.limits.body_size, Some(7));
    }
}

mod values {
    use super::*;

    #[test]
    fn a_bad_value_is_told_with_its_place() {
        let cases = [
            ("[server]\nhttps = \"443\"", "2:9 ", "write `\":443\"`"),
            ("[server]\nhttps = \"127.0.0.1\"", "2:9 ", "the port is missing: `\"127.0.0.1:80\"`"),
            ("[server]\nhttps = \"localhost:443\"", "2:9 ", "`\"127.0.0.1:443\"`"),
            ("[server]\nhttps = \":70000\"", "2:9 ", "the highest is 65535"),
            ("[server]\nworkers = \"atuo\"", "2:11 ", "did you mean `auto`?"),
            ("[server]\nworkers = 0", "2:11 ", "`\"auto\"`"),
            ("[server]\nuser = \"root\"", "2:8 ", "keep every right"),
            ("[server]\ngrace = \"2h\"", "2:9 ", "`grace` is too large"),
            ("[server]\ntrusted_proxies = [\"10.0.0.1/8\"]", "2:20 ", "write `\"10.0.0.0/8\"`"),
            ("[server]\ntrusted_proxies = [\"10.0.0.0/33\"]", "2:20 ", "not a network"),
            ("[limits]\nheader_size = \"12\"", "2:15 ", "`header_size` is too small"),
            ("[limits]\nheader_size = \"2MiB\"", "2:15 ", "`header_size` is too large"),
            ("[limits]\nheader_size = \"32k\"", "2:15 ", "write `32KiB`"),
            ("[limits]\nheader_count = 1001", "2:16 ", "`header_count` is too large"),
            ("[limits]\nheader_count = 0", "2:16 ", "`header_count` is too small"),
            ("[limits]\nidle_timeout = \"75\"", "2:16 ", "without its unit"),
            ("[limits]\nidle_timeout = \"0s\"", "2:16 ", "too small"),
            ("[limits]\nbody_size = 0", "2:13 ", "`\"off\"`"),
            ("[limits]\nbody_size = \"0\"", "2:13 ", "`\"off\"`"),
            ("[limits]\nbody_size = \"none\"", "2:13 ", "not a size"),
            ("[limits]\ntarget_size = \"64KiB\"", "2:15 ", "larger than `header_size`"),
            ("[limits]\nconnections = 0", "2:15 ", "too small"),
            ("[log]\naccess = \"stdot\"", "2:10 ", "did you mean `stdout`?"),
            ("[log]\nformat = \"jsn\"", "2:10 ", "did you mean `json`?"),
            ("[log]\nlevel = \"warning\"", "2:9 ", "did you mean `warn`?"),
            ("[log]\nmask = [\"a=b\"]", "2:9 ", "query parameter"),
            ("[admin]\nmetrics = \"9180\"", "2:11 ", "write `\"127.0.0.1:9180\"`"),
            ("[admin]\nsocket = \"\"", "2:10 ", "the path is empty"),
            ("[admin]\nsocket = \"~/s\"", "2:10 ", "`${HOME}/…`"),
            ("[acme]\nemail = \"ops\"", "2:9 ", "not an e-mail address"),
            ("[acme]\ndirectory = \"http://ca.example/\"", "2:13 ", "not an https URL"),
            ("[acme]\nca = \"missing.pem\"", "2:6 ", "there is no file `/nonexistent/missing.pem`"),
        ];
        for (text, start, part) in cases {
            assert_one(&errors_before_site(text), start, part);
        }
    }

    #[test]
    fn a_bad_value_in_a_site_is_told_with_its_place() {
        let cases = [
            ("hsts = \"ramp\"", "4:8 ", "not available in this version"),
            ("hsts = \"of\"", "4:8 ", "did you mean `off`?"),
            ("hsts = \"500ms\"", "4:8 ", "whole seconds"),
            ("redirect = \"htps\"", "4:12 ", "did you mean `https`?"),
            ("redirect = \"ftp://a.example\"", "4:12 ", "not to `ftp`"),
            ("redirect = \"https://me@a.example\"", "4:12 ", "user name"),
            ("redirect = \"https://b.example/?a\"", "4:12 ", "query"),
            ("redirect = \"https://b.example/ü\"", "4:12 ", "percent-encoded"),
            ("redirect = \"https:///x\"", "4:12 ", "not a host name"),
            ("redirect = \"https://b.example:0\"", "4:12 ", "not a port"),
            ("tls = \"atuo\"", "4:7 ", "did you mean `auto`?"),
            ("tls = { cert = \"c.pem\" }", "4:7 ", "`key` is missing"),
            ("hold = \"10m\"", "4:8 ", "too large"),
            ("upstream_timeout = \"2d\"", "4:20 ", "too large"),
            ("[[site.route]]\npath = \"api\"\nto = \"1\"", "5:8 ", "write `\"/api\"`"),
            ("[[site.route]]\npath = \"/api\"\nto = \"app\"", "6:6 ", "write `app:8080`"),
            ("[[site.route]]\npath = \"/api\"\nto = \"1\"\nhold = \"10m\"", "7:8 ", "too large"),
        ];
        for (text, start, part) in cases {
            assert_one(&errors_in_site(text), start, part);
        }
    }

    #[test]
    fn a_bad_host_says_what_the_name_would_be() {
        let text = "[[site]]\nhost = [\"https://a.example/\", \"a b\"]\nto = \"1\"";
        let found = errors(text);
        assert!(
            found[0].starts_with("2:9 ") && found[0].ends_with("`\"a.example\"`"),
            "{found:#?}"
        );
        assert!(found[1].starts_with("2:31 `a b` is not a host name"), "{found:#?}");
    }

    #[test]
    fn the_environment_is_taken() {
        let loaded = read(&SITE.replace("8080", "127.0.0.1:${PORT}")).unwrap();
        assert_eq!(loaded.config.sites[0].routes[0].to[0].to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn a_missing_variable_is_told_where_it_stands() {
        let found = errors(&SITE.replace("8080", "${PORT}${NOPE}${ALSO}"));
        assert_eq!(found.len(), 2);
        assert!(
            found[0].starts_with("3:14 the environment variable `NOPE` is not set"),
            "{found:#?}"
        );
        assert!(
            found[1].starts_with("3:21 the environment variable `ALSO` is not set"),
            "{found:#?}"
        );
    }

    #[test]
    fn what_a_variable_holds_is_judged_and_shown() {
        let problems = read(&SITE.replace("8080", "a:${BAD_PORT}")).unwrap_err();
        assert_eq!(problems.list()[0].found.as_deref(), Some("\"a:http\""));
    }
}

mod together {
    use super::*;

    #[test]
    fn no_site() {
        assert_one(&errors(""), "1:1 there is no site", "add `[[site]]`");
        assert_one(&errors("site = []"), "1:8 there is no site", "");
    }

    #[test]
    fn a_site_without_its_parts() {
        let found = errors("\n[[site]]\n[[site.route]]\n");
        let starts = [
            "2:1 this site has no `host`",
            "3:1 this route has no `path`",
            "3:1 this route has no `to`",
        ];
        assert_eq!(found.len(), 3, "{found:#?}");
        for start in starts {
            assert!(found.iter().any(|found| found.starts_with(start)), "{start}: {found:#?}");
        }
        assert_one(&errors("[[site]]\nhost = \"a\""), "1:1 this site has nowhere to send", "");
    }

    #[test]
    fn empty_lists() {
        let found = errors("[[site]]\nhost = []\nto = []");
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("2:8 `host` is empty"), "{found:#?}");
        assert!(found[1].starts_with("3:6 `to` is empty"), "{found:#?}");
    }

    #[test]
    fn no_listener() {
        assert_one(
            &errors_before_site("[server]\nhttp = []\nhttps = []"),
            "3:9 `http` and `https` are both empty",
            "",
        );
        assert!(errors_before_site("[server]\nhttp = []").is_empty());
    }

    #[test]
    fn one_address_twice() {
        let one = |server: &str| errors_before_site(&format!("[server]\n{server}"));
        assert_one(
            &one("http = [\":80\", \"127.0.0.1:80\"]"),
            "2:16 `127.0.0.1:80` in `http` is taken by `:80`",
            "",
        );
        assert_one(&one("http = \"127.0.0.1:80\"\nhttps = \"127.0.0.1:80\""), "3:9 ", "taken by");
        assert_one(
            &one("http = \":443\""),
            "2:8 `:443` in `https` is taken by `:443` in `http`",
            "",
        );
        assert!(
            one("http = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"").is_empty(),
            "port 0 is a new one each time"
        );
        assert!(one("http = [\"127.0.0.1:80\", \"[::1]:80\", \"127.0.0.2:80\"]").is_empty());
        assert_one(
            &errors_before_site(
                "[server]\nhttp = \":9180\"\n[admin]\nmetrics = \"127.0.0.1:9180\"",
            ),
            "4:11 `127.0.0.1:9180` is taken by the listener `:9180`",
            "",
        );
    }

    #[test]
    fn duplicate_hosts() {
        let text = "[[site]]\nhost = [\"a.example\", \"A.example\"]\nto = \"1\"\n[[site]]\nhost = \"a.Example\"\nto = \"2\"";
        let found = errors(text);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0].starts_with("2:22 the host `a.example` is taken: it was given on line 2"),
            "{found:#?}"
        );
        assert!(found[1].starts_with("5:8 the host `a.example` is taken"), "{found:#?}");
        let text = "[[site]]\nhost = \"*\"\nto = \"1\"\n[[site]]\nhost = \"*\"\nto = \"2\"";
        assert_one(&errors(text), "5:8 the host `*` is taken", "");
        let text = "[[site]]\nhost = \"*.a.example\"\nto = \"1\"\n[[site]]\nhost = \"b.a.example\"\nto = \"2\"";
        assert!(errors(text).is_empty(), "an exact name beside a wildcard is no duplicate");
    }

    #[test]
    fn unreachable_routes() {
        let route = |path: &str| format!("[[site.route]]\npath = \"{path}\"\nto = \"1\"\n");
        let twice = route("/api") + &route("/api/");
        assert_one(
            &errors_in_site(&twice),
            "8:8 this route is unreachable: line 5 takes `/api` already",
            "",
        );
        assert_one(
            &errors_in_site(&route("/")),
            "5:8 this route is unreachable: line 3 takes `/`",
            "",
        );
        let redirected =
            errors_in_site(&format!("redirect = \"https://b.example\"\n{}", route("/x")));
        assert_eq!(redirected.len(), 2, "{redirected:#?}");
        assert!(redirected[0].starts_with("3:6 this is unreachable"), "{redirected:#?}");
        assert!(redirected[1].starts_with("5:1 this is unreachable"), "{redirected:#?}");
    }

    #[test]
    fn a_redirect_to_itself() {
        let site =
            |host: &str, url: &str| format!("[[site]]\nhost = \"{host}\"\nredirect = \"{url}\"\n");
        assert_one(
            &errors(&site("a.example", "https://A.example/x")),
            "3:12 this site redirects to itself",
            "",
        );
        assert_one(
            &errors(&site("*.a.example", "https://www.a.example")),
            "3:12 ",
            "redirects to itself",
        );
        assert!(
            errors(&site("a.example", "https://a.example:8443")).is_empty(),
            "another port is another server"
        );
        assert!(errors(&site("a.example", "https://www.a.example")).is_empty());
        let both = site("*.a.example", "https://www.a.example")
            + &SITE.replace("a.example", "www.a.example");
        assert!(errors(&both).is_empty(), "the exact name is another site's");
    }

    #[test]
    fn unreadable_certificates() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("text.pem"), "nothing of PEM").unwrap();
        let text = format!("{SITE}tls = {{ cert = \"gone.pem\", key = \"text.pem\" }}");
        let problems = parse(&text, "p.toml", dir.path(), &env).unwrap_err();
        let found = told(&problems);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("4:16 there is no file `"), "{found:#?}");
        assert!(found[1].starts_with("4:34 ") && found[1].contains("is not PEM"), "{found:#?}");
    }

    #[test]
    fn what_is_only_odd_is_a_warning() {
        let before = |text: &str| warnings(&format!("{text}\n{SITE}"));
        assert_one(
            &before("[server]\ntrusted_proxies = \"0.0.0.0/0\""),
            "2:19 ",
            "believes everybody",
        );
        assert_one(&before("[server]\nproxy_protocol = true"), "2:18 ", "no proxy is trusted");
        assert_one(&before("[server]\nhttps = []"), "3:1 ", "there is no HTTPS listener");
        assert_one(
            &before("[limits]\nconnections = 10\nconnections_per_client = 11"),
            "3:26 ",
            "no effect",
        );
        assert_one(&before("[admin]\nmetrics = \"0.0.0.0:9180\""), "2:11 ", "open to whoever");
        assert_one(&warnings(&SITE.replace("8080", "127.0.0.1:443")), "3:6 ", "own listener");
        assert_one(
            &warnings(&SITE.replace("\"8080\"", "[\"8080\", \":8080\"]")),
            "3:14 ",
            "listed twice",
        );
        assert!(before("").is_empty());
    }
}

mod syntax {
    use super::*;

    #[test]
    fn quotes_that_are_missing_are_shown() {
        let found = errors("[[site]]\nhost = a.example\nto = 127.0.0.1:8080 # the app\n");
        assert_eq!(
            found,
            [
                "2:8 a text needs quotes around it | write `host = \"a.example\"`",
                "3:6 a text needs quotes around it | write `to = \"127.0.0.1:8080\"`",
            ]
        );
    }

    #[test]
    fn the_rest_of_the_file_is_judged_too() {
        let breaks = [
            "host: \"a\"",
            "host",
            "host = \"a",
            "host = ",
            "= 1",
            "// a comment",
            "host = \"\\q\"",
            "x = [\"a\"",
            "x = { a = 1",
            "x = \"\"\"a",
            "}",
            "]",
        ];
        for broken in breaks {
            let text = format!(
                "[server]\n{broken}\n[limits]\nholdd = 1\nhold = 3\n[log]\nlevel = \"loud\"\n"
            );
            let found = errors(&text);
            assert!(found[0].starts_with("2:"), "{broken}: {found:#?}");
            // What a text of several lines swallows cannot be told from the text.
            if !broken.contains("\"\"\"") {
                assert_eq!(found.len(), 4, "{broken}: {found:#?}");
                assert!(found[1].starts_with("4:1 unknown key `holdd`"), "{broken}: {found:#?}");
                assert!(found[3].starts_with("7:9 `loud` is not a level"), "{broken}: {found:#?}");
            }
        }
    }

    #[test]
    fn a_header_that_is_not_closed() {
        let found = errors("[[site]\nhost = \"a\"\n[server\nx = 1\n[limits]\ny = 1\n");
        assert!(
            found[0].starts_with("1:1 this header is not closed | write `[[site]]`"),
            "{found:#?}"
        );
        assert!(
            found[1].starts_with("3:1 this header is not closed | write `[server]`"),
            "{found:#?}"
        );
        assert!(found[2].starts_with("6:1 unknown key `y` in [limits]"), "{found:#?}");
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_list_that_is_not_closed_is_told_where_it_begins() {
        let found = errors("[server]\nhttp = [\":80\",\n  \":81\"\nvia = true\n[limits]\ny = 1\n");
        assert!(found[0].starts_with("2:8 this list is not closed"), "{found:#?}");
        assert!(found.iter().any(|found| found.starts_with("6:1 unknown key `y`")), "{found:#?}");
    }

    #[test]
    fn a_key_or_section_that_is_set_twice() {
        let found = errors(
            "[server]\nvia = true\nvia = false\n[[site]]\nhost = \"a\"\nto = \"1\"\n[server]\nx = 1\n",
        );
        assert!(found[0].starts_with("3:1 `via` is set twice"), "{found:#?}");
        assert!(found[1].starts_with("7:2 `server` is set twice"), "{found:#?}");
        assert!(found[2].starts_with("8:1 unknown key `x` in [server]"), "{found:#?}");
    }

    #[test]
    fn nothing_is_said_to_be_missing_where_the_text_is_broken() {
        assert_one(&errors("[[site]]\nhost = \"a\"\nto\n"), "3:", "");
    }

    #[test]
    fn columns_are_right_with_tabs_and_crlf_and_accents() {
        let found = errors(
            "[server]\r\n\tvia\t= \"ü\"\r\n\thttp = [\"ü\", \":x\"]\r\n[[site]]\r\nhost = \"a\"\r\nto = \"1\"\r\n",
        );
        assert!(found[0].starts_with("2:8 the text"), "{found:#?}");
        assert!(found[1].starts_with("3:10 `ü`"), "{found:#?}");
        assert!(found[2].starts_with("3:15 `:x`"), "{found:#?}");
    }
}

mod files {
    use super::*;
    use std::time::{Duration, Instant};

    fn load_bytes(bytes: &[u8]) -> Result<Loaded, Problems> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        std::fs::write(&path, bytes).unwrap();
        load(&path)
    }

    #[test]
    fn a_byte_that_is_not_utf8_has_a_place() {
        let problems = load_bytes(b"[server]\nuser = \"caf\xe9\"\n[limits]\nx = 1\n").unwrap_err();
        let found = told(&problems);
        assert!(found[0].starts_with("2:12 this is not UTF-8"), "{found:#?}");
        assert!(found[1].starts_with("4:1 unknown key"), "{found:#?}");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn utf16_and_byte_order_marks() {
        let utf16: Vec<u8> =
            [0xff, 0xfe].into_iter().chain(SITE.bytes().flat_map(|b| [b, 0])).collect();
        assert!(load_bytes(&utf16).unwrap_err().list()[0].message.contains("UTF-16"));
        assert!(load_bytes(format!("\u{feff}{SITE}").as_bytes()).is_ok());
        let bad = [b"\xef\xbb\xbf# \xe9\n", SITE.as_bytes()].concat();
        assert!(told(&load_bytes(&bad).unwrap_err())[0].starts_with("1:3 "));
    }

    #[test]
    fn what_is_no_file_is_told() {
        let message = |path: &str| load(Path::new(path)).unwrap_err().list()[0].message.clone();
        assert!(message("/nonexistent/p.toml").contains("no such file"));
        assert!(message("/").contains("a directory"));
        assert!(message("/dev/zero").contains("larger than 16 MiB"));
        assert!(message("/dev/null").contains("there is no site"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        assert!(message(path.to_str().unwrap()).contains("larger than 16 MiB"));
    }

    #[test]
    fn ten_thousand_sites_load_quickly() {
        let site = |n: usize| {
            format!(
                "[[site]]\nhost = [\"a{n}.example\", \"b{n}.example\"]\nto = \"10.0.0.1:8080\"\n[[site.route]]\npath = \"/x\"\nto = \"9000\"\n"
            )
        };
        let text: String = (0..10_000).map(site).collect();
        let begin = Instant::now();
        assert_eq!(read(&text).unwrap().config.sites.len(), 10_000);
        // Generous: the machine may be busy and the code is not optimised.
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_flood_of_mistakes_is_cut() {
        let text = "x = 1\ny\n".repeat(50_000);
        let problems = read(&text).unwrap_err();
        assert!(problems.list().len() <= 1000);
        assert!(problems.to_string().contains("more"));
    }
}

fn line() -> impl Strategy<Value = String> {
    let key =
        "(host|to|tls|redirect|hsts|http|https|path|route|site|hold|header_size|mask|[a-z]{1,4})";
    let value = r#"("[a-z0-9.:/*$\{\}\\é-]{0,12}"|[0-9]{1,4}|true|\[\]|\["a", 1\]|\{ cert = "x" \}|[a-z"\[\{]{0,4})"#;
    prop_oneof![
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => r"\[{1,2}(site|server|limits|log|admin|acme|site\.route|site\.tls)\]{0,2}",
        1 => ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_text_panics(text in r"[\PC\n\t\r]{0,80}") {
        let _ = read(&text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn nothing_like_a_configuration_panics(lines in proptest::collection::vec(line(), 0..20), crlf: bool) {
        let text = lines.join(if crlf { "\r\n" } else { "\n" });
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(!problems.to_string().is_empty());
            let count = text.split('\n').count();
            for problem in problems.list() {
                let place = problem.place.as_ref().unwrap();
                prop_assert!((1..=count).contains(&place.line) && place.column >= 1);
            }
        }
    }
}
