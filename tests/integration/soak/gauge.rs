//! What the process holds, second by second, and whether that grows.

use std::time::{Duration, Instant};

use crate::harness::Proxy;

/// The samples so far.
pub struct Gauge {
    pid: u32,
    began: Instant,
    samples: Vec<Sample>,
}

/// What the process holds at one time.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Since the load began.
    pub at: Duration,
    /// Resident memory in KiB.
    pub rss: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

/// How one figure went over the second half of the time.
pub struct Trend {
    /// The figure's growth a minute, by least squares.
    pub slope: f64,
    /// The steepest growth a minute that counts as none.
    pub limit: f64,
    /// The least and the greatest figure of the second half.
    pub range: (u64, u64),
}

impl Gauge {
    /// Of this process, from now on.
    pub fn new(proxy: &Proxy) -> Self {
        Self { pid: proxy.pid(), began: Instant::now(), samples: Vec::new() }
    }

    /// Takes a sample.
    pub fn read(&mut self) -> Sample {
        let sample = Sample {
            at: self.began.elapsed(),
            rss: memory(self.pid),
            descriptors: count(self.pid, "fd"),
            threads: count(self.pid, "task"),
        };
        self.samples.push(sample);
        sample
    }

    /// The trend of one figure over the second half. What it may grow by in that time is `slack`
    /// and three times its scatter, because the load is drawn by lot, and a figure that only swings
    /// has some slope, too. In a long run that leaves less for each minute, down to `least`.
    pub fn trend(&self, slack: f64, least: f64, figure: impl Fn(&Sample) -> u64) -> Trend {
        let half = self.samples.last().map_or(Duration::ZERO, |last| last.at / 2);
        let samples: Vec<_> = self.samples.iter().filter(|sample| sample.at >= half).collect();
        let points: Vec<(f64, f64)> = samples
            .iter()
            .map(|sample| (sample.at.as_secs_f64() / 60.0, figure(sample) as f64))
            .collect();
        let figures = || samples.iter().map(|sample| figure(sample));
        let (slope, scatter) = line(&points);
        let minutes = (half.as_secs_f64() / 60.0).max(1e-3);
        Trend {
            slope,
            limit: ((slack + 3.0 * scatter) / minutes).max(least),
            range: (figures().min().unwrap_or(0), figures().max().unwrap_or(0)),
        }
    }
}

impl Trend {
    /// Whether nothing grows.
    pub fn is_flat(&self) -> bool {
        self.slope <= self.limit
    }
}

/// The slope of the line through these points with the least squares, and how far from it they lie
/// (the standard deviation).
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = if below > 0.0 { above / below } else { 0.0 };
    let off = |point: &(f64, f64)| (point.1 - y - slope * (point.0 - x)).powi(2);
    (slope, (points.iter().map(off).sum::<f64>() / count).sqrt())
}

fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0)
}

fn count(pid: u32, what: &str) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, |entries| entries.count() as u64)
}
