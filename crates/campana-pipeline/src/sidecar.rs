//! What a model expects of its images.

use std::path::Path;

use campana_eval::{Sidecar, open_input};

use crate::error::Context;
use crate::{Error, ErrorKind};

/// What a model expects of its input; the file beside it must say so.
///
/// # Errors
///
/// Where there is no such file, or it is damaged.
pub fn sidecar(model: &Path) -> Result<Sidecar, Error> {
    if let Some(sidecar) = Sidecar::beside(model)? {
        return Ok(sidecar);
    }
    // Of a model that is not there none is missed.
    open_input(model).context(|| format!("cannot read '{}'", model.display()))?;
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "'{}' says how images are prepared for '{}', but is not there; write one (README, \"Sidecar\") or \
                 copy the float model's",
            Sidecar::path_of(model).display(),
            model.display()
        ),
    ))
}

/// The model's own sidecar or, where there is none, that of the model that it
/// is compared with.
///
/// # Errors
///
/// Where there is neither, or the one that is there is damaged.
pub fn sidecar_or(model: &Path, reference: Option<&Path>) -> Result<Sidecar, Error> {
    find_sidecar(model, reference)?.map_or_else(|| sidecar(model), Ok)
}

/// As [`sidecar_or`]; `None` where there is neither.
///
/// # Errors
///
/// Where the one that is there is damaged.
pub fn find_sidecar(model: &Path, reference: Option<&Path>) -> Result<Option<Sidecar>, Error> {
    for path in [Some(model), reference].into_iter().flatten() {
        if let Some(found) = Sidecar::beside(path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
