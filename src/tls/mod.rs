//! Certificates: where they come from and which one is shown.
//!
//! [`wanted`] decides for every site and [`certificates`] asks [`files`], [`local_ca`] or what
//! [`acme`] has stored; the result goes into the table of [`store`], which [`server`] shows to
//! clients under one set of rules.

pub mod certificates;
pub mod wanted;
pub mod found;
pub mod overview;
pub mod files;
pub mod local_ca;
pub mod acme;
pub mod ocsp;
pub mod facts;
pub mod storage;
pub mod trust;
pub mod nss;
pub mod store;
pub mod clients;
pub mod policy;
pub mod presented;
pub mod key_log;
pub mod suites;
pub mod hsts;
pub mod server;
pub mod tickets;
pub mod client;

#[cfg(test)]
pub(crate) mod testing;

pub use certificates::{CertificateError, CertificateInfo, Certificates, Source};
pub use client::client_config;
pub use server::{ServerConfigs, server_config};
pub use tickets::Tickets;
pub use wanted::{local_authority, survey};
