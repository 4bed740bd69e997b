//! The table at the end, and the verdict.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::RELOADS;
use super::gauge::{Sample, Trend};
use super::ledger::Counts;

/// All that the verdict is made of.
pub struct Report {
    /// What all decisions were drawn from.
    pub seed: u64,
    /// How long the load lasted.
    pub time: Duration,
    /// What became of everything.
    pub counts: Counts,
    /// Resident memory, KiB.
    pub memory: Trend,
    /// Open descriptors.
    pub descriptors: Trend,
    /// Threads.
    pub threads: Trend,
    /// Before the first client came, and after the last one had gone.
    pub at_rest: (Sample, Sample),
    /// How long it took until then.
    pub settled: Duration,
    /// Before and after [`RELOADS`] reloads at rest.
    pub reloads: (Sample, Sample),
    /// Connections that the program still counted then.
    pub connections: f64,
    /// Panics that the program counted.
    pub panics: f64,
    /// Lines of the access log that the program counted as lost.
    pub lines_lost: f64,
    /// Lines of the access log that right answers left there.
    pub lines: u64,
    /// How the program ended: what it said when that was not well.
    pub end: Option<String>,
}

impl Report {
    /// Prints the table; whether all is well.
    pub fn print(&self) -> bool {
        println!("soak: {:.1} minutes, seed {}", self.time.as_secs_f64() / 60.0, self.seed);
        table("right answers", &self.counts.right, |kind| (*kind).to_owned());
        table("failures that an injected fault explains", &self.counts.explained, both);
        table("done by rough clients", &self.counts.rough, |kind| (*kind).to_owned());
        table("done by the operator", &self.counts.operated, |kind| (*kind).to_owned());
        table("unexplained failures", &self.counts.unexplained, both);
        println!("  {:-<90}", "");
        let unexplained = Counts::sum(&self.counts.unexplained);
        let (before, after) = self.at_rest;
        let lines = format!("{} of {}", self.lines, self.counts.logged);
        let verdicts = [
            judged("right answers", Counts::sum(&self.counts.right), "some", unanswered(self)),
            judged("unexplained failures", unexplained, "none", unexplained > 0),
            trend("memory, KiB", &self.memory),
            trend("descriptors", &self.descriptors),
            trend("threads", &self.threads),
            at_rest("descriptors at rest", before.descriptors, after.descriptors),
            at_rest("threads at rest", before.threads, after.threads),
            reloads("memory of reloads, KiB", self.reloads, RELOADS_KIB, |sample| sample.rss),
            reloads("descriptors of reloads", self.reloads, 0, |sample| sample.descriptors),
            judged("connections at rest", self.connections, "none", self.connections != 0.0),
            judged("panics", self.panics, "none", self.panics != 0.0),
            judged("log lines counted as lost", self.lines_lost, "none", self.lines_lost != 0.0),
            judged("log lines of right answers", lines, "all", self.lines != self.counts.logged),
            judged("the end", self.end.as_deref().unwrap_or("good"), "good", self.end.is_some()),
        ];
        println!(
            "  at rest after {:.1} s; memory {} KiB before, {} KiB after",
            self.settled.as_secs_f64(),
            before.rss,
            after.rss
        );
        let is_well = verdicts.iter().all(|is_well| *is_well);
        println!("soak: {}", if is_well { "flat and zero" } else { "FAILED" });
        is_well
    }
}

/// Whether a kind of right client never had an answer, though there was time.
fn unanswered(report: &Report) -> bool {
    let kinds = report.counts.right.len();
    kinds < KINDS && report.time >= Duration::from_secs(60)
}

/// How many kinds of right answers there are.
const KINDS: usize = 14;

fn table<K>(title: &str, counts: &BTreeMap<K, u64>, name: impl Fn(&K) -> String) {
    println!("  {title}: {}", Counts::sum(counts));
    for (kind, count) in counts {
        println!("    {:<70}{count:>10}", name(kind));
    }
}

fn both((kind, cause): &(&'static str, String)) -> String {
    format!("{kind}: {cause}")
}

fn judged(name: &str, found: impl Display, wanted: impl Display, is_wrong: bool) -> bool {
    let verdict = if is_wrong { "WRONG" } else { "ok" };
    println!("  {name:<28}{found:>16}   must be: {wanted:<28}{verdict:>8}");
    !is_wrong
}

fn trend(name: &str, trend: &Trend) -> bool {
    let found = format!("{:+.1}/min", trend.slope);
    let (least, most) = trend.range;
    let wanted = format!("<= {:.0}/min ({least} to {most})", trend.limit);
    judged(name, found, wanted, !trend.is_flat())
}

fn reloads(
    name: &str,
    (before, after): (Sample, Sample),
    most: u64,
    figure: fn(&Sample) -> u64,
) -> bool {
    let gained = figure(&after).saturating_sub(figure(&before));
    judged(name, gained, format_args!("<= {most} for {RELOADS} reloads"), gained > most)
}

/// What that many reloads may leave in the allocator: less than a state takes each time.
const RELOADS_KIB: u64 = 512;

fn at_rest(name: &str, before: u64, after: u64) -> bool {
    judged(name, after, format_args!("<= {before}"), after > before)
}
