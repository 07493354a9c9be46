//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;

/// Runs the command, once in a process; its exit status. `program` is what
/// starts it as another process.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, args: Vec<OsString>, program: Vec<PathBuf>) -> u8 {
    py.detach(|| campana::main_from(args, program))
}
