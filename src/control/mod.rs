//! The control plane: state, reload, stop, and the control socket.

pub mod state;
