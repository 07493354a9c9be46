//! Graphs from files.

use std::path::Path;

use super::{Result, container, onnx};
use crate::graph::Graph;

/// Reads the ONNX model in a file, weights included; one in a container is
/// unpacked in memory.
///
/// # Errors
///
/// As [`onnx::graph`], and where the file cannot be read as ONNX.
pub fn load(path: impl AsRef<Path>) -> Result<Graph> {
    onnx::graph(&container::open(path)?)
}
