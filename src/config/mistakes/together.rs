//! What keys say together.

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
    assert_one(&one("http = \":443\""), "2:8 `:443` in `https` is taken by `:443` in `http`", "");
    assert!(
        one("http = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"").is_empty(),
        "port 0 is a new one each time"
    );
    assert!(one("http = [\"127.0.0.1:80\", \"[::1]:80\", \"127.0.0.2:80\"]").is_empty());
    assert_one(
        &errors_before_site("[server]\nhttp = \":9180\"\n[admin]\nmetrics = \"127.0.0.1:9180\""),
        "4:11 `127.0.0.1:9180` is taken by the listener `:9180`",
        "",
    );
}

#[test]
fn duplicate_hosts() {
    let text = "[[site]]\nhost = [\"a.example\", \"A.example\"]\nto = \"1\"\n\
        [[site]]\nhost = \"a.Example\"\nto = \"2\"";
    let found = errors(text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("2:22 the host `a.example` is taken: it was given on line 2"),
        "{found:#?}"
    );
    assert!(found[1].starts_with("5:8 the host `a.example` is taken"), "{found:#?}");
    let text = "[[site]]\nhost = \"*\"\nto = \"1\"\n[[site]]\nhost = \"*\"\nto = \"2\"";
    assert_one(&errors(text), "5:8 the host `*` is taken", "");
    let text = "[[site]]\nhost = \"*.a.example\"\nto = \"1\"\n\
        [[site]]\nhost = \"b.a.example\"\nto = \"2\"";
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
    assert_one(&errors_in_site(&route("/")), "5:8 this route is unreachable: line 3 takes `/`", "");
    let redirected = errors_in_site(&format!("redirect = \"https://b.example\"\n{}", route("/x")));
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
    let both =
        site("*.a.example", "https://www.a.example") + &SITE.replace("a.example", "www.a.example");
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
    assert_one(&before("[server]\ntrusted_proxies = \"0.0.0.0/0\""), "2:19 ", "believes everybody");
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
        "3:15 ",
        "listed twice",
    );
    assert!(before("").is_empty());
}

#[test]
fn applications_of_one_route_that_speak_different_protocols() {
    let mixed = SITE.replace("\"8080\"", "[\"h2c://127.0.0.1:1\", \"127.0.0.1:2\"]");
    assert_one(&errors(&mixed), "3:28 ", "do not speak the same protocol");
}
