//! Ranges of activations, from which the parameters of quantized activations
//! follow.
//!
//! [`quantized_activations`] says which values these are. A network is run
//! twice on the samples: for the least and greatest value of each tensor, then
//! for a histogram between them, so that memory does not grow with the samples. Which
//! range covers it best, and whether it had better stay float, is measured at the
//! outputs on a few of the samples.

mod measure;
mod range;
mod sensitive;
mod speed;
mod ways;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use campana_ir::graph::Graph;
use campana_ir::network::{
    Network, ResidualSums, concatenated_activations, quantized_activations, quantized_for_speed,
};
use campana_quantize::graph::unsupported;
use campana_quantize::{
    ActivationScale, Error, ErrorKind, Progress, RangeMethod, Target, check_cancelled,
};
use campana_runtime::Session;
use campana_tensor::{Tensor, TensorData};

pub use self::sensitive::FloatActivations;
use crate::activations::measure::Measure;
use crate::activations::range::Histogram;
use crate::activations::sensitive::{sensitive, sqnr_db};
use crate::activations::speed::affordable;
use crate::activations::ways::{METHODS, of_least_error};
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
    /// Ratio of the energies of the outputs and of what this does to them on a few
    /// samples, in dB; infinite where that is nothing, `None` where it was not measured.
    pub output_sqnr_db: Option<f64>,
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
    let for_speed = quantized_for_speed(&analysed(graph)?, residual_sums(target));
    let for_speed: Vec<bool> = names.iter().map(|name| for_speed.contains(name)).collect();
    let batches = observed(graph, &names, samples)?;
    let observer = Observer::new(graph, &names, threads)?;
    let histograms = observer.histograms(&batches, method, progress)?;
    let methods = match method {
        RangeMethod::Auto => &METHODS[..],
        method => &[method],
    };
    let mut ways = Vec::with_capacity(names.len());
    let mut ways_of_methods = Vec::with_capacity(names.len());
    for (name, histogram) in names.iter().zip(&histograms) {
        let (own, of_methods) = ways_to_round(name, histogram, methods);
        ways.push(own);
        ways_of_methods.push(of_methods);
    }
    // The first way of each is that of the first method.
    let mut chosen = vec![0; names.len()];
    let mut rounded = vec![true; names.len()];
    let mut floats = None;
    let mut output_sqnr_db = None;
    let scales_of = |chosen: &[usize]| -> Vec<ActivationScale> {
        let pairs = ways.iter().zip(chosen);
        pairs.map(|(ways, &way)| ways[way].clone()).collect()
    };
    if original.is_some() || method == RangeMethod::Auto {
        let measured = || {
            let measure = Measure::new(graph, &ways, &batches, threads, progress)?;
            let first = scales_of(&chosen);
            let floats = match original {
                Some(original) => sensitive(
                    [original, graph],
                    (&measure, &for_speed),
                    &first,
                    target,
                    (&batches, threads),
                )?,
                None => None,
            };
            let is_float = |scale: &ActivationScale| {
                let mut floats = floats.iter().flat_map(|floats| &floats.names);
                floats.any(|name| *name == scale.name)
            };
            let is_float: Vec<bool> = first.iter().map(is_float).collect();
            let rounded = match original {
                Some(_) => affordable(&measure, &for_speed, &is_float)?,
                None => vec![true; names.len()],
            };
            let chosen = of_least_error(&measure, &ways_of_methods, &rounded)?;
            let error = measure.error(|at| rounded[at].then_some(chosen[at]))?;
            let floats = match floats {
                Some(floats) => {
                    let way_of = |at| (rounded[at] || is_float[at]).then_some(chosen[at]);
                    Some(floats.with_errors([measure.error(way_of)?, error]))
                }
                None => None,
            };
            Ok((chosen, rounded, floats, Some(sqnr_db(error))))
        };
        match measured() {
            Ok(found) => (chosen, rounded, floats, output_sqnr_db) = found,
            // What cannot be measured is rounded.
            Err(error) if Error::kind(&error) == ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
    }
    let mut scales = scales_of(&chosen);
    let mut is_rounded = rounded.into_iter();
    scales.retain(|_| is_rounded.next().unwrap_or(true));
    add_concatenated(&mut scales, graph, target)?;
    Ok(ActivationRanges {
        scales,
        floats,
        output_sqnr_db,
    })
}

/// How an activation is rounded by each of some methods: what differs, and which of
/// these each method is; the last for methods beyond those.
fn ways_to_round(
    name: &str,
    histogram: &Histogram,
    methods: &[RangeMethod],
) -> (Vec<ActivationScale>, [usize; METHODS.len()]) {
    let mut ways: Vec<ActivationScale> = Vec::new();
    let mut of_methods = [0; METHODS.len()];
    for (place, &method) in methods.iter().enumerate() {
        let scale = rounded(name, histogram.range(method));
        let known = ways.iter().position(|way| *way == scale);
        of_methods[place] = known.unwrap_or(ways.len());
        if known.is_none() {
            ways.push(scale);
        }
    }
    (ways, of_methods)
}

/// The parameters with which 256 codes cover a range.
fn rounded(name: &str, Range { start, end }: Range<f32>) -> ActivationScale {
    let scale = (end - start) / 255.0;
    // A value that is always zero has no scale of its own.
    let scale = if scale.is_normal() { scale } else { 1.0 };
    ActivationScale {
        name: name.to_owned(),
        scale,
        zero_point: (-start / scale).round().clamp(0.0, 255.0) as u8,
    }
}

/// What a concatenation joins gets the parameters of its result, in forms that round
/// what layers hand to it.
fn add_concatenated(
    scales: &mut Vec<ActivationScale>,
    graph: &Graph,
    target: Target,
) -> Result<(), Error> {
    if !target.rounds_moved() {
        return Ok(());
    }
    let network = analysed(graph)?;
    let own: HashMap<&str, usize> = (scales.iter().enumerate())
        .map(|(at, scale)| (scale.name.as_str(), at))
        .collect();
    let joined = concatenated_activations(&network, |name| own.contains_key(name)).into_iter();
    let joined: Vec<ActivationScale> = joined
        .map(|[name, result]| ActivationScale {
            name: name.to_owned(),
            ..scales[own[result]].clone()
        })
        .collect();
    scales.extend(joined);
    Ok(())
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
    let mut scales: Vec<ActivationScale> = names.map(scale).collect();
    add_concatenated(&mut scales, graph, target)?;
    Ok(scales)
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
    let network = analysed(graph)?;
    Ok(quantized_activations(&network, residual_sums(target)))
}

fn residual_sums(target: Target) -> ResidualSums {
    match target {
        Target::W4a8 => ResidualSums::Fused,
        Target::TfLite | Target::TfLiteMicro => ResidualSums::SeparateForIntegerLayers,
        _ => ResidualSums::Separate,
    }
}

fn analysed(graph: &Graph) -> Result<Network<'_>, Error> {
    Network::new(graph).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot analyse the network").with_source(error)
    })
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

    /// What values each activation has.
    fn histograms(
        &self,
        batches: &Batches,
        method: RangeMethod,
        progress: &dyn Progress,
    ) -> Result<Vec<Histogram>, Error> {
        let mut bounds = vec![[f32::INFINITY, f32::NEG_INFINITY]; self.names.len()];
        self.run(batches, progress, |i, values| {
            for &value in values {
                bounds[i] = [bounds[i][0].min(value), bounds[i][1].max(value)];
            }
        })?;
        let mut histograms: Vec<Histogram> = bounds.into_iter().map(Histogram::new).collect();
        if method != RangeMethod::MinMax {
            self.run(batches, progress, |i, values| histograms[i].add(values))?;
        }
        Ok(histograms)
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
