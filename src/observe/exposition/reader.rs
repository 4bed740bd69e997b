//! A strict reader of the text format of Prometheus, so that the tests believe no scraper's
//! leniency.

use std::collections::{BTreeMap, BTreeSet};

/// The value of each sample, by its name and labels as written.
pub(in crate::observe) type Samples = BTreeMap<String, f64>;

/// Reads a whole page.
///
/// # Errors
/// What the format forbids, and the habits of Prometheus that `promtool check metrics` insists on:
/// a help text, one group of lines for a metric, `_total` for counters alone, histograms whole.
pub(in crate::observe) fn read(page: &str) -> Result<Samples, String> {
    let mut samples = Samples::new();
    let mut seen = BTreeSet::new();
    let mut current = ("", "");
    let mut helped = "";
    if !page.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').ok_or(line)?;
            ensure(is_name(name) && !text.trim().is_empty(), line)?;
            ensure(seen.insert(name), &format!("twice: {line}"))?;
            helped = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').ok_or(line)?;
            ensure(name == helped, &format!("no help: {line}"))?;
            ensure(matches!(kind, "counter" | "gauge" | "histogram"), line)?;
            ensure((kind == "counter") == name.ends_with("_total"), line)?;
            current = (name, kind);
        } else {
            let (series, value) = line.rsplit_once(' ').ok_or(line)?;
            let (name, labels) = split(series)?;
            let expected = match current {
                (metric, "histogram") => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| name.strip_suffix(suffix) == Some(metric)),
                (metric, _) => name == metric,
            };
            ensure(expected, &format!("outside of its group: {line}"))?;
            ensure(name.ends_with("_bucket") == labels.contains_key("le"), line)?;
            let value: f64 = value.parse().map_err(|_| line)?;
            ensure(value >= 0.0, line)?;
            ensure(samples.insert(series.to_owned(), value).is_none(), &format!("twice: {line}"))?;
        }
    }
    histograms(&samples)?;
    Ok(samples)
}

/// Buckets rise, the last is `+Inf`, and it is the count.
fn histograms(samples: &Samples) -> Result<(), String> {
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, value) in samples {
        let (name, mut labels) = split(series)?;
        if let Some(end) = labels.remove("le") {
            let name = name.trim_end_matches("_bucket");
            let end = end.parse().map_err(|_| format!("not a number: {end}"))?;
            buckets.entry(format!("{name} {labels:?}")).or_default().push((end, *value));
        }
    }
    for (series, value) in samples {
        let (name, labels) = split(series)?;
        if let Some(name) = name.strip_suffix("_count") {
            let mut of = buckets.remove(&format!("{name} {labels:?}")).ok_or("no buckets")?;
            of.sort_by(|a, b| a.0.total_cmp(&b.0));
            ensure(of.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), &format!("{series}: {of:?}"))?;
            ensure(of.last() == Some(&(f64::INFINITY, *value)), &format!("{series}: {of:?}"))?;
            let sum = series.replacen("_count", "_sum", 1);
            ensure(samples.contains_key(&sum), &format!("no {sum}"))?;
        }
    }
    ensure(buckets.is_empty(), "buckets without a count")
}

/// The name and the labels of `name{label="value",...}`.
fn split(series: &str) -> Result<(&str, BTreeMap<String, String>), String> {
    let (name, rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').ok_or(series)?),
        None => (series, ""),
    };
    ensure(is_name(name), series)?;
    let mut labels = BTreeMap::new();
    let mut rest = rest.chars();
    while !rest.as_str().is_empty() {
        let label: String = rest.by_ref().take_while(|c| *c != '=').collect();
        ensure(is_name(&label) && !label.contains(':'), series)?;
        ensure(rest.next() == Some('"'), series)?;
        let mut value = String::new();
        loop {
            match rest.next().ok_or(series)? {
                '"' => break,
                '\\' => value.push(match rest.next() {
                    Some('n') => '\n',
                    Some(escaped @ ('\\' | '"')) => escaped,
                    _ => return Err(format!("not an escape: {series}")),
                }),
                plain => value.push(plain),
            }
        }
        ensure(labels.insert(label, value).is_none(), &format!("a label twice: {series}"))?;
        ensure(matches!(rest.next(), None | Some(',')), series)?;
    }
    Ok((name, labels))
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

#[test]
fn the_reader_is_strict() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    assert!(read(&format!("{head}a_total{{x=\"1\"}} 1\n")).is_ok());
    for wrong in [
        "a_total 1",
        "a_total{x=\"1\"} 1\na_total{x=\"1\"} 2\n",
        "b_total 1\n",
        "a_total -1\n",
        "a_total one\n",
        "a_total{x=\"\\q\"} 1\n",
        "a_total{x=1} 1\n",
        "a_total{x=\"1} 1\n",
        "a_total{le=\"1\"} 1\n",
        "# TYPE b_total counter\n",
        "# HELP a_total Again.\n",
    ] {
        assert!(read(&format!("{head}{wrong}")).is_err(), "{wrong}");
    }
}

proptest::proptest! {
    /// Whatever an operator names a site: one series, and the name reads back.
    #[test]
    fn any_label_is_one_that_reads_back(site: String, route in "[\\\\\"\n{},=a]{0,8}", value: u64) {
        let mut page = super::Page::default();
        page.metric("a_total", super::Kind::Counter, "Some.");
        page.sample("a_total", &[("site", &site), ("route", &route)], value);
        let text = page.text();
        let line = text.strip_suffix('\n').unwrap().rsplit_once("counter\n").unwrap().1;
        proptest::prop_assert!(!line.contains('\n'));
        let (_, labels) = split(line.rsplit_once(' ').unwrap().0).unwrap();
        let told: Vec<_> = labels.values().cloned().collect();
        proptest::prop_assert_eq!(told, [route, site]);
    }
}
