//! Portcullis: an unprivileged reverse proxy for ports 80 and 443.
//!
//! The life of a connection is the order of the modules: [`config`] says what is wanted,
//! [`privilege`] takes what is needed and gives it up, [`sandbox`] shuts the program in, [`helper`]
//! does what the sandbox forbids and the file allows, [`downstream`] accepts a client,
//! [`tls`] shows it a certificate, [`proxy`] turns its request into a response, [`upstream`]
//! speaks to the application, [`control`] swaps, watches and stops all that, and [`observe`]
//! tells of it. [`cli`] holds one file per verb; [`audit`] looks at the host's sockets.

pub mod cli;
pub mod config;
pub mod privilege;
pub mod sandbox;
pub mod helper;
pub mod worker;
pub mod downstream;
pub mod tls;
pub mod proxy;
pub mod upstream;
pub mod control;
pub mod observe;
pub mod audit;
pub mod shell;
pub mod exit;
