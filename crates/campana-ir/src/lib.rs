//! One in-memory model, and every file format to and from it.
//!
//! [`graph`] is what a runtime executes: nodes, attributes, constants.
//! [`mod@format`] makes it from files.
//! [`decoder`] finds the weights that a quantized model computes from codes.
//! [`weights`] says which tensors of a model are weights.
#![forbid(unsafe_code)]

pub mod decoder;
pub mod fixed_inputs;
pub mod format;
pub mod graph;
pub mod infer;
pub mod network;
pub mod op;
mod precision;
pub mod weights;
