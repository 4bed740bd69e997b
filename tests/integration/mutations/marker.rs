//! A client's own mark, in everything that it sends: whoever finds it knows whose it was.

/// The mark of a request of a case; its check makes that no mutation turns it into another's.
pub fn marker(case: u32, request: usize) -> String {
    format!("m{case:08x}-{:04x}-{request}", check(case))
}

/// The cases whose mark stands in `text`.
pub fn markers(text: &[u8]) -> impl Iterator<Item = u32> + '_ {
    text.windows(14).filter_map(|window| {
        let (mark, check_digits) = (&window[..9], &window[10..]);
        if mark[0] != b'm' || window[9] != b'-' {
            return None;
        }
        let case = u32::from_str_radix(str::from_utf8(&mark[1..]).ok()?, 16).ok()?;
        let digits = u16::from_str_radix(str::from_utf8(check_digits).ok()?, 16).ok()?;
        (digits == check(case)).then_some(case)
    })
}

fn check(case: u32) -> u16 {
    (case.wrapping_mul(0x9e37_79b1) >> 16) as u16
}

#[test]
fn a_mark_is_found_and_no_other() {
    let text = format!("/x{}?{}", marker(7, 1), marker(70_000, 2));
    assert_eq!(markers(text.as_bytes()).collect::<Vec<_>>(), [7, 70_000]);
    let torn = text.replacen("m00000007", "m00000008", 1);
    assert_eq!(markers(torn.as_bytes()).collect::<Vec<_>>(), [70_000]);
}
