//! Float elements as `f32` and back.

use campana_tensor::ElementType;
use half::{bf16, f16};

/// Little-endian elements as `f32`; empty for types that are no float.
pub(crate) fn decode_f32(bytes: &[u8], element_type: ElementType) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (elements, _) = bytes.as_chunks::<N>();
        elements.iter().map(|&element| value(element)).collect()
    }
    match element_type {
        ElementType::F32 => each(bytes, f32::from_le_bytes),
        ElementType::F16 => each(bytes, |element| f16::from_le_bytes(element).to_f32()),
        ElementType::Bf16 => each(bytes, |element| bf16::from_le_bytes(element).to_f32()),
        ElementType::F64 => each(bytes, |element| f64::from_le_bytes(element) as f32),
        _ => Vec::new(),
    }
}

/// Values as little-endian elements of a float type, each rounded to the
/// nearest; `F32` for any type that is no float.
pub fn encode_f32(values: &[f32], element_type: ElementType) -> Vec<u8> {
    match element_type {
        ElementType::F16 => values
            .iter()
            .flat_map(|&value| f16::from_f32(value).to_le_bytes())
            .collect(),
        ElementType::Bf16 => values
            .iter()
            .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
            .collect(),
        ElementType::F64 => values
            .iter()
            .flat_map(|&value| f64::from(value).to_le_bytes())
            .collect(),
        _ => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}
