//! The command line: one file per verb.

pub mod check;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

/// Exit codes, as documented in the README.
pub mod exit {
    /// Fine.
    pub const OK: u8 = 0;
    /// The thing asked for failed or needs a person.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// Not permitted: a bind, a key file (`EX_NOPERM` of sysexits).
    pub const NOT_PERMITTED: u8 = 77;
    /// The configuration is wrong (`EX_CONFIG` of sysexits).
    pub const CONFIG: u8 = 78;
}

/// Where the configuration is when nothing else is said.
pub const DEFAULT_CONFIG: &str = "/etc/portcullis/portcullis.toml";

/// `-c FILE`, for every verb that reads the configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

#[derive(Parser)]
#[command(name = "portcullis", version, about, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    /// Is the file right? The same as `check`
    #[arg(short = 't')]
    test: bool,
    #[command(flatten)]
    file: ConfigFile,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve from the configuration
    Run(ConfigFile),
    /// Is the file right? Opens no port and writes nothing
    #[command(visible_alias = "validate")]
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
        /// Print the JSON schema of the file
        #[arg(long, hide = true)]
        schema: bool,
    },
}

/// Parses the command line, does what it says and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.verb {
        Some(Verb::Run(_)) => exit::FAILED,
        Some(Verb::Check { schema: true, .. }) => check::print_schema(),
        Some(Verb::Check { file, json, .. }) => check::run(&file.config, json),
        None if cli.test => check::run(&cli.file.config, false),
        None => Cli::command().error(ErrorKind::MissingSubcommand, "a verb is missing").exit(),
    };
    ExitCode::from(code)
}
