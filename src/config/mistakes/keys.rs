//! Keys that are not known.

use super::*;

#[test]
fn an_unknown_key_is_told_with_the_nearest() {
    let found = errors_before_site("[limits]\nheadr_size = \"32KiB\"");
    assert_eq!(found, ["2:1 unknown key `headr_size` in [limits] | did you mean `header_size`?"]);
}

#[test]
fn unknown_keys_are_found_at_every_level() {
    let text = "colour = 1\n[servr]\nx = 1\n[server]\na = 1\n[limits]\nb = 1\n[log]\nc = 1\n\
        [admin]\nd = 1\n[acme]\ne = 1\n[[site]]\nhost = \"a\"\nf = 1\nto = \"1\"\n\
        tls = { g = 1, cert = \"c\", key = \"k\" }\n\
        [[site.route]]\npath = \"/x\"\nto = \"1\"\nh = 1\n";
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
    assert!(found[0].starts_with("1:1 a table cannot stand here | write `[[site]]`"), "{found:#?}");
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
