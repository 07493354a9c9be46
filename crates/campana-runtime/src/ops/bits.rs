//! Operators on the bits of whole numbers, and tests of single elements.

use campana_tensor::{ElementType, Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, tensor};
use super::indexing::{broadcast_indices, broadcast_shape};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => bitwise,
        "BitwiseNot" => not,
        "BitCast" => bit_cast,
        "IsInf" => is_infinite,
        _ => return None,
    })
}

/// What is done with two whole numbers.
#[derive(Clone, Copy, Debug)]
enum Bitwise {
    And,
    Or,
    Xor,
    Left,
    Right,
}

/// A whole number of any width.
trait Bits: Copy {
    fn combine(self, with: Self, op: Bitwise) -> Self;
}

macro_rules! bits {
    ($($type:ty),*) => {
        $(impl Bits for $type {
            fn combine(self, with: Self, op: Bitwise) -> Self {
                match op {
                    Bitwise::And => self & with,
                    Bitwise::Or => self | with,
                    Bitwise::Xor => self ^ with,
                    // All bits are shifted out by the width and more; the sign stays.
                    Bitwise::Left => u32::try_from(with).ok().and_then(|by| self.checked_shl(by)).unwrap_or(0),
                    Bitwise::Right => u32::try_from(with)
                        .ok()
                        .and_then(|by| self.checked_shr(by))
                        .unwrap_or(self >> (<$type>::BITS - 1) >> u32::from(<$type>::MIN == 0)),
                }
            }
        })*
    };
}
bits!(u8, u16, u32, u64, i8, i16, i32, i64);

fn bitwise(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let op = match call.node.op_type.as_str() {
        "BitwiseAnd" => Bitwise::And,
        "BitwiseOr" => Bitwise::Or,
        "BitwiseXor" => Bitwise::Xor,
        _ => match call.string("direction", "")? {
            "LEFT" => Bitwise::Left,
            "RIGHT" => Bitwise::Right,
            other => return Err(Fault::invalid(format!("direction {other:?}"))),
        },
    };
    let (x, y) = (call.input(0)?, call.input(1)?);
    let shape = broadcast_shape(&[x.shape(), y.shape()])?;
    call.count(&shape, x.data().element_type())?;
    let left = broadcast_indices(x.shape(), &shape);
    let right = broadcast_indices(y.shape(), &shape);
    macro_rules! typed {
        ($($variant:ident),*) => {
            match (x.data(), y.data()) {
                $((TensorData::$variant(p), TensorData::$variant(q)) => TensorData::$variant(
                    left.iter().zip(&right).map(|(&i, &j)| p[i].combine(q[j], op)).collect(),
                ),)*
                (p, q) => return Err(Fault::unsupported(format!(
                    "elements of {} and {}", p.element_type(), q.element_type()
                ))),
            }
        };
    }
    let data = typed!(U8, U16, U32, U64, I8, I16, I32, I64);
    Ok(vec![tensor(shape, data)?])
}

fn not(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    macro_rules! typed {
        ($($variant:ident),*) => {
            match input.data() {
                $(TensorData::$variant(values) => {
                    TensorData::$variant(values.iter().map(|&v| !v).collect())
                })*
                other => return Err(Fault::unsupported(format!("elements of {}", other.element_type()))),
            }
        };
    }
    let data = typed!(U8, U16, U32, U64, I8, I16, I32, I64);
    Ok(vec![tensor(input.shape().to_vec(), data)?])
}

/// The elements as their bytes, little end first.
fn bytes(data: &TensorData) -> Result<Vec<u8>, Fault> {
    macro_rules! typed {
        ($($variant:ident),*) => {
            match data {
                $(TensorData::$variant(values) => {
                    values.iter().flat_map(|v| v.to_le_bytes()).collect()
                })*
                TensorData::Bool(values) => values.iter().map(|&v| u8::from(v)).collect(),
                other => return Err(Fault::unsupported(format!("bits of {}", other.element_type()))),
            }
        };
    }
    Ok(typed!(
        F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64
    ))
}

fn bit_cast(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let kind = ElementType::from_onnx(call.int("to", 0)? as i32);
    let bytes = bytes(input.data())?;
    macro_rules! typed {
        ($($element:ident $variant:ident $type:ty),*) => {
            match kind {
                $(ElementType::$element => TensorData::$variant(
                    bytes
                        .chunks_exact(size_of::<$type>())
                        .filter_map(|chunk| Some(<$type>::from_le_bytes(chunk.try_into().ok()?)))
                        .collect(),
                ),)*
                ElementType::Bool => TensorData::Bool(bytes.iter().map(|&v| v != 0).collect()),
                other => return Err(Fault::unsupported(format!("bits as {other}"))),
            }
        };
    }
    let data = typed!(
        F32 F32 f32, F64 F64 f64, F16 F16 half::f16, Bf16 Bf16 half::bf16, I8 I8 i8, U8 U8 u8,
        I16 I16 i16, U16 U16 u16, I32 I32 i32, U32 U32 u32, I64 I64 i64, U64 U64 u64
    );
    Ok(vec![tensor(input.shape().to_vec(), data)?])
}

fn is_infinite(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    let positive = call.int("detect_positive", 1)? != 0;
    let negative = call.int("detect_negative", 1)? != 0;
    let found = |&v: &f64| v.is_infinite() && (if v > 0.0 { positive } else { negative });
    let data = TensorData::Bool(values.iter().map(found).collect());
    Ok(vec![tensor(shape.to_vec(), data)?])
}
