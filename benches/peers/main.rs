//! `cargo bench --bench peers`: Portcullis beside nginx, HAProxy and Caddy, in the same run.
//!
//! Every figure is what one unit of work costs the proxy alone: processor time read from `/proc`
//! while the proxy sits on one CPU with one worker, and the load and the origin sit on another.
//! Requests per second would tell more about the load generator than about the proxy. The peers
//! take turns within each round, and ratios are formed within a round, so that a machine whose
//! speed drifts slows all of them alike.
//!
//! The bench needs no preparation: it makes a certificate, starts the origin (this same program
//! in another role) and each proxy on free loopback ports in a temporary directory, and ends and
//! removes all of that again, also when it panics or is interrupted.

mod options;
mod work;
mod peer;
mod configuration;
mod launch;
mod origin;
mod client;
mod proxy;
mod usage;
mod load;
mod bench;
mod report;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Options, Role};

/// What can go wrong here is told to the person who started the bench, and never matched upon.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let mut options = Options::parse();
    let outcome = match options.role.take() {
        None => bench::run(&options),
        Some(Role::Origin) => origin::serve(),
        Some(Role::Launch { cpu, command }) => launch::become_program(cpu, &command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}
