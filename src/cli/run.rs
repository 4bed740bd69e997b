//! Stand-in.

use std::path::PathBuf;

use crate::config::Config;
use crate::downstream::bind::{BoundListener, bind_all};

/// Where a configuration came from.
#[derive(Clone, Debug)]
pub enum ConfigOrigin {
    /// This file.
    File(PathBuf),
    /// The arguments of `up` or `demo`.
    CommandLine,
}

/// Stand-in.
pub fn serve_with(
    config: Config,
    _origin: ConfigOrigin,
    after_bind: impl FnOnce(&[BoundListener]),
) -> u8 {
    let bound = match bind_all(&config.server) {
        Ok(bound) => bound,
        Err(error) => {
            eprintln!("{}", error.explain());
            return error.exit_code();
        }
    };
    match crate::privilege::after_bind(config.server.user.as_deref()) {
        Ok(line) => eprintln!("{line}"),
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    }
    after_bind(&bound);
    loop {
        std::thread::park();
    }
}
