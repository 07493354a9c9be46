//! The state of one walk through a network, and what is asked of it.

use std::collections::{BTreeSet, HashMap};

use campana_ir::graph::{Graph, Node};
use campana_quantize::graph::replace;
use campana_quantize::{Error, LAYERS, QuantizedModel, TensorOutcome};
use campana_tensor::TensorData;

use crate::comparable::Compared;
use crate::correct::activation_cache::ActivationCache;
use crate::correct::epilogue::Epilogue;
use crate::correct::finished::FinishedLayers;
use crate::correct::rounding::Rounding;
use crate::correct::statistics::ChannelStatistics;
use crate::distill::budget::{DistillBudget, DistillReport};

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
    /// Layers and normalizations that stayed as they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// A layer or normalization that could not be corrected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Its output.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Why.
    pub reason: String,
}

/// How a model is corrected.
#[derive(Clone, Copy, Debug)]
pub struct CorrectionSettings {
    /// How codes are chosen.
    pub rounding: Rounding,
    /// Threads that run networks; 0 counts as 1.
    pub threads: usize,
    /// How long to learn from the float network afterwards; not at all by
    /// default.
    pub distill: Option<DistillBudget>,
}

impl CorrectionSettings {
    /// A correction without distillation.
    pub fn new(rounding: Rounding, threads: usize) -> Self {
        Self {
            rounding,
            threads,
            distill: None,
        }
    }
}

/// A correction, and the network after it.
#[derive(Debug)]
pub struct Corrected {
    /// What was corrected.
    pub report: CorrectionReport,
    /// What was learned after it, where that was asked for, or why nothing was.
    pub distilled: Option<Result<DistillReport, String>>,
    /// The quantized network as it computes on the samples: where these are
    /// synthetic, with normalizations that give them the statistics that the
    /// network saw in training.
    pub graph: Graph,
}

/// The state of one walk through a network.
pub(super) struct Correction<'q, 'm, 'f> {
    /// The float network; its normalizations become those of the images where
    /// these are synthetic.
    pub(super) graph: Graph,
    /// The same with what has been quantized and corrected so far.
    pub(super) quantized_graph: Graph,
    /// Where both networks are.
    pub(super) caches: [ActivationCache; 2],
    /// What follows each layer, by its output.
    pub(super) epilogues: HashMap<String, Epilogue>,
    /// How many nodes read each value.
    pub(super) uses: HashMap<String, usize>,
    /// The nodes that read each value as the weights of a layer.
    pub(super) layers: HashMap<String, Vec<usize>>,
    /// Where each constant's outcome is.
    pub(super) places: HashMap<String, usize>,
    pub(super) quantized: &'q mut QuantizedModel<'m>,
    /// Where the tensors are whose levels are not yet as they will be stored.
    pub(super) unrounded: BTreeSet<usize>,
    pub(super) rounding: Rounding,
    pub(super) align: bool,
    /// Share of the last layer's covariances that counts.
    pub(super) covariance_share: f64,
    pub(super) images: usize,
    pub(super) threads: usize,
    /// Layers of the same correction, and its key.
    pub(super) finished: Option<(u64, &'f mut dyn FinishedLayers)>,
    /// What was changed so far.
    pub(super) steps: Vec<Step>,
    /// What the graphs give as their outputs.
    pub(super) compared: Compared,
    pub(super) report: CorrectionReport,
}

/// What the correction of one layer changed, and of the normalization behind it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The layer's output.
    pub(super) name: String,
    /// Its operator.
    pub(super) op: String,
    /// The constants that are no longer as they were.
    pub(super) places: Vec<usize>,
}

impl Correction<'_, '_, '_> {
    /// Where the quantized weights of a layer are, which nothing but layers
    /// reads.
    pub(super) fn weights_of(&self, node: &Node) -> Option<usize> {
        let name = weights_name(node)?;
        let place = *self.places.get(name)?;
        let outcome = &self.quantized.tensors[place];
        let layers = self.layers.get(name).map_or(0, Vec::len);
        (outcome.quantized.is_some() && self.uses.get(name) == Some(&layers)).then_some(place)
    }

    /// The layers that read the weights of this one, itself included, in the
    /// graph's order.
    pub(super) fn layers_with_weights_of(&self, node: &Node) -> Vec<&Node> {
        let layers = weights_name(node).and_then(|name| self.layers.get(name));
        let nodes = layers.into_iter().flatten();
        nodes.map(|&node| &self.graph.nodes[node]).collect()
    }

    /// What follows a layer.
    pub(super) fn epilogue(&self, node: &Node) -> Option<&Epilogue> {
        self.epilogues.get(node.outputs.first()?)
    }

    /// A constant that is kept, is in float32 and is read once.
    pub(super) fn own_constant(&self, node: &Node, input: usize) -> Option<(usize, Vec<f32>)> {
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

    /// What channels of a value have in the float and the quantized network.
    pub(super) fn statistics(
        &self,
        name: &str,
        axis: Option<usize>,
    ) -> Result<[ChannelStatistics; 2], Error> {
        let mut statistics = [ChannelStatistics::default(), ChannelStatistics::default()];
        let graphs = [&self.graph, &self.quantized_graph];
        let caches = [&self.caches[0], &self.caches[1]];
        ActivationCache::visit_both(caches, graphs, &[name], self.threads, |values| {
            let pairs = values.iter().flatten().zip(&mut statistics);
            pairs.into_iter().try_for_each(|(batch, statistics)| {
                let last = batch.shape().len().saturating_sub(1);
                statistics.add(batch, axis.unwrap_or(last))
            })
        })?;
        Ok(statistics)
    }

    /// What is changed from now on belongs to this layer or normalization.
    pub(super) fn start_step(&mut self, node: &Node) {
        self.steps.push(Step {
            name: node.outputs.first().cloned().unwrap_or_default(),
            op: node.op_type.clone(),
            places: Vec::new(),
        });
    }

    /// Notes that a constant is no longer as it was.
    pub(super) fn note_change(&mut self, place: usize) {
        if let Some(step) = self.steps.last_mut() {
            step.places.push(place);
        }
    }

    /// New values of a kept constant, in the model and on this walk.
    pub(super) fn set(
        &mut self,
        place: usize,
        values: Vec<f32>,
        on_walk: Vec<f32>,
    ) -> Result<(), Error> {
        let outcome: &mut TensorOutcome<'_> = &mut self.quantized.tensors[place];
        replace(&mut self.quantized_graph, outcome.tensor.name, on_walk)?;
        outcome.corrected = Some(values);
        self.report.corrected += 1;
        self.note_change(place);
        Ok(())
    }
}

/// What a layer reads as its weights.
fn weights_name(node: &Node) -> Option<&String> {
    let is_layer = LAYERS.contains(&&*node.op_type);
    node.inputs.get(1).filter(|_| is_layer)
}

/// The nodes of a graph that read each value as the weights of a layer.
pub(super) fn layers(graph: &Graph) -> HashMap<String, Vec<usize>> {
    let mut layers: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        if let Some(name) = weights_name(node) {
            layers.entry(name.clone()).or_default().push(at);
        }
    }
    layers
}

/// How many nodes read each value.
pub(crate) fn uses(graph: &Graph) -> HashMap<String, usize> {
    let mut uses = HashMap::new();
    for name in graph.nodes.iter().flat_map(Node::reads) {
        *uses.entry(name.to_owned()).or_insert(0) += 1;
    }
    uses
}
