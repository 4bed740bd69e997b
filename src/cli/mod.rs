//! The command line: one file per verb.

pub mod run;
pub mod up;
pub mod check;
pub mod reload;
pub mod status;
pub mod doctor;
pub mod certs;
mod hsts;
mod meant;
pub mod audit;
pub mod ports;
pub mod demo;
pub mod install;
pub mod completions;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::helper;

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
    /// Have the running server take its configuration anew
    Reload(reload::ReloadArgs),
    /// What the running server does, and whether anything needs a person
    Status(status::StatusArgs),
    /// May I bind here? If not: why, and the command that mends it
    Doctor(doctor::DoctorArgs),
    /// Certificates: list, show, export and renew them, trust the local authority
    Certs(certs::CertsArgs),
    /// Front one app, no file needed
    Up(up::UpArgs),
    /// What listens on this host, who holds it, what is wrong with it, and what mends it
    Audit(audit::AuditArgs),
    /// What a port is for, who should reach it, and who listens on it here; works offline
    Ports(ports::PortsArgs),
    /// Show a sample application with the proxy in front
    Demo(demo::DemoArgs),
    /// Write the systemd service, its user and folders, and a first configuration
    Install(install::InstallArgs),
    /// Print the script that completes this program's command line in a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man(completions::ManArgs),
}

/// Parses the command line, does what it says and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = helper::verb() {
        return ExitCode::from(code);
    }
    let cli = Cli::parse();
    let code = match cli.verb {
        Some(Verb::Run(file)) => run::run(&file),
        Some(Verb::Up(args)) => up::run(&args),
        Some(Verb::Check { schema: true, .. }) => check::print_schema(),
        Some(Verb::Check { file, json, .. }) => check::run(&file.config, json),
        Some(Verb::Reload(args)) => reload::run(&args),
        Some(Verb::Status(args)) => status::run(&args),
        Some(Verb::Doctor(args)) => doctor::run(&args),
        Some(Verb::Certs(args)) => certs::run(&args),
        Some(Verb::Audit(args)) => audit::run(&args),
        Some(Verb::Ports(args)) => ports::run(&args),
        Some(Verb::Demo(args)) => demo::run(&args),
        Some(Verb::Install(args)) => install::run(&args, Cli::command()),
        Some(Verb::Completions(args)) => completions::completions(&args, Cli::command()),
        Some(Verb::Man(args)) => completions::man(&args, Cli::command()),
        None if cli.test => check::run(&cli.file.config, false),
        None => Cli::command().error(ErrorKind::MissingSubcommand, "a verb is missing").exit(),
    };
    ExitCode::from(code)
}
