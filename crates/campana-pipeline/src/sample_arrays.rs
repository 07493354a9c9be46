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
        element_type => decode(&file.read_bytes(entry).context(context)?, element_type)
            .ok_or_else(|| {
                let (name, found) = (&entry.name, &entry.type_name);
                Error::new(
                    ErrorKind::Unsupported,
                    format!("the array '{name}' has elements of type {found}"),
                )
            })?,
    };
    let len_differs = || {
        let message = format!("the array '{}' is cut short", entry.name);
        Error::new(ErrorKind::Malformed, message)
    };
    Tensor::new(entry.shape.clone(), data).ok_or_else(len_differs)
}

/// Little-endian elements of the types that inputs of networks have.
fn decode(bytes: &[u8], element_type: ElementType) -> Option<TensorData> {
    Some(match element_type {
        ElementType::I64 => TensorData::I64(elements(bytes, i64::from_le_bytes)),
        ElementType::I32 => TensorData::I32(elements(bytes, i32::from_le_bytes)),
        ElementType::F64 => TensorData::F64(elements(bytes, f64::from_le_bytes)),
        ElementType::U8 => TensorData::U8(bytes.to_vec()),
        ElementType::I8 => TensorData::I8(elements(bytes, i8::from_le_bytes)),
        ElementType::Bool => TensorData::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
        _ => return None,
    })
}

fn elements<const N: usize, T>(bytes: &[u8], decode: fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| decode(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_decoded_by_their_type() {
        let bytes: Vec<u8> = [3i64, -4]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(
            decode(&bytes, ElementType::I64),
            Some(TensorData::I64(vec![3, -4]))
        );
        assert_eq!(
            decode(&[0, 2], ElementType::Bool),
            Some(TensorData::Bool(vec![false, true]))
        );
        assert_eq!(decode(&bytes, ElementType::String), None);
    }
}
