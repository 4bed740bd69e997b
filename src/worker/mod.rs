//! One thread of the data plane and what belongs to it alone.

pub mod deadline;
