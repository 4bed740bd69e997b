//! Capabilities by name (capabilities(7)).

/// The names of a set as `/proc/PID/status` writes it, by number. One that is newer than this
/// program is named by its number: `CAP_41`.
pub(super) fn names(set: &str) -> Option<Vec<String>> {
    let set = u64::from_str_radix(set, 16).ok()?;
    let known = caps::all();
    let name = |number: u8| {
        let known = known.iter().find(|capability| capability.index() == number);
        known.map_or_else(|| format!("CAP_{number}"), ToString::to_string)
    };
    Some((0..64).filter(|number| set >> number & 1 == 1).map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_told_by_name() {
        let of = |set: &str| names(set).map(|names| names.join(" "));
        assert_eq!(of("0000000000000000").as_deref(), Some(""));
        assert_eq!(of("0000000000000400").as_deref(), Some("CAP_NET_BIND_SERVICE"));
        assert_eq!(of("0000000000003000").as_deref(), Some("CAP_NET_ADMIN CAP_NET_RAW"));
        assert_eq!(of("8000000000000001").as_deref(), Some("CAP_CHOWN CAP_63"));
        assert_eq!(of("nothing"), None);
    }
}
