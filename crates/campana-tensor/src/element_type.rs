//! The types a tensor's elements can have.

use core::fmt;

/// Type of a tensor's elements; the numbers are those of ONNX's
/// `TensorProto.DataType`, the widest list in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// 32-bit IEEE float.
    F32,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// UTF-8 string.
    String,
    /// Boolean, one byte each.
    Bool,
    /// 16-bit IEEE float.
    F16,
    /// 64-bit IEEE float.
    F64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// The upper half of an IEEE 32-bit float.
    Bf16,
    /// Unsigned 4-bit integer, two a byte, first element in the low bits.
    U4,
    /// Signed 4-bit integer, two a byte, first element in the low bits.
    I4,
    /// Any other number of ONNX's list (complex, 8-bit floats, later ones).
    Other(i32),
}

impl ElementType {
    /// The type that ONNX gives this number.
    pub fn from_onnx(number: i32) -> Self {
        match number {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            4 => Self::U16,
            5 => Self::I16,
            6 => Self::I32,
            7 => Self::I64,
            8 => Self::String,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            12 => Self::U32,
            13 => Self::U64,
            16 => Self::Bf16,
            21 => Self::U4,
            22 => Self::I4,
            other => Self::Other(other),
        }
    }

    /// ONNX's number of this type.
    pub fn to_onnx(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::U8 => 2,
            Self::I8 => 3,
            Self::U16 => 4,
            Self::I16 => 5,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::String => 8,
            Self::Bool => 9,
            Self::F16 => 10,
            Self::F64 => 11,
            Self::U32 => 12,
            Self::U64 => 13,
            Self::Bf16 => 16,
            Self::U4 => 21,
            Self::I4 => 22,
            Self::Other(number) => number,
        }
    }

    /// Whether elements are floats of a width that is known here.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// Bits of one element in a raw buffer; `None` for strings and types
    /// whose width is not known here.
    pub fn bits(self) -> Option<usize> {
        match self {
            Self::U4 | Self::I4 => Some(4),
            Self::U8 | Self::I8 | Self::Bool => Some(8),
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => Some(16),
            Self::F32 | Self::I32 | Self::U32 => Some(32),
            Self::F64 | Self::I64 | Self::U64 => Some(64),
            Self::String | Self::Other(_) => None,
        }
    }

    /// Bytes that `count` elements take in a raw buffer; `None` where
    /// [`bits`](Self::bits) is `None` or the size overflows.
    pub fn len_bytes(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits()?)?.div_ceil(8))
    }
}

/// From the name that is displayed, which is NumPy's.
impl core::str::FromStr for ElementType {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        use ElementType::{
            Bf16, Bool, F16, F32, F64, I4, I8, I16, I32, I64, String, U4, U8, U16, U32, U64,
        };
        let all = [
            F32, F64, F16, Bf16, I64, I32, I16, I8, I4, U64, U32, U16, U8, U4, Bool, String,
        ];
        let mut all = all.into_iter();
        all.find(|known| alloc::format!("{known}") == name)
            .ok_or(())
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::F32 => "float32",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::String => "string",
            Self::Bool => "bool",
            Self::F16 => "float16",
            Self::F64 => "float64",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::Bf16 => "bfloat16",
            Self::U4 => "uint4",
            Self::I4 => "int4",
            Self::Other(number) => return write!(f, "ONNX element type {number}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn onnx_numbers_survive_the_round_trip() {
        for number in 0..40 {
            assert_eq!(ElementType::from_onnx(number).to_onnx(), number);
        }
    }

    #[test]
    fn odd_counts_of_four_bit_elements_fill_the_last_byte() {
        assert_eq!(ElementType::U4.len_bytes(5), Some(3));
        assert_eq!(ElementType::F32.len_bytes(usize::MAX), None);
    }
}
