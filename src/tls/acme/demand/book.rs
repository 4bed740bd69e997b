//! What is remembered of names, and what may be done for one: pure rules that take the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::bucket::Bucket;

/// For how long a yes holds whose certificate could not be begun at once.
const YES: Duration = Duration::from_secs(600);

/// For how long a no holds: who is a customer since a minute is let in.
const NO: Duration = Duration::from_secs(60);

/// The same where nobody said no, but something else than yes or nothing.
const TROUBLE: Duration = Duration::from_secs(5);

/// For how long a failure of the authority may keep a name from being looked at again.
const LONGEST: Duration = Duration::from_secs(3600);

/// Questions that are open at once; those that may be asked in one go, all of which come back in
/// ten seconds. A person who calls a new name is one question.
const ASKING: usize = 32;
const QUESTIONS: u32 = 100;
const QUESTIONS_IN: Duration = Duration::from_secs(10);

/// Certificates that are being got at once, those that wait for their turn counted.
const GETTING: usize = 64;

/// Names that something is remembered of. With the limits above it is never reached.
const NAMES: usize = 8192;

const MINUTE: Duration = Duration::from_secs(60);

/// What is remembered of names that have no certificate.
#[derive(Debug)]
pub(super) struct Book {
    names: HashMap<Box<str>, Known>,
    asking: usize,
    getting: usize,
    questions: Bucket,
    begun: Bucket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Asking,
    Allowed(Instant),
    Getting,
    Refused(Instant),
}

/// What is to be done for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Whether it may have a certificate is to be asked.
    Ask,
    /// It is to be got.
    Get,
    /// One of the two is under way.
    Wait,
    /// There is none.
    Refuse(Why),
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was asked, or could not be got, a moment ago.
    Remembered,
    /// Too much was asked.
    Questions,
    /// Too many were begun.
    Begun,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    Trouble,
}

impl Book {
    /// An empty one; `a_minute` certificates may be begun.
    pub(super) fn new(a_minute: u32, now: Instant) -> Self {
        Self {
            names: HashMap::new(),
            asking: 0,
            getting: 0,
            questions: Bucket::new(QUESTIONS, QUESTIONS_IN, now),
            begun: Bucket::new(a_minute, MINUTE, now),
        }
    }

    /// Somebody wants a certificate for `name`, and none is kept.
    pub(super) fn want(&mut self, name: &str, now: Instant) -> Step {
        match self.names.get(name) {
            Some(Known::Asking | Known::Getting) => return Step::Wait,
            Some(Known::Refused(until)) if now < *until => return Step::Refuse(Why::Remembered),
            Some(Known::Allowed(until)) if now < *until => return self.begin(name, now),
            _ => {}
        }
        if self.asking >= ASKING || !self.questions.take(now) {
            return Step::Refuse(Why::Questions);
        }
        self.asking += 1;
        self.note(name, Known::Asking, now);
        Step::Ask
    }

    /// What [`Step::Ask`] has come to.
    pub(super) fn answered(&mut self, name: &str, verdict: Verdict, now: Instant) -> Step {
        self.asking = self.asking.saturating_sub(1);
        let known = match verdict {
            Verdict::Yes => Known::Allowed(now + YES),
            Verdict::No => Known::Refused(now + NO),
            Verdict::Trouble => Known::Refused(now + TROUBLE),
        };
        self.note(name, known, now);
        match verdict {
            Verdict::Yes => self.begin(name, now),
            Verdict::No | Verdict::Trouble => Step::Refuse(Why::Remembered),
        }
    }

    /// What [`Step::Get`] has come to; where to nothing, it is not looked at again before so long.
    pub(super) fn got(&mut self, name: &str, result: Result<(), Duration>, now: Instant) {
        self.getting = self.getting.saturating_sub(1);
        match result {
            Ok(()) => drop(self.names.remove(name)),
            Err(wait) => {
                let wait = wait.clamp(Duration::from_secs(1), LONGEST);
                self.note(name, Known::Refused(now + wait), now);
            }
        }
    }

    /// What was answered for this name is forgotten.
    pub(super) fn forget(&mut self, name: &str) {
        if !matches!(self.names.get(name), Some(Known::Asking | Known::Getting)) {
            self.names.remove(name);
        }
    }

    /// Other rules hold from now on: what was answered under the old ones is forgotten.
    pub(super) fn begin_anew(&mut self, a_minute: u32) {
        self.names.retain(|_, known| matches!(known, Known::Asking | Known::Getting));
        self.begun.resize(a_minute);
    }

    fn begin(&mut self, name: &str, now: Instant) -> Step {
        if self.getting >= GETTING || !self.begun.take(now) {
            return Step::Refuse(Why::Begun);
        }
        self.getting += 1;
        self.note(name, Known::Getting, now);
        Step::Get
    }

    fn note(&mut self, name: &str, known: Known, now: Instant) {
        if self.names.len() >= NAMES && !self.names.contains_key(name) {
            let holds = |known: &Known| match known {
                Known::Allowed(until) | Known::Refused(until) => now < *until,
                Known::Asking | Known::Getting => true,
            };
            self.names.retain(|_, known| holds(known));
            if self.names.len() >= NAMES {
                let is_open = |known: &Known| matches!(known, Known::Asking | Known::Getting);
                self.names.retain(|_, known| is_open(known));
            }
        }
        self.names.insert(name.into(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(a_minute: u32) -> (Book, Instant) {
        let now = Instant::now();
        (Book::new(a_minute, now), now)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_name_is_asked_for_once_and_got_once() {
        let (mut book, now) = book(10);
        assert_eq!(book.want("a.de", now), Step::Ask);
        assert_eq!(book.want("a.de", now), Step::Wait);
        assert_eq!(book.answered("a.de", Verdict::Yes, now), Step::Get);
        assert_eq!(book.want("a.de", now), Step::Wait);
        book.got("a.de", Ok(()), now);
        assert!(book.names.is_empty() && book.asking == 0 && book.getting == 0);
    }

    #[test]
    fn a_no_holds_for_a_minute_and_trouble_for_seconds() {
        for (verdict, holds) in [(Verdict::No, NO), (Verdict::Trouble, TROUBLE)] {
            let (mut book, now) = book(10);
            assert_eq!(book.want("a.de", now), Step::Ask);
            assert_eq!(book.answered("a.de", verdict, now), Step::Refuse(Why::Remembered));
            let last = now + holds - SECOND;
            assert_eq!(book.want("a.de", last), Step::Refuse(Why::Remembered));
            assert_eq!(book.want("a.de", now + holds), Step::Ask);
        }
    }

    #[test]
    fn a_yes_is_remembered_until_a_certificate_may_be_begun() {
        let (mut book, now) = book(1);
        for name in ["a.de", "b.de"] {
            assert_eq!(book.want(name, now), Step::Ask);
        }
        assert_eq!(book.answered("a.de", Verdict::Yes, now), Step::Get);
        assert_eq!(book.answered("b.de", Verdict::Yes, now), Step::Refuse(Why::Begun));
        assert_eq!(book.want("b.de", now + 30 * SECOND), Step::Refuse(Why::Begun));
        assert_eq!(book.want("b.de", now + 61 * SECOND), Step::Get);
        assert_eq!(book.want("c.de", now), Step::Ask, "others may be asked for");
    }

    #[test]
    fn what_could_not_be_got_is_left_alone_for_as_long_as_was_said() {
        let (mut book, now) = book(10);
        let mut get = |at, wait| {
            assert_eq!(book.want("a.de", at), Step::Ask);
            assert_eq!(book.answered("a.de", Verdict::Yes, at), Step::Get);
            book.got("a.de", Err(wait), at);
            let held = |book: &mut Book, after| book.want("a.de", at + after);
            assert_eq!(held(&mut book, Duration::ZERO), Step::Refuse(Why::Remembered));
        };
        get(now, 60 * SECOND);
        get(now + 60 * SECOND, Duration::ZERO);
        get(now + 61 * SECOND, 90_000 * SECOND);
        get(now + 61 * SECOND + LONGEST, SECOND);
    }

    #[test]
    fn ten_thousand_random_names_cost_a_few_questions_and_little_memory() {
        let (mut book, now) = book(10);
        let mut asked = 0;
        for number in 0..10_000_u32 {
            let at = now + Duration::from_millis(u64::from(number));
            let name = format!("n{number}.de");
            if book.want(&name, at) == Step::Ask {
                asked += 1;
                book.answered(&name, Verdict::No, at);
            }
        }
        assert!((QUESTIONS..=2 * QUESTIONS).contains(&asked), "{asked} in ten seconds");
        assert!(book.names.len() <= asked as usize);
    }

    #[test]
    fn a_program_that_does_not_answer_is_not_asked_more_than_it_can_hold() {
        let (mut book, now) = book(10);
        let steps: Vec<_> = (0..100).map(|n| book.want(&format!("n{n}.de"), now)).collect();
        assert_eq!(steps.iter().filter(|step| **step == Step::Ask).count(), ASKING);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let (mut book, now) = book(10);
        for number in 0..3 * NAMES {
            book.note(&format!("n{number}.de"), Known::Refused(now + NO), now);
            assert!(book.names.len() <= NAMES);
        }
        book.note("open.de", Known::Getting, now);
        for number in 0..NAMES {
            book.note(&format!("m{number}.de"), Known::Refused(now + NO), now);
        }
        assert_eq!(book.want("open.de", now), Step::Wait, "what is under way is not forgotten");
    }

    #[test]
    fn other_rules_are_asked_at_once() {
        let (mut book, now) = book(10);
        assert_eq!(book.want("a.de", now), Step::Ask);
        book.answered("a.de", Verdict::No, now);
        book.begin_anew(10);
        assert_eq!(book.want("a.de", now), Step::Ask);
    }
}
