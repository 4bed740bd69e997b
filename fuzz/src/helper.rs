//! What the configuration asks of the program's hooks: every file is one.

pub mod hook {
    pub mod fitness {
        use std::path::Path;

        pub enum Fitness {
            Fit,
            Doubtful(String, String),
            Unfit(String, Option<String>),
        }

        #[must_use]
        pub fn of(_: &Path) -> Fitness {
            Fitness::Fit
        }
    }
}
