//! Normalization.

use campana_tensor::Tensor;

use super::Operator;
use super::call::{Call, Fault, one};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "BatchNormalization" => batch,
        "InstanceNormalization" => instance,
        "LayerNormalization" => layer,
        "LRN" => local_response,
        _ => return None,
    })
}

/// Scale and offset of each channel that a BatchNormalization node amounts to.
pub(crate) fn batch_affine(call: &Call<'_>) -> Result<(Vec<f32>, Vec<f32>), Fault> {
    if call.int("training_mode", 0)? != 0 || call.int("spatial", 1)? == 0 {
        return Err(Fault::unsupported(
            "batch normalization in training mode or of single pixels",
        ));
    }
    let parameter = |index| Ok(call.floats(index)?.1);
    let [scale, bias, mean, variance]: [&[f32]; 4] =
        [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
    if [bias.len(), mean.len(), variance.len()] != [scale.len(); 3] {
        return Err(Fault::invalid("parameters of different lengths"));
    }
    let epsilon = f64::from(call.float("epsilon", 1e-5)?);
    Ok((0..scale.len())
        .map(|c| {
            let factor = f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt();
            let offset = f64::from(bias[c]) - f64::from(mean[c]) * factor;
            (factor as f32, offset as f32)
        })
        .unzip())
}

fn batch(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let (scale, offset) = batch_affine(call)?;
    if shape
        .get(1)
        .is_some_and(|&channels| channels != scale.len())
    {
        return Err(Fault::invalid(format!(
            "{} channels of parameters for an input {shape:?}",
            scale.len()
        )));
    }
    let inner: usize = shape.iter().skip(2).product();
    let channels = scale.len().max(1);
    let normalize = |(i, &x): (usize, &f32)| {
        let channel = i / inner.max(1) % channels;
        x * scale[channel] + offset[channel]
    };
    one(shape, values.iter().enumerate().map(normalize).collect())
}

/// Mean and `1 / sqrt(variance + epsilon)`.
fn moments(values: &[f32], epsilon: f32) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / count;
    (mean, 1.0 / (variance + f64::from(epsilon)).sqrt())
}

fn instance(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let ((_, scale), (_, bias)) = (call.floats(1)?, call.floats(2)?);
    let epsilon = call.float("epsilon", 1e-5)?;
    if shape.len() < 2 || scale.len() != shape[1] || bias.len() != shape[1] {
        return Err(Fault::invalid(format!(
            "{} scales for an input {shape:?}",
            scale.len()
        )));
    }
    let inner: usize = shape[2..].iter().product();
    let mut output = values.to_vec();
    for (i, plane) in output.chunks_exact_mut(inner.max(1)).enumerate() {
        let (mean, factor) = moments(plane, epsilon);
        let channel = i % shape[1];
        for value in plane {
            let normal = (f64::from(*value) - mean) * factor;
            *value = (normal * f64::from(scale[channel]) + f64::from(bias[channel])) as f32;
        }
    }
    one(shape, output)
}

fn layer(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let (_, scale) = call.floats(1)?;
    let bias = call.optional_floats(2)?;
    let axis = call.axis(-1, shape.len())?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let inner: usize = shape[axis..].iter().product();
    if scale.len() != inner || bias.is_some_and(|bias| bias.len() != inner) {
        return Err(Fault::unsupported(format!(
            "{} scales for {inner} elements",
            scale.len()
        )));
    }
    let mut output = values.to_vec();
    let (mut means, mut factors) = (Vec::new(), Vec::new());
    for line in output.chunks_exact_mut(inner.max(1)) {
        let (mean, factor) = moments(line, epsilon);
        means.push(mean as f32);
        factors.push(factor as f32);
        for (i, value) in line.iter_mut().enumerate() {
            let normal = (f64::from(*value) - mean) * factor * f64::from(scale[i]);
            *value = (normal + bias.map_or(0.0, |bias| f64::from(bias[i]))) as f32;
        }
    }
    let mut outputs = one(shape, output)?;
    let mut reduced = shape.to_vec();
    reduced[axis..].fill(1);
    outputs.extend(one(&reduced, means)?);
    outputs.extend(one(&reduced, factors)?);
    outputs.truncate(call.node.outputs.len());
    Ok(outputs)
}

fn local_response(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let size = usize::try_from(call.int("size", 0)?).unwrap_or(0);
    if shape.len() < 2 || size == 0 {
        return Err(Fault::invalid(format!(
            "a size of {size} over an input {shape:?}"
        )));
    }
    let alpha = f64::from(call.float("alpha", 1e-4)?) / size as f64;
    let beta = f64::from(call.float("beta", 0.75)?);
    let bias = f64::from(call.float("bias", 1.0)?);
    let inner: usize = shape[2..].iter().product();
    let channels = shape[1];
    let value = |i: usize| {
        let (n, c, at) = (i / inner / channels, i / inner % channels, i % inner);
        let from = c.saturating_sub((size - 1) / 2);
        let to = (c + (size - 1).div_ceil(2)).min(channels - 1);
        let sum: f64 = (from..=to)
            .map(|c| f64::from(values[(n * channels + c) * inner + at]).powi(2))
            .sum();
        (f64::from(values[i]) / (bias + alpha * sum).powf(beta)) as f32
    };
    one(shape, (0..values.len()).map(value).collect())
}
