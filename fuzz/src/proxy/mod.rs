//! A request in, a response out.

pub mod headers;
#[path = "../../../src/proxy/path.rs"]
pub mod path;
#[path = "../../../src/proxy/route.rs"]
pub mod route;
#[path = "../../../src/proxy/view.rs"]
mod view;
