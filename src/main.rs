//! The program: parse the command line, do what it says, exit with a documented code.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis::cli::main()
}
