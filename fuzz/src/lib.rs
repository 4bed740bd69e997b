//! The cores of the program that read what strangers send, compiled from its own files without the
//! rest of it, so that all of this builds in a minute; and what the fuzz targets hold them against:
//! second opinions that share no code with what they judge.
//!
//! The modules stand where the program has them. A core that needs more than is here has ceased to
//! be one.

#![allow(dead_code, reason = "what only the rest of the program uses")]

#[path = "../../src/config/mod.rs"]
pub mod config;
pub mod downstream;
pub mod proxy;
pub mod upstream;
pub mod tls;
pub mod sandbox;
pub mod helper;

pub mod cuts;
pub mod messages;
pub mod wire;
pub mod session;
pub mod readers;
