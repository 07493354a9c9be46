//! Affine-quantized tensors: `value = scale (code - zero point)`.

use campana_kernels::reference::{ConvShape, reference_conv};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, floats, ints, one, tensor};
use super::convolution::conv_geometry;
use super::linear::{MatmulShape, matmul_shape};
use super::shape::cast;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "QLinearConv" => conv,
        "QLinearMatMul" => matmul,
        _ => return None,
    })
}

/// The index of the parameter (scale, zero point) of each element.
fn parameter_of(call: &Call<'_>, shape: &[usize], scales: &Tensor) -> Result<Vec<usize>, Fault> {
    let count: usize = shape.iter().product();
    if scales.len() == 1 && scales.shape().len() <= 1 {
        return Ok(vec![0; count]);
    }
    let axis = call.axis(1, shape.len())?;
    let inner: usize = shape[axis + 1..].iter().product();
    let block = usize::try_from(call.int("block_size", 0)?).unwrap_or(0);
    if block > 0 {
        let blocks = shape[axis].div_ceil(block);
        let mut expected = shape.to_vec();
        expected[axis] = blocks;
        let fits = scales.shape() == expected;
        if !fits {
            return Err(Fault::invalid(format!(
                "scales {:?} for blocks of {block}",
                scales.shape()
            )));
        }
        let place = |i: usize| {
            (i / inner / shape[axis] * blocks + i / inner % shape[axis] / block) * inner + i % inner
        };
        return Ok((0..count).map(place).collect());
    }
    if scales.len() != shape[axis] {
        return Err(Fault::invalid(format!(
            "{} scales for an axis of {}",
            scales.len(),
            shape[axis]
        )));
    }
    Ok((0..count).map(|i| i / inner % shape[axis]).collect())
}

/// The lowest and the highest code of a type.
pub(crate) fn range_of(kind: ElementType) -> Result<(f64, f64), Fault> {
    Ok(match kind {
        ElementType::U8 => (0.0, 255.0),
        ElementType::I8 => (-128.0, 127.0),
        ElementType::U16 => (0.0, 65_535.0),
        ElementType::I16 => (-32_768.0, 32_767.0),
        other => return Err(Fault::unsupported(format!("codes of {other}"))),
    })
}

fn zero_points(zeros: Option<&Tensor>, count: usize) -> Result<Vec<i64>, Fault> {
    let zeros = zeros.map_or_else(|| Ok(vec![0; count]), ints)?;
    match zeros.len() == count {
        true => Ok(zeros),
        false => Err(Fault::invalid(format!(
            "{} zero points for {count} scales",
            zeros.len()
        ))),
    }
}

fn quantize(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let scales = call.input(1)?;
    let kind = match call.optional(2) {
        Some(zeros) => zeros.data().element_type(),
        None => match call.int("output_dtype", 0)? {
            0 => ElementType::U8,
            number => ElementType::from_onnx(number as i32),
        },
    };
    let (low, high) = range_of(kind)?;
    let places = parameter_of(call, shape, scales)?;
    let zeros = zero_points(call.optional(2), scales.len())?;
    let scales = floats(scales)?;
    let code = |(&value, &at): (&f32, &usize)| {
        let rounded = f64::from((value / scales[at]).round_ties_even());
        (rounded + zeros[at] as f64).clamp(low, high)
    };
    let codes = values.iter().zip(&places).map(code).collect();
    Ok(vec![tensor(
        shape.to_vec(),
        cast(&TensorData::F64(codes), kind)?,
    )?])
}

fn dequantize(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (codes, scales) = (call.input(0)?, call.input(1)?);
    let places = parameter_of(call, codes.shape(), scales)?;
    let zeros = zero_points(call.optional(2), scales.len())?;
    let scales = floats(scales)?;
    let values = ints(codes)?
        .into_iter()
        .zip(places)
        .map(|(code, at)| (code - zeros[at]) as f32 * scales[at])
        .collect();
    one(codes.shape(), values)
}

/// Codes less their zero points, as floats: exact, and so are sums of them below 2^24.
fn centred(
    codes: &Tensor,
    zeros: &Tensor,
    zero_of: impl Fn(usize) -> usize,
) -> Result<Vec<f32>, Fault> {
    let zeros = ints(zeros)?;
    ints(codes)?
        .into_iter()
        .enumerate()
        .map(|(i, code)| {
            let at = if zeros.len() == 1 { 0 } else { zero_of(i) };
            let zero = zeros
                .get(at)
                .ok_or_else(|| Fault::invalid("too few zero points"))?;
            Ok((code - zero) as f32)
        })
        .collect()
}

/// Codes of `sum * multiplier` in the output's scale.
fn requantize(
    sums: &[f32],
    multiplier: impl Fn(usize) -> f32,
    zero: &Tensor,
) -> Result<TensorData, Fault> {
    let kind = zero.data().element_type();
    let (low, high) = range_of(kind)?;
    let offset = ints(zero)?.first().copied().unwrap_or(0) as f64;
    let codes = sums.iter().enumerate().map(|(i, &sum)| {
        (f64::from((sum * multiplier(i)).round_ties_even()) + offset).clamp(low, high)
    });
    cast(&TensorData::F64(codes.collect()), kind)
}

fn scalar(call: &Call<'_>, index: usize) -> Result<f32, Fault> {
    match call.floats(index)?.1 {
        [value] => Ok(*value),
        values => Err(Fault::unsupported(format!(
            "{} scales in input {index}",
            values.len()
        ))),
    }
}

fn conv(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (input, weights) = (call.input(0)?, call.input(3)?);
    let geometry = conv_geometry(call, input.shape(), weights.shape())?;
    let per_filter: usize = weights.shape()[1..].iter().product();
    let x = centred(input, call.input(2)?, |_| 0)?;
    let w = centred(weights, call.input(5)?, |i| i / per_filter)?;
    let bias: Vec<f32> = call
        .optional_ints(8)?
        .unwrap_or_default()
        .iter()
        .map(|&v| v as f32)
        .collect();
    let sliding = geometry.windows.sliding;
    let shape = ConvShape {
        batch: geometry.batch,
        channels: geometry.channels,
        input: sliding.input,
        filters: geometry.filters,
        window: geometry.windows.window,
        strides: sliding.strides,
        dilations: sliding.dilations,
        pads_begin: sliding.pads_begin,
        pads_end: geometry.windows.pads_end,
        groups: geometry.groups,
    };
    let sums = reference_conv(&shape, &x, &w, &bias);
    let (x_scale, y_scale) = (scalar(call, 1)?, scalar(call, 6)?);
    let (_, w_scales) = call.floats(4)?;
    let pixels = sliding.output[0] * sliding.output[1];
    let multiplier = |i: usize| {
        let filter = i / pixels % geometry.filters;
        let w_scale = if w_scales.len() == 1 {
            w_scales[0]
        } else {
            w_scales[filter]
        };
        x_scale * w_scale / y_scale
    };
    if w_scales.len() != 1 && w_scales.len() != geometry.filters {
        return Err(Fault::invalid(format!(
            "{} scales for {} filters",
            w_scales.len(),
            geometry.filters
        )));
    }
    let data = requantize(&sums, multiplier, call.input(7)?)?;
    Ok(vec![tensor(
        geometry.output_shape(input.shape().len()),
        data,
    )?])
}

fn matmul(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (a, b) = (call.input(0)?, call.input(3)?);
    let MatmulShape {
        shape,
        pairs,
        rows,
        depth,
        columns,
    } = matmul_shape(a.shape(), b.shape())?;
    let left = centred(a, call.input(2)?, |_| 0)?;
    let right = centred(b, call.input(5)?, |i| i % columns.max(1))?;
    let (_, b_scales) = call.floats(4)?;
    if b_scales.len() != 1 && b_scales.len() != columns {
        return Err(Fault::unsupported(format!(
            "{} scales for {columns} columns",
            b_scales.len()
        )));
    }
    let mut sums = Vec::new();
    for (l, r) in pairs {
        let (l, r) = (&left[l * rows * depth..], &right[r * depth * columns..]);
        sums.extend(campana_kernels::reference::reference_matmul(
            l, r, rows, depth, columns,
        ));
    }
    let (a_scale, y_scale) = (scalar(call, 1)?, scalar(call, 6)?);
    let multiplier = |i: usize| {
        let b_scale = if b_scales.len() == 1 {
            b_scales[0]
        } else {
            b_scales[i % columns]
        };
        a_scale * b_scale / y_scale
    };
    let data = requantize(&sums, multiplier, call.input(7)?)?;
    Ok(vec![tensor(shape, data)?])
}
