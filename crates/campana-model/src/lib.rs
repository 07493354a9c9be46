//! One in-memory model, and every file format to and from it.
//!
//! [`graph`] is what a runtime executes: nodes, attributes, constants.
#![forbid(unsafe_code)]

pub mod graph;
