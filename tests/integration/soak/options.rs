//! What the command line asks for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long, how, and what is broken on purpose.
pub struct Options {
    /// How long the load lasts.
    pub time: Duration,
    /// What all decisions are drawn from.
    pub seed: u64,
    /// What the soak itself does wrong, to show that it notices.
    pub spoil: Option<Spoil>,
}

/// A fault that nothing explains.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// Now and then an application gives a right client another answer.
    Answers,
    /// Clients connect, ask, and never go.
    Descriptors,
}

/// How it is called.
pub const USAGE: &str = "usage: tests/soak [--minutes N] [--seed S] [--spoil answers|descriptors]
  --minutes  how long the load lasts; fractions are allowed; 2 unless told otherwise
  --seed     what all decisions are drawn from; another one each time unless told otherwise
  --spoil    does something wrong on purpose: the soak must fail";

impl Options {
    /// Reads the arguments of the program.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = u64::from(now.subsec_nanos()) ^ now.as_secs();
        let mut options = Self { time: Duration::from_secs(120), seed, spoil: None };
        while let Some(key) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{key} needs a value"))?;
            let wrong = || format!("{key} cannot be {value:?}");
            match key.as_str() {
                "--minutes" => {
                    let minutes: f64 = value.parse().map_err(|_| wrong())?;
                    let time = Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| wrong())?;
                    options.time = time.max(Duration::from_secs(6));
                }
                "--seed" => options.seed = value.parse().map_err(|_| wrong())?,
                "--spoil" => {
                    options.spoil = Some(match value.as_str() {
                        "answers" => Spoil::Answers,
                        "descriptors" => Spoil::Descriptors,
                        _ => return Err(wrong()),
                    });
                }
                _ => return Err(format!("{key} is not known")),
            }
        }
        Ok(options)
    }
}
