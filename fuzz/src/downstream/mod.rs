//! The side of the clients.

#[path = "../../../src/downstream/guard.rs"]
pub mod guard;
#[path = "../../../src/downstream/field_block.rs"]
pub mod field_block;
#[path = "../../../src/downstream/frames.rs"]
pub mod frames;
#[path = "../../../src/downstream/inspection.rs"]
pub mod inspection;
#[path = "../../../src/downstream/proxy_protocol.rs"]
pub mod proxy_protocol;
