//! Samples from arrays: a `.npz` with one array for each input by its name, or
//! a `.npy` for the only input.

use std::path::Path;

use campana_calibrate::Samples;
use campana_formats::{TensorEntry, TensorFile};
use campana_ir::graph::Value;
use campana_tensor::{ElementType, Tensor, TensorData};

use crate::error::Context;
use crate::{Error, ErrorKind};

/// Whether a path names arrays rather than images.
pub fn is_arrays(data: &Path) -> bool {
    let extension = data.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        extension.eq_ignore_ascii_case("npy") || extension.eq_ignore_ascii_case("npz")
    })
}

/// At most `count` samples for each of a model's inputs, evenly spread.
///
/// # Errors
///
/// Where the file cannot be read, has no array for an input, or an array has
/// elements that the input does not take.
pub(crate) fn sample_arrays(inputs: &[Value], data: &Path, count: usize) -> Result<Samples, Error> {
    let file = TensorFile::open(data).context(|| format!("cannot read '{}'", data.display()))?;
    let arrays = inputs.iter().map(|input| {
        let entry = entry_of(&file, input, inputs.len()).ok_or_else(|| {
            let message = format!("'{}' has no array '{}'", data.display(), input.name);
            Error::new(ErrorKind::InvalidArgument, message)
        })?;
        Ok((input.name.clone(), read(&file, entry, input)?))
    });
    let arrays = arrays.collect::<Result<_, Error>>()?;
    let context = || format!("cannot use '{}'", data.display());
    Samples::arrays(inputs, arrays, count).context(context)
}

/// The array of an input; a single array serves a single input.
fn entry_of<'f>(file: &'f TensorFile, input: &Value, inputs: usize) -> Option<&'f TensorEntry> {
    let named = file.tensors().iter().find(|entry| entry.name == input.name);
    named.or_else(|| match file.tensors() {
        [single] if inputs == 1 => Some(single),
        _ => None,
    })
}

/// An array as an input takes it: floats of any width as float32.
fn read(file: &TensorFile, entry: &TensorEntry, input: &Value) -> Result<Tensor, Error> {
    let context = || format!("cannot read the array '{}'", entry.name);
    let takes_floats = input
        .element_type
        .is_none_or(|declared| declared == ElementType::F32);
    let data = match entry.element_type {
        _ if takes_floats && entry.is_float() => {
            TensorData::F32(file.read_f32(entry).context(context)?)
        }
        element_type => {
            let bytes = file.read_bytes(entry).context(context)?;
            TensorData::from_le_bytes(element_type, &bytes).ok_or_else(|| {
                let (name, found) = (&entry.name, &entry.type_name);
                Error::new(
                    ErrorKind::Unsupported,
                    format!("the array '{name}' has elements of type {found}"),
                )
            })?
        }
    };
    let len_differs = || {
        let message = format!("the array '{}' is cut short", entry.name);
        Error::new(ErrorKind::Malformed, message)
    };
    Tensor::new(entry.shape.clone(), data).ok_or_else(len_differs)
}
