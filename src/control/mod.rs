//! The control plane: state, reload, stop, and the control socket.
