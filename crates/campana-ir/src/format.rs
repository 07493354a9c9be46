//! File formats, to and from the in-memory model.

pub mod container;
mod error;
mod file;
pub mod onnx;

pub use error::{Error, ErrorKind, Result};
pub use file::{load, load_within, parse_within};
