//! The scale of a network's inputs where nobody says it: statistics that the
//! first normalizations remember reveal it.
//!
//! A first layer of weights `W` and bias `b` gives, on inputs `x = a z + c`
//! with `z` synthetic, the variance `a^2 var(W z)` and the mean
//! `a E(W z) + c sum(W) + b` in each channel. The factor follows from the
//! median ratio of variances, the offset by least squares over the channels.
//!
//! Behind more than one layer a normalization [reveals](later) it by a search.
//! Without a normalization the weights themselves are asked: trained layers
//! give outputs of about the deviation of a normalized input. Where the first
//! layer's [gain](UnknownScale::gain) is a hundredth, its inputs are not of
//! deviation 1 but, most likely, pixels from 0 to 255, and
//! synthetic ones are brought to where its outputs have deviation 1.

mod later;

use std::collections::{HashSet, VecDeque};

use campana_ir::graph::{Dim, Graph, Value};
use campana_ir::network::{Layer, Network};
use campana_ir::op::Op;
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_tensor::ElementType;

use crate::correct::activation_cache::ActivationCache;
use crate::correct::statistics::ChannelStatistics;
use crate::indices::index_inputs;
use crate::samples::{Batches, InputScale, Samples};
use crate::scale::later::later_normalization;
use crate::value_sizes::{activation_bytes, fewer_samples};

/// The samples of a network; synthetic ones of unknown scale are brought to
/// that of the first normalizations, where these reveal it, and indices into
/// tables are drawn from their rows.
///
/// # Errors
///
/// As [`Batches::new`].
pub fn batches_for(graph: &Graph, samples: &Samples, len: Option<usize>) -> Result<Batches, Error> {
    let mut batches = match len {
        Some(len) => Batches::of_length(&graph.inputs, samples, len)?,
        None => {
            let batches = Batches::new(&graph.inputs, samples)?;
            match affordable(graph, &batches) {
                Some(fewer) => Batches::of_length(&graph.inputs, samples, fewer)?,
                None => batches,
            }
        }
    };
    if !matches!(samples, Samples::Synthetic { .. }) {
        return Ok(batches);
    }
    let Ok(network) = Network::new(graph) else {
        return Ok(batches);
    };
    for (input, rows) in index_inputs(graph, &network) {
        batches.draw_indices(input, rows);
    }
    if !is_open(samples) {
        return Ok(batches);
    }
    for input in float_inputs(graph) {
        if let Some(normalized) = normalized_inputs(&network, input) {
            if let Some(scale) = normalized.revealed(graph, &batches) {
                batches.rescale(input, scale);
            }
        } else if let Some(normalized) = later_normalization(&network) {
            if let Some(scale) = normalized.revealed(graph, input, samples) {
                batches.rescale(input, scale);
            }
        } else if let Some(gain) = first_gain(&network, input).filter(|gain| !is_usual(*gain)) {
            batches.rescale(input, [gain.recip(), 0.0]);
        }
    }
    Ok(batches)
}

/// Bytes that one value of a batch may take.
const MAX_VALUE_BYTES: usize = 128 << 20;

/// Samples of a batch whose values fit into memory, where those of these batches
/// do not.
fn affordable(graph: &Graph, batches: &Batches) -> Option<usize> {
    let sizes = activation_bytes(graph, batches).into_iter();
    let largest = sizes.map(|(_, bytes)| bytes).max()?;
    fewer_samples(batches, largest, MAX_VALUE_BYTES)
}

/// A float input of which neither the samples nor a normalization tell the
/// scale.
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownScale {
    /// The input's name.
    pub input: String,
    /// The median length of the rows of weights of the first layer that reads
    /// it: the deviation of the layer's outputs on white noise of deviation 1.
    pub gain: Option<f32>,
    /// Whether it has the rank of images (or spectrograms), which synthetic
    /// samples resemble.
    pub is_image: bool,
}

impl UnknownScale {
    /// Whether the weights of the first layer contradict an input of deviation 1.
    pub fn is_unusual(&self) -> bool {
        self.gain.is_some_and(|gain| !is_usual(gain))
    }
}

/// Float inputs of which neither the samples nor a normalization tell the
/// scale; of a network that has no float ones, all that are neither indices nor
/// pictures.
pub fn inputs_of_unknown_scale(graph: &Graph, samples: &Samples) -> Vec<UnknownScale> {
    let Ok(network) = Network::new(graph) else {
        return Vec::new();
    };
    if !is_open(samples) {
        return Vec::new();
    }
    let unknown = |name: &str, shape: Option<&Vec<Dim>>| UnknownScale {
        input: name.to_owned(),
        gain: first_gain(&network, name),
        is_image: shape.is_some_and(|shape| shape.len() == 4),
    };
    let mut floats = float_inputs(graph).peekable();
    if floats.peek().is_none() {
        let indices: Vec<&str> = index_inputs(graph, &network)
            .map(|(name, _)| name)
            .collect();
        let inputs = graph.inputs.iter().filter(|input| !is_picture(input));
        let others = inputs.map(|input| input.name.as_str());
        let others = others.filter(|name| !indices.contains(name));
        return others.map(|name| unknown(name, None)).collect();
    }
    if later_normalization(&network).is_some() {
        return Vec::new();
    }
    floats
        .filter(|input| normalized_inputs(&network, input).is_none())
        .map(|name| {
            let declared = graph.inputs.iter().find(|input| input.name == name);
            unknown(name, declared.and_then(|input| input.shape.as_ref()))
        })
        .collect()
}

/// Axes of a picture without a batch: rows, columns and channels.
const PICTURE_RANK: usize = 3;

/// Whether an input is a picture of bytes: its type tells the scale.
fn is_picture(input: &Value) -> bool {
    let rank = input.shape.as_ref().map_or(0, Vec::len);
    input.element_type == Some(ElementType::U8) && rank >= PICTURE_RANK
}

/// Refuses synthetic samples that would say too little.
///
/// # Errors
///
/// Of kind `Unsupported` where an input is no image and nothing tells its scale;
/// names it.
pub(crate) fn check_synthetic(graph: &Graph, samples: &Samples) -> Result<(), Error> {
    let unknown = inputs_of_unknown_scale(graph, samples);
    match unknown.iter().find(|input| !input.is_image) {
        None => Ok(()),
        Some(UnknownScale { input, .. }) => Err(unsupported(format!(
            "synthetic samples say too little of the input '{input}', which is no image and of unknown scale; \
             give data with --calibrate"
        ))),
    }
}

/// Gains of first layers that read values far from deviation 1, as pixels from
/// 0 to 255 are; rather a choice than a limit. Eight networks for normalized
/// inputs have 0.5 to 3, two for pixels 0.01 and 0.02. Weights still smaller tell
/// nothing of their inputs.
const GAINS_FOR_PIXELS: std::ops::Range<f32> = 1e-3..0.1;

fn is_usual(gain: f32) -> bool {
    !GAINS_FOR_PIXELS.contains(&gain)
}

/// The median length of the rows of weights of the convolution that reads an
/// input, or what only moves its elements; rows of zeros are left out.
fn first_gain(network: &Network<'_>, input: &str) -> Option<f32> {
    let mut open = VecDeque::from([input]);
    let mut seen = HashSet::new();
    let mut layer = None;
    while let Some(name) = open.pop_front().filter(|_| layer.is_none()) {
        let uses = network.uses(name).iter();
        layer = uses.clone().find_map(|usage| {
            let layer = network
                .layer(usage.node)
                .filter(|_| usage.input == Some(0))?;
            matches!(network.op(layer.node), Op::Conv(_)).then_some(layer)
        });
        for usage in uses.filter(|usage| seen.insert(usage.node)) {
            let op = network.op(usage.node);
            if op.moves_elements() || matches!(op, Op::Concat { .. }) {
                open.extend(network.node(usage.node).outputs.iter().map(String::as_str));
            }
        }
    }
    let layer = layer?;
    let (shape, weights) = network.constant(layer.weights)?;
    let row = weights.len() / shape.first().copied().filter(|&rows| rows > 0)?;
    let rows = weights.chunks_exact(row.max(1));
    let mut lengths: Vec<f32> = rows
        .map(|row| row.iter().map(|weight| weight * weight).sum::<f32>().sqrt())
        .filter(|length| length.is_normal())
        .collect();
    lengths.sort_by(f32::total_cmp);
    lengths.get(lengths.len() / 2).copied()
}

fn is_open(samples: &Samples) -> bool {
    matches!(
        samples,
        Samples::Synthetic {
            scale: InputScale::Unknown,
            ..
        }
    )
}

fn float_inputs(graph: &Graph) -> impl Iterator<Item = &str> {
    let floats = graph.inputs.iter().filter(|input| {
        input
            .element_type
            .is_none_or(|element_type| element_type == ElementType::F32)
    });
    floats.map(|input| input.name.as_str())
}

/// An input whose statistics a normalization remembers.
struct Normalized<'g> {
    /// What is normalized: the input, or the output of its first layer.
    value: &'g str,
    means: &'g [f32],
    variances: &'g [f32],
    /// For each channel the sum of the weights, and the bias.
    sums: Vec<f64>,
    biases: Vec<f64>,
}

/// The normalization of an input, or of the first layer that reads it.
fn normalized_inputs<'g>(network: &Network<'g>, input: &str) -> Option<Normalized<'g>> {
    let first = network.uses(input).iter().find_map(|usage| {
        let node = usage.node;
        match network.op(node) {
            Op::BatchNormalization(_) => Some((None, node)),
            _ => {
                let layer = network.layer(node).filter(|_| usage.input == Some(0))?;
                Some((Some(layer), network.normalization(&layer)?))
            }
        }
    });
    let (layer, normalization) = first?;
    let inputs = &network.node(normalization).inputs;
    let (_, means) = network.constant(inputs.get(3)?)?;
    let (_, variances) = network.constant(inputs.get(4)?)?;
    let channels = means.len();
    let (sums, biases) = match &layer {
        Some(layer) => (
            weight_sums(network, layer)?,
            biases(network, layer, channels)?,
        ),
        None => (vec![1.0; channels], vec![0.0; channels]),
    };
    (sums.len() == channels && variances.len() == channels).then(|| Normalized {
        value: inputs[0].as_str(),
        means,
        variances,
        sums,
        biases,
    })
}

/// The sum of each output channel's weights, of a convolution.
fn weight_sums(network: &Network<'_>, layer: &Layer<'_>) -> Option<Vec<f64>> {
    if !matches!(network.op(layer.node), Op::Conv(_)) {
        return None;
    }
    let (shape, weights) = network.constant(layer.weights)?;
    let row = weights.len() / shape.first().copied().filter(|&rows| rows > 0)?;
    let rows = weights.chunks_exact(row.max(1));
    Some(
        rows.map(|row| row.iter().map(|&weight| f64::from(weight)).sum())
            .collect(),
    )
}

fn biases(network: &Network<'_>, layer: &Layer<'_>, channels: usize) -> Option<Vec<f64>> {
    let Some(bias) = network.bias(layer) else {
        return Some(vec![0.0; channels]);
    };
    let (_, values) = network.constant(bias.name)?;
    let values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    (values.len() == channels).then_some(values)
}

impl Normalized<'_> {
    /// Factor and offset that give the remembered statistics.
    fn revealed(&self, graph: &Graph, batches: &Batches) -> Option<[f32; 2]> {
        let cache = ActivationCache::at_inputs(batches.first());
        let mut statistics = ChannelStatistics::default();
        let seen = cache.visit(graph, self.value, 1, |batch| statistics.add(batch, 1));
        seen.ok()?;
        let (means, variances) = (statistics.means(), statistics.variances());
        let mut ratios: Vec<f64> = self
            .variances
            .iter()
            .zip(&variances)
            .map(|(&remembered, &seen)| f64::from(remembered) / seen)
            .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
            .collect();
        ratios.sort_by(f64::total_cmp);
        let factor = ratios.get(ratios.len() / 2)?.sqrt();
        let mut products = [0.0; 2];
        let channels = self.sums.iter().zip(&self.biases);
        let remembered = self.means.iter().zip(&means);
        for ((sum, bias), (remembered, seen)) in channels.zip(remembered) {
            let rest = f64::from(*remembered) - bias - factor * (seen - bias);
            products[0] += sum * rest;
            products[1] += sum * sum;
        }
        let offset = if products[1] > 0.0 {
            products[0] / products[1]
        } else {
            0.0
        };
        let scale = [factor as f32, offset as f32];
        scale.iter().all(|value| value.is_finite()).then_some(scale)
    }
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::Node;
    use campana_tensor::{Tensor, TensorData};

    use super::*;

    /// A network for values from 0 to 255 whose first normalization says so.
    fn network(nodes: Vec<Node>, constants: &[(&str, &[usize], &[f32])]) -> Graph {
        let tensor = |shape: &[usize], values: &[f32]| {
            Tensor::new(shape.to_vec(), TensorData::F32(values.to_vec())).unwrap()
        };
        let extents = [3, 16, 16].map(Dim::Fixed);
        Graph {
            nodes,
            inputs: vec![Value {
                name: "x".into(),
                element_type: Some(ElementType::F32),
                shape: Some([&[Dim::Symbol("N".into())], &extents[..]].concat()),
            }],
            constants: constants
                .iter()
                .map(|(name, shape, values)| ((*name).to_owned(), tensor(shape, values)))
                .collect(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    #[test]
    fn the_first_normalization_reveals_the_scale() {
        let nodes = vec![
            Node::new("Conv", &["x", "w"], &["c"]),
            Node::new(
                "BatchNormalization",
                &["c", "one", "zero", "mean", "variance"],
                &["y"],
            ),
        ];
        // The mean of three channels of mean 120 and deviation about 64.
        let graph = network(
            nodes,
            &[
                ("w", &[1, 3, 1, 1], &[1.0 / 3.0; 3]),
                ("one", &[1], &[1.0]),
                ("zero", &[1], &[0.0]),
                ("mean", &[1], &[120.0]),
                ("variance", &[1], &[4096.0]),
            ],
        );
        let samples = Samples::Synthetic {
            size: None,
            scale: InputScale::Unknown,
        };
        assert!(inputs_of_unknown_scale(&graph, &samples).is_empty());
        let batches = batches_for(&graph, &samples, None).unwrap();
        let mut statistics = ChannelStatistics::default();
        for batch in 0..batches.len() {
            let (_, tensor) = batches.batch(batch).next().unwrap();
            statistics.add(tensor, 0).unwrap();
        }
        let mean = statistics.means().iter().sum::<f64>() / statistics.means().len() as f64;
        assert!((90.0..150.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_scale_that_nothing_tells_is_said_to_be_unknown() {
        let nodes = vec![
            Node::new("Conv", &["x", "w"], &["c"]),
            Node::new("Relu", &["c"], &["y"]),
        ];
        let graph = network(nodes, &[("w", &[1, 3, 1, 1], &[1.0; 3])]);
        let samples = |scale| Samples::Synthetic { size: None, scale };
        let unknown = |scale| inputs_of_unknown_scale(&graph, &samples(scale));
        let found = unknown(InputScale::Unknown);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].input, "x");
        assert!(!found[0].is_unusual());
        assert!(unknown(InputScale::Range([0.0, 1.0])).is_empty());
    }

    #[test]
    fn pictures_of_bytes_need_no_scale() {
        let mut graph = network(vec![Node::new("Identity", &["x"], &["y"])], &[]);
        let samples = Samples::Synthetic {
            size: None,
            scale: InputScale::Unknown,
        };
        graph.inputs[0].element_type = Some(ElementType::U8);
        assert!(inputs_of_unknown_scale(&graph, &samples).is_empty());
        graph.inputs[0].element_type = Some(ElementType::I32);
        assert_eq!(inputs_of_unknown_scale(&graph, &samples).len(), 1);
    }

    #[test]
    fn weights_behind_slices_that_are_joined_tell_of_pixels() {
        let slice = |name: &'static str| Node::new("Slice", &["x", name, "end", "axis"], &[name]);
        let mut concat = Node::new("Concat", &["top", "rest"], &["joined"]);
        let axis = campana_ir::graph::Attribute::Int(1);
        concat.attributes.insert("axis".into(), axis);
        let mut graph = network(
            vec![
                Node::new("Identity", &["x"], &["top"]),
                slice("rest"),
                concat,
                Node::new("Conv", &["joined", "w"], &["c"]),
            ],
            &[("w", &[1, 6, 1, 1], &[0.006; 6])],
        );
        let integers = [("end", i64::MAX), ("axis", 2)];
        graph.constants.extend(integers.map(|(name, value)| {
            let tensor = Tensor::new(vec![1], TensorData::I64(vec![value])).unwrap();
            (name.to_owned(), tensor)
        }));
        graph.nodes[1].inputs[1] = "axis".into();
        let samples = Samples::Synthetic {
            size: None,
            scale: InputScale::Unknown,
        };
        let found = inputs_of_unknown_scale(&graph, &samples);
        assert!(found[0].is_unusual(), "{found:?}");
    }

    #[test]
    fn weights_for_pixels_bring_synthetic_inputs_to_their_scale() {
        let nodes = vec![
            Node::new("Conv", &["x", "w"], &["c"]),
            Node::new("Relu", &["c"], &["y"]),
        ];
        let graph = network(nodes, &[("w", &[1, 3, 1, 1], &[0.006; 3])]);
        let samples = Samples::Synthetic {
            size: None,
            scale: InputScale::Unknown,
        };
        let found = inputs_of_unknown_scale(&graph, &samples);
        assert!(found[0].is_unusual(), "{found:?}");
        let batches = batches_for(&graph, &samples, None).unwrap();
        let (_, tensor) = batches.batch(0).next().unwrap();
        let TensorData::F32(values) = tensor.data() else {
            panic!("{tensor:?}")
        };
        let energy: f32 = values.iter().map(|value| value * value).sum();
        let deviation = (energy / values.len() as f32).sqrt();
        assert!((60.0..140.0).contains(&deviation), "{deviation}");
    }
}
