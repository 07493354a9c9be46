//! Pools.

use campana_kernels::pooling::Pooling;
use campana_tensor::{Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, extent, floats, one, tensor};
use super::convolution::{Windows, windows};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "MaxPool" | "AveragePool" => pool,
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

fn pool(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let input = call.input(0)?;
    let shape = input.shape();
    let (
        pooling,
        Windows {
            window,
            sliding,
            pads_end,
        },
    ) = window_geometry(call, shape)?;
    let bytes = match input.data() {
        TensorData::U8(values) => Some(values.iter().map(|&v| f32::from(v)).collect::<Vec<_>>()),
        TensorData::I8(values) => Some(values.iter().map(|&v| f32::from(v)).collect()),
        _ => None,
    };
    let values = match &bytes {
        Some(values) => values,
        None => floats(input)?,
    };
    let [height, width] = sliding.input;
    let column_major = call.int("storage_order", 0)? != 0;
    let (mut output, mut places) = (Vec::new(), Vec::new());
    for plane in 0..shape[0] * shape[1] {
        for oy in 0..sliding.output[0] {
            for ox in 0..sliding.output[1] {
                let (mut max, mut sum, mut place, mut inside, mut counted) =
                    (f32::NEG_INFINITY, 0.0, 0, 0, 0);
                for ky in 0..window[0] {
                    for kx in 0..window[1] {
                        let y = oy * sliding.strides[0] + ky * sliding.dilations[0];
                        let x = ox * sliding.strides[1] + kx * sliding.dilations[1];
                        let in_padded = y < sliding.pads_begin[0] + height + pads_end[0]
                            && x < sliding.pads_begin[1] + width + pads_end[1];
                        counted += usize::from(in_padded);
                        let (Some(y), Some(x)) = (
                            y.checked_sub(sliding.pads_begin[0]).filter(|&y| y < height),
                            x.checked_sub(sliding.pads_begin[1]).filter(|&x| x < width),
                        ) else {
                            continue;
                        };
                        let value = values[(plane * height + y) * width + x];
                        if value > max || value.is_nan() {
                            max = value;
                            place = plane * height * width
                                + if column_major {
                                    x * height + y
                                } else {
                                    y * width + x
                                };
                        }
                        sum += f64::from(value);
                        inside += 1;
                    }
                }
                output.push(match pooling {
                    Pooling::Max => max,
                    Pooling::Average => (sum / f64::from(inside.max(1))) as f32,
                    Pooling::AverageWithPadding => (sum / counted.max(1) as f64) as f32,
                });
                places.push(place as i64);
            }
        }
    }
    let mut dims = shape[..2].to_vec();
    dims.extend_from_slice(&sliding.output[4 - shape.len()..]);
    let data = match input.data() {
        TensorData::U8(_) => TensorData::U8(output.iter().map(|&v| v as u8).collect()),
        TensorData::I8(_) => TensorData::I8(output.iter().map(|&v| v as i8).collect()),
        _ => TensorData::F32(output),
    };
    let mut outputs = vec![tensor(dims.clone(), data)?];
    if call.node.outputs.len() > 1 {
        outputs.push(tensor(dims, TensorData::I64(places))?);
    }
    Ok(outputs)
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
