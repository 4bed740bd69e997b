//! What may follow `cargo bench --bench peers --`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::peer::Peer;
use crate::work::Work;

/// Measure Portcullis beside nginx, HAProxy and Caddy, and print one table.
#[derive(Parser)]
#[command(name = "peers", bin_name = "cargo bench --bench peers --", max_term_width = 100)]
pub(crate) struct Options {
    /// Fewer and shorter rounds: to see that everything runs, not to quote
    #[arg(long)]
    pub(crate) quick: bool,
    /// The kinds of work to measure [default: all]
    #[arg(long, value_name = "WORK,...", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<Work>,
    /// The peers to measure beside Portcullis [default: all that are installed]
    #[arg(long, value_name = "PEER,...", value_delimiter = ',', value_enum)]
    pub(crate) peers: Vec<Peer>,
    /// How often each peer takes its turn [default: 5, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: Option<u16>,
    /// The Portcullis to measure
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_portcullis"))]
    pub(crate) portcullis: PathBuf,
    /// Passed by `cargo bench` to every bench
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// The other things that this program is, started by itself.
#[derive(Subcommand)]
pub(crate) enum Role {
    /// The application behind every proxy
    #[command(hide = true)]
    Origin,
    /// Settles on a CPU and becomes another program
    #[command(hide = true)]
    Launch {
        cpu: usize,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

impl Options {
    /// The kinds of work in the order of the table.
    pub(crate) fn works(&self) -> Vec<Work> {
        let wanted = |work: &Work| self.only.is_empty() || self.only.contains(work);
        Work::ALL.into_iter().filter(wanted).collect()
    }

    /// Portcullis and the peers in the order of the table.
    pub(crate) fn proxies(&self) -> Vec<Peer> {
        let wanted = |peer: &Peer| {
            *peer == Peer::Portcullis || self.peers.is_empty() || self.peers.contains(peer)
        };
        Peer::ALL.into_iter().filter(wanted).collect()
    }

    /// How often each proxy takes its turn; five is the least whose median is worth quoting.
    pub(crate) fn rounds(&self) -> usize {
        usize::from(self.rounds.unwrap_or(if self.quick { 2 } else { 5 }))
    }
}
