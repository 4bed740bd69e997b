//! The command line: one file per verb.

pub mod certs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve from the configuration
    Run(ConfigFile),
    /// Certificates: list them, trust the local authority
    Certs(certs::CertsArgs),
}

/// Parses the command line, does what it says and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run(_) => ExitCode::from(exit::FAILED),
        Verb::Certs(args) => ExitCode::from(certs::run(&args)),
    }
}
