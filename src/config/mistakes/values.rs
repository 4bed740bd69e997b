//! Values of the right type that are wrong.

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
        ("[acme]\nkey_type = \"rsa\"", "2:12 ", "write `\"rsa2048\"`"),
        ("[acme]\nkey_type = \"p265\"", "2:12 ", "did you mean `p256`?"),
        ("[acme]\nprofile = \"a b\"", "2:11 ", "not the name of a profile"),
        ("[acme]\nchallenges = \"http\"", "2:14 ", "not a challenge"),
        ("[acme]\nchallenges = [\"dns01\"]", "2:15 ", "did you mean `dns-01`?"),
        ("[acme]\nchallenges = []", "2:14 ", "leave it out"),
        ("[acme]\nchallenges = [\"auto\", \"http-01\"]", "2:15 ", "`auto` stands alone"),
        ("[acme]\non_demand_rate = 0", "2:18 ", "`on_demand_rate` is too small"),
        ("[acme]\nstaging = \"frist\"", "2:11 ", "did you mean `first`?"),
        ("[acme]\neab = { kid = \"k\" }", "2:7 ", "`key` is missing in `eab`"),
        ("[acme]\neab = { kid = \"a b\", key = \"MDEyMzQ1Njc4OWFiY2RlZg\" }", "2:15 ", "blank"),
        ("[acme]\neab = { kid = \"k\", key = \"MDEy\" }", "2:26 ", "too short"),
        ("[acme]\neab = { kid = \"k\", key = \"MDE+Mzt/\" }", "2:26 ", "`-` for `+`"),
        ("[acme]\nca = \"missing.pem\"", "2:6 ", "there is no file `/nonexistent/missing.pem`"),
    ];
    for (text, start, part) in cases {
        assert_one(&errors_before_site(text), start, part);
    }
}

#[test]
fn a_secret_is_not_shown_in_what_is_said_of_it() {
    let text = format!("[acme]\neab = {{ kid = \"k\", key = \"hush/hush\" }}\n{SITE}");
    let problem = &read(&text).unwrap_err().list()[0].clone();
    assert_eq!(problem.found, None);
    assert!(!problem.message.contains("hush"), "{problem:?}");
}

#[test]
fn an_authority_is_judged_where_it_stands() {
    let one = "[[acme.authority]]\ndirectory = \"https://ca.internal/dir\"\n";
    assert_eq!(errors_before_site(one), Vec::<String>::new());
    let cases = [
        ("[[acme.authority]]\nprofile = \"x\"".to_owned(), "1:1 ", "has no `directory`"),
        (format!("{one}staging_directory = \"ca\""), "3:21 ", "not an https URL"),
        (format!("{one}drectory = \"ca\""), "3:1 ", "did you mean `directory`?"),
        (format!("[acme]\nprofile = \"x\"\n{one}"), "2:11 ", "move `profile` into"),
        ("[acme.authority]\ndirectory = \"https://a/\"".to_owned(), "1:1 ", "two brackets"),
    ];
    for (text, start, part) in cases {
        assert_one(&errors_before_site(&text), start, part);
    }
    let found = warnings(&format!("[acme]\nstaging = \"first\"\n{one}{SITE}"));
    assert_one(&found, "2:11 `staging` has no effect", "`staging_directory`");
}

#[test]
fn a_name_server_is_judged_where_it_stands() {
    let tsig = "tsig = { name = \"k\", secret = \"MDEyMzQ1Njc4OWFiY2RlZg==\" }\n";
    let dns = format!("[acme.dns]\nserver = \"192.0.2.53:53\"\n{tsig}");
    let acme = format!("[acme]\nchallenges = \"dns-01\"\n{dns}");
    assert_eq!(errors_before_site(&acme), Vec::<String>::new());
    let secret = |text: &str| dns.replace("MDEyMzQ1Njc4OWFiY2RlZg==", text);
    let server = |text: &str| dns.replace("192.0.2.53:53", text);
    let cases = [
        ("[acme]\nchallenges = \"dns-01\"".to_owned(), "2:14 ", "add a section [acme.dns]"),
        (format!("[acme.dns]\n{tsig}"), "1:1 ", "`server` is missing"),
        ("[acme.dns]\nserver = \"192.0.2.53:53\"".to_owned(), "1:1 ", "`tsig` is missing"),
        (server("192.0.2.53"), "2:10 ", "the port is missing: `\"192.0.2.53:53\"`"),
        (server("ns.shop.de:53"), "2:10 ", "write its IP address"),
        (server("192.0.2.53:0"), "2:10 ", "there is no port 0"),
        (secret("MDEy"), "3:31 ", "too short"),
        (secret("MDEy-"), "3:31 ", "not base64"),
        (dns.replace("secret", "sceret"), "3:8 ", "`secret` is missing in `tsig`"),
        (dns.replace("secret", "algorithm = \"hmac-md5\", secret"), "3:34 ", "too weak"),
        (dns.replace("secret", "algorithm = \"sha256\", secret"), "3:34 ", "not an algorithm"),
        (format!("{dns}zone = \"*.shop.de\""), "4:8 ", "write `\"shop.de\"`"),
        (format!("{dns}propagation = \"0s\""), "4:15 ", "too small"),
    ];
    for (text, start, part) in cases {
        let found = errors_before_site(&text);
        let told = found.iter().any(|one| one.starts_with(start) && one.contains(part));
        assert!(told, "{text}: {found:#?}");
    }
    let exec = |text: &str| format!("[acme.dns]\nexec = {text}");
    let cases = [
        ("[acme.dns]\nzone = \"shop.de\"".to_owned(), "1:1 ", "neither `server` nor `exec`"),
        (format!("{dns}exec = \"/bin/sh\""), "2:10 ", "exclude each other"),
        (format!("{}\n{tsig}", exec("\"/bin/sh\"")), "3:8 ", "`tsig` and `exec` exclude"),
        (exec("[]"), "2:8 ", "no program to run"),
        (exec("\"hook\""), "2:8 ", "not looked for in PATH"),
        (exec("[\"/nowhere/hook\", \"-q\"]"), "2:9 ", "there is no file `/nowhere/hook`"),
        (exec("\"/etc/passwd\""), "2:8 ", "nobody may execute `/etc/passwd`"),
        (exec("\"/etc/\""), "2:8 ", "is not a file"),
        (exec("[\"/bin/sh\", 1]"), "2:20 ", "the number 1 cannot stand here"),
        (format!("{}\nresolvers = \"9.9.9.9\"", exec("\"/bin/sh\"")), "3:13 ", "port is missing"),
    ];
    for (text, start, part) in cases {
        let found = errors_before_site(&text);
        let told = found.iter().any(|one| one.starts_with(start) && one.contains(part));
        assert!(told, "{text}: {found:#?}");
    }
    let right = exec("[\"/bin/sh\", \"-c\", \"${BAD_PORT}\"]\nresolvers = \"9.9.9.9:53\"");
    assert_eq!(errors_before_site(&format!("{right}\nzone = \"shop.de\"")), Vec::<String>::new());
    let problem = &read(&format!("{}{SITE}", secret("hush hush"))).unwrap_err().list()[0].clone();
    assert!(problem.found.is_none() && !problem.message.contains("hush"), "{problem:?}");
}

#[test]
fn a_bad_value_in_a_site_is_told_with_its_place() {
    let cases = [
        ("tls_min = \"1.1\"", "4:11 ", "TLS 1.1 is broken"),
        ("alpn = [\"h2\", \"h3\"]", "4:15 ", "HTTP/3 is not spoken"),
        ("alpn = []", "4:8 ", "nothing would be spoken"),
        ("client_auth = \"require\"", "4:15 ", "without `client_ca`"),
        ("client_crl = \"c.pem\"", "4:14 ", "without `client_ca`"),
        ("client_auth = \"optional\"", "4:15 ", "did you mean `request`?"),
        ("hsts = { ramp = true, max_age = \"1y\" }", "4:8 ", "exclude each other"),
        ("hsts = { include_subdomains = true }", "4:8 ", "not for how long"),
        ("hsts = { ramp = true, preload = true }", "4:8 ", "from the first day"),
        ("hsts = { max_age = \"30d\", preload = true }", "4:8 ", "less than a year"),
        ("hsts = { max_age = \"1y\", preload = true }", "4:8 ", "`include_subdomains` is not set"),
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
fn names_that_the_preload_list_does_not_take_are_told_with_their_place() {
    let preload = "hsts = { max_age = \"1y\", include_subdomains = true, preload = true }";
    let site = |hosts: &str, keys: &str| {
        format!("[[site]]\nhost = {hosts}\nto = \"8080\"\n{preload}\n{keys}\n")
    };
    for (hosts, keys, why) in [
        ("\"example.com\"", "tls = \"local\"", "a certificate that every browser trusts"),
        ("[\"localhost\", \"app.internal\"]", "", "nobody gets for `localhost`"),
        ("\"127.0.0.1\"", "", "is an address"),
        ("\"*\"", "", "`*` is none"),
        ("[\"a.b.f.example\", \"*.f.example\"]", "", "is a name below one"),
    ] {
        assert_one(&errors(&site(hosts, keys)), "4:8 the preload list takes no such site", why);
    }
    assert_eq!(errors(&site("\"example.co.uk\"", "")), Vec::<String>::new());
    let doubts =
        |hosts| warnings(&site(hosts, "")).iter().filter(|it| it.contains("looks like")).count();
    assert_eq!((doubts("\"a.github.io\""), doubts("\"example.co.uk\"")), (1, 0));
}

#[test]
fn the_end_of_a_ramp_is_told_once() {
    let site =
        |host: &str| format!("[[site]]\nhost = \"{host}\"\nto = \"8080\"\nhsts = \"ramp\"\n");
    let told = warnings(&(site("a.example") + &site("b.example")));
    let of_ramps: Vec<_> = told.iter().filter(|it| it.contains("ends at a year")).collect();
    assert!(of_ramps.len() == 1 && of_ramps[0].starts_with("4:8 "), "{told:#?}");
    assert!(of_ramps[0].contains("certs hsts reset HOST"), "{told:#?}");
}

#[test]
fn certificates_on_demand_are_judged_where_they_stand() {
    let site = |hosts: &str, tls: &str| {
        errors(&format!("[[site]]\nhost = {hosts}\nto = \"8080\"\ntls = {{ {tls} }}"))
    };
    let ask = "on_demand = { ask = \"http://127.0.0.1:9000/allowed\" }";
    assert_eq!(site("[\"*.a.example\", \"*\"]", ask), Vec::<String>::new());
    let url = |url: &str| format!("on_demand = {{ ask = \"{url}\" }}");
    let cases = [
        ("\"a.example\"", ask.to_owned(), "2:8 ", "`a.example` is known beforehand"),
        ("[\"*.a.example\", \"a.example\"]", ask.to_owned(), "2:24 ", "a site of its own"),
        ("\"*.localhost\"", ask.to_owned(), "2:8 ", "write `tls = \"local\"`"),
        ("\"*\"", "on_demand = {}".to_owned(), "4:21 ", "`ask` is missing"),
        ("\"*\"", "on_demand = true".to_owned(), "4:21 ", ""),
        ("\"*\"", url("ftp://a/"), "4:29 ", "`ftp` is not spoken"),
        ("\"*\"", url("127.0.0.1:9000"), "4:29 ", "not an http or https URL"),
        ("\"*\"", format!("cert = \"c.pem\", {ask}"), "4:16 ", "exclude each other"),
    ];
    for (hosts, tls, start, part) in cases {
        assert_one(&site(hosts, &tls), start, part);
    }
    let slip = site("\"*\"", "on_demnad = 1");
    assert!(slip.iter().any(|one| one.contains("did you mean `on_demand`?")), "{slip:#?}");
}

#[test]
fn a_bad_host_says_what_the_name_would_be() {
    let text = "[[site]]\nhost = [\"https://a.example/\", \"a b\"]\nto = \"1\"";
    let found = errors(text);
    assert!(found[0].starts_with("2:9 ") && found[0].ends_with("`\"a.example\"`"), "{found:#?}");
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
    assert!(found[0].starts_with("3:14 the environment variable `NOPE` is not set"), "{found:#?}");
    assert!(found[1].starts_with("3:21 the environment variable `ALSO` is not set"), "{found:#?}");
}

#[test]
fn what_a_variable_holds_is_judged_and_shown() {
    let problems = read(&SITE.replace("8080", "a:${BAD_PORT}")).unwrap_err();
    assert_eq!(problems.list()[0].found.as_deref(), Some("\"a:http\""));
}
