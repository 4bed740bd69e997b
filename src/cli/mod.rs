//! The command line: one file per verb.

pub mod run;
pub mod up;
pub mod demo;
pub mod completions;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

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

/// Why a verb ends before its work is done.
#[derive(Debug)]
pub struct Stop {
    /// The exit code.
    pub code: u8,
    /// What the operator reads, on standard error.
    pub text: String,
}

impl Stop {
    /// Says it and returns the exit code.
    #[must_use]
    pub fn tell(&self) -> u8 {
        let _ = writeln!(io::stderr(), "portcullis: {}", self.text);
        self.code
    }
}

/// One line for people, on standard output. That nobody reads it is no reason to end.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
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
    /// Front one app, no file needed
    Up(up::UpArgs),
    /// Show a sample application with the proxy in front
    Demo(demo::DemoArgs),
    /// Print the script that completes this program's command line in a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man(completions::ManArgs),
}

/// Parses the command line, does what it says and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run(_) => ExitCode::from(exit::FAILED),
        Verb::Up(args) => ExitCode::from(up::run(&args)),
        Verb::Demo(args) => ExitCode::from(demo::run(&args)),
        Verb::Completions(args) => ExitCode::from(completions::completions(&args, Cli::command())),
        Verb::Man(args) => ExitCode::from(completions::man(&args, Cli::command())),
    }
}
