//! What a quantized network loses, estimated without labels.

use std::collections::HashSet;

use campana_calibrate::{
    ActivationCache, Kind, Samples, align, batches_for, epsilon, floats, log_probabilities_of,
};
use campana_ir::graph::{Graph, Node};
use campana_onnx::Model;
use campana_quantize::graph::{float_graph, replace, unsupported};
use campana_quantize::{Error, QuantizedModel};
use campana_tensor::TensorData;

/// A float network and images without labels, on which quantized forms of it
/// are compared with it.
pub struct DropEstimator {
    /// The network as it was read.
    graph: Graph,
    /// The same with normalizations aligned to the images, where these are
    /// synthetic.
    aligned: Graph,
    /// The parameters of the aligned normalizations.
    realigned: HashSet<String>,
    cache: ActivationCache,
    images: usize,
    threads: usize,
    /// Logarithms of the probabilities that the float network gives.
    expected: Vec<Vec<f64>>,
}

/// What a quantized network loses on images without labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropEstimate {
    /// Number of images.
    pub images: usize,
    /// Share of the images whose likeliest class is another: on these images
    /// the accuracy cannot drop by more.
    pub changed: f64,
    /// Mean difference of the probabilities that the float network gives to
    /// its own answers and to those of the quantized one: the drop of the
    /// accuracy, if the float network is right as often as it claims.
    pub drop: f64,
    /// Mean Kullback-Leibler divergence of the probabilities of classes.
    pub divergence: f64,
}

impl DropEstimator {
    /// Runs the float network on the images.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` where the network has not one image input, or not
    /// one output of class scores, or cannot be run.
    pub fn new(model: &Model, samples: &Samples, threads: usize) -> Result<Self, Error> {
        let graph = float_graph(model)?;
        let batches = batches_for(&graph, samples, None)?;
        let images = batches.samples();
        let cache = ActivationCache::at_inputs(batches);
        let mut aligned = graph.clone();
        if matches!(samples, Samples::Synthetic { .. }) {
            align(&mut aligned, cache.clone(), threads)?;
        }
        let is_own = |name: &String| {
            let reads = |node: &&Node| node.inputs.contains(name);
            graph.constants.contains_key(name) && graph.nodes.iter().filter(reads).count() == 1
        };
        let realigned = graph
            .nodes
            .iter()
            .filter(|node| node.op_type == "BatchNormalization" && node.inputs.len() == 5)
            .filter(|node| aligned != graph && node.inputs[1..].iter().all(is_own))
            .flat_map(|node| node.inputs[1..].to_vec())
            .collect();
        let mut estimator = Self {
            realigned,
            graph,
            aligned,
            cache,
            images,
            threads,
            expected: Vec::new(),
        };
        estimator.expected = estimator.log_probabilities(&estimator.aligned)?;
        Ok(estimator)
    }

    /// Compares a quantized form of the network with it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn estimate(&self, quantized: &QuantizedModel<'_>) -> Result<DropEstimate, Error> {
        let mut graph = self.aligned.clone();
        let mut corrected = self.graph.clone();
        for outcome in &quantized.tensors {
            let name = outcome.tensor.name;
            if let Some(tensor) = &outcome.quantized {
                replace(&mut graph, name, tensor.dequantize())?;
            } else if let Some(values) = &outcome.corrected {
                if !self.realigned.contains(name) {
                    replace(&mut graph, name, values.clone())?;
                }
                replace(&mut corrected, name, values.clone())?;
            }
        }
        for node in &self.graph.nodes {
            if node.op_type == "BatchNormalization" && self.realigned.contains(&node.inputs[3]) {
                self.realign(node, &corrected, &mut graph)?;
            }
        }
        let found = self.log_probabilities(&graph)?;
        let (mut changed, mut drop, mut divergence) = (0, 0.0, 0.0);
        for (expected, found) in self.expected.iter().zip(&found) {
            let (own, other) = (argmax(expected), argmax(found));
            changed += usize::from(own != other);
            drop += expected[own].exp() - expected[other].exp();
            let pairs = expected.iter().zip(found);
            divergence += pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        }
        let images = self.images.max(1) as f64;
        Ok(DropEstimate {
            images: self.images,
            changed: changed as f64 / images,
            drop: drop / images,
            divergence: divergence / images,
        })
    }

    /// Corrects an aligned normalization as much as the one in the model was:
    /// the mean by the same difference, the variance by the same factor,
    /// whichever of the four parameters they were put into.
    fn realign(&self, node: &Node, corrected: &Graph, graph: &mut Graph) -> Result<(), Error> {
        let parameters = |graph: &Graph| -> Result<[Vec<f32>; 4], Error> {
            let mut values: [Vec<f32>; 4] = Default::default();
            for (values, name) in values.iter_mut().zip(&node.inputs[1..]) {
                *values = floats(&graph.constants[name])?.to_vec();
            }
            Ok(values)
        };
        let [scale, bias, mean, variance] = parameters(&self.graph)?;
        let [now_scale, now_bias, now_mean, now_variance] = parameters(corrected)?;
        let [_, _, mut means, mut variances] = parameters(&self.aligned)?;
        let epsilon = f64::from(epsilon(node));
        for channel in 0..means.len() {
            let of = |values: &[f32]| f64::from(values[channel]);
            let factor = of(&now_scale) / (of(&now_variance) + epsilon).sqrt();
            let offset = of(&now_bias) - factor * of(&now_mean);
            // With these scale and bias, the mean and the variance that give
            // the same factor and offset.
            let mean_now = (of(&bias) - offset) / factor;
            let variance_now = (of(&scale) / factor).powi(2) - epsilon;
            let ratio = variance_now / of(&variance);
            if mean_now.is_finite() && ratio.is_finite() && ratio > 0.0 {
                means[channel] += (mean_now - of(&mean)) as f32;
                variances[channel] *= ratio as f32;
            }
        }
        replace(graph, &node.inputs[3], means)?;
        replace(graph, &node.inputs[4], variances)
    }

    /// A row for each image.
    fn log_probabilities(&self, graph: &Graph) -> Result<Vec<Vec<f64>>, Error> {
        let [output] = graph.outputs.as_slice() else {
            let count = graph.outputs.len();
            return Err(unsupported(format!(
                "the network has {count} outputs, not one of class scores"
            )));
        };
        let kind = Kind::of_output(graph, &output.name);
        let mut rows = Vec::new();
        self.cache.visit(graph, &output.name, self.threads, |batch| {
            let (&[_, classes], TensorData::F32(values)) = (batch.shape(), batch.data())
            else {
                let shape = batch.shape();
                return Err(unsupported(format!(
                    "the network's output of shape {shape:?} is no row of class scores for each image"
                )));
            };
            rows.extend(values.chunks(classes.max(1)).map(|row| log_probabilities_of(kind, row)));
            Ok(())
        })?;
        Ok(rows)
    }
}

fn argmax(row: &[f64]) -> usize {
    let positions = 0..row.len();
    positions
        .max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)))
        .unwrap_or(0)
}
