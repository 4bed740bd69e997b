//! The one thread that writes the program's own words.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::metrics::SharedCounter;

/// Lines that may wait to be written.
const WAITING: usize = 256;

/// How often to try to get into a queue that is full.
const GLANCE: Duration = Duration::from_millis(5);

/// What travels to the thread.
#[derive(Debug)]
pub(super) enum Line {
    /// A whole line, with its end.
    Text(Vec<u8>),
    /// Everything before this is to be written by now.
    Flush(SyncSender<()>),
}

/// Starts the thread that writes to `out`. What could not be written is counted in `lost`, as is
/// what the others could not get into the queue; once something can be written again, the line that
/// `behind` makes of the number is.
///
/// # Errors
/// When the system has no thread.
pub(super) fn start(
    out: impl Write + Send + 'static,
    lost: Arc<SharedCounter>,
    behind: impl Fn(u64) -> Vec<u8> + Send + 'static,
) -> io::Result<SyncSender<Line>> {
    let (queue, waiting) = sync_channel(WAITING);
    // Read here: what is lost before the thread first runs is to be told as well.
    let told = lost.get();
    let write = move || write_all_that_comes(&waiting, out, &lost, told, behind);
    thread::Builder::new().name("program-log".to_owned()).spawn(write)?;
    Ok(queue)
}

/// Waits, at most for `patience`, until what is in the queue is written.
pub(super) fn finish(queue: &SyncSender<Line>, patience: Duration) {
    let deadline = Instant::now() + patience;
    let (done, when_done) = sync_channel(1);
    let mut flush = Line::Flush(done);
    while let Err(error) = queue.try_send(flush) {
        if Instant::now() >= deadline {
            return;
        }
        flush = match error {
            std::sync::mpsc::TrySendError::Full(flush) => flush,
            std::sync::mpsc::TrySendError::Disconnected(_) => return,
        };
        thread::sleep(GLANCE);
    }
    // Who does not take it by then is not waited for.
    let _ = when_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
}

fn write_all_that_comes(
    waiting: &Receiver<Line>,
    mut out: impl Write,
    lost: &SharedCounter,
    mut told: u64,
    behind: impl Fn(u64) -> Vec<u8>,
) {
    let mut torn = false;
    while let Ok(line) = waiting.recv() {
        if let Line::Text(text) = &line
            && write_whole(&mut out, text, &mut torn).is_err()
        {
            lost.add(1);
            continue;
        }
        let all = lost.get();
        if all != told && write_whole(&mut out, &behind(all.wrapping_sub(told)), &mut torn).is_ok()
        {
            told = all;
        }
        if let Line::Flush(done) = line {
            // Who asked may have gone.
            let _ = done.try_send(());
        }
    }
}

/// Writes a line; where only a piece of the last one got out, on a line of its own.
fn write_whole(out: &mut impl Write, line: &[u8], torn: &mut bool) -> io::Result<()> {
    if *torn {
        out.write_all(b"\n")?;
        *torn = false;
    }
    let mut rest = line;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                *torn = !rest.is_empty();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Takes bytes while it is open; is full, or takes none at all, while not.
    #[derive(Clone, Default)]
    struct Place {
        text: Arc<Mutex<Vec<u8>>>,
        is_full: Arc<AtomicBool>,
        stuck: Arc<Mutex<()>>,
    }

    impl Write for Place {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            drop(self.stuck.lock().unwrap());
            if self.is_full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Place {
        fn text(&self) -> String {
            String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
        }
    }

    fn started() -> (Place, SyncSender<Line>, Arc<SharedCounter>) {
        let (place, lost) = (Place::default(), Arc::new(SharedCounter::default()));
        let behind = |lines| format!("{lines} lost\n").into_bytes();
        let queue = start(place.clone(), Arc::clone(&lost), behind).unwrap();
        (place, queue, lost)
    }

    fn text(text: &str) -> Line {
        Line::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_that_no_disk_takes_are_counted_and_told_when_it_does() {
        let (place, queue, lost) = started();
        queue.send(text("one\n")).unwrap();
        finish(&queue, PATIENCE);
        place.is_full.store(true, Ordering::SeqCst);
        queue.send(text("two\n")).unwrap();
        queue.send(text("three\n")).unwrap();
        finish(&queue, PATIENCE);
        assert_eq!(lost.get(), 2);
        place.is_full.store(false, Ordering::SeqCst);
        queue.send(text("four\n")).unwrap();
        finish(&queue, PATIENCE);
        assert_eq!(place.text(), "one\nfour\n2 lost\n");
    }

    /// Who said something waited for whoever reads standard error, and requests waited with it.
    #[test]
    fn a_pipe_that_nobody_empties_holds_up_nobody() {
        let (place, queue, lost) = started();
        let held = place.stuck.lock().unwrap();
        let mut said = 0;
        while queue.try_send(text("line\n")).is_ok() {
            said += 1;
        }
        lost.add(1);
        assert!(said >= WAITING, "{said}");
        let before = Instant::now();
        finish(&queue, Duration::from_millis(20));
        assert!(before.elapsed() < PATIENCE);
        drop(held);
        finish(&queue, PATIENCE);
        assert!(place.text().contains("1 lost\n"));
        assert_eq!(place.text().matches("line\n").count(), said);
    }
}
