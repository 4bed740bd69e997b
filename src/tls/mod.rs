//! Certificates: where they come from and which one is shown.
//!
//! [`certificates`] decides for every site and asks [`files`] or [`local_ca`]; the result goes into
//! the table of [`store`], which [`server`] shows to clients under one set of rules. An authority
//! that is asked over the network joins as one more module next to these two.

pub mod certificates;
pub mod files;
pub mod local_ca;
mod mint;
pub mod facts;
pub mod storage;
pub mod trust;
pub mod store;
pub mod server;
pub mod tickets;
pub mod client;

#[cfg(test)]
mod testing;

pub use certificates::{CertificateError, CertificateInfo, Certificates, Source, survey};
pub use client::client_config;
pub use server::{ServerConfigs, server_config};
pub use tickets::Tickets;
