//! The native part of the Python package `campana`: thin over the library
//! crates. Long work runs in threads without Python's lock, while the calling
//! thread hears signals and reports progress.
#![forbid(unsafe_code)]

mod array;
mod command;
mod data;
mod error;
mod file;
mod image;
mod job;
mod limits;
mod options;
mod session;
mod tally;

use pyo3::prelude::*;

/// The native module.
#[pymodule]
fn _campana(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<array::Codebook>()?;
    module.add_class::<image::Preparation>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<tally::Tally>()?;
    module.add_function(wrap_pyfunction!(command::main, module)?)?;
    module.add_function(wrap_pyfunction!(array::design, module)?)?;
    module.add_function(wrap_pyfunction!(array::fit, module)?)?;
    module.add_function(wrap_pyfunction!(array::quantize_arrays, module)?)?;
    module.add_function(wrap_pyfunction!(array::inspect_arrays, module)?)?;
    module.add_function(wrap_pyfunction!(file::quantize_file, module)?)?;
    module.add_function(wrap_pyfunction!(file::inspect_file, module)?)?;
    module.add_function(wrap_pyfunction!(file::evaluate_files, module)?)?;
    module.add_function(wrap_pyfunction!(file::model_inputs, module)?)?;
    module.add_function(wrap_pyfunction!(file::data_files, module)?)?;
    module.add_function(wrap_pyfunction!(file::pack_file, module)?)?;
    module.add_function(wrap_pyfunction!(file::unpack_file, module)?)?;
    module.add_function(wrap_pyfunction!(limits::set_max_memory, module)?)?;
    Ok(())
}
