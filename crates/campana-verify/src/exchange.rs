//! What processes exchange: sets of inputs and of outputs, as raw values in one
//! file and their description, JSON, in another.

use std::fs;
use std::path::{Path, PathBuf};

use campana_eval::{Output, OutputSet};
use campana_tensor::{ElementType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, InputSet};

/// What a file of values holds next; little-endian, row-major.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Described {
    name: String,
    /// As NumPy spells it: `float32`, `int64`, `bool`.
    #[serde(rename = "type")]
    type_name: String,
    shape: Vec<usize>,
}

/// The file that describes the values in `path`.
fn description(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Writes sets of inputs and their description.
pub(crate) fn write_inputs(path: &Path, sets: &[InputSet]) -> Result<(), Error> {
    let describe = |(name, tensor): &(String, Tensor)| Described {
        name: name.clone(),
        type_name: tensor.data().element_type().to_string(),
        shape: tensor.shape().to_vec(),
    };
    let described: Vec<Vec<Described>> = sets
        .iter()
        .map(|set| set.iter().map(describe).collect())
        .collect();
    let mut bytes = Vec::new();
    for (name, tensor) in sets.iter().flatten() {
        let own = tensor.data().to_le_bytes().ok_or_else(|| {
            let found = tensor.data().element_type();
            let message = format!("input '{name}' is {found}, which cannot be verified");
            Error::new(ErrorKind::Model, message)
        })?;
        bytes.extend(own);
    }
    write(path, &bytes, &described)
}

/// Reads what [`write_inputs`] wrote.
pub(crate) fn read_inputs(path: &Path) -> Result<Vec<InputSet>, Error> {
    let (bytes, described) = read(path)?;
    let mut bytes = bytes.as_slice();
    let tensor = |one: Described, bytes: &mut &[u8]| {
        let len: usize = one.shape.iter().product();
        let element_type = one.type_name.parse().map_err(|()| cut_short(path))?;
        let data = take(bytes, element_type, len);
        let tensor = data.and_then(|data| Tensor::new(one.shape, data));
        Ok((one.name, tensor.ok_or_else(|| cut_short(path))?))
    };
    let sets = described.into_iter().map(|set| {
        let tensors = set.into_iter().map(|one| tensor(one, &mut bytes));
        tensors.collect::<Result<InputSet, Error>>()
    });
    sets.collect()
}

/// Writes sets of outputs and their description.
pub(crate) fn write_outputs(path: &Path, sets: &[OutputSet]) -> Result<(), Error> {
    let describe = |output: &Output| Described {
        name: output.name.clone(),
        type_name: if output.is_float { "float32" } else { "int64" }.to_owned(),
        shape: output.shape.clone(),
    };
    let described: Vec<Vec<Described>> = sets
        .iter()
        .map(|set| set.iter().map(describe).collect())
        .collect();
    let values = sets.iter().flatten().flat_map(|output| &output.values);
    let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
    write(path, &bytes, &described)
}

/// Reads what [`write_outputs`], or a worker in Python, wrote: float32 whatever
/// the description says of the model's own type.
pub(crate) fn read_outputs(path: &Path) -> Result<Vec<OutputSet>, Error> {
    let (bytes, described) = read(path)?;
    let mut bytes = bytes.as_slice();
    let output = |one: Described, bytes: &mut &[u8]| {
        let len: usize = one.shape.iter().product();
        let Some(TensorData::F32(values)) = take(bytes, ElementType::F32, len) else {
            return Err(cut_short(path));
        };
        Ok(Output {
            name: one.name,
            shape: one.shape,
            is_float: one.type_name.contains("float"),
            values,
        })
    };
    let sets = described.into_iter().map(|set| {
        let outputs = set.into_iter().map(|one| output(one, &mut bytes));
        outputs.collect::<Result<OutputSet, Error>>()
    });
    sets.collect()
}

/// The next `len` values of a type, taken off the front.
fn take(bytes: &mut &[u8], element_type: ElementType, len: usize) -> Option<TensorData> {
    let (own, rest) = bytes.split_at_checked(element_type.len_bytes(len)?)?;
    *bytes = rest;
    TensorData::from_le_bytes(element_type, own)
}

fn cut_short(path: &Path) -> Error {
    let message = format!("'{}' is not as it was written", path.display());
    Error::new(ErrorKind::Io, message)
}

fn write(path: &Path, bytes: &[u8], described: &[Vec<Described>]) -> Result<(), Error> {
    let described = serde_json::to_vec(described).map_err(|_| cut_short(path))?;
    let write = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|error| Error::io("write", path, error))
    };
    write(path, bytes)?;
    write(&description(path), &described)
}

fn read(path: &Path) -> Result<(Vec<u8>, Vec<Vec<Described>>), Error> {
    let read = |path: &Path| fs::read(path).map_err(|error| Error::io("read", path, error));
    let described = read(&description(path))?;
    let described = serde_json::from_slice(&described).map_err(|_| cut_short(path))?;
    Ok((read(path)?, described))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn inputs_of_every_type_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inputs");
        let tensors = [
            TensorData::F32(vec![0.0, -1.5, f32::MIN_POSITIVE, f32::INFINITY]),
            TensorData::F64(vec![0.1; 4]),
            TensorData::F16(vec![f16::from_f32(0.5); 4]),
            TensorData::Bf16(vec![bf16::from_f32(-2.0); 4]),
            TensorData::I64(vec![i64::MIN, -1, 0, 7]),
            TensorData::I32(vec![1; 4]),
            TensorData::I16(vec![-2; 4]),
            TensorData::I8(vec![-3; 4]),
            TensorData::U64(vec![u64::MAX; 4]),
            TensorData::U32(vec![5; 4]),
            TensorData::U16(vec![6; 4]),
            TensorData::U8(vec![255; 4]),
            TensorData::Bool(vec![true, false, true, true]),
        ];
        let set: InputSet = tensors
            .into_iter()
            .enumerate()
            .map(|(i, data)| (format!("in {i}"), Tensor::new(vec![2, 2], data).unwrap()))
            .collect();
        let sets = vec![set.clone(), set];
        write_inputs(&path, &sets).unwrap();
        assert_eq!(read_inputs(&path).unwrap(), sets);
    }

    #[test]
    fn outputs_come_back_and_files_cut_short_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outputs");
        let of = |data| Output::new("y", Tensor::new(vec![2], data).unwrap()).unwrap();
        let sets = vec![
            vec![
                of(TensorData::F32(vec![0.5, -1.0])),
                of(TensorData::I64(vec![3, 4])),
            ],
            vec![of(TensorData::Bool(vec![true, false]))],
        ];
        write_outputs(&path, &sets).unwrap();
        assert_eq!(read_outputs(&path).unwrap(), sets);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[1..]).unwrap();
        assert_eq!(read_outputs(&path).unwrap_err().kind(), ErrorKind::Io);
    }
}
