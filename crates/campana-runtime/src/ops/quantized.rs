//! Affine-quantized tensors: `value = scale (code - zero point)`.

use campana_kernels::gemm::PackedMatrix;
use campana_tensor::{ElementType, Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, count_of, floats, ints, one, tensor};
use super::convolution::{ConvExtents, convolve};
use super::linear::{MatmulShape, matmul_shape, product};
use super::shape::cast;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "QuantizeLinear" => quantize,
        "DequantizeLinear" => dequantize,
        "QLinearConv" => conv,
        "QLinearMatMul" => matmul,
        "ConvInteger" => conv_integer,
        "MatMulInteger" => matmul_integer,
        "DynamicQuantizeLinear" => dynamic_quantize,
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

/// Codes less their zero points, as floats.
fn centred(
    codes: &Tensor,
    zeros: Option<&Tensor>,
    zero_of: impl Fn(usize) -> usize,
) -> Result<Vec<f32>, Fault> {
    let zeros = zeros.map_or_else(|| Ok(vec![0]), ints)?;
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

/// Products of centred bytes that a float32 sums exactly: 255 * 255 * 256 < 2^24.
const EXACT_PRODUCTS: usize = 256;

/// Codes of `sum * multiplier` in the output's scale.
fn requantize(
    sums: &[i64],
    multiplier: impl Fn(usize) -> f32,
    zero: &Tensor,
) -> Result<TensorData, Fault> {
    let kind = zero.data().element_type();
    let (low, high) = range_of(kind)?;
    let offset = ints(zero)?.first().copied().unwrap_or(0) as f64;
    let codes = sums.iter().enumerate().map(|(i, &sum)| {
        (f64::from((sum as f32 * multiplier(i)).round_ties_even()) + offset).clamp(low, high)
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

/// The sums of a convolution of codes, exact.
fn conv_sums(
    call: &Call<'_>,
    extents: &ConvExtents,
    input: &[f32],
    weights: &[f32],
) -> Result<Vec<i64>, Fault> {
    let mut sums = vec![0i64; count_of(&extents.output_shape())?];
    convolve(call, extents, input, weights, EXACT_PRODUCTS, |at, sum| {
        sums[at] += sum as i64;
    })?;
    Ok(sums)
}

fn conv(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (input, weights) = (call.input(0)?, call.input(3)?);
    let extents = ConvExtents::of(call, input.shape(), weights.shape())?;
    let filters = extents.filters;
    let per_filter: usize = weights.shape()[1..].iter().product();
    let x = centred(input, Some(call.input(2)?), |_| 0)?;
    let w = centred(weights, Some(call.input(5)?), |i| i / per_filter.max(1))?;
    let bias = call.optional_ints(8)?.unwrap_or_default();
    let (x_scale, y_scale) = (scalar(call, 1)?, scalar(call, 6)?);
    let (_, w_scales) = call.floats(4)?;
    if w_scales.len() != 1 && w_scales.len() != filters || !bias.is_empty() && bias.len() != filters
    {
        return Err(Fault::invalid(format!(
            "{} scales and {} biases for {filters} filters",
            w_scales.len(),
            bias.len(),
        )));
    }
    let mut sums = conv_sums(call, &extents, &x, &w)?;
    let pixels = extents.windows.output.iter().product::<usize>().max(1);
    let filter_of = |i: usize| i / pixels % filters.max(1);
    if !bias.is_empty() {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += bias[filter_of(i)];
        }
    }
    let multiplier =
        |i: usize| x_scale * w_scales[if w_scales.len() == 1 { 0 } else { filter_of(i) }] / y_scale;
    let data = requantize(&sums, multiplier, call.input(7)?)?;
    Ok(vec![tensor(extents.output_shape(), data)?])
}

fn conv_integer(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (input, weights) = (call.input(0)?, call.input(1)?);
    let extents = ConvExtents::of(call, input.shape(), weights.shape())?;
    let per_filter: usize = weights.shape()[1..].iter().product();
    let x = centred(input, call.optional(2), |_| 0)?;
    let w = centred(weights, call.optional(3), |i| i / per_filter.max(1))?;
    let sums = conv_sums(call, &extents, &x, &w)?;
    let data = TensorData::I32(sums.iter().map(|&sum| sum as i32).collect());
    Ok(vec![tensor(extents.output_shape(), data)?])
}

/// The sums of a matrix product of codes, exact.
fn matmul_sums(
    call: &Call<'_>,
    shape: &MatmulShape,
    left: &[f32],
    right: &[f32],
) -> Result<Vec<i64>, Fault> {
    let (rows, depth, columns) = (shape.rows, shape.depth, shape.columns);
    let mut sums = vec![0i64; count_of(&[shape.pairs.len(), rows, columns])?];
    let mut part = vec![0.0f32; rows * columns];
    for (i, &(l, r)) in shape.pairs.iter().enumerate() {
        let (left, right) = (&left[l * rows * depth..], &right[r * depth * columns..]);
        let target = &mut sums[i * rows * columns..][..rows * columns];
        for start in (0..depth).step_by(EXACT_PRODUCTS) {
            call.check_interrupt()?;
            let len = EXACT_PRODUCTS.min(depth - start);
            let block: Vec<f32> = (0..rows)
                .flat_map(|row| &left[row * depth + start..][..len])
                .copied()
                .collect();
            let packed = PackedMatrix::pack(len, columns, |r, c| right[(start + r) * columns + c]);
            product(call, &block, &packed, rows, &mut part);
            for (sum, part) in target.iter_mut().zip(&part) {
                *sum += *part as i64;
            }
        }
    }
    Ok(sums)
}

/// The zero point's index of each element of the left operand: one for all, or one a row.
fn row_of(shape: &MatmulShape) -> impl Fn(usize) -> usize {
    let (rows, depth) = (shape.rows.max(1), shape.depth.max(1));
    move |i| i / depth % rows
}

fn matmul(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (a, b) = (call.input(0)?, call.input(3)?);
    let shape = matmul_shape(a.shape(), b.shape())?;
    let columns = shape.columns.max(1);
    let left = centred(a, Some(call.input(2)?), row_of(&shape))?;
    let right = centred(b, Some(call.input(5)?), |i| i % columns)?;
    let (_, b_scales) = call.floats(4)?;
    if b_scales.len() != 1 && b_scales.len() != columns {
        return Err(Fault::unsupported(format!(
            "{} scales for {columns} columns",
            b_scales.len()
        )));
    }
    let sums = matmul_sums(call, &shape, &left, &right)?;
    let (a_scale, y_scale) = (scalar(call, 1)?, scalar(call, 6)?);
    let multiplier =
        |i: usize| a_scale * b_scales[if b_scales.len() == 1 { 0 } else { i % columns }] / y_scale;
    let data = requantize(&sums, multiplier, call.input(7)?)?;
    Ok(vec![tensor(shape.shape, data)?])
}

fn matmul_integer(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let shape = matmul_shape(a.shape(), b.shape())?;
    let columns = shape.columns.max(1);
    let left = centred(a, call.optional(2), row_of(&shape))?;
    let right = centred(b, call.optional(3), |i| i % columns)?;
    let sums = matmul_sums(call, &shape, &left, &right)?;
    let data = TensorData::I32(sums.iter().map(|&sum| sum as i32).collect());
    Ok(vec![tensor(shape.shape, data)?])
}

/// Codes of 8 bits over the range of the values, which is made to hold zero.
fn dynamic_quantize(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(0.0, f32::max);
    let scale = (high - low) / 255.0;
    // Zeros alone have no scale of their own.
    let divisor = if scale > 0.0 { scale } else { 1.0 };
    let zero = (-low / divisor).round_ties_even().clamp(0.0, 255.0);
    let code = |&v: &f32| ((v / divisor).round_ties_even() + zero).clamp(0.0, 255.0) as u8;
    Ok(vec![
        tensor(
            shape.to_vec(),
            TensorData::U8(values.iter().map(code).collect()),
        )?,
        tensor(vec![], TensorData::F32(vec![scale]))?,
        tensor(vec![], TensorData::U8(vec![zero as u8]))?,
    ])
}
