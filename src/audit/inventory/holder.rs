//! What is known of the process behind a socket.

use std::path::PathBuf;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moment;

/// The process that holds a socket. What a process says of itself is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// Its number; of several that hold the socket the service's oldest.
    pub pid: u32,
    /// Its arguments, joined by spaces.
    pub command: String,
    /// Its name, at most 15 bytes (proc_pid_comm(5)).
    pub comm: String,
    /// The program file, without the kernel's ` (deleted)`.
    pub exe: Option<PathBuf>,
    /// Whether that file is still the program that runs.
    pub exe_state: ExeState,
    /// The effective user, by number.
    pub uid: u32,
    /// The same by name, or the number where the system knows no name.
    pub user: String,
    /// The effective capabilities, such as `CAP_NET_BIND_SERVICE`, by number.
    pub capabilities: Vec<String>,
    /// Whether the effective user is root.
    pub is_root: bool,
    /// The systemd service or scope it runs in.
    pub unit: Option<String>,
    /// The systemd socket unit that opened the socket.
    pub socket_unit: Option<String>,
    /// The container it runs in, such as `docker 0123456789ab`.
    pub container: Option<String>,
    /// The Debian package of the program file.
    pub package: Option<String>,
    /// When it was started.
    #[serde(with = "moment::maybe")]
    #[schemars(with = "Option<String>")]
    pub since: Option<SystemTime>,
    /// Further processes that hold the same sockets, by number.
    pub others: Vec<u32>,
}

/// What became of a program file since the process was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExeState {
    /// It is the program that runs.
    Present,
    /// It is gone.
    Deleted,
    /// Another file stands in its place: an upgrade without a restart, mostly.
    Replaced,
    /// This user may not look, or the file is in a mount namespace out of reach.
    #[default]
    Unknown,
}
