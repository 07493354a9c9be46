//! Limits of what files may ask for, for the whole process.

use campana_tensor::Limits;
use pyo3::prelude::*;

use crate::options::Size;

/// Memory that reading one file may take.
#[pyfunction]
pub(crate) fn set_max_memory(size: Size) -> PyResult<()> {
    let bytes = size.bytes("size")?;
    Limits::with_max_memory(usize::try_from(bytes).unwrap_or(usize::MAX)).set_global();
    Ok(())
}
