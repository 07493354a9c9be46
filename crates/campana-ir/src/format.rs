//! File formats, to and from the in-memory model.

pub mod container;
mod error;
pub mod onnx;

pub use error::{Error, ErrorKind, Result};
