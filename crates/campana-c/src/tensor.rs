//! Elements: from the bytes that C gives, and as the bytes that it reads.

use std::borrow::Cow;

use bytemuck::AnyBitPattern;
use campana_runtime::Input;
use campana_tensor::{ElementType, Tensor, TensorData};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::failure::{Failure, Status};

/// Extents that a tensor has at most: more is taken for a struct that was never
/// filled in.
pub(crate) const MAX_RANK: i32 = 64;

/// An input that C gave, checked: floats where they are, a copy of all else.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    shape: Vec<usize>,
    elements: Elements<'a>,
}

#[derive(Debug)]
enum Elements<'a> {
    Floats(Cow<'a, [f32]>),
    Tensor(Tensor),
}

impl<'a> Given<'a> {
    /// An input of these extents and of this many bytes; `what` names it.
    pub(crate) fn new(
        what: &str,
        element_type: i32,
        dims: &[i64],
        bytes: &'a [u8],
    ) -> Result<Self, Failure> {
        let element_type = known(what, element_type)?;
        let shape = extents(what, dims)?;
        let count = shape
            .iter()
            .try_fold(1usize, |count, &extent| count.checked_mul(extent));
        let expected = count.and_then(|count| element_type.len_bytes(count));
        if expected != Some(bytes.len()) {
            let needs = expected.map_or("more bytes than there can be".to_owned(), |len| {
                format!("{len} bytes")
            });
            return Err(Failure::argument(format!(
                "{what} has {} bytes; {element_type} of shape {shape:?} needs {needs}",
                bytes.len()
            )));
        }
        let data = match element_type {
            ElementType::F32 => {
                let floats = match bytemuck::try_cast_slice(bytes) {
                    Ok(floats) => Cow::Borrowed(floats),
                    // Not where floats may lie.
                    Err(_) => Cow::Owned(copied(bytes)),
                };
                let elements = Elements::Floats(floats);
                return Ok(Self { shape, elements });
            }
            ElementType::F64 => TensorData::F64(copied(bytes)),
            ElementType::F16 => {
                TensorData::F16(copied(bytes).into_iter().map(f16::from_bits).collect())
            }
            ElementType::Bf16 => {
                TensorData::Bf16(copied(bytes).into_iter().map(bf16::from_bits).collect())
            }
            ElementType::I8 => TensorData::I8(copied(bytes)),
            ElementType::U8 => TensorData::U8(bytes.to_vec()),
            ElementType::I16 => TensorData::I16(copied(bytes)),
            ElementType::U16 => TensorData::U16(copied(bytes)),
            ElementType::I32 => TensorData::I32(copied(bytes)),
            ElementType::U32 => TensorData::U32(copied(bytes)),
            ElementType::I64 => TensorData::I64(copied(bytes)),
            ElementType::U64 => TensorData::U64(copied(bytes)),
            ElementType::Bool => TensorData::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
            other => return Err(not_taken(what, other)),
        };
        let tensor = Tensor::new(shape.clone(), data)
            .ok_or_else(|| Failure::new(Status::Internal, format!("{what} lost its shape")))?;
        let elements = Elements::Tensor(tensor);
        Ok(Self { shape, elements })
    }

    /// The input as the engine takes it.
    pub(crate) fn input(&self) -> Input<'_> {
        match &self.elements {
            Elements::Floats(data) => Input::F32 {
                shape: &self.shape,
                data,
            },
            Elements::Tensor(tensor) => tensor.into(),
        }
    }
}

/// Elements wherever they lie.
fn copied<T: AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    let elements = bytes.chunks_exact(size_of::<T>());
    elements.map(bytemuck::pod_read_unaligned).collect()
}

/// The type of this number, one that C can hold.
fn known(what: &str, number: i32) -> Result<ElementType, Failure> {
    let element_type = ElementType::from_onnx(number);
    match element_type {
        ElementType::String | ElementType::U4 | ElementType::I4 | ElementType::Other(_) => {
            Err(not_taken(what, element_type))
        }
        _ => Ok(element_type),
    }
}

fn not_taken(what: &str, element_type: ElementType) -> Failure {
    Failure::argument(format!(
        "{what} is of element type {element_type}, which this interface does not take"
    ))
}

fn extents(what: &str, dims: &[i64]) -> Result<Vec<usize>, Failure> {
    let extents = dims.iter().enumerate().map(|(axis, &dim)| {
        usize::try_from(dim)
            .map_err(|_| Failure::argument(format!("{what}: extent {axis} is {dim}")))
    });
    extents.collect()
}

/// The elements as bytes; `None` for strings.
pub(crate) fn bytes(data: &TensorData) -> Option<&[u8]> {
    Some(match data {
        TensorData::F32(values) => bytemuck::cast_slice(values),
        TensorData::F64(values) => bytemuck::cast_slice(values),
        TensorData::F16(values) => bytemuck::cast_slice(values.reinterpret_cast()),
        TensorData::Bf16(values) => bytemuck::cast_slice(values.reinterpret_cast()),
        TensorData::I8(values) => bytemuck::cast_slice(values),
        TensorData::U8(values) => values,
        TensorData::I16(values) => bytemuck::cast_slice(values),
        TensorData::U16(values) => bytemuck::cast_slice(values),
        TensorData::I32(values) => bytemuck::cast_slice(values),
        TensorData::U32(values) => bytemuck::cast_slice(values),
        TensorData::I64(values) => bytemuck::cast_slice(values),
        TensorData::U64(values) => bytemuck::cast_slice(values),
        TensorData::Bool(values) => bytemuck::cast_slice(values),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ONNX's numbers of the types that C can hold.
    const TAKEN: [i32; 13] = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16];

    fn text(given: Result<Given<'_>, Failure>) -> String {
        let failure = given.unwrap_err();
        assert_eq!(failure.status, Status::Argument);
        failure.text
    }

    #[test]
    fn bytes_of_every_type_come_out_as_they_went_in_wherever_they_lie() {
        let memory: Vec<u8> = (0..49).map(|i| i * 5 % 2).collect();
        for number in TAKEN {
            let width = ElementType::from_onnx(number).bits().unwrap() / 8;
            for start in 0..8 {
                let given = &memory[start..start + 5 * width];
                let taken = Given::new("x", number, &[5], given).unwrap();
                match taken.input() {
                    Input::F32 { shape, data } => {
                        assert_eq!(shape, [5]);
                        assert_eq!(bytemuck::cast_slice::<f32, u8>(data), given);
                    }
                    Input::Tensor(tensor) => {
                        assert_eq!(tensor.data().element_type().to_onnx(), number);
                        assert_eq!(bytes(tensor.data()).unwrap(), given);
                    }
                }
            }
        }
    }

    #[test]
    fn every_other_type_is_refused() {
        for number in (-3..40).filter(|number| !TAKEN.contains(number)) {
            let text = text(Given::new("input 'x'", number, &[0], &[]));
            assert!(text.contains("does not take"), "{text}");
        }
    }

    #[test]
    fn lengths_that_contradict_the_shape_are_refused() {
        let message = text(Given::new("input 'x'", 1, &[2, 3], &[0; 23]));
        assert_eq!(
            message,
            "input 'x' has 23 bytes; float32 of shape [2, 3] needs 24 bytes"
        );
        let message = text(Given::new("input 'x'", 7, &[i64::MAX, 4], &[]));
        assert!(
            message.contains("more bytes than there can be"),
            "{message}"
        );
        let message = text(Given::new("input 'x'", 1, &[2, -1], &[]));
        assert_eq!(message, "input 'x': extent 1 is -1");
    }

    #[test]
    fn every_byte_but_zero_is_true() {
        let given = Given::new("x", 9, &[3], &[0, 1, 255]).unwrap();
        let Input::Tensor(tensor) = given.input() else {
            panic!("floats of bools");
        };
        assert_eq!(tensor.data(), &TensorData::Bool(vec![false, true, true]));
    }
}
