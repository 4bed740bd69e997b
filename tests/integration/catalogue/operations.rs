//! What happens to a server in its life: reloads, broken files, full disks, odd clocks, and
//! strangers who write into its logs or knock at its back doors.

mod reloads;
mod certificates;
mod strangers;
mod back_doors;
mod disks;
mod clocks;
mod ends;

use super::stage::{Row, Stage, play};

/// The rows of this section.
pub const ROWS: &[Row] = &[
    ("configuration reload race", reloads::race),
    ("certificate hot reload", certificates::hot_reload),
    ("log injection", strangers::log_injection),
    ("metrics cardinality", strangers::cardinality),
    ("control socket", back_doors::control_socket),
    ("metrics page", back_doors::metrics_page),
    ("request loop", back_doors::request_loop),
    ("privilege", ends::privilege),
    ("PROXY protocol, trusted peers", strangers::proxy_protocol),
    ("full disk", disks::full),
    ("logs that nobody takes", disks::nobody_reads),
    ("clock steps", clocks::steps),
    ("SIGTERM under load", ends::terminated),
    ("SIGKILL and restart", ends::killed),
    ("memory refused", ends::out_of_memory),
];

/// The rows need little of a stage: most start a proxy of their own.
#[test]
fn operations() {
    play(&Stage::shipped(), ROWS);
}
