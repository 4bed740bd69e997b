//! `portcullis reload`: have the running server take its configuration anew.

use clap::Args;
use serde_json::Value;

use super::{ConfigFile, Stop, say};
use crate::config;
use crate::control::client::{Question, ask};
use crate::exit;

/// The arguments of `portcullis reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Asks the server whose control socket the file names; returns the exit code: 0; 78 when the file
/// is wrong, 1 when something else is, and nothing was changed.
#[must_use]
pub fn run(args: &ReloadArgs) -> u8 {
    // A file that is wrong is told of by the server too, but where it listens stands in the file.
    let socket = match config::load_again(&args.file.config) {
        Ok(loaded) => loaded.config.admin.socket,
        Err(problems) => {
            eprint!("{problems}");
            let text =
                "nothing was changed: a server that runs goes on with what it has".to_owned();
            return Stop { code: exit::CONFIG, text }.tell();
        }
    };
    let answer = match ask(&socket, &Question::Reload { dry_run: args.dry_run }) {
        Ok(answer) => answer,
        Err(error) => return Stop { code: error.code(), text: error.to_string() }.tell(),
    };
    if answer.get("ok") != Some(&Value::Bool(true)) {
        let error = answer.get("error").and_then(Value::as_str).unwrap_or("no reason given");
        let text = format!("nothing was changed:\n{error}");
        return Stop { code: exit::FAILED, text }.tell();
    }
    say(if args.dry_run { "A reload would change this:" } else { "Reloaded:" });
    for change in answer.get("changes").and_then(Value::as_array).into_iter().flatten() {
        say(&format!("  {}", change.as_str().unwrap_or_default()));
    }
    exit::OK
}
