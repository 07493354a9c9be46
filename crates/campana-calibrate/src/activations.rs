//! Ranges of activations: which values of a network are rounded to 8 bits, and
//! how.
//!
//! Rounded are the inputs of layers, of sums and of pools, except what a layer
//! hands to the normalization, the clamping activation or (for
//! [`Target::W4a8`]) the residual sum right behind it: engines compute these
//! on the layer's sums. What only moves values (pooled maxima, slices, views)
//! keeps the codes of its input. A network is run twice on the samples: for
//! the least and greatest value of each tensor, then for a histogram between
//! them, so that memory does not grow with the samples.

mod range;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use campana_ir::graph::{Graph, Node, Value};
use campana_quantize::graph::unsupported;
use campana_quantize::{ActivationScale, Error, ErrorKind, Progress, RangeMethod, Target};
use campana_runtime::{Input, MOVES_CODES, Plan, PlanOptions, Session};
use campana_tensor::{Tensor, TensorData};

use crate::activations::range::Histogram;
use crate::samples::{Samples, batches};

/// Images that run at once: few, since all values to be rounded are kept meanwhile.
const BATCH: usize = 4;

/// The rounding of all activations of a network that runs as the quantized one
/// does, from what the samples show.
///
/// # Errors
///
/// Of kind `Unsupported` where the network has not one image input, cannot be
/// run, or computes in other than float32; of kind `Interrupted` where
/// `progress` says so.
pub fn calibrate(
    graph: &Graph,
    samples: &Samples,
    method: RangeMethod,
    target: Target,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<ActivationScale>, Error> {
    let names = points(graph, target);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let batches = batches(&graph.inputs, samples)?;
    let observer = Observer::new(graph, &names, threads)?;
    let mut bounds = vec![[f32::INFINITY, f32::NEG_INFINITY]; names.len()];
    observer.run(&batches, progress, |i, values| {
        for &value in values {
            bounds[i] = [bounds[i][0].min(value), bounds[i][1].max(value)];
        }
    })?;
    let mut histograms: Vec<Histogram> = bounds.into_iter().map(Histogram::new).collect();
    if method != RangeMethod::MinMax {
        observer.run(&batches, progress, |i, values| histograms[i].add(values))?;
    }
    let scales = names.into_iter().zip(histograms).map(|(name, histogram)| {
        let Range { start, end } = histogram.range(method);
        let scale = (end - start) / 255.0;
        // A value that is always zero has no scale of its own.
        let scale = if scale.is_normal() { scale } else { 1.0 };
        ActivationScale {
            name,
            scale,
            zero_point: (-start / scale).round().clamp(0.0, 255.0) as u8,
        }
    });
    Ok(scales.collect())
}

/// A network that gives the values to be rounded.
struct Observer<'g> {
    graph: &'g Graph,
    session: Session,
    /// For each name whether it is the network's input.
    names: Vec<(String, bool)>,
}

impl<'g> Observer<'g> {
    fn new(graph: &'g Graph, names: &[String], threads: usize) -> Result<Self, Error> {
        let is_input = |name: &String| graph.inputs.iter().any(|input| input.name == *name);
        let mut observed = graph.clone();
        observed.outputs = names
            .iter()
            .filter(|name| !is_input(name))
            .map(|name| Value {
                name: name.clone(),
                element_type: None,
                shape: None,
            })
            .collect();
        let plan = Plan::new(&observed, PlanOptions::default())
            .map_err(|error| unsupported("cannot run the network").with_source(error))?;
        Ok(Self {
            graph,
            session: Session::new(plan, threads),
            names: names
                .iter()
                .map(|name| (name.clone(), is_input(name)))
                .collect(),
        })
    }

    /// Shows each value on all samples.
    fn run(
        &self,
        batches: &[Tensor],
        progress: &dyn Progress,
        mut show: impl FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let input = &self.graph.inputs[0].name;
        for batch in batches.iter().flat_map(|batch| self.small(batch)) {
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let outputs = self
                .session
                .run(&[(input, Input::Tensor(&batch))])
                .map_err(|error| unsupported("cannot run the network").with_source(error))?;
            let mut outputs = outputs.iter();
            for (i, (name, is_input)) in self.names.iter().enumerate() {
                let tensor = if *is_input {
                    Some(&batch)
                } else {
                    outputs.next()
                };
                match tensor.map(Tensor::data) {
                    Some(TensorData::F32(values)) => show(i, values),
                    _ => return Err(unsupported(format!("'{name}' is no float32 tensor"))),
                }
            }
        }
        Ok(())
    }

    /// A batch in parts, where the network takes any number of images.
    fn small(&self, batch: &Tensor) -> Vec<Tensor> {
        use campana_ir::graph::Dim;
        let declared = self.graph.inputs[0]
            .shape
            .as_ref()
            .and_then(|shape| shape.first());
        let TensorData::F32(values) = batch.data() else {
            return vec![batch.clone()];
        };
        let images = batch.shape()[0];
        if matches!(declared, Some(Dim::Fixed(_))) || images <= BATCH {
            return vec![batch.clone()];
        }
        let len = values.len() / images;
        let parts = values.chunks(BATCH * len).filter_map(|part| {
            let mut shape = batch.shape().to_vec();
            shape[0] = part.len() / len;
            Tensor::new(shape, TensorData::F32(part.to_vec()))
        });
        parts.collect()
    }
}

/// Operators that compute on codes.
const ON_CODES: [&str; 7] = [
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
];

/// The values to be rounded, in the graph's order.
fn points(graph: &Graph, target: Target) -> Vec<String> {
    let mut readers: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for (index, name) in node.inputs.iter().enumerate() {
            readers.entry(name).or_default().push((i, index));
        }
        for name in &node.outputs {
            makers.insert(name, i);
        }
    }
    let is_output = |name: &str| graph.outputs.iter().any(|output| output.name == name);
    let is_constant =
        |name: &str| graph.constants.contains_key(name) || graph.quantized.contains_key(name);
    let is_layer = |node: &Node| {
        matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul")
            && node.inputs.get(1).is_some_and(|name| is_constant(name))
    };
    // The layer whose sums a value is, as far as nothing else reads them.
    let layer_of = |name: &str| -> Option<usize> {
        let mut at = *makers.get(name)?;
        while graph.nodes[at].op_type == "BatchNormalization" {
            let input = graph.nodes[at].inputs.first()?;
            if readers[input.as_str()].len() != 1 {
                return None;
            }
            at = *makers.get(input.as_str())?;
        }
        is_layer(&graph.nodes[at]).then_some(at)
    };
    let is_fused = |name: &str| -> bool {
        let Some([(reader, index)]) = readers.get(name).map(Vec::as_slice) else {
            return false;
        };
        let reader = &graph.nodes[*reader];
        let from_sum = makers
            .get(name)
            .is_some_and(|&at| graph.nodes[at].op_type == "Add");
        match reader.op_type.as_str() {
            "BatchNormalization" => *index == 0 && layer_of(name).is_some(),
            "Relu" | "Clip" => layer_of(name).is_some() || from_sum,
            "Add" if target == Target::W4a8 => {
                let other = reader.inputs.get(1 - index).map_or("", String::as_str);
                let only_reader = readers.get(other).is_some_and(|readers| readers.len() == 1);
                // Of two layers the later takes the sum.
                let rival = layer_of(other)
                    .filter(|_| only_reader && !is_depthwise(graph, layer_of(other)));
                !is_constant(other)
                    && !is_depthwise(graph, layer_of(name))
                    && layer_of(name).is_some_and(|own| rival.is_none_or(|rival| own > rival))
            }
            _ => false,
        }
    };
    let mut found = Vec::new();
    let mut coded: HashSet<&str> = HashSet::new();
    let inputs = graph.inputs.iter().map(|value| (value.name.as_str(), None));
    let made = graph
        .nodes
        .iter()
        .filter_map(|node| Some((node.outputs.first()?.as_str(), Some(node))));
    for (name, maker) in inputs.chain(made) {
        let keeps = maker.is_some_and(|node| {
            MOVES_CODES.contains(&node.op_type.as_str())
                && node
                    .inputs
                    .first()
                    .is_some_and(|input| coded.contains(input.as_str()))
        });
        if keeps {
            coded.insert(name);
            continue;
        }
        let read_as_codes = readers.get(name).is_some_and(|readers| {
            readers.iter().any(|&(reader, index)| {
                let op_type = graph.nodes[reader].op_type.as_str();
                let data = index == 0 || op_type == "Add";
                data && (ON_CODES.contains(&op_type) || MOVES_CODES.contains(&op_type))
            })
        });
        if read_as_codes && !is_output(name) && !is_constant(name) && !is_fused(name) {
            coded.insert(name);
            found.push(name.to_owned());
        }
    }
    found
}

/// Whether a layer's filters see one channel each.
fn is_depthwise(graph: &Graph, layer: Option<usize>) -> bool {
    use campana_ir::graph::Attribute;
    layer.is_some_and(|layer| match graph.nodes[layer].attributes.get("group") {
        Some(Attribute::Int(groups)) => *groups > 1,
        _ => false,
    })
}
