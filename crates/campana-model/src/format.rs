//! File formats, to and from the in-memory model.

mod error;
pub mod onnx;

pub use error::{Error, ErrorKind, Result};
