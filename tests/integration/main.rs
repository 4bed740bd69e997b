//! The program from outside: one test binary, one file a topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on should stop where it stands"
)]
#![allow(unreachable_pub, reason = "the harness reads as a library of its own")]

mod harness;
mod selftest;

mod config;
mod redirect;
mod routing;
mod headers;
mod bodies;
mod http2;
mod http2_conformance;
mod websocket;
mod grpc;
mod h2c;
mod timeouts;
mod limits;
mod upstream;
mod reuse;
mod truncation;
mod tls;
mod trust;
mod certificate_files;
mod client_certificates;
mod ocsp;
mod hsts;
mod certs;
mod acme;
mod reload;
mod drain;
mod upgrade;
mod notify;
mod logs;
mod fail2ban;
mod metrics;
mod errors;
mod status;
mod binding;
mod doctor;
mod sandbox;
mod privileges;
mod memory;
mod install;
mod services;
mod packaging;
mod real_clients;
mod scanners;
mod up;
mod demo;
mod inventory;
mod audit;
mod ports;
mod catalogue;
mod mutations;

/// The longest wait for something that should happen at once, on a busy machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
