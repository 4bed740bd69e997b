//! Text that is not TOML.

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
        let text =
            format!("[server]\n{broken}\n[limits]\nholdd = 1\nhold = 3\n[log]\nlevel = \"loud\"\n");
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
    assert!(found[0].starts_with("1:1 this header is not closed | write `[[site]]`"), "{found:#?}");
    assert!(found[1].starts_with("3:1 this header is not closed | write `[server]`"), "{found:#?}");
    assert!(found[2].starts_with("6:1 unknown key `y` in [limits]"), "{found:#?}");
    assert_eq!(found.len(), 3);
}

#[test]
fn a_list_that_is_not_closed_is_told_where_it_begins() {
    let found = errors("[server]\nhttp = [\":80\",\n  \":81\"\nvia = true\n[limits]\ny = 1\n");
    assert!(found[0].starts_with("2:8 this list is not closed"), "{found:#?}");
    assert!(found.iter().any(|found| found.starts_with("6:1 unknown key `y`")), "{found:#?}");
}

/// What is not closed stands in a section before the header; before the first line there is none.
#[test]
fn a_text_that_is_not_closed_in_a_header_on_the_first_line() {
    for text in ["[\"\"\"server]\np = 80\n", "[\"\"\"", "['''a]\n[server]\n"] {
        let found = errors(text);
        assert!(found[0].starts_with("1:"), "{found:#?}");
    }
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
        "[server]\r\n\tvia\t= \"ü\"\r\n\thttp = [\"ü\", \":x\"]\r\n\
         [[site]]\r\nhost = \"a\"\r\nto = \"1\"\r\n",
    );
    assert!(found[0].starts_with("2:8 the text"), "{found:#?}");
    assert!(found[1].starts_with("3:10 `ü`"), "{found:#?}");
    assert!(found[2].starts_with("3:15 `:x`"), "{found:#?}");
}
