//! Batch normalizations behind quantized layers: they weigh the layers' errors,
//! and can take up the scales of rows.

use std::collections::HashMap;

use campana_onnx::{AttributeValue, Graph, Model, Node};
use campana_quantize::{Error, ErrorKind, QuantizedModel};
use campana_tensor::{ElementType, Granularity, Partition};

/// What ONNX adds to a variance where the node does not say.
const DEFAULT_EPSILON: f32 = 1e-5;

/// Significant bits that parameters keep: their rounding is 60 dB below them,
/// that of weights about 10 to 30.
const PARAMETER_BITS: u32 = 9;

/// A convolution without a bias whose output goes to a batch normalization
/// alone, all of whose parameters are its own.
struct Follower<'m> {
    weights: &'m str,
    /// Names of scale, bias, mean and variance.
    parameters: [&'m str; 4],
    epsilon: f32,
}

/// All of them, in the graph's order.
fn followers(graph: &Graph) -> Vec<Follower<'_>> {
    let mut readers: HashMap<&str, usize> = HashMap::new();
    for node in &graph.nodes {
        for name in &node.inputs {
            *readers.entry(name).or_default() += 1;
        }
    }
    for output in &graph.outputs {
        *readers.entry(&output.name).or_default() += 1;
    }
    let read_once = |name: &str| readers.get(name) == Some(&1);
    let normalizations: HashMap<&str, &Node> = graph
        .nodes
        .iter()
        .filter(|node| node.op_type == "BatchNormalization" && node.inputs.len() == 5)
        .map(|node| (&*node.inputs[0], node))
        .collect();
    graph
        .nodes
        .iter()
        .filter(|node| node.op_type == "Conv" && node.inputs.len() == 2)
        .filter_map(|node| {
            let output = node.outputs.first()?;
            let next = normalizations.get(&**output)?;
            let parameters = [1, 2, 3, 4].map(|input| &*next.inputs[input]);
            let own = read_once(output)
                && read_once(&node.inputs[1])
                && parameters.iter().all(|name| read_once(name))
                && next.int("training_mode").unwrap_or(0) == 0;
            let epsilon = match next.attribute("epsilon").map(|a| &a.value) {
                Some(AttributeValue::Float(epsilon)) => *epsilon,
                _ => DEFAULT_EPSILON,
            };
            own.then_some(Follower {
                weights: &node.inputs[1],
                parameters,
                epsilon,
            })
        })
        .collect()
}

/// What normalizations multiply each row of weights with, by the weights'
/// names.
pub(crate) fn row_gains(model: &Model) -> HashMap<String, Vec<f32>> {
    let initializers = model.graph.initializers_by_name();
    let read = |name: &str| {
        let tensor = initializers.get(name)?;
        let values = model.read_f32(tensor).ok()?;
        (tensor.element_type == ElementType::F32).then_some(values)
    };
    let mut gains = HashMap::new();
    for follower in followers(&model.graph) {
        let [scale, _, _, variance] = follower.parameters.map(read);
        let (Some(scale), Some(variance)) = (scale, variance) else {
            continue;
        };
        let rows: Vec<f32> = scale
            .iter()
            .zip(&variance)
            .map(|(scale, variance)| scale / (variance + follower.epsilon).sqrt())
            .collect();
        if scale.len() == variance.len() && rows.iter().all(|gain| gain.is_finite()) {
            gains.insert(follower.weights.to_owned(), rows);
        }
    }
    gains
}

/// Gives the scales of rows to the normalizations behind them, which then have
/// a mean of 0 and a variance of 1; and rounds parameters and biases to a few
/// bits.
pub(crate) fn absorb(model: &Model, quantized: &mut QuantizedModel<'_>) -> Result<(), Error> {
    let places: HashMap<String, usize> = quantized
        .tensors
        .iter()
        .enumerate()
        .map(|(place, outcome)| (outcome.tensor.name.to_owned(), place))
        .collect();
    for follower in followers(&model.graph) {
        let place = |name: &str| places.get(name).copied();
        let (Some(weights), [Some(scale), Some(bias), Some(mean), Some(variance)]) =
            (place(follower.weights), follower.parameters.map(place))
        else {
            continue;
        };
        let places = [scale, bias, mean, variance];
        let is_float = |&place: &usize| {
            let outcome = &quantized.tensors[place];
            outcome.quantized.is_none() && outcome.tensor.proto.element_type == ElementType::F32
        };
        if !places.iter().all(is_float) {
            continue;
        }
        let mut values = Vec::new();
        for place in places {
            values.push(values_of(model, quantized, place)?);
        }
        let [scales, biases, means, variances] = &values[..] else {
            unreachable!("four parameters");
        };
        let Some(tensor) = &mut quantized.tensors[weights].quantized else {
            continue;
        };
        let channels = tensor.partition.group_count();
        let steps = match tensor.scale.take() {
            Some((steps, _)) if tensor.scale_unit.is_none() => steps,
            other => {
                tensor.scale = other;
                continue;
            }
        };
        if values.iter().any(|values| values.len() != channels) {
            tensor.scale = Some((steps, campana_codebook::Storage::F32));
            continue;
        }
        tensor.partition = Partition::new(&tensor.shape, None, Granularity::PerTensor);
        let (mut new_scales, mut new_biases) = (Vec::new(), Vec::new());
        for channel in 0..channels {
            let variance = f64::from(variances[channel]) + f64::from(follower.epsilon);
            let gain = f64::from(scales[channel]) / variance.sqrt();
            new_scales.push((gain * f64::from(steps[channel])) as f32);
            new_biases.push((f64::from(biases[channel]) - gain * f64::from(means[channel])) as f32);
        }
        let variance_of_one = vec![1.0 - follower.epsilon; channels];
        let new = [new_scales, new_biases, vec![0.0; channels], variance_of_one];
        for (place, values) in places.into_iter().zip(new) {
            quantized.tensors[place].corrected = Some(values);
        }
    }
    round_parameters(model, quantized)
}

/// Parameters of normalizations and biases with a few significant bits.
fn round_parameters(model: &Model, quantized: &mut QuantizedModel<'_>) -> Result<(), Error> {
    let mut names: Vec<&str> = Vec::new();
    for node in &model.graph.nodes {
        let inputs = match &*node.op_type {
            "BatchNormalization" => 1..5,
            "Conv" | "Gemm" => 2..3,
            _ => continue,
        };
        names.extend(
            node.inputs
                .iter()
                .take(inputs.end)
                .skip(inputs.start)
                .map(|n| &**n),
        );
    }
    for place in 0..quantized.tensors.len() {
        let outcome = &quantized.tensors[place];
        if outcome.quantized.is_some()
            || outcome.tensor.proto.element_type != ElementType::F32
            || !names.contains(&outcome.tensor.name)
        {
            continue;
        }
        let values = values_of(model, quantized, place)?;
        let rounded = values.into_iter().map(|value| {
            // 1 less epsilon must stay so.
            if (0.99..1.0).contains(&value) {
                value
            } else {
                round(value)
            }
        });
        quantized.tensors[place].corrected = Some(rounded.collect());
    }
    Ok(())
}

/// The value with [`PARAMETER_BITS`] significant bits.
fn round(value: f32) -> f32 {
    let hidden = f32::MANTISSA_DIGITS - PARAMETER_BITS;
    let rounded = (value.to_bits() + (1 << (hidden - 1))) & !((1 << hidden) - 1);
    let rounded = f32::from_bits(rounded);
    if rounded.is_finite() { rounded } else { value }
}

fn values_of(
    model: &Model,
    quantized: &QuantizedModel<'_>,
    place: usize,
) -> Result<Vec<f32>, Error> {
    let outcome = &quantized.tensors[place];
    if let Some(values) = &outcome.corrected {
        return Ok(values.clone());
    }
    model.read_f32(outcome.tensor.proto).map_err(|error| {
        let message = format!("cannot read tensor '{}'", outcome.tensor.name);
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    })
}
