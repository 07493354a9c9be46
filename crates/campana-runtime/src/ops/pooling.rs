//! Pools.

use campana_kernels::pooling::Pooling;
use campana_tensor::Tensor;

use super::Operator;
use super::call::{Call, Fault, extent, one};
use super::convolution::{Windows, windows};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "GlobalAveragePool" => |call| {
            global(call, |values| {
                (values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64)
                    as f32
            })
        },
        "GlobalMaxPool" => |call| {
            global(call, |values| {
                values.iter().fold(f32::NEG_INFINITY, |max, &v| {
                    if v > max || v.is_nan() { v } else { max }
                })
            })
        },
        _ => return None,
    })
}

/// What a pool node does, and where its windows lie.
pub(crate) fn window_geometry(
    call: &Call<'_>,
    shape: &[usize],
) -> Result<(Pooling, Windows), Fault> {
    let window = match *call.ints("kernel_shape")?.unwrap_or(&[]) {
        [x] if shape.len() == 3 && x > 0 => [1, extent(x)?],
        [y, x] if shape.len() == 4 && x > 0 && y > 0 => [extent(y)?, extent(x)?],
        ref other if shape.len() == 5 || other.len() == 3 => {
            return Err(Fault::unsupported("pools over three axes"));
        }
        ref other => {
            return Err(Fault::invalid(format!(
                "attribute kernel_shape is {other:?}"
            )));
        }
    };
    let pooling = match call.node.op_type.as_str() {
        "MaxPool" => Pooling::Max,
        _ if call.int("count_include_pad", 0)? != 0 => Pooling::AverageWithPadding,
        _ => Pooling::Average,
    };
    Ok((
        pooling,
        windows(call, shape, window, call.int("ceil_mode", 0)? != 0)?,
    ))
}

fn global(call: &Call<'_>, reduce: fn(&[f32]) -> f32) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    if shape.len() < 2 {
        return Err(Fault::invalid(format!("an image of shape {shape:?}")));
    }
    let pixels: usize = shape[2..].iter().product();
    let mut dims = vec![1; shape.len()];
    dims[..2].copy_from_slice(&shape[..2]);
    if pixels == 0 {
        return Err(Fault::invalid("an image without pixels"));
    }
    one(&dims, values.chunks_exact(pixels).map(reduce).collect())
}
