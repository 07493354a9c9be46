//! What quantizing one tensor alone does to a network's outputs.

use std::collections::{BTreeMap, HashSet};

use campana_design::{Family, lloyd_max};
use campana_ir::graph::{Graph, Node};
use campana_ir::weights::{Role, constant_tensors};
use campana_onnx::Model;
use campana_quantize::graph::{float_graph, replace, unsupported};
use campana_quantize::shared::{GroupParameters, shared_levels};
use campana_quantize::store::{Precision, store};
use campana_quantize::weights::{read_weights, shape};
use campana_quantize::{Error, Progress, check_cancelled};
use campana_rounding::GptqSolver;
use campana_tensor::{Granularity, Partition};

use crate::comparable::with_comparable_outputs;
use crate::correct::activation_cache::{ActivationCache, floats, read_after};
use crate::correct::inputs::{Gatherer, Windows};
use crate::correct::layer::{Rows, solve};
use crate::correct::layer_inputs::MAX_INPUTS;
use crate::correct::moments::{About, InputMoments};
use crate::correct::statistics::{ChannelStatistics, MIN_SEEN_VARIANCE, VARIANCE_FACTORS};
use crate::divergence::Outputs;
use crate::samples::{Batches, Samples};
use crate::scale::batches_for;

/// Widths at which tensors are tried; what lies between and beyond follows
/// from how the error of an optimal quantizer depends on the width.
const TRIED_BITS: [u8; 3] = [1, 2, 4];

/// Pixels of all images that are looked at together, and bounds of the number
/// of images.
const PIXELS: usize = 1 << 20;
const IMAGES: [usize; 2] = [16, 64];

/// What a width costs a network, for one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// The tensor's name.
    pub name: String,
    /// Divergence of the network's outputs with this tensor alone quantized,
    /// at 1 to 8 bits.
    pub divergence: [f64; 8],
    /// Whether photographs would show more: for a layer that no other follows,
    /// on synthetic images. Networks are unsure of these, and what errors of the
    /// last layer do to a sure answer is not seen.
    pub is_underrated: bool,
}

impl Sensitivity {
    /// From the divergence at `TRIED_BITS`: straight in the logarithms of
    /// divergence and squared error between them, and in proportion to the
    /// squared error beyond.
    fn from_tried(name: &str, tried: [f64; TRIED_BITS.len()]) -> Self {
        let mse = |bits: u8| lloyd_max::table(Family::Gaussian, bits).mse;
        let last = TRIED_BITS.len() - 1;
        let mut divergence = [0.0; 8];
        for (bits, divergence) in (1..).zip(&mut divergence) {
            let above = TRIED_BITS.iter().position(|&tried| bits <= tried);
            *divergence = match above {
                Some(0) => tried[0],
                Some(i) => {
                    let [low, high] = [i - 1, i].map(|i| (mse(TRIED_BITS[i]).ln(), tried[i]));
                    let share = (mse(bits).ln() - low.0) / (high.0 - low.0);
                    let [low, high] = [low.1, high.1].map(|d| d.max(f64::MIN_POSITIVE).ln());
                    (low + share * (high - low)).exp()
                }
                None => tried[last] * mse(bits) / mse(TRIED_BITS[last]),
            };
        }
        Self {
            name: name.to_owned(),
            divergence,
            is_underrated: false,
        }
    }
}

/// The sensitivity of every weight tensor that the network reads in the common
/// way: each is quantized alone, corrected as [`correct`](crate::correct())
/// does, and the outputs are compared with those of the float network, on the
/// images (some of them, where they are many).
///
/// # Errors
///
/// Of kind `Unsupported` where the network has not one image input, cannot be
/// run, or computes in other than float32; of kind `Interrupted` where
/// `progress` says so.
pub fn sensitivities(
    model: &Model,
    samples: &Samples,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Sensitivity>, Error> {
    let mut graph = float_graph(model)?;
    if let Some(comparable) = with_comparable_outputs(&graph) {
        graph = comparable;
    }
    let batches = some_of(batches_for(&graph, samples, None)?);
    let images = batches.samples();
    let start = ActivationCache::at_inputs(batches);
    let is_synthetic = matches!(samples, Samples::Synthetic { .. });
    if is_synthetic {
        align(&mut graph, start.clone(), threads)?;
    }
    let tensors: BTreeMap<&str, Weights> = constant_tensors(model)
        .into_iter()
        .filter_map(|tensor| match tensor.role {
            Role::Weight { channel_axis, .. } => {
                let shape = shape(&tensor);
                Some((
                    tensor.name,
                    Weights::read(model, &tensor, shape, channel_axis),
                ))
            }
            Role::Other(_) => None,
        })
        .map(|(name, weights)| Ok((name, weights?)))
        .collect::<Result<_, Error>>()?;
    let weights: usize = tensors.values().map(|tensor| tensor.values.len()).sum();
    progress.start(weights as u64);
    let reference = Outputs::of(&start, &graph, threads)?;
    let mut trial = Trial {
        cache: start,
        images,
        threads,
        graph,
        reference,
    };
    let mut found: Vec<Sensitivity> = Vec::new();
    for (i, node) in trial.graph.nodes.clone().iter().enumerate() {
        for name in &node.inputs {
            let Some(weights) = tensors.get(&**name) else {
                continue;
            };
            check_cancelled(progress)?;
            if !found.iter().any(|found| found.name == *name) {
                let is_weight = |name: &str| tensors.contains_key(name);
                let is_underrated = is_synthetic && is_last(&trial.graph.nodes[i..], is_weight);
                found.push(Sensitivity {
                    is_underrated,
                    ..trial.sensitivity(node, name, weights)?
                });
                progress.tensor_done(name, weights.values.len() as u64);
            }
        }
        pass(&mut trial.cache, &trial.graph, i, threads)?;
    }
    Ok(found)
}

/// Whether nothing with weights is computed from what the first node gives.
fn is_last(nodes: &[Node], is_weight: impl Fn(&str) -> bool) -> bool {
    let mut reached: HashSet<&str> = HashSet::new();
    for (i, node) in nodes.iter().enumerate() {
        let is_reached = node.inputs.iter().any(|name| reached.contains(&**name));
        if is_reached && node.inputs.iter().any(|name| is_weight(name)) {
            return false;
        }
        if i == 0 || is_reached {
            reached.extend(node.outputs.iter().map(|name| &**name));
        }
    }
    true
}

/// Sensitivities where a network cannot be run: the divergence is taken to be
/// the error of the weights relative to their energy, the same for all tensors.
pub fn assumed_sensitivities(model: &Model) -> Vec<Sensitivity> {
    let tried = TRIED_BITS.map(|bits| lloyd_max::table(Family::Gaussian, bits).mse);
    constant_tensors(model)
        .iter()
        .filter(|tensor| matches!(tensor.role, Role::Weight { .. }))
        .map(|tensor| Sensitivity::from_tried(tensor.name, tried))
        .collect()
}

/// Batches evenly spread over all, as many as are looked at.
fn some_of(batches: Batches) -> Batches {
    let (count, image_len) = (batches.samples(), batches.sample_len());
    // Images have about three channels; exactly how many matters little here.
    let [fewest, most] = IMAGES;
    let target = (3 * PIXELS / image_len.max(1)).clamp(fewest, most);
    let stride = (count / target.max(1)).max(1);
    batches.step_by(stride)
}

/// The network's normalizations become those of the images.
///
/// # Errors
///
/// Where the network cannot be run.
pub fn align(graph: &mut Graph, mut cache: ActivationCache, threads: usize) -> Result<(), Error> {
    for (i, node) in graph.nodes.clone().iter().enumerate() {
        if let Some([mut means, mut variances]) = normalization(graph, node) {
            let mut seen = ChannelStatistics::default();
            cache.visit(graph, &node.inputs[0], threads, |batch| seen.add(batch, 1))?;
            let seen = seen.means().into_iter().zip(seen.variances());
            for (channel, (mean, variance)) in seen.enumerate().take(means.len()) {
                if variance > MIN_SEEN_VARIANCE * f64::from(variances[channel]) {
                    means[channel] = mean as f32;
                    variances[channel] = variance as f32;
                }
            }
            replace(graph, &node.inputs[3], means)?;
            replace(graph, &node.inputs[4], variances)?;
        }
        pass(&mut cache, graph, i, threads)?;
    }
    Ok(())
}

/// Keeps what a node gives, where later ones read it, and lets go of what none
/// reads.
fn pass(
    cache: &mut ActivationCache,
    graph: &Graph,
    node: usize,
    threads: usize,
) -> Result<(), Error> {
    let read = read_after(graph, node + 1);
    for output in &graph.nodes[node].outputs {
        if read.contains(&**output) {
            cache.keep(graph, output, threads)?;
        }
    }
    cache.forget(graph, node + 1);
    Ok(())
}

/// Mean and variance of a batch normalization whose parameters are constant.
fn normalization(graph: &Graph, node: &Node) -> Option<[Vec<f32>; 2]> {
    if node.op_type != "BatchNormalization" {
        return None;
    }
    let values = |input: usize| {
        let constant = graph.constants.get(node.inputs.get(input)?)?;
        floats(constant).ok().map(<[f32]>::to_vec)
    };
    let (means, variances) = (values(3)?, values(4)?);
    (means.len() == variances.len()).then_some([means, variances])
}

/// A weight tensor.
struct Weights {
    values: Vec<f32>,
    shape: Vec<usize>,
    channel_axis: Option<usize>,
}

impl Weights {
    /// Weights of an output channel.
    fn row_len(&self) -> usize {
        let channels = self.channel_axis.map_or(1, |axis| self.shape[axis]);
        self.values.len() / channels.max(1)
    }

    fn read(
        model: &Model,
        tensor: &campana_ir::weights::ModelTensor<'_>,
        shape: Vec<usize>,
        channel_axis: Option<usize>,
    ) -> Result<Self, Error> {
        Ok(Self {
            values: read_weights(model, tensor)?,
            shape,
            channel_axis,
        })
    }
}

/// The float network, of which one tensor at a time is quantized.
struct Trial {
    cache: ActivationCache,
    images: usize,
    threads: usize,
    graph: Graph,
    reference: Outputs,
}

impl Trial {
    fn sensitivity(
        &mut self,
        node: &Node,
        name: &str,
        weights: &Weights,
    ) -> Result<Sensitivity, Error> {
        let next = self.graph.nodes.iter().find(|next| {
            next.op_type == "BatchNormalization" && next.inputs.first() == node.outputs.first()
        });
        let next = next.cloned();
        let float = self.statistics(node)?;
        let solvers = self.solvers(node, name, weights, next.is_some())?;
        let mut tried = [0.0; TRIED_BITS.len()];
        for (bits, divergence) in TRIED_BITS.into_iter().zip(&mut tried) {
            let decoded = quantized(weights, bits, solvers.as_deref());
            let mut before = vec![self.swap(name, decoded)?];
            let changed = self.statistics(node)?;
            before.extend(self.make_up(node, next.as_ref(), [&float, &changed])?);
            *divergence = self
                .reference
                .divergence(&self.cache, &self.graph, self.threads)?;
            for (name, values) in before {
                replace(&mut self.graph, &name, values)?;
            }
        }
        Ok(Sensitivity::from_tried(name, tried))
    }

    /// Other values of a constant; returns those before.
    fn swap(&mut self, name: &str, values: Vec<f32>) -> Result<(String, Vec<f32>), Error> {
        let before = match self.graph.constants.get(name) {
            Some(constant) => floats(constant)?.to_vec(),
            None => return Err(unsupported(format!("'{name}' is no constant"))),
        };
        replace(&mut self.graph, name, values)?;
        Ok((name.to_owned(), before))
    }

    fn statistics(&self, node: &Node) -> Result<ChannelStatistics, Error> {
        let mut statistics = ChannelStatistics::default();
        let output = &node.outputs[0];
        self.cache
            .visit(&self.graph, output, self.threads, |batch| {
                let last = batch.shape().len().saturating_sub(1);
                let axis = if node.op_type == "Conv" { 1 } else { last };
                statistics.add(batch, axis)
            })?;
        Ok(statistics)
    }

    /// What rounding needs to know of a layer's inputs; `None` where codes are
    /// not chosen for them.
    fn solvers(
        &self,
        node: &Node,
        name: &str,
        weights: &Weights,
        normalized: bool,
    ) -> Result<Option<Vec<GptqSolver>>, Error> {
        let is_layer = node.inputs.get(1).is_some_and(|weights| weights == name);
        let windows = Windows::of(node, self.graph.opset(), &weights.shape);
        let fits = weights.row_len() <= MAX_INPUTS;
        let Some(windows) = windows.filter(|_| is_layer && fits) else {
            return Ok(None);
        };
        let groups = windows.groups();
        let has_bias = node
            .inputs
            .get(2)
            .is_some_and(|bias| self.graph.constants.contains_key(bias));
        let about = if normalized || has_bias {
            About::Mean
        } else {
            About::Zero
        };
        let mut gatherer = Gatherer::new(windows, self.images);
        let mut moments = InputMoments::new();
        self.cache
            .visit(&self.graph, &node.inputs[0], self.threads, |batch| {
                moments.add(&mut gatherer, [batch, batch], None)
            })?;
        let moments = moments.finish(about);
        Ok((moments.len() == groups).then(|| {
            moments
                .into_iter()
                .map(|moments| GptqSolver::new(moments.own))
                .collect()
        }))
    }

    /// Lets the normalization behind a layer, or its bias, make up for errors
    /// of mean and variance; returns what was there before.
    fn make_up(
        &mut self,
        node: &Node,
        next: Option<&Node>,
        [float, changed]: [&ChannelStatistics; 2],
    ) -> Result<Vec<(String, Vec<f32>)>, Error> {
        let differences: Vec<f32> = changed
            .means()
            .iter()
            .zip(float.means())
            .map(|(changed, float)| (changed - float) as f32)
            .collect();
        if let Some(next) = next
            && let Some([mut means, mut variances]) = normalization(&self.graph, next)
            && means.len() == differences.len()
        {
            let (float, changed) = (float.variances(), changed.variances());
            for channel in 0..means.len() {
                if float[channel] > MIN_SEEN_VARIANCE * f64::from(variances[channel]) {
                    let [least, most] = VARIANCE_FACTORS;
                    let factor = (changed[channel] / float[channel]).clamp(least, most);
                    means[channel] += differences[channel];
                    variances[channel] *= factor as f32;
                }
            }
            return Ok(vec![
                self.swap(&next.inputs[3], means)?,
                self.swap(&next.inputs[4], variances)?,
            ]);
        }
        let Some(bias) = node.inputs.get(2) else {
            return Ok(Vec::new());
        };
        let Some(Ok(values)) = self.graph.constants.get(bias).map(floats) else {
            return Ok(Vec::new());
        };
        if values.len() != differences.len() {
            return Ok(Vec::new());
        }
        let corrected = values
            .iter()
            .zip(&differences)
            .map(|(b, d)| b - d)
            .collect();
        Ok(vec![self.swap(bias, corrected)?])
    }
}

/// The weights after quantization to one table and a scale for each channel,
/// which is what most tensors get, rounded for the error of outputs.
fn quantized(weights: &Weights, bits: u8, solvers: Option<&[GptqSolver]>) -> Vec<f32> {
    let (values, shape) = (&weights.values, &weights.shape);
    let partition = Partition::new(shape, weights.channel_axis, Granularity::PerChannel);
    let designs = shared_levels(values, &partition, 1 << bits, GroupParameters::Scale, false);
    let tensor = store(values, shape, &partition, &designs, Precision::Coarse).tensor;
    if let (Some(solvers), Some(axis)) = (solvers, weights.channel_axis)
        && let Some(rows) = Rows::new(values, &tensor, axis)
        && rows.count() % solvers.len().max(1) == 0
        && solvers
            .iter()
            .all(|solver| solver.hessian().inputs() == rows.row_len())
    {
        return solve(&rows, &tensor, solvers, Precision::Coarse, 0).dequantize();
    }
    tensor.dequantize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_tried_lies_between_and_beyond() {
        let sensitivity = Sensitivity::from_tried("w", [1.0, 0.2, 0.01]);
        let [one, two, three, four, five, .., eight] = sensitivity.divergence;
        assert!((one - 1.0).abs() < 1e-12 && (two - 0.2).abs() < 1e-12);
        assert!((four - 0.01).abs() < 1e-12);
        assert!(0.03 < three && three < 0.06, "{three}");
        assert!(0.002 < five && five < 0.004, "{five}");
        assert!(eight < five / 30.0, "{eight}");
    }

    #[test]
    fn a_tensor_without_effect_has_no_sensitivity() {
        let sensitivity = Sensitivity::from_tried("w", [0.0; 3]);
        assert!(sensitivity.divergence.iter().all(|&d| d < 1e-300));
    }

    #[test]
    fn the_last_layer_is_the_one_that_no_other_follows() {
        let node = |inputs: &[&str], output: &str| Node {
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: vec![output.to_owned()],
            ..Node::default()
        };
        let nodes = [
            node(&["x", "w1"], "a"),
            node(&["a"], "b"),
            node(&["x", "w2"], "side"),
            node(&["b", "w3"], "y"),
            node(&["y"], "z"),
        ];
        let is_last = |i: usize| is_last(&nodes[i..], |name| name.starts_with('w'));
        assert_eq!([0, 2, 3].map(is_last), [false, true, true]);
    }
}
