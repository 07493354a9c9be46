//! From rounded weights to weights whose errors cancel: what quantization does
//! to a network's activations is measured on images and undone.
//!
//! Layer by layer, with everything before it already corrected:
//!
//! 1. The covariances of the layer's inputs in the *quantized* network, and of
//!    these with the inputs in the float network, are gathered. The weights are
//!    moved to where they partly undo the errors of the layers before, and
//!    codes (and levels) are chosen anew for the least error of the outputs.
//!    Covariances count as far as they [agree](trust) with what the
//!    normalization behind the layer remembers.
//!    Where the outputs are added to another value, as at the end of a residual
//!    block, they aim at the sum: what that value lacks is made up for as far
//!    as the layer's inputs tell.
//! 2. Where a batch normalization comes, mean and variance of its input are
//!    measured in both networks. What the quantized one has more goes into the
//!    normalization's parameters: `mean += mean_q - mean`, `variance *=
//!    variance_q / variance`. Layers with a bias and no normalization get the
//!    difference of the means in the bias.
//!
//! The images are the user's, or synthetic ones
//! ([`dead_leaves`](images::dead_leaves)). A network gives synthetic images
//! other statistics than those it was trained on; but batch normalization
//! remembers the true ones. With synthetic images every normalization of
//! *both* networks therefore normalizes by the statistics of these images:
//! then each activation has mean and variance as in training, whatever the
//! images are, and only the correlations come from them. On a MobileNet at 4
//! bits that makes the difference between 47.7 % and 54.3 % top-1 (float 59.7).

mod at_rate;
mod finished;
mod images;
pub(crate) mod inputs;
pub(crate) mod layer;
pub(crate) mod merge;
pub(crate) mod moments;
pub(crate) mod statistics;
mod trust;
pub(crate) mod walk;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use campana_codebook::QuantizedTensor;
use campana_model::format::onnx;
use campana_model::graph::{Attribute, Dim, Graph, Node, Value};
use campana_model::weights::Role;
use campana_onnx::Model;
use campana_rounding::{Compensation, SecondMoment};
use campana_tensor::{Tensor, TensorData};
use rayon::prelude::*;

pub use crate::correct::finished::{FinishedLayer, FinishedLayers};
use crate::correct::finished::{key_of_correction, key_of_layer};
use crate::correct::images::dead_leaves;
use crate::correct::inputs::Windows;
use crate::correct::layer::{Rows, losses, solve};
use crate::correct::merge::{Normalization, epsilon, round_to_halves};
use crate::correct::moments::{About, InputMoments, Moments, WantedRows};
use crate::correct::statistics::ChannelStatistics;
use crate::correct::trust::believable_share;
pub(crate) use crate::correct::walk::unsupported;
use crate::correct::walk::{Frontier, read_after};
use crate::quantize::{QuantizedModel, TensorOutcome, sqnr_db};
use crate::store::Precision;
use crate::whole_levels::round_outcome;
use crate::{Effort, Error, ErrorKind, MethodChoice, Progress};

/// Images that run at once.
const BATCH: usize = 16;

/// Pixels of all synthetic images together, and bounds of their number.
const SYNTHETIC_PIXELS: usize = 1 << 21;
const SYNTHETIC_IMAGES: [usize; 2] = [8, 256];

/// Of so many batches one is looked at where the effort is to be quick.
const QUICK_SHARE: usize = 8;

/// Rows and columns of synthetic images where the model does not say.
const DEFAULT_SIZE: [usize; 2] = [224, 224];

/// Channels of which the images show less than this share of the variance
/// that a normalization knows are left alone: too little was seen of them.
pub(crate) const MIN_SEEN_VARIANCE: f64 = 1e-4;

/// Epsilon of a normalization that does not say it.
const DEFAULT_EPSILON: f64 = 1e-5;

/// Channels that a normalization multiplies with less than this pass nothing
/// on.
const MIN_GAIN: f64 = 1e-3;

/// Bounds of the factor on a variance.
pub(crate) const VARIANCE_FACTORS: [f64; 2] = [0.25, 4.0];

/// What the correction sees of a network's inputs.
#[derive(Clone, Debug)]
pub enum Samples {
    /// Nothing: synthetic images, of this size (rows, columns) where the model
    /// leaves its own open.
    Synthetic {
        /// Rows and columns.
        size: Option<[usize; 2]>,
    },
    /// Preprocessed images, shape `[images, ..]` as the model's input.
    Images {
        /// Extents, the number of images first.
        shape: Vec<usize>,
        /// The values, row-major.
        data: Vec<f32>,
    },
}

/// How codes are corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Codes stay; only normalizations and biases are corrected.
    Keep,
    /// Codes and levels are chosen again for the error of outputs.
    Compensate,
    /// The same, weighed against the bits of the codes; levels lie about a
    /// uniform grid with a zero (see [`quantize_at_rate`](crate::quantize_at_rate)).
    AtRate,
}

impl From<MethodChoice> for Rounding {
    /// A method that is asked for by name chooses the codes.
    fn from(method: MethodChoice) -> Self {
        match method {
            MethodChoice::Auto => Self::Compensate,
            MethodChoice::Fixed(_) => Self::Keep,
        }
    }
}

/// What was corrected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CorrectionReport {
    /// `synthetic` or `given` images.
    pub samples: &'static str,
    /// Number of images.
    pub images: usize,
    /// Weight tensors whose codes were chosen for the error of outputs.
    pub compensated: usize,
    /// Normalizations and biases that make up for errors of mean and variance.
    pub corrected: usize,
}

/// A correction, and the network after it.
#[derive(Debug)]
pub struct Corrected {
    /// What was corrected.
    pub report: CorrectionReport,
    /// The quantized network as it computes on the samples: where these are
    /// synthetic, with normalizations that give them the statistics that the
    /// network saw in training.
    pub graph: Graph,
}

/// Corrects a quantized model; see the module. Tensors that a layer reads in
/// an uncommon way, or several layers share, are left as they are. Layers that
/// `finished` keeps from the same correction are taken from there.
///
/// # Errors
///
/// Of kind `Unsupported` where the network has not one image input, cannot be
/// run, or computes in other than float32; of kind `Interrupted` where
/// `progress` says so; those of `finished`.
pub fn correct(
    model: &Model,
    quantized: &mut QuantizedModel<'_>,
    samples: &Samples,
    rounding: Rounding,
    threads: usize,
    finished: Option<&mut dyn FinishedLayers>,
    progress: &dyn Progress,
) -> Result<Corrected, Error> {
    // Before the weights are read for it.
    let inputs = onnx::inputs(model);
    let mut batches = batches(&inputs, samples)?;
    let mut rounding = rounding;
    if quantized.effort == Effort::Quick {
        batches.truncate(batches.len().div_ceil(QUICK_SHARE));
        if rounding == Rounding::Compensate {
            rounding = Rounding::Keep;
        }
    }
    let input = inputs[0].name.clone();
    let graph = onnx::graph(model)
        .map_err(|error| unsupported("cannot run the network").with_source(error))?;
    let images = batches.iter().map(|batch| batch.shape()[0]).sum();
    let synthetic = matches!(samples, Samples::Synthetic { .. });
    let weights: usize = quantized
        .tensors
        .iter()
        .filter(|outcome| outcome.quantized.is_some())
        .map(|outcome| outcome.report.shape.iter().product::<usize>())
        .sum();
    progress.start(weights as u64);
    let start = Frontier::at_input(&input, batches);
    let finished = finished.map(|layers| {
        (
            key_of_correction(&graph, quantized, samples, rounding),
            layers,
        )
    });
    let mut correction = Correction {
        uses: uses(&graph),
        places: quantized
            .tensors
            .iter()
            .enumerate()
            .map(|(place, outcome)| (outcome.tensor.name.to_owned(), place))
            .collect(),
        quantized_graph: graph.clone(),
        graph,
        fronts: [start.clone(), start],
        unrounded: (0..quantized.tensors.len()).collect(),
        quantized,
        rounding,
        align: synthetic,
        believed: 1.0,
        images,
        threads,
        finished,
        report: CorrectionReport {
            samples: if synthetic { "synthetic" } else { "given" },
            images,
            compensated: 0,
            corrected: 0,
        },
    };
    correction.put_codes_into_graph()?;
    correction.walk(progress)?;
    correction.round_others()?;
    correction.merge_normalizations();
    correction.round_parameters();
    Ok(Corrected {
        report: correction.report,
        graph: correction.quantized_graph,
    })
}

/// The network with its quantized weights as they are decoded, and what was
/// corrected beside them.
///
/// # Errors
///
/// Where the network cannot be read.
pub fn quantized_graph(model: &Model, quantized: &QuantizedModel<'_>) -> Result<Graph, Error> {
    let mut graph = onnx::graph(model)
        .map_err(|error| unsupported("cannot run the network").with_source(error))?;
    for outcome in &quantized.tensors {
        let values = match (&outcome.quantized, &outcome.corrected) {
            (Some(tensor), _) => tensor.dequantize(),
            (None, Some(values)) => values.clone(),
            (None, None) => continue,
        };
        replace(&mut graph, outcome.tensor.name, values)?;
    }
    Ok(graph)
}

/// The state of one walk through a network.
struct Correction<'q, 'm, 'f> {
    /// The float network; its normalizations become those of the images where
    /// these are synthetic.
    graph: Graph,
    /// The same with what has been quantized and corrected so far.
    quantized_graph: Graph,
    /// Where both networks are.
    fronts: [Frontier; 2],
    /// How many nodes read each value.
    uses: HashMap<String, usize>,
    /// Where each constant's outcome is.
    places: HashMap<String, usize>,
    quantized: &'q mut QuantizedModel<'m>,
    /// Where the tensors are whose levels are not yet as they will be stored.
    unrounded: BTreeSet<usize>,
    rounding: Rounding,
    align: bool,
    /// Share of the last layer's covariances that was believed.
    believed: f64,
    images: usize,
    threads: usize,
    /// Layers of the same correction, and its key.
    finished: Option<(u64, &'f mut dyn FinishedLayers)>,
    report: CorrectionReport,
}

impl Correction<'_, '_, '_> {
    /// Weights as they are decoded, in the quantized network.
    fn put_codes_into_graph(&mut self) -> Result<(), Error> {
        for outcome in &self.quantized.tensors {
            if let Some(tensor) = &outcome.quantized {
                let name = outcome.tensor.name;
                replace(&mut self.quantized_graph, name, tensor.dequantize())?;
            }
        }
        Ok(())
    }

    fn walk(&mut self, progress: &dyn Progress) -> Result<(), Error> {
        let nodes = self.graph.nodes.clone();
        let last_layer = nodes.iter().rposition(|node| self.is_of_interest(node));
        for (i, node) in nodes
            .iter()
            .enumerate()
            .take(last_layer.map_or(0, |i| i + 1))
        {
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            if node.op_type == "BatchNormalization" {
                self.correct_normalization(node)?;
            } else if let Some(place) = self.weights_of(node) {
                self.correct_layer(node, place)?;
                let outcome = &self.quantized.tensors[place];
                let count: usize = outcome.report.shape.iter().product();
                progress.tensor_done(outcome.tensor.name, count as u64);
            }
            if last_layer.is_some_and(|last| last > i) {
                self.advance(i)?;
            }
        }
        Ok(())
    }

    /// Keeps what a node gives in both networks, where later ones read it more
    /// than once, and lets go of what none reads.
    fn advance(&mut self, node: usize) -> Result<(), Error> {
        let graphs = [&self.graph, &self.quantized_graph];
        let read = read_after(graphs[0], node + 1);
        let op_type = &graphs[0].nodes[node].op_type;
        for output in &graphs[0].nodes[node].outputs {
            let later = graphs[0].nodes[node + 1..]
                .iter()
                .filter(|later| later.inputs.contains(output));
            // Statistics are taken of the outputs of layers; all else that
            // goes into a cheap node alone is computed together with it.
            let is_fleeting = !LAYERS.contains(&&**op_type)
                && self.uses.get(output) == Some(&1)
                && later.clone().all(|later| CHEAP.contains(&&*later.op_type));
            if !read.contains(&**output) || is_fleeting {
                continue;
            }
            for (front, graph) in self.fronts.iter_mut().zip(graphs) {
                front.keep(graph, output, self.threads)?;
            }
        }
        for (front, graph) in self.fronts.iter_mut().zip(graphs) {
            front.forget(graph, node + 1);
        }
        Ok(())
    }

    fn is_of_interest(&self, node: &Node) -> bool {
        node.op_type == "BatchNormalization" || self.weights_of(node).is_some()
    }

    /// Where the quantized weights of a layer are, which no other layer reads.
    fn weights_of(&self, node: &Node) -> Option<usize> {
        let name = LAYERS
            .contains(&&*node.op_type)
            .then(|| node.inputs.get(1))
            .flatten()?;
        let place = *self.places.get(name)?;
        let outcome = &self.quantized.tensors[place];
        (outcome.quantized.is_some() && self.uses.get(name) == Some(&1)).then_some(place)
    }

    /// A constant that is kept, is in float32 and is read once.
    fn own_constant(&self, node: &Node, input: usize) -> Option<(usize, Vec<f32>)> {
        let name = node.inputs.get(input)?;
        let place = *self.places.get(name)?;
        if self.uses.get(name) != Some(&1) || self.quantized.tensors[place].quantized.is_some() {
            return None;
        }
        match self.graph.constants.get(name)?.data() {
            TensorData::F32(values) => Some((place, values.clone())),
            _ => None,
        }
    }

    fn correct_layer(&mut self, node: &Node, place: usize) -> Result<(), Error> {
        let normalized = self.graph.nodes.iter().any(|next| {
            next.op_type == "BatchNormalization" && next.inputs.first() == node.outputs.first()
        });
        if self.rounding != Rounding::Keep {
            let about = if normalized || self.own_constant(node, 2).is_some() {
                About::Mean
            } else {
                About::Zero
            };
            if self.align && normalized {
                self.fronts[0].keep(&self.graph, &node.outputs[0], self.threads)?;
            }
            self.compensate(node, place, about)?;
        }
        self.round(place)?;
        if normalized {
            return Ok(());
        }
        self.correct_bias(node)
    }

    /// Levels as they will be stored, so that what follows makes up for their
    /// rounding as well.
    fn round(&mut self, place: usize) -> Result<(), Error> {
        let target = self.quantized.target;
        if !target.rounds_activations() || !self.unrounded.remove(&place) {
            return Ok(());
        }
        let outcome = &mut self.quantized.tensors[place];
        round_outcome(outcome, target);
        let name = outcome.tensor.name;
        match &outcome.quantized {
            Some(tensor) => replace(&mut self.quantized_graph, name, tensor.dequantize()),
            None => Ok(()),
        }
    }

    /// The levels of tensors that no layer reads in a common way.
    fn round_others(&mut self) -> Result<(), Error> {
        for place in self.unrounded.clone() {
            self.round(place)?;
        }
        Ok(())
    }

    /// Codes of least output error, new or kept from a correction that was
    /// interrupted.
    fn compensate(&mut self, node: &Node, place: usize, about: About) -> Result<(), Error> {
        let outcome = &self.quantized.tensors[place];
        let (Some(before), name) = (&outcome.quantized, outcome.tensor.name) else {
            return Ok(());
        };
        let key = |correction: u64| key_of_layer(correction, name);
        let kept = self.finished.as_ref().and_then(|(correction, layers)| {
            let layer = layers.find(key(*correction))?;
            layer.restore(before)
        });
        if let Some((tensor, believed)) = kept {
            self.believed = believed;
            return self.take(place, tensor);
        }
        let Some(tensor) = self.solve(node, place, about)? else {
            return Ok(());
        };
        if let Some((correction, layers)) = &mut self.finished {
            layers.keep(FinishedLayer::new(key(*correction), &tensor, self.believed))?;
        }
        self.take(place, tensor)
    }

    /// Codes and levels for the least error of a layer's outputs; `None` where
    /// the layer is not read in a common way.
    fn solve(
        &mut self,
        node: &Node,
        place: usize,
        about: About,
    ) -> Result<Option<QuantizedTensor>, Error> {
        let outcome = &self.quantized.tensors[place];
        let (
            Some(tensor),
            Role::Weight {
                channel_axis: Some(axis),
                ..
            },
        ) = (&outcome.quantized, &outcome.tensor.role)
        else {
            return Ok(None);
        };
        let name = outcome.tensor.name;
        let Some(TensorData::F32(weights)) = self.graph.constants.get(name).map(Tensor::data)
        else {
            return Ok(None);
        };
        let (Some(windows), Some(mut rows)) = (
            Windows::of(node, &tensor.shape),
            Rows::new(weights, tensor, *axis),
        ) else {
            return Ok(None);
        };
        if node.op_type != "Conv" && tensor.shape.len() != 2 {
            return Ok(None);
        }
        let groups = windows.groups();
        let addition = match groups {
            1 => self.addition(node, rows.count())?,
            _ => None,
        };
        let names: Vec<&str> = std::iter::once(&*node.inputs[0])
            .chain(addition.as_ref().map(|(other, _)| &**other))
            .collect();
        let block = match *tensor.shape {
            [_, _, ref kernel @ ..] if node.op_type == "Conv" => kernel.iter().product(),
            _ => 1,
        };
        let wanted = WantedRows {
            weights: rows.weights(),
            row_len: rows.row_len(),
            block,
        };
        let mut moments = InputMoments::new(windows, self.images).with_wanted(wanted);
        Frontier::visit_both(
            [&self.fronts[0], &self.fronts[1]],
            [&self.graph, &self.quantized_graph],
            &names,
            self.threads,
            |values| moments.add(values[0], values.get(1).copied()),
        )?;
        let mut moments = moments.finish(about);
        if moments.len() != groups
            || rows.count() % groups != 0
            || moments
                .iter()
                .any(|moments| moments.own.inputs() != rows.row_len())
        {
            return Ok(None);
        }
        let share = self
            .variances_behind(node)
            .filter(|variances| variances.len() == rows.count())
            .and_then(|variances| believable_share(&rows, &moments, &variances, block));
        // A layer without a normalization sees much the same as the last one.
        self.believed = share.unwrap_or(self.believed);
        let believed = self.believed;
        moments = moments
            .into_par_iter()
            .map(|moments| moments.believed(believed, block))
            .collect();
        if let Some((_, units)) = addition {
            moments[0].add_lack(&units, rows.unit);
        }
        let at_rate = self.rounding == Rounding::AtRate;
        let (compensations, wanted) = aimed(&mut rows, moments, at_rate);
        let solved = if at_rate {
            at_rate::solve(&rows, tensor, &compensations)
        } else {
            let solved = solve(&rows, tensor, &compensations, Precision::Coarse, FITS);
            let moments: Vec<(&SecondMoment, &[f32])> = compensations
                .iter()
                .map(Compensation::moment)
                .zip(wanted.iter().map(Vec::as_slice))
                .collect();
            let [before, after] = losses(&rows, [tensor, &solved], &moments);
            if after.partial_cmp(&before) != Some(std::cmp::Ordering::Less) {
                return Ok(None);
            }
            solved
        };
        Ok(Some(solved))
    }

    /// Puts a corrected tensor into the network and its figures into the report.
    fn take(&mut self, place: usize, tensor: QuantizedTensor) -> Result<(), Error> {
        let outcome = &mut self.quantized.tensors[place];
        let name = outcome.tensor.name;
        let Some(TensorData::F32(weights)) = self.graph.constants.get(name).map(Tensor::data)
        else {
            return Ok(());
        };
        let decoded = tensor.dequantize();
        let squared_error: f64 = weights
            .iter()
            .zip(&decoded)
            .map(|(weight, decoded)| (f64::from(*decoded) - f64::from(*weight)).powi(2))
            .sum();
        outcome.report.mse = Some(squared_error / decoded.len() as f64);
        outcome.report.sqnr_db = Some(sqnr_db(outcome.energy, squared_error));
        outcome.report.clip = Some(crate::quantize::clip(&tensor));
        outcome.squared_error = squared_error;
        outcome.quantized = Some(tensor);
        replace(&mut self.quantized_graph, name, decoded)?;
        self.report.compensated += 1;
        Ok(())
    }

    /// The variances in training of a layer's outputs, where a normalization
    /// follows that knows them.
    fn variances_behind(&self, node: &Node) -> Option<Vec<f32>> {
        let next = self.graph.nodes.iter().find(|next| {
            next.op_type == "BatchNormalization" && next.inputs.first() == node.outputs.first()
        })?;
        Some(self.own_constant(next, 4)?.1)
    }

    /// The value that the outputs of a convolution are added to, behind a
    /// normalization where there is one, if it is known by now; and for each
    /// output channel how much of the output is one of the sum.
    fn addition(&self, node: &Node, channels: usize) -> Result<Option<(String, Vec<f64>)>, Error> {
        let nodes = &self.graph.nodes;
        let only_reader = |value: &str| {
            let mut readers = nodes
                .iter()
                .filter(|node| node.inputs.iter().any(|input| input == value));
            readers.next().filter(|_| self.uses.get(value) == Some(&1))
        };
        let Some(output) = node.outputs.first() else {
            return Ok(None);
        };
        let next = only_reader(output);
        let normalization = next
            .filter(|next| next.op_type == "BatchNormalization")
            .cloned();
        let (output, sum) = match &normalization {
            Some(next) => (&next.outputs[0], only_reader(&next.outputs[0])),
            None => (output, next),
        };
        let Some(sum) = sum.filter(|sum| sum.op_type == "Add") else {
            return Ok(None);
        };
        let Some(other) = sum.inputs.iter().find(|input| *input != output).cloned() else {
            return Ok(None);
        };
        let place = |found: &dyn Fn(&Node) -> bool| nodes.iter().position(found);
        let here = place(&|other| other.outputs == node.outputs);
        let made = place(&|node| node.outputs.contains(&other));
        if made.is_none() || made >= here {
            return Ok(None);
        }
        let Some(normalization) = normalization else {
            return Ok(Some((other, vec![1.0; channels])));
        };
        let (Some((_, gains)), Some((_, variances))) = (
            self.own_constant(&normalization, 1),
            self.own_constant(&normalization, 4),
        ) else {
            return Ok(None);
        };
        let epsilon = match normalization.attributes.get("epsilon") {
            Some(Attribute::Float(epsilon)) => f64::from(*epsilon),
            _ => DEFAULT_EPSILON,
        };
        let mut seen: Vec<f64> = variances.iter().map(|&v| f64::from(v)).collect();
        if self.align {
            // The normalization will be by what these images show.
            let output = &normalization.inputs[0];
            let mut statistics = ChannelStatistics::default();
            self.fronts[0].visit(&self.graph, output, self.threads, |batch| {
                statistics.add(batch, 1)
            })?;
            seen = statistics.variances();
        }
        if seen.len() != channels || gains.len() != channels {
            return Ok(None);
        }
        let units = gains
            .iter()
            .zip(&seen)
            .zip(&variances)
            .map(|((&gain, &seen), &variance)| {
                // Of channels that normalization all but silences, or that the
                // images do not show, nothing can be asked.
                let known = f64::from(gain.abs()) > MIN_GAIN
                    && seen > MIN_SEEN_VARIANCE * f64::from(variance);
                if known {
                    (seen + epsilon).sqrt() / f64::from(gain)
                } else {
                    0.0
                }
            });
        Ok(Some((other, units.collect())))
    }

    /// The bias of a layer takes the difference of the means.
    fn correct_bias(&mut self, node: &Node) -> Result<(), Error> {
        let Some((place, mut bias)) = self.own_constant(node, 2) else {
            return Ok(());
        };
        let axis = if node.op_type == "Conv" {
            Some(1)
        } else {
            None
        };
        // Kept for what follows, so that the layer runs once.
        let output = &node.outputs[0];
        for (front, graph) in self
            .fronts
            .iter_mut()
            .zip([&self.graph, &self.quantized_graph])
        {
            front.keep(graph, output, self.threads)?;
        }
        let [float, quantized] = self.statistics(output, axis)?;
        let differences = quantized.means().into_iter().zip(float.means());
        if differences.len() != bias.len() {
            return Ok(());
        }
        let before = bias.clone();
        for (bias, (quantized, float)) in bias.iter_mut().zip(differences) {
            *bias -= (quantized - float) as f32;
        }
        let changes: Vec<f32> = bias.iter().zip(&before).map(|(b, a)| b - a).collect();
        self.fronts[1].shift(output, &changes, axis)?;
        self.set(place, bias.clone(), bias)
    }

    fn correct_normalization(&mut self, node: &Node) -> Result<(), Error> {
        let (Some((mean_place, mut means)), Some((variance_place, mut variances))) =
            (self.own_constant(node, 3), self.own_constant(node, 4))
        else {
            return Ok(());
        };
        let training = matches!(
            node.attributes.get("training_mode"),
            Some(Attribute::Int(1))
        );
        let [float, quantized] = self.statistics(&node.inputs[0], Some(1))?;
        let (float, quantized) = (
            (float.means(), float.variances()),
            (quantized.means(), quantized.variances()),
        );
        if training || float.0.len() != means.len() || variances.len() != means.len() {
            return Ok(());
        }
        let (mut float_means, mut float_variances) = (means.clone(), variances.clone());
        let (mut seen_means, mut seen_variances) = (means.clone(), variances.clone());
        for channel in 0..means.len() {
            let variance = f64::from(variances[channel]);
            if float.1[channel] <= MIN_SEEN_VARIANCE * variance || variance <= 0.0 {
                continue;
            }
            let [least, most] = VARIANCE_FACTORS;
            let factor = (quantized.1[channel] / float.1[channel]).clamp(least, most);
            let difference = quantized.0[channel] - float.0[channel];
            means[channel] += difference as f32;
            variances[channel] = (variance * factor) as f32;
            if self.align {
                float_means[channel] = float.0[channel] as f32;
                float_variances[channel] = float.1[channel] as f32;
                seen_means[channel] = quantized.0[channel] as f32;
                seen_variances[channel] = (float.1[channel] * factor) as f32;
            } else {
                seen_means[channel] = means[channel];
                seen_variances[channel] = variances[channel];
            }
        }
        if self.align {
            replace(&mut self.graph, &node.inputs[3], float_means)?;
            replace(&mut self.graph, &node.inputs[4], float_variances)?;
        }
        self.set(mean_place, means, seen_means)?;
        self.set(variance_place, variances, seen_variances)
    }

    /// Corrected means and variances become part of scale and bias where
    /// nothing else reads these.
    fn merge_normalizations(&mut self) {
        let nodes = self.graph.nodes.iter();
        for node in nodes.filter(|node| node.op_type == "BatchNormalization") {
            let own = |input| self.own_constant(node, input);
            let (Some(scale), Some(bias), Some(mean), Some(variance)) =
                (own(1), own(2), own(3), own(4))
            else {
                continue;
            };
            let corrected = |place: usize| self.quantized.tensors[place].corrected.clone();
            let (Some(means), Some(variances)) = (corrected(mean.0), corrected(variance.0)) else {
                continue;
            };
            let given = Normalization {
                scale: scale.1,
                bias: bias.1,
                mean: means,
                variance: variances,
            };
            let Some(merged) = given.merged(epsilon(node)) else {
                continue;
            };
            let values = [merged.scale, merged.bias, merged.mean, merged.variance];
            for (place, values) in [scale.0, bias.0, mean.0, variance.0]
                .into_iter()
                .zip(values)
            {
                self.quantized.tensors[place].corrected = Some(values);
            }
        }
    }

    /// What was corrected is stored in 16 bits.
    fn round_parameters(&mut self) {
        for outcome in &mut self.quantized.tensors {
            if let Some(values) = &mut outcome.corrected {
                round_to_halves(values);
            }
        }
    }

    /// What channels of a value have in the float and the quantized network.
    fn statistics(&self, name: &str, axis: Option<usize>) -> Result<[ChannelStatistics; 2], Error> {
        let mut statistics = [ChannelStatistics::default(), ChannelStatistics::default()];
        let graphs = [&self.graph, &self.quantized_graph];
        for ((front, graph), statistics) in self.fronts.iter().zip(graphs).zip(&mut statistics) {
            front.visit(graph, name, self.threads, |batch| {
                let last = batch.shape().len().saturating_sub(1);
                statistics.add(batch, axis.unwrap_or(last))
            })?;
        }
        Ok(statistics)
    }

    /// New values of a kept constant, in the model and on this walk.
    fn set(&mut self, place: usize, values: Vec<f32>, on_walk: Vec<f32>) -> Result<(), Error> {
        let outcome: &mut TensorOutcome<'_> = &mut self.quantized.tensors[place];
        replace(&mut self.quantized_graph, outcome.tensor.name, on_walk)?;
        outcome.corrected = Some(values);
        self.report.corrected += 1;
        Ok(())
    }
}

/// Moves rows to where they undo errors of layers before; what rounding needs
/// to know of their inputs, and what their outputs are to have with these.
fn aimed(
    rows: &mut Rows,
    moments: Vec<Moments>,
    at_rate: bool,
) -> (Vec<Compensation>, Vec<Vec<f32>>) {
    let blocks = moments.len();
    let (mut compensations, wanted): (Vec<Compensation>, Vec<Vec<f32>>) = moments
        .into_par_iter()
        .map(|moments| {
            let careful = Compensation::with_damped_factor(moments.own, AIM_DAMPING);
            (careful, moments.wanted)
        })
        .unzip();
    for (block, (compensation, wanted)) in compensations.iter().zip(&wanted).enumerate() {
        rows.aim(block, blocks, compensation, wanted);
    }
    if at_rate {
        // What a bit is worth follows from the factor as it is.
        let moments = compensations.into_par_iter();
        let exact = moments.map(|careful| Compensation::new(careful.into_moment()));
        compensations = exact.collect();
    }
    (compensations, wanted)
}

/// Share of the mean variance of a layer's inputs that is added to each when
/// its weights are moved to undo errors of layers before: what inputs of little
/// variance say about them is noise.
const AIM_DAMPING: f64 = 0.05;

/// Operators with weights.
const LAYERS: [&str; 3] = ["Conv", "Gemm", "MatMul"];

/// Operators that cost next to nothing and are run together with what follows.
const CHEAP: [&str; 6] = [
    "BatchNormalization",
    "Relu",
    "Clip",
    "Identity",
    "Flatten",
    "Reshape",
];

/// How often levels are fitted to codes and codes to levels.
const FITS: usize = 2;

fn uses(graph: &Graph) -> HashMap<String, usize> {
    let mut uses = HashMap::new();
    for name in graph.nodes.iter().flat_map(|node| &node.inputs) {
        *uses.entry(name.clone()).or_insert(0) += 1;
    }
    uses
}

pub(crate) fn replace(graph: &mut Graph, name: &str, values: Vec<f32>) -> Result<(), Error> {
    let Some(constant) = graph.constants.get_mut(name) else {
        return Ok(());
    };
    let shape = constant.shape().to_vec();
    if !matches!(constant.data(), TensorData::F32(_)) {
        return Err(unsupported(format!("'{name}' is no float32 tensor")));
    }
    *constant = Tensor::new(shape, TensorData::F32(values))
        .ok_or_else(|| unsupported(format!("'{name}' changes its size")))?;
    Ok(())
}

/// The samples in batches that a model of these inputs takes.
pub(crate) fn batches(inputs: &[Value], samples: &Samples) -> Result<Vec<Tensor>, Error> {
    let [input] = inputs else {
        let count = inputs.len();
        return Err(unsupported(format!(
            "the network has {count} inputs, not one for images"
        )));
    };
    let declared = input.shape.as_deref().unwrap_or(&[]);
    let (image, data) = match samples {
        Samples::Images { shape, data } => (
            shape.get(1..).unwrap_or(&[]).to_vec(),
            Cow::Borrowed(data.as_slice()),
        ),
        Samples::Synthetic { size } => {
            let (image, data) = synthetic(declared, *size)?;
            (image, Cow::Owned(data))
        }
    };
    let fixed = match declared.first() {
        Some(Dim::Fixed(batch)) => Some((*batch).max(1)),
        _ => None,
    };
    let image_len: usize = image.iter().product();
    let images = data.len() / image_len.max(1);
    let batch = fixed.unwrap_or(BATCH);
    let whole = if fixed.is_some() {
        images / batch * batch
    } else {
        images
    };
    if whole == 0 {
        return Err(unsupported(format!(
            "{images} images are fewer than one batch of {batch}"
        )));
    }
    Ok(data[..whole * image_len]
        .chunks(batch * image_len)
        .map(|chunk| {
            let shape = [&[chunk.len() / image_len], &*image].concat();
            Tensor::new(shape, TensorData::F32(chunk.to_vec())).expect("whole images")
        })
        .collect())
}

/// Extents of an image, and the images.
fn synthetic(declared: &[Dim], size: Option<[usize; 2]>) -> Result<(Vec<usize>, Vec<f32>), Error> {
    let [_, dims @ ..] = declared else {
        return Err(unsupported("the network does not say what its input is"));
    };
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(extent) => Some(*extent),
        Dim::Symbol(_) => None,
    };
    let &[a, b, c] = &*dims.iter().map(fixed).collect::<Vec<_>>() else {
        return Err(unsupported("the network's input is no image"));
    };
    let is_channels = |extent: Option<usize>| matches!(extent, Some(1 | 3 | 4));
    let [height, width] = size.unwrap_or(DEFAULT_SIZE);
    let (channels, height, width, last) = match (a, b, c) {
        (Some(channels), h, w) if is_channels(a) || !is_channels(c) => {
            (channels, h.unwrap_or(height), w.unwrap_or(width), false)
        }
        (h, w, Some(channels)) => (channels, h.unwrap_or(height), w.unwrap_or(width), true),
        _ => {
            return Err(unsupported(
                "the network does not say which axis its channels are",
            ));
        }
    };
    let pixels = height * width;
    if pixels == 0 || channels == 0 || pixels.saturating_mul(channels) > SYNTHETIC_PIXELS {
        let message = format!("the network's images have {channels} x {height} x {width} values");
        return Err(unsupported(message));
    }
    let [fewest, most] = SYNTHETIC_IMAGES;
    let count = (SYNTHETIC_PIXELS / pixels).clamp(fewest, most);
    let images = dead_leaves(count, channels, height, width);
    if !last {
        return Ok((vec![channels, height, width], images));
    }
    let channels_last = images
        .chunks_exact(channels * pixels)
        .flat_map(|image| {
            (0..pixels * channels).map(move |i| image[i % channels * pixels + i / channels])
        })
        .collect();
    Ok((vec![height, width, channels], channels_last))
}
