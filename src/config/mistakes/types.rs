//! Values of the wrong type.

use super::*;

#[test]
fn a_wrong_type_says_what_is_there() {
    assert_one(&errors_before_site("[server]\nvia = 1"), "2:7 the number 1 cannot stand here", "");
    assert_one(
        &errors_before_site("[server]\nvia = \"on\""),
        "2:7 the text \"on\"",
        "write `true`",
    );
    assert_one(&errors_before_site("[server]\nhttp = true"), "2:8 `true` cannot", "");
    assert_one(&errors_before_site("[server]\nhttp = 80"), "2:8 the number 80", "write `\":80\"`");
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
