//! Tensors taken apart and put together along an axis: what loops run over.

use campana_ir::graph::{Dim, Value};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::call::{Fault, axis_of, tensor};
use super::indexing::take;
use super::shape::cast;

/// The extent of an axis.
pub(crate) fn len(of: &Tensor, axis: i64) -> Result<usize, Fault> {
    Ok(of.shape()[axis_of(axis, of.shape().len())?])
}

/// The part of a tensor at one index of an axis, which it does not have any more.
pub(crate) fn index(of: &Tensor, axis: i64, at: usize) -> Result<Tensor, Fault> {
    let axis = axis_of(axis, of.shape().len())?;
    let mut shape = of.shape().to_vec();
    let dim = shape.remove(axis);
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis..].iter().product();
    let places: Vec<usize> = (0..outer)
        .flat_map(|o| {
            let start = (o * dim + at) * inner;
            start..start + inner
        })
        .collect();
    tensor(shape, take(of.data(), &places)?)
}

/// Tensors of the same shape along a new axis; where there are none, what is
/// declared of them says the shape and the type.
pub(crate) fn stacked(parts: &[Tensor], axis: i64, declared: &Value) -> Result<Tensor, Fault> {
    let Some(first) = parts.first() else {
        let dims = declared.shape.iter().flatten().map(|dim| match dim {
            Dim::Fixed(extent) => *extent,
            Dim::Symbol(_) => 0,
        });
        let mut shape: Vec<usize> = dims.collect();
        shape.insert(axis_of(axis, shape.len() + 1)?, 0);
        let kind = declared.element_type.unwrap_or(ElementType::F32);
        return tensor(shape, cast(&TensorData::F32(Vec::new()), kind)?);
    };
    let axis = axis_of(axis, first.shape().len() + 1)?;
    let outer: usize = first.shape()[..axis].iter().product();
    let inner: usize = first.shape()[axis..].iter().product();
    let mut shape = first.shape().to_vec();
    shape.insert(axis, parts.len());
    if parts.iter().any(|part| part.shape() != first.shape()) {
        return Err(Fault::invalid("passes gave outputs of different shapes"));
    }
    macro_rules! stack {
        ($($variant:ident),*) => {
            match first.data() {
                $(TensorData::$variant(_) => {
                    let mut values = Vec::with_capacity(first.len() * parts.len());
                    for o in 0..outer {
                        for part in parts {
                            let TensorData::$variant(from) = part.data() else {
                                return Err(Fault::invalid("passes gave outputs of different types"));
                            };
                            values.extend_from_slice(&from[o * inner..(o + 1) * inner]);
                        }
                    }
                    TensorData::$variant(values)
                })*
                other => return Err(Fault::unsupported(format!("elements of {}", other.element_type()))),
            }
        };
    }
    let data = stack!(
        F32, F64, F16, Bf16, I8, U8, I16, U16, I32, U32, I64, U64, Bool, String
    );
    tensor(shape, data)
}
