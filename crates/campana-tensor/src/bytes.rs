//! Elements as little-endian bytes, and from them.

use alloc::vec::Vec;

use half::{bf16, f16};

use crate::{ElementType, TensorData};

impl TensorData {
    /// The elements as little-endian bytes, row-major, a boolean as 0 or 1;
    /// `None` for strings.
    pub fn to_le_bytes(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::F32(values) => encoded(values, f32::to_le_bytes),
            Self::F64(values) => encoded(values, f64::to_le_bytes),
            Self::F16(values) => encoded(values, f16::to_le_bytes),
            Self::Bf16(values) => encoded(values, bf16::to_le_bytes),
            Self::I8(values) => encoded(values, i8::to_le_bytes),
            Self::U8(values) => values.clone(),
            Self::I16(values) => encoded(values, i16::to_le_bytes),
            Self::U16(values) => encoded(values, u16::to_le_bytes),
            Self::I32(values) => encoded(values, i32::to_le_bytes),
            Self::U32(values) => encoded(values, u32::to_le_bytes),
            Self::I64(values) => encoded(values, i64::to_le_bytes),
            Self::U64(values) => encoded(values, u64::to_le_bytes),
            Self::Bool(values) => encoded(values, |value| [u8::from(value)]),
            Self::String(_) => return None,
        })
    }

    /// The elements of which these are the little-endian bytes; every byte but 0
    /// is true. `None` for strings and types of less than a byte, and where the
    /// bytes are no whole number of elements.
    pub fn from_le_bytes(element_type: ElementType, bytes: &[u8]) -> Option<Self> {
        Some(match element_type {
            ElementType::F32 => Self::F32(decoded(bytes, f32::from_le_bytes)?),
            ElementType::F64 => Self::F64(decoded(bytes, f64::from_le_bytes)?),
            ElementType::F16 => Self::F16(decoded(bytes, f16::from_le_bytes)?),
            ElementType::Bf16 => Self::Bf16(decoded(bytes, bf16::from_le_bytes)?),
            ElementType::I8 => Self::I8(decoded(bytes, i8::from_le_bytes)?),
            ElementType::U8 => Self::U8(bytes.to_vec()),
            ElementType::I16 => Self::I16(decoded(bytes, i16::from_le_bytes)?),
            ElementType::U16 => Self::U16(decoded(bytes, u16::from_le_bytes)?),
            ElementType::I32 => Self::I32(decoded(bytes, i32::from_le_bytes)?),
            ElementType::U32 => Self::U32(decoded(bytes, u32::from_le_bytes)?),
            ElementType::I64 => Self::I64(decoded(bytes, i64::from_le_bytes)?),
            ElementType::U64 => Self::U64(decoded(bytes, u64::from_le_bytes)?),
            ElementType::Bool => Self::Bool(decoded(bytes, |[byte]: [u8; 1]| byte != 0)?),
            _ => return None,
        })
    }
}

fn encoded<const N: usize, T: Copy>(values: &[T], encode: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| encode(value)).collect()
}

fn decoded<const N: usize, T>(bytes: &[u8], decode: fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    let is_whole = rest.is_empty();
    is_whole.then(|| chunks.iter().map(|chunk| decode(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_type_come_back() {
        let all = [
            TensorData::F32(alloc::vec![0.0, -1.5, f32::MIN_POSITIVE, f32::INFINITY]),
            TensorData::F64(alloc::vec![0.1; 4]),
            TensorData::F16(alloc::vec![f16::from_f32(0.5); 4]),
            TensorData::Bf16(alloc::vec![bf16::from_f32(-2.0); 4]),
            TensorData::I64(alloc::vec![i64::MIN, -1, 0, 7]),
            TensorData::I32(alloc::vec![1; 4]),
            TensorData::I16(alloc::vec![-2; 4]),
            TensorData::I8(alloc::vec![-3; 4]),
            TensorData::U64(alloc::vec![u64::MAX; 4]),
            TensorData::U32(alloc::vec![5; 4]),
            TensorData::U16(alloc::vec![6; 4]),
            TensorData::U8(alloc::vec![255; 4]),
            TensorData::Bool(alloc::vec![true, false, true, true]),
        ];
        for data in all {
            let bytes = data.to_le_bytes().unwrap();
            let len = data.element_type().len_bytes(4);
            assert_eq!(Some(bytes.len()), len, "{data:?}");
            let read = TensorData::from_le_bytes(data.element_type(), &bytes);
            assert_eq!(read.as_ref(), Some(&data));
        }
        let cut = TensorData::from_le_bytes(ElementType::I16, &[0; 3]);
        assert_eq!(cut, None);
        let truths = TensorData::from_le_bytes(ElementType::Bool, &[0, 2]);
        assert_eq!(truths, Some(TensorData::Bool(alloc::vec![false, true])));
        assert_eq!(
            TensorData::from_le_bytes(ElementType::String, &[0; 8]),
            None
        );
    }
}
