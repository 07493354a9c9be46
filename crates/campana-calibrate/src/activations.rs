//! Ranges of activations, from which the parameters of quantized activations
//! follow.
//!
//! [`quantized_activations`] says which values these are. A network is run
//! twice on the samples: for the least and greatest value of each tensor, then
//! for a histogram between them, so that memory does not grow with the samples.

mod range;
mod sensitive;

use std::collections::HashSet;
use std::ops::Range;

use campana_ir::graph::Graph;
use campana_ir::network::{Network, ResidualSums, quantized_activations};
use campana_quantize::graph::unsupported;
use campana_quantize::{
    ActivationScale, Error, ErrorKind, Progress, RangeMethod, Target, check_cancelled,
};
use campana_runtime::Session;
use campana_tensor::{Tensor, TensorData};

pub use self::sensitive::FloatActivations;
use crate::activations::range::Histogram;
use crate::activations::sensitive::sensitive;
use crate::running::{giving, run, session};
use crate::samples::{Batches, Samples};
use crate::scale::batches_for;
use crate::value_sizes::{activation_bytes, fewer_samples};

/// Samples that run at once: few, since all activations to be quantized are
/// kept meanwhile.
const BATCH: usize = 4;

/// Bytes that the values of a batch may take that are shown together.
const MAX_OBSERVED_BYTES: usize = 256 << 20;

/// How a network's activations are rounded.
#[derive(Clone, Debug, Default)]
pub struct ActivationRanges {
    /// The parameters of each activation that is.
    pub scales: Vec<ActivationScale>,
    /// Those that stay floats instead, where any do.
    pub floats: Option<FloatActivations>,
}

/// The parameters of all quantized activations of a network that runs as the
/// quantized one does, from what the samples show. Beside the network with the
/// weights that it had, those whose rounding would make up most of the outputs'
/// error stay floats; without it (`original` is `None`) none do.
///
/// # Errors
///
/// Of kind `Unsupported` where the samples do not fit the network's inputs or
/// it cannot be run; of kind `InvalidModel` where a node is no valid use of its
/// operator; of kind `Interrupted` where `progress` says so.
pub fn calibrate(
    graph: &Graph,
    original: Option<&Graph>,
    samples: &Samples,
    method: RangeMethod,
    target: Target,
    threads: usize,
    progress: &dyn Progress,
) -> Result<ActivationRanges, Error> {
    let names = names(graph, target)?;
    if names.is_empty() {
        return Ok(ActivationRanges::default());
    }
    let batches = observed(graph, &names, samples)?;
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
    let mut scales: Vec<ActivationScale> = scales.collect();
    let floats = match original {
        Some(original) => {
            let graphs = [original, graph];
            match sensitive(graphs, &scales, target, &batches, threads, progress) {
                // What cannot be measured is rounded.
                Err(error) if error.kind() == ErrorKind::Unsupported => None,
                found => found?,
            }
        }
        None => None,
    };
    if let Some(floats) = &floats {
        scales.retain(|scale| !floats.names.contains(&scale.name));
    }
    Ok(ActivationRanges { scales, floats })
}

/// As [`calibrate`], with ranges that nothing was asked for: what parameters take
/// in a file does not depend on their values.
///
/// # Errors
///
/// Of kind `InvalidModel` where a node is no valid use of its operator.
pub fn uncalibrated(graph: &Graph, target: Target) -> Result<Vec<ActivationScale>, Error> {
    let names = names(graph, target)?.into_iter().enumerate();
    // Of different values, since equal constants may be stored once.
    let scale = |(i, name)| ActivationScale {
        name,
        scale: 1.0 + i as f32,
        zero_point: (i % 256) as u8,
    };
    Ok(names.map(scale).collect())
}

/// Samples in batches whose observed values fit into memory.
fn observed(graph: &Graph, names: &[String], samples: &Samples) -> Result<Batches, Error> {
    let batches = batches_for(graph, samples, Some(BATCH))?;
    let sizes = activation_bytes(graph, &batches).into_iter();
    let names: HashSet<&String> = names.iter().collect();
    let kept = sizes.filter(|(name, _)| names.contains(name));
    let bytes = kept.fold(0, |sum: usize, (_, bytes)| sum.saturating_add(bytes));
    match fewer_samples(&batches, bytes, MAX_OBSERVED_BYTES) {
        Some(fewer) => batches_for(graph, samples, Some(fewer)),
        None => Ok(batches),
    }
}

/// The activations that are quantized for a target.
fn names(graph: &Graph, target: Target) -> Result<Vec<String>, Error> {
    let network = Network::new(graph).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot analyse the network").with_source(error)
    })?;
    let sums = match target {
        Target::W4a8 => ResidualSums::Fused,
        Target::TfLite | Target::TfLiteMicro => ResidualSums::SeparateForIntegerLayers,
        _ => ResidualSums::Separate,
    };
    Ok(quantized_activations(&network, sums))
}

/// A network that gives the activations to be quantized.
struct Observer {
    session: Session,
    /// For each name whether it is an input of the network.
    names: Vec<(String, bool)>,
}

impl Observer {
    fn new(graph: &Graph, names: &[String], threads: usize) -> Result<Self, Error> {
        let is_input = |name: &String| graph.inputs.iter().any(|input| input.name == *name);
        let made = names.iter().filter(|name| !is_input(name));
        let observed = giving(graph, made.map(String::as_str));
        Ok(Self {
            session: session(&observed, threads)?,
            names: names
                .iter()
                .map(|name| (name.clone(), is_input(name)))
                .collect(),
        })
    }

    /// Shows each activation on all samples.
    fn run(
        &self,
        batches: &Batches,
        progress: &dyn Progress,
        mut show: impl FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        for index in 0..batches.len() {
            check_cancelled(progress)?;
            let batch: Vec<(&str, &Tensor)> = batches.batch(index).collect();
            let outputs = run(&self.session, batch.iter().copied())?;
            let mut outputs = outputs.iter();
            for (i, (name, is_input)) in self.names.iter().enumerate() {
                let given = || batch.iter().find(|(input, _)| input == name);
                let tensor = match is_input {
                    true => given().map(|(_, tensor)| *tensor),
                    false => outputs.next(),
                };
                match tensor.map(Tensor::data) {
                    Some(TensorData::F32(values)) => show(i, values),
                    _ => return Err(unsupported(format!("'{name}' is no float32 tensor"))),
                }
            }
        }
        Ok(())
    }
}
