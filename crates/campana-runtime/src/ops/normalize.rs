//! Normalization.

use campana_ir::op::BatchNormalization;
use campana_tensor::Tensor;

use super::Operator;
use super::call::{Call, Fault, axis_of, one, one_of};
use super::indexing::{broadcast_indices, broadcast_shape, strides_of};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "BatchNormalization" => batch,
        "InstanceNormalization" => instance,
        "LayerNormalization" => layer,
        "LRN" => local_response,
        "RMSNormalization" => root_mean_square,
        "GroupNormalization" => group,
        "MeanVarianceNormalization" => mean_variance,
        "LpNormalization" => lp,
        _ => return None,
    })
}

/// Training mode normalizes with the batch's own statistics. Before opset 7 it
/// is the default (`is_test`), up to opset 13 several outputs say so, then
/// `training_mode` does.
pub(crate) fn refuse_training(call: &Call<'_>) -> Result<(), Fault> {
    let outputs = call.node.outputs.iter().filter(|name| !name.is_empty());
    let training = match call.opset {
        ..7 => call.int("is_test", 0)? == 0,
        7..14 => outputs.count() > 1,
        _ => call.int("training_mode", 0)? != 0,
    };
    match training {
        true => Err(Fault::unsupported(
            "batch normalization in training mode; export the network for inference \
             (in PyTorch, call eval() before)",
        )),
        false => Ok(()),
    }
}

/// Scale and offset of each channel that a BatchNormalization node amounts to.
pub(crate) fn batch_affine(call: &Call<'_>) -> Result<(Vec<f32>, Vec<f32>), Fault> {
    refuse_training(call)?;
    if call.int("spatial", 1)? == 0 {
        return Err(Fault::unsupported("batch normalization of single pixels"));
    }
    let parameter = |index| Ok(call.floats(index)?.1);
    let parameters = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
    let normalization = BatchNormalization {
        epsilon: call.float("epsilon", 1e-5)?,
        training: false,
    };
    let affine = normalization.affine(parameters);
    let affine = affine.ok_or_else(|| Fault::invalid("parameters of different lengths"))?;
    let channels = affine.into_iter();
    Ok(channels
        .map(|[factor, offset]| (factor as f32, offset as f32))
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

/// The values of a parameter for each element from an axis on, which it is
/// broadcast over.
fn spread(call: &Call<'_>, index: usize, inner: &[usize]) -> Result<Option<Vec<f64>>, Fault> {
    let (Some(parameter), Some(values)) = (call.optional(index), call.optional_reals(index)?)
    else {
        return Ok(None);
    };
    let shape = broadcast_shape(&[parameter.shape(), inner])?;
    if shape != inner {
        return Err(Fault::unsupported(format!(
            "a parameter of shape {:?} for {inner:?}",
            parameter.shape()
        )));
    }
    let places = broadcast_indices(parameter.shape(), inner);
    Ok(Some(places.into_iter().map(|at| values[at]).collect()))
}

fn layer(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let axis = call.axis(-1, shape.len())?;
    let scale = spread(call, 1, &shape[axis..])?;
    let bias = spread(call, 2, &shape[axis..])?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let inner: usize = shape[axis..].iter().product();
    let mut output = values.to_vec();
    let (mut means, mut factors) = (Vec::new(), Vec::new());
    for line in output.chunks_exact_mut(inner.max(1)) {
        let (mean, factor) = moments(line, epsilon);
        means.push(mean as f32);
        factors.push(factor as f32);
        for (i, value) in line.iter_mut().enumerate() {
            let normal = (f64::from(*value) - mean) * factor;
            let scaled = normal * scale.as_ref().map_or(1.0, |scale| scale[i]);
            *value = (scaled + bias.as_ref().map_or(0.0, |bias| bias[i])) as f32;
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

fn root_mean_square(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let axis = call.axis(-1, shape.len())?;
    let scale = spread(call, 1, &shape[axis..])?;
    let epsilon = f64::from(call.float("epsilon", 1e-5)?);
    let inner: usize = shape[axis..].iter().product();
    let mut output = values.to_vec();
    for line in output.chunks_exact_mut(inner.max(1)) {
        let squares: f64 = line.iter().map(|&v| f64::from(v).powi(2)).sum();
        let factor = 1.0 / (squares / inner as f64 + epsilon).sqrt();
        for (i, value) in line.iter_mut().enumerate() {
            let scale = scale.as_ref().map_or(1.0, |scale| scale[i]);
            *value = (f64::from(*value) * factor * scale) as f32;
        }
    }
    one(shape, output)
}

fn group(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let ((_, scale), (_, bias)) = (call.floats(1)?, call.floats(2)?);
    let groups = usize::try_from(call.int("num_groups", 0)?).unwrap_or(0);
    let channels = shape.get(1).copied().unwrap_or(0);
    // Parameters were one a group in opset 18 and are one a channel since.
    let fits = groups > 0
        && channels.is_multiple_of(groups)
        && scale.len() == bias.len()
        && (scale.len() == channels || scale.len() == groups);
    if !fits {
        return Err(Fault::invalid(format!(
            "{} scales and {groups} groups for an input {shape:?}",
            scale.len()
        )));
    }
    let epsilon = call.float("epsilon", 1e-5)?;
    let inner: usize = shape[2..].iter().product();
    let per_group = channels / groups;
    let mut output = values.to_vec();
    for (i, plane) in output
        .chunks_exact_mut((per_group * inner).max(1))
        .enumerate()
    {
        let (mean, factor) = moments(plane, epsilon);
        for (k, value) in plane.iter_mut().enumerate() {
            let channel = i % groups * per_group + k / inner.max(1);
            let at = if scale.len() == channels {
                channel
            } else {
                i % groups
            };
            let normal = (f64::from(*value) - mean) * factor;
            *value = (normal * f64::from(scale[at]) + f64::from(bias[at])) as f32;
        }
    }
    one(shape, output)
}

/// The lines of values that go along these axes: for each the places of its elements.
fn lines(shape: &[usize], axes: &[usize]) -> Vec<Vec<usize>> {
    let strides = strides_of(shape);
    let offsets = |along: bool| {
        (0..shape.len())
            .filter(|axis| axes.contains(axis) == along)
            .fold(vec![0], |offsets: Vec<usize>, axis| {
                let (dim, stride) = (shape[axis], strides[axis]);
                let next = |base: usize| (0..dim).map(move |i| base + i * stride);
                offsets.into_iter().flat_map(next).collect()
            })
    };
    let inner = offsets(true);
    offsets(false)
        .into_iter()
        .map(|base| inner.iter().map(|at| base + at).collect())
        .collect()
}

fn mean_variance(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    /// What the operator's function adds to the deviation.
    const EPSILON: f64 = 1e-9;
    let (shape, mut values) = call.reals(0)?;
    let axes: Vec<usize> = call
        .ints("axes")?
        .unwrap_or(&[0, 2, 3])
        .iter()
        .map(|&axis| axis_of(axis, shape.len()))
        .collect::<Result<_, _>>()?;
    for line in lines(shape, &axes) {
        let count = line.len().max(1) as f64;
        let mean = line.iter().map(|&at| values[at]).sum::<f64>() / count;
        let squares = line
            .iter()
            .map(|&at| (values[at] - mean).powi(2))
            .sum::<f64>()
            / count;
        for at in line {
            values[at] = (values[at] - mean) / (squares.sqrt() + EPSILON);
        }
    }
    one_of(call.kind(0)?, shape, values)
}

fn lp(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, mut values) = call.reals(0)?;
    let axis = call.axis(-1, shape.len())?;
    let p = call.int("p", 2)? as i32;
    for line in lines(shape, &[axis]) {
        let sum: f64 = line.iter().map(|&at| values[at].abs().powi(p)).sum();
        let norm = sum.powf(1.0 / f64::from(p));
        for at in line {
            // Zeros stay zeros.
            values[at] = if norm == 0.0 { 0.0 } else { values[at] / norm };
        }
    }
    one_of(call.kind(0)?, shape, values)
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
