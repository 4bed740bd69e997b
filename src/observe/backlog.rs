//! Lines of the access log that found no room in the queue to its writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::metrics::SharedCounter;

/// Counts them, and says so once until the writer has caught up.
#[derive(Debug)]
pub(super) struct Backlog {
    lost: Arc<SharedCounter>,
    /// Those lost since the writer was last known to keep up.
    untold: AtomicU64,
}

impl Backlog {
    /// Counts in `lost` too, with lines that were lost for other reasons.
    pub(super) fn new(lost: Arc<SharedCounter>) -> Self {
        Self { lost, untold: AtomicU64::new(0) }
    }

    /// Lines that were dropped.
    pub(super) fn drop_lines(&self, lines: u64) {
        self.lost.add(lines);
        if lines > 0 && self.untold.fetch_add(lines, Ordering::Relaxed) == 0 {
            tracing::error!(
                "the access log is taken more slowly than it is written; lines are lost until \
                 whoever reads it has caught up"
            );
        }
    }

    /// Nothing waits any more; the number of lines that were lost until now.
    pub(super) fn caught_up(&self) -> u64 {
        let lost = self.untold.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "the access log keeps up again");
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_told_once_it_is_over() {
        let lost = Arc::new(SharedCounter::default());
        let backlog = Backlog::new(Arc::clone(&lost));
        assert_eq!(backlog.caught_up(), 0);
        backlog.drop_lines(3);
        backlog.drop_lines(4);
        assert_eq!((backlog.caught_up(), backlog.caught_up(), lost.get()), (7, 0, 7));
    }
}
