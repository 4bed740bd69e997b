//! Figures, and the tables made of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Result;
use crate::peer::Peer;
use crate::usage::Spent;
use crate::work::Work;

/// From the least to the greatest, as a part of the median: rounds that differ by more are noise.
const SPREAD: f64 = 0.15;

/// What others may use of the proxy's CPU before its figures suffer. With a compiler beside it on
/// the same CPU, nginx was seen to need twice its user time for a small request.
const CALM: f64 = 0.05;

/// What one turn gave.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    /// In the unit of the row; lower is better.
    total: f64,
    /// User and system time, where it is processor time.
    split: Option<(f64, f64)>,
    /// Part of the time that the proxy was busy, where it is processor time.
    busy: Option<f64>,
    /// Part of the time that others used the proxy's CPU.
    pub(crate) disturbed: f64,
}

impl Figure {
    /// Processor time for each of `units`, used within `time`.
    ///
    /// # Errors
    ///
    /// Fails when no work was done.
    pub(crate) fn processor(spent: Spent, units: f64, time: Duration) -> Result<Figure> {
        if units < 1.0 {
            return Err("no work was done".into());
        }
        let Spent { user, system, others } = spent;
        let time = time.as_secs_f64() * 1e6;
        Ok(Figure {
            total: (user + system) / units,
            split: Some((user / units, system / units)),
            busy: Some((user + system) / time),
            disturbed: others / time,
        })
    }

    /// A figure that is one number.
    pub(crate) fn plain(total: f64) -> Figure {
        Figure { total, split: None, busy: None, disturbed: 0.0 }
    }

    /// Whether the proxy had its CPU to itself.
    pub(crate) fn is_calm(&self) -> bool {
        self.disturbed <= CALM
    }

    /// Takes the median of each part.
    fn median(figures: &[Figure]) -> Figure {
        let of = |part: &dyn Fn(&Figure) -> Option<f64>| {
            let values: Vec<f64> = figures.iter().filter_map(part).collect();
            (!values.is_empty()).then(|| median(values))
        };
        let user = of(&|figure| Some(figure.split?.0));
        let system = of(&|figure| Some(figure.split?.1));
        Figure {
            total: of(&|figure| Some(figure.total)).unwrap_or(f64::NAN),
            split: user.zip(system),
            busy: of(&|figure| figure.busy),
            disturbed: of(&|figure| Some(figure.disturbed)).unwrap_or(f64::NAN),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.split {
            Some((user, system)) if self.total < 100.0 => {
                write!(f, "{user:.1} + {system:.1}")?;
            }
            Some((user, system)) => write!(f, "{user:.0} + {system:.0}")?,
            None => write!(f, "{:.1}", self.total)?,
        }
        if let Some(busy) = self.busy {
            write!(f, " ({:.0} %)", busy * 100.0)?;
        }
        if self.is_calm() { Ok(()) } else { f.write_str(" !") }
    }
}

/// All figures of a run.
pub(crate) struct Report {
    rounds: usize,
    columns: Vec<(Peer, String)>,
    figures: BTreeMap<Work, BTreeMap<Peer, Vec<Figure>>>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(rounds: usize) -> Report {
        Report { rounds, columns: Vec::new(), figures: BTreeMap::new(), notes: Vec::new() }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds
    }

    /// Adds a column for `peer`.
    pub(crate) fn column(&mut self, peer: Peer, version: Option<&str>) {
        let title = [peer.name(), version.unwrap_or_default()].join(" ");
        self.columns.push((peer, title.trim_end().to_owned()));
    }

    /// Adds the figure of the next round.
    pub(crate) fn add(&mut self, work: Work, peer: Peer, figure: Figure) {
        self.figures.entry(work).or_default().entry(peer).or_default().push(figure);
    }

    /// Forgets what `peer` did in a row that it did not finish.
    pub(crate) fn drop(&mut self, work: Work, peer: Peer) {
        self.figures.entry(work).or_default().remove(&peer);
    }

    /// Says something now, and again below the tables.
    pub(crate) fn note(&mut self, note: String) {
        eprintln!("{note}");
        self.notes.push(note);
    }

    fn row(&self, work: Work, peer: Peer) -> Option<&[Figure]> {
        self.figures.get(&work)?.get(&peer).map(Vec::as_slice)
    }

    /// The median of Portcullis' figures over those of `peer`, round by round.
    fn ratio(&self, work: Work, peer: Peer) -> String {
        let Some((ours, theirs)) = self.row(work, Peer::Portcullis).zip(self.row(work, peer))
        else {
            return "-".to_owned();
        };
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a.total / b.total).collect();
        let mark = mark(&ratios);
        format!("{:.2}{mark}", median(ratios))
    }

    fn raw(&self, work: Work, peer: Peer) -> String {
        let Some(figures) = self.row(work, peer) else {
            return "-".to_owned();
        };
        let totals: Vec<f64> = figures.iter().map(|figure| figure.total).collect();
        format!("{}{}", Figure::median(figures), mark(&totals))
    }

    /// One Markdown table with a line for each kind of work and a cell for each column.
    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        columns: &[&(Peer, String)],
        cell: impl Fn(Work, Peer) -> String,
    ) -> fmt::Result {
        let titles: String = columns.iter().map(|(_, title)| format!(" {title} |")).collect();
        writeln!(f, "| work | unit |{titles}")?;
        writeln!(f, "| --- | --- |{}", " ---: |".repeat(columns.len()))?;
        for &work in self.figures.keys() {
            let cells: String =
                columns.iter().map(|&&(peer, _)| format!(" {} |", cell(work, peer))).collect();
            writeln!(f, "| {} | {} |{cells}", work.title(), work.unit())?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "On {}, Linux {}.\n", processor(), release())?;
        let (ours, peers): (Vec<_>, Vec<_>) =
            self.columns.iter().partition(|(peer, _)| *peer == Peer::Portcullis);
        if !ours.is_empty() && !peers.is_empty() {
            writeln!(f, "Portcullis / peer, median of {} rounds; lower is better:\n", self.rounds)?;
            self.table(f, &peers, |work, peer| self.ratio(work, peer))?;
            writeln!(f)?;
        }
        writeln!(
            f,
            "Raw, median of {} rounds: user + system (busy part of its CPU):\n",
            self.rounds
        )?;
        let all: Vec<_> = self.columns.iter().collect();
        self.table(f, &all, |work, peer| self.raw(work, peer))?;
        writeln!(f, "\n~ the rounds differ by more than {:.0} %;", SPREAD * 100.0)?;
        writeln!(f, "! others used more than {:.0} % of the proxy's CPU.", CALM * 100.0)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("an unknown processor", |(_, model)| model).to_owned()
}

fn release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_end().to_owned()
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle - 1), at(middle)) }
}

/// Says whether the rounds differ too much for the median to mean anything.
fn mark(values: &[f64]) -> &'static str {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if (most - least) / median(values.to_vec()) > SPREAD { " ~" } else { "" }
}
